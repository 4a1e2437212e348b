//! Big-endian fields of a header whose extent `parse` has checked.

use ringway_packet::mac::MacAddr;

/// One bounds check and one load; byte by byte it would be `N` of each.
#[inline(always)]
fn octets<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&b[at..at + N]);
    octets
}

#[inline]
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets(b, at))
}

#[inline]
pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets(b, at))
}

#[inline]
pub(crate) fn be128(b: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(octets(b, at))
}

#[inline]
pub(crate) fn mac(b: &[u8], at: usize) -> MacAddr {
    MacAddr(octets(b, at))
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
