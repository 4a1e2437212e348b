//! A packet described field by field, then built.

use std::net::{IpAddr, SocketAddr};

use super::{GATEWAY_MAC, eth, pod_mac, tag};
use crate::bytes::{put16, put32};
use crate::mac::MacAddr;
use crate::offload::{Checksum, Gso, Offload};
use crate::{checksum, ethertype, icmpv4, icmpv6, ipv4, ipv6, proto, sctp, tcp, udp};

/// An address with a port: `"10.77.1.2:80"`, `"[fd77::2]:80"`, without port where none is needed.
pub trait Endpoint {
    /// Address and port.
    fn endpoint(&self) -> (IpAddr, u16);
}

impl Endpoint for &str {
    fn endpoint(&self) -> (IpAddr, u16) {
        if let Ok(ip) = self.parse() {
            return (ip, 0);
        }
        match self.parse::<SocketAddr>() {
            Ok(address) => (address.ip(), address.port()),
            Err(_) => panic!("{self:?} is neither an address nor an address with port"),
        }
    }
}

impl Endpoint for SocketAddr {
    fn endpoint(&self) -> (IpAddr, u16) {
        (self.ip(), self.port())
    }
}

impl Endpoint for (IpAddr, u16) {
    fn endpoint(&self) -> (IpAddr, u16) {
        *self
    }
}

impl Endpoint for IpAddr {
    fn endpoint(&self) -> (IpAddr, u16) {
        (*self, 0)
    }
}

/// A packet to be built; made by [`udp()`], [`tcp()`], [`sctp()`], [`ping()`], [`icmp()`] or [`raw()`].
#[derive(Clone, Debug)]
pub struct Build {
    src_mac: MacAddr,
    dst_mac: MacAddr,
    vlans: Vec<u16>,
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    tos: u8,
    id: u16,
    dont_fragment: bool,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    proto: u8,
    l4: Vec<u8>,
    payload: Vec<u8>,
    padding: usize,
    good_checksum: bool,
}

fn build(src: impl Endpoint, dst: impl Endpoint, proto: u8, l4: Vec<u8>) -> Build {
    let (src, dst) = (src.endpoint().0, dst.endpoint().0);
    assert_eq!(
        src.is_ipv4(),
        dst.is_ipv4(),
        "{src} and {dst} are of two families"
    );
    Build {
        src_mac: pod_mac(src),
        dst_mac: GATEWAY_MAC,
        vlans: Vec::new(),
        src,
        dst,
        ttl: 64,
        tos: 0,
        id: 0,
        dont_fragment: false,
        options: Vec::new(),
        extensions: Vec::new(),
        proto,
        l4,
        payload: Vec::new(),
        padding: 0,
        good_checksum: true,
    }
}

/// UDP.
pub fn udp(src: impl Endpoint, dst: impl Endpoint) -> Build {
    let mut header = vec![0; udp::LEN];
    put16(&mut header, udp::field::SRC_PORT, src.endpoint().1);
    put16(&mut header, udp::field::DST_PORT, dst.endpoint().1);
    build(src, dst, proto::UDP, header)
}

/// TCP: sequence and acknowledgement 1, flag ACK, window 1024, no options.
pub fn tcp(src: impl Endpoint, dst: impl Endpoint) -> Build {
    let mut header = vec![0; tcp::MIN_LEN];
    let repr = tcp::Repr {
        src_port: src.endpoint().1,
        dst_port: dst.endpoint().1,
        seq: 1,
        ack: 1,
        flags: tcp::flag::ACK,
        window: 1024,
        checksum: 0,
        urgent: 0,
    };
    repr.emit(header.first_chunk_mut().expect("made with this length"));
    build(src, dst, proto::TCP, header)
}

/// SCTP, with verification tag 1 and a checksum of 0 (it is a CRC32c, which nothing here looks at).
pub fn sctp(src: impl Endpoint, dst: impl Endpoint) -> Build {
    let mut header = vec![0; sctp::LEN];
    put16(&mut header, sctp::field::SRC_PORT, src.endpoint().1);
    put16(&mut header, sctp::field::DST_PORT, dst.endpoint().1);
    put32(&mut header, sctp::field::TAG, 1);
    build(src, dst, proto::SCTP, header)
}

/// An echo request of the addresses' family, identifier 1, sequence 1.
pub fn ping(src: impl Endpoint, dst: impl Endpoint) -> Build {
    let kind = if src.endpoint().0.is_ipv4() {
        icmpv4::ECHO_REQUEST
    } else {
        icmpv6::ECHO_REQUEST
    };
    icmp(src, dst, kind, 0, [0, 1, 0, 1])
}

/// ICMP of the addresses' family; `rest`: bytes 4 to 8 of its header.
pub fn icmp(src: impl Endpoint, dst: impl Endpoint, kind: u8, code: u8, rest: [u8; 4]) -> Build {
    let proto = if src.endpoint().0.is_ipv4() {
        proto::ICMPV4
    } else {
        proto::ICMPV6
    };
    build(src, dst, proto, [&[kind, code, 0, 0], &rest[..]].concat())
}

