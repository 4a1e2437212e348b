//! When an agent's memory has grown, and whether its buffers are all there.

use serde_json::Value;
use std::time::Duration;

/// Until then the agent may touch memory for the first time: pools, stacks, tables.
pub(super) const WARM_UP: Duration = Duration::from_mins(1);
/// More than this afterwards is growth: 1 MB.
pub(super) const GROWTH: u64 = 1_000_000;

/// Resident set size of a process, since the beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// Bytes.
    pub(super) rss: u64,
}

/// How far memory rose above what it was at the first sample after [`WARM_UP`], bytes; `None` if
/// nothing was sampled after that one.
pub(super) fn growth(samples: &[Sample]) -> Option<u64> {
    let mut warm = samples.iter().skip_while(|sample| sample.at < WARM_UP);
    let first = warm.next()?.rss;
    let highest = warm.map(|sample| sample.rss).max()?;
    Some(highest.saturating_sub(first))
}

/// What does not add up in the `buffers` of the workers in `ringway status`, once nothing is under way.
pub(super) fn unaccounted(status: &Value) -> Vec<String> {
    let Some(workers) = status["workers"].as_array().filter(|list| !list.is_empty()) else {
        return vec!["`ringway status` lists no workers".into()];
    };
    workers.iter().filter_map(wrong).collect()
}

fn wrong(worker: &Value) -> Option<String> {
    let buffers = &worker["buffers"];
    let sum = |fields: &[&str]| {
        let values = fields.iter().map(|&field| buffers[field].as_u64());
        values.sum::<Option<u64>>()
    };
    let whole = sum(&["total"]).is_some_and(|total| total > 0)
        && sum(&["free", "in_flight", "in_rings"]) == sum(&["total"])
        && sum(&["to_receive", "to_send"]) == sum(&["in_rings"])
        && sum(&["in_flight", "to_send", "invalid"]) == Some(0);
    (!whole).then(|| format!("worker {}: {buffers}", worker["index"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples(list: &[(u64, u64)]) -> Vec<Sample> {
        let sample = |&(at, rss)| Sample {
            at: Duration::from_secs(at),
            rss,
        };
        list.iter().map(sample).collect()
    }

    #[test]
    fn what_grows_in_the_first_minute_does_not_count() {
        let list = samples(&[(0, 1), (55, 40), (60, 100), (65, 103), (70, 101)]);
        assert_eq!(growth(&list), Some(3));
        assert_eq!(growth(&samples(&[(61, 9), (66, 7)])), Some(0), "it shrank");
    }

    #[test]
    fn a_peak_counts_even_if_it_is_gone_at_the_end() {
        let list = samples(&[(60, 100), (65, 2_000_100), (70, 100)]);
        assert!(growth(&list).unwrap() > GROWTH);
    }

    #[test]
    fn too_short_a_run_says_nothing() {
        assert_eq!(growth(&[]), None);
        assert_eq!(growth(&samples(&[(0, 1), (59, 5)])), None);
        assert_eq!(growth(&samples(&[(0, 1), (60, 5)])), None);
    }

    #[test]
    fn every_buffer_is_somewhere() {
        let worker = |free: u64, flight: u64| {
            json!({"workers": [{"index": 0, "buffers": {
                "total": 100, "free": free, "in_flight": flight, "in_rings": 30,
                "to_receive": 30, "to_send": 0, "invalid": 0
            }}]})
        };
        assert_eq!(unaccounted(&worker(70, 0)), Vec::<String>::new());
        assert_eq!(unaccounted(&worker(69, 0)).len(), 1, "one is lost");
        assert_eq!(unaccounted(&worker(69, 1)).len(), 1, "one is held");
        assert_eq!(unaccounted(&json!({"workers": [{"index": 0}]})).len(), 1);
        assert_eq!(unaccounted(&json!({})).len(), 1);
    }
}
