//! How attaching went: how long it took, from the request to its answer, and how often it was refused.

use std::time::Instant;

use ringway_switch::counters::Cell;
use ringway_worker::Histogram;

/// Nanoseconds: up to 2^20 (a millisecond), and each next bucket twice that, up to 2^33 (8.6 s).
pub type AttachTimes = Histogram<20, 15>;

/// Written by the control thread, read by anybody.
#[derive(Debug, Default)]
pub struct Attaches {
    /// Of pods that were attached.
    pub times_ns: AttachTimes,
    /// Requests that were refused.
    pub refused: Cell,
}

impl Attaches {
    /// Enters a request that is answered now; the microseconds it took.
    pub(super) fn enter(&self, started: Instant, attached: bool) -> u64 {
        let took = started.elapsed();
        match attached {
            true => self.times_ns.add(took.as_nanos() as u64),
            false => self.refused.add(1),
        }
        took.as_micros() as u64
    }
}
