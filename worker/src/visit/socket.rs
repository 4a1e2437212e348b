//! From a receive socket of the underlay.
//!
//! ```text
//!   quiet   receive ────────────────────────────────▶ open, coalesce ▶ frames
//!   bulk    receive ─▶ first what the quiet one has ─▶ open, coalesce ▶ frames
//! ```
//!
//! A flow that has become bulk sent by the other lane before, and nobody says here when that was. So what is
//! quiet always goes first, which costs a system call that finds nothing.

use ringway_ports::socket::Lane;
use ringway_switch::Options;

use super::{Outcome, Visit};
use crate::activity::Activity;
use crate::devices::Devices;
use crate::observe::{Entry, Watch};
use crate::receive;

/// Reads of a socket after which it is left that was never found empty: what came before they began was read long
/// since.
const READS: usize = 64;

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits the socket at `at` for quiet flows.
    pub(super) fn socket(&mut self, at: usize, budget: usize) -> Outcome {
        match self.read((at, Lane::Quiet), budget) {
            Some(more) => self.opened(at, more),
            None => Outcome::Empty,
        }
    }

    /// Visits that for bulk.
    pub(super) fn bulk_socket(&mut self, at: usize, budget: usize) -> Outcome {
        let Some(more) = self.read((at, Lane::Bulk), budget) else {
            return Outcome::Empty;
        };
        let queues = &mut *self.queues;
        let read = &mut queues.scratch.received;
        queues.uplink.judge(at, read, self.now);
        for _ in 0..READS {
            self.queues.swap_scratch();
            let quiet = self.read((at, Lane::Quiet), usize::MAX);
            if let Some(more) = quiet {
                let outcome = self.opened(at, more);
                self.queues.waited_for |= outcome.is_sparse();
            }
            self.queues.swap_scratch();
            if quiet != Some(true) {
                break;
            }
        }
        self.opened(at, more)
    }

    /// Reads a receive socket; whether there may be more, none if there was nothing.
    #[inline]
    fn read(&mut self, which: (usize, Lane), budget: usize) -> Option<bool> {
        let queues = &mut *self.queues;
        let (pool, scratch) = (&mut queues.buffers.pool, &mut queues.scratch);
        let (at, lane) = which;
        let underlay = queues.uplink.sockets.get_mut(at)?.as_mut()?;
        let socket = &mut underlay.socket;
        let got = match socket.receive(lane, pool, &mut scratch.received, budget) {
            Ok(got) => got,
            Err(error) => {
                tracing::warn!(%error, "receive on the underlay failed");
                return None;
            }
        };
        queues
            .uplink
            .enter_received(which, self.pipeline.counters());
        queues.read += got;
        let more = !scratch.received.drained;
        (got > 0 || more).then_some(more)
    }

    /// Opens what was read of the socket at `at`, and runs it to its verdicts.
    fn opened(&mut self, at: usize, more: bool) -> Outcome {
        let queues = &mut *self.queues;
        let Some(Some(underlay)) = queues.uplink.sockets.get(at) else {
            return Outcome::Empty;
        };
        let (encap, unfinished) = (underlay.encap, underlay.unfinished);
        let options = Options {
            unfinished,
            udp_superframes: queues.ports.take_uso(),
            coalesce: queues.uplink.coalesce,
        };
        let pool = &mut queues.buffers.pool;
        let scratch = &mut queues.scratch;
        scratch.datagrams(self.snapshot, self.pipeline, pool, encap, options);
        self.received(more)
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
