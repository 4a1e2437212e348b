//! The same as text, where there is no terminal: every row, in the order in which screens begin.

use ringway_view::columns::Rows;

use crate::draw::nobody;
use crate::model::{Model, Shown};
use crate::rows;
use crate::summary;
use crate::table::{Screen, Sort, arrange};

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
    let tables = [
        table::<7>(Screen::Pods, shown, width),
        table::<9>(Screen::Peers, shown, width),
        table::<5>(Screen::Drops, shown, width),
        table::<8>(Screen::Workers, shown, width),
    ];
    format!("{}\n{}", out.finish(), tables.join("\n"))
}

/// With the first `N` columns.
fn table<const N: usize>(screen: Screen, shown: &Shown, width: usize) -> String {
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
    let mut text = Rows::new(width, &std::array::from_fn::<_, N, _>(title));
    for row in all {
        let cell = |i: usize| row.cells.get(i).map_or("", |cell| &cell.text).to_owned();
        text.push(std::array::from_fn(cell));
    }
    text.to_string()
}