/// Any protocol, its header being part of the payload.
pub fn raw(src: impl Endpoint, dst: impl Endpoint, proto: u8) -> Build {
    build(src, dst, proto, Vec::new())
}

impl Build {
    /// Source and destination MAC.
    pub fn macs(mut self, src: MacAddr, dst: MacAddr) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// Adds a VLAN tag, outside of those before.
    pub fn vlan(mut self, vlan: u16) -> Self {
        self.vlans.push(vlan);
        self
    }

    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// DSCP and ECN.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// IPv4 identification, and that of the fragment header of [`fragments`](Self::fragments).
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Sets IPv4's DF.
    pub fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// IPv4 options, padded to a multiple of 4 with end-of-options.
    pub fn options(mut self, options: &[u8]) -> Self {
        assert!(
            self.src.is_ipv4() && options.len() <= 40,
            "IPv4 only, at most 40 bytes"
        );
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an IPv6 extension header: its number, and its bytes from the third on. Next header and
    /// length are filled in; the length must come out whole.
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Self {
        assert!(self.src.is_ipv6(), "IPv6 only");
        let unit = if kind == proto::AUTHENTICATION { 4 } else { 8 };
        assert_eq!(
            (body.len() + 2) % unit,
            0,
            "extension header {kind} of {} bytes",
            body.len() + 2
        );
        self.extensions.push((kind, body.to_vec()));
        self
    }

    /// TCP flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.tcp_header()[tcp::field::FLAGS] = flags;
        self
    }

    /// TCP sequence number.
    pub fn seq(mut self, seq: u32) -> Self {
        put32(self.tcp_header(), tcp::field::SEQ, seq);
        self
    }

    /// TCP acknowledgement number.
    pub fn ack(mut self, ack: u32) -> Self {
        put32(self.tcp_header(), tcp::field::ACK, ack);
        self
    }

    /// TCP window.
    pub fn window(mut self, window: u16) -> Self {
        put16(self.tcp_header(), tcp::field::WINDOW, window);
        self
    }

