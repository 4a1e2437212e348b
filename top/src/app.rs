//! What is shown: which screen, sorted and filtered how, what is open. Keys change it, and new looks.

use std::time::Duration;

use ringway_view::Explained;

use crate::model::Model;
use crate::rows;
use crate::table::{Row, Screen, Sort, arrange};
use crate::{Look, detail, summary};

/// What is known of a reason or counter of that name.
pub type Explain = fn(&str) -> Option<Explained>;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what it is called")]
pub enum Key {
    Char(char),
    Control(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
}

/// Longest filter.
const FILTER_MAX: usize = 60;

/// How a screen is looked at.
#[derive(Clone, Debug, Default)]
struct View {
    sort: Sort,
    /// What is selected. None: the first row, whatever that is.
    key: Option<String>,
    /// Where that was last.
    row: usize,
    /// First row on the screen.
    top: usize,
}

/// What is in the place of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Open {
    #[default]
    Nothing,
    /// The thing of that key.
    Detail(String),
    /// All that needs attention.
    Attention,
    /// The keys.
    Help,
}

/// All that is shown, and what of it.
#[derive(Clone, Debug)]
pub struct App {
    model: Model,
    explain: Explain,
    screen: Screen,
    views: [View; Screen::ALL.len()],
    filter: String,
    typing: bool,
    open: Open,
    /// First line of what is open.
    scrolled: usize,
    paused: bool,
    ended: bool,
    rows: Vec<Row>,
    /// Rows that fit the screen, and lines of what is open beyond it; the last drawing knows.
    page: usize,
    beyond: usize,
}

impl App {
    /// Before anything is known.
    pub fn new(explain: Explain) -> Self {
        let view = |screen| View {
            sort: Sort {
                column: rows::usual(screen),
                reversed: false,
            },
            ..View::default()
        };
        Self {
            model: Model::default(),
            explain,
            screen: Screen::default(),
            views: Screen::ALL.map(view),
            filter: String::new(),
            typing: false,
            open: Open::Nothing,
            scrolled: 0,
            paused: false,
            ended: false,
            rows: Vec::new(),
            page: 1,
            beyond: 0,
        }
    }

    /// The agent answered at that time.
    pub fn answered(&mut self, look: Look, at: Duration) {
        self.model.answered(look, at);
        self.arrange();
    }

    /// The agent did not answer at that time; why.
    pub fn failed(&mut self, why: &str, at: Duration) {
        self.model.failed(why, at);
    }

    /// The agent is asked at that time.
    pub fn asked(&mut self, at: Duration) {
        self.model.asked(at);
    }

    /// What is known.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Rows that the filter leaves, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The screen.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// Whether it shall end.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the agent is not to be asked.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Whether paths of peers are shown, and so to be asked for.
    pub fn wants_paths(&self) -> bool {
        self.screen == Screen::Peers && matches!(self.open, Open::Detail(_))
    }

    /// Number of the selected row.
    pub fn selected(&self) -> usize {
        let view = &self.views[self.screen.index()];
        let named = |key: &String| self.rows.iter().position(|row| row.key == *key);
        let found = view.key.as_ref().map_or(Some(0), named);
        // What is gone leaves its place to the next.
        let last = self.rows.len().saturating_sub(1);
        found.unwrap_or(view.row).min(last)
    }

    pub(crate) fn open(&self) -> &Open {
        &self.open
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    pub(crate) fn typing(&self) -> bool {
        self.typing
    }

    pub(crate) fn sort(&self) -> Sort {
        self.views[self.screen.index()].sort
    }

    /// Lines of what is open in place of a table, for so many columns.
    pub(crate) fn opened(&self, width: usize) -> Vec<String> {
        let shown = self.model.shown();
        match (&self.open, shown) {
            (Open::Nothing, _) => Vec::new(),
            (Open::Help, _) => HELP.lines().map(str::to_owned).collect(),
            (Open::Detail(key), Some(shown)) => {
                detail::lines(self.screen, key, shown, self.explain, width)
            }
            (Open::Attention, Some(shown)) => {
                let mut out = ringway_view::columns::Fields::new(width, 2);
                let all = summary::attention(shown);
                if all.is_empty() {
                    out.push("", "nothing needs attention");
                }
                all.iter().for_each(|one| out.push("!", one));
                out.finish().lines().map(str::to_owned).collect()
            }
            (_, None) => vec!["the agent has not answered yet".into()],
        }
    }

    /// The first row to be drawn, where so many fit: the selected one is among them.
    pub(crate) fn first_row(&mut self, page: usize) -> usize {
        let (selected, last) = (self.selected(), self.rows.len().saturating_sub(page));
        self.page = page.max(1);
        let view = &mut self.views[self.screen.index()];
        let least = (selected + 1).saturating_sub(self.page);
        view.top = view
            .top
            .clamp(least, selected.max(least))
            .min(last.max(least));
        view.top
    }

    /// The first line to be drawn of what is open, where so many of them fit.
    pub(crate) fn first_line(&mut self, lines: usize, page: usize) -> usize {
        self.page = page.max(1);
        self.beyond = lines.saturating_sub(page);
        self.scrolled = self.scrolled.min(self.beyond);
        self.scrolled
    }

    fn arrange(&mut self) {
        self.rows = match self.model.shown() {
            Some(shown) => rows::rows(self.screen, shown),
            None => Vec::new(),
        };
        let (columns, sort) = (rows::columns(self.screen), self.sort());
        arrange(&mut self.rows, columns, sort, &self.filter);
        let row = self.selected();
        self.views[self.screen.index()].row = row;
    }

    /// A key was pressed.
    pub fn press(&mut self, key: Key) {
        match (key, &self.open) {
            (Key::Control('c'), _) => self.ended = true,
            _ if self.typing => self.type_filter(key),
            (Key::Char('q'), _) => self.ended = true,
            (Key::Char('p'), _) => self.paused = !self.paused,
            (Key::Char('?'), Open::Help) | (Key::Char('!'), Open::Attention) => self.close(),
            (Key::Char('?'), _) => self.put_open(Open::Help),
            (Key::Char('!'), _) => self.put_open(Open::Attention),
            (Key::Tab, _) => self.go_to(self.screen.further(1)),
            (Key::BackTab, _) => self.go_to(self.screen.further(Screen::ALL.len() - 1)),
            (Key::Char(c @ '1'..='4'), _) => {
                self.go_to(Screen::ALL[usize::from(c as u8 - b'1')]);
            }
            (_, Open::Nothing) => self.press_in_table(key),
            _ => self.press_in_open(key),
        }
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Control('u') => self.filter.clear(),
            Key::Char(c) if self.filter.chars().count() < FILTER_MAX => self.filter.push(c),
            _ => {}
        }
        self.arrange();
    }

