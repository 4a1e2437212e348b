//! A frame of any size.
//!
//! ```text
//!   node, workers and drops, in, out     as many as there is room for
//!   what needs attention, or NO ANSWER
//!   [1 pods 110]  2 peers …              by TX bit/s, most first
//!   POD        TX bit/s …
//!   rows, or what is open
//!   keys
//! ```

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::app::{App, Open};
use crate::rows;
use crate::summary::{self, Said};
use crate::table::{Column, GAP, Row, Screen, fitting};
use crate::text::{clean, fit};

/// Lines that the table has before the summary has any.
const TABLE_LEAST: usize = 6;

/// How things stand out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    /// By colours, too.
    pub colours: bool,
}

impl Palette {
    fn bad(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match self.colours {
            true => style.fg(Color::Red),
            false => style,
        }
    }

    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws everything as it is at that time.
pub fn draw(frame: &mut Frame<'_>, app: &mut App, palette: Palette, now: Duration) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    let mut lines = head(app, palette, now, width, height.saturating_sub(1));
    let body = height.saturating_sub(lines.len() + 1);
    match app.open() {
        Open::Nothing => table(&mut lines, app, palette, width, body),
        _ => {
            let opened = app.opened(width);
            let first = app.first_line(opened.len(), body);
            let opened = opened.into_iter().skip(first).take(body);
            lines.extend(opened.map(Line::raw));
        }
    }
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        let row = Rect::new(area.x, y, area.width, 1);
        frame.render_widget(line, row);
    }
    let last = Rect::new(area.x, area.bottom() - 1, area.width, 1);
    frame.render_widget(Line::raw(fit(&footer(app), width)), last);
}

/// What stands above the table or what is open.
fn head(
    app: &App,
    palette: Palette,
    now: Duration,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let line = |said: Said| {
        let style = if said.bad {
            palette.bad()
        } else {
            Style::new()
        };
        Line::styled(cut(&said.text, width), style)
    };
    let mut notice: Vec<Line<'static>> = Vec::new();
    notice.extend(summary::notice(app.model(), now).map(line));
    let away = app.model().away(now).is_some();
    let room = height.saturating_sub(TABLE_LEAST + 1);
    // That the agent is away must be seen.
    let noticed = if away { 1 } else { room.min(1) };
    notice.truncate(noticed);
    let mut lines = Vec::new();
    if let Some(shown) = app.model().shown() {
        let all = summary::lines(shown, width).into_iter();
        let all = all.take(room.saturating_sub(notice.len()));
        lines.extend(all.map(|mut said| {
            // A rate of drops stands out in its own line.
            said.text = clean(&said.text);
            line(said)
        }));
    }
    lines.extend(notice);
    lines.push(tabs(app, palette, width));
    lines
}

/// From its beginning, as far as there is room.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "~"
}

fn tabs(app: &App, palette: Palette, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for screen in Screen::ALL {
        let all = app.model().shown().map(|shown| rows::count(screen, shown));
        let count = match (all, screen == app.screen() && !app.filter().is_empty()) {
            (None, _) => String::new(),
            (Some(all), false) => format!(" {all}"),
            (Some(all), true) => format!(" {} of {all}", app.rows().len()),
        };
        let name = format!("{} {}{count}", screen.index() + 1, screen.name());
        let span = match screen == app.screen() {
            true => Span::styled(format!("[{name}]"), palette.head()),
            false => Span::raw(format!(" {name} ")),
        };
        used += span.content.chars().count();
        spans.push(span);
    }
    let mut right = match app.open() {
        Open::Nothing => app.sort().describe(rows::columns(app.screen())),
        _ => "esc: back".into(),
    };
    if app.paused() {
        right = format!("PAUSED, {right}");
    }
    let right = fit(&right, width.saturating_sub(used + 1));
    let space = width.saturating_sub(used + right.chars().count());
    spans.push(Span::raw(" ".repeat(space)));
    let style = if app.paused() {
        palette.bad()
    } else {
        Style::new()
    };
    spans.push(Span::styled(right, style));
    Line::from(spans)
}

