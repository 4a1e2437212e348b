//! From a local port.

use ringway_packet::parse;
use ringway_ports::{Frame, Pool, Port};
use ringway_switch::{DropReason, Verdict};
use ringway_tables::PortId;

use super::{Outcome, Visit};
use crate::activity::Activity;
use crate::buffers::Buffers;
use crate::devices::{Devices, LocalPort};
use crate::observe::{Entry, Watch};
use crate::packet::{frame_of, packet_of};

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits the queue of a port.
    pub(super) fn tap(&mut self, port: PortId, budget: usize) -> Outcome {
        let Buffers { pool, batch } = &mut self.queues.buffers;
        let first = batch.frames.len();
        let Some(queue) = self.queues.ports.get_mut(port) else {
            return Outcome::Empty;
        };
        if let Some(shaper) = &mut queue.shaper {
            match shaper.may_read(self.now) {
                Ok(bytes) => batch.narrow(bytes),
                Err(until) => return Outcome::Throttled { until },
            }
        }
        let before = queue.port.counters();
        let received = queue.port.receive(pool, batch, budget);
        let after = queue.port.counters();
        let malformed = after.malformed - before.malformed;
        for _ in 0..malformed {
            // Not a frame at all: the vnet header itself makes no sense.
            let counters = self.pipeline.counters();
            counters.received.add(1);
            let verdict = Verdict::Drop(DropReason::BadOffload);
            counters.account(&verdict, 1, Some(counters.port(port)));
        }
        let got = match received {
            Ok(got) => got,
            Err(error) => {
                tracing::debug!(port = port.0, %error, "read of a TAP failed");
                return Outcome::Gone;
            }
        };
        let activity = activity(pool, &batch.frames[first..]);
        if let Some(shaper) = &mut queue.shaper {
            let wire = batch.frames[first..].iter().map(|frame| {
                let head = pool.slice(frame.buf, frame.start, frame.linear);
                frame.wire_len(head.unwrap_or(&[]))
            });
            shaper.charge(self.now, wire.sum());
        }
        for i in first..self.queues.buffers.batch.frames.len() {
            self.frame(i);
        }
        let stopped_early = self.queues.buffers.batch.is_full()
            || malformed > 0
            || after.no_buffer != before.no_buffer;
        match got {
            0 if !stopped_early => Outcome::Empty,
            _ => Outcome::Served {
                activity,
                more: got == budget || stopped_early,
            },
        }
    }

    /// Frame `i` of the batch.
    #[inline]
    fn frame(&mut self, i: usize) {
        let Buffers { pool, batch } = &mut self.queues.buffers;
        let mut frame = batch.frames[i];
        let from = PortId(frame.port);
        let mut packet = packet_of(pool, &frame);
        let verdict =
            self.pipeline
                .from_port(self.snapshot, from, &mut packet, self.now, self.watch);
        frame = frame_of(&packet, &frame);
        batch.frames[i] = frame;
        self.carry_out(Entry::Port(from), &frame, verdict);
    }
}

/// What these frames are.
#[inline]
fn activity(pool: &Pool, frames: &[Frame]) -> Activity {
    let packets = frames.iter().map(|frame| {
        let head = pool.slice(frame.buf, frame.start, frame.linear);
        let parsed = parse::parse(head.unwrap_or(&[]), frame.len as usize).ok();
        (frame.len, parsed)
    });
    Activity::of(frames.len(), packets)
}
