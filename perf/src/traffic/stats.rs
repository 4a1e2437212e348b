//! Medians and spreads of repeated measurements.

use std::time::Duration;

/// The middle value; of an even count the mean of the two in the middle. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Smallest and largest value. Infinities of none.
pub fn spread(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| {
            (low.min(v), high.max(v))
        })
}

/// Percentiles of a list of times.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Latency {
    /// Half were faster.
    pub p50: Duration,
    /// One in ten was slower.
    pub p90: Duration,
    /// One in a hundred was slower.
    pub p99: Duration,
    /// One in a thousand was slower.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Latency {
    /// Of a list in any order; zeros of none.
    pub fn of(times: &[Duration]) -> Latency {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let Some(&max) = sorted.last() else {
            return Latency::default();
        };
        let at = |mille: usize| sorted[(sorted.len() * mille).div_ceil(1000).max(1) - 1];
        Latency {
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_and_ends() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(&times);
        assert_eq!(latency.p50.as_micros(), 100);
        assert_eq!(latency.p90.as_micros(), 180);
        assert_eq!(latency.p99.as_micros(), 198);
        assert_eq!(latency.p999.as_micros(), 200);
        assert_eq!(latency.max.as_micros(), 200);
        assert_eq!(Latency::of(&times[..1]).p50.as_micros(), 200);
        assert_eq!(Latency::of(&[]), Latency::default());
    }
}
