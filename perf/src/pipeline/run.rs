//! The loop: replay, pipeline, null.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_agent::worker::{frame_of, packet_of};
use ringway_ports::frame::Batch;
use ringway_ports::memory::{Null, Replay};
use ringway_ports::{HEADROOM, Pool, Port};
use ringway_switch::trace::Off;
use ringway_switch::{Counters, Pipeline, Ports, Verdict, encapsulate};
use ringway_tables::{PortId, Publisher};

use super::plan::Plan;
use super::{Args, Scenario};

/// Batches between two looks at the clock.
const STRETCH: u32 = 256;
/// Buffers of the pool: a batch and what the caches like.
const BUFFERS: usize = 256;

/// What was measured.
pub(super) struct Outcome {
    pub(super) packets: u64,
    pub(super) drops: u64,
    pub(super) drops_by_reason: Vec<(&'static str, u64)>,
    pub(super) seconds: f64,
    pub(super) allocations: u64,
    pub(super) flows: usize,
}

struct Lane {
    replay: Replay,
    null: Null,
    pool: Pool,
    batch: Batch,
    pipeline: Pipeline,
    size: usize,
    decap: bool,
}

pub(super) fn run(plan: Plan, args: &Args) -> anyhow::Result<Outcome> {
    let counters = Arc::new(Counters::default());
    let flows = plan.frames.len();
    let longest = plan.frames.iter().map(|f| f.bytes.len()).max().unwrap_or(0);
    let publisher = Publisher::new(plan.snapshot);
    let mut reader = publisher.reader();
    let mut lane = Lane {
        replay: Replay::new(plan.frames),
        null: Null::default(),
        pool: Pool::heap(BUFFERS, HEADROOM + longest + 64),
        batch: Batch::new(),
        pipeline: Pipeline::new(
            counters.clone(),
            Ports {
                vxlan: plan.vxlan_port,
                udp: plan.udp_port,
            },
        ),
        size: usize::from(args.batch),
        decap: args.scenario == Scenario::Decap,
    };
    let mut go = |seconds: f64| -> anyhow::Result<f64> {
        let (started, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
        loop {
            for _ in 0..STRETCH {
                lane.batch(reader.load())?;
            }
            let elapsed = started.elapsed();
            if elapsed >= limit {
                return Ok(elapsed.as_secs_f64());
            }
        }
    };
    go(args.seconds / 10.0)?;
    let (packets, drops) = (
        counters.received.packets.get(),
        counters.dropped.packets.get(),
    );
    let region = stats_alloc::Region::new(crate::ALLOCATOR);
    let seconds = go(args.seconds)?;
    let allocations = region.change().allocations as u64;
    anyhow::ensure!(
        counters.balance() == (0, 0),
        "frames without a verdict: {:?}",
        counters.balance()
    );
    Ok(Outcome {
        packets: counters.received.packets.get() - packets,
        drops: counters.dropped.packets.get() - drops,
        drops_by_reason: ringway_switch::DropReason::ALL
            .iter()
            .map(|r| (r.name(), counters.drops[r.index()].get()))
            .filter(|(_, n)| *n > 0)
            .collect(),
        seconds,
        allocations,
        flows,
    })
}

impl Lane {
    #[inline]
    fn batch(&mut self, snapshot: &ringway_tables::Snapshot) -> anyhow::Result<()> {
        self.replay
            .receive(&mut self.pool, &mut self.batch, self.size)?;
        for i in 0..self.batch.frames.len() {
            let mut frame = self.batch.frames[i];
            let mut packet = packet_of(&mut self.pool, &frame);
            let verdict = if self.decap {
                self.pipeline
                    .from_underlay(snapshot, &mut packet, 0, &mut Off)
            } else {
                self.pipeline
                    .from_port(snapshot, PortId(frame.port), &mut packet, 0, &mut Off)
            };
            match verdict {
                Verdict::Deliver(_) => {}
                Verdict::Tunnel(tunnel) if encapsulate(snapshot, &tunnel, &mut packet).is_ok() => {}
                _ => {
                    self.pipeline.outbox().clear();
                    continue;
                }
            }
            frame = frame_of(&packet, &frame);
            self.null.transmit(&mut self.pool, &self.batch, &frame)?;
        }
        self.null.flush(&self.pool)?;
        self.batch.recycle(&mut self.pool);
        Ok(())
    }
}
