//! Figures, their ratios, and what was to be reached.

use super::{Effort, Machine};
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

/// The plot a figure belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Plot {
    /// None of them.
    #[default]
    None,
    /// Ratios to the kernel: TCP, UDP, round trips.
    Ratios,
    /// Times in µs beside the kernel's.
    Latency,
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
    /// Where it is drawn.
    pub plot: Plot,
    /// It is one of those a reader sees first: it has a target, or says what it has none for.
    pub headline: bool,
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
            plot: Plot::None,
            headline: false,
        }
    }

    /// The ratio to reach.
    pub(super) fn target(mut self, ratio: f64) -> Figure {
        self.target = Some(ratio);
        self.headline()
    }

    /// The ratio to reach, if there is one.
    pub(super) fn target_if(self, ratio: Option<f64>) -> Figure {
        match ratio {
            Some(ratio) => self.target(ratio),
            None => self,
        }
    }

    pub(super) fn headline(mut self) -> Figure {
        self.headline = true;
        self
    }

    pub(super) fn plot(mut self, plot: Plot) -> Figure {
        self.plot = plot;
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

    /// Smallest and largest of what [`Figure::result`] is the median of.
    pub fn spread(&self) -> (f64, f64) {
        match self.other.is_empty() {
            true => spread(&self.ringway),
            false => spread(&self.ratios()),
        }
    }

    /// `≥ 0.75`; empty without a target.
    pub fn wanted(&self) -> String {
        let sign = match self.better {
            Better::Higher => "≥",
            Better::Lower => "≤",
        };
        self.target
            .map_or(String::new(), |target| format!("{sign} {target}"))
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
        let paired = !figure.other.is_empty();
        let (low, high) = figure.spread();
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
            when(format!("{:.2}", figure.result())),
            Cell::new(format!("{low:.2}–{high:.2}"), Mark::Dim),
            figure.wanted().into(),
            Cell::new(word, mark),
        ]);
    }
    table
}

pub(super) fn footnote(effort: Effort, machine: &Machine) -> String {
    format!(
        "medians of {} pairs of {} s; ratios are taken pair by pair; {machine}",
        effort.pairs,
        effort.time.as_secs(),
    )
}

pub(super) fn json(figures: &[Figure], effort: Effort, machine: &Machine) -> String {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| {
            let (low, high) = figure.spread();
            json!({
                "name": figure.name, "unit": figure.unit, "beside": figure.beside,
                "ringway": figure.ringway, "other": figure.other,
                "result": figure.result(), "low": low, "high": high,
                "better": match figure.better { Better::Higher => "higher", Better::Lower => "lower" },
                "target": figure.target, "reached": figure.reached(),
            })
        })
        .collect();
    let report = json!({
        "machine": machine, "pairs": effort.pairs, "seconds": effort.time.as_secs(), "figures": figures,
    });
    format!("{report:#}\n")
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
            &Machine::here(),
        ))
        .unwrap();
        let figure = &report["figures"][0];
        assert_eq!(figure["reached"], true);
        assert_eq!(figure["ringway"], json!([0.4, 0.6, 3.0]));
        assert_eq!(
            (&figure["low"], &figure["high"]),
            (&json!(0.4), &json!(3.0))
        );
        assert_eq!(report["pairs"], 3);
        assert!(report["machine"]["kernel"].is_string());
    }
}
