//! Rate limits of what the switch sends by itself: ICMP errors, answers to probes.
//!
//! Token buckets in a small fixed table, chosen by where the offending frame came from, so that
//! one pod's scan does not silence the errors that another pod's path-MTU discovery needs.

/// Buckets of ICMP errors; sources that fall into the same one share it.
const BUCKETS: usize = 256;
/// Errors that may be sent at once.
const BURST: u32 = 50;
/// Nanoseconds for one more error: 100 a second.
const INTERVAL_NS: u64 = 10_000_000;

#[derive(Clone, Copy)]
struct Bucket {
    tokens: u32,
    refilled: u64,
}

/// The table of buckets.
pub(crate) struct Limiter {
    buckets: Box<[Bucket]>,
    burst: u32,
    interval_ns: u64,
}

impl Default for Limiter {
    fn default() -> Self {
        Limiter::new(BUCKETS, BURST, INTERVAL_NS)
    }
}

impl Limiter {
    /// So many buckets; `burst` at once, and one more in each `interval_ns` nanoseconds.
    pub(crate) fn new(buckets: usize, burst: u32, interval_ns: u64) -> Self {
        let full = Bucket {
            tokens: burst,
            refilled: 0,
        };
        Limiter {
            buckets: vec![full; buckets].into(),
            burst,
            interval_ns,
        }
    }

    /// Whether one more may be sent because of `source` at `now` (nanoseconds, monotonic).
    pub(crate) fn allow(&mut self, source: u32, now: u64) -> bool {
        let at = source as usize % self.buckets.len();
        let bucket = &mut self.buckets[at];
        let earned = now.saturating_sub(bucket.refilled) / self.interval_ns;
        if earned > 0 {
            bucket.tokens = bucket
                .tokens
                .saturating_add(earned.min(u64::from(self.burst)) as u32)
                .min(self.burst);
            bucket.refilled += earned * self.interval_ns;
        }
        if bucket.tokens == 0 {
            return false;
        }
        bucket.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_hundred_a_second_per_source() {
        let mut l = Limiter::default();
        let start = 5_000_000_000;
        assert_eq!(
            (0..1000).filter(|_| l.allow(7, start)).count(),
            BURST as usize
        );
        assert!(l.allow(8, start), "another source has its own bucket");
        let sent = (0..10_000u64)
            .filter(|i| l.allow(7, start + i * 100_000))
            .count();
        assert!((99..=101).contains(&sent), "{sent} errors in one second");
    }
}
