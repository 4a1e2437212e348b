//! A token bucket that several workers share without a lock.
//!
//! It is kept as a virtual clock (GCRA, as in ITU-T I.371 annex A), but one that counts bytes, not time:
//!
//! ```text
//!   earned(now) = now × rate                    bytes that the rate has allowed since the clock began
//!   spent       = max(spent, earned) + bytes    with each frame; one atomic word is the whole state
//!   level       = burst − (spent − earned)      what may go at once; `burst` when nothing is owed
//! ```
//!
//! `earned` is computed anew from `now` each time, so that nothing is rounded twice and the rate does not
//! drift. A frame larger than the burst passes a full bucket and leaves it in debt. `now` is monotonic
//! nanoseconds on one clock for all who share the bucket; one that lags sees fewer tokens, not more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Highest rate, in bytes per second (1 Tbit/s): above it the byte count would run over within years.
pub const MAX_RATE: u64 = 125_000_000_000;
/// Largest burst, in bytes.
pub const MAX_BURST: u64 = 1 << 40;

const SECOND: u128 = 1_000_000_000;

/// A token bucket of bytes.
#[derive(Debug)]
pub struct Bucket {
    rate: u64,
    burst: u64,
    spent: AtomicU64,
}

impl Bucket {
    /// A full bucket of `burst` bytes that fills at `rate` bytes per second; both are brought into
    /// 1 to [`MAX_RATE`] and 1 to [`MAX_BURST`].
    pub fn new(rate: u64, burst: u64) -> Bucket {
        Bucket {
            rate: rate.clamp(1, MAX_RATE),
            burst: burst.clamp(1, MAX_BURST),
            spent: AtomicU64::new(0),
        }
    }

    /// Bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Bytes that may go at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Bytes that may go now; below zero is what is owed.
    pub fn level(&self, now: u64) -> i64 {
        self.level_of(self.spent.load(Relaxed), self.earned(now))
    }

    /// Takes tokens for a frame, if there are enough or the bucket is full. `false`: nothing was taken.
    pub fn try_take(&self, now: u64, bytes: u64) -> bool {
        let earned = self.earned(now);
        let least = i64::try_from(bytes.min(self.burst)).unwrap_or(i64::MAX);
        self.spent
            .fetch_update(Relaxed, Relaxed, |spent| {
                (self.level_of(spent, earned) >= least)
                    .then(|| spent.max(earned).saturating_add(bytes))
            })
            .is_ok()
    }

    /// Takes tokens for what has passed already, into debt if need be.
    pub fn charge(&self, now: u64, bytes: u64) {
        self.spend(now, bytes);
    }

    /// Takes tokens for what is to pass later, and returns when that is. Whoever reserves has a place in
    /// the line: others who share the bucket cannot be faster each time.
    pub fn reserve(&self, now: u64, bytes: u64) -> u64 {
        let before = self.spend(now, bytes);
        self.ready_after(before, now, bytes)
    }

    /// Takes tokens whether there are any or not; what was spent before.
    fn spend(&self, now: u64, bytes: u64) -> u64 {
        let earned = self.earned(now);
        let taken = self.spent.fetch_update(Relaxed, Relaxed, |spent| {
            Some(spent.max(earned).saturating_add(bytes))
        });
        // Cannot fail: the closure always gives a value.
        let (Ok(before) | Err(before)) = taken;
        before
    }

    /// Gives back what was reserved and not used.
    pub fn give_back(&self, bytes: u64) {
        // Cannot fail: the closure always gives a value.
        let _ = self
            .spent
            .fetch_update(Relaxed, Relaxed, |spent| Some(spent.saturating_sub(bytes)));
    }

    /// When the level will be `bytes`, or the bucket full, after so much was spent and if nobody takes
    /// anything meanwhile; `now` if it is already.
    fn ready_after(&self, spent: u64, now: u64, bytes: u64) -> u64 {
        let needed = bytes.min(self.burst);
        let earned = spent.saturating_sub(self.burst - needed);
        self.nanoseconds_for(earned).max(now)
    }

    /// Bytes that pass in a time, in nanoseconds.
    pub fn bytes_in(&self, nanoseconds: u64) -> u64 {
        self.earned(nanoseconds)
    }

