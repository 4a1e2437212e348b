//! A frame between its admission and its verdict: what every stage looks at.

use ringway_packet::parse::Parsed;
use ringway_tables::{PathId, PortId, PortKind};

use crate::packet::Packet;

/// Who sent an admitted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A local port.
    Port(PortId, PortKind),
    /// A pod of a peer; the path leads back to it.
    Peer(PathId),
    /// A peer's node itself, under its own underlay address.
    PeerNode,
}

impl Origin {
    /// Whether it is the node's own stack.
    #[inline]
    pub(crate) fn is_node(self) -> bool {
        matches!(self, Origin::Port(_, PortKind::Node))
    }
}

/// An admitted frame on its way.
pub(crate) struct Frame<'a, 'b> {
    /// Who sent it.
    pub(crate) origin: Origin,
    /// Its bytes.
    pub(crate) packet: &'a mut Packet<'b>,
    /// What they are.
    pub(crate) parsed: &'a Parsed,
}

impl Frame<'_, '_> {
    /// The bytes at hand.
    #[inline(always)]
    pub(crate) fn head(&self) -> &[u8] {
        self.packet.head()
    }
}
