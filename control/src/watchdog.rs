//! Notices a worker that hangs.
//!
//! A worker's heartbeat grows at least twice a second. It is compared every
//! [`PERIOD`], and periods are counted rather than time: a process that was
//! stopped as a whole, or a machine that was suspended, has not counted any.
//!
//! It is a thread of its own: the control thread waits for workers now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ringway_worker::Load;

use crate::health::Health;

/// How often the heartbeats are looked at.
const PERIOD: Duration = Duration::from_millis(250);
/// Looks without growth before a worker counts as hanging: 1.5 s, so that the
/// process has ended two seconds after its last heartbeat.
const MISSED: u32 = 6;
/// Looks without growth of a worker that has nothing to do.
const USUAL: u32 = 3;

/// Watches from a thread of its own, and says so while all is well; calls `hangs` with the reason when a worker does, and ends.
pub(super) fn spawn(
    loads: Vec<Arc<Load>>,
    health: Arc<Health>,
    hangs: impl FnOnce(String) + Send + 'static,
) -> std::io::Result<()> {
    let watch = move || {
        let mut dog = Watchdog::default();
        loop {
            std::thread::sleep(PERIOD);
            let beats = loads.iter().map(|load| load.rounds.load(Relaxed));
            if let Some(worker) = dog.look(beats) {
                return hangs(format!("worker {worker} hangs: no heartbeat for 1.5 s"));
            }
            if dog.all_well() {
                health.beat();
            }
        }
    };
    let builder = std::thread::Builder::new().name("watchdog".into());
    builder.spawn(watch).map(drop)
}

/// What was last seen of each worker.
#[derive(Debug, Default)]
struct Watchdog {
    seen: Vec<(u64, u32)>,
}

impl Watchdog {
    /// Whether each has grown within the second.
    fn all_well(&self) -> bool {
        self.seen.iter().all(|(_, missed)| *missed <= USUAL)
    }

    /// Looks at all heartbeats; the number of a worker that hangs.
    fn look(&mut self, heartbeats: impl Iterator<Item = u64>) -> Option<usize> {
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
        assert!(!dog.all_well());
    }

    #[test]
    fn a_hang_is_told_within_two_seconds() {
        let loads = vec![Arc::new(Load::default())];
        let (sender, told) = std::sync::mpsc::channel();
        let health = Arc::new(Health::default());
        spawn(loads, health, move |reason| sender.send(reason).unwrap()).unwrap();
        let reason = told.recv_timeout(Duration::from_secs(2)).unwrap();
        assert!(reason.starts_with("worker 0 hangs"), "{reason}");
    }

    #[test]
    fn a_slow_one_is_left_alone() {
        let mut dog = Watchdog::default();
        for n in 0..100u64 {
            // Grows every half second: every second look.
            assert_eq!(dog.look([n / 2].into_iter()), None);
            assert!(dog.all_well());
        }
    }
}
