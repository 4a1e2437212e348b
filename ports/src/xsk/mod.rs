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
//! A frame's segment size is lost as well. With native XDP the other end of a veth segments before it sends.
//! With generic XDP (a macvlan on a veth) it does not: superpackets of a kernel VXLAN peer come whole and
//! cannot be told from large packets. Such links need sockets.
//!
//! One frame is one page, so the MTU may be 3,818 bytes at most. Chains of frames (multi-buffer) are not built:
//! few drivers with zero-copy have them, and the worker's path would carry chains for their sake.
//!
//! # Why not xsk-rs
//!
//! For what it cannot do. It maps its UMEM itself, so a TAP cannot read into memory that a ring sends from.
//! A descriptor's address is private and fixed at the frame's start, so a packet with headers pushed in front
//! cannot be sent from where it lies. Its frames are `Copy` and the calls that move them `unsafe`, so one
//! frame can be in two rings. It hides ENETDOWN, and has neither unaligned chunks nor transmit metadata. It
//! would bring libelf and libz to run time, clang and m4 to the build.
//!
//! Speed is no reason. `cargo run --release -p ringway-perf --features xsk-rs -- ring` measures it beside ours, each
//! on the same queue of one veth in turns (copy mode, as root; it wants Debian's clang, m4, libelf-dev and
//! zlib1g-dev). Medians of 5 turns, nanoseconds of CPU time for each frame of 114 bytes:
//!
//! | | bare rings | xsk-rs | ours, with pool and record of owners |
//! |---|---|---|---|
//! | receive a frame, look at it and give it back | 20 | 32 | 36 |
//! | send one, the kernel's part included | 987 | 1,001 | 993 |
//!
//! Runs differ by some nanoseconds. Turn by turn xsk-rs takes 11 to 12 % less to receive, 2 to 4 ns a frame, in two
//! runs of 5 and 15 turns (27 % in one beside builds), and the same to send.

mod open;
mod queue;
mod ring;

pub use open::{Got, XskConfig, XskError, ZeroCopy};
pub use queue::{Carousel, Closed, RxFrame, Xsk, XskCounters, XskStatistics};

/// Bytes before a received frame in its chunk (`XDP_PACKET_HEADROOM`, linux/bpf.h).
pub const RX_HEADROOM: usize = 256;

/// Longest frame that one chunk can receive.
pub const MAX_FRAME: usize = crate::FRAME_SIZE - RX_HEADROOM;
