//! Big-endian fields at an offset whose presence the caller has checked. Out of range they panic,
//! so every module that uses them has one length gate in front.

/// One bounds check and one load; byte by byte it would be `N` of each.
#[inline(always)]
fn octets<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&b[at..at + N]);
    octets
}

/// 16 bits.
#[inline(always)]
pub fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets(b, at))
}

/// 32 bits.
#[inline(always)]
pub fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets(b, at))
}

/// 128 bits.
#[inline(always)]
pub fn be128(b: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(octets(b, at))
}

#[inline(always)]
pub(crate) fn put16(b: &mut [u8], at: usize, value: u16) {
    b[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline(always)]
pub(crate) fn put32(b: &mut [u8], at: usize, value: u32) {
    b[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[inline(always)]
pub(crate) fn put128(b: &mut [u8], at: usize, value: u128) {
    b[at..at + 16].copy_from_slice(&value.to_be_bytes());
}
