//! Text for people: as wide as a terminal, and nothing cut off.

use std::fmt;

/// Space between two columns, and before the lines that continue a row.
const GAP: usize = 2;
/// A last column narrower than this goes to a line of its own instead of being broken.
const READABLE: usize = 24;
/// What goes behind a number.
const UNITS: [&str; 19] = [
    "B", "kB", "MB", "GB", "TB", "PB", "k", "M", "G", "T", "%", "d", "h", "min", "s", "ms", "us",
    "pk", "bytes",
];

/// Columns that share a line, each with its width.
type Line = Vec<(usize, usize)>;

/// Rows under a header. A row that is wider than the terminal goes on in further lines, as its header does;
/// what is wider than a line is broken. Where the last column alone has no room, only those rows go on that need it.
pub struct Rows<const N: usize> {
    rows: Vec<[String; N]>,
    width: usize,
}

impl<const N: usize> Rows<N> {
    /// With that header, for a terminal of so many columns.
    pub fn new(width: usize, header: &[&str; N]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned)],
            width,
        }
    }

    /// Adds a row: a cell for each column.
    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// Which columns share a line, and how wide each is.
    fn lines(&self, width: usize) -> Vec<Line> {
        let widest = |column: usize, measure: fn(&str) -> usize| {
            let cells = self.rows.iter().map(|row| measure(&row[column]));
            cells.max().unwrap_or(0)
        };
        let mut lines = vec![Vec::new()];
        let mut used = 0;
        for column in 0..N {
            let wanted = widest(column, length);
            let first = lines.last().is_none_or(Vec::is_empty);
            let start = if first { used } else { used + GAP };
            let room = width.saturating_sub(start);
            let fits = wanted <= room;
            let broken = column + 1 == N
                && room >= READABLE
                && widest(column, |cell| {
                    cell.split(' ').map(length).max().unwrap_or(0)
                }) <= room;
            if !first && !fits && !broken {
                lines.push(Vec::new());
                used = GAP;
            } else {
                used = start;
            }
            let taken = wanted.min(width.saturating_sub(used));
            used += taken;
            if let Some(line) = lines.last_mut() {
                line.push((column, taken));
            }
        }
        lines
    }

    /// The same with the last column on the first line, if all others are there.
    fn joined(lines: &[Line]) -> Option<(usize, Vec<Line>)> {
        let [first, last] = lines else { return None };
        let [(column, taken)] = last[..] else {
            return None;
        };
        let start: usize = first.iter().map(|(_, taken)| taken + GAP).sum();
        let joined = first.iter().copied().chain([(column, taken)]);
        Some((start, vec![joined.collect()]))
    }

    fn render(&self, width: usize) -> String {
        let below = self.lines(width);
        let beside = Self::joined(&below);
        let mut out = String::new();
        for row in &self.rows {
            let lines = match &beside {
                Some((start, lines))
                    if start + row.last().map_or(0, |cell| length(cell)) <= width =>
                {
                    lines
                }
                _ => &below,
            };
            for (n, line) in lines.iter().enumerate() {
                let cells: Vec<(Vec<String>, usize)> = line
                    .iter()
                    .map(|(column, taken)| (wrap(&row[*column], *taken), *taken))
                    .collect();
                let height = cells.iter().map(|(cell, _)| cell.len()).max();
                for part in 0..height.unwrap_or(0) {
                    let mut text = " ".repeat(if n == 0 { 0 } else { GAP });
                    for (cell, taken) in &cells {
                        let cell = cell.get(part).map_or("", String::as_str);
                        text.push_str(cell);
                        text.push_str(&" ".repeat(taken + GAP - length(cell).min(*taken)));
                    }
                    let text = text.trim_end();
                    if n == 0 || !text.is_empty() {
                        out.push_str(text);
                        out.push('\n');
                    }
                }
            }
        }
        out
    }
}

impl<const N: usize> fmt::Display for Rows<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(self.width))
    }
}

/// Lines with a label in front; what does not fit goes on behind it.
pub struct Fields {
    text: String,
    label: usize,
    width: usize,
}

impl Fields {
    /// With labels of that many columns, for a terminal of `width`.
    pub fn new(width: usize, label: usize) -> Self {
        Self {
            text: String::new(),
            label,
            width,
        }
    }

    /// Adds a line; without a text behind its label the line is that label.
    pub fn push(&mut self, label: &str, text: &str) {
        let mut rest = format!("{label:<width$}{text}", width = self.label);
        let mut indent = 0;
        loop {
            let line = wrap(&rest, self.width.saturating_sub(indent)).remove(0);
            let spaces = " ".repeat(indent);
            self.text
                .push_str(&format!("{spaces}{}\n", line.trim_end()));
            let left = rest[line.len()..].trim_start();
            if left.is_empty() {
                return;
            }
            rest = left.to_owned();
            indent = self.label + GAP;
        }
    }

    /// A line without a label; what does not fit goes on below.
    pub fn heading(&mut self, text: &str) {
        let mut heading = Fields {
            text: String::new(),
            label: 0,
            width: self.width,
        };
        heading.push("", text);
        self.text.push_str(&heading.text);
    }

