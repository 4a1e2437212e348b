//! Results for readers: figures.json, plots, and the table of the README.

use super::report::Figure;
use super::{CompareError, plot};
use crate::traffic::median;
use std::path::Path;

/// The lines the table stands between.
pub(super) const BEGIN: &str = "<!-- figures: written by `make perf` -->";
pub(super) const END: &str = "<!-- end of figures -->";

pub(super) fn write(file: &Path, text: &str) -> Result<(), CompareError> {
    std::fs::write(file, text).map_err(|source| CompareError::Write {
        file: file.to_owned(),
        source,
    })
}

/// Writes figures.json, and each plot for which there are figures.
pub(super) fn publish(folder: &Path, json: &str, figures: &[Figure]) -> Result<(), CompareError> {
    std::fs::create_dir_all(folder).map_err(|source| CompareError::Write {
        file: folder.to_owned(),
        source,
    })?;
    write(&folder.join("figures.json"), json)?;
    for (name, svg) in [
        ("ratios.svg", plot::ratios(figures)),
        ("latency.svg", plot::latencies(figures)),
    ] {
        if let Some(svg) = svg {
            write(&folder.join(name), &svg)?;
        }
    }
    Ok(())
}

/// Replaces what stands between the marks.
pub(super) fn into_readme(
    file: &Path,
    figures: &[Figure],
    footnote: &str,
) -> Result<(), CompareError> {
    let text = std::fs::read_to_string(file).map_err(|source| CompareError::Write {
        file: file.to_owned(),
        source,
    })?;
    let table = format!("{}\n{}.\n", table(figures), capital(footnote));
    let text = between(&text, &table).map_err(|mark| CompareError::NoMark {
        file: file.to_owned(),
        mark,
    })?;
    write(file, &text)
}

/// `text` with `new` between the marks; the mark that is missing otherwise.
fn between(text: &str, new: &str) -> Result<String, &'static str> {
    let (before, rest) = text.split_once(BEGIN).ok_or(BEGIN)?;
    let (_, after) = rest.split_once(END).ok_or(END)?;
    Ok(format!("{before}{BEGIN}\n{new}{END}{after}"))
}

/// The headlines in Markdown.
fn table(figures: &[Figure]) -> String {
    let mut out = String::from(
        "| | Ringway | Beside it | Ratio (spread) | Target |\n|---|---|---|---|---|\n",
    );
    for figure in figures.iter().filter(|figure| figure.headline) {
        let beside = match figure.other.is_empty() {
            true => String::new(),
            false => format!("{} {}", figure.beside, short(median(&figure.other))),
        };
        let (low, high) = figure.spread();
        let ratio = match figure.other.is_empty() {
            true => String::new(),
            false => format!("{:.2} ({low:.2}–{high:.2})", figure.result()),
        };
        let missed = match figure.reached() {
            Some(false) => ", missed",
            _ => "",
        };
        out += &format!(
            "| {} | {} {} | {beside} | {ratio} | {}{missed} |\n",
            figure.name,
            short(median(&figure.ringway)),
            figure.unit,
            figure.wanted(),
        );
    }
    out
}

/// Three digits that count.
fn short(value: f64) -> String {
    let places = match value.abs() {
        large if large >= 100.0 => 0,
        tens if tens >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Better;
    use super::*;

    fn figures() -> Vec<Figure> {
        let new = |name: &str, better| Figure::new(name.into(), "Gbit/s", "kernel bridge", better);
        let mut missed = new("same node, TCP 1", Better::Higher).target(0.75);
        missed.ringway = vec![5.0, 6.0, 123.456];
        missed.other = vec![10.0, 10.0, 10.0];
        let mut alone = new("idle", Better::Lower).limit(1.0);
        alone.ringway = vec![0.125];
        let mut detail = new("detail", Better::Higher);
        detail.ringway = vec![1.0];
        vec![missed, alone, detail]
    }

    #[test]
    fn the_table_has_the_headlines() {
        let text = table(&figures());
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| same node, TCP 1 | 6.00 Gbit/s | kernel bridge 10.0 | 0.60 (0.50–12.35) | ≥ 0.75, missed |",
                "| idle | 0.12 Gbit/s |  |  | ≤ 1 |",
            ]
        );
        assert_eq!(short(1234.5), "1234");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let once = between(&text, "new\n").unwrap();
        assert_eq!(once, format!("above\n{BEGIN}\nnew\n{END}\nbelow\n"));
        assert_eq!(between(&once, "new\n").unwrap(), once);
        assert_eq!(between("nothing", "new"), Err(BEGIN));
        assert_eq!(between(BEGIN, "new"), Err(END));
    }

    #[test]
    fn a_missing_mark_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("README.md");
        std::fs::write(&file, "no marks").unwrap();
        let error = into_readme(&file, &figures(), "x").unwrap_err().to_string();
        assert!(
            error.contains("README.md") && error.contains(BEGIN),
            "{error}"
        );
    }

    #[test]
    fn plots_without_figures_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("a/b");
        publish(&results, "{}\n", &figures()).unwrap();
        let names: Vec<_> = std::fs::read_dir(&results)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["figures.json"]);
    }
}
