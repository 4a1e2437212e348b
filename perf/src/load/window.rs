//! Which sequence numbers have come: a bit for each of the last million.

/// Sequence numbers remembered.
const SIZE: u64 = 1 << 20;

/// What a sequence number is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Seen {
    /// Above all before it.
    Highest,
    /// The first of its number, after a higher one.
    Behind,
    /// Not the first of its number.
    Duplicate,
    /// Too far back to know whether it is the first.
    Old,
}

/// The window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    bits: Vec<u64>,
    /// One above the highest seen.
    next: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            bits: vec![0; (SIZE / 64) as usize],
            next: 0,
        }
    }
}

impl Window {
    /// Notes a number.
    #[inline]
    pub(super) fn see(&mut self, seq: u64) -> Seen {
        if seq >= self.next {
            // What slides in between has not come.
            if seq - self.next >= SIZE {
                self.bits.fill(0);
            } else {
                for skipped in self.next..seq {
                    self.set(skipped, false);
                }
            }
            self.set(seq, true);
            self.next = seq.saturating_add(1);
            return Seen::Highest;
        }
        if self.next - seq > SIZE {
            return Seen::Old;
        }
        let (word, bit) = Self::place(seq);
        if self.bits[word] & bit != 0 {
            return Seen::Duplicate;
        }
        self.bits[word] |= bit;
        Seen::Behind
    }

    /// One above the highest number seen.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn place(seq: u64) -> (usize, u64) {
        let at = seq % SIZE;
        ((at / 64) as usize, 1 << (at % 64))
    }

    #[inline]
    fn set(&mut self, seq: u64, value: bool) {
        let (word, bit) = Self::place(seq);
        match value {
            true => self.bits[word] |= bit,
            false => self.bits[word] &= !bit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_repetition_and_gaps() {
        let mut window = Window::default();
        let found: Vec<Seen> = [0, 1, 3, 2, 2, 3, 10, 0]
            .map(|seq| window.see(seq))
            .to_vec();
        use Seen::{Behind, Duplicate, Highest};
        assert_eq!(
            found,
            [
                Highest, Highest, Highest, Behind, Duplicate, Duplicate, Highest, Duplicate
            ]
        );
        assert_eq!(window.next(), 11);
    }

    #[test]
    fn the_window_slides_and_forgets() {
        let mut window = Window::default();
        // A full turn: bits of the turn before must not be taken for these.
        for seq in 0..3 * SIZE {
            assert_eq!(window.see(seq), Seen::Highest);
        }
        assert_eq!(window.see(2 * SIZE), Seen::Duplicate);
        assert_eq!(window.see(2 * SIZE - 1), Seen::Old);
        // A gap right above: none of it has come.
        assert_eq!(window.see(3 * SIZE + 100), Seen::Highest);
        assert_eq!(window.see(3 * SIZE + 50), Seen::Behind);
        // Whatever a hostile number is, it costs no more than one window.
        assert_eq!(window.see(u64::MAX), Seen::Highest);
        assert_eq!(window.see(u64::MAX - 1), Seen::Behind);
        assert_eq!(window.see(5), Seen::Old);
    }
}
