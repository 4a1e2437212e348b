//! Pushing: a fixed-size template copy and a few patched fields.
//!
//! The header is kept right-aligned in a template of 64 bytes (80 with VXLAN over IPv6, the only
//! one that is longer), so that pushing is a copy of constant size that ends where the carried
//! bytes begin; what lies in front of the header is overwritten with zeroes. Then lengths, TOS
//! and source port are patched at offsets that are constants per kind. The IPv4 checksum is
//! incremental: the sum over the template, with length and TOS zero, is made once, a packet adds
//! its own two words (RFC 1624 by another road: nothing has to be subtracted). The UDP checksum
//! likewise starts from the sum of pseudo-header, ports and VXLAN header.
//!
//! IPv4 frames carry DF and identification 0 (an atomic datagram, RFC 6864 §4.1): VXLAN must not
//! be fragmented (RFC 7348 §4.3), and path MTU discovery needs DF. Where the underlay loses the errors
//! that it needs, DF is left out and each packet has an identification of its own. The IPv6 flow label is 0, as
//! from the kernel; entropy is in the source port.

use std::net::IpAddr;

use super::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, OuterSpec, SpecError, TransportSpec, UDP_LEN};
use crate::outer::UdpChecksum;
use crate::{Encap, vxlan};
use ringway_packet::mac::MacAddr;
use ringway_packet::{checksum, ethertype, proto};

/// Bytes before `start` that [`OuterHeader::push`] may overwrite, if there are that many.
pub const SCRATCH: usize = SHORT + EXTRA;

/// Template bytes copied for every kind.
const SHORT: usize = 64;
/// Further bytes in front of those, for VXLAN over IPv6.
const EXTRA: usize = 16;
const IPV4_DF: u16 = 0x4000;

/// The shape of the header; offsets are constants for each.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Kind {
    Vxlan4,
    Udp4,
    Vxlan6,
    Udp6,
}

/// A precomputed outer Ethernet + IP + UDP (+ VXLAN) header: 42, 50, 62 or 70 bytes.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct OuterHeader {
    /// The last 64 bytes of the header, zeroes in front if it is shorter.
    short: [u8; SHORT],
    /// What comes before them.
    extra: [u8; EXTRA],
    /// Unfolded sum of the IPv4 header with length and TOS 0.
    ip_sum: u32,
    /// Unfolded sum of pseudo-header, destination port and VXLAN header, without lengths.
    udp_sum: u32,
    /// Most carried bytes an IP length field can state.
    max_carried: u16,
    kind: Kind,
    transport: TransportSpec,
    full_checksum: bool,
    may_fragment: bool,
    len: u8,
    next_hop: bool,
}

/// What differs from packet to packet in an outer header, besides lengths and checksums.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Fields {
    /// Source port: the flow's.
    pub src_port: u16,
    /// TOS octet or traffic class (see [`crate::ecn`]).
    pub tos: u8,
    /// Identification; 0 unless [`OuterHeader::may_fragment`], and IPv6 has none.
    pub id: u16,
}

/// Why a packet cannot be encapsulated.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum PushError {
    /// Too few bytes before the carried ones.
    #[error("outer header needs {need} bytes of headroom, {have} there")]
    Headroom {
        /// Length of the header.
        need: usize,
        /// Bytes before `start`.
        have: usize,
    },
    /// `start` lies outside the buffer.
    #[error("carried bytes start at {start}, outside a buffer of {len}")]
    Start {
        /// Offset given.
        start: usize,
        /// Length of the buffer.
        len: usize,
    },
    /// The IP length field cannot state it.
    #[error("{carried} bytes carried, at most {limit} fit an IP length field")]
    TooLong {
        /// Bytes to be carried.
        carried: usize,
        /// Largest number that fits.
        limit: usize,
    },
    /// A full checksum was asked for without the sum of the carried bytes.
    #[error("full UDP checksum configured, but the sum of the carried bytes was not given")]
    SumMissing,
}

