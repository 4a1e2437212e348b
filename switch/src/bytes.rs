//! Big-endian fields of a header whose extent `parse` has checked.

pub(crate) use ringway_packet::bytes::{be16, be32, be128};
use ringway_packet::mac::MacAddr;

#[inline]
pub(crate) fn mac(b: &[u8], at: usize) -> MacAddr {
    let mut octets = [0; 6];
    octets.copy_from_slice(&b[at..at + 6]);
    MacAddr(octets)
}

/// `fe80::/10`
#[inline]
pub(crate) fn is_link_local(a: u128) -> bool {
    a >> 118 == 0xfe80 >> 6
}

/// `ff00::/8`
#[inline]
pub(crate) fn is_multicast6(a: u128) -> bool {
    a >> 120 == 0xff
}

/// Source address of an IPv4 header at `at`.
#[inline]
pub(crate) fn src4(b: &[u8], at: usize) -> u32 {
    be32(b, at + 12)
}

/// Destination address of an IPv4 header at `at`.
#[inline]
pub(crate) fn dst4(b: &[u8], at: usize) -> u32 {
    be32(b, at + 16)
}

/// Source address of an IPv6 header at `at`.
#[inline]
pub(crate) fn src6(b: &[u8], at: usize) -> u128 {
    be128(b, at + 8)
}

/// Destination address of an IPv6 header at `at`.
#[inline]
pub(crate) fn dst6(b: &[u8], at: usize) -> u128 {
    be128(b, at + 24)
}
