//! One worker's path from memory to memory, and what a number of them share.

use std::sync::Arc;

use ringway_ports::frame::Batch;
use ringway_ports::memory::{Null, Replay, ReplayFrame};
use ringway_ports::{BufId, Frame, HEADROOM, Pool, Port};
use ringway_switch::trace::Off;
use ringway_switch::{
    Arrivals, Counters, DropReason, Options, OuterFrame, Pipeline, UdpPorts, Verdict, encapsulate,
};
use ringway_tables::{PortId, Publisher, Reader, Snapshot};
use ringway_worker::{frame_of, frame_of_arrival, packet_of};

use super::Scenario;
use super::capture::Traffic;
use super::plan::{Plan, Tables};

/// Buffers of a lane's pool: a batch and what the caches like.
const BUFFERS: usize = 256;
/// Outer source port.
const SRC_PORT: u16 = 49_152;

/// How many entries the tables have at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fill {
    /// Routes.
    pub routes: usize,
    /// Peers.
    pub peers: usize,
    /// Local pods.
    pub pods: usize,
}

impl Fill {
    /// What the traffic needs.
    pub const TINY: Fill = Fill {
        routes: 0,
        peers: 0,
        pods: 0,
    };
    /// A large cluster as one of its nodes sees it.
    pub const REALISTIC: Fill = Fill {
        routes: 100_000,
        peers: 1_000,
        pods: 110,
    };
}

/// Frames and published tables, for any number of lanes.
pub struct Work {
    frames: Vec<ReplayFrame>,
    publisher: Publisher,
    ports: UdpPorts,
    scenario: Scenario,
    longest: usize,
}

impl Work {
    pub(super) fn new(plan: Plan, scenario: Scenario) -> Work {
        Work {
            longest: plan.frames.iter().map(|f| f.bytes.len()).max().unwrap_or(0),
            frames: plan.frames,
            publisher: Publisher::new(plan.snapshot),
            ports: UdpPorts {
                vxlan: plan.vxlan_port,
                udp: plan.udp_port,
            },
            scenario,
        }
    }

    /// Made frames, and tables that forward them.
    ///
    /// # Errors
    /// Frames or tables cannot be made.
    pub fn of(traffic: &Traffic, fill: Fill) -> anyhow::Result<Work> {
        let tables = Tables {
            scenario: traffic.scenario,
            routes: fill.routes,
            peers: fill.peers,
            pods: fill.pods,
            underlay: traffic.underlay,
        };
        let plan = Plan::of(&tables, traffic.frames()?)?;
        Ok(Work::new(plan, traffic.scenario))
    }

    /// Frames that are replayed.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// A worker with a pool, a pipeline, counters and a copy of the frames of its own, which takes
    /// at most `batch` frames at a time.
    pub fn lane(&self, batch: usize) -> Lane {
        let counters = Arc::new(Counters::default());
        Lane {
            replay: Replay::new(self.frames.clone()),
            null: Null::default(),
            pool: Pool::heap(BUFFERS, HEADROOM + self.longest + 64),
            batch: Batch::new(),
            pipeline: Pipeline::new(counters.clone(), self.ports),
            counters,
            reader: self.publisher.reader(),
            size: batch,
            arrivals: self.scenario.is_decap().then(Box::default),
            options: Options {
                unfinished: false,
                udp_superframes: true,
                coalesce: self.scenario == Scenario::DecapCoalesced,
            },
        }
    }
}

/// One worker.
pub struct Lane {
    replay: Replay,
    null: Null,
    pool: Pool,
    batch: Batch,
    pipeline: Pipeline,
    counters: Arc<Counters>,
    reader: Reader,
    size: usize,
    /// Of what comes from peers.
    arrivals: Option<Box<Arrivals<BufId>>>,
    options: Options,
}

impl Lane {
    /// Brings one batch through to its end.
    ///
    /// # Errors
    /// A frame does not fit a buffer: a defect of the program.
    #[inline]
    pub fn batch(&mut self) -> anyhow::Result<()> {
        self.replay
            .receive(&mut self.pool, &mut self.batch, self.size)?;
        match self.arrivals {
            None => self.replay_ports()?,
            Some(_) => self.replay_peers()?,
        }
        self.null.flush(&self.pool)?;
        self.batch.recycle(&mut self.pool);
        Ok(())
    }

