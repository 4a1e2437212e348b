//! From a local port.
//!
//! ```text
//!   tap    receive ─▶ lanes: whose is the backlog? ─▶ frames
//!   bulk   receive ─▶ lanes: has a flow just come over? ─▶ first what is quiet ─▶ frames
//! ```

use ringway_packet::parse;
use ringway_ports::{Batch, Frame, Pool, Port, socket};
use ringway_switch::{DropReason, Verdict};
use ringway_tables::PortId;

use super::{Outcome, Visit};
use crate::activity::Activity;
use crate::buffers::Buffers;
use crate::devices::{Devices, LocalPort};
use crate::lanes::Seen;
use crate::observe::{Entry, Watch};
use crate::packet::{frame_of, packet_of};
use crate::queue_id::QueueId;

/// Frames after which a lane has been read that was never found empty: as many as it holds.
const LANE: usize = 1024;

/// What was read of a queue: the frames of the batch from `first` on.
struct Read {
    first: usize,
    activity: Activity,
    /// The queue was not found empty.
    more: bool,
}

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits the queue of a port.
    pub(super) fn tap(&mut self, port: PortId, budget: usize) -> Outcome {
        let read = match self.receive(QueueId::Tap(port), budget) {
            Ok(read) => read,
            Err(outcome) => return outcome,
        };
        self.enter_quiet(port, &read);
        self.frames(QueueId::Tap(port), read.first);
        self.look(port);
        let Read { activity, more, .. } = read;
        Outcome::Served { activity, more }
    }

    /// Visits the lane for bulk of a port.
    pub(super) fn bulk(&mut self, port: PortId, budget: usize) -> Outcome {
        let read = match self.receive(QueueId::Bulk(port), budget) {
            Ok(read) => read,
            Err(outcome) => {
                if outcome == Outcome::Empty {
                    self.enter_bulk(port, None);
                    self.look(port);
                }
                return outcome;
            }
        };
        if self.enter_bulk(port, Some(&read)) {
            self.drain_quiet(port);
        }
        self.frames(QueueId::Bulk(port), read.first);
        self.look(port);
        let Read { activity, more, .. } = read;
        Outcome::Served { activity, more }
    }

    /// Reads a queue, as its port's limit allows; nothing of it goes on yet. What else the visit came to, if
    /// nothing was read.
    #[inline]
    fn receive(&mut self, id: QueueId, budget: usize) -> Result<Read, Outcome> {
        let Buffers { pool, batch, .. } = &mut self.queues.buffers;
        let first = batch.frames.len();
        let of_port = id
            .port()
            .and_then(|port| Some((port, self.queues.ports.get_mut(port)?)));
        let Some((port, queue)) = of_port else {
            return Err(Outcome::Empty);
        };
        if let Some(shaper) = &mut queue.shaper {
            match shaper.may_read(self.now) {
                Ok(bytes) => batch.narrow(bytes),
                Err(until) => return Err(Outcome::Throttled { until }),
            }
        }
        let device = match (id, &mut queue.lane) {
            (QueueId::Bulk(_), Some(lane)) => &mut lane.port,
            (QueueId::Bulk(_), None) => return Err(Outcome::Empty),
            _ => &mut queue.port,
        };
        let before = device.counters();
        let received = device.receive(pool, batch, budget);
        let after = device.counters();
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
                return Err(Outcome::Gone);
            }
        };
        self.queues.read += got;
        let activity = activity(pool, &batch.frames[first..]);
        if let Some(shaper) = &mut queue.shaper {
            let wire = batch.frames[first..].iter().map(|frame| {
                let head = pool.slice(frame.buf, frame.start, frame.linear);
                frame.wire_len(head.unwrap_or(&[]))
            });
            shaper.charge(self.now, wire.sum());
        }
        let stopped_early = batch.is_full() || malformed > 0 || after.no_buffer != before.no_buffer;
        if got == 0 && !stopped_early {
            return Err(Outcome::Empty);
        }
        let more = got == budget || stopped_early;
        Ok(Read {
            first,
            activity,
            more,
        })
    }

    /// Enters what the quiet lane brought.
    #[inline]
    fn enter_quiet(&mut self, port: PortId, read: &Read) {
        let Some(lane) = self.queues.ports.lane(port) else {
            return;
        };
        let Buffers { pool, batch, .. } = &self.queues.buffers;
        let frames = &batch.frames[read.first..];
        let bytes = frames.iter().take(2).map(|frame| frame.len).sum();
        if lane.is_backlog(frames.len(), bytes, read.more) {
            lane.enter_quiet(seen(pool, frames), read.more, self.now);
        }
    }

    /// Lets flows go back to the quiet lane: all that was read has gone on by now, or they would pass it.
    #[inline]
    fn look(&mut self, port: PortId) {
        if let Some(lane) = self.queues.ports.lane(port) {
            lane.look(self.now);
        }
    }

    /// Enters what the lane for bulk brought, nothing if it was empty; whether the quiet one goes first.
    #[inline]
    fn enter_bulk(&mut self, port: PortId, read: Option<&Read>) -> bool {
        let Some(lane) = self.queues.ports.lane(port) else {
            return false;
        };
        let Buffers { pool, batch, .. } = &self.queues.buffers;
        let (first, more) =
            read.map_or((batch.frames.len(), false), |read| (read.first, read.more));
        let drain = read.is_some() && lane.must_drain();
        lane.enter_bulk(seen(pool, &batch.frames[first..]), more, self.now);
        drain
    }

    /// Runs what is in the quiet lane of a port to its verdicts, until that was found empty, before what was
    /// read of the other.
    #[cold]
    fn drain_quiet(&mut self, port: PortId) {
        // What is queued lies in the batch that is put aside.
        self.queues.send();
        self.queues.buffers.swap();
        let mut left = LANE;
        while left > 0 {
            let read = self.receive(QueueId::Tap(port), Batch::MAX_FRAMES);
            if let Ok(read) = &read {
                self.enter_quiet(port, read);
                left = left.saturating_sub(self.queues.buffers.batch.frames.len());
                self.frames(QueueId::Tap(port), read.first);
            }
            self.queues.send();
            let Buffers { pool, batch, .. } = &mut self.queues.buffers;
            batch.recycle(pool);
            if !read.is_ok_and(|read| read.more) {
                break;
            }
        }
        self.queues.buffers.swap();
    }

    /// Runs the frames of the batch from `first` on, read of that queue, to their verdicts.
    #[inline]
    fn frames(&mut self, queue: QueueId, first: usize) {
        let lane = queue.port().and_then(|port| self.queues.ports.lane(port));
        // Whether flows that are quiet here may have to stay with the bulk in the underlay.
        let held;
        (self.lane, held) = match (queue, lane) {
            (QueueId::Tap(_), Some(lane)) => (socket::Lane::Quiet, lane.holds_any(self.now)),
            // A port without lanes tells nothing of its flows: all are with the bulk, and none changes.
            _ => (socket::Lane::Bulk, false),
        };
        for i in first..self.queues.buffers.batch.frames.len() {
            if held {
                self.lane = self.held_lane(i);
            }
            self.frame(i);
        }
        self.lane = socket::Lane::Quiet;
    }

    /// The lane of the underlay for frame `i` of the batch, which came by a quiet one.
    #[inline]
    fn held_lane(&mut self, i: usize) -> socket::Lane {
        let Buffers { pool, batch, .. } = &self.queues.buffers;
        let frame = &batch.frames[i];
        let head = pool.slice(frame.buf, frame.start, frame.linear);
        let lane = self.queues.ports.lane(PortId(frame.port));
        match lane.is_some_and(|lane| lane.holds(head.unwrap_or(&[]), self.now)) {
            true => socket::Lane::Bulk,
            false => socket::Lane::Quiet,
        }
    }

    /// Frame `i` of the batch.
    #[inline]
    fn frame(&mut self, i: usize) {
        let Buffers { pool, batch, .. } = &mut self.queues.buffers;
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

/// What lanes want to know of these frames.
fn seen(pool: &Pool, frames: &[Frame]) -> impl Iterator<Item = Seen> {
    frames.iter().map(|frame| {
        let head = pool.slice(frame.buf, frame.start, frame.linear);
        Seen::of(head.unwrap_or(&[]), frame.len)
    })
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
