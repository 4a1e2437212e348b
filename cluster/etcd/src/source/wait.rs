//! How long to wait before the servers are tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from 100 ms to 5 s.
pub(super) struct Wait(Duration);

impl Wait {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// It has worked: the next wait is a short one.
    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// The next wait: half of it by chance, so that the nodes of a cluster do not come all at once.
    pub(super) fn next(&mut self) -> Duration {
        let half = self.0 / 2;
        self.0 = (self.0 * 2).min(LONGEST);
        let chance = RandomState::new().hash_one(0) % 1000;
        half + half * u32::try_from(chance).unwrap_or(0) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_five_seconds_and_begins_anew() {
        let mut wait = Wait::new();
        for longest in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let next = wait.next();
            let range = Duration::from_millis(longest / 2)..=Duration::from_millis(longest);
            assert!(range.contains(&next), "{next:?} is not in {range:?}");
        }
        wait.reset();
        assert!(wait.next() <= FIRST);
    }
}
