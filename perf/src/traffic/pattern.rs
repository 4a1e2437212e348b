//! A byte stream both ends can make by themselves: xorshift64* from a seed, eight bytes at a time.
//!
//! The receiver compares every byte with what belongs at its offset. Unlike a digest at the end
//! this says where the first wrong byte is, and sees reordering, loss and repetition as well.

use std::fmt;

/// A position in a pseudo-random stream.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
    offset: u64,
}

/// The first byte that differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// Its offset in the stream.
    pub offset: u64,
    /// What should be there.
    pub wanted: u8,
    /// What is there.
    pub found: u8,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "byte {} is {:#04x}, not {:#04x}",
            self.offset, self.found, self.wanted
        )
    }
}

impl Pattern {
    /// The stream of `seed`, at its beginning.
    pub fn new(seed: u64) -> Pattern {
        // xorshift has no way out of zero, and neighbouring seeds must not look alike.
        let state = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1;
        Pattern {
            state,
            word: [0; 8],
            used: 8,
            offset: 0,
        }
    }

    /// Writes the next bytes of the stream.
    pub fn fill(&mut self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(out.len().min(8 - self.used));
        head.copy_from_slice(&self.word[self.used..self.used + head.len()]);
        self.used += head.len();
        self.offset += (head.len() + rest.len()) as u64;
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&next(&mut self.state).to_le_bytes());
        }
        let tail = words.into_remainder();
        if !tail.is_empty() {
            self.word = next(&mut self.state).to_le_bytes();
            tail.copy_from_slice(&self.word[..tail.len()]);
            self.used = tail.len();
        }
    }

    /// Compares the next bytes of the stream.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut wanted = [0; 4096];
        for part in bytes.chunks(wanted.len()) {
            let start = self.offset;
            let wanted = &mut wanted[..part.len()];
            self.fill(wanted);
            if let Some(at) = wanted.iter().zip(part).position(|(a, b)| a != b) {
                return Err(Mismatch {
                    offset: start + at as u64,
                    wanted: wanted[at],
                    found: part[at],
                });
            }
        }
        Ok(())
    }

    /// How far the stream has been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// The first `len` bytes of `seed`'s stream.
pub(super) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    Pattern::new(seed).fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_does_not_matter() {
        let whole = bytes(3, 10_000);
        for cut in [1, 3, 7, 8, 9, 4095, 4097] {
            let mut pattern = Pattern::new(3);
            for part in whole.chunks(cut) {
                pattern.check(part).unwrap();
            }
            assert_eq!(pattern.offset(), 10_000);
        }
        assert_ne!(bytes(3, 64), bytes(4, 64));
    }

    #[test]
    fn corruption_reordering_loss_and_repetition_are_seen() {
        let whole = bytes(1, 9000);
        let check = |stream: &[&[u8]]| {
            let mut pattern = Pattern::new(1);
            stream
                .iter()
                .try_for_each(|part| pattern.check(part))
                .map_err(|m| m.offset)
        };
        let mut flipped = whole.clone();
        flipped[8191] ^= 1;
        assert_eq!(check(&[&flipped]), Err(8191));
        let (a, b, c) = (&whole[..1448], &whole[1448..2896], &whole[2896..]);
        assert_eq!(check(&[a, b, c]), Ok(()));
        assert!(check(&[b, a, c]).is_err_and(|at| at < 8));
        assert!(check(&[a, c]).is_err_and(|at| (1448..1456).contains(&at)));
        assert!(check(&[a, b, b, c]).is_err_and(|at| (2896..2904).contains(&at)));
    }
}
