//! Whether the agent is well, for a supervisor that asks: no thread that may be busy is needed for the answer.
//!
//! `live`: every worker has its heartbeat. `ready`: packets of pods are forwarded, too. Neither depends on what a
//! source says or whether it can be reached: a node that forwards by what it knew last is ready.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old the last look at the heartbeats may be: the watchdog looks four times a second, and ends a process
/// whose worker hangs within two seconds.
const OLDEST: Duration = Duration::from_secs(3);

/// Written by the watchdog and the control thread, read by anybody.
#[derive(Debug)]
pub struct Health {
    begun: Instant,
    /// Milliseconds from the beginning to when every worker had its heartbeat.
    beat_ms: AtomicU64,
    ready: Mutex<Result<(), String>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            beat_ms: AtomicU64::new(0),
            ready: Mutex::new(Err("the agent is starting".into())),
        }
    }
}

impl Health {
    /// Every worker has its heartbeat.
    pub(super) fn beat(&self) {
        let now = self.begun.elapsed().as_millis();
        self.beat_ms
            .store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
    }

    /// Whether packets of pods are forwarded, or why not.
    pub(super) fn set_ready(&self, ready: Result<(), String>) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    /// Whether the workers live.
    ///
    /// # Errors
    /// The reason why not, in a line.
    pub fn live(&self) -> Result<(), String> {
        let beat = Duration::from_millis(self.beat_ms.load(Relaxed));
        let age = self.begun.elapsed().saturating_sub(beat);
        match age > OLDEST {
            false => Ok(()),
            true => Err(format!(
                "no heartbeat of every worker for {} s",
                age.as_secs()
            )),
        }
    }

    /// Whether packets of pods are forwarded.
    ///
    /// # Errors
    /// The reason why not, in a line.
    pub fn ready(&self) -> Result<(), String> {
        self.live()?;
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_holds_for_three_seconds() {
        let begun = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let health = Health {
            begun,
            ..Health::default()
        };
        let why = health.live().unwrap_err();
        assert!(why.contains("for 60 s"), "{why}");
        health.set_ready(Ok(()));
        // Forwarding without workers is none.
        assert_eq!(health.ready().unwrap_err(), health.live().unwrap_err());
        health.beat();
        assert_eq!((health.live(), health.ready()), (Ok(()), Ok(())));
        health.beat_ms.store(56_900, Relaxed);
        assert!(health.live().is_err());
    }

    #[test]
    fn it_is_ready_when_told_and_not_before() {
        let health = Health::default();
        assert_eq!(health.live(), Ok(()));
        assert!(health.ready().unwrap_err().contains("starting"));
        health.set_ready(Err("no network".into()));
        assert_eq!(health.ready(), Err("no network".into()));
        health.set_ready(Ok(()));
        assert_eq!(health.ready(), Ok(()));
    }
}
