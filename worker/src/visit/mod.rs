//! One visit to a queue: what waits there, each frame to its verdict, and that carried out.
//!
//! ```text
//!   tap, bulk ───▶ receive ────────────────────▶ pipeline ─┐
//!   socket, ring ▶ receive ▶ open, coalesce ▶ pipeline ────┴▶ observe ▶ carry out: local port | peer
//! ```

mod carry_out;
mod ring;
mod socket;
mod tap;

use ringway_ports::socket::Lane;
use ringway_switch::trace::Off;
use ringway_switch::{Pipeline, probe};
use ringway_tables::Snapshot;

use super::activity::Activity;
use super::devices::{Devices, Kernel};
use super::observe::{Observer, On, Watch};
use super::queue_id::QueueId;
use super::queues::Queues;

/// What a worker has in hand while it visits queues: the tables as they are now, and its own.
pub struct Round<'a, D: Devices = Kernel> {
    /// The tables.
    pub snapshot: &'a Snapshot,
    /// Decides.
    pub pipeline: &'a mut Pipeline,
    /// What is read and written.
    pub queues: &'a mut Queues<D>,
    /// Who observes, if anybody does.
    pub observer: Option<&'a mut (dyn Observer + 'static)>,
    /// Monotonic nanoseconds.
    pub now: u64,
}

/// What is done in a visit, compiled for each of two: nobody observes, somebody does.
macro_rules! observed {
    ($round:expr, $visit:ident => $done:expr) => {{
        let Round {
            snapshot,
            pipeline,
            queues,
            observer,
            now,
        } = $round;
        let (snapshot, now) = (*snapshot, *now);
        match observer {
            None => {
                let mut $visit = Visit {
                    snapshot,
                    pipeline,
                    queues,
                    watch: &mut Off,
                    now,
                    lane: Lane::Quiet,
                };
                $done
            }
            Some(observer) => {
                let mut $visit = Visit {
                    snapshot,
                    pipeline,
                    queues,
                    watch: &mut On(&mut **observer),
                    now,
                    lane: Lane::Quiet,
                };
                $done
            }
        }
    }};
}

/// What became of a visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The interface behind the queue was deleted.
    Gone,
    /// Nothing was there.
    Empty,
    /// Something was.
    Served {
        /// What it was.
        activity: Activity,
        /// There may be more.
        more: bool,
    },
    /// It was not read: its pod may send again at that moment, in nanoseconds.
    Throttled {
        /// Of the round's clock.
        until: u64,
    },
}

impl Outcome {
    /// Somebody may wait for an answer to what was there.
    pub(super) fn is_sparse(self) -> bool {
        let Outcome::Served { activity, more } = self else {
            return false;
        };
        activity == Activity::Sparse && !more
    }
}

impl<D: Devices> Round<'_, D> {
    /// Visits a queue for at most so many frames. Afterwards buffers are in use, and packets may be queued
    /// for the underlay, until [`Queues::flush`].
    #[inline]
    pub fn visit(&mut self, queue: QueueId, budget: usize) -> Outcome {
        observed!(self, visit => visit.queue(queue, budget))
    }

    /// Sends what the switch made by itself.
    pub(super) fn send_originated(&mut self) {
        observed!(self, visit => visit.send_originated());
    }

    /// Sends a probe.
    pub(super) fn send_probe(&mut self, request: &probe::Request) {
        observed!(self, visit => visit.send_probe(request));
    }
}

/// The same with what is called for each frame.
struct Visit<'a, D: Devices, W> {
    snapshot: &'a Snapshot,
    pipeline: &'a mut Pipeline,
    queues: &'a mut Queues<D>,
    watch: &'a mut W,
    now: u64,
    /// In which lane what is sent to peers goes.
    lane: Lane,
}

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    #[inline]
    fn queue(&mut self, queue: QueueId, budget: usize) -> Outcome {
        match queue {
            QueueId::Tap(port) => self.tap(port, budget),
            QueueId::Bulk(port) => self.bulk(port, budget),
            QueueId::Socket(at) => self.socket(at as usize, budget),
            QueueId::BulkSocket(at) => self.bulk_socket(at as usize, budget),
            QueueId::Ring(at) => self.ring(at as usize, budget),
        }
    }
}

#[cfg(test)]
mod tests;
