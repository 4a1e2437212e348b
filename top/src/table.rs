//! Rows under columns: which fit, in which order, which are left by a filter.

use std::cmp::Ordering;

/// Space between two columns.
pub(crate) const GAP: usize = 2;
/// The first column has at least so much, if the terminal does.
pub(crate) const NAME_LEAST: usize = 20;
/// What a name has before further columns do, in a terminal of the usual width.
const NAME_USUAL: usize = 33;
/// What it has before further columns do, in wider ones.
const NAME_MOST: usize = 64;
/// Columns of a terminal that nobody made wider.
const USUAL: usize = 80;

/// What a table is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// Pods.
    #[default]
    Pods,
    /// Peers.
    Peers,
    /// Reasons for drops, and counters of the kernel.
    Drops,
    /// Workers.
    Workers,
}

impl Screen {
    /// In the order of their numbers, from 1 on.
    pub const ALL: [Screen; 4] = [Screen::Pods, Screen::Peers, Screen::Drops, Screen::Workers];

    /// Its place among them.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Pods => "pods",
            Screen::Peers => "peers",
            Screen::Drops => "drops",
            Screen::Workers => "workers",
        }
    }

    /// The `n`th behind it, in a circle.
    pub(crate) fn further(self, n: usize) -> Screen {
        Screen::ALL[(self.index() + n) % Screen::ALL.len()]
    }
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its header.
    pub title: &'static str,
    /// The key that sorts by it: a letter of the header.
    pub letter: char,
    /// Columns of the terminal; 0: what a name has.
    pub width: usize,
    /// What stands in it.
    pub kind: Kind,
}

/// What stands in a column: numbers from the right, all else from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, from A on.
    Text,
    /// Numbers, the largest first.
    Number,
    /// States, the worst first.
    State,
    /// Times, the latest first.
    Ago,
    /// Things that have numbers for their names, from the first on.
    Index,
}

impl Kind {
    pub(crate) fn is_left(self) -> bool {
        self != Kind::Number
    }

    /// How it is sorted, and how the other way round.
    fn orders(self) -> [&'static str; 2] {
        match self {
            Kind::Text => ["from A", "from Z"],
            Kind::Number => ["most first", "least first"],
            Kind::State => ["worst first", "best first"],
            Kind::Ago => ["latest first", "oldest first"],
            Kind::Index => ["from the first", "from the last"],
        }
    }
}

/// What stands in a column of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// What it is sorted by, if not by its text.
    pub number: Option<f64>,
}

impl Cell {
    /// A text; what could act on a terminal is replaced.
    pub(crate) fn text(text: &str) -> Cell {
        Cell {
            text: crate::text::clean(text),
            number: None,
        }
    }

    /// A number; unknown ones are less than all others.
    pub(crate) fn number(text: String, number: Option<f64>) -> Cell {
        Cell {
            text,
            number: Some(number.unwrap_or(f64::NEG_INFINITY)),
        }
    }
}

/// One thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// What tells it from others, as the API names it.
    pub key: String,
    /// One for each column.
    pub cells: Vec<Cell>,
    /// What decides among equals, the larger first.
    pub weight: f64,
    /// Something is wrong with it now.
    pub bad: bool,
}

impl Row {
    /// Whether one of its texts has these words in it; they are in lower case.
    fn has(&self, words: &str) -> bool {
        let texts = self.cells.iter().map(|cell| cell.text.as_str());
        texts
            .chain([self.key.as_str()])
            .any(|text| text.to_lowercase().contains(words))
    }
}

/// Leaves those that have the words in them, and sorts them by a column.
pub(crate) fn arrange(rows: &mut Vec<Row>, columns: &[Column], by: Sort, filter: &str) {
    let words = filter.to_lowercase();
    if !words.is_empty() {
        rows.retain(|row| row.has(&words));
    }
    let descending = by.descending(columns);
    rows.sort_by(|a, b| {
        let order = a.cells.get(by.column).cmp_with(b.cells.get(by.column));
        let order = match descending {
            true => order.reverse(),
            false => order,
        };
        let among_equals = || {
            b.weight
                .total_cmp(&a.weight)
                .then_with(|| a.key.cmp(&b.key))
        };
        order.then_with(among_equals)
    });
}

trait CompareCells {
    fn cmp_with(self, other: Self) -> Ordering;
}

impl CompareCells for Option<&Cell> {
    fn cmp_with(self, other: Self) -> Ordering {
        match (self, other) {
            (Some(a), Some(b)) => match (a.number, b.number) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => a.text.cmp(&b.text),
            },
            _ => Ordering::Equal,
        }
    }
}

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    /// Number of the column.
    pub(crate) column: usize,
    /// Not from A on, not the largest first.
    pub(crate) reversed: bool,
}

