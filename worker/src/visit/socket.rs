//! From a receive socket of the underlay.

use super::{Outcome, Visit};
use crate::activity::Activity;
use crate::devices::Devices;
use crate::observe::{Entry, Watch};
use crate::packet::{frame_of, packet_of};
use crate::receive::Kind;

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits socket `at`.
    pub(super) fn socket(&mut self, at: usize, budget: usize) -> Outcome {
        let queues = &mut *self.queues;
        let (pool, opener) = (&mut queues.buffers.pool, &mut queues.opener);
        let Some(underlay) = queues.uplink.sockets.get_mut(at) else {
            return Outcome::Empty;
        };
        let (encap, unfinished) = (underlay.encap, underlay.unfinished);
        let got = match underlay.socket.receive(pool, &mut opener.received, budget) {
            Ok(got) => got,
            Err(error) => {
                tracing::warn!(%error, "receive on the underlay failed");
                return Outcome::Empty;
            }
        };
        queues.uplink.enter_received(at, self.pipeline.counters());
        let drained = opener.received.drained;
        if got == 0 && drained {
            return Outcome::Empty;
        }
        let kind = Kind {
            encap,
            uso: queues.ports.take_uso(),
            unfinished,
        };
        opener.open(self.snapshot, self.pipeline, pool, kind);
        self.opened(!drained)
    }

    /// Runs what was opened and coalesced to its verdicts.
    #[inline]
    pub(super) fn opened(&mut self, more: bool) -> Outcome {
        let opener = &self.queues.opener;
        let activity = Activity::of(opener.len(), opener.seen());
        for i in 0..self.queues.opener.len() {
            self.opened_frame(i);
        }
        // Everything received has been delivered or dropped, so the hot buffers can be used again at
        // once, by the next queue of this round.
        let buffers = &mut self.queues.buffers;
        self.queues.opener.received.recycle(&mut buffers.pool);
        buffers.batch.slices.clear();
        Outcome::Served { activity, more }
    }

    #[inline]
    fn opened_frame(&mut self, i: usize) {
        let queues = &mut *self.queues;
        let buffers = &mut queues.buffers;
        let (pool, batch) = (&mut buffers.pool, &mut buffers.batch);
        let Some(opened) = queues.opener.take(i, self.snapshot, pool, batch) else {
            return;
        };
        let mut packet = packet_of(pool, &opened.frame);
        let verdict = self.pipeline.from_peer(
            self.snapshot,
            opened.peer,
            opened.encap,
            opened.tos,
            &mut packet,
            opened.parsed,
            self.now,
            self.watch,
        );
        let frame = frame_of(&packet, &opened.frame);
        self.carry_out(Entry::Peer(opened.peer), &frame, verdict);
    }
}