    /// A line as it is.
    pub fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// All lines.
    pub fn finish(self) -> String {
        self.text
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Lines of at most `width` columns: broken at a space; within a word that is longer than a line, behind one
/// of `/-.,:` if there is one in the second half, else where the line ends. A number keeps its unit.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut rest = text;
    while length(rest) > width {
        // The first character that is too much.
        let end = rest
            .char_indices()
            .nth(width)
            .map_or(rest.len(), |(at, _)| at);
        // A label before the text is spaces, too.
        let spaces = rest.match_indices(' ').map(|(at, _)| at);
        let spaces = spaces
            .take_while(|at| *at <= end)
            .filter(|at| !rest[..*at].trim().is_empty());
        let space = spaces
            .clone()
            .filter(|at| !is_before_unit(rest, *at))
            .last()
            .or_else(|| spaces.last());
        let behind = rest[..end]
            .rfind(['/', '-', '.', ',', ':'])
            .map(|at| at + 1);
        let at = space.or(behind.filter(|at| *at > end / 2)).unwrap_or(end);
        lines.push(rest[..at].trim_end().to_owned());
        rest = rest[at..].trim_start();
    }
    lines.push(rest.to_owned());
    lines
}

/// Whether at this space a number ends and its unit begins.
fn is_before_unit(text: &str, space: usize) -> bool {
    let (before, after) = text.split_at(space);
    let unit = after.trim_start().split([' ', ',', ';', ':', ')']).next();
    before.ends_with(|c: char| c.is_ascii_digit()) && unit.is_some_and(|unit| UNITS.contains(&unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut rows = Rows::new(80, &["A", "B"]);
        rows.push(["long".into(), "é".into()]);
        rows.push(["x".into(), String::new()]);
        assert_eq!(rows.render(80), "A     B\nlong  é\nx\n");
    }

    #[test]
    fn a_row_that_is_too_wide_goes_on_below() {
        let mut rows = Rows::new(80, &["NAME", "ADDRESS", "MAC"]);
        rows.push(["a".repeat(20), "b".repeat(30), "c".into()]);
        rows.push(["x".into(), "y".into(), String::new()]);
        let (a, b) = ("a".repeat(20), "b".repeat(30));
        let gap = " ".repeat(25);
        assert_eq!(
            rows.render(40),
            format!("NAME\n  ADDRESS{gap}MAC\n{a}\n  {b}  c\nx\n  y\n")
        );
        let one = rows.render(60);
        assert_eq!(one.lines().count(), 3, "{one}");
    }

    #[test]
    fn where_the_last_column_alone_has_no_room_only_those_rows_go_on_that_need_it() {
        let mut rows = Rows::new(80, &["MAC", "PORT", "NAME"]);
        let long = "monitoring/prometheus-7";
        for (port, name) in [("1", "db/pg-1"), ("2", long), ("3", "")] {
            rows.push(["02:01".into(), port.into(), name.into()]);
        }
        let text =
            format!("MAC    PORT  NAME\n02:01  1     db/pg-1\n02:01  2\n  {long}\n02:01  3\n");
        assert_eq!(rows.render(30), text);
        assert_eq!(rows.render(36).lines().count(), 4, "{}", rows.render(36));
    }

    #[test]
    fn a_number_keeps_its_unit() {
        assert_eq!(wrap("pid 1, up 52 s", 13), ["pid 1, up", "52 s"]);
        assert_eq!(
            wrap("buffer 14.7 MB, MTU 1450 bytes; 3 peers", 11),
            ["buffer", "14.7 MB,", "MTU", "1450 bytes;", "3 peers"]
        );
        // There is no other place.
        assert_eq!(wrap("52 s", 3), ["52", "s"]);
        assert_eq!(wrap("1450 bytes", 8), ["1450", "bytes"]);
    }

    #[test]
    fn a_text_in_the_last_column_is_broken_at_spaces() {
        let mut rows = Rows::new(80, &["KEY", "MEANING"]);
        rows.push([
            "node.name".into(),
            "name of this node; default: hostname".into(),
        ]);
        assert_eq!(
            rows.render(40),
            "KEY        MEANING\nnode.name  name of this node; default:\n           hostname\n"
        );
    }

    #[test]
    fn words_longer_than_a_line_are_broken_and_whole() {
        let long = format!("/run/netns/cni-{}", "0123456789abcdef".repeat(4));
        for width in [1, 10, 40, 79] {
            let lines = wrap(&long, width);
            assert!(lines.iter().all(|line| length(line) <= width), "{lines:?}");
            assert_eq!(lines.concat(), long);
        }
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("é é é", 3), ["é é", "é"]);
        assert_eq!(wrap("default/web-1234", 12), ["default/web-", "1234"]);
    }

    #[test]
    fn fields_go_on_behind_their_label() {
        let mut fields = Fields::new(40, 10);
        fields.push(
            "underlay",
            "eth0 192.168.77.1 2001:db8:1234:5678::1, MTU 1500",
        );
        fields.push("", "short");
        let text = fields.finish();
        let expected = "underlay  eth0 192.168.77.1\n            2001:db8:1234:5678::1, MTU\n            \
                        1500\n          short\n";
        assert_eq!(text, expected);
    }
}
