//! Pauses between attempts.
//!
//! They double, and each is anything between half and the whole of it, so that five thousand agents do not come back
//! to a server in the same second.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug)]
pub struct Pause {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    /// From the first pause to the longest.
    pub fn between(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            next: shortest,
        }
    }

    /// The next one: longer than the one before.
    pub fn longer(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        whole / 2 + Self::jitter(whole / 2)
    }

    /// It has worked: the next one is the first.
    pub fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// Anything from nothing to `most`. Every `RandomState` has keys of its own: enough to keep agents apart.
    pub fn jitter(most: Duration) -> Duration {
        let random = RandomState::new().hash_one(0);
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random % nanos.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_differ_and_begin_anew() {
        for (shortest, longest, wholes) in [
            (
                1000,
                30_000,
                [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000],
            ),
            (100, 5000, [100, 200, 400, 800, 1600, 3200, 5000, 5000]),
        ] {
            let [shortest, longest] = [shortest, longest].map(Duration::from_millis);
            let mut pause = Pause::between(shortest, longest);
            let pauses: Vec<Duration> = (0..8).map(|_| pause.longer()).collect();
            for (pause, whole) in pauses.iter().zip(wholes) {
                let whole = Duration::from_millis(whole);
                assert!(*pause >= whole / 2 && *pause <= whole, "{pauses:?}");
            }
            assert_ne!(pauses[6], pauses[7]);
            pause.reset();
            assert!(pause.longer() <= shortest);
        }
    }
}