impl OuterHeader {
    /// Builds the template.
    pub fn new(spec: &OuterSpec) -> Result<OuterHeader, SpecError> {
        spec.check()?;
        let mut bytes = Vec::with_capacity(SCRATCH);
        bytes.extend_from_slice(&spec.dst_mac.0);
        bytes.extend_from_slice(&spec.src_mac.0);
        let v6 = match (spec.src, spec.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes.extend_from_slice(&ethertype::IPV4.to_be_bytes());
                bytes.extend_from_slice(&[0x45, 0, 0, 0, 0, 0]);
                let flags = if spec.dont_fragment { IPV4_DF } else { 0 };
                bytes.extend_from_slice(&flags.to_be_bytes());
                bytes.extend_from_slice(&[spec.ttl, proto::UDP, 0, 0]);
                bytes.extend_from_slice(&src.octets());
                bytes.extend_from_slice(&dst.octets());
                false
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes.extend_from_slice(&ethertype::IPV6.to_be_bytes());
                bytes.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, proto::UDP, spec.ttl]);
                bytes.extend_from_slice(&src.octets());
                bytes.extend_from_slice(&dst.octets());
                true
            }
            (src, dst) => return Err(SpecError::Family { src, dst }),
        };
        let udp_at = bytes.len();
        let TransportSpec::Udp { dst_port, checksum } = spec.transport;
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&dst_port.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        let own_at = bytes.len();
        bytes.resize(own_at + spec.encap.header_len(), 0);
        spec.encap.write_header(&mut bytes[own_at..]);
        let addresses = udp_at - if v6 { 32 } else { 8 }..udp_at;
        let udp_sum = words(&bytes[addresses]) + words(&bytes[udp_at..]) + u32::from(proto::UDP);
        let ip_sum = if v6 {
            0
        } else {
            words(&bytes[ETHERNET_LEN..udp_at])
        };
        let mut short = [0; SHORT];
        let mut extra = [0; EXTRA];
        let len = bytes.len();
        let (front, back) = bytes.split_at(len.saturating_sub(SHORT));
        short[SHORT - back.len()..].copy_from_slice(back);
        extra[EXTRA - front.len()..].copy_from_slice(front);
        let kind = match (spec.encap, v6) {
            (Encap::Vxlan { .. }, false) => Kind::Vxlan4,
            (Encap::Udp, false) => Kind::Udp4,
            (Encap::Vxlan { .. }, true) => Kind::Vxlan6,
            (Encap::Udp, true) => Kind::Udp6,
        };
        Ok(OuterHeader {
            short,
            extra,
            ip_sum,
            udp_sum,
            kind,
            max_carried: u16::MAX - (len - ETHERNET_LEN - if v6 { IPV6_LEN } else { 0 }) as u16,
            transport: spec.transport,
            full_checksum: checksum == UdpChecksum::Full,
            may_fragment: !spec.dont_fragment && !v6,
            len: len as u8,
            next_hop: spec.dst_mac != MacAddr::default(),
        })
    }

    /// Length in bytes: 42 (udp, IPv4), 50 (vxlan, IPv4), 62 (udp, IPv6), 70 (vxlan, IPv6).
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// What its transport's header states.
    #[inline]
    pub fn transport(&self) -> TransportSpec {
        self.transport
    }

    /// Whether the MAC of the next hop is known, without which a whole frame cannot be sent.
    #[inline]
    pub fn has_next_hop(&self) -> bool {
        self.next_hop
    }

    /// The next hop's MAC and the underlay port's own, as the header has them.
    pub fn next_hop(&self) -> (MacAddr, MacAddr) {
        let at = SCRATCH - self.len();
        let byte = |i: usize| match i.checked_sub(EXTRA) {
            Some(at) => self.short[at],
            None => self.extra[i],
        };
        let mac = |from: usize| MacAddr(std::array::from_fn(|i| byte(from + i)));
        (mac(at), mac(at + 6))
    }

    /// Enters the next hop's MAC and the underlay port's own; a `dst` of zero says that it is not known.
    pub fn set_next_hop(&mut self, dst: MacAddr, src: MacAddr) {
        let at = SCRATCH - self.len();
        for (i, byte) in dst.0.into_iter().chain(src.0).enumerate() {
            match (at + i).checked_sub(EXTRA) {
                Some(at) => self.short[at] = byte,
                None => self.extra[at + i] = byte,
            }
        }
        self.next_hop = dst != MacAddr::default();
    }

    /// Whether [`push`](Self::push) needs the sum of the carried bytes.
    #[inline]
    pub fn needs_sum(&self) -> bool {
        self.full_checksum
    }

    /// Whether routers may fragment the packet, which then needs an identification that no other of this
    /// source and destination has at the same time (RFC 6864 §4.2).
    #[inline]
    pub fn may_fragment(&self) -> bool {
        self.may_fragment
    }

    /// Writes the header so that it ends at `buf[start]` and returns where it begins.
    ///
    /// `carried_len` is the length of the whole inner frame or packet, as the encapsulation
    /// [carries](Encap::carries) either, of which the
    /// linear part is `buf[start..]`. `inner_sum` is the [`checksum::sum`] over all carried bytes, needed only
    /// for [`UdpChecksum::Full`]. Up to [`SCRATCH`] bytes before `start` are overwritten where the
    /// buffer has them; the bytes from `start` on are untouched.
    #[inline]
    pub fn push(
        &self,
        buf: &mut [u8],
        start: usize,
        carried_len: usize,
        fields: Fields,
        inner_sum: Option<checksum::Sum>,
    ) -> Result<usize, PushError> {
        let buf_len = buf.len();
        let Some(front) = buf.get_mut(..start) else {
            return Err(PushError::Start {
                start,
                len: buf_len,
            });
        };
        let need = self.len();
        if front.len() < need {
            return Err(PushError::Headroom {
                need,
                have: front.len(),
            });
        }
        if carried_len > usize::from(self.max_carried) {
            let limit = usize::from(self.max_carried);
            return Err(PushError::TooLong {
                carried: carried_len,
                limit,
            });
        }
        let inner_sum = match inner_sum {
            Some(sum) if self.full_checksum => checksum::fold(sum),
            None if self.full_checksum => return Err(PushError::SumMissing),
            _ => 0,
        };
        let packet = Packet {
            carried_len: carried_len as u16,
            fields,
            inner_sum,
        };
        // The template goes where it belongs and is patched there. One on the stack, patched before it is
        // copied, would stall on store forwarding.
        match front.last_chunk_mut() {
            Some(whole) => self.write(whole, packet),
            None => self.write_narrow(front, packet),
        }
        Ok(start - need)
    }

    /// Writes the header to the end of `whole`.
    #[inline(always)]
    fn write(&self, whole: &mut [u8; SCRATCH], packet: Packet) {
        match self.kind {
            Kind::Vxlan4 => self.write4::<{ vxlan::HEADER_LEN }>(short(whole), packet),
            Kind::Udp4 => self.write4::<0>(short(whole), packet),
            Kind::Vxlan6 => self.write6::<{ vxlan::HEADER_LEN }>(whole, packet),
            Kind::Udp6 => self.write6::<0>(whole, packet),
        }
    }

    /// Where there is less headroom than the template has, yet enough for the header.
    #[cold]
    fn write_narrow(&self, front: &mut [u8], packet: Packet) {
        let mut whole = [0; SCRATCH];
        self.write(&mut whole, packet);
        let at = front.len() - self.len();
        front[at..].copy_from_slice(&whole[SCRATCH - self.len()..]);
    }

    #[inline(always)]
    fn template<const N: usize>(&self, head: &mut [u8; N]) {
        let (extra, short) = head.split_at_mut(N - SHORT);
        short.copy_from_slice(&self.short);
        if N == SCRATCH {
            extra.copy_from_slice(&self.extra);
        }
    }

    #[inline(always)]
    fn write4<const SHIM: usize>(&self, head: &mut [u8; SHORT], packet: Packet) {
        self.template(head);
        let udp_at = SHORT - SHIM - UDP_LEN;
        let ip_at = udp_at - IPV4_LEN;
        let udp_len = packet.carried_len + (UDP_LEN + SHIM) as u16;
        let total = udp_len + IPV4_LEN as u16;
        let Fields { tos, id, .. } = packet.fields;
        let ip_sum = self.ip_sum + u32::from(total) + u32::from(tos) + u32::from(id);
        head[ip_at + 1] = tos;
        put16(head, ip_at + 2, total);
        put16(head, ip_at + 4, id);
        put16(head, ip_at + 10, !fold32(ip_sum));
        self.patch_udp(head, udp_at, udp_len, packet);
    }

    #[inline(always)]
    fn write6<const SHIM: usize>(&self, head: &mut [u8; SCRATCH], packet: Packet) {
        self.template(head);
        let udp_at = SCRATCH - SHIM - UDP_LEN;
        let ip_at = udp_at - IPV6_LEN;
        let udp_len = packet.carried_len + (UDP_LEN + SHIM) as u16;
        put16(head, ip_at, 0x6000 | u16::from(packet.fields.tos) << 4);
        put16(head, ip_at + 4, udp_len);
        self.patch_udp(head, udp_at, udp_len, packet);
    }

    #[inline(always)]
    fn patch_udp<const N: usize>(&self, head: &mut [u8; N], at: usize, len: u16, packet: Packet) {
        put16(head, at, packet.fields.src_port);
        put16(head, at + 4, len);
        if self.full_checksum {
            // The length counts twice: in the pseudo-header and in the header.
            let sum = self.udp_sum
                + 2 * u32::from(len)
                + u32::from(packet.fields.src_port)
                + u32::from(packet.inner_sum);
            // 0 would say "not computed" (RFC 768).
            let value = match !fold32(sum) {
                0 => 0xffff,
                value => value,
            };
            put16(head, at + 6, value);
        }
    }
}

/// What a header is patched with.
#[derive(Copy, Clone)]
struct Packet {
    carried_len: u16,
    fields: Fields,
    inner_sum: u16,
}

/// What of it the short templates fill.
#[inline(always)]
fn short(whole: &mut [u8; SCRATCH]) -> &mut [u8; SHORT] {
    whole.last_chunk_mut().expect("it is longer")
}

#[inline(always)]
fn put16<const N: usize>(head: &mut [u8; N], at: usize, value: u16) {
    head[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Folds a one's-complement sum to 16 bits (RFC 1071 §4.1).
#[inline(always)]
fn fold32(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    (once + (once >> 16)) as u16
}

/// Unfolded sum of big-endian words; `bytes` has even length.
fn words(bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum()
}
