//! Rate limit of the ICMP errors that the switch sends.
//!
//! Token buckets in a small fixed table, chosen by where the offending frame came from, so that
//! one pod's scan does not silence the errors that another pod's path-MTU discovery needs.

/// Buckets; sources that fall into the same one share it.
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
    buckets: [Bucket; BUCKETS],
}

impl Default for Limiter {
    fn default() -> Self {
        Limiter {
            buckets: [Bucket {
                tokens: BURST,
                refilled: 0,
            }; BUCKETS],
        }
    }
}

impl Limiter {
    /// Whether one more error may be sent because of `source` at `now` (nanoseconds, monotonic).
    pub(crate) fn allow(&mut self, source: u32, now: u64) -> bool {
        let bucket = &mut self.buckets[source as usize % BUCKETS];
        let earned = now.saturating_sub(bucket.refilled) / INTERVAL_NS;
        if earned > 0 {
            bucket.tokens = bucket
                .tokens
                .saturating_add(earned.min(u64::from(BURST)) as u32)
                .min(BURST);
            bucket.refilled += earned * INTERVAL_NS;
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
