//! Pauses between attempts.
//!
//! They grow from one second to thirty, each is anything between half and the whole of it, so that five thousand agents
//! do not come back to a server in the same second.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// How long to wait before the next attempt.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Self::SHORTEST)
    }
}

impl Pause {
    /// The first one.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest.
    pub(crate) const LONGEST: Duration = Duration::from_secs(30);

    /// The next one: longer than the one before.
    pub(crate) fn longer(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(Self::LONGEST);
        whole / 2 + Self::jitter(whole / 2)
    }

    /// Anything from nothing to `most`. Every `RandomState` has keys of its own: enough to keep agents apart.
    pub(crate) fn jitter(most: Duration) -> Duration {
        let random = RandomState::new().build_hasher().finish();
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random % nanos.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_thirty_seconds_and_differ() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..8).map(|_| pause.longer()).collect();
        for (pause, whole) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            let whole = Duration::from_secs(whole);
            assert!(*pause >= whole / 2 && *pause <= whole, "{pauses:?}");
        }
        assert_ne!(pauses[6], pauses[7]);
    }
}
