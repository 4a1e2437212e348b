//! A latency histogram in log-linear buckets of 1 % (`hdrhistogram`), and what is read off it.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency kept apart; above it they count as this, ns.
const LONGEST: u64 = 60_000_000_000;

/// Latencies, ns.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 2);
        // Fails only for bounds that are none.
        Latencies(histogram.unwrap_or_else(|error| unreachable!("{error}")))
    }
}

impl Latencies {
    #[inline]
    pub(super) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let at = |quantile| self.0.value_at_quantile(quantile).min(self.0.max());
        (!self.0.is_empty()).then(|| Quantiles {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max(),
        })
    }

    /// Buckets that hold something: upper bound in ns and count.
    pub(super) fn buckets(&self) -> Vec<(u64, u64)> {
        self.0
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
            .collect()
    }
}

/// Latencies below which a share of the packets was, ns; within 1 %.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Quantiles {
    /// Packets.
    pub count: u64,
    /// Half.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// All.
    pub max: u64,
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |ns: u64| ns as f64 / 1e3;
        write!(
            f,
            "p50 {:.1} µs, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
            us(self.p50),
            us(self.p90),
            us(self.p99),
            us(self.p999),
            us(self.max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(), None);
        // 1 µs to 10 ms.
        for us in 1..=10_000 {
            latencies.record(us * 1000);
        }
        let found = latencies.quantiles().unwrap();
        for (value, wanted) in [
            (found.p50, 5_000_000),
            (found.p90, 9_000_000),
            (found.p99, 9_900_000),
            (found.p999, 9_990_000),
            (found.max, 10_000_000),
        ] {
            let off = value as f64 / f64::from(wanted) - 1.0;
            assert!(off.abs() <= 0.01, "{value} instead of {wanted}");
        }
        assert_eq!(found.count, 10_000);
        assert_eq!(latencies.buckets().iter().map(|b| b.1).sum::<u64>(), 10_000);
    }

    #[test]
    fn what_is_out_of_bounds_still_counts() {
        let mut latencies = Latencies::default();
        latencies.record(0);
        latencies.record(u64::MAX);
        let found = latencies.quantiles().unwrap();
        assert_eq!(found.count, 2);
        assert!(found.max >= LONGEST && found.max < 2 * LONGEST, "{found:?}");
    }
}
