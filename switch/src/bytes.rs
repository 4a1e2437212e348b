//! Big-endian fields of a header whose extent `parse` has checked, and kinds of addresses.

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

/// Destinations that can never be right behind a gateway (RFC 6890): "this network", loopback, multicast and
/// broadcast. Link-local and reserved ones the node's stack may have, or routes for.
pub(crate) fn is_martian4(a: u32) -> bool {
    matches!(a >> 24, 0 | 127 | 224..=239) || a == u32::MAX
}

/// The same for IPv6: unspecified, loopback and multicast.
pub(crate) fn is_martian6(a: u128) -> bool {
    a <= 1 || is_multicast6(a)
}
