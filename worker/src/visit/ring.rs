//! From a ring of the underlay.

use ringway_switch::Options;

use super::{Outcome, Visit};
use crate::devices::{Devices, Ring};
use crate::observe::Watch;
use crate::ring_set::RingSet;

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Visits ring `at`.
    pub(super) fn ring(&mut self, at: usize, budget: usize) -> Outcome {
        let queues = &mut *self.queues;
        let (pool, scratch) = (&mut queues.buffers.pool, &mut queues.scratch);
        let RingSet { open, received, .. } = &mut queues.uplink.rings;
        let Some(ring) = open.get_mut(at) else {
            return Outcome::Empty;
        };
        let budget = RingSet::<D::Ring>::budget(budget);
        let got = ring.receive(pool, received, budget);
        if got == 0 {
            return Outcome::Empty;
        }
        queues.read += RingSet::<D::Ring>::of_budget(got);
        let options = Options {
            unfinished: queues.uplink.unfinished,
            udp_superframes: queues.ports.take_uso(),
            coalesce: queues.uplink.coalesce,
        };
        scratch.frames(self.snapshot, self.pipeline, pool, received, options);
        self.received(got == budget)
    }
}
