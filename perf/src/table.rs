//! Text tables and progress for people: colour only on a terminal, and not against `NO_COLOR`.

use crate::estimate::Estimate;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// What a cell says about its content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mark {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Of less interest.
    Dim,
}

/// One cell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cell {
    text: String,
    mark: Mark,
}

impl Cell {
    /// A cell with a mark.
    pub fn new(text: impl Into<String>, mark: Mark) -> Cell {
        Cell {
            text: text.into(),
            mark,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Mark::Plain)
    }
}

/// A table that grows by rows; columns are as wide as their widest cell.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with a heading.
    pub fn new(heading: &[&str]) -> Table {
        Table {
            rows: vec![
                heading
                    .iter()
                    .map(|&text| Cell::new(text, Mark::Dim))
                    .collect(),
            ],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines.
    pub fn render(&self, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.text.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| width(column).unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (cell, &width) in row.iter().zip(&widths) {
                let padding = " ".repeat(width - cell.text.chars().count());
                line += &format!(" {}{padding} ", paint(&cell.text, cell.mark, colour));
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// Whether stdout takes colour.
pub fn colour() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` in the colour of its mark.
pub fn paint(text: &str, mark: Mark, colour: bool) -> String {
    let code = match mark {
        Mark::Good => "32",
        Mark::Bad => "1;31",
        Mark::Dim => "2",
        Mark::Plain => "",
    };
    if !colour || code.is_empty() {
        return text.to_owned();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What is being done, on stderr: one line that changes on a terminal, else a line for each step.
#[derive(Debug, Default)]
pub struct Progress {
    line_open: bool,
    estimate: Option<Estimate>,
}

impl Progress {
    /// Parts of these lengths follow: steps say what is left from now on.
    pub fn plan(&mut self, parts: Vec<Duration>) {
        self.estimate = Some(Estimate::new(parts));
    }

    /// A planned part is over.
    pub fn part_is_over(&mut self) {
        self.estimate.iter_mut().for_each(Estimate::next);
    }

    /// The next step begins.
    pub fn step(&mut self, text: &str) {
        let text = match &self.estimate {
            None => text.to_owned(),
            Some(estimate) => {
                let seconds = estimate.elapsed().as_secs();
                let (min, s) = (seconds / 60, seconds % 60);
                format!("{min}:{s:02}, {}: {text}", estimate.left())
            }
        };
        let mut stderr = std::io::stderr();
        if stderr.is_terminal() {
            self.line_open = true;
            let _ = write!(stderr, "\r\x1b[K… {text}");
            let _ = stderr.flush();
        } else {
            let _ = writeln!(stderr, "… {text}");
        }
    }

    /// No more steps, or something is to be printed.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.line_open) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_colour_does_not_count() {
        let mut table = Table::new(&["a", "long"]);
        table.row(vec![
            "größer".into(),
            Cell::new("x", Mark::Good),
            Cell::new("y", Mark::Bad),
        ]);
        let plain = table.render(false);
        assert_eq!(plain, "  a       long\n  größer  x     y\n");
        let coloured = table.render(true);
        assert!(coloured.contains("\x1b[32mx\x1b[0m    "), "{coloured:?}");
        assert!(!plain.contains('\x1b'));
    }
}
