#![forbid(unsafe_code)]
//! The pipeline: parse, admit, look up, decide, judge, rewrite, and a verdict for every frame.
//!
//! Pure: no I/O, no clock, no lock, no allocation per frame. Start at [`Pipeline`].

mod admit;
pub mod arrivals;
pub mod bucket;
mod bytes;
mod context;
pub mod counters;
mod decide;
mod encapsulate;
mod frame;
mod icmp;
mod inner_sum;
mod judge;
mod limiter;
mod lookup;
mod neighbour;
pub mod outbox;
mod packet;
mod pipeline;
mod priority;
pub mod probe;
mod reason;
pub mod returns;
mod rewrite;
pub mod trace;
mod verdict;

pub use arrivals::{Arrivals, Contents, Message, Options, OuterFrame, UdpPorts};
pub use bucket::Bucket;
pub use counters::Counters;
pub use encapsulate::encapsulate;
pub use inner_sum::InnerSum;
pub use outbox::{Out, Outbox};
pub use packet::{OUTER_HEADROOM, Packet};
pub use pipeline::{Arrival, Pipeline};
pub use reason::{Direction, DropReason, IgnoreReason};
pub use returns::Returns;
pub use verdict::{Tunnel, Verdict};
