//! Notices a worker that hangs.
//!
//! A worker's heartbeat grows at least twice a second. It is compared every
//! [`PERIOD`], and periods are counted rather than time: a process that was
//! stopped as a whole, or a machine that was suspended, has not counted any.

use std::time::Duration;

/// How often the heartbeats are looked at.
pub(super) const PERIOD: Duration = Duration::from_millis(250);
/// Looks without growth before a worker counts as hanging: 1.5 s, so that the
/// process has ended two seconds after its last heartbeat.
const MISSED: u32 = 6;

/// What was last seen of each worker.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    seen: Vec<(u64, u32)>,
}

impl Watchdog {
    /// Looks at all heartbeats; the number of a worker that hangs.
    pub(super) fn look(&mut self, heartbeats: impl Iterator<Item = u64>) -> Option<usize> {
        let mut hanging = None;
        for (i, beat) in heartbeats.enumerate() {
            match self.seen.get_mut(i) {
                None => self.seen.push((beat, 0)),
                Some((last, missed)) if *last == beat => {
                    *missed += 1;
                    if *missed >= MISSED {
                        hanging = Some(i);
                    }
                }
                Some(seen) => *seen = (beat, 0),
            }
        }
        hanging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_hangs() {
        let mut dog = Watchdog::default();
        for n in 0..6 {
            assert_eq!(dog.look([n, 7].into_iter()), None, "look {n}");
        }
        assert_eq!(dog.look([6, 7].into_iter()), Some(1));
    }

    #[test]
    fn a_slow_one_is_left_alone() {
        let mut dog = Watchdog::default();
        for n in 0..100u64 {
            // Grows every half second: every second look.
            assert_eq!(dog.look([n / 2].into_iter()), None);
        }
    }
}
