//! Neighbour discovery: solicitation and advertisement (RFC 4861 sections 4.3 and 4.4).

use super::{LEN, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, Repr, field};
use crate::bytes::{be128, put128};
use crate::mac::MacAddr;
use crate::{ethernet, ethertype, ipv6, proto};

/// Option: link-layer address of the sender.
const SOURCE_LINK_LAYER: u8 = 1;
/// Option: link-layer address of the target.
const TARGET_LINK_LAYER: u8 = 2;
/// An option with a MAC address: type, length in 8-byte units, address.
const OPTION_LEN: usize = 8;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// All nodes on the link, `ff02::1`.
const ALL_NODES: u128 = 0xff02 << 112 | 1;

/// Why bytes are not a neighbour solicitation or advertisement.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum NeighbourError {
    /// Too short.
    #[error("neighbour discovery needs {need} bytes, {have} there")]
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// Another type or code.
    #[error("ICMPv6 type {kind} code {code}, expected 135 or 136 and 0")]
    Type {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// An option of length 0 (RFC 4861 section 4.6: the packet must be discarded).
    #[error("option {kind} of length 0")]
    OptionLength {
        /// Option type.
        kind: u8,
    },
}

/// A neighbour solicitation or advertisement.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Neighbour {
    /// Advertisement rather than solicitation.
    pub advertisement: bool,
    /// The sender is a router (advertisements).
    pub router: bool,
    /// In answer to a solicitation (advertisements).
    pub solicited: bool,
    /// Overrides what the receiver has cached (advertisements).
    pub overrides: bool,
    /// The address it is about.
    pub target: u128,
    /// The link-layer address option: the sender's in a solicitation, the target's in an
    /// advertisement.
    pub link_layer: Option<MacAddr>,
}

impl Neighbour {
    /// Longest that [`emit`](Self::emit) writes.
    pub const MAX_LEN: usize = field::OPTIONS + OPTION_LEN;

    /// Reads a message that ends where the IP packet does. Its checksum is not looked at.
    pub fn parse(message: &[u8]) -> Result<Neighbour, NeighbourError> {
        let have = message.len();
        let Some((fixed, mut options)) = message.split_first_chunk::<{ field::OPTIONS }>() else {
            return Err(NeighbourError::Truncated {
                need: field::OPTIONS,
                have,
            });
        };
        let (kind, code, flags) = (fixed[field::TYPE], fixed[field::CODE], fixed[4]);
        let wanted = match (kind, code) {
            (NEIGHBOUR_SOLICITATION, 0) => SOURCE_LINK_LAYER,
            (NEIGHBOUR_ADVERTISEMENT, 0) => TARGET_LINK_LAYER,
            _ => return Err(NeighbourError::Type { kind, code }),
        };
        let advertisement = kind == NEIGHBOUR_ADVERTISEMENT;
        let mut link_layer = None;
        while let [option, units, ..] = *options {
            let length = usize::from(units) * 8;
            if length == 0 {
                return Err(NeighbourError::OptionLength { kind: option });
            }
            let Some((this, rest)) = options.split_at_checked(length) else {
                break;
            };
            if option == wanted && link_layer.is_none() {
                link_layer = MacAddr::read(this, 2);
            }
            options = rest;
        }
        if !options.is_empty() {
            let left = usize::from(options.get(1).copied().unwrap_or(1)) * 8;
            return Err(NeighbourError::Truncated {
                need: have - options.len() + left,
                have,
            });
        }
        Ok(Neighbour {
            advertisement,
            router: advertisement && flags & ROUTER != 0,
            solicited: advertisement && flags & SOLICITED != 0,
            overrides: advertisement && flags & OVERRIDE != 0,
            target: be128(fixed, field::TARGET),
            link_layer,
        })
    }

    /// Bytes that [`emit`](Self::emit) writes.
    pub fn len(&self) -> usize {
        field::OPTIONS
            + if self.link_layer.is_some() {
                OPTION_LEN
            } else {
                0
            }
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the message with its checksum between these addresses; `None` if `out` is too small.
    pub fn emit(&self, out: &mut [u8], src: u128, dst: u128) -> Option<usize> {
        let message = out.get_mut(..self.len())?;
        let (kind, option) = if self.advertisement {
            (NEIGHBOUR_ADVERTISEMENT, TARGET_LINK_LAYER)
        } else {
            (NEIGHBOUR_SOLICITATION, SOURCE_LINK_LAYER)
        };
        let mut flags = 0;
        if self.advertisement {
            for (set, bit) in [
                (self.router, ROUTER),
                (self.solicited, SOLICITED),
                (self.overrides, OVERRIDE),
            ] {
                flags |= if set { bit } else { 0 };
            }
        }
        put128(message, LEN, self.target);
        if let Some(mac) = self.link_layer {
            message[field::OPTIONS] = option;
            message[field::OPTIONS + 1] = 1;
            message[field::OPTIONS + 2..].copy_from_slice(&mac.0);
        }
        Repr {
            kind,
            code: 0,
            rest: [flags, 0, 0, 0],
        }
        .emit(message, src, dst)?;
        Some(message.len())
    }
}

/// Writes the whole Ethernet frame that tells `source`, at `asker_mac`, that `target` is at
/// `answer_mac`, and gives its length; `None` if `out` is too small. A `source` of 0 probes for
/// duplicates: the answer goes to all nodes, unsolicited (RFC 4861 section 7.2.4).
pub fn write_advertisement(
    out: &mut [u8],
    answer_mac: MacAddr,
    target: u128,
    asker_mac: MacAddr,
    source: u128,
    router: bool,
) -> Option<usize> {
    let (dst, dst_mac) = match source {
        0 => (ALL_NODES, MacAddr::of_ipv6_multicast(ALL_NODES)),
        _ => (source, asker_mac),
    };
    let advertisement = Neighbour {
        advertisement: true,
        router,
        solicited: source != 0,
        overrides: true,
        target,
        link_layer: Some(answer_mac),
    };
    const FRONT: usize = ethernet::LEN + ipv6::LEN;
    let (front, message) = out.split_at_mut_checked(FRONT)?;
    let written = advertisement.emit(message, target, dst)?;
    ethernet::Repr {
        dst: dst_mac,
        src: answer_mac,
        ethertype: ethertype::IPV6,
    }
    .emit(front.first_chunk_mut()?);
    ipv6::Repr {
        src: target,
        dst,
        next_header: proto::ICMPV6,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: 255,
        payload_len: written as u16,
    }
    .emit(front.last_chunk_mut()?);
    Some(FRONT + written)
}