impl Sort {
    pub(crate) fn descending(self, columns: &[Column]) -> bool {
        let kind = columns.get(self.column).map(|column| column.kind);
        (kind == Some(Kind::Number)) != self.reversed
    }

    /// In words.
    pub(crate) fn describe(self, columns: &[Column]) -> String {
        let Some(column) = columns.get(self.column) else {
            return String::new();
        };
        let order = column.kind.orders()[usize::from(self.reversed)];
        format!("by {}, {order}", column.title)
    }
}

/// Columns that fit so many of the terminal, each with what it has there. The first is always there. What fits 80
/// columns comes first, then the whole of the longest `name`, then more columns. What is left goes to the last that is
/// text.
pub(crate) fn fitting(columns: &[Column], width: usize, name: usize) -> Vec<(usize, usize)> {
    let wanted = name.clamp(NAME_LEAST, NAME_USUAL).min(width);
    let mut fit = vec![(0, wanted)];
    // One that does not fit ends it: a narrower one behind it must not take the place of one that matters more.
    let add = |fit: &mut Vec<(usize, usize)>, left: &mut usize| {
        for (i, column) in columns.iter().enumerate().skip(fit.len()) {
            let Some(rest) = left.checked_sub(column.width + GAP) else {
                return;
            };
            *left = rest;
            fit.push((i, column.width));
        }
    };
    let mut left = width.min(USUAL) - wanted.min(USUAL);
    add(&mut fit, &mut left);
    left += width.saturating_sub(USUAL);
    let more = left.min(name.min(NAME_MOST).saturating_sub(wanted));
    fit[0].1 += more;
    left -= more;
    add(&mut fit, &mut left);
    let texts =
        |(i, _): &&mut (usize, usize)| columns.get(*i).is_some_and(|column| column.kind.is_left());
    if let Some((_, width)) = fit.iter_mut().rfind(texts) {
        *width += left;
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "NAME",
            letter: 'n',
            width: 0,
            kind: Kind::Text,
        },
        Column {
            title: "DROPS/s",
            letter: 'd',
            width: 7,
            kind: Kind::Number,
        },
        Column {
            title: "WHERE",
            letter: 'h',
            width: 10,
            kind: Kind::Text,
        },
    ];

    fn row(name: &str, number: Option<f64>, weight: f64) -> Row {
        Row {
            key: name.into(),
            cells: vec![
                Cell::text(name),
                Cell::number(crate::text::rate(number), number),
                Cell::text("Here"),
            ],
            weight,
            bad: false,
        }
    }

    fn order(column: usize, reversed: bool, filter: &str) -> Vec<String> {
        let mut rows = vec![
            row("b", Some(1.0), 0.0),
            row("d", None, 0.0),
            row("a", Some(10.0), 0.0),
            row("c", Some(1.0), 5.0),
        ];
        arrange(&mut rows, &COLUMNS, Sort { column, reversed }, filter);
        rows.into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn numbers_are_largest_first_and_unknown_ones_last() {
        assert_eq!(order(1, false, ""), ["a", "c", "b", "d"]);
        // Among equals the weightier stays first.
        assert_eq!(order(1, true, ""), ["d", "c", "b", "a"]);
        assert_eq!(order(0, false, ""), ["a", "b", "c", "d"]);
        assert_eq!(order(0, true, ""), ["d", "c", "b", "a"]);
    }

    #[test]
    fn a_filter_looks_into_every_text_in_any_case() {
        assert_eq!(order(0, false, "B"), ["b"]);
        assert_eq!(order(0, false, "hErE").len(), 4);
        assert_eq!(order(0, false, "10"), ["a"]);
        assert!(order(0, false, "nowhere").is_empty());
    }

    #[test]
    fn columns_share_any_width() {
        assert_eq!(fitting(&COLUMNS, 20, 12), [(0, 20)]);
        assert_eq!(fitting(&COLUMNS, 40, 12), [(0, 31), (1, 7)]);
        assert_eq!(fitting(&COLUMNS, 80, 25), [(0, 25), (1, 7), (2, 44)]);
        assert_eq!(fitting(&COLUMNS, 80, 60), [(0, 59), (1, 7), (2, 10)]);
        for width in 0..200 {
            for name in [0, 5, 33, 100] {
                let fit = fitting(&COLUMNS, width, name);
                let used: usize = fit.iter().map(|(_, width)| width + GAP).sum();
                assert_eq!(used - GAP, width, "{width} {name} {fit:?}");
            }
        }
    }
}
