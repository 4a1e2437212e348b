//! Packet kit: literal frames with good lengths and checksums, for the tests and benches of every
//! crate and for packets that `ringway trace` describes. Not for the data path: it allocates, and panics on texts that are no addresses.
//!
//! ```
//! use ringway_packet::kit;
//!
//! let frame = kit::udp("10.77.1.2:1000", "10.77.2.2:53").ttl(1).payload(b"hello").frame();
//! let tagged = kit::tcp("[fd77::2]:1000", "[fd77::3]:80").vlan(42).frame();
//! let request = kit::arp_request("10.77.1.2", "10.77.1.1");
//! assert_eq!((frame.len(), tagged.len(), request.len()), (47, 78, 42));
//! ```
//!
//! Unless told otherwise frames go from [`pod_mac`] of their source to [`GATEWAY_MAC`], with TTL
//! 64, DF clear, and an ACK flag on TCP.

mod build;
mod neighbour;

pub use build::{Build, Endpoint, icmp, ping, raw, sctp, tcp, udp};
pub use neighbour::{advertisement, arp, arp_reply, arp_request, solicitation};

pub use crate::tcp::flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};

use std::net::IpAddr;

use crate::bytes::be16;
use crate::mac::MacAddr;
use crate::{checksum, ethertype, ipv4, ipv6, proto};

/// The MAC that the gateway of every node has.
pub const GATEWAY_MAC: MacAddr = MacAddr([0x02, 0x52, 0x57, 0x00, 0x00, 0x01]);

/// `0a:58` and the IPv4 address, or the last four bytes of an IPv6 address.
pub fn pod_mac(ip: IpAddr) -> MacAddr {
    let [a, b, c, d] = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => (ip.to_bits() as u32).to_be_bytes(),
    };
    MacAddr([0x0a, 0x58, a, b, c, d])
}

/// An Ethernet frame around any payload.
pub fn eth(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ethertype.to_be_bytes(), payload].concat()
}

/// Puts a VLAN tag into a frame, outside of those it has.
pub fn tag(frame: &[u8], vlan: u16) -> Vec<u8> {
    let kind = if be16(frame, 12) == ethertype::VLAN {
        ethertype::QINQ
    } else {
        ethertype::VLAN
    };
    [
        &frame[..12],
        &kind.to_be_bytes(),
        &vlan.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// Makes the header checksum of the IPv4 header at `l3_off` right again, after a test has bent it.
pub fn fix_ipv4(frame: &mut [u8], l3_off: usize) {
    let end = l3_off + usize::from(frame[l3_off] & 0xf) * 4;
    ipv4::fill_checksum(&mut frame[l3_off..end]);
}

/// Whether the L4 checksum of an unfragmented IP packet is right; true for protocols without one
/// and for UDP over IPv4 without one. Slow and separate from the code under test.
pub fn l4_is_right(packet: &[u8]) -> bool {
    let (proto, pseudo, l4) = if packet[0] >> 4 == 4 {
        let view = ipv4::View::new(packet).expect("an IPv4 packet");
        let (repr, l4) = (view.repr(), view.payload());
        (
            repr.proto,
            checksum::pseudo_v4(repr.src, repr.dst, repr.proto, l4.len()),
            l4,
        )
    } else {
        let view = ipv6::View::new(packet).expect("an IPv6 packet");
        let (repr, mut l4) = (view.repr(), view.payload());
        let mut next = repr.next_header;
        while matches!(
            next,
            proto::HOP_BY_HOP | proto::ROUTING | proto::DESTINATION_OPTIONS
        ) {
            next = l4[0];
            l4 = &l4[(usize::from(l4[1]) + 1) * 8..];
        }
        (
            next,
            checksum::pseudo_v6(repr.src, repr.dst, next, l4.len()),
            l4,
        )
    };
    match proto {
        proto::UDP if be16(l4, 6) == 0 => packet[0] >> 4 == 4,
        proto::UDP | proto::TCP | proto::ICMPV6 => checksum::verify(pseudo, [l4]),
        proto::ICMPV4 => checksum::verify(checksum::Sum::ZERO, [l4]),
        _ => true,
    }
}
