//! The slot of a flow: by what a frame is steered to a queue of its TAP.
//!
//! The kernel runs the same function as a BPF program over every frame that a pod sends, so it is made of
//! what both have: loads at fixed offsets, multiplications of 64 bits, shifts. A slot stands for the flows
//! that share it. What is not IP, or too short to tell, is in [`OTHERS`].
//!
//! Addresses count for every packet. The protocol counts if the packet is no fragment, ports if they stand
//! where they do as a rule: behind an IPv4 header without options, or an IPv6 header. So all fragments of
//! a packet have one slot.

use crate::{ethertype, proto};

/// Slots.
pub const SLOTS: usize = 1 << SLOT_BITS;
/// Bits of a slot.
pub const SLOT_BITS: u32 = 14;
/// The slot of what is no IP packet.
pub const OTHERS: u16 = 0;

/// Where the parts of a frame stand that count.
pub mod at {
    /// EtherType, two bytes.
    pub const ETHERTYPE: usize = 12;
    /// Version and length of an IPv4 header.
    pub const V4_VERSION: usize = 14;
    /// IPv4's flags and fragment offset, two bytes.
    pub const V4_FRAGMENT: usize = 20;
    /// IPv4's protocol.
    pub const V4_PROTO: usize = 23;
    /// IPv4's addresses, eight bytes.
    pub const V4_ADDRESSES: usize = 26;
    /// Ports behind an IPv4 header without options, four bytes.
    pub const V4_PORTS: usize = 34;
    /// A frame with IPv4 that is shorter is in [`OTHERS`](super::OTHERS), as one of any sort.
    pub const V4_END: usize = 38;
    /// IPv6's next header.
    pub const V6_PROTO: usize = 20;
    /// IPv6's addresses, 32 bytes.
    pub const V6_ADDRESSES: usize = 22;
    /// Ports behind an IPv6 header, four bytes.
    pub const V6_PORTS: usize = 54;
    /// A frame with IPv6 that is shorter is in [`OTHERS`](super::OTHERS).
    pub const V6_END: usize = 58;
}

/// Of an IPv4 header's fragment field: more fragments, or an offset.
pub const FRAGMENT_BITS: u16 = 0x3fff;
/// First byte of an IPv4 header without options.
pub const PLAIN_V4: u8 = 0x45;
/// The protocols whose ports count.
pub const WITH_PORTS: [u8; 3] = [proto::TCP, proto::UDP, proto::SCTP];

// Odd, with about as many ones as zeroes: the fractional parts of the golden ratio and of the square root
// of 2.
/// Multiplier of addresses.
pub const K0: u64 = 0x9e37_79b9_7f4a_7c15;
/// Multiplier of protocol and ports.
pub const K1: u64 = 0x6a09_e667_f3bc_c909;

#[inline(always)]
fn has_ports(proto: u8) -> bool {
    let [tcp, udp, sctp] = WITH_PORTS;
    proto == tcp || proto == udp || proto == sctp
}

/// The slot of a frame of which `head` is at hand, from its MAC addresses on.
#[inline(always)]
pub fn slot(head: &[u8]) -> u16 {
    let Some(v4) = head.first_chunk::<{ at::V4_END }>() else {
        return OTHERS;
    };
    let word = |bytes: &[u8], off: usize| {
        let bytes = bytes.get(off..).and_then(|rest| rest.first_chunk());
        u64::from_ne_bytes(*bytes.unwrap_or(&[0; 8]))
    };
    let ports = |bytes: &[u8], off: usize| {
        let bytes = bytes.get(off..).and_then(|rest| rest.first_chunk());
        u64::from(u32::from_ne_bytes(*bytes.unwrap_or(&[0; 4])))
    };
    let be16 = |off: usize| u16::from_be_bytes([v4[off], v4[off + 1]]);
    match be16(at::ETHERTYPE) {
        ethertype::IPV4 => {
            let proto = v4[at::V4_PROTO];
            let l4 = if be16(at::V4_FRAGMENT) & FRAGMENT_BITS != 0 {
                0
            } else if v4[at::V4_VERSION] == PLAIN_V4 && has_ports(proto) {
                ports(v4, at::V4_PORTS) << 8 | u64::from(proto)
            } else {
                proto.into()
            };
            mixed(word(v4, at::V4_ADDRESSES), l4)
        }
        ethertype::IPV6 => {
            let Some(v6) = head.first_chunk::<{ at::V6_END }>() else {
                return OTHERS;
            };
            let proto = v6[at::V6_PROTO];
            let l4 = if has_ports(proto) {
                ports(v6, at::V6_PORTS) << 8 | u64::from(proto)
            } else if proto == proto::ICMPV6 {
                proto.into()
            } else {
                // An extension header, that of a fragment perhaps.
                0
            };
            let [a, b, c, d] = [0, 8, 16, 24].map(|off| word(v6, at::V6_ADDRESSES + off));
            let addresses = [b, c, d]
                .into_iter()
                .fold(a, |so_far, next| so_far.wrapping_mul(K0) ^ next);
            mixed(addresses, l4)
        }
        _ => OTHERS,
    }
}