    /// Time in which so many bytes pass, in nanoseconds.
    pub fn nanoseconds_for(&self, bytes: u64) -> u64 {
        let time = (u128::from(bytes) * SECOND).div_ceil(u128::from(self.rate));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    fn earned(&self, now: u64) -> u64 {
        let bytes = u128::from(now) * u128::from(self.rate) / SECOND;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn level_of(&self, spent: u64, earned: u64) -> i64 {
        let owed = i64::try_from(spent.saturating_sub(earned)).unwrap_or(i64::MAX);
        // A burst is far below `i64::MAX`, and a difference of two values that are not negative fits.
        self.burst as i64 - owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000_000_000;

    #[test]
    fn a_burst_at_once_then_the_rate() {
        let bucket = Bucket::new(1_000_000, 10_000);
        let start = 7 * S;
        let sent = (0..100).filter(|_| bucket.try_take(start, 1000)).count();
        assert_eq!((sent, bucket.level(start)), (10, 0));
        assert!(!bucket.try_take(start + MS - 1, 1000));
        assert!(bucket.try_take(start + MS, 1000));
        assert_eq!(bucket.level(start + 100 * MS), 10_000, "no more than full");
    }

    #[test]
    fn a_superframe_larger_than_the_burst_passes_a_full_bucket_and_is_paid_for() {
        let bucket = Bucket::new(1_000_000, 1500);
        assert!(bucket.try_take(S, 65_000));
        assert_eq!(bucket.level(S), 1500 - 65_000);
        assert!(!bucket.try_take(S + 64 * MS, 1500));
        assert!(!bucket.try_take(S + 65 * MS - 1, 1500));
        assert!(bucket.try_take(S + 65 * MS, 1500));
    }

    #[test]
    fn what_has_passed_is_charged_into_debt() {
        let bucket = Bucket::new(1000, 100);
        bucket.charge(S, 1100);
        assert_eq!(bucket.level(S), -1000);
        assert_eq!(bucket.level(2 * S), 0);
        assert_eq!(bucket.reserve(S, 1), S + 1_001 * MS);
        assert_eq!(bucket.reserve(3 * S, 1), 3 * S, "not in the past");
    }

    #[test]
    fn those_who_reserve_have_a_place_in_the_line() {
        let bucket = Bucket::new(1_000_000, 1000);
        let at = [1000, 1000, 500].map(|bytes| bucket.reserve(S, bytes));
        assert_eq!(at, [S, S + MS, S + MS + MS / 2]);
        assert!(!bucket.try_take(S + MS / 2, 1));
        assert_eq!(bucket.level(S), 1000 - 2500);
        bucket.give_back(1500);
        assert_eq!(bucket.level(S), 0);
    }

    #[test]
    fn no_rate_and_no_moment_overflows() {
        for rate in [0, 1, 125, MAX_RATE, u64::MAX] {
            for burst in [0, 1, u64::MAX] {
                let bucket = Bucket::new(rate, burst);
                for now in [0, u64::MAX, 1, u64::MAX / 2, 0] {
                    bucket.charge(now, u64::MAX);
                    bucket.try_take(now, u64::MAX);
                    bucket.reserve(now, u64::MAX);
                    let _ = bucket.level(now);
                    bucket.give_back(u64::MAX);
                }
            }
        }
    }

    #[test]
    fn those_who_share_it_have_no_more_together() {
        let bucket = Bucket::new(1, 100_000);
        let sent: usize = std::thread::scope(|scope| {
            let one = || (0..1000).filter(|_| bucket.try_take(0, 100)).count();
            let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(sent, 1000);
    }

    proptest! {
        /// A sender that always has something gets its rate, exactly, whatever its frames are. (A burst
        /// that is no more than a frame loses what comes in the rest of a nanosecond.)
        #[test]
        fn the_long_run_rate_is_exact(
            rate in 125u64..MAX_RATE,
            burst in 70_200u64..10_000_000,
            sizes in proptest::collection::vec(60u64..70_000, 1..50),
        ) {
            let bucket = Bucket::new(rate, burst);
            let (mut now, mut sent, start) = (S, 0u64, S);
            for bytes in sizes.iter().cycle().take(20_000) {
                now = bucket.reserve(now, *bytes);
                sent += bytes;
            }
            // What the rate would have sent by the last frame, which may still be owed.
            let expected = u128::from(now - start) * u128::from(rate) / SECOND;
            let slack = u128::from(burst + 70_000);
            prop_assert!(u128::from(sent) <= expected + slack);
            prop_assert!(u128::from(sent) + 1 >= expected);
            if expected > 2000 * slack {
                let off = u128::from(sent).abs_diff(expected);
                prop_assert!(off * 1000 <= expected, "{sent} bytes, not {expected}");
            }
        }

        /// In no span of time passes more than the burst (or one frame larger than it) and the rate.
        #[test]
        fn the_burst_is_a_bound_in_every_span(
            rate in 125u64..100_000_000,
            burst in 1u64..200_000,
            steps in proptest::collection::vec((0u64..20 * MS, 1u64..70_000), 1..200),
        ) {
            let bucket = Bucket::new(rate, burst);
            let mut now = 0;
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for (pause, bytes) in steps {
                now += pause;
                if bucket.try_take(now, bytes) {
                    passed.push((now, bytes));
                }
            }
            for first in 0..passed.len() {
                let mut sum = 0;
                for (at, bytes) in &passed[first..] {
                    sum += bytes;
                    let span = u128::from(at - passed[first].0);
                    let earned = (span * u128::from(rate)).div_ceil(SECOND) as u64;
                    // The last one may have been larger than the burst.
                    let most = burst.max(*bytes) + earned + 1;
                    prop_assert!(sum <= most, "{sum} bytes within {span} ns, not {most}");
                }
            }
        }

        /// A clock that goes back, or jumps, makes nobody panic and gives nobody more than the latest
        /// moment allows.
        #[test]
        fn any_clock_will_do(
            rate in 0u64.., burst in 0u64..,
            steps in proptest::collection::vec((0u64.., 0u64..100_000, any::<bool>()), 1..100),
        ) {
            let bucket = Bucket::new(rate, burst);
            let (mut sent, mut latest, mut largest) = (0u128, 0, 0);
            for (now, bytes, by_force) in steps {
                latest = latest.max(now);
                let _ = bucket.level(now);
                if by_force {
                    bucket.charge(now, bytes);
                } else if bucket.try_take(now, bytes) {
                    sent += u128::from(bytes);
                    largest = largest.max(bytes);
                }
            }
            let earned = u128::from(latest) * u128::from(bucket.rate()) / SECOND;
            prop_assert!(sent <= earned + u128::from(bucket.burst() + largest));
        }
    }
}
