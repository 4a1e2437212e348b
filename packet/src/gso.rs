//! Segmentation of superframes: TCP (TSO) and UDP (USO), headers only.
//!
//! ```text
//!   superframe   [headers][payload .......................................]
//!   segment 0    [headers'][gso_size bytes]
//!   segment 1                              [headers'][gso_size bytes] ...   last: what is left
//! ```
//!
//! Payload is never touched: the caller gathers it from where it lies. What is equal in all segments
//! is computed once, as a header template and two partial sums, so that a segment's header is a copy
//! and a few patches. As Linux does (`tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`): the
//! sequence number and the IPv4 identification advance; FIN and PSH stay with the last segment, CWR
//! with the first (RFC 3168 section 6.1.2); a UDP segment has its own length. Unlike Linux, the
//! urgent pointer is moved along, and URG ends with the urgent data (RFC 9293 section 3.8.5).
//!
//! Offload metadata comes from whoever holds a raw socket in a pod, so all of it is checked against
//! the headers, and the partial sum found in the checksum field is not used at all.

use std::ops::Range;

use crate::bytes::{be16, be32, be128, put16, put32};
use crate::checksum::{self, Sum};
use crate::offload::{Checksum, Gso, Offload};
use crate::parse::{Fragment, L3, Parsed};
use crate::proto;

/// Most segments of a TCP superframe: 64 KB in segments of 64 bytes, below what any stack sends.
pub const MAX_TCP_SEGMENTS: usize = 1024;
/// Most segments of a UDP superframe (`UDP_MAX_SEGMENTS`, `linux/udp.h`).
pub const MAX_UDP_SEGMENTS: usize = 128;
/// Smallest TCP segment (`TCP_MIN_GSO_SIZE`, `net/tcp.h`).
pub const MIN_TCP_SEGMENT: u16 = 8;
/// Longest headers of a superframe, Ethernet to L4. Two VLAN tags and all options of IPv4 and TCP make
/// 142.
pub const MAX_HEADER: usize = 192;

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const PSH: u16 = 0x08;
const URG: u16 = 0x20;
const CWR: u16 = 0x80;

// IPv4 option types (RFC 791 section 3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Why a frame cannot be segmented.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GsoError {
    /// Not a superframe.
    #[error("a frame without segmentation type")]
    NotGso,
    /// The segmentation type is not that of the headers.
    #[error("segmentation type {gso:?} on a packet of {l3:?} with protocol {proto}")]
    Kind {
        /// What the metadata says.
        gso: Gso,
        /// What the packet says.
        l3: L3,
        /// IP protocol.
        proto: u8,
    },
    /// A fragment cannot be a superframe.
    #[error("a superframe that is an IP fragment ({found:?})")]
    Fragment {
        /// Which.
        found: Fragment,
    },
    /// Segments too small.
    #[error("segment size {size}, at least {min} needed")]
    SegmentSize {
        /// `gso_size`
        size: u16,
        /// Smallest accepted.
        min: u16,
    },
    /// Segments too many.
    #[error("{segments} segments, at most {limit} accepted")]
    Segments {
        /// How many it would be.
        segments: usize,
        /// Most accepted.
        limit: usize,
    },
    /// The checksum is not one that segmentation may replace.
    #[error("checksum {found:?}, a superframe needs one at {start}+{offset}")]
    Checksum {
        /// What the metadata says.
        found: Checksum,
        /// L4 header's place in the frame.
        start: u16,
        /// Checksum field's place in the L4 header.
        offset: u16,
    },
    /// Headers not wholly linear, or longer than [`MAX_HEADER`].
    #[error("headers of {len} bytes, at most {limit} possible")]
    Header {
        /// Ethernet to L4.
        len: usize,
        /// Linear bytes or [`MAX_HEADER`], whichever is less.
        limit: usize,
    },
    /// SYN or RST.
    #[error("TCP flags {flags:#04x} on a superframe; SYN and RST cannot be repeated")]
    Flags {
        /// Low octet of the flags.
        flags: u8,
    },
    /// IP options that cannot be copied to every segment as they are, or that change the
    /// pseudo-header: IPv4 source routes, IPv6 extension headers other than hop-by-hop options.
    #[error("IP option or extension header {kind} on a superframe")]
    Options {
        /// Option type or next header.
        kind: u8,
    },
    /// UDP length is not that of the IP packet.
    #[error("UDP length {found} where the IP packet holds {expected}")]
    UdpLength {
        /// Field.
        found: u16,
        /// From the IP header.
        expected: usize,
    },
}

/// Precomputed from a superframe's headers.
#[derive(Clone, Debug)]
pub struct Segmenter {
    /// As in every segment; FIN, PSH, CWR cleared, checksums 0.
    template: [u8; MAX_HEADER],
    header_len: usize,
    l3: usize,
    l4: usize,
    payload_len: usize,
    gso_size: usize,
    count: usize,
    v4: bool,
    tcp: bool,
    id: u16,
    seq: u32,
    /// TCP data offset and flags as in the template.
    flags: u16,
    first_flags: u16,
    last_flags: u16,
    urgent: u16,
    /// IPv4 header without length and id.
    ip_sum: Sum,
    /// Pseudo-header and L4 header without length, sequence number, flags.
    l4_sum: Sum,
}

