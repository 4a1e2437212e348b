//! What a pipeline keeps from frame to frame, at hand for every stage.

use std::sync::Arc;

use crate::counters::Counters;
use crate::limiter::Limiter;
use crate::outbox::Outbox;
use crate::probe::answers::Probes;
use crate::returns::Returns;

/// What stages read and write besides the frame and the tables.
pub(crate) struct Context {
    /// Frames of the switch's own.
    pub(crate) outbox: Outbox,
    /// Of the ICMP errors among them.
    pub(crate) limiter: Limiter,
    pub(crate) probes: Probes,
    pub(crate) counters: Arc<Counters>,
    /// Flows whose answers return to the node.
    pub(crate) returns: Arc<Returns>,
    /// When the frame at hand came: monotonic nanoseconds.
    pub(crate) now: u64,
}
