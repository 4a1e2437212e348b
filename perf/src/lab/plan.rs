//! The address plan of every topology.
//!
//! | | node i | pod k of node i |
//! |---|---|---|
//! | underlay | 192.168.77.i/24, fd00:77::i/64 | |
//! | pod CIDRs | 10.77.i.0/24, fd77:i::/64 | 10.77.i.(2+k), fd77:i::(2+k) |
//! | gateway | 10.77.i.1, fd77:i::1 | |
//!
//! Peers that do not exist have 172.16.0.0/16 and fd00:78::/64 on the underlay, 10.128.0.0/9 and
//! fd78::/16 for their pods.
//!
//! With a router between the nodes each has an underlay subnet of its own, with two gateways g:
//!
//! | | node i | gateway g |
//! |---|---|---|
//! | underlay | 10.78.i.10/24, fd78:i::a/64 | 10.78.i.g, fd78:i::1 and fe80::2 |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Bytes of an IP and a UDP header.
    pub fn udp_overhead(self) -> usize {
        match self {
            Family::V4 => 28,
            Family::V6 => 48,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Node `i`'s address on the underlay.
pub fn underlay(i: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 77, i).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, i.into()).into(),
    }
}

/// Node `i`'s underlay address for each family: [`underlay`] or [`routed`].
pub type Addresses = fn(u8, Family) -> IpAddr;

/// Node `i`'s address on an underlay subnet of its own.
pub fn routed(i: u8, family: Family) -> IpAddr {
    subnet(i, 10, family)
}

/// The underlay subnet of node `i` behind a router.
pub fn routed_cidr(i: u8, family: Family) -> String {
    network(subnet(i, 0, family))
}

/// Gateway `g`, 1 or 2, of that subnet. The second has a link-local IPv6 address, as one that is
/// learnt from router advertisements (RFC 4861 section 4.2).
pub fn router(i: u8, g: u8, family: Family) -> IpAddr {
    match (family, g) {
        (Family::V6, 2) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2).into(),
        _ => subnet(i, g, family),
    }
}

/// Its MAC.
pub fn router_mac(i: u8, g: u8) -> String {
    format!("02:00:00:00:{i:02x}:{g:02x}")
}

/// With the prefix length of every subnet here but the crowd's.
fn network(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 24 } else { 64 };
    format!("{address}/{length}")
}

fn subnet(i: u8, host: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 78, i, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd78, i.into(), 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// The address with host part `host` among node `i`'s pods; 0 is the network itself, 1 the gateway.
pub fn pod(i: u8, host: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, i, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd77, i.into(), 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// Node `i`'s gateway.
pub fn gateway(i: u8, family: Family) -> IpAddr {
    pod(i, 1, family)
}

/// Node `i`'s pod CIDR.
pub fn pod_cidr(i: u8, family: Family) -> String {
    network(pod(i, 0, family))
}

/// Underlay networks of peers that do not exist; a route to them leads to the other node.
pub const CROWD_UNDERLAY: [&str; 2] = ["172.16.0.0/16", "fd00:78::/64"];
/// Networks of their pods.
pub const CROWD_PODS: [&str; 2] = ["10.128.0.0/9", "fd78::/16"];

/// Underlay address of peer `n` that does not exist, at most 65,534 of them.
pub fn crowd_address(n: u32, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0xac10_0001 + n).into(),
        Family::V6 => Ipv6Addr::from_bits((0xfd00_0078 << 96) + u128::from(n) + 1).into(),
    }
}

/// Pod CIDR `n` of those that do not exist: even ones IPv4, odd ones IPv6.
pub fn crowd_cidr(n: u32) -> String {
    match n % 2 {
        0 => format!("{}/28", Ipv4Addr::from_bits(0x0a80_0000 + n / 2 * 16)),
        _ => format!(
            "{}/64",
            Ipv6Addr::from_bits((0xfd78 << 112) + (u128::from(n / 2) << 64))
        ),
    }
}

/// The MAC of a kernel node's VXLAN device, one for each family as Flannel has it.
pub fn kernel_vtep_mac(i: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("0e:00:00:00:00:{i:02x}"),
        Family::V6 => format!("0e:00:00:00:06:{i:02x}"),
    }
}

/// The VTEP MAC a Ringway node has by default: 0a:58 and its first IPv4 pod CIDR; one for both
/// families.
pub fn ringway_vtep_mac(i: u8) -> String {
    format!("0a:58:0a:4d:{i:02x}:00")
}