#[inline(always)]
fn mixed(addresses: u64, l4: u64) -> u16 {
    let mut hash = addresses.wrapping_mul(K0);
    hash ^= hash >> 32;
    hash ^= l4.wrapping_mul(K1);
    hash = hash.wrapping_mul(K0);
    hash ^= hash >> 32;
    (hash.wrapping_mul(K1) >> (64 - SLOT_BITS)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;
    use std::collections::HashSet;

    #[test]
    fn flows_are_spread_over_the_slots() {
        let (mut seen, count) = (HashSet::new(), 4000);
        for n in 0..count {
            let (src, dst) = match n % 4 {
                0 => (format!("10.77.1.2:{}", 32_768 + n), "10.77.2.2:5201".into()),
                1 => (
                    format!("10.77.1.{}:1000", 2 + n % 250),
                    format!("10.{}.2.2:80", n / 4 % 256),
                ),
                2 => (
                    format!("[fd77:1::2]:{}", 32_768 + n),
                    "[fd77:2::2]:5201".into(),
                ),
                _ => (
                    format!("[fd77:1::{n:x}]:1000"),
                    format!("[fd77:{n:x}::2]:80"),
                ),
            };
            seen.insert(slot(&kit::udp(src.as_str(), dst.as_str()).frame()));
        }
        // Of balls thrown at random into boxes that many boxes have one.
        let slots = SLOTS as f64;
        let expected = slots * (1.0 - (1.0 - 1.0 / slots).powi(count));
        let share = seen.len() as f64 / expected;
        assert!(
            (0.97..=1.03).contains(&share),
            "{} slots, {expected} expected",
            seen.len()
        );
    }

    #[test]
    fn what_belongs_together_has_one_slot() {
        for (a, b) in [
            ("10.77.1.2:1000", "10.77.2.2:80"),
            ("[fd77:1::2]:1000", "[fd77:2::2]:80"),
        ] {
            let frame = kit::tcp(a, b).frame();
            assert_eq!(
                slot(&frame),
                slot(&kit::tcp(a, b).payload_len(9000).tos(3).ttl(2).frame())
            );
            assert_ne!(slot(&frame), slot(&kit::udp(a, b).frame()));
            assert_ne!(slot(&frame), slot(&kit::tcp(b, a).frame()));
            let slots: HashSet<_> = kit::udp(a, b)
                .payload_len(5000)
                .fragments(1280)
                .iter()
                .map(|fragment| slot(fragment))
                .collect();
            assert_eq!(slots.len(), 1, "{a}");
        }
    }

    #[test]
    fn what_is_no_ip_packet_is_with_the_others() {
        let arp = kit::arp_request("10.77.1.2", "10.77.1.1");
        let ping = kit::ping("fd77::1", "fd77::2").frame();
        for frame in [&arp[..], &[], &[0; 60], &ping[..57], &ping[..37]] {
            assert_eq!(slot(frame), OTHERS);
        }
        assert_ne!(slot(&ping), OTHERS);
    }
}
