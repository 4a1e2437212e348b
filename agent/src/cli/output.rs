//! What the command line writes.
//!
//! A reader that has gone (`ringway pods | head -1`) has seen what it wanted: the command ends quietly and
//! with 0, also under `set -o pipefail`. SIGPIPE stays ignored, as Rust's runtime has it: it would end an
//! agent whose log or whose client goes away. Any other failure of stdout is an error, since a script would
//! take half an answer for a whole one. What is said on stderr never decides anything.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::Failure;
use tracing::Level;

/// Longest the end of a process waits for the reader of its log.
const LOG_LIMIT: Duration = Duration::from_secs(1);

/// Writes an answer to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(drop)
}

/// The same for one of many; false: nobody reads any more.
pub(super) fn print_on(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(e)),
        written => Ok(written.is_ok()),
    }
}

/// The same with colours, where stdout is a terminal.
pub(super) fn print_styled(text: &clap::builder::StyledStr) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        print(&text.ansi().to_string())
    } else {
        print(&text.to_string())
    }
}

/// Writes to stderr: behind the log, where there is one.
pub(super) fn complain(text: &str) {
    match ringway_log::installed() {
        Some(log) => {
            log.say(Level::ERROR, text);
            log.flush(LOG_LIMIT);
        }
        None => {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// Waits for the log to be written, but not for ever.
pub(super) fn finish_log() {
    ringway_log::finish(LOG_LIMIT);
}
