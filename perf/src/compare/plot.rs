//! Plots as plain SVG: what they say stays text, and they follow the reader's light or dark scheme.
//!
//! A row is a figure. Both axes are logarithmic, so that half and double are equally far from 1.

use super::report::{Better, Figure, Plot};
use crate::traffic::{median, spread};
use std::fmt::Write;

const WIDTH: f64 = 920.0;
const LEFT: f64 = 380.0;
const RIGHT: f64 = 750.0;
/// Room for the label of a tick.
const LABEL: f64 = 48.0;
const ROW: f64 = 24.0;
const TOP: f64 = 76.0;

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}\
.title{font-size:15px;font-weight:600}.dim{fill:#59636e;font-size:12px}.end{text-anchor:end}.mid{text-anchor:middle}\
.back{fill:#fff}.grid{stroke:#d1d9e0}.one{stroke:#1f2328;stroke-width:1.5}.whisker{stroke:#1f2328;stroke-width:1.5}\
.good{fill:#2f81c7}.bad{fill:#d9730d}.plain{fill:#9aa4af}.target{stroke:#1a7f37;stroke-width:3}\
.other{fill:#fff;stroke:#59636e;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.back{fill:#0d1117}.grid{stroke:#30363d}\
.one,.whisker{stroke:#e6edf3}.good{fill:#388bdd}.bad{fill:#e8853a}.plain{fill:#6e7781}.target{stroke:#3fb950}\
.other{fill:#0d1117;stroke:#b1bac4}}";

/// Ratios to the kernel as bars from 1.0, with the spread of the pairs and the target. `None` without
/// any figure to draw.
pub(super) fn ratios(figures: &[Figure]) -> Option<String> {
    let rows = rows(figures, Plot::Ratios);
    let all = rows.iter().flat_map(|figure| {
        let (low, high) = figure.spread();
        [Some(low), Some(high), figure.target]
    });
    let axis = Axis::around(all.flatten().chain([0.5, 2.0]), &powers_of_two());
    let sections = [
        ("Higher is better", Better::Higher),
        ("Lower is better", Better::Lower),
    ]
    .map(|(title, better)| {
        let of = |figure: &&&Figure| figure.better == better;
        (title, rows.iter().filter(of).copied().collect::<Vec<_>>())
    });
    let lines = rows.len() + sections.iter().filter(|(_, rows)| !rows.is_empty()).count();
    let mut svg = Svg::begin(
        "Ringway ÷ kernel, same run",
        "same node: kernel bridge; across: kernel VXLAN; bar: median of pairs, whisker: all pairs",
        lines,
    );
    if rows.is_empty() {
        return None;
    }
    svg.key(&[
        (Key::Bar("good"), "target reached"),
        (Key::Bar("bad"), "missed"),
        (Key::Bar("plain"), "no target"),
        (Key::Target, "target"),
    ]);
    svg.grid(&axis, lines, &|ratio| format!("{ratio}"));
    let mut line = 0;
    for (title, rows) in &sections {
        if rows.is_empty() {
            continue;
        }
        svg.text(16.0, middle(line) + 4.0, "dim", title);
        line += 1;
        for figure in rows {
            svg.ratio(figure, &axis, middle(line));
            line += 1;
        }
    }
    let one = axis.at(1.0);
    svg.line("one", one, TOP, one, TOP + lines as f64 * ROW);
    Some(svg.end())
}

/// Times of Ringway and of the kernel, in µs. `None` without any figure to draw.
pub(super) fn latencies(figures: &[Figure]) -> Option<String> {
    let rows = rows(figures, Plot::Latency);
    if rows.is_empty() {
        return None;
    }
    let all = rows
        .iter()
        .flat_map(|figure| figure.ringway.iter().chain(&figure.other).copied());
    let axis = Axis::around(all, &one_two_five());
    let mut svg = Svg::begin(
        "Round trips idle and under load, µs",
        "dot: median of the runs, whisker: all runs; logarithmic; to the left is better",
        rows.len(),
    );
    svg.key(&[
        (Key::Dot("good"), "Ringway"),
        (
            Key::Dot("other"),
            "kernel (same node: bridge; across: VXLAN)",
        ),
    ]);
    svg.grid(&axis, rows.len(), &|time| format!("{time}"));
    for (line, figure) in rows.iter().enumerate() {
        let y = middle(line);
        svg.text_end(LEFT - 12.0, y + 4.0, "", &figure.name);
        for (class, values, y) in [
            ("good", &figure.ringway, y - 5.0),
            ("other", &figure.other, y + 5.0),
        ] {
            svg.whisker(&axis, spread(values), y);
            svg.dot(class, axis.at(median(values)), y);
        }
        let (ours, theirs) = (median(&figure.ringway), median(&figure.other));
        let value = format!("{ours:.0} / {theirs:.0}");
        svg.text(RIGHT + 12.0, y + 4.0, "", &value);
    }
    Some(svg.end())
}

/// Figures that can be drawn: something beside them, everything finite and above zero.
fn rows(figures: &[Figure], plot: Plot) -> Vec<&Figure> {
    let drawable = |figure: &&Figure| {
        let values = || figure.ringway.iter().chain(&figure.other);
        let sound = values().all(|value| value.is_finite() && *value > 0.0);
        figure.plot == plot && !figure.ratios().is_empty() && sound
    };
    figures.iter().filter(drawable).collect()
}

fn middle(line: usize) -> f64 {
    TOP + (line as f64 + 0.5) * ROW
}

/// What lies beyond a sixteenth or sixteen (a p99 on a busy machine) would squeeze the rest together.
fn powers_of_two() -> Vec<f64> {
    (-4..=4).map(|power| 2_f64.powi(power)).collect()
}

fn one_two_five() -> Vec<f64> {
    (0..=6)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
        .collect()
}

/// A logarithmic axis over the plot's width.
#[derive(Debug, PartialEq)]
struct Axis {
    ticks: Vec<f64>,
}

impl Axis {
    /// From the last tick below all values to the first above.
    fn around(values: impl Iterator<Item = f64>, ticks: &[f64]) -> Axis {
        let (low, high) = spread(&values.collect::<Vec<_>>());
        let last = ticks.len() - 1;
        let begin = ticks.iter().rposition(|&tick| tick <= low).unwrap_or(0);
        let end = ticks.iter().position(|&tick| tick >= high).unwrap_or(last);
        let end = end.max(begin + 1).min(last);
        Axis {
            ticks: ticks[begin.min(end - 1)..=end].to_vec(),
        }
    }

    /// What lies outside is drawn at the end.
    fn at(&self, value: f64) -> f64 {
        let (low, high) = spread(&self.ticks);
        let part = (value.clamp(low, high) / low).ln() / (high / low).ln();
        LEFT + part * (RIGHT - LEFT)
    }
}

enum Key {
    Bar(&'static str),
    Dot(&'static str),
    Target,
}

/// A document under way. Writing to a string does not fail.
struct Svg(String);

impl Svg {
    fn begin(title: &str, subtitle: &str, lines: usize) -> Svg {
        let height = TOP + lines as f64 * ROW + 34.0;
        let mut svg = Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n",
            escape(title)
        ));
        svg.text(16.0, 24.0, "title", title);
        svg.text(16.0, 42.0, "dim", subtitle);
        svg
    }

    fn end(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(
            self.0,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        );
    }

    /// The text ends at `x`.
    fn text_end(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.text(x, y, format!("end {class}").trim_end(), text);
    }

    fn line(&mut self, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
        let _ = writeln!(
            self.0,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    fn bar(&mut self, class: &str, x1: f64, x2: f64, y: f64, height: f64) {
        let (x, width, top) = (x1.min(x2), (x1 - x2).abs().max(1.0), y - height / 2.0);
        let _ = writeln!(
            self.0,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        );
    }

    fn dot(&mut self, class: &str, x: f64, y: f64) {
        let _ = writeln!(
            self.0,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
        );
    }

    fn whisker(&mut self, axis: &Axis, (low, high): (f64, f64), y: f64) {
        let (low, high) = (axis.at(low), axis.at(high));
        self.line("whisker", low, y, high, y);
        for x in [low, high] {
            self.line("whisker", x, y - 3.0, x, y + 3.0);
        }
    }

    fn key(&mut self, entries: &[(Key, &str)]) {
        let (mut x, y) = (16.0, 62.0);
        for (key, text) in entries {
            match key {
                Key::Bar(class) => self.bar(class, x, x + 14.0, y - 4.0, 10.0),
                Key::Dot(class) => self.dot(class, x + 7.0, y - 4.0),
                Key::Target => self.line("target", x + 7.0, y - 11.0, x + 7.0, y + 3.0),
            }
            self.text(x + 20.0, y, "dim", text);
            x += 44.0 + 6.5 * text.chars().count() as f64;
        }
    }

    fn grid(&mut self, axis: &Axis, lines: usize, label: &dyn Fn(f64) -> String) {
        let bottom = TOP + lines as f64 * ROW;
        let mut free = f64::MIN;
        for &tick in &axis.ticks {
            let x = axis.at(tick);
            self.line("grid", x, TOP, x, bottom);
            if x >= free {
                self.text(x, bottom + 18.0, "mid dim", &label(tick));
                free = x + LABEL;
            }
        }
    }

    fn ratio(&mut self, figure: &Figure, axis: &Axis, y: f64) {
        let class = match figure.reached() {
            Some(true) => "good",
            Some(false) => "bad",
            None => "plain",
        };
        self.text_end(LEFT - 12.0, y + 4.0, "", &figure.name);
        self.bar(class, axis.at(1.0), axis.at(figure.result()), y, 12.0);
        self.whisker(axis, figure.spread(), y);
        if let Some(target) = figure.target {
            let x = axis.at(target);
            self.line("target", x, y - 9.0, x, y + 9.0);
        }
        let missed = match figure.reached() {
            Some(false) => format!(" missed {}", figure.wanted()),
            _ => String::new(),
        };
        let value = format!("{:.2}{missed}", figure.result());
        self.text(RIGHT + 12.0, y + 4.0, "", &value);
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, ratios: &[f64], target: Option<f64>, plot: Plot) -> Figure {
        let mut figure = Figure::new(name.into(), "µs", "kernel", Better::Higher)
            .target_if(target)
            .plot(plot);
        figure.ringway = ratios.to_vec();
        figure.other = vec![1.0; ratios.len()];
        figure
    }

    #[test]
    fn half_and_double_are_equally_far_from_one() {
        let axis = Axis::around([0.6, 1.9].into_iter(), &powers_of_two());
        assert_eq!(axis.ticks, [0.5, 1.0, 2.0]);
        assert!((axis.at(0.5) - LEFT).abs() < 1e-9);
        assert!((axis.at(1.0) - f64::midpoint(LEFT, RIGHT)).abs() < 1e-9);
        assert!((axis.at(100.0) - RIGHT).abs() < 1e-9, "at the end");
    }

    #[test]
    fn an_axis_has_a_width_whatever_the_values() {
        for values in [&[3.0][..], &[1.0], &[1e-9], &[1e12], &[1e-9, 1e12], &[]] {
            let axis = Axis::around(values.iter().copied(), &one_two_five());
            assert!(axis.ticks.len() >= 2, "{values:?}: {axis:?}");
        }
        let axis = Axis::around([20.0, 70.0].into_iter(), &one_two_five());
        assert_eq!(axis.ticks, [20.0, 50.0, 100.0]);
    }

    #[test]
    fn a_missed_target_is_said_in_words_and_names_are_escaped() {
        let figures = [
            figure("a < b & c", &[0.5, 0.6, 0.4], Some(0.75), Plot::Ratios),
            figure("elsewhere", &[1.0], None, Plot::Latency),
            figure("broken", &[f64::NAN], None, Plot::Ratios),
        ];
        let svg = ratios(&figures).unwrap();
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
        assert!(svg.contains("0.50 missed ≥ 0.75"), "{svg}");
        assert!(
            !svg.contains("elsewhere") && !svg.contains("broken"),
            "{svg}"
        );
        assert_eq!(svg.matches("class=\"one\"").count(), 1);
        // The key's and the figure's.
        assert_eq!(svg.matches("class=\"target\"").count(), 2);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("prefers-color-scheme:dark") && !svg.contains("@import"));
    }

    #[test]
    fn every_row_of_times_has_both_dots() {
        let figures = [
            figure("p50", &[40.0, 50.0], Some(2.0), Plot::Latency),
            figure("p99", &[400.0, 500.0], None, Plot::Latency),
        ];
        let svg = latencies(&figures).unwrap();
        assert_eq!(svg.matches("<circle class=\"good\"").count(), 3);
        assert_eq!(svg.matches("<circle class=\"other\"").count(), 3);
        assert!(svg.contains("45 / 1"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_no_plot() {
        assert_eq!(ratios(&[]), None);
        assert_eq!(latencies(&[figure("x", &[1.0], None, Plot::Ratios)]), None);
    }
}
