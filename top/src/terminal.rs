//! The terminal: taken, drawn on, and given back, whatever happens.
//!
//! One thread draws and reads keys. Who asks the agent has another, for an answer may take long: an [`Ask`] goes
//! there, [`News`] come back. Whatever ends it, an error or a panic too, the terminal is as it was before
//! (`ratatui::restore`, also called by the panic hook that `ratatui::try_init` sets).

use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::app::{App, Explain, Key};
use crate::draw::{Palette, draw};
use crate::look::Look;

/// Longest that news wait while an answer is due.
const SOON: Duration = Duration::from_millis(20);
/// Longest that they wait otherwise.
const IDLE: Duration = Duration::from_millis(200);
/// The second look comes early: rates are known after it.
const SECOND: Duration = Duration::from_millis(500);

/// A look is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// With the paths to peers.
    pub paths: bool,
}

/// What comes from outside.
#[derive(Debug)]
pub enum News {
    /// What the agent answered, and when.
    Look(Box<Look>, Instant),
    /// Why it did not, and when.
    Away(String, Instant),
    /// It shall end: a signal.
    End,
    /// Nobody asks the agent any more.
    Broken,
}

/// Why the view ended against its will.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The terminal cannot be used.
    #[error(
        "the terminal cannot be used: {0}\n  to do: use `ringway top --once`, which needs none"
    )]
    Terminal(#[from] io::Error),
    /// Nobody asks the agent any more.
    #[error("asking the agent ended unexpectedly\n  to do: report this")]
    Asking,
}

/// How it is shown, and of whom.
#[derive(Debug)]
pub struct Live {
    /// The first look, and when it was.
    pub first: (Look, Instant),
    /// Between two looks.
    pub interval: Duration,
    /// How things stand out.
    pub palette: Palette,
    /// What is known of reasons.
    pub explain: Explain,
    /// Where a look is asked for.
    pub asks: Sender<Ask>,
    /// What comes from outside.
    pub news: Receiver<News>,
}

/// Shows the node until somebody has seen enough.
///
/// # Errors
/// The terminal cannot be used, or nobody asks the agent any more.
pub fn run(live: Live) -> Result<(), TopError> {
    let taken = ratatui::try_init();
    let _restore = Restore;
    live.show(&mut taken?)
}

/// Gives the terminal back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // Best effort: the terminal may be gone.
        let _ = ratatui::try_restore();
    }
}

impl Live {
    fn show(self, terminal: &mut DefaultTerminal) -> Result<(), TopError> {
        let (look, began) = self.first;
        let mut app = App::new(self.explain);
        app.answered(look, Duration::ZERO);
        let mut due = began + self.interval.min(SECOND);
        let mut asked = None;
        let mut drawn: Option<Instant> = None;
        while !app.ended() {
            let now = Instant::now();
            // Ages on the screen grow by seconds.
            if drawn.is_none_or(|drawn| now - drawn >= Duration::from_secs(1)) {
                terminal.draw(|frame| draw(frame, &mut app, self.palette, now - began))?;
                drawn = Some(now);
            }
            let wait = match asked {
                Some(at) if now - at < Duration::from_secs(1) => SOON,
                Some(_) => IDLE,
                None if app.paused() => IDLE,
                None => due.saturating_duration_since(now).min(IDLE),
            };
            if event::poll(wait)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let had_paths = app.wants_paths();
                        pressed(key).into_iter().for_each(|key| app.press(key));
                        if app.wants_paths() && !had_paths {
                            due = Instant::now();
                        }
                        drawn = None;
                    }
                    Event::Resize(..) => drawn = None,
                    _ => {}
                }
            }
            loop {
                match self.news.try_recv() {
                    Ok(News::Look(look, at)) => app.answered(*look, at - began),
                    Ok(News::Away(why, at)) => app.failed(&why, at - began),
                    Ok(News::End) => return Ok(()),
                    Err(TryRecvError::Empty) => break,
                    Ok(News::Broken) | Err(TryRecvError::Disconnected) => {
                        return Err(TopError::Asking);
                    }
                }
                (asked, drawn) = (None, None);
            }
            let now = Instant::now();
            if asked.is_none() && !app.paused() && now >= due {
                let ask = Ask {
                    paths: app.wants_paths(),
                };
                self.asks.send(ask).map_err(|_| TopError::Asking)?;
                app.asked(now - began);
                asked = Some(now);
                due = now + self.interval;
            }
        }
        Ok(())
    }
}

/// The key that it is, if it is one of ours.
fn pressed(key: KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char(c) if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Control(c),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
