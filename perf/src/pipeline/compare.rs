//! Two results side by side: what `--json` printed, or what a series wrote.

use std::path::Path;

use anyhow::{Context, ensure};

use super::report::Run;
use super::series::Series;
use crate::table::{Cell, Mark, Table, colour};

/// One figure of a result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// What was measured: only equals are compared.
    pub(super) name: String,
    pub(super) mpps: f64,
    /// Least and most of its turns.
    pub(super) spread: (f64, f64),
}

impl From<&Run> for Figure {
    fn from(run: &Run) -> Figure {
        Figure {
            name: run.name(),
            mpps: run.mpps,
            spread: (run.mpps, run.mpps),
        }
    }
}

/// The figures of a file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Figure>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| {
        format!(
            "{} is no result: expected what `pipeline --json` or `pipeline series --json` prints",
            path.display()
        )
    })
}

fn parse(text: &str) -> anyhow::Result<Vec<Figure>> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    if value.get("entries").is_some() {
        let series: Series = serde_json::from_value(value)?;
        return Ok(series.figures());
    }
    let run: Run = serde_json::from_value(value)?;
    Ok(vec![Figure::from(&run)])
}

/// Prints `after` beside `before`.
///
/// # Errors
/// They have no figure in common.
pub(super) fn print(before: &[Figure], after: &[Figure]) -> anyhow::Result<()> {
    print!("{}", table(before, after)?.render(colour()));
    println!(
        "  absolute figures of two runs drift by a third on a shared machine: take both in one sitting, and again the other way round"
    );
    Ok(())
}

fn table(before: &[Figure], after: &[Figure]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["Mpps", "before", "after", "after / before", ""]);
    let mut common = 0;
    let mpps = |figure: Option<&Figure>| figure.map_or("–".into(), |f| format!("{:.2}", f.mpps));
    for figure in before {
        let now = after.iter().find(|other| other.name == figure.name);
        let mut cells: Vec<Cell> = vec![
            figure.name.as_str().into(),
            mpps(Some(figure)).into(),
            mpps(now).into(),
        ];
        if let Some(now) = now {
            common += 1;
            let apart = now.spread.0 > figure.spread.1 || now.spread.1 < figure.spread.0;
            cells.push(format!("{:.2}", now.mpps / figure.mpps).into());
            cells.push(match (apart, now.mpps > figure.mpps) {
                (false, _) => Cell::new("within their spread", Mark::Dim),
                (true, true) => Cell::new("more", Mark::Good),
                (true, false) => Cell::new("less", Mark::Bad),
            });
        }
        table.row(cells);
    }
    for figure in after {
        if before.iter().all(|other| other.name != figure.name) {
            table.row(vec![
                figure.name.as_str().into(),
                "–".into(),
                mpps(Some(figure)).into(),
            ]);
        }
    }
    let names = |figures: &[Figure]| figures.first().map_or("nothing".into(), |f| f.name.clone());
    ensure!(
        common > 0,
        "the two results have nothing in common: one is of `{}`, the other of `{}`",
        names(before),
        names(after)
    );
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, mpps: f64, spread: (f64, f64)) -> Figure {
        Figure {
            name: name.into(),
            mpps,
            spread,
        }
    }

    #[test]
    fn equals_are_compared_and_the_rest_is_shown() {
        let before = [figure("a", 10.0, (9.0, 11.0)), figure("b", 5.0, (5.0, 5.0))];
        let after = [
            figure("c", 1.0, (1.0, 1.0)),
            figure("a", 12.5, (12.0, 13.0)),
        ];
        let text = table(&before, &after).unwrap().render(false);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["a", "10.00", "12.50", "1.25", "more"]);
        assert_eq!(lines[2], ["b", "5.00", "–"]);
        assert_eq!(lines[3], ["c", "–", "1.00"]);
    }

    #[test]
    fn what_overlaps_is_no_difference() {
        let before = [figure("a", 10.0, (8.0, 12.0))];
        for (mpps, spread, word) in [
            (11.0, (9.0, 13.0), "within"),
            (7.0, (6.0, 7.9), "less"),
            (13.0, (12.1, 14.0), "more"),
        ] {
            let text = table(&before, &[figure("a", mpps, spread)]).unwrap();
            assert!(text.render(false).contains(word), "{mpps}");
        }
    }

    #[test]
    fn results_of_different_things_are_refused_by_name() {
        let error = table(
            &[figure("encap", 1.0, (1.0, 1.0))],
            &[figure("decap", 1.0, (1.0, 1.0))],
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("`encap`") && error.contains("`decap`"),
            "{error}"
        );
    }

    #[test]
    fn another_file_is_no_result() {
        for text in ["", "[]", "{\"entries\": 3}", "{\"mpps\": 3}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
