//! Ports without a kernel: for tests, and for measuring the switch alone.
//!
//! - [`pair`]: two ports joined back to back by bounded queues.
//! - [`Replay`]: brings the same frames endlessly.
//! - [`Null`]: takes everything and counts it.

mod null;
mod pair;
mod replay;

pub use null::Null;
pub use pair::{Memory, pair};
pub use replay::{Replay, ReplayFrame};
