//! The search for a threshold, with a judge that is sometimes wrong.
//!
//! RFC 2544 section 26.1 goes down from the line rate until nothing is lost. Here the line has no rate, and
//! on a machine that others use as well a trial may lose packets to a neighbour. So:
//! 1. A first guess is tried; from there strides that grow lead up or down, until one rate has passed and
//!    one failed. The most that the sender can do is an end like any other.
//! 2. The gap is bisected until it is within the precision.
//! 3. Each rate is tried several times and passes by majority; trials that cannot change that are left out.
//!
//! What comes out has passed itself: it is a rate that was carried, not one concluded from others.

use crate::traffic::median;

/// First stride.
const STRIDE: f64 = 1.25;
/// Longest stride.
const LONGEST: f64 = 4.0;

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// The rate that was really sent.
    pub(crate) rate: f64,
    /// Share lost, 0 to 1.
    pub(crate) loss: f64,
    /// The sender did what it was asked.
    pub(crate) kept_up: bool,
}

/// What is searched for, and how closely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Share that may be lost, 0 to 1.
    pub(crate) loss: f64,
    /// Trials of a rate, odd.
    pub(crate) repeats: usize,
    /// Width of the gap at the end, relative to the rate.
    pub(crate) precision: f64,
    /// Most rates that are tried.
    pub(crate) steps: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Highest rate that passed; 0 if none did.
    pub(crate) rate: f64,
    /// Lowest above it that failed; none if the sender could not send more.
    pub(crate) failed: Option<f64>,
    /// Loss in the trials of `rate`.
    pub(crate) losses: Vec<f64>,
    /// The sender could not send more: the threshold may be higher.
    pub(crate) by_sender: bool,
    /// Rates tried.
    pub(crate) steps: usize,
}

/// Searches; `first` is the first rate to try, `trial` tries one.
pub(crate) fn search<E>(
    goal: Goal,
    first: f64,
    mut trial: impl FnMut(f64) -> Result<Trial, E>,
) -> Result<Found, E> {
    let mut found = Found::default();
    let (mut next, mut stride) = (first.max(1.0), STRIDE);
    while found.steps < goal.steps {
        found.steps += 1;
        let step = judge(goal, next, &mut trial)?;
        if step.passed {
            // A sender that lags may still do more when it is asked for more.
            let at_its_end = step.rate <= found.rate * (1.0 + goal.precision);
            // What was sent, not what was asked for.
            if step.rate > found.rate {
                found.rate = step.rate;
                found.losses = step.losses;
            }
            if !step.kept_up && at_its_end {
                found.by_sender = true;
                return Ok(found);
            }
        } else {
            // The sender may have sent less than it was asked, and that was too much already.
            let least = found
                .failed
                .map_or(step.rate, |failed| failed.min(step.rate));
            found.failed = Some(least);
        }
        next = match found.failed {
            // A neighbour may have spoiled the one or the other: above what failed nothing is tried again.
            Some(failed) if found.rate >= failed * (1.0 - goal.precision) => break,
            Some(failed) if found.rate > 0.0 => f64::midpoint(found.rate, failed),
            Some(failed) => failed / stride,
            None => next * stride,
        };
        stride = f64::min(stride * stride, LONGEST);
        if next < 1.0 {
            break;
        }
    }
    Ok(found)
}

/// A rate and its verdict, with what was sent and lost in the trials that made it.
struct Step {
    passed: bool,
    kept_up: bool,
    rate: f64,
    losses: Vec<f64>,
}

fn judge<E>(
    goal: Goal,
    rate: f64,
    trial: &mut impl FnMut(f64) -> Result<Trial, E>,
) -> Result<Step, E> {
    let majority = goal.repeats / 2 + 1;
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    while passed.len() < majority && failed.len() < majority {
        let trial = trial(rate)?;
        match trial.loss <= goal.loss {
            true => passed.push(trial),
            false => failed.push(trial),
        }
    }
    let (verdict, those) = match passed.len() >= majority {
        true => (true, passed),
        false => (false, failed),
    };
    let rates: Vec<f64> = those.iter().map(|trial| trial.rate).collect();
    let kept_up = those.iter().filter(|trial| trial.kept_up).count() * 2 > those.len();
    Ok(Step {
        passed: verdict,
        kept_up,
        rate: median(&rates),
        losses: those.iter().map(|trial| trial.loss).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const GOAL: Goal = Goal {
        loss: 0.001,
        repeats: 3,
        precision: 0.03,
        steps: 30,
    };

    /// Carries `capacity` and loses what is above; the sender does `most`.
    fn device(capacity: f64, most: f64) -> impl FnMut(f64) -> Result<Trial, Infallible> {
        move |asked| {
            let rate = f64::min(asked, most);
            Ok(Trial {
                rate,
                loss: (1.0 - capacity / rate).max(0.0),
                kept_up: asked <= most,
            })
        }
    }

    fn run(first: f64, trial: impl FnMut(f64) -> Result<Trial, Infallible>) -> Found {
        match search(GOAL, first, trial) {
            Ok(found) => found,
            Err(never) => match never {},
        }
    }

    #[test]
    fn a_known_threshold_is_found_from_either_side() {
        for capacity in [900.0, 50_000.0, 333_333.0, 4e6] {
            for first in [1000.0, 50_000.0, 333_333.0, 2e7] {
                let found = run(first, device(capacity, f64::INFINITY));
                // 0.1 % may be lost.
                let most = capacity * 1.001_1;
                assert!(
                    found.rate <= most && found.rate > capacity * 0.965,
                    "{capacity} from {first}: {found:?}"
                );
                assert!(found.failed.is_some_and(|failed| failed >= capacity));
                assert!(!found.by_sender);
            }
        }
    }

    #[test]
    fn a_noisy_judge_seldom_misleads() {
        // One trial in ten loses packets for no reason of the device's.
        let mut good = 0;
        for seed in 1..=200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut device = device(200_000.0, f64::INFINITY);
            let found = run(150_000.0, |rate| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let mut trial = device(rate)?;
                if state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32 < u64::from(u32::MAX / 10) {
                    trial.loss = trial.loss.max(0.05);
                }
                Ok(trial)
            });
            assert!(found.rate <= 200_220.0, "never above: {found:?}");
            good += usize::from(found.rate > 190_000.0);
        }
        // A rate fails wrongly with 0.028, and six or seven are tried.
        assert!(good >= 160, "{good} of 200 within 5 %");
    }

    #[test]
    fn where_the_sender_ends_the_search_ends_and_says_so() {
        let found = run(100_000.0, device(1e9, 450_000.0));
        assert!(found.by_sender && found.failed.is_none(), "{found:?}");
        assert!((found.rate - 450_000.0).abs() < 1.0);
    }

    #[test]
    fn a_device_that_loses_always_has_no_rate() {
        let mut asked = Vec::new();
        let found = run(1000.0, |rate| {
            asked.push(rate);
            Ok(Trial {
                rate,
                loss: 0.5,
                kept_up: true,
            })
        });
        assert_eq!((found.rate, found.losses.len()), (0.0, 0));
        // Two of three settle it.
        assert_eq!(asked.len(), 2 * found.steps);
    }

    #[test]
    fn an_error_ends_it() {
        let mut left = 4;
        let result = search(GOAL, 1000.0, |rate| {
            left -= 1;
            match left {
                0 => Err("gone"),
                _ => Ok(Trial {
                    rate,
                    loss: 0.0,
                    kept_up: true,
                }),
            }
        });
        assert_eq!(result, Err("gone"));
    }
}
