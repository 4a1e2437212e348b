//! When each burst is due. No clock in here: `now` is an argument, in nanoseconds.
//!
//! Bursts are evenly spaced: packet `n` is due `n / rate` after the beginning, and a burst goes when its
//! first packet is due. Who is late catches up, but only a little: after a longer absence (the scheduler
//! took the CPU away) the rest of the schedule is moved back instead, for a volley of everything missed
//! would overflow the queues of whatever is tested. The rate reached is then below the one asked for, and
//! measured.

/// Most that is caught up: so many nanoseconds and packets, or four bursts if that is more.
const CATCH_UP: u64 = 1_000_000;
const CATCH_UP_PACKETS: u64 = 128;
/// Nanoseconds between bursts that are aimed at when the length of a burst is not given.
const INTERVAL: u64 = 40_000;
/// Longest burst.
pub(super) const LONGEST: usize = ringway_ports::raw::BATCH;
/// Burst of who sends as fast as can be.
const FLAT_OUT: usize = 32;

/// What to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing before then.
    Wait(u64),
    /// Send so many.
    Send(usize),
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: u64,
    burst: usize,
    begin: u64,
    done: u64,
    slipped: u64,
}

impl Pace {
    /// `rate` packets a second from `begin` on, 0: no pauses; in bursts of `burst`, 0: as many as keep
    /// bursts 40 µs apart, 1 to 32.
    pub fn new(rate: u64, burst: usize, begin: u64) -> Pace {
        let automatic = match rate {
            0 => FLAT_OUT,
            rate => (rate / (1_000_000_000 / INTERVAL)).clamp(1, FLAT_OUT as u64) as usize,
        };
        Pace {
            rate,
            burst: match burst {
                0 => automatic,
                burst => burst.min(LONGEST),
            },
            begin,
            done: 0,
            slipped: 0,
        }
    }

    /// Packets of a burst.
    pub fn burst(&self) -> usize {
        self.burst
    }

    /// Nanoseconds by which the schedule was moved back in all.
    pub fn slipped(&self) -> u64 {
        self.slipped
    }

    /// When packet `n` is due.
    fn due(&self, n: u64) -> u64 {
        let after = u128::from(n) * 1_000_000_000 / u128::from(self.rate.max(1));
        self.begin + self.slipped + after as u64
    }

    /// What to do at `now`. What it says to send counts as sent.
    #[inline]
    pub fn next(&mut self, now: u64) -> Step {
        if self.rate > 0 {
            let due = self.due(self.done);
            if now < due {
                return Step::Wait(due);
            }
            let of = |packets: u64| packets * 1_000_000_000 / self.rate;
            let most = CATCH_UP
                .min(of(CATCH_UP_PACKETS))
                .max(of(4 * self.burst as u64));
            self.slipped += (now - due).saturating_sub(most);
        }
        self.done += self.burst as u64;
        Step::Send(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs until `end`, each burst taking `cost`; when each went.
    fn run(pace: &mut Pace, cost: u64, end: u64) -> Vec<u64> {
        let (mut now, mut sent) = (pace.begin, Vec::new());
        while now < end {
            match pace.next(now) {
                Step::Wait(until) => now = until,
                Step::Send(_) => {
                    sent.push(now);
                    now += cost;
                }
            }
        }
        sent
    }

    #[test]
    fn bursts_are_evenly_spaced_and_the_rate_is_exact() {
        for (rate, burst) in [(1, 1), (999, 1), (100_000, 4), (700_000, 32), (333_333, 7)] {
            let begin = 5_000_000_000;
            let mut pace = Pace::new(rate, burst, begin);
            let sent = run(&mut pace, 0, begin + 10_000_000_000);
            let packets = (sent.len() * burst) as u64;
            assert!(
                packets.abs_diff(10 * rate) < burst as u64 + 1,
                "{rate}: {packets}"
            );
            let gap = burst as u64 * 1_000_000_000 / rate;
            assert!(sent.windows(2).all(|w| (w[1] - w[0]).abs_diff(gap) <= 1));
            assert_eq!(pace.slipped(), 0);
        }
    }

    #[test]
    fn the_burst_follows_the_rate_unless_given() {
        let burst = |rate, given| Pace::new(rate, given, 0).burst();
        assert_eq!(burst(1, 0), 1);
        assert_eq!(burst(50_000, 0), 2);
        assert_eq!(burst(10_000_000, 0), 32);
        assert_eq!(burst(0, 0), 32);
        assert_eq!(burst(50_000, 9), 9);
        assert_eq!(burst(50_000, 1000), LONGEST);
    }

    #[test]
    fn a_short_delay_is_caught_up_and_a_long_one_is_not() {
        // 100,000 a second, one at a time.
        let mut pace = Pace::new(100_000, 1, 0);
        assert_eq!(pace.next(0), Step::Send(1));
        assert_eq!(pace.next(0), Step::Wait(10_000));
        // 100 µs late: eleven are due.
        let mut at_once = 0;
        while pace.next(110_000) == Step::Send(1) {
            at_once += 1;
        }
        assert_eq!((at_once, pace.slipped()), (11, 0));
        // 20 ms late: what 1 ms holds, and the rest moves back.
        let now = 20_120_000;
        let mut at_once = 0;
        while pace.next(now) == Step::Send(1) {
            at_once += 1;
        }
        assert_eq!((at_once, pace.slipped()), (101, 19_000_000));
    }

    #[test]
    fn who_cannot_keep_up_sends_what_it_can() {
        // 1,000,000 a second asked for; a burst of ten takes 20 µs.
        let mut pace = Pace::new(1_000_000, 10, 0);
        let sent = run(&mut pace, 20_000, 1_000_000_000);
        assert_eq!(sent.len(), 50_000);
        assert!(pace.slipped() > 490_000_000);
        // Without a rate there is never a pause.
        let mut pace = Pace::new(0, 0, 0);
        assert_eq!(run(&mut pace, 1000, 1_000_000).len(), 1000);
    }
}
