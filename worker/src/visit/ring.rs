//! From a ring of the underlay.

use ringway_encap::Encap;

use super::{Outcome, Visit};
use crate::devices::{Devices, Ring};
use crate::observe::Watch;
use crate::receive::Kind;
use crate::ring_set::RingSet;

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits ring `at`.
    pub(super) fn ring(&mut self, at: usize, budget: usize) -> Outcome {
        let queues = &mut *self.queues;
        let (pool, opener) = (&mut queues.buffers.pool, &mut queues.opener);
        let RingSet { open, received, .. } = &mut queues.uplink.rings;
        let Some(ring) = open.get_mut(at) else {
            return Outcome::Empty;
        };
        let budget = RingSet::<D::Ring>::budget(budget);
        let got = ring.receive(pool, received, budget);
        if got == 0 {
            return Outcome::Empty;
        }
        let kind = Kind {
            encap: Encap::Udp,
            uso: queues.ports.take_uso(),
            unfinished: queues.uplink.unfinished,
        };
        opener.open_frames(self.snapshot, self.pipeline, pool, received, kind);
        self.opened(got == budget)
    }
}
