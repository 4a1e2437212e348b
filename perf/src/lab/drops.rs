//! Drop counters as `ringway drops --json` reports them.

use serde_json::Value;
use std::collections::BTreeMap;

/// Drop reason → how often: frames dropped by their verdict and packets lost after it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drops(BTreeMap<String, u64>);

impl Drops {
    /// Reads the list under `drops`: objects with `reason`, `frames` and `lost_packets`.
    pub fn from_json(value: &Value) -> Drops {
        let list = value
            .get("drops")
            .unwrap_or(value)
            .as_array()
            .into_iter()
            .flatten();
        let pair = |entry: &Value| {
            let count = |key| entry.get(key).and_then(Value::as_u64).unwrap_or(0);
            let reason = entry.get("reason")?.as_str()?.to_owned();
            Some((reason, count("frames") + count("lost_packets")))
        };
        Drops(
            list.filter_map(pair)
                .filter(|&(_, frames)| frames > 0)
                .collect(),
        )
    }

    /// Frames dropped for `reason`; 0 if it is not listed.
    pub fn get(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// Frames dropped in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// What has been added since `before`.
    pub fn since(&self, before: &Drops) -> Drops {
        let grown = self
            .0
            .iter()
            .map(|(reason, frames)| (reason.clone(), frames - before.get(reason).min(*frames)));
        Drops(grown.filter(|&(_, frames)| frames > 0).collect())
    }

    /// Reasons and frames, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .map(|(reason, &frames)| (reason.as_str(), frames))
    }
}

impl std::fmt::Display for Drops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let list: Vec<String> = self
            .iter()
            .map(|(reason, frames)| format!("{reason} {frames}"))
            .collect();
        f.write_str(&list.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn difference_names_only_what_moved() {
        let before = Drops::from_json(
            &json!({"drops": [{"reason": "a", "frames": 2}, {"reason": "b", "frames": 1}]}),
        );
        let after = Drops::from_json(
            &json!({"drops": [{"reason": "a", "frames": 2}, {"reason": "b", "frames": 3, "lost_packets": 1}]}),
        );
        assert_eq!(after.since(&before).to_string(), "b 3");
        assert_eq!(after.total(), 6);
        assert_eq!(Drops::from_json(&json!({})).to_string(), "none");
    }
}
