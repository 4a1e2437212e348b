//! What is to be asked for next.

use std::net::IpAddr;
use std::time::Instant;

/// What is to be asked for of every destination.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bulk {
    pub(super) routes: bool,
    pub(super) addresses: bool,
    pub(super) hops: bool,
}

/// How far the present round is.
#[derive(Clone, Copy, Default)]
pub(super) struct Round {
    pub(super) began: Option<Instant>,
    /// Last destination marked.
    pub(super) last: Option<IpAddr>,
}
