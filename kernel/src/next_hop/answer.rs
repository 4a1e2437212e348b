//! What is said of a destination.

use std::net::IpAddr;

use ringway_packet::mac::MacAddr;

use crate::netlink::Unroutable;

/// What there is to know of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// A frame can be sent.
    Resolved(Resolved),
    /// Out of our interface, but the MAC address is not known yet, or no longer.
    Resolving,
    /// A frame from our interface would not reach it.
    Elsewhere(Elsewhere),
}

/// How a frame gets to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The gateway, or the destination itself if it is on the link.
    pub via: IpAddr,
    /// Destination MAC address: that of `via`.
    pub mac: MacAddr,
    /// Source MAC address: our interface's.
    pub src_mac: MacAddr,
}

/// Why frames cannot be sent from our interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Elsewhere {
    /// No link has our index.
    #[error("the underlay interface is gone")]
    InterfaceGone,
    /// Administratively down, or without a carrier.
    #[error("the underlay interface is down or has no carrier")]
    LinkDown,
    /// Not an Ethernet address.
    #[error("the underlay interface has no MAC address")]
    NoMac,
    /// Our outer address was removed.
    #[error("our address {src} is not on the underlay interface")]
    NotOurs {
        /// The address.
        src: IpAddr,
    },
    /// Its route is by another interface.
    #[error("its route leaves by interface {index}")]
    OtherInterface {
        /// That interface's index.
        index: u32,
    },
    /// It has no route that ends on a wire.
    #[error(transparent)]
    Unroutable(#[from] Unroutable),
}

impl NextHop {
    /// How a frame gets there, if one can be sent.
    pub fn resolved(&self) -> Option<Resolved> {
        match self {
            Self::Resolved(r) => Some(*r),
            _ => None,
        }
    }
}

/// What is different after a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Changed {
    /// Destinations that are resolved now and were not, or otherwise, or no longer, or whose route has another MTU.
    pub destinations: Vec<IpAddr>,
    /// Something of the interface itself: see [`super::NextHops::link`].
    pub link: bool,
}
