//! How often one place in the program may log.
//!
//! A token bucket for each place: something that goes wrong for each of a thousand packets or pods would push what
//! matters out of a journal that has an end. What was left out is counted and stands in the next line of that place,
//! as `left_out`, and in `ringway log`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;

/// Lines of one place at once: more than a node has pods (110, by a kubelet's default).
const BURST: u32 = 256;
/// A line more each.
const INTERVAL: Duration = Duration::from_millis(200);

/// Of this process.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines of this process that were left out since it began.
pub fn left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Whether a line is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Yes,
    /// The first after so many were not.
    YesAfter(u64),
    No,
}

struct Bucket {
    tokens: u32,
    refilled: Instant,
    left_out: u64,
}

/// The buckets.
#[derive(Default)]
pub(crate) struct Limits {
    // As many entries as places in the program.
    buckets: Mutex<HashMap<Identifier, Bucket>>,
}

impl Limits {
    pub(crate) fn admit(&self, place: Identifier, now: Instant) -> Admission {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(place).or_insert(Bucket {
            tokens: BURST,
            refilled: now,
            left_out: 0,
        });
        let intervals =
            now.saturating_duration_since(bucket.refilled).as_nanos() / INTERVAL.as_nanos();
        if intervals >= u128::from(BURST) {
            (bucket.tokens, bucket.refilled) = (BURST, now);
        } else {
            let more = intervals as u32;
            bucket.tokens = BURST.min(bucket.tokens + more);
            bucket.refilled += INTERVAL * more;
        }
        if bucket.tokens == 0 {
            bucket.left_out += 1;
            LEFT_OUT.fetch_add(1, Relaxed);
            return Admission::No;
        }
        bucket.tokens -= 1;
        match std::mem::take(&mut bucket.left_out) {
            0 => Admission::Yes,
            lines => Admission::YesAfter(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Callsite;
    use tracing::metadata::LevelFilter;

    /// Two places.
    fn places() -> (Identifier, Identifier) {
        struct Place;
        impl Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("{:?}", LevelFilter::OFF)
            }
        }
        // Not of zero size: places are told apart by their address.
        struct Wide(
            #[allow(dead_code, reason = "only its size counts")] u64,
            Place,
        );
        impl Callsite for Wide {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                self.1.metadata()
            }
        }
        static ONE: Wide = Wide(1, Place);
        static TWO: Wide = Wide(2, Place);
        (Identifier(&ONE), Identifier(&TWO))
    }

    #[test]
    fn a_place_that_repeats_is_held_and_says_what_was_left_out() {
        let (one, two) = places();
        let limits = Limits::default();
        let begin = Instant::now();
        let before = left_out();
        let admitted = (0..1000).filter(|_| limits.admit(one.clone(), begin) == Admission::Yes);
        assert_eq!(admitted.count() as u32, BURST);
        assert!(left_out() >= before + 1000 - u64::from(BURST));
        assert_eq!(limits.admit(two, begin), Admission::Yes, "another place");
        let soon = begin + INTERVAL / 2;
        assert_eq!(limits.admit(one.clone(), soon), Admission::No);
        let missed = u64::from(1001 - BURST);
        let later = begin + INTERVAL;
        assert_eq!(
            limits.admit(one.clone(), later),
            Admission::YesAfter(missed)
        );
        assert_eq!(limits.admit(one.clone(), later), Admission::No);
        // After a long while as at first, whatever the clock's step.
        let much_later = begin + Duration::from_secs(86_400 * 365 * 10);
        assert_eq!(
            limits.admit(one.clone(), much_later),
            Admission::YesAfter(1)
        );
        let admitted =
            (0..1000).filter(|_| limits.admit(one.clone(), much_later) == Admission::Yes);
        assert_eq!(admitted.count() as u32, BURST - 1);
        // A clock that goes back is no reason to lose anything.
        assert_eq!(limits.admit(one, begin), Admission::No);
    }
}