impl Segmenter {
    /// `head`: the superframe's linear bytes, Ethernet (or, of a bare packet, IP) to at least the end
    /// of the L4 header; `p`: their parse; `len`: the whole frame.
    ///
    /// # Errors
    /// Metadata that does not fit the headers, see [`GsoError`].
    pub fn new(head: &[u8], p: &Parsed, off: &Offload, len: usize) -> Result<Segmenter, GsoError> {
        let tcp = match (off.gso, p.l3, p.proto) {
            (Gso::None, ..) => return Err(GsoError::NotGso),
            (Gso::Tcp4, L3::Ipv4, proto::TCP) | (Gso::Tcp6, L3::Ipv6, proto::TCP) => true,
            (Gso::Udp, L3::Ipv4 | L3::Ipv6, proto::UDP) => false,
            (gso, l3, proto) => return Err(GsoError::Kind { gso, l3, proto }),
        };
        if p.fragment != Fragment::None {
            return Err(GsoError::Fragment { found: p.fragment });
        }
        let v4 = p.l3 == L3::Ipv4;
        let (l3, l4, header_len) = (
            usize::from(p.l3_off),
            usize::from(p.l4_off),
            usize::from(p.payload_off),
        );
        let end = l3 + p.ip_len as usize;
        let limit = head.len().min(MAX_HEADER).min(end).min(len);
        let least = l3 + if v4 { IPV4_HEADER } else { IPV6_HEADER };
        if header_len > limit
            || l4 < least
            || header_len < l4 + if tcp { TCP_HEADER } else { UDP_HEADER }
        {
            return Err(GsoError::Header {
                len: header_len,
                limit,
            });
        }
        check_checksum(off.checksum, p.l4_off, tcp)?;
        if p.ip_options {
            check_options(&head[l3..l4], v4)?;
        }
        let payload_len = end.min(len) - header_len;
        let count = count_of(payload_len, off.gso_size, tcp)?;

        let mut template = [0; MAX_HEADER];
        template[..header_len].copy_from_slice(&head[..header_len]);
        let mut s = Segmenter {
            template,
            header_len,
            l3,
            l4,
            payload_len,
            gso_size: usize::from(off.gso_size),
            count,
            v4,
            tcp,
            id: 0,
            seq: 0,
            flags: 0,
            first_flags: 0,
            last_flags: 0,
            urgent: 0,
            ip_sum: Sum::ZERO,
            l4_sum: Sum::ZERO,
        };
        if tcp {
            s.prepare_tcp()?
        } else {
            s.prepare_udp()?
        }
        s.prepare_ip(p.proto);
        Ok(s)
    }

    fn prepare_tcp(&mut self) -> Result<(), GsoError> {
        let h = &mut self.template[self.l4..self.header_len];
        let word = be16(h, 12);
        if word & (SYN | RST) != 0 {
            return Err(GsoError::Flags { flags: word as u8 });
        }
        self.seq = be32(h, 4);
        self.flags = word & !(FIN | PSH | CWR | URG);
        self.first_flags = word & CWR;
        self.last_flags = word & (FIN | PSH);
        // Without URG the pointer means nothing and is copied as any other field.
        if word & URG != 0 {
            self.urgent = be16(h, 18);
            put16(h, 18, 0);
        }
        put32(h, 4, 0);
        put16(h, 12, 0);
        put16(h, 16, 0);
        Ok(())
    }

    fn prepare_udp(&mut self) -> Result<(), GsoError> {
        let h = &mut self.template[self.l4..self.header_len];
        let (found, expected) = (be16(h, 4), UDP_HEADER + self.payload_len);
        if usize::from(found) != expected {
            return Err(GsoError::UdpLength { found, expected });
        }
        put16(h, 4, 0);
        put16(h, 6, 0);
        Ok(())
    }

    /// After the L4 header is prepared.
    fn prepare_ip(&mut self, proto: u8) {
        let h = &mut self.template[self.l3..self.l4];
        let pseudo = if self.v4 {
            self.id = be16(h, 4);
            put16(h, 2, 0);
            put16(h, 4, 0);
            put16(h, 10, 0);
            self.ip_sum = checksum::sum(h);
            checksum::pseudo_v4(be32(h, 12), be32(h, 16), proto, 0)
        } else {
            checksum::pseudo_v6(be128(h, 8), be128(h, 24), proto, 0)
        };
        self.l4_sum = pseudo + checksum::sum(&self.template[self.l4..self.header_len]);
    }

