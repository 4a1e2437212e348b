//! ICMPv6 errors that a router sends.

use super::{DESTINATION_UNREACHABLE, LEN, PACKET_TOO_BIG, REDIRECT, Repr, TIME_EXCEEDED};
use crate::bytes::{be16, be128};
use crate::icmpv4::to_or_from_group;
use crate::ipv6;
use crate::parse::{Fragment, L3, Parsed};
use crate::proto;

/// Longest packet that an error makes, quote included: IPv6's minimum MTU (RFC 4443 section 2.4c).
pub const MAX_ERROR_LEN: usize = 1280;
const ERROR_HOP_LIMIT: u8 = 64;

/// An error for the sender of a packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Error {
    /// Hop limit exceeded in transit (type 3, code 0).
    TimeExceeded,
    /// Packet too big (type 2), with the MTU in bytes.
    PacketTooBig(u32),
    /// Address unreachable (type 1, code 3).
    AddressUnreachable,
}

impl Error {
    fn header(self) -> Repr {
        let (kind, code, mtu) = match self {
            Error::TimeExceeded => (TIME_EXCEEDED, 0, 0),
            Error::PacketTooBig(mtu) => (PACKET_TOO_BIG, 0, mtu),
            Error::AddressUnreachable => (DESTINATION_UNREACHABLE, 3, 0),
        };
        Repr {
            kind,
            code,
            rest: mtu.to_be_bytes(),
        }
    }
}

/// Writes the IP packet of an error from `src` to `dst` and gives its length. `original_ip` starts
/// at the IP header of the packet that is to blame; as much of it is quoted as fits
/// [`MAX_ERROR_LEN`] and `out`. `None` if not even its fixed header and 8 bytes fit, or if it is not
/// IPv6.
pub fn write_error(
    out: &mut [u8],
    error: Error,
    src: u128,
    dst: u128,
    original_ip: &[u8],
) -> Option<usize> {
    const FRONT: usize = ipv6::LEN + LEN;
    let header = original_ip.first_chunk::<{ ipv6::LEN }>()?;
    let stated = ipv6::LEN + usize::from(be16(header, ipv6::field::PAYLOAD_LENGTH));
    let quotable = original_ip.len().min(stated);
    let room = out.len().min(MAX_ERROR_LEN).checked_sub(FRONT)?;
    let quote = quotable.min(room);
    if header[0] >> 4 != 6 || quote < quotable.min(ipv6::LEN + 8) {
        return None;
    }
    let packet = &mut out[..FRONT + quote];
    let (ip, message) = packet.split_first_chunk_mut::<{ ipv6::LEN }>()?;
    ipv6::Repr {
        src,
        dst,
        next_header: proto::ICMPV6,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: ERROR_HOP_LIMIT,
        payload_len: (LEN + quote) as u16,
    }
    .emit(ip);
    message[LEN..].copy_from_slice(&original_ip[..quote]);
    error.header().emit(message, src, dst)?;
    Some(FRONT + quote)
}

/// Whether an error may be sent about a packet (RFC 4443 section 2.4e): not about ICMPv6 errors or
/// redirects, not about what was sent to a group of either layer, and not to a source that is no
/// single host. Not about later fragments either: the first one brings the error, with the ports.
/// (The exception for a too big multicast packet is for routers of multicast, which this is not.)
pub fn may_send_error(parsed: &Parsed, head: &[u8]) -> bool {
    let l3 = usize::from(parsed.l3_off);
    let Some(ip) = head
        .get(l3..)
        .and_then(|ip| ip.first_chunk::<{ ipv6::LEN }>())
    else {
        return false;
    };
    if parsed.l3 != L3::Ipv6 || parsed.fragment == Fragment::Later || to_or_from_group(head, l3) {
        return false;
    }
    let (src, dst) = (be128(ip, ipv6::field::SRC), be128(ip, ipv6::field::DST));
    // Unspecified, loopback, multicast.
    let single = |a: u128| a > 1 && a >> 120 != 0xff;
    if !single(src) || !single(dst) {
        return false;
    }
    parsed.proto != proto::ICMPV6
        || head
            .get(usize::from(parsed.l4_off))
            .is_some_and(|&kind| kind >= 128 && kind != REDIRECT)
}
