//! Workers: one thread each, which owns a set of queues and runs the data path on them.
//!
//! ```text
//!   commands ─▶┌───────────────────── worker thread ─────────────────────┐
//!              │ ready queues ─▶ receive ─▶ (open, coalesce) ─▶ pipeline │─▶ events
//!   snapshot ─▶│      ▲                                          │       │─▶ counters
//!              │      └── epoll, edge-triggered                  ▼       │
//!              │          TAP write at once; underlay queued, flushed    │
//!              └─────────────────────────────────────────────────────────┘
//! ```
//!
//! A worker takes no lock and allocates nothing while packets flow, but for a pod's first bulk. It visits only queues that epoll
//! reported, each with a budget, so a silent pod costs nothing and a flooding one cannot starve the
//! others; one with a bandwidth limit it visits when that allows (`shaper.rs`). The control plane reaches
//! it by a channel and a waker, the tables by a snapshot that is looked at once a round, the counters by
//! shared cells of which it is the only writer.

#![forbid(unsafe_code)]

mod activity;
mod announce;
mod budget;
mod buffers;
mod codel;
mod command;
mod config;
mod devices;
pub mod dropped;
mod engine;
mod handle;
mod histogram;
mod identification;
mod lanes;
pub mod limits;
mod local_ports;
pub mod observe;
mod packet;
mod queue_id;
mod queues;
mod ready;
mod receive;
mod ring_set;
mod shaper;
mod sockets;
mod spin;
mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timers;
pub mod trace;
mod transmit;
mod unreachable;
mod uplink;
mod visit;

pub use activity::Activity;
pub use command::{Command, Event, LaneQueue};
pub use config::{Polling, UnderlaySocket, WorkerConfig};
pub use devices::{Devices, Kernel, LocalPort, Ring};
pub use handle::Worker;
pub use histogram::Histogram;
pub use limits::epoch;
pub use observe::{Entry, Observed, Observer, ObserverId, Outer};
pub use queue_id::QueueId;
pub use queues::Queues;
pub use ring_set::{MAX_RINGS, OpenedRing};
pub use stats::{BufferStats, Load, VisitFrames, VisitTimes};
pub use visit::{Outcome, Round};
