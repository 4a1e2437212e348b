//! Two nodes, 192.168.77.1 and .2 or fd00:77::1 and ::2, and the four outer headers between them.
#![allow(dead_code, reason = "each test file uses its part")]

use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::checksum;
use ringway_packet::mac::MacAddr;

pub(crate) const SRC_PORT: u16 = 0xc123;
pub(crate) const TOS: u8 = 0x02;
pub(crate) const FIELDS: Fields = Fields {
    src_port: SRC_PORT,
    tos: TOS,
    id: 0,
};
/// What is carried in literal tests: the encapsulation does not care.
pub(crate) const CARRIED: [u8; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
pub(crate) const VXLAN: Encap = Encap::Vxlan { vni: 1 };

pub(crate) fn spec(v6: bool, encap: Encap, udp_checksum: UdpChecksum) -> OuterSpec {
    let (src, dst) = if v6 {
        ("fd00:77::1", "fd00:77::2")
    } else {
        ("192.168.77.1", "192.168.77.2")
    };
    OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        encap,
        transport: TransportSpec::usual(encap, udp_checksum),
        ttl: 64,
        dont_fragment: true,
    }
}

pub(crate) fn header(v6: bool, encap: Encap, checksum: UdpChecksum) -> OuterHeader {
    OuterHeader::new(&spec(v6, encap, checksum)).unwrap()
}

/// All kinds of header there are.
pub(crate) fn all() -> Vec<(bool, Encap, UdpChecksum)> {
    vec![
        (false, VXLAN, UdpChecksum::Zero),
        (false, VXLAN, UdpChecksum::Full),
        (false, Encap::Udp, UdpChecksum::Zero),
        (false, Encap::Udp, UdpChecksum::Full),
        (true, VXLAN, UdpChecksum::Full),
        (true, Encap::Udp, UdpChecksum::Full),
    ]
}

/// A whole outer frame around `carried`.
pub(crate) fn frame(header: &OuterHeader, carried: &[u8], src_port: u16, tos: u8) -> Vec<u8> {
    let fields = Fields {
        src_port,
        tos,
        id: 0,
    };
    frame_with(header, carried, fields)
}

pub(crate) fn frame_with(header: &OuterHeader, carried: &[u8], fields: Fields) -> Vec<u8> {
    let start = 128;
    let mut buf = vec![0xee; start];
    buf.extend_from_slice(carried);
    let sum = Some(checksum::sum(carried));
    let at = header
        .push(&mut buf, start, carried.len(), fields, sum)
        .unwrap();
    buf.split_off(at)
}

/// RFC 1071 by the book: 16-bit words, big-endian, carries folded at the end.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Makes the IPv4 header checksum of an untagged frame right again.
pub(crate) fn fix_ipv4(frame: &mut [u8]) {
    let len = usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let sum = !naive_sum(&frame[14..14 + len]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}
