//! The same as text, where there is no terminal: every row, in the order in which screens begin.

use ringway_view::columns::Rows;

use crate::draw::nobody;
use crate::model::{Model, Shown};
use crate::rows;
use crate::summary;
use crate::table::{GAP, NAME_LEAST, Row, Screen, Sort, arrange};
use crate::text::fit;

/// Columns that nobody goes without.
const LEAST: usize = 4;

/// The node, what needs attention, and all four tables; no line is longer than `width`, where that is 40 or more.
/// Empty without a look.
pub fn plain(model: &Model, width: usize) -> String {
    let Some(shown) = model.shown() else {
        return String::new();
    };
    let mut out = ringway_view::columns::Fields::new(width, 2);
    for said in summary::lines(shown, width) {
        out.heading(&crate::text::clean(&said.text));
    }
    let attention = summary::attention(shown);
    if attention.is_empty() {
        out.heading("nothing needs attention");
    }
    attention.iter().for_each(|one| out.push("!", one));
    let tables = Screen::ALL.map(|screen| table(screen, shown, width));
    format!("{}\n{}", out.finish(), tables.join("\n"))
}

/// A row a line, with as many columns as there is room for. Names leave room for [`LEAST`], and are shortened for it;
/// where nothing readable would be left of them, rows go on below.
fn table(screen: Screen, shown: &Shown, width: usize) -> String {
    let columns = rows::columns(screen);
    let mut all = rows::rows(screen, shown);
    if all.is_empty() {
        return format!("{}\n", nobody(screen));
    }
    let sort = Sort {
        column: rows::usual(screen),
        reversed: false,
    };
    arrange(&mut all, columns, sort, "");
    let title = |i: usize| columns.get(i).map_or("", |column| column.title);
    let cell = |row: &Row, i: usize| row.cells.get(i).map_or("", |cell| &cell.text).to_owned();
    let length = |text: &str| text.chars().count();
    let widest = |i: usize| {
        let cells = all.iter().map(|row| length(&cell(row, i)));
        cells.chain([length(title(i))]).max().unwrap_or(0)
    };
    let others: usize = (1..LEAST.min(columns.len())).map(|i| GAP + widest(i)).sum();
    let name = widest(0).min(width.saturating_sub(others).max(NAME_LEAST));
    let shown = |row: &Row, i: usize| match i {
        0 => fit(&cell(row, i), name),
        _ => cell(row, i),
    };
    let mut widths = vec![name];
    let mut used = name;
    for i in 1..columns.len() {
        let wanted = widest(i);
        used += GAP + wanted;
        if used > width {
            break;
        }
        widths.push(wanted);
    }
    if widths.len() < LEAST {
        let mut text = Rows::new(width, &std::array::from_fn::<_, LEAST, _>(title));
        for row in &all {
            text.push(std::array::from_fn(|i| cell(row, i)));
        }
        return text.to_string();
    }
    let line = |text: &dyn Fn(usize) -> String| {
        let cells = widths.iter().enumerate().map(|(i, width)| {
            let left = columns.get(i).is_some_and(|column| column.kind.is_left());
            match left {
                true => format!("{:<width$}", text(i)),
                false => format!("{:>width$}", text(i)),
            }
        });
        let cells: Vec<String> = cells.collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let head = line(&|i| title(i).to_owned());
    let body = all.iter().map(|row| line(&|i| shown(row, i)));
    head + &body.collect::<String>()
}
