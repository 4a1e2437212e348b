//! Addresses as integers: IPv4 `u32` and IPv6 `u128`, both in host order, and "either family" as a
//! `u128` with IPv4 mapped (RFC 4291 section 2.5.5.2), which makes one key type for both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Upper 96 bits of a v4-mapped address.
const MAPPED: u128 = 0xffff << 32;

/// `::ffff:a.b.c.d`.
#[inline]
pub const fn mapped(v4: u32) -> u128 {
    MAPPED | v4 as u128
}

/// The IPv4 address of a mapped one; `None` for any other IPv6 address.
#[inline]
pub const fn unmap(a: u128) -> Option<u32> {
    if a >> 32 == 0xffff {
        Some(a as u32)
    } else {
        None
    }
}

/// An address of either family; IPv4 mapped.
#[inline]
pub fn from_ip(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => mapped(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The inverse of [`from_ip`]; a mapped address comes out as IPv4.
#[inline]
pub fn to_ip(a: u128) -> IpAddr {
    match unmap(a) {
        Some(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4)),
        None => IpAddr::V6(Ipv6Addr::from_bits(a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back() {
        for text in [
            "0.0.0.0",
            "10.77.1.2",
            "255.255.255.255",
            "::",
            "::1",
            "fd77::1",
            "ff02::1",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(to_ip(from_ip(ip)), ip, "{text}");
        }
    }

    #[test]
    fn only_the_mapped_prefix_is_ipv4() {
        assert_eq!(mapped(0x0a4d_0102), 0xffff_0a4d_0102);
        assert_eq!(unmap(0xffff_0a4d_0102), Some(0x0a4d_0102));
        assert_eq!(unmap(0x0a4d_0102), None);
        assert_eq!(unmap(0x1_ffff_0a4d_0102), None);
        assert_eq!(unmap(1 << 127 | mapped(1)), None);
    }
}
