#![forbid(unsafe_code)]
//! The pipeline: parse, admit, look up, decide, rewrite, and a verdict for every frame.
//!
//! Pure: no I/O, no clock, no lock, no allocation per frame. Start at [`Pipeline`].

mod admit;
pub mod bucket;
mod bytes;
pub mod counters;
mod forward;
mod icmp;
mod limiter;
mod neighbour;
pub mod outbox;
mod packet;
mod pipeline;
mod priority;
mod reason;
pub mod returns;
pub mod trace;
mod underlay;
mod verdict;

pub use bucket::Bucket;
pub use counters::Counters;
pub use outbox::{Out, Outbox};
pub use packet::{HEADROOM, Packet};
pub use pipeline::{Pipeline, Ports, reason_of};
pub use priority::untag;
pub use reason::{DropReason, IgnoreReason};
pub use returns::Returns;
pub use underlay::{InnerSum, congestion, encapsulate, outer_checksum, put_ethernet};
pub use verdict::{Tunnel, Verdict};