    fn press_in_table(&mut self, key: Key) {
        let last = self.rows.len().saturating_sub(1);
        let selected = self.selected();
        match key {
            Key::Up => self.select(selected.saturating_sub(1)),
            Key::Down => self.select((selected + 1).min(last)),
            Key::PageUp => self.select(selected.saturating_sub(self.page)),
            Key::PageDown => self.select((selected + self.page).min(last)),
            Key::Home => {
                let view = &mut self.views[self.screen.index()];
                (view.key, view.row) = (None, 0);
            }
            Key::End => self.select(last),
            Key::Enter => {
                if let Some(row) = self.rows.get(selected) {
                    let key = row.key.clone();
                    self.put_open(Open::Detail(key));
                }
            }
            Key::Escape => {
                self.filter.clear();
                self.arrange();
            }
            Key::Char('/') => self.typing = true,
            Key::Char('s') | Key::Right => self.sort_by(|column, all| (column + 1) % all),
            Key::Left => self.sort_by(|column, all| (column + all - 1) % all),
            Key::Char('r') => {
                let sort = &mut self.views[self.screen.index()].sort;
                sort.reversed = !sort.reversed;
                self.arrange();
            }
            Key::Char(c) => {
                let mut columns = rows::columns(self.screen).iter();
                if let Some(named) = columns.position(|column| column.letter == c) {
                    self.sort_by(|_, _| named);
                }
            }
            _ => {}
        }
    }

    fn press_in_open(&mut self, key: Key) {
        match key {
            Key::Escape | Key::Backspace => self.close(),
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::Down => self.scrolled = (self.scrolled + 1).min(self.beyond),
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(self.page),
            Key::PageDown => self.scrolled = (self.scrolled + self.page).min(self.beyond),
            Key::Home => self.scrolled = 0,
            Key::End => self.scrolled = self.beyond,
            _ => {}
        }
    }

    fn go_to(&mut self, screen: Screen) {
        self.screen = screen;
        self.close();
        self.arrange();
    }

    fn put_open(&mut self, open: Open) {
        (self.open, self.scrolled) = (open, 0);
    }

    fn close(&mut self) {
        self.put_open(Open::Nothing);
    }

    fn select(&mut self, row: usize) {
        let key = self.rows.get(row).map(|row| row.key.clone());
        let view = &mut self.views[self.screen.index()];
        (view.key, view.row) = (key, row);
    }

    fn sort_by(&mut self, next: impl FnOnce(usize, usize) -> usize) {
        let all = rows::columns(self.screen).len();
        let sort = &mut self.views[self.screen.index()].sort;
        *sort = Sort {
            column: next(sort.column, all),
            reversed: false,
        };
        self.arrange();
    }
}

/// The keys.
const HELP: &str = "\
1 2 3 4, tab      pods, peers, drops by reason, workers
up down, pages    select a row; home follows the first one, end the last
enter, esc        all about what is selected, and back
s, left, right    sort by another column
a letter          sort by the column in whose header it is underlined
r                 the other way round
/                 show only rows with a text in them; esc shows all again
!                 everything that needs attention
p                 pause: ask the agent no more, and go on
q, ctrl-c         end

TX is what a pod sends, or what is sent to a peer. RX is what a pod gets, or
what comes from a peer. Bits are those of frames, without outer headers.
- is a rate that is not known yet: there was no look before, or the counter
began again. BUSY % is the time a worker spends in rounds with frames; that
is its load, also where it polls and has a whole processor.";
