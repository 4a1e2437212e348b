//! What was found, for people and for programs.

use serde_json::json;

use super::Args;
use super::side::{Side, What};
use crate::lab::Family;
use crate::table::{Cell, Mark, Table};
use crate::traffic::{median, spread};

fn kpps(rate: f64) -> String {
    format!("{:.1}", rate / 1e3)
}

fn range(values: &[f64], show: impl Fn(f64) -> String) -> Cell {
    let (low, high) = spread(values);
    let text = match values.len() {
        0 => String::new(),
        _ => format!("{}–{}", show(low), show(high)),
    };
    Cell::new(text, Mark::Dim)
}

fn micros(values: &[f64]) -> String {
    match values.len() {
        0 => "none".into(),
        _ => format!("{:.0} µs", median(values)),
    }
}

pub(super) fn table(what: &What, sides: &[Side]) -> Table {
    let carried = format!("loss ≤ {} %", what.goal.loss * 100.0);
    let mut table = Table::new(&[
        "",
        &carried,
        "spread",
        "latency p50",
        "p99",
        "spread of p99",
        "ended by",
    ]);
    for side in sides {
        let rates = side.rates();
        let p99 = side.latencies(|latency| latency.p99);
        let by_sender = side.searches.iter().filter(|s| s.found.by_sender).count();
        table.row(vec![
            side.name.as_str().into(),
            format!("{} kpps", kpps(median(&rates))).into(),
            range(&rates, kpps),
            micros(&side.latencies(|latency| latency.p50)).into(),
            micros(&p99).into(),
            range(&p99, |us| format!("{us:.0}")),
            match by_sender * 2 > side.searches.len() {
                true => "the sender".into(),
                false => "loss".into(),
            },
        ]);
    }
    if let [ours, theirs] = sides {
        let rates = ratios(&ours.rates(), &theirs.rates());
        let p50 = ratios(
            &ours.latencies(|latency| latency.p50),
            &theirs.latencies(|latency| latency.p50),
        );
        let p99 = ratios(
            &ours.latencies(|latency| latency.p99),
            &theirs.latencies(|latency| latency.p99),
        );
        let two = |value: f64| format!("{value:.2}");
        table.row(vec![
            "ratio".into(),
            two(median(&rates)).into(),
            range(&rates, two),
            two(median(&p50)).into(),
            two(median(&p99)).into(),
            range(&p99, two),
        ]);
    }
    table
}

fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

pub(super) fn footnotes(args: &Args, what: &What, sides: &[Side]) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}, {} flows, {}; {} searches, at most {} trials of {} s a rate, to {} %; latency at half the rate; medians, ratios pair by pair",
        what.family,
        fitted(what),
        what.flows,
        match what.path {
            super::Path::Across => format!("underlay {}", what.mode),
            super::Path::Same => "one node".to_owned(),
        },
        args.pairs,
        what.goal.repeats,
        what.seconds,
        args.precision,
    )];
    for side in sides {
        let sum = |of: fn(&super::side::Search) -> u64| side.searches.iter().map(of).sum::<u64>();
        lines.push(format!(
            "{}: {} refused by the sender's interface, {} by the sink's full socket, {} reordered, {} duplicated, in all trials",
            side.name,
            sum(|s| s.refused),
            sum(|s| s.overrun),
            sum(|s| s.reordered),
            sum(|s| s.duplicated),
        ));
    }
    lines
}

fn fitted(what: &What) -> String {
    // It was fitted once already, or nothing would have been sent.
    let fitted = what.mix.fit(what.family);
    fitted.map_or_else(|error| error.to_string(), |mix| mix.to_string())
}

pub(super) fn json(args: &Args, sides: &[Side]) -> String {
    let list: Vec<_> = sides
        .iter()
        .map(|side| {
            let searches: Vec<_> = side
                .searches
                .iter()
                .map(|search| {
                    json!({
                        "pps": search.found.rate, "failed_pps": search.found.failed,
                        "losses": search.found.losses, "ended_by_sender": search.found.by_sender,
                        "rates_tried": search.found.steps, "latency_ns": search.latency,
                        "refused": search.refused, "overrun": search.overrun,
                        "reordered": search.reordered, "duplicated": search.duplicated,
                    })
                })
                .collect();
            json!({
                "name": side.name, "kind": side.kind, "pps": median(&side.rates()),
                "searches": searches,
            })
        })
        .collect();
    let ratio = match sides {
        [ours, theirs] => ratios(&ours.rates(), &theirs.rates()),
        _ => Vec::new(),
    };
    let report = json!({
        "path": args.path, "loss_percent": args.loss, "seconds": args.seconds, "repeats": args.repeats,
        "precision_percent": args.precision, "size": args.size.to_string(), "flows": args.flows,
        "family": if args.ipv6 { Family::V6 } else { Family::V4 }.to_string(),
        "mode": args.mode.to_string(), "sides": list, "ratios": ratio,
    });
    format!("{report:#}\n")
}
