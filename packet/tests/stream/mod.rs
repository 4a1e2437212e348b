//! Packets of one flow, written out byte by byte, with checksums from a plain RFC 1071 loop: nothing
//! here uses the code under test.

#![allow(dead_code)]

use ringway_packet::parse::{Parsed, parse, parse_ip};

pub(crate) const ACK: u8 = 0x10;
pub(crate) const PSH: u8 = 0x08;

/// Everything in the headers of a flow's packets.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Ethernet and what is before IP; empty for bare packets.
    pub(crate) before: Vec<u8>,
    pub(crate) v6: bool,
    pub(crate) tcp: bool,
    pub(crate) src: u8,
    pub(crate) dst: u8,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) label: u32,
    /// Flags of the IPv4 header, top three bits.
    pub(crate) ip_flags: u16,
    pub(crate) id: u16,
    pub(crate) ip_options: Vec<u8>,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) reserved: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) tcp_options: Vec<u8>,
}

impl Flow {
    pub(crate) fn new(v6: bool, tcp: bool) -> Flow {
        let mut before = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        before.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        Flow {
            before,
            v6,
            tcp,
            src: 1,
            dst: 2,
            tos: 0x02,
            ttl: 64,
            label: 0x54321,
            ip_flags: 0x4000,
            id: 100,
            ip_options: vec![],
            src_port: 40_000,
            dst_port: 443,
            seq: 1_000_000,
            ack: 7,
            flags: ACK,
            reserved: 0,
            window: 501,
            urgent: 0,
            tcp_options: vec![],
        }
    }

    pub(crate) fn bare(mut self) -> Flow {
        self.before.clear();
        self
    }

    pub(crate) fn timestamps(mut self, value: u32, echo: u32) -> Flow {
        self.tcp_options = vec![1, 1, 8, 10];
        self.tcp_options.extend(value.to_be_bytes());
        self.tcp_options.extend(echo.to_be_bytes());
        self
    }

    pub(crate) fn l3(&self) -> usize {
        self.before.len()
    }

    pub(crate) fn l4(&self) -> usize {
        self.l3() + if self.v6 { 40 } else { 20 } + self.ip_options.len()
    }

    pub(crate) fn header_len(&self) -> usize {
        self.l4()
            + if self.tcp {
                20 + self.tcp_options.len()
            } else {
                8
            }
    }

    /// The packet with this payload, checksums right.
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut l4 = Vec::new();
        l4.extend(self.src_port.to_be_bytes());
        l4.extend(self.dst_port.to_be_bytes());
        if self.tcp {
            l4.extend(self.seq.to_be_bytes());
            l4.extend(self.ack.to_be_bytes());
            l4.push(((5 + self.tcp_options.len() / 4) << 4) as u8 | self.reserved);
            l4.push(self.flags);
            l4.extend(self.window.to_be_bytes());
            l4.extend([0, 0]);
            l4.extend(self.urgent.to_be_bytes());
            l4.extend(&self.tcp_options);
        } else {
            l4.extend((8 + payload.len() as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        l4.extend(payload);
        let mut frame = self.before.clone();
        frame.extend(self.ip_header(l4.len()));
        let at = if self.tcp { 16 } else { 6 };
        let sum = match !rfc1071(&[&self.pseudo(l4.len()), &l4[..]].concat()) {
            0 if !self.tcp => 0xffff,
            sum => sum,
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        frame.extend(l4);
        frame
    }

    fn address(&self, host: u8) -> Vec<u8> {
        if self.v6 {
            vec![0xfd, 0x77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]
        } else {
            vec![10, 77, 1, host]
        }
    }

    fn proto(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        let mut p = [self.address(self.src), self.address(self.dst)].concat();
        p.extend((len as u32).to_be_bytes());
        p.extend([0, 0, 0, self.proto()]);
        p
    }

    fn ip_header(&self, l4_len: usize) -> Vec<u8> {
        let mut h;
        let options = self.ip_options.len();
        if self.v6 {
            let first = 6 << 28 | u32::from(self.tos) << 20 | self.label;
            h = first.to_be_bytes().to_vec();
            h.extend(((options + l4_len) as u16).to_be_bytes());
            h.push(if options > 0 { 0 } else { self.proto() });
            h.push(self.ttl);
        } else {
            h = vec![0x45 + (options / 4) as u8, self.tos];
            h.extend(((20 + options + l4_len) as u16).to_be_bytes());
            h.extend(self.id.to_be_bytes());
            h.extend(self.ip_flags.to_be_bytes());
            h.extend([self.ttl, self.proto(), 0, 0]);
        }
        h.extend(self.address(self.src));
        h.extend(self.address(self.dst));
        h.extend(&self.ip_options);
        if !self.v6 {
            let sum = !rfc1071(&h);
            h[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        h
    }

    /// The flow's next packets: `payload` cut at `mss`, ids and sequence numbers going on, PSH on the
    /// last if `push`.
    pub(crate) fn run(&mut self, payload: &[u8], mss: usize, push: bool) -> Vec<Vec<u8>> {
        let pieces: Vec<&[u8]> = payload.chunks(mss).collect();
        let mut packets = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            let mut now = self.clone();
            if push && i + 1 == pieces.len() {
                now.flags |= PSH;
            }
            packets.push(now.packet(piece));
            self.seq = self.seq.wrapping_add(piece.len() as u32);
            self.id = self.id.wrapping_add(1);
        }
        packets
    }
}

/// Folded one's complement sum.
pub(crate) fn rfc1071(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Parses a frame with Ethernet header or without, as its builder made it.
pub(crate) fn parsed(frame: &[u8], bare: bool) -> Parsed {
    let p = if bare {
        parse_ip(frame, frame.len())
    } else {
        parse(frame, frame.len())
    };
    p.unwrap_or_else(|e| panic!("{e}: {frame:02x?}"))
}

/// Bytes without a pattern that a checksum could miss.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| next()).collect()
}
