//! How long a run of several parts will still take.
//!
//! Each part has a planned length. The parts that are over tell by how much the plan errs on this
//! machine; what is left of the plan is stretched by that.

use std::fmt;
use std::time::{Duration, Instant};

/// The plan of a run, and where it is.
#[derive(Clone, Debug)]
pub struct Estimate {
    planned: Vec<Duration>,
    over: usize,
    begin: Instant,
    part: Instant,
}

impl Estimate {
    /// The run begins now, with its first part.
    pub fn new(planned: Vec<Duration>) -> Estimate {
        let now = Instant::now();
        Estimate {
            planned,
            over: 0,
            begin: now,
            part: now,
        }
    }

    /// A part is over, the next begins.
    pub fn next(&mut self) {
        self.over += 1;
        self.part = Instant::now();
    }

    /// What is left from now on.
    pub fn left(&self) -> Left {
        let took = self.part.duration_since(self.begin);
        Left(left(&self.planned, self.over, took, self.part.elapsed()))
    }

    /// Since the begin.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// `over` parts are over and took `took`; the next has run for `current`.
fn left(planned: &[Duration], over: usize, took: Duration, current: Duration) -> Duration {
    let over = over.min(planned.len());
    let sum = |parts: &[Duration]| parts.iter().sum::<Duration>();
    let finished = sum(&planned[..over]);
    let rate = match finished.is_zero() {
        true => 1.0,
        false => took.as_secs_f64() / finished.as_secs_f64(),
    };
    let now = planned.get(over).map_or(Duration::ZERO, |part| {
        part.mul_f64(rate).saturating_sub(current)
    });
    now + sum(planned.get(over + 1..).unwrap_or(&[])).mul_f64(rate)
}

/// A time that is left: seconds in tens, or whole minutes, rounded up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Left(pub Duration);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis().div_ceil(1000) {
            seconds @ 0..=90 => write!(f, "about {} s left", seconds.div_ceil(10).max(1) * 10),
            seconds => write!(f, "about {} min left", seconds.div_ceil(60)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(list: &[u64]) -> Vec<Duration> {
        list.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn what_is_over_stretches_what_is_left() {
        let plan = seconds(&[10, 20, 30]);
        let of = |over, took, current| {
            left(
                &plan,
                over,
                Duration::from_secs(took),
                Duration::from_secs(current),
            )
            .as_secs()
        };
        assert_eq!(of(0, 0, 0), 60, "nothing is known yet: the plan");
        assert_eq!(of(0, 0, 4), 56);
        assert_eq!(of(0, 0, 40), 50, "a part that is late counts nothing");
        assert_eq!(of(1, 15, 6), 24 + 45, "half as slow again as planned");
        assert_eq!(of(2, 15, 0), 15, "twice as fast");
        assert_eq!(of(3, 60, 0), 0);
        assert_eq!(of(9, 60, 0), 0);
        assert_eq!(left(&[], 0, Duration::ZERO, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn people_read_tens_of_seconds_and_minutes() {
        let text = |seconds| Left(Duration::from_secs(seconds)).to_string();
        assert_eq!(text(0), "about 10 s left");
        assert_eq!(text(41), "about 50 s left");
        assert_eq!(text(90), "about 90 s left");
        assert_eq!(text(91), "about 2 min left");
        assert_eq!(text(541), "about 10 min left");
    }

    #[test]
    fn parts_follow_each_other() {
        let mut estimate = Estimate::new(seconds(&[100, 50]));
        assert_eq!(estimate.left().to_string(), "about 3 min left");
        estimate.next();
        estimate.next();
        assert_eq!(estimate.left(), Left(Duration::ZERO));
    }
}
