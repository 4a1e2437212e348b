//! AF_XDP: frames of one receive queue of a NIC straight into our memory and out of it.
//!
//! ```text
//!            fill ──▶ free frames for the kernel ──▶ receive ──▶ worker ──▶ (TAP write) ──▶ pool ─┐
//!             ▲                                                                                   │
//!             └───────────────────────────────────────────────────────────────────────────────────┘
//!   TAP read ──▶ buffer ──▶ worker (headers pushed in front) ──▶ transmit ──▶ wire ──▶ completion ──▶ pool
//! ```
//!
//! A worker's pool is the UMEM, registered once and shared by the rings of all its queues. Each ring pair has
//! fill and completion rings of its own. A buffer goes into a ring by value ([`Buf`](crate::Buf)) and comes
//! out of one by value, so there is no way to write to a frame the kernel has; [`Census`](crate::Census) says
//! where all of them are.
//!
//! - Zero-copy is asked for first, then copy mode. What was got is asked from the kernel afterwards
//!   (`XDP_OPTIONS`), not concluded.
//! - `XDP_USE_NEED_WAKEUP` always: without it the driver spins or every flush costs a system call. In copy
//!   mode one call sends at most 32 frames (`TX_BATCH_SIZE`, net/xdp/xsk.c), so a flush calls until the
//!   kernel has taken all; in zero-copy mode one call wakes the driver.
//! - The fill ring is topped up at each receive. A device that finds it empty drops, and some drivers do not
//!   look again unless woken.
//! - The kernel lets go of a queue some milliseconds after the close (`xp_release_deferred`): binding again
//!   earlier gives EBUSY, and what the rings had stays out of the pool until then.
//!
//! Frames carry no offload metadata: checksums must be complete when they go in, and nothing is known of those
//! that come out. Which frames come at all is decided by an XDP program, see `ports::xdp`.

mod open;
mod queue;
mod ring;

pub use open::{Got, XskConfig, XskError, ZeroCopy};
pub use queue::{Carousel, Closed, RxFrame, Xsk, XskCounters, XskStatistics};

/// Bytes before a received frame in its chunk (`XDP_PACKET_HEADROOM`, linux/bpf.h).
pub const RX_HEADROOM: usize = 256;

/// Longest frame that one chunk can receive.
pub const MAX_FRAME: usize = crate::FRAME_SIZE - RX_HEADROOM;
