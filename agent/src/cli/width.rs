//! How wide a terminal is.

use std::io;

/// Width where nothing says another.
const USUAL: usize = 80;
/// Narrower ones cannot be served.
const LEAST: usize = 40;

/// Columns there are: the terminal's, else what `COLUMNS` says, else 80.
pub(super) fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    let terminal = terminal.map(|(width, _)| usize::from(width.0));
    let given = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(given).unwrap_or(USUAL).max(LEAST)
}
