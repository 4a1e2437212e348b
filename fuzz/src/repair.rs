//! Makes the checksums of a frame right, so that what lies behind their verification is reached.

use ringway_packet::checksum::{self, Sum, pseudo_v4, pseudo_v6};
use ringway_packet::parse::{Fragment, L3, Parsed, parse};
use ringway_packet::{addr, ipv4, kit, proto};

/// Repairs the IPv4 header checksum and the checksum of TCP, UDP and ICMP, where there are any.
pub fn checksums(frame: &mut [u8]) {
    ipv4_header(frame);
    let Ok(parsed) = parse(frame, frame.len()) else {
        return;
    };
    let at = match parsed.proto {
        proto::TCP => 16,
        proto::UDP => 6,
        proto::ICMPV4 | proto::ICMPV6 => 2,
        _ => return,
    };
    let Some((l4, pseudo)) = l4_of(frame, &parsed) else {
        return;
    };
    let l4 = &mut frame[l4];
    if let Some(field) = l4.get_mut(at..at + 2) {
        field.fill(0);
        let value = checksum::finish_udp(pseudo + checksum::sum(l4));
        l4[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// Where the L4 packet of a whole, unfragmented IP packet lies, and the sum of its pseudo-header.
pub fn l4_of(frame: &[u8], parsed: &Parsed) -> Option<(std::ops::Range<usize>, Sum)> {
    if parsed.fragment != Fragment::None || !matches!(parsed.l3, L3::Ipv4 | L3::Ipv6) {
        return None;
    }
    let range = usize::from(parsed.l4_off)..parsed.ip_end();
    let len = frame.get(range.clone())?.len();
    let (src, dst) = parsed.addresses()?;
    let pseudo = match (parsed.l3, addr::unmap(src), addr::unmap(dst)) {
        (L3::Ipv4, ..) if parsed.proto == proto::ICMPV4 => Sum::ZERO,
        (L3::Ipv4, Some(src), Some(dst)) => pseudo_v4(src, dst, parsed.proto, len),
        _ => pseudo_v6(src, dst, parsed.proto, len),
    };
    Some((range, pseudo))
}

/// Whether the L4 checksum is right; true where there is none to check.
pub fn l4_is_right(frame: &[u8], parsed: &Parsed) -> bool {
    let Some((range, pseudo)) = l4_of(frame, parsed) else {
        return true;
    };
    let l4 = &frame[range];
    match parsed.proto {
        proto::UDP if l4[6..8] == [0, 0] => parsed.l3 == L3::Ipv4,
        proto::TCP | proto::UDP | proto::ICMPV4 | proto::ICMPV6 => checksum::verify(pseudo, [l4]),
        _ => true,
    }
}

/// The IPv4 header behind at most two VLAN tags.
fn ipv4_header(frame: &mut [u8]) {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
            at += 4;
        }
    }
    let l3 = at + 2;
    if frame.get(at..l3) != Some(&[8, 0]) {
        return;
    }
    let len = usize::from(frame.get(l3).copied().unwrap_or(0) & 0xf) * 4;
    if len >= ipv4::MIN_LEN && l3 + len <= frame.len() {
        kit::fix_ipv4(frame, l3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bent_frame_is_right_again() {
        for whole in [
            kit::udp("10.77.1.2:1", "10.77.2.2:2")
                .payload(b"hello")
                .frame(),
            kit::tcp("[fd77::2]:1", "[fd77::3]:2")
                .payload(b"odd")
                .frame(),
            kit::ping("10.77.1.2", "10.77.2.2").frame(),
            kit::udp("10.77.1.2:1", "10.77.2.2:2")
                .vlan(7)
                .vlan(8)
                .frame(),
        ] {
            let mut bent = whole.clone();
            let l3 = parse(&whole, whole.len()).unwrap().l3_off;
            bent[usize::from(l3) + 8] = 9;
            *bent.last_mut().unwrap() ^= 0x5a;
            checksums(&mut bent);
            let parsed = parse(&bent, bent.len()).unwrap();
            assert!(l4_is_right(&bent, &parsed));
            assert_ne!(bent, whole);
            *bent.last_mut().unwrap() ^= 1;
            assert!(!l4_is_right(&bent, &parsed));
        }
    }
}
