//! Figures, their ratios, and what was to be reached.

use super::Effort;
use crate::table::{Cell, Mark, Table};
use crate::traffic::{median, spread};
use serde_json::json;

/// Which way is up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One figure, measured several times, in pairs where there is something beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// What it is compared with; empty if with nothing.
    pub beside: &'static str,
    /// Which way is up.
    pub better: Better,
    /// Ringway's values.
    pub ringway: Vec<f64>,
    /// The other's values, pair by pair.
    pub other: Vec<f64>,
    /// The ratio, or without anything beside it the value, to reach.
    pub target: Option<f64>,
}

impl Figure {
    pub(super) fn new(
        name: String,
        unit: &'static str,
        beside: &'static str,
        better: Better,
    ) -> Figure {
        Figure {
            name,
            unit,
            beside,
            better,
            ringway: Vec::new(),
            other: Vec::new(),
            target: None,
        }
    }

    /// The ratio to reach.
    pub(super) fn target(mut self, ratio: f64) -> Figure {
        self.target = Some(ratio);
        self
    }

    /// The value to stay under, of a figure with nothing beside it.
    pub(super) fn limit(self, value: f64) -> Figure {
        self.target(value)
    }

    /// Ringway's value over the other's, pair by pair.
    pub fn ratios(&self) -> Vec<f64> {
        self.ringway
            .iter()
            .zip(&self.other)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    }

    /// What is held against the target: the median ratio, or the median value.
    pub fn result(&self) -> f64 {
        match self.other.is_empty() {
            true => median(&self.ringway),
            false => median(&self.ratios()),
        }
    }

    /// Whether the target is reached; `None` without a target.
    pub fn reached(&self) -> Option<bool> {
        self.target.map(|target| match self.better {
            Better::Higher => self.result() >= target,
            Better::Lower => self.result() <= target,
        })
    }
}

pub(super) fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new(&[
        "",
        "ringway",
        "beside it",
        "",
        "ratio",
        "spread",
        "target",
        "",
    ]);
    for figure in figures {
        let sign = match figure.better {
            Better::Higher => "≥",
            Better::Lower => "≤",
        };
        let paired = !figure.other.is_empty();
        let ratios = figure.ratios();
        let (low, high) = spread(if paired { &ratios } else { &figure.ringway });
        let (word, mark) = match figure.reached() {
            Some(true) => ("reached", Mark::Good),
            Some(false) => ("MISSED", Mark::Bad),
            None => ("", Mark::Plain),
        };
        let when = |text: String| Cell::from(if paired { text } else { String::new() });
        table.row(vec![
            figure.name.as_str().into(),
            format!("{:.2} {}", median(&figure.ringway), figure.unit).into(),
            when(format!("{:.2} {}", median(&figure.other), figure.unit)),
            figure.beside.into(),
            when(format!("{:.2}", median(&ratios))),
            Cell::new(format!("{low:.2}–{high:.2}"), Mark::Dim),
            figure
                .target
                .map_or(String::new(), |target| format!("{sign} {target}"))
                .into(),
            Cell::new(word, mark),
        ]);
    }
    table
}

pub(super) fn footnote(effort: Effort) -> String {
    format!(
        "medians of {} pairs of {} s; ratios are taken pair by pair; kernel {}, {} CPUs",
        effort.pairs,
        effort.time.as_secs(),
        kernel(),
        cpus()
    )
}

pub(super) fn json(figures: &[Figure], effort: Effort) -> String {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "name": figure.name, "unit": figure.unit, "beside": figure.beside,
                "ringway": figure.ringway, "other": figure.other, "result": figure.result(),
                "better": match figure.better { Better::Higher => "higher", Better::Lower => "lower" },
                "target": figure.target, "reached": figure.reached(),
            })
        })
        .collect();
    let report = json!({
        "kernel": kernel(), "cpus": cpus(), "pairs": effort.pairs, "seconds": effort.time.as_secs(), "figures": figures,
    });
    format!("{report:#}\n")
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_pairs_not_of_medians() {
        let mut figure = Figure::new("x".into(), "Gbit/s", "kernel", Better::Higher).target(1.0);
        figure.ringway = vec![1.0, 10.0, 4.0];
        figure.other = vec![2.0, 8.0, 3.0];
        assert!((figure.result() - 1.25).abs() < 1e-9);
        assert_eq!(figure.reached(), Some(true));
        figure.better = Better::Lower;
        assert_eq!(figure.reached(), Some(false));
        let text = table(&[figure.clone()]).render(false);
        assert!(
            text.contains("MISSED") && text.contains("0.50–1.33"),
            "{text}"
        );
        assert_eq!(
            Figure {
                target: None,
                ..figure
            }
            .reached(),
            None
        );
    }

    #[test]
    fn a_limit_holds_for_the_value() {
        let mut figure = Figure::new("idle".into(), "%", "", Better::Lower).limit(1.0);
        figure.ringway = vec![0.4, 0.6, 3.0];
        assert_eq!(figure.reached(), Some(true));
        let report: serde_json::Value = serde_json::from_str(&json(
            &[figure],
            Effort {
                pairs: 3,
                time: std::time::Duration::from_secs(1),
            },
        ))
        .unwrap();
        assert_eq!(report["figures"][0]["reached"], true);
    }
}
