//! From a receive socket of the underlay.

use ringway_switch::Options;

use super::{Outcome, Visit};
use crate::activity::Activity;
use crate::devices::Devices;
use crate::observe::{Entry, Watch};
use crate::receive;

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits socket `at`.
    pub(super) fn socket(&mut self, at: usize, budget: usize) -> Outcome {
        let queues = &mut *self.queues;
        let (pool, scratch) = (&mut queues.buffers.pool, &mut queues.scratch);
        let Some(Some(underlay)) = queues.uplink.sockets.get_mut(at) else {
            return Outcome::Empty;
        };
        let (encap, unfinished) = (underlay.encap, underlay.unfinished);
        let got = match underlay.socket.receive(pool, &mut scratch.received, budget) {
            Ok(got) => got,
            Err(error) => {
                tracing::warn!(%error, "receive on the underlay failed");
                return Outcome::Empty;
            }
        };
        queues.uplink.enter_received(at, self.pipeline.counters());
        let drained = scratch.received.drained;
        if got == 0 && drained {
            return Outcome::Empty;
        }
        let options = Options {
            unfinished,
            udp_superframes: queues.ports.take_uso(),
            coalesce: queues.uplink.coalesce,
        };
        scratch.datagrams(self.snapshot, self.pipeline, pool, encap, options);
        self.received(!drained)
    }

    /// Runs what was received to its verdicts.
    #[inline]
    pub(super) fn received(&mut self, more: bool) -> Outcome {
        let scratch = &self.queues.scratch;
        let activity = Activity::of(scratch.len(), scratch.headers());
        while self.next() {}
        // Everything received has been delivered or dropped, so the hot buffers can be used again at
        // once, by the next queue of this round.
        let buffers = &mut self.queues.buffers;
        self.queues.scratch.received.recycle(&mut buffers.pool);
        buffers.batch.slices.clear();
        Outcome::Served { activity, more }
    }

    /// The next frame of the batch; false if there is none.
    #[inline]
    fn next(&mut self) -> bool {
        let queues = &mut *self.queues;
        let (arrivals, buffers) = (&mut queues.scratch.arrivals, &mut queues.buffers);
        let pool = &mut buffers.pool;
        let next = self
            .pipeline
            .next(self.snapshot, arrivals, pool, self.now, self.watch);
        let Some(arrival) = next else {
            return false;
        };
        let frame = receive::frame(&arrival, arrivals.tail(), &mut buffers.batch);
        let entry = arrival.peer.map_or(Entry::Underlay, Entry::Peer);
        self.carry_out(entry, &frame, arrival.verdict);
        true
    }
}