    /// Segments; at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of every segment's headers, from the start of the frame to the end of the L4 header.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Segment `i`'s part of the payload, counted from [`header_len`](Self::header_len); empty past
    /// the last.
    #[inline]
    pub fn payload(&self, i: usize) -> Range<usize> {
        let start = i.saturating_mul(self.gso_size).min(self.payload_len);
        start..(start + self.gso_size).min(self.payload_len)
    }

    /// Writes the headers of segment `i` (below [`count`](Self::count)) to `out[..header_len]`,
    /// checksums complete. `payload_sum`: [`checksum::sum`] of [`payload`](Self::payload).
    ///
    /// # Panics
    /// If `out` is shorter than [`header_len`](Self::header_len).
    #[inline]
    pub fn write_header(&self, i: usize, payload_sum: Sum, out: &mut [u8]) {
        let payload = self.payload(i);
        let out = &mut out[..self.header_len];
        out.copy_from_slice(&self.template[..self.header_len]);
        let l4_len = (self.header_len - self.l4 + payload.len()) as u16;

        let ip = &mut out[self.l3..];
        if self.v4 {
            let total = (self.l4 - self.l3) as u16 + l4_len;
            let id = self.id.wrapping_add(i as u16);
            put16(ip, 2, total);
            put16(ip, 4, id);
            put16(
                ip,
                10,
                checksum::finish(self.ip_sum + Sum::of16(total) + Sum::of16(id)),
            );
        } else {
            put16(ip, 4, (self.l4 - self.l3 - IPV6_HEADER) as u16 + l4_len);
        }

        let l4 = &mut out[self.l4..];
        let sum = self.l4_sum + payload_sum + Sum::of16(l4_len);
        if self.tcp {
            self.write_tcp(i, payload.start, sum, l4);
        } else {
            put16(l4, 4, l4_len);
            put16(l4, 6, checksum::finish_udp(sum + Sum::of16(l4_len)));
        }
    }

    #[inline]
    fn write_tcp(&self, i: usize, offset: usize, mut sum: Sum, l4: &mut [u8]) {
        let seq = self.seq.wrapping_add(offset as u32);
        let mut flags = self.flags;
        if i == 0 {
            flags |= self.first_flags;
        }
        if i + 1 == self.count {
            flags |= self.last_flags;
        }
        if usize::from(self.urgent) > offset {
            let pointer = self.urgent - offset as u16;
            flags |= URG;
            put16(l4, 18, pointer);
            sum += Sum::of16(pointer);
        }
        put32(l4, 4, seq);
        put16(l4, 12, flags);
        put16(
            l4,
            16,
            checksum::finish(sum + Sum::of32(seq) + Sum::of16(flags)),
        );
    }
}

/// Segments for a payload; at least 1.
fn count_of(payload_len: usize, gso_size: u16, tcp: bool) -> Result<usize, GsoError> {
    let (min, limit) = if tcp {
        (MIN_TCP_SEGMENT, MAX_TCP_SEGMENTS)
    } else {
        (1, MAX_UDP_SEGMENTS)
    };
    if gso_size < min {
        return Err(GsoError::SegmentSize {
            size: gso_size,
            min,
        });
    }
    let segments = payload_len.div_ceil(usize::from(gso_size)).max(1);
    if segments > limit {
        return Err(GsoError::Segments { segments, limit });
    }
    Ok(segments)
}

/// Segments get fresh checksums; if the superframe's were only claimed to be complete, that would
/// make corrupt data look good.
fn check_checksum(found: Checksum, start: u16, tcp: bool) -> Result<(), GsoError> {
    let offset = if tcp { 16 } else { 6 };
    match found {
        Checksum::Verified => Ok(()),
        Checksum::Partial {
            start: s,
            offset: o,
        } if (s, o) == (start, offset) => Ok(()),
        _ => Err(GsoError::Checksum {
            found,
            start,
            offset,
        }),
    }
}

/// `header`: IP header with options or extension headers.
fn check_options(header: &[u8], v4: bool) -> Result<(), GsoError> {
    if !v4 {
        // One hop-by-hop header with L4 behind it. Routing headers and home addresses change the
        // pseudo-header, a fragment header's id must not be repeated.
        let first = header[6];
        let whole = header
            .get(IPV6_HEADER + 1)
            .map(|n| IPV6_HEADER + 8 + 8 * usize::from(*n));
        return if first == proto::HOP_BY_HOP && whole == Some(header.len()) {
            Ok(())
        } else {
            Err(GsoError::Options { kind: first })
        };
    }
    let mut options = &header[IPV4_HEADER..];
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest) {
            (END_OF_OPTIONS, _) => return Ok(()),
            (NO_OPERATION, rest) => rest,
            // The packet's destination is not the one in the pseudo-header.
            (LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, _) => {
                return Err(GsoError::Options { kind: *kind });
            }
            (_, [len, ..]) if *len >= 2 && usize::from(*len) <= options.len() => {
                &options[usize::from(*len)..]
            }
            _ => return Err(GsoError::Options { kind: *kind }),
        };
    }
    Ok(())
}
