//! One inner frame on its way from the tunnel to its verdict.

use ringway_encap::Carries;
use ringway_packet::offload::Offload;
use ringway_packet::parse::Parsed;
use ringway_tables::PeerId;

use crate::frame::Origin;
use crate::reason::DropReason;

/// The name of no frame.
pub(crate) const NONE: u32 = u32::MAX;

/// An inner frame, or a datagram that did not become one.
#[derive(Clone, Copy)]
pub(crate) struct Inner<I> {
    /// Buffer of its headers.
    pub(crate) buf: I,
    /// Where it begins in the buffer.
    pub(crate) start: u32,
    /// Bytes in that buffer.
    pub(crate) linear: u32,
    /// Bytes, those of frames that joined it included.
    pub(crate) len: u32,
    /// Wire packets.
    pub(crate) packets: u32,
    pub(crate) offload: Offload,
    /// `None` if it was refused before, or for, its parse.
    pub(crate) parsed: Option<Parsed>,
    /// Who sent it, if that is known.
    pub(crate) peer: Option<PeerId>,
    pub(crate) fate: Fate,
    /// Whether it begins with an Ethernet header.
    pub(crate) carries: Carries,
    pub(crate) place: Place,
    /// Next frame that joined the same leader.
    pub(crate) next: u32,
    /// Last frame that joined, of a leader.
    pub(crate) last: u32,
}

/// What has become of it so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is its sender's own.
    Admitted(Origin),
    /// It is dropped.
    Refused(DropReason),
    /// It is dropped, before its tunnel header was understood: the peer has sent nothing that counts.
    Unopened(DropReason),
}

/// Its place among the others of its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// By itself.
    Alone,
    /// The coalescer knows it: it leads a group, of one at least.
    Leads,
    /// Part of another's superframe.
    Joined,
    /// Segment `1` of superframe `0` of those that are cut here.
    Cut(u16, u16),
}
