//! A packet as one line.

use nix::sys::time::TimeValLike;
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::{self, L3, Parsed};
use ringway_packet::{ethertype, proto};

use crate::trace::ends;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of a VXLAN header (RFC 7348 section 5).
const VXLAN: usize = 8;

/// Time of day in UTC, to the microsecond.
pub fn clock(time: u64) -> String {
    let time = nix::sys::time::TimeSpec::nanoseconds(time as i64);
    let (seconds, nanos) = (time.tv_sec() % 86_400, time.tv_nsec());
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{h:02}:{m:02}:{s:02}.{:06}", nanos / 1000)
}

/// What an Ethernet frame of `len` bytes is, of which these are there.
pub fn frame(bytes: &[u8], len: usize) -> String {
    let parsed = match parse::parse(bytes, len.max(bytes.len())) {
        Ok(parsed) => parsed,
        Err(error) => return format!("{len} bytes, not understood: {error}"),
    };
    let ends = ends(&parsed).unwrap_or_else(|| {
        // What is parsed has an Ethernet header.
        let mac = |at| MacAddr::read(bytes, at).unwrap_or_default();
        format!("{} > {}", mac(6), mac(0))
    });
    format!("{ends} {} {len} bytes", protocol(&parsed, bytes))
}

fn protocol(parsed: &Parsed, bytes: &[u8]) -> String {
    let at = usize::from(parsed.l4_off);
    let byte = |i: usize| bytes.get(at + i).copied();
    match (parsed.l3, parsed.proto) {
        (L3::Ipv4 | L3::Ipv6, proto::TCP) => format!("TCP {}", flags(byte(13).unwrap_or(0))),
        (L3::Ipv4 | L3::Ipv6, proto::UDP) => "UDP".into(),
        (L3::Ipv4 | L3::Ipv6, proto::ICMPV4 | proto::ICMPV6) => match (byte(0), byte(1)) {
            (Some(kind), Some(code)) => format!("ICMP type {kind} code {code}"),
            _ => "ICMP".into(),
        },
        (L3::Ipv4 | L3::Ipv6, number) => format!("protocol {number}"),
        _ if parsed.ethertype == ethertype::ARP => "ARP".into(),
        _ => format!("type {:#06x}", parsed.ethertype),
    }
}

/// As tcpdump writes them.
fn flags(byte: u8) -> String {
    let names = [
        (0x02, 'S'),
        (0x01, 'F'),
        (0x04, 'R'),
        (0x08, 'P'),
        (0x20, 'U'),
        (0x10, '.'),
    ];
    let set = names.iter().filter(|(bit, _)| byte & bit != 0);
    let set: String = set.map(|(_, name)| *name).collect();
    format!("[{}]", if set.is_empty() { "none".into() } else { set })
}

/// The same of a bare IP packet.
pub fn packet(bytes: &[u8], len: usize) -> String {
    let ether_type: u16 = match bytes.first().map(|byte| byte >> 4) {
        Some(6) => ethertype::IPV6,
        _ => ethertype::IPV4,
    };
    let mut framed = vec![0; ETHERNET];
    framed[12..].copy_from_slice(&ether_type.to_be_bytes());
    framed.extend_from_slice(bytes);
    let text = frame(&framed, len + ETHERNET);
    let sizes = [len + ETHERNET, len].map(|len| format!("{len} bytes"));
    text.replacen(&sizes[0], &sizes[1], 1)
}

/// The same of what a datagram carries that nobody opened: by its first bytes it is VXLAN or an IP packet.
pub fn datagram(bytes: &[u8], len: usize) -> String {
    match *bytes {
        [0x08, _, _, _, a, b, c, _, ref inner @ ..] => {
            let vni = u32::from_be_bytes([0, a, b, c]);
            format!(
                "VXLAN, VNI {vni}: {}",
                frame(inner, len.saturating_sub(VXLAN))
            )
        }
        [first, ..] if matches!(first >> 4, 4 | 6) => packet(bytes, len),
        _ => format!("{len} bytes, neither VXLAN nor IP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::kit;

    #[test]
    fn a_line_says_who_and_what() {
        let udp = kit::udp("10.77.1.2:1000", "10.77.2.2:53")
            .payload_len(20)
            .frame();
        let said = "10.77.1.2:1000 > 10.77.2.2:53 UDP";
        assert_eq!(frame(&udp, 62), format!("{said} 62 bytes"));
        // The first bytes of a longer one.
        assert_eq!(frame(&udp[..42], 62), format!("{said} 62 bytes"));
        assert_eq!(packet(&udp[14..], 48), format!("{said} 48 bytes"));
        let vxlan = [&[8, 0, 0, 0, 0, 1, 0, 0][..], &udp].concat();
        assert_eq!(
            datagram(&vxlan, 70),
            format!("VXLAN, VNI 256: {said} 62 bytes")
        );
        assert_eq!(datagram(&udp[14..], 48), format!("{said} 48 bytes"));
        let tcp = kit::tcp("[fd77:1::2]:1000", "[fd77:2::2]:443").frame();
        let text = frame(&tcp, tcp.len());
        assert!(
            text.contains("[fd77:1::2]:1000 > [fd77:2::2]:443 TCP ["),
            "{text}"
        );
        assert!(packet(&tcp[14..], tcp.len() - 14).contains("[fd77:1::2]:1000"));
        let arp = frame(&kit::arp_request("10.77.1.2", "10.77.1.3"), 42);
        assert!(
            arp.contains("ARP") && arp.contains("ff:ff:ff:ff:ff:ff"),
            "{arp}"
        );
    }

    #[test]
    fn any_bytes_have_a_line() {
        let text = frame(&[0; 9], 9);
        assert!(text.contains("9 bytes, not understood"), "{text}");
        for first in 0..=255 {
            let bytes = [first; 40];
            for len in 0..bytes.len() {
                for said in [frame, packet, datagram].map(|line| line(&bytes[..len], len)) {
                    assert!(!said.is_empty() && !said.contains('\n'), "{said}");
                }
            }
        }
    }
}
