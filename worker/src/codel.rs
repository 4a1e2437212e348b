//! CoDel, controlled delay (RFC 8289): when a queue in which everything stands too long has a packet marked or dropped.
//!
//! A burst stands long and is gone within an interval. What does not go away is what senders have on the way
//! beyond what is of use; they are told one by one, ever faster until it gets less.

/// What a packet may stand, in nanoseconds: `TARGET`, section 4.3.
const TARGET: u64 = 5_000_000;
/// How long all of them may stand longer: `INTERVAL`, section 4.3.
const INTERVAL: u64 = 100_000_000;

/// The state of one queue; times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codel {
    /// When an interval has passed in which all stood too long; 0: the last one did not.
    first_above: u64,
    /// When the next one is told, while some are.
    next: u64,
    count: u32,
    /// That of when it was last begun.
    last_count: u32,
    dropping: bool,
}

impl Codel {
    /// Whether the flow of a packet is to be told, which stood so long; `last`: nothing is behind it in the queue.
    /// Section 5.3.
    pub(crate) fn is_congested(&mut self, stood: u64, last: bool, now: u64) -> bool {
        let above = self.is_above(stood, last, now);
        if !self.dropping {
            if above {
                self.begin(now);
            }
            return self.dropping;
        }
        self.dropping = above;
        let tell = above && now >= self.next;
        if tell {
            self.count += 1;
            self.next = self.after(self.next);
        }
        tell
    }

    fn is_above(&mut self, stood: u64, last: bool, now: u64) -> bool {
        if stood < TARGET || last {
            self.first_above = 0;
            return false;
        }
        if self.first_above == 0 {
            self.first_above = now + INTERVAL;
            return false;
        }
        now >= self.first_above
    }

    /// If it was done of late, it goes on about as fast.
    fn begin(&mut self, now: u64) {
        let delta = self.count.wrapping_sub(self.last_count);
        let of_late = now.saturating_sub(self.next) < 16 * INTERVAL;
        self.count = if delta > 1 && of_late { delta } else { 1 };
        self.last_count = self.count;
        self.dropping = true;
        self.next = self.after(now);
    }

    /// The control law: `INTERVAL` by the square root of how many were told.
    fn after(&self, at: u64) -> u64 {
        at + (INTERVAL as f64 / f64::from(self.count).sqrt()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// One packet a millisecond that stood so long: at which moments, in ms, one was told.
    fn told(codel: &mut Codel, ms: std::ops::Range<u64>, stood: u64) -> Vec<u64> {
        ms.filter(|ms| codel.is_congested(stood, false, ms * MS))
            .collect()
    }

    #[test]
    fn what_stands_too_long_for_an_interval_is_told_ever_faster() {
        let mut codel = Codel::default();
        assert_eq!(told(&mut codel, 1000..3000, TARGET - 1), []);
        let all = told(&mut codel, 3000..3600, TARGET);
        // 100 ms later, and then after 100, 100/√2, 100/√3, …
        assert_eq!(all[..5], [3100, 3200, 3271, 3329, 3379]);
    }

    #[test]
    fn a_burst_is_left_alone() {
        let mut codel = Codel::default();
        for begin in (1000..5000).step_by(100) {
            assert_eq!(told(&mut codel, begin..begin + 98, 20 * MS), []);
            assert_eq!(told(&mut codel, begin + 98..begin + 100, MS), []);
        }
        // So is a queue that is found empty now and then, however long that took.
        let mut codel = Codel::default();
        for ms in 1000..5000 {
            assert!(!codel.is_congested(20 * MS, ms % 50 == 0, ms * MS));
        }
    }

    #[test]
    fn what_comes_back_soon_is_told_about_as_fast() {
        let mut codel = Codel::default();
        let first = told(&mut codel, 1000..2000, 10 * MS).len();
        assert_eq!(told(&mut codel, 2000..2100, MS), []);
        let again = told(&mut codel, 2100..2400, 10 * MS);
        assert_eq!(again[0], 2200);
        assert!(again[1] - again[0] < 40, "{again:?} after {first}");
        // Long after, it begins anew.
        assert_eq!(told(&mut codel, 2400..9000, MS), []);
        assert_eq!(told(&mut codel, 9000..9250, 10 * MS), [9100, 9200]);
    }
}
