//! The Internet checksum (RFC 1071), and its incremental update (RFC 1624).
//!
//! A [`Sum`] is the unfolded one's complement sum of little-endian 32-bit words. One's complement
//! sums do not care for byte order until they are folded (RFC 1071 section 2 B), so bytes are added
//! as they lie and swapped once in [`fold`]. The sum is kept modulo 2^64 − 1, of which 2^16 − 1 is a
//! divisor, so any number of sums can be added.
//!
//! The inner loop adds 64-bit words twice over, whole and shifted right by 32; the sum of the low
//! halves is the difference. That is three vector operations for 16 bytes with plain SSE2, and
//! nothing can overflow below 2^32 words.
//!
//! Measured on one core of a 2.6 GHz EPYC, plain x86-64 build, data in L2: 64 bytes in 2.2–2.7 ns
//! (24–29 GB/s), 1,400 bytes at 28–35 GB/s, 64 KB at 29–37 GB/s; about half of that with the sibling
//! hardware thread busy.

use std::ops::{Add, AddAssign};

/// An unfolded sum over an even number of bytes (an odd last byte counts as padded with zero).
#[derive(Copy, Clone, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// A 16-bit field with this value.
    #[inline]
    pub const fn of16(value: u16) -> Sum {
        Sum(value.swap_bytes() as u64)
    }

    /// A 32-bit field with this value.
    #[inline]
    pub const fn of32(value: u32) -> Sum {
        Sum(value.swap_bytes() as u64)
    }

    /// The same bytes one position later: what an odd number of bytes before them makes of a sum.
    #[inline]
    pub const fn swapped(self) -> Sum {
        Sum(self.0.rotate_left(8))
    }
}

impl Add for Sum {
    type Output = Sum;

    #[inline]
    fn add(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        // After a carry the low part is at most 2^64 − 2.
        Sum(sum + u64::from(carry))
    }
}

impl AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Sum) {
        *self = *self + other;
    }
}

/// The sum of `bytes`, at most 32 GB of them.
#[inline]
pub fn sum(bytes: &[u8]) -> Sum {
    let (mut total, rest) = if bytes.len() >= 2 * LINE {
        sum_lines(bytes)
    } else {
        (0, bytes)
    };
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    if !rest.is_empty() {
        let word = match bytes.last_chunk::<8>() {
            // Those before it have been added: they are shifted out.
            Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
            None => short_word(rest),
        };
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    Sum(total)
}

/// Fewer than eight bytes as the low ones of a word. Without a call, for which registers would be saved.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let number = |word: u64, byte: &u8| word << 8 | u64::from(*byte);
    bytes.iter().rev().fold(0, number)
}

/// Bytes per turn of the inner loop.
const LINE: usize = 64;

/// The sum of all whole lines, and what is left.
#[inline]
fn sum_lines(bytes: &[u8]) -> (u64, &[u8]) {
    let (lines, rest) = bytes.as_chunks::<LINE>();
    let mut whole = [0u64; LINE / 8];
    let mut high = [0u64; LINE / 8];
    for line in lines {
        let (words, _) = line.as_chunks::<8>();
        for i in 0..LINE / 8 {
            let word = u64::from_le_bytes(words[i]);
            whole[i] = whole[i].wrapping_add(word);
            high[i] += word >> 32;
        }
    }
    let mut total = 0;
    for i in 0..LINE / 8 {
        total += whole[i].wrapping_sub(high[i] << 32) + high[i];
    }
    (total, rest)
}

/// Folds to 16 bits, as the number that the two bytes mean in network order; not complemented. Over
/// data that includes a correct checksum this is 0xffff.
#[inline]
pub const fn fold(sum: Sum) -> u16 {
    let mut s = (sum.0 & 0xffff_ffff) + (sum.0 >> 32);
    s = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32);
    s = (s & 0xffff) + (s >> 16);
    s = (s & 0xffff) + (s >> 16);
    (s as u16).swap_bytes()
}

/// The checksum field for data with this sum: folded and complemented.
#[inline]
pub const fn finish(sum: Sum) -> u16 {
    !fold(sum)
}

/// As [`finish`], but never 0, which in a UDP header means "no checksum" (RFC 768).
#[inline]
pub const fn finish_udp(sum: Sum) -> u16 {
    match !fold(sum) {
        0 => 0xffff,
        value => value,
    }
}

/// IPv4 pseudo-header (RFC 9293 section 3.1). `len`: L4 header and payload.
#[inline]
pub const fn pseudo_v4(src: u32, dst: u32, proto: u8, len: usize) -> Sum {
    Sum(src.swap_bytes() as u64
        + dst.swap_bytes() as u64
        + (len as u32).swap_bytes() as u64
        + (proto as u32).swap_bytes() as u64)
}

/// IPv6 pseudo-header (RFC 8200 section 8.1). `len`: upper-layer header and payload.
#[inline]
pub const fn pseudo_v6(src: u128, dst: u128, proto: u8, len: usize) -> Sum {
    Sum(words128(src)
        + words128(dst)
        + (len as u32).swap_bytes() as u64
        + (proto as u32).swap_bytes() as u64)
}

#[inline]
const fn words128(a: u128) -> u64 {
    let a = a.swap_bytes();
    let (low, high) = (a as u64, (a >> 64) as u64);
    (low & 0xffff_ffff) + (low >> 32) + (high & 0xffff_ffff) + (high >> 32)
}

/// The checksum after a 16-bit field changed from `old` to `new` (RFC 1624 equation 3).
#[inline]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    let s = !checksum as u32 + !old as u32 + new as u32;
    let s = (s & 0xffff) + (s >> 16);
    !((s & 0xffff) + (s >> 16)) as u16
}

/// Sums pieces of one stretch of data in sequence, whatever their lengths.
#[derive(Copy, Clone, Default, Debug)]
pub struct Summer {
    sum: Sum,
    odd: bool,
}

impl Summer {
    /// Starts from `sum`, a pseudo-header for example.
    #[inline]
    pub const fn new(sum: Sum) -> Self {
        Summer { sum, odd: false }
    }

    /// The next piece.
    #[inline]
    pub fn add(&mut self, piece: &[u8]) {
        let s = sum(piece);
        self.sum += if self.odd { s.swapped() } else { s };
        self.odd ^= piece.len() % 2 == 1;
    }

    /// The sum of everything so far.
    #[inline]
    pub const fn sum(&self) -> Sum {
        self.sum
    }
}

/// Whether data in `pieces`, checksum field included, has a correct checksum. For L4, `pseudo` is
/// the pseudo-header and the first piece begins at the L4 header; for headers without one,
/// [`Sum::ZERO`].
#[inline]
pub fn verify<'a>(pseudo: Sum, pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut summer = Summer::new(pseudo);
    for piece in pieces {
        summer.add(piece);
    }
    fold(summer.sum()) == 0xffff
}

/// Whether an IPv4 header without options, which begins with 0x45, has a correct checksum. For the short
/// cuts: no loop and no fold.
#[inline(always)]
pub fn is_plain_ipv4_right(header: &[u8; 20]) -> bool {
    // Byte order does not matter here (RFC 1071 section 2 B), so no word is swapped; 32-bit words in
    // 64 bits need no carries before the fold.
    let words = header.as_chunks::<4>().0.iter();
    let sum: u64 = words.map(|w| u64::from(u32::from_le_bytes(*w))).sum();
    // The sum of a right header is a multiple of 0xffff; not 0, which the first byte excludes.
    sum.is_multiple_of(0xffff)
}

#[cfg(test)]
mod tests;
