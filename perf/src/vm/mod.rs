//! `make zerocopy`: two Ringway nodes on real NICs, in a virtual machine.
//!
//! A veth pair can do AF_XDP, but never zero-copy, and a test machine's own NIC is not ours to take.
//! virtio NICs can since Linux 6.13, and need no hardware, no KVM and no root:
//!
//! ```text
//!   host: ringway-perf vm ── qemu ── first serial line: console, into a file
//!                              │ └── second serial line: Lines, one JSON each
//!   ┌──────────────────────────┴───────────────────────────────────────────┐
//!   │ init ── ringway-perf vm-guest                                        │
//!   │ pod ── node 1: ringway agent ── virtio-net                           │
//!   │                                     ║ hub                            │
//!   │ pod ── node 2: ringway agent ── virtio-net ◀── pktgen, towards node 1│
//!   └──────────────────────────────────────────────────────────────────────┘
//! ```
//! `scripts/zerocopy.sh` gets the kernel and packs the initramfs. Nothing in there outlives its time:
//! each exchange has a limit, the host has one for all, and the machine turns itself off.

mod console;
mod guest;
mod host;
mod line;
mod machine;
mod pktgen;
mod rings;

pub use guest::{Args as GuestArgs, run as guest};
pub use host::{Args as HostArgs, VmError, run as host};