fn table(
    lines: &mut Vec<Line<'static>>,
    app: &mut App,
    palette: Palette,
    width: usize,
    height: usize,
) {
    let columns = rows::columns(app.screen());
    let longest = app
        .model()
        .shown()
        .map_or(0, |shown| longest(app.screen(), shown));
    let fit = fitting(columns, width, longest);
    lines.push(header(columns, &fit, app.sort().column, palette));
    let page = height.saturating_sub(1);
    if app.rows().is_empty() {
        lines.push(Line::raw(cut(nothing(app), width)));
        return;
    }
    let (first, selected) = (app.first_row(page), app.selected());
    let shown = app.rows().iter().enumerate().skip(first).take(page);
    lines.extend(shown.map(|(n, row)| {
        let mut style = if row.bad { palette.bad() } else { Style::new() };
        if n == selected {
            style = style.patch(palette.chosen());
        }
        Line::styled(cells(row, columns, &fit), style)
    }));
}

/// Longest name of all that there is, filtered or not, so that columns stay where they are.
fn longest(screen: Screen, shown: &crate::Shown) -> usize {
    let length = |name: &str| name.chars().count();
    let look = &shown.look;
    let longest = match screen {
        Screen::Pods => look.pods.iter().map(|pod| length(&pod.name)).max(),
        Screen::Peers => look.peers.iter().map(|peer| length(&peer.name)).max(),
        Screen::Drops => Some(24),
        Screen::Workers => Some(10),
    };
    longest.unwrap_or(0)
}

/// What is in the place of rows.
fn nothing(app: &App) -> &'static str {
    match (app.model().shown(), app.filter().is_empty()) {
        (None, _) => "the agent has not answered yet",
        (_, false) => "nothing has that in it; esc shows all",
        (Some(_), true) => nobody(app.screen()),
    }
}

/// What an empty table says.
pub(crate) fn nobody(screen: Screen) -> &'static str {
    match screen {
        Screen::Pods => "no pods",
        Screen::Peers => "no peers",
        Screen::Drops => "nothing was dropped since the agent started",
        Screen::Workers => "no workers",
    }
}

fn header(
    columns: &[Column],
    fit: &[(usize, usize)],
    sorted: usize,
    palette: Palette,
) -> Line<'static> {
    let mut spans = Vec::new();
    for (n, (i, width)) in fit.iter().enumerate() {
        let Some(column) = columns.get(*i) else {
            continue;
        };
        let style = match *i == sorted {
            true => palette.head().patch(palette.chosen()),
            false => palette.head(),
        };
        let title: String = column.title.chars().take(*width).collect();
        let space = " ".repeat(width - title.chars().count());
        let gap = if n == 0 { "" } else { "  " };
        spans.push(Span::raw(gap));
        if !column.kind.is_left() {
            spans.push(Span::raw(space.clone()));
        }
        // The letter that sorts by it is underlined.
        let title: Vec<char> = title.chars().collect();
        let at = title
            .iter()
            .position(|c| c.to_ascii_lowercase() == column.letter);
        for (k, c) in title.iter().enumerate() {
            let style = match at == Some(k) {
                true => style.add_modifier(Modifier::UNDERLINED),
                false => style,
            };
            spans.push(Span::styled(c.to_string(), style));
        }
        if column.kind.is_left() {
            spans.push(Span::raw(space));
        }
    }
    Line::from(spans)
}

fn cells(row: &Row, columns: &[Column], fitting: &[(usize, usize)]) -> String {
    let mut text = String::new();
    for (n, (i, width)) in fitting.iter().enumerate() {
        let (Some(cell), Some(column)) = (row.cells.get(*i), columns.get(*i)) else {
            continue;
        };
        if n > 0 {
            text.push_str(&" ".repeat(GAP));
        }
        let cell = fit(&cell.text, *width);
        let space = " ".repeat(width - cell.chars().count());
        match column.kind.is_left() {
            true => text.extend([cell, space]),
            false => text.extend([space, cell]),
        }
    }
    text
}

fn footer(app: &App) -> String {
    let filter = clean(app.filter());
    match (app.typing(), app.open()) {
        (true, _) => format!("filter: {filter}_   enter keeps it, esc shows all"),
        (_, Open::Nothing) if !filter.is_empty() => {
            format!("filter: {filter}   / another  esc shows all  enter details  ? keys  q quit")
        }
        (_, Open::Nothing) => {
            "1-4 view  s sort  r reverse  / filter  enter details  p pause  ? keys  q quit".into()
        }
        _ => "esc back  up, down scroll  1-4 view  p pause  ? keys  q quit".into(),
    }
}
