//! MAC addresses that follow from IP addresses.
//!
//! `0a:58` and the IPv4 address, as other CNI plugins derive them: the address
//! can be read off the MAC, stays the same over restarts, and no two pods of a
//! node can share one. An IPv6 address does not fit and is hashed.

use std::net::IpAddr;

use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

/// MAC of the node port and of every pod's gateway.
pub const GATEWAY: MacAddr = MacAddr([0x02, 0x52, 0x57, 0x00, 0x00, 0x01]);

/// The MAC derived from an address.
pub fn derived(ip: IpAddr) -> MacAddr {
    let [a, b, c, d] = match ip {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => fnv1a(&v6.octets()).to_be_bytes(),
    };
    MacAddr([0x0a, 0x58, a, b, c, d])
}

/// FNV-1a, 32 bits: both ends of a tunnel compute it, so it may never change.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// VTEP MAC of a node that does not say: derived from the first IPv4 pod
/// network, else from the first network.
pub fn vtep_default(pod_cidrs: &[Cidr]) -> MacAddr {
    let ips = || pod_cidrs.iter().map(|c| c.network());
    let ip = ips().find(IpAddr::is_ipv4).or_else(|| ips().next());
    ip.map(derived).unwrap_or_default()
}

/// True for an address one station can have: neither multicast nor all zero.
pub fn is_station(mac: MacAddr) -> bool {
    !mac.is_multicast() && mac != MacAddr::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_can_be_read_off() {
        let mac = derived("10.77.1.2".parse().unwrap());
        assert_eq!(mac.to_string(), "0a:58:0a:4d:01:02");
    }

    #[test]
    fn the_hash_of_ipv6_never_changes() {
        // FNV-1a of 16 zero bytes, computed independently.
        let mac = derived("::".parse().unwrap());
        let expected = (0..16).fold(0x811c_9dc5u32, |h, _| h.wrapping_mul(0x0100_0193));
        assert_eq!(mac.0[2..], expected.to_be_bytes());
        assert_ne!(
            derived("fd77:1::2".parse().unwrap()),
            derived("fd77:1::3".parse().unwrap())
        );
    }

    #[test]
    fn the_vtep_prefers_ipv4() {
        let cidrs = [
            "fd77:1::/64".parse().unwrap(),
            "10.77.1.0/24".parse().unwrap(),
        ];
        assert_eq!(vtep_default(&cidrs).to_string(), "0a:58:0a:4d:01:00");
        assert_eq!(
            vtep_default(&cidrs[..1]),
            derived("fd77:1::".parse().unwrap())
        );
    }
}