    #[inline]
    fn replay_ports(&mut self) -> anyhow::Result<()> {
        let snapshot: &Snapshot = self.reader.load();
        for i in 0..self.batch.frames.len() {
            let mut frame = self.batch.frames[i];
            let mut packet = packet_of(&mut self.pool, &frame);
            let port = PortId(frame.port);
            let verdict = self
                .pipeline
                .from_port(snapshot, port, &mut packet, 0, &mut Off);
            match verdict {
                Verdict::Deliver(_) => {}
                Verdict::Tunnel(tunnel)
                    if encapsulate(snapshot, &tunnel, &mut packet, SRC_PORT, 0).is_ok() => {}
                _ => {
                    self.pipeline.outbox().clear();
                    continue;
                }
            }
            frame = frame_of(&packet, &frame);
            self.null.transmit(&mut self.pool, &self.batch, &frame)?;
        }
        Ok(())
    }

    #[inline]
    fn replay_peers(&mut self) -> anyhow::Result<()> {
        let Lane {
            pipeline,
            pool,
            batch,
            options,
            ..
        } = self;
        let Some(arrivals) = &mut self.arrivals else {
            return Ok(());
        };
        let snapshot: &Snapshot = self.reader.load();
        let outer = |frame: &Frame| OuterFrame {
            buf: frame.buf,
            start: frame.start,
            len: frame.len,
        };
        let frames = batch.frames.iter().map(outer);
        pipeline.from_frames(snapshot, arrivals, pool, *options, frames);
        while let Some(arrival) = pipeline.next(snapshot, arrivals, pool, 0, &mut Off) {
            if let Verdict::Deliver(_) = arrival.verdict {
                let frame = frame_of_arrival(&arrival, arrivals.tail(), batch);
                self.null.transmit(pool, batch, &frame)?;
            } else {
                pipeline.outbox().clear();
            }
        }
        Ok(())
    }

    /// Packets received so far.
    pub fn packets(&self) -> u64 {
        self.counters.received.packets.get()
    }

    /// Packets that came out at the other end so far.
    pub fn forwarded(&self) -> u64 {
        self.null.packets
    }

    /// Drops so far, by reason.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        DropReason::ALL
            .iter()
            .map(|r| (r.name(), self.counters.drops[r.index()].get()))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Fails if a frame has no verdict, or two.
    ///
    /// # Errors
    /// With the difference in frames and packets.
    pub fn check_balance(&self) -> anyhow::Result<()> {
        let balance = self.counters.balance();
        anyhow::ensure!(balance == (0, 0), "frames without a verdict: {balance:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringway_tables::PeerId;

    use super::*;
    use crate::lab::Family;

    #[test]
    fn everything_made_comes_out_at_the_other_end() {
        for scenario in Scenario::ALL {
            for (family, underlay) in [
                (Family::V4, Family::V4),
                (Family::V6, Family::V6),
                (Family::V4, Family::V6),
            ] {
                for fill in [Fill::TINY, Fill::REALISTIC] {
                    let traffic = Traffic {
                        underlay,
                        ..Traffic::small(scenario, family, 1000)
                    };
                    let mut lane = Work::of(&traffic, fill).unwrap().lane(50);
                    for _ in 0..40 {
                        lane.batch().unwrap();
                    }
                    let what = format!("{scenario:?} {family} in {underlay}, {fill:?}");
                    assert_eq!(lane.drops(), [], "{what}");
                    assert_eq!((lane.packets(), lane.forwarded()), (2000, 2000), "{what}");
                    let moved = match scenario {
                        Scenario::Encap => &lane.counters.tunnelled,
                        _ => &lane.counters.delivered,
                    };
                    assert_eq!(moved.packets.get(), 2000, "{what}");
                    let added = match (scenario, underlay) {
                        (Scenario::Forward, _) => 0,
                        (_, Family::V4) => 50,
                        (_, Family::V6) => 70,
                    };
                    let inner = 2000 * if family == Family::V4 { 60 } else { 62 };
                    let out = inner
                        + if scenario == Scenario::Encap {
                            2000 * added
                        } else {
                            0
                        };
                    assert_eq!(lane.null.bytes, out, "{what}");
                    lane.check_balance().unwrap();
                }
            }
        }
    }

    #[test]
    fn realistic_tables_are_as_large_as_they_say() {
        for family in Family::BOTH {
            let traffic = Traffic::small(Scenario::Encap, family, 10);
            let work = Work::of(&traffic, Fill::REALISTIC).unwrap();
            let snapshot = work.publisher.current();
            let peers: Vec<_> = (0..2000).filter_map(|i| snapshot.peer(PeerId(i))).collect();
            assert_eq!(peers.len(), 1000, "{family}");
            let cidrs = peers.iter().flat_map(|peer| peer.cidrs.iter());
            assert_eq!(cidrs.clone().count(), 100_000, "{family}");
            let of_family =
                cidrs.filter(|cidr| cidr.to_string().contains(':') == (family == Family::V6));
            assert_eq!(of_family.count(), 100_000, "{family}");
            let pods = (1..2000).filter(|i| snapshot.port(PortId(*i)).is_some());
            assert_eq!(pods.count(), 110, "{family}");
        }
    }
}
