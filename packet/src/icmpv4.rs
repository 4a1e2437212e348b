//! ICMP for IPv4 (RFC 792), and the errors the switch sends.

use crate::bytes::{be16, be32, put16};
use crate::checksum;
use crate::ipv4;
use crate::parse::{Fragment, L3, Parsed};
use crate::proto;

/// Length of the header.
pub const LEN: usize = 8;
/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable; the code says how.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;

/// Longest packet that an error makes, quote included (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR_LEN: usize = 576;
/// Internetwork control precedence (RFC 1812 section 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;
const ERROR_TTL: u8 = 64;

/// Offsets of the fields.
pub mod field {
    /// Type, 1 byte.
    pub const TYPE: usize = 0;
    /// Code, 1 byte.
    pub const CODE: usize = 1;
    /// Checksum over the whole message, 2 bytes.
    pub const CHECKSUM: usize = 2;
    /// Echo: identifier, 2 bytes.
    pub const IDENTIFIER: usize = 4;
    /// Echo: sequence number, 2 bytes. Fragmentation needed: MTU of the next hop (RFC 1191).
    pub const SEQUENCE: usize = 6;
}

/// Why bytes are not an ICMP message.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("ICMP needs {LEN} bytes, {have} there")]
pub struct IcmpError {
    /// Bytes there.
    pub have: usize,
}

/// A checked ICMP message.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks the length. `message` ends where the IP packet does.
    pub fn new(message: &'a [u8]) -> Result<Self, IcmpError> {
        if message.len() < LEN {
            return Err(IcmpError {
                have: message.len(),
            });
        }
        Ok(View(message))
    }

    /// The header.
    pub fn repr(&self) -> Repr {
        let rest = std::array::from_fn(|i| self.0[4 + i]);
        Repr {
            kind: self.0[field::TYPE],
            code: self.0[field::CODE],
            rest,
        }
    }

    /// What follows the header: echo data, or the quote of an error.
    pub fn body(&self) -> &'a [u8] {
        &self.0[LEN..]
    }

    /// Whether the checksum is right.
    pub fn verify(&self) -> bool {
        checksum::verify(checksum::Sum::ZERO, [self.0])
    }
}

/// An ICMP header without its checksum.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes whose meaning depends on the type.
    pub rest: [u8; 4],
}

impl Repr {
    /// Writes the header of `message`, whose body is in place, and its checksum; `None` if it is
    /// shorter than a header.
    pub fn emit(&self, message: &mut [u8]) -> Option<()> {
        let header = message.first_chunk_mut::<LEN>()?;
        let [a, b, c, d] = self.rest;
        *header = [self.kind, self.code, 0, 0, a, b, c, d];
        let value = checksum::finish(checksum::sum(message));
        put16(message, field::CHECKSUM, value);
        Some(())
    }
}

/// An error for the sender of a packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Error {
    /// TTL exceeded in transit (type 11, code 0).
    TimeExceeded,
    /// Fragmentation needed and DF set (type 3, code 4), with the MTU in bytes.
    FragmentationNeeded(u16),
    /// Host unreachable (type 3, code 1).
    HostUnreachable,
}

impl Error {
    fn header(self) -> Repr {
        let (kind, code, mtu) = match self {
            Error::TimeExceeded => (TIME_EXCEEDED, 0, 0),
            Error::FragmentationNeeded(mtu) => (DESTINATION_UNREACHABLE, 4, mtu),
            Error::HostUnreachable => (DESTINATION_UNREACHABLE, 1, 0),
        };
        let [c, d] = mtu.to_be_bytes();
        Repr {
            kind,
            code,
            rest: [0, 0, c, d],
        }
    }
}

/// Writes the IP packet of an error from `src` to `dst` and gives its length. `original_ip` starts
/// at the IP header of the packet that is to blame; as much of it is quoted as fits
/// [`MAX_ERROR_LEN`] and `out`. `None` if not even its header and 8 bytes fit (RFC 792), or if it is
/// not IPv4.
pub fn write_error(
    out: &mut [u8],
    error: Error,
    src: u32,
    dst: u32,
    original_ip: &[u8],
) -> Option<usize> {
    const FRONT: usize = ipv4::MIN_LEN + LEN;
    let header = original_ip.first_chunk::<{ ipv4::MIN_LEN }>()?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    let quotable = original_ip
        .len()
        .min(usize::from(be16(header, ipv4::field::TOTAL_LENGTH)));
    let room = out.len().min(MAX_ERROR_LEN).checked_sub(FRONT)?;
    let quote = quotable.min(room);
    if header[0] >> 4 != 4 || quote < quotable.min(header_len + 8) {
        return None;
    }
    let packet = &mut out[..FRONT + quote];
    let (ip, message) = packet.split_first_chunk_mut::<{ ipv4::MIN_LEN }>()?;
    ipv4::Repr {
        src,
        dst,
        proto: proto::ICMPV4,
        tos: ERROR_TOS,
        ttl: ERROR_TTL,
        id: 0,
        dont_fragment: true,
        payload_len: (LEN + quote) as u16,
    }
    .emit(ip);
    message[LEN..].copy_from_slice(&original_ip[..quote]);
    error.header().emit(message)?;
    Some(FRONT + quote)
}

/// Whether an error may be sent about a packet (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7):
/// not about ICMP errors or ICMP of unknown type, not about later fragments, not about what was
/// sent to a group or broadcast address of either layer, and not to a source that is no single host.
pub fn may_send_error(parsed: &Parsed, head: &[u8]) -> bool {
    let l3 = usize::from(parsed.l3_off);
    let Some(ip) = head
        .get(l3..)
        .and_then(|ip| ip.first_chunk::<{ ipv4::MIN_LEN }>())
    else {
        return false;
    };
    if parsed.l3 != L3::Ipv4 || parsed.fragment == Fragment::Later || to_or_from_group(head, l3) {
        return false;
    }
    let (src, dst) = (be32(ip, ipv4::field::SRC), be32(ip, ipv4::field::DST));
    // "This network", loopback, multicast, reserved and limited broadcast (RFC 6890).
    let single = |a: u32| !matches!(a >> 24, 0 | 127 | 224..=255);
    if !single(src) || !single(dst) {
        return false;
    }
    // Echo, timestamp, information and address mask; requests and replies.
    parsed.proto != proto::ICMPV4
        || head
            .get(usize::from(parsed.l4_off))
            .is_some_and(|kind| matches!(*kind, ECHO_REPLY | ECHO_REQUEST | 13..=18))
}

/// Whether an Ethernet header in front of the network header at `l3` names a group.
pub(crate) fn to_or_from_group(head: &[u8], l3: usize) -> bool {
    l3 >= crate::ethernet::LEN && (head[0] | head[6]) & 1 == 1
}
