//! A generator in one network namespace and a sink in another, as threads of this process.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use super::generate::run_id;
use super::{
    Counts, Flow, Frames, Inlet, Io, LoadError, Mix, NextHop, Outlet, PORT, Plan, Quantiles, Sent,
    Tally, count_until, next_hop, send,
};
use crate::lab::Netns;

/// How long nothing may come after the generator has ended.
const QUIET: Duration = Duration::from_millis(60);

/// What is sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// Sizes.
    pub mix: Mix,
    /// UDP source ports.
    pub flows: u32,
    /// How much, how fast.
    pub plan: Plan,
    /// How frames leave and arrive.
    pub io: Io,
}

/// What was sent, and what of it arrived.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    /// By the generator.
    pub sent: Sent,
    /// At the sink.
    pub counts: Counts,
    /// From making to counting.
    pub latency: Option<Quantiles>,
    /// Frames that the sink had no room for: they are among the lost, and not the fault of what is tested.
    pub overrun: u64,
}

impl Outcome {
    /// Share of the packets that were lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.counts.lost as f64 / self.sent.packets.max(1) as f64
    }
}

/// Two namespaces and the way from the one to the other.
#[derive(Clone, Debug)]
pub struct Between {
    from: Netns,
    to: Netns,
    target: IpAddr,
    hop: NextHop,
}

impl Between {
    /// From `from` to `target`, which is an address of `eth0` in `to`.
    ///
    /// # Errors
    /// There is no way.
    pub fn new(from: &Netns, to: &Netns, target: IpAddr) -> Result<Between, LoadError> {
        let hop = from.run(|| next_hop(target, None))??;
        Ok(Between {
            from: from.clone(),
            to: to.clone(),
            target,
            hop,
        })
    }

    /// Sends and counts; blocks until no more comes.
    ///
    /// # Errors
    /// Either end does not work.
    pub fn run(&self, load: &Load) -> Result<Outcome, LoadError> {
        let flow = Flow {
            macs: self.hop.macs,
            from: self.hop.from,
            to: self.target,
            port: PORT,
            flows: load.flows,
            addresses: 1,
        };
        let frames = Frames::new(flow, &load.mix, run_id())?;
        let stop = AtomicBool::new(false);
        let (ready, is_ready) = mpsc::channel();
        std::thread::scope(|scope| {
            let (stop, run) = (&stop, frames.run());
            let sink = scope.spawn(move || {
                self.to.run(move || {
                    let mut inlet = Inlet::open("eth0", load.io, PORT)?;
                    let mut tally = Tally::new(Some(run));
                    // Who waits has gone only if it panicked.
                    let _ = ready.send(());
                    count_until(&mut inlet, &mut tally, stop, QUIET)?;
                    Ok::<_, LoadError>((tally, inlet.overrun()))
                })?
            });
            // Without a sink the channel is closed, and its error is told below.
            let sent = is_ready.recv().ok().map(|()| self.generate(load, &frames));
            stop.store(true, Ordering::Release);
            let counted = sink
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (mut tally, overrun) = counted?;
            let sent = sent.unwrap_or_else(|| unreachable!("the sink was ready"))?;
            tally.sent(sent.packets);
            Ok(Outcome {
                sent,
                counts: tally.counts(),
                latency: tally.latency(),
                overrun,
            })
        })
    }

    fn generate(&self, load: &Load, frames: &Frames) -> Result<Sent, LoadError> {
        let interface = &self.hop.interface;
        let never = AtomicBool::new(false);
        self.from.run(|| {
            let mut outlet = Outlet::open(interface, load.io, frames.mix().largest())?;
            send(&mut outlet, frames, &load.plan, &never, &AtomicU64::new(0))
        })?
    }
}
