//! How often values of which size were seen: buckets whose bounds are powers of two, so that finding one costs a
//! count of leading zeros. Each cell has one writer, as [counters](ringway_switch::counters) have.

use ringway_switch::counters::Cell;

/// `N` buckets: values up to 2^`LEAST`, then up to twice that, and so on; the last has all that is larger.
#[derive(Debug)]
pub struct Histogram<const LEAST: u32, const N: usize> {
    buckets: [Cell; N],
    sum: Cell,
}

impl<const LEAST: u32, const N: usize> Default for Histogram<LEAST, N> {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Cell::default()),
            sum: Cell::default(),
        }
    }
}

impl<const LEAST: u32, const N: usize> Histogram<LEAST, N> {
    /// Enters a value; only the one writer may call it.
    #[inline]
    pub fn add(&self, value: u64) {
        let bits = u64::BITS - value.saturating_sub(1).leading_zeros();
        let bucket = bits.saturating_sub(LEAST) as usize;
        self.buckets[bucket.min(N - 1)].add(1);
        self.sum.add(value);
    }

    /// Each bucket's upper bound (`None`: there is none) and how many values are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bound = |i: usize| (i < N - 1).then(|| 1 << (LEAST as usize + i));
        let cells = self.buckets.iter().enumerate();
        cells.map(move |(i, cell)| (bound(i), cell.get()))
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_takes_it() {
        let histogram = Histogram::<2, 4>::default();
        let all = [0, 1, 4, 5, 8, 9, 16, 17, u64::MAX];
        for value in all {
            histogram.add(value);
        }
        let expected = [(Some(4), 3), (Some(8), 2), (Some(16), 2), (None, 2)];
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), expected);
        let sum = all.into_iter().fold(0, u64::wrapping_add);
        assert_eq!(histogram.sum(), sum);
        // From one on.
        let frames = Histogram::<0, 3>::default();
        [0, 1, 2, 3, 64].into_iter().for_each(|n| frames.add(n));
        let expected = [(Some(1), 2), (Some(2), 1), (None, 2)];
        assert_eq!(frames.buckets().collect::<Vec<_>>(), expected);
    }
}
