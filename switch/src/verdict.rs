//! What becomes of a frame.

use ringway_tables::{PathId, PortId};

use crate::reason::{DropReason, IgnoreReason};

/// The one verdict a frame gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver the frame, as it now lies, to a local port.
    Deliver(PortId),
    /// Send the frame, as it now lies, to a peer.
    Tunnel(Tunnel),
    /// As `Tunnel`, but the inner IPv4 packet is above the path's MTU and may be fragmented.
    Fragment(Tunnel),
    /// Consumed: the switch answered it itself (the answer is in the outbox).
    Answered,
    /// Consumed: nobody needs it.
    Ignore(IgnoreReason),
    /// Dropped.
    Drop(DropReason),
}

/// What a stage gives: go on with `T`, or this is the verdict.
pub(crate) type Stage<T> = Result<T, Verdict>;

/// Where and how a frame leaves for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The path to the peer: outer addresses, encapsulation, MTU.
    pub path: PathId,
    /// Hash of the inner flow; the outer source port comes from it.
    pub hash: u32,
    /// Outer TOS or traffic class octet (RFC 6040).
    pub tos: u8,
}

impl From<DropReason> for Verdict {
    #[inline]
    fn from(reason: DropReason) -> Self {
        Verdict::Drop(reason)
    }
}

impl From<IgnoreReason> for Verdict {
    #[inline]
    fn from(reason: IgnoreReason) -> Self {
        Verdict::Ignore(reason)
    }
}
