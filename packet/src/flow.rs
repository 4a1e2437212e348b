//! Flow keys and the flow hash.

use crate::parse::{Fragment, L3, Parsed};

/// A flow's five-tuple, IPv4 addresses mapped.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct FlowKey {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Source port; 0 for a protocol without, and for a fragment.
    pub src_port: u16,
    /// Destination port, likewise.
    pub dst_port: u16,
    /// L4 protocol.
    pub proto: u8,
}

impl FlowKey {
    /// The key of a parsed frame; `None` if it is not IP. Ports are left out for every fragment, so
    /// that all fragments of a packet have one key.
    #[inline]
    pub fn of(p: &Parsed) -> Option<FlowKey> {
        let (src, dst) = p.addresses()?;
        let whole = p.fragment == Fragment::None;
        let (src_port, dst_port) = if whole {
            (p.src_port, p.dst_port)
        } else {
            (0, 0)
        };
        Some(FlowKey {
            src,
            dst,
            src_port,
            dst_port,
            proto: p.proto,
        })
    }

    /// The key of the answers.
    #[inline]
    pub const fn reversed(self) -> Self {
        FlowKey {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            proto: self.proto,
        }
    }
}

/// A well-mixed hash of addresses, ports and protocol, for spreading flows (outer source port,
/// transmit queue); 0 if the frame is not IP. The same on every machine and in every run. Of a
/// fragment only the addresses count: ports are in the first one only, and behind IPv6 extension
/// headers the protocol too.
///
/// Two multiplications for IPv4, three for IPv6. Whoever chooses addresses and ports can make
/// collisions; nothing but balance may depend on it.
#[inline]
pub fn flow_hash(p: &Parsed) -> u32 {
    let l4 = match p.fragment {
        Fragment::None => {
            u64::from(p.src_port) << 32 | u64::from(p.dst_port) << 16 | u64::from(p.proto)
        }
        _ => 0,
    };
    let mixed = match p.l3 {
        L3::Ipv4 => {
            let pair = u64::from(p.src4()) << 32 | u64::from(p.dst4());
            mix(mix(pair ^ K0, l4 ^ K1) ^ K2, K3)
        }
        L3::Ipv6 => {
            let (src, dst) = (p.src6(), p.dst6());
            let network = mix((src >> 64) as u64 ^ K0, (dst >> 64) as u64 ^ K1);
            let host = mix(src as u64 ^ K2, dst as u64 ^ K3);
            mix(network ^ host.rotate_left(32), l4 ^ K1)
        }
        _ => return 0,
    };
    (mixed >> 32) as u32 ^ mixed as u32
}

// Odd constants with about as many ones as zeroes: the fractional parts of the square roots of 2,
// 3, 5 and 7.
const K0: u64 = 0x6a09_e667_f3bc_c909;
const K1: u64 = 0xbb67_ae85_84ca_a73b;
const K2: u64 = 0x3c6e_f372_fe94_f82b;
const K3: u64 = 0xa54f_f53a_5f1d_36f1;

/// Both halves of the 128-bit product, folded.
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
