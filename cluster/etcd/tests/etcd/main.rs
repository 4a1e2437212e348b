//! The source against etcd itself: Debian's `etcd-server`, unpacked by `scripts/unpack.sh` and never installed.
//!
//! ```text
//! test ── HTTP, JSON ──▶ etcd ◀── gRPC ── source ── Change ──▶ a cluster model, as the agent has one
//!         as flanneld writes
//! ```
//!
//! Where there is no etcd a test says SKIPPED.

mod access;
mod leases;
mod node;
mod outages;
mod peers;
mod server;

use std::time::{Duration, Instant};

/// Waits until something is so; the machine may be busy.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
