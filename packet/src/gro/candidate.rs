//! Which frames can be coalesced at all, and which headers are those of one group.
//!
//! | | of each frame | equal in a group | may differ |
//! |---|---|---|---|
//! | before IP | no VLAN tag | all | |
//! | IPv4 | no options, no fragment | TOS (ECN too), flags, TTL, addresses | length, id (see [`super`]), checksum |
//! | IPv6 | no extension headers | traffic class, flow label, hop limit, addresses | length |
//! | TCP | ACK set, of the others only PSH, checksum right, payload | ports, acknowledgement, window, urgent pointer, options | sequence number (contiguous), PSH (last only), checksum |
//! | UDP | length that of the IP packet, checksum there and right, payload | ports | length, checksum |
//!
//! Acknowledgement and window must be equal because segmentation copies both to every segment, as in
//! Linux. A segment with another acknowledgement opens the next group.

use crate::bytes::{be16, be32, be128};
use crate::checksum;
use crate::gso::MIN_TCP_SEGMENT;
use crate::parse::{L3, Parsed};
use crate::proto;

use super::{MAX_HEADER, MAX_IP_LEN, Shape};

/// Octet 13 of the TCP header.
pub(super) const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;

/// A frame that can be in a group.
pub(super) struct Candidate<'a> {
    /// Ethernet to L4.
    pub(super) header: &'a [u8],
    pub(super) shape: Shape,
    /// 1 to 65,507.
    pub(super) payload_len: usize,
    /// TCP only; 0 otherwise.
    pub(super) seq: u32,
    pub(super) push: bool,
    /// IPv4 only; 0 otherwise.
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
}

impl<'a> Candidate<'a> {
    /// `None` for all that stays alone, whatever the group. Fragments must have been sorted out.
    #[inline]
    pub(super) fn of(
        head: &'a [u8],
        p: &Parsed,
        len: usize,
        payload: &[u8],
    ) -> Option<Candidate<'a>> {
        let header_len = usize::from(p.payload_off);
        let end = p.ip_end();
        if p.ip_options
            || p.vlan_tags > 0
            || payload.is_empty()
            || header_len > MAX_HEADER
            || p.ip_len as usize > MAX_IP_LEN
            || end > len
            || header_len + payload.len() != end
        {
            return None;
        }
        let header = head.get(..header_len)?;
        let v4 = p.l3 == L3::Ipv4;
        let tcp = p.proto == proto::TCP;
        let shape = Shape {
            l3: p.l3_off,
            l4: p.l4_off,
            header_len: p.payload_off,
            v4,
            tcp,
        };
        let ip = header.get(usize::from(p.l3_off)..usize::from(p.l4_off))?;
        let l4 = header.get(usize::from(p.l4_off)..)?;
        if ip.len() != if v4 { IPV4_HEADER } else { IPV6_HEADER } {
            return None;
        }
        let (seq, push) = if tcp {
            if l4.len() < TCP_HEADER || l4[12] & 0x0f != 0 || l4[13] & !PSH != ACK {
                return None;
            }
            (be32(l4, 4), l4[13] & PSH != 0)
        } else {
            // A checksum of 0 is none.
            if l4.len() != UDP_HEADER
                || usize::from(be16(l4, 4)) != UDP_HEADER + payload.len()
                || be16(l4, 6) == 0
            {
                return None;
            }
            (0, false)
        };
        let (id, dont_fragment) = if v4 {
            (be16(ip, 4), be16(ip, 6) & DONT_FRAGMENT != 0)
        } else {
            (0, true)
        };
        Some(Candidate {
            header,
            shape,
            payload_len: payload.len(),
            seq,
            push,
            id,
            dont_fragment,
        })
    }

    /// Whether the group it would open could not be segmented again.
    #[inline]
    pub(super) fn too_small(&self) -> bool {
        self.shape.tcp && self.payload_len < usize::from(MIN_TCP_SEGMENT)
    }

    /// Whether the L4 checksum is that of header and payload.
    #[inline]
    pub(super) fn checksum_is_right(&self, payload: &[u8]) -> bool {
        let (ip, l4) = self.header[usize::from(self.shape.l3)..]
            .split_at(usize::from(self.shape.l4 - self.shape.l3));
        let len = l4.len() + payload.len();
        let pseudo = if self.shape.v4 {
            checksum::pseudo_v4(be32(ip, 12), be32(ip, 16), ip[9], len)
        } else {
            checksum::pseudo_v6(be128(ip, 8), be128(ip, 24), ip[6], len)
        };
        checksum::fold(pseudo + checksum::sum(l4) + checksum::sum(payload)) == 0xffff
    }
}

/// Whether two headers of one shape differ only where those of a group may.
#[inline]
pub(super) fn same_headers(shape: &Shape, a: &[u8], b: &[u8]) -> bool {
    let (l3, l4, end) = (
        usize::from(shape.l3),
        usize::from(shape.l4),
        usize::from(shape.header_len),
    );
    let same = |from: usize, to: usize| a[from..to] == b[from..to];
    let ip = if shape.v4 {
        same(l3, l3 + 2) && same(l3 + 6, l3 + 10) && same(l3 + 12, l3 + 20)
    } else {
        same(l3, l3 + 4) && same(l3 + 6, l3 + 40)
    };
    // Flags are ACK and perhaps PSH, in any candidate.
    ip && same(0, l3)
        && same(l4, l4 + 4)
        && (!shape.tcp || same(l4 + 8, l4 + 13) && same(l4 + 14, l4 + 16) && same(l4 + 18, end))
}

/// Source and destination of a parsed frame.
pub(super) fn addresses<'a>(head: &'a [u8], p: &Parsed) -> Option<&'a [u8]> {
    let (v4, header) = match p.l3 {
        L3::Ipv4 => (true, IPV4_HEADER),
        L3::Ipv6 => (false, IPV6_HEADER),
        _ => return None,
    };
    Some(address_bytes(
        head.get(usize::from(p.l3_off)..)?.get(..header)?,
        v4,
    ))
}

/// Source and destination in an IP header.
pub(super) fn address_bytes(ip: &[u8], v4: bool) -> &[u8] {
    if v4 { &ip[12..20] } else { &ip[8..40] }
}