    /// TCP options, padded to a multiple of 4 with end-of-options.
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        assert!(options.len() <= 40, "at most 40 bytes");
        self.tcp_header();
        self.l4.truncate(tcp::MIN_LEN);
        self.l4.extend_from_slice(options);
        self.l4
            .resize(tcp::MIN_LEN + options.len().next_multiple_of(4), 0);
        self.l4[tcp::field::DATA_OFFSET] = ((self.l4.len() / 4) << 4) as u8;
        self
    }

    fn tcp_header(&mut self) -> &mut [u8] {
        assert_eq!(self.proto, proto::TCP, "not TCP");
        &mut self.l4
    }

    /// What follows the L4 header.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// `len` bytes of payload, none equal to its neighbour.
    pub fn payload_len(mut self, len: usize) -> Self {
        self.payload = (0..len).map(|i| (i * 7 + i / 256) as u8).collect();
        self
    }

    /// Bytes behind the IP packet, as Ethernet's minimum makes them.
    pub fn padding(mut self, len: usize) -> Self {
        self.padding = len;
        self
    }

    /// Spoils the L4 checksum.
    pub fn bad_checksum(mut self) -> Self {
        self.good_checksum = false;
        self
    }

    /// The whole Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_around(&self.packet())
    }

    /// The IP packet alone.
    pub fn packet(&self) -> Vec<u8> {
        let mut l4 = self.l4_with_length();
        if let Some(at) = self.checksum_offset() {
            let value = checksum::finish_udp(self.pseudo(l4.len()) + checksum::sum(&l4));
            put16(
                &mut l4,
                at,
                if self.good_checksum {
                    value
                } else {
                    value ^ 0x5555
                },
            );
        }
        self.ip(&l4)
    }

    /// The frame with its L4 checksum left to be completed, and the metadata that says so. With
    /// `gso_size` and more payload than that, a superframe.
    pub fn offloaded(&self, gso_size: Option<u16>) -> (Vec<u8>, Offload) {
        let at = self.checksum_offset().expect("a protocol with a checksum");
        let mut l4 = self.l4_with_length();
        let pseudo = checksum::fold(self.pseudo(l4.len()));
        put16(&mut l4, at, pseudo);
        let frame = self.frame_around(&self.ip(&l4));
        let start = (frame.len() - self.padding - l4.len()) as u16;
        let mut offload = Offload {
            checksum: Checksum::Partial {
                start,
                offset: at as u16,
            },
            ..Offload::default()
        };
        if let Some(size) = gso_size
            && self.payload.len() > usize::from(size)
        {
            offload.gso = match (self.proto, self.src) {
                (proto::TCP, IpAddr::V4(_)) => Gso::Tcp4,
                (proto::TCP, IpAddr::V6(_)) => Gso::Tcp6,
                (proto::UDP, _) => Gso::Udp,
                (other, _) => panic!("protocol {other} has no superframes"),
            };
            offload.gso_size = size;
        }
        (frame, offload)
    }

    /// The frames of the fragments of which no IP packet is above `mtu`.
    pub fn fragments(&self, mtu: usize) -> Vec<Vec<u8>> {
        let whole = self.packet();
        let front = self.front_len();
        let body = &whole[front..];
        let extra = if self.src.is_ipv4() { 0 } else { 8 };
        let step = (mtu - front - extra) / 8 * 8;
        let mut frames = Vec::new();
        for (i, piece) in body.chunks(step).enumerate() {
            let offset = i * step;
            let more = offset + piece.len() < body.len();
            frames.push(self.frame_around(&self.fragment(piece, offset, more)));
        }
        frames
    }

    fn fragment(&self, piece: &[u8], offset: usize, more: bool) -> Vec<u8> {
        if self.src.is_ipv4() {
            let mut packet = self.ip(piece);
            let flags = (offset / 8) as u16 | if more { ipv4::MORE_FRAGMENTS } else { 0 };
            put16(&mut packet, ipv4::field::FLAGS_FRAGMENT, flags);
            super::fix_ipv4(&mut packet, 0);
            return packet;
        }
        let mut body = vec![0; 6];
        put16(&mut body, 0, offset as u16 | u16::from(more));
        put16(&mut body, 4, self.id);
        let mut with_header = self.clone();
        with_header.extensions.push((proto::FRAGMENT, body));
        with_header.ip(piece)
    }

    fn front_len(&self) -> usize {
        match self.src {
            IpAddr::V4(_) => ipv4::MIN_LEN + self.options.len(),
            IpAddr::V6(_) => {
                ipv6::LEN
                    + self
                        .extensions
                        .iter()
                        .map(|(_, body)| body.len() + 2)
                        .sum::<usize>()
            }
        }
    }

    fn frame_around(&self, packet: &[u8]) -> Vec<u8> {
        let ethertype = if self.src.is_ipv4() {
            ethertype::IPV4
        } else {
            ethertype::IPV6
        };
        let mut frame = eth(self.dst_mac, self.src_mac, ethertype, packet);
        for vlan in &self.vlans {
            frame = tag(&frame, *vlan);
        }
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    fn checksum_offset(&self) -> Option<usize> {
        match self.proto {
            _ if self.l4.is_empty() => None,
            proto::UDP => Some(udp::field::CHECKSUM),
            proto::TCP => Some(tcp::field::CHECKSUM),
            proto::ICMPV4 | proto::ICMPV6 => Some(icmpv4::field::CHECKSUM),
            _ => None,
        }
    }

    fn l4_with_length(&self) -> Vec<u8> {
        let mut l4 = [&self.l4[..], &self.payload].concat();
        if self.proto == proto::UDP && !self.l4.is_empty() {
            let len = u16::try_from(l4.len()).expect("a UDP length");
            put16(&mut l4, udp::field::LENGTH, len);
        }
        l4
    }

    fn pseudo(&self, len: usize) -> checksum::Sum {
        match (self.src, self.dst) {
            (IpAddr::V4(_), _) if self.proto == proto::ICMPV4 => checksum::Sum::ZERO,
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                checksum::pseudo_v4(a.to_bits(), b.to_bits(), self.proto, len)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                checksum::pseudo_v6(a.to_bits(), b.to_bits(), self.proto, len)
            }
            _ => unreachable!("families are compared at the start"),
        }
    }

    fn ip(&self, body: &[u8]) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = [0; ipv4::MIN_LEN];
                let total = u16::try_from(self.front_len() + body.len()).expect("an IPv4 length");
                ipv4::Repr {
                    src: src.to_bits(),
                    dst: dst.to_bits(),
                    proto: self.proto,
                    tos: self.tos,
                    ttl: self.ttl,
                    id: self.id,
                    dont_fragment: self.dont_fragment,
                    payload_len: total - ipv4::MIN_LEN as u16,
                }
                .emit(&mut header);
                header[0] += (self.options.len() / 4) as u8;
                let mut packet = [&header[..], &self.options, body].concat();
                super::fix_ipv4(&mut packet, 0);
                packet
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let length = self.front_len() - ipv6::LEN + body.len();
                let mut packet = vec![0; ipv6::LEN];
                ipv6::Repr {
                    src: src.to_bits(),
                    dst: dst.to_bits(),
                    next_header: self.extensions.first().map_or(self.proto, |first| first.0),
                    traffic_class: self.tos,
                    flow_label: 0,
                    hop_limit: self.ttl,
                    payload_len: u16::try_from(length).expect("an IPv6 length"),
                }
                .emit(packet.first_chunk_mut().expect("made with this length"));
                for (i, (kind, bytes)) in self.extensions.iter().enumerate() {
                    let len = bytes.len() + 2;
                    let units = match *kind {
                        proto::FRAGMENT => 0,
                        proto::AUTHENTICATION => len / 4 - 2,
                        _ => len / 8 - 1,
                    };
                    packet.push(self.extensions.get(i + 1).map_or(self.proto, |next| next.0));
                    packet.push(units as u8);
                    packet.extend_from_slice(bytes);
                }
                packet.extend_from_slice(body);
                packet
            }
            _ => unreachable!("families are compared at the start"),
        }
    }
}
