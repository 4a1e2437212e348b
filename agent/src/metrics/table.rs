//! `docs/metrics.md`: every name there is. It is printed by `ringway metrics --table`, and a test compares.

use std::fmt::Write;

use super::chosen::{REASONS, WORST};
use super::families::ALL;
use super::family::{Family, Kind};

/// The whole page.
pub fn page() -> String {
    let mut out = format!(
        "# Metrics\n\n\
         <!-- Made of agent/src/metrics/families.rs: cargo run -p ringway-agent -- metrics --table >docs/metrics.md -->\n\n\
         What `ringway metrics`, `GET /metrics` on the API socket and, where `metrics.listen` says so, on TCP answer: \
         OpenMetrics 1.0.0. Names and labels are stable. How to have them scraped, the dashboard and the alerts: \
         [operations.md](operations.md#metrics-and-alerts); who can read them: [SECURITY.md](../SECURITY.md#metrics).\n\n\
         A pod is named by `namespace` and `pod`; one that no Kubernetes has named has an empty `namespace`. Directions \
         say who sent: `from_pod`, `to_pod`. The reasons of drops are those of `ringway drops`: every one from the start \
         for the node, for a pod or a peer those that occurred, up to {REASONS}, and `other` for the rest. No series \
         names both a pod and a peer. Up to `metrics.peers` (64) peers have series of their own; when there are more, \
         the {WORST} with most drops have, and `ringway_peers_by_…` say how many peers have up to so many.\n\n\
         | Name | Type | Labels | Meaning |\n|---|---|---|---|\n"
    );
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let (kind, labels) = (family.kind.name(), labels.join(", "));
        let _ = writeln!(
            out,
            "| `{}` | {kind} | {labels} | {} |",
            shown_name(family),
            family.help
        );
    }
    out
}

/// As queries have it; a histogram's is followed by `_bucket`, `_sum` or `_count` there.
fn shown_name(family: &Family) -> String {
    match family.kind {
        Kind::Histogram => family.full_name(),
        _ => family.sample_names().concat(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_made_of_the_table() {
        assert!(
            super::page() == include_str!("../../../docs/metrics.md"),
            "run: cargo run -p ringway-agent -- metrics --table >docs/metrics.md"
        );
    }
}
