//! How long a worker looks for more before it sleeps.
//!
//! As KVM polls before it halts a virtual CPU: a pause that a longer look would have bridged doubles the
//! next look, one that no look may bridge halves it. A request that is soon answered costs no wake-up,
//! and a pod that says something now and then costs no polling.

use std::time::Duration;

/// Shortest look: bulk traffic pauses for as long between two reads of an endpoint.
const LEAST: Duration = Duration::from_micros(20);

/// How long to look, now.
pub(super) struct Spin {
    most: Duration,
    now: Duration,
}

impl Spin {
    /// Looks for at most `most`, to begin with for the shortest time.
    pub(super) fn new(most: Duration) -> Spin {
        Spin {
            most,
            now: LEAST.min(most),
        }
    }

    /// Time after the last packet in which to look for more.
    pub(super) fn window(&self) -> Duration {
        self.now
    }

    /// A packet ended a sleep, so long after the one before.
    pub(super) fn woken(&mut self, pause: Duration) {
        self.now = if pause <= self.most {
            2 * self.now
        } else {
            self.now / 2
        }
        .clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn pauses_that_a_longer_look_would_bridge_make_it_longer() {
        let mut spin = Spin::new(us(100));
        let windows: Vec<_> = (0..4)
            .map(|_| {
                let window = spin.window();
                spin.woken(us(90));
                window
            })
            .collect();
        assert_eq!(windows, [us(20), us(40), us(80), us(100)]);
    }

    #[test]
    fn pauses_that_none_may_bridge_make_it_shorter() {
        let mut spin = Spin::new(us(100));
        (0..3).for_each(|_| spin.woken(us(100)));
        assert_eq!(spin.window(), us(100));
        let windows: Vec<_> = (0..4)
            .map(|_| {
                spin.woken(us(101));
                spin.window()
            })
            .collect();
        assert_eq!(windows, [us(50), us(25), us(20), us(20)]);
    }

    #[test]
    fn less_than_the_shortest_may_be_asked_for() {
        for most in [us(0), us(5)] {
            let mut spin = Spin::new(most);
            assert_eq!(spin.window(), most);
            spin.woken(us(1));
            assert_eq!(spin.window(), most);
            spin.woken(us(1000));
            assert_eq!(spin.window(), most);
        }
    }
}
