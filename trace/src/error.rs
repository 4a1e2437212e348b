//! Why a packet cannot be traced.

use std::net::IpAddr;

use ringway_control::captures::NoPoint;
use ringway_worker::trace::TooLong;

/// Why a packet cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no such pod or peer here.
    #[error(transparent)]
    Unknown(#[from] NoPoint),
    /// The sender has no address of the destination's family.
    #[error("{who} has no IPv{family} address, and the packet is to go to {to}")]
    NoAddress {
        /// Who.
        who: String,
        /// 4 or 6.
        family: u8,
        /// Destination.
        to: IpAddr,
    },
    /// Source and destination are of two families.
    #[error("{from} and {to} are of two families")]
    TwoFamilies {
        /// Source.
        from: IpAddr,
        /// Destination.
        to: IpAddr,
    },
    /// The packet cannot be so small.
    #[error("the packet has at least {least} bytes, {size} are asked for")]
    TooSmall {
        /// Asked for.
        size: u16,
        /// Its headers.
        least: usize,
    },
    /// Only frames come from there.
    #[error("a packet from the underlay cannot be described")]
    Underlay,
    /// Not a superframe.
    #[error("the frame cannot be a superframe: {why}")]
    NoSuperframe {
        /// Why.
        why: String,
    },
    /// The peer is not reached by any path.
    #[error("there is no path to peer {0}")]
    NoPath(
        /// Its name.
        String,
    ),
    /// It is longer than any.
    #[error("{0}")]
    TooLong(
        /// How long.
        TooLong,
    ),
}

impl TraceError {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) => 404,
            _ => 400,
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unknown(error) => error.remedy(),
            Self::NoAddress { .. } => "trace to an address of the other family, or give --source",
            Self::TwoFamilies { .. } => "give a source of the destination's family",
            Self::TooSmall { .. } => "leave the size out, or give more",
            Self::Underlay => "give the frame, or describe the inner packet and name the peer",
            Self::NoSuperframe { .. } => "leave the segment size out",
            Self::NoPath(_) => "see `ringway tables paths`",
            Self::TooLong(_) => "give one frame",
        }
    }
}
