//! The log of a process: where its lines go, what they look like, how many there may be.
//!
//! ```text
//! whoever logs ─ level ─▶ limit ─▶ form ─ a record ─▶ queue, 1,024 ─▶ thread `log` ─▶ stderr, or journald
//!               level.rs  limit.rs form.rs            queue.rs
//! ```
//!
//! Nobody who logs waits for the reader of the log, and nobody fails with it: a pipe that is full or has
//! lost its reader, a full disk and a closed descriptor cost lines, which are counted, and nothing else. The
//! count is in the log as soon as lines can be written again, and in `ringway status`.
//!
//! The subscriber is our own and small because the form may be journald's, of which the usual layer writes to the
//! socket in the thread that logs: a journald that hangs would hold up the control plane.
#![forbid(unsafe_code)]

mod form;
mod level;
mod limit;
mod output;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use form::Format;
pub use level::{Levels, WrongLevel, check as check_level};
pub use limit::left_out;
pub use queue::Log;

use form::Record;
use limit::{Admission, Limits};
use output::Output;

static INSTALLED: OnceLock<(Log, Levels)> = OnceLock::new();

/// Lines of this process that could not be written.
pub fn lost() -> u64 {
    installed().map_or(0, Log::lost)
}

/// The log of this process, once there is one.
pub fn installed() -> Option<&'static Log> {
    INSTALLED.get().map(|(log, _)| log)
}

/// What is logged by this process, once it has a log.
pub fn levels() -> Option<&'static Levels> {
    INSTALLED.get().map(|(_, levels)| levels)
}

/// Sends what this process logs, and its panics, by a thread of its own to stderr or, in [`Format::Journald`], to the
/// journal. `level` is what the configuration says; the variable `RUST_LOG` goes before it.
///
/// # Errors
/// The thread cannot be made.
pub fn install(format: Format, level: &str) -> io::Result<Log> {
    let (form, output) = Output::open(format);
    let log = Log::start(form, output)?;
    let given = std::env::var_os("RUST_LOG").map(|given| given.to_string_lossy().into_owned());
    let (levels, layer, complaint) = Levels::new(level, given.as_deref());
    let lines = Lines {
        log: log.clone(),
        limits: Limits::default(),
    };
    // A second subscriber is refused, which is fine.
    let _ = tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .try_init();
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    if let (Format::Journald, false) = (format, log.form().is_journald()) {
        tracing::warn!(
            "there is no journald at {}: the log goes to stderr",
            output::SOCKET
        );
    }
    let panics = log.clone();
    // The standard one writes to stderr itself, and would wait for a reader that does not read.
    std::panic::set_hook(Box::new(move |info| {
        let current = std::thread::current();
        let name = current.name().unwrap_or("without a name");
        let mut text = format!("thread {name} {info}");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text.push('\n');
            text.push_str(backtrace.to_string().trim_end());
        }
        panics.say(Level::ERROR, &text);
    }));
    Ok(INSTALLED.get_or_init(|| (log, levels)).0.clone())
}

/// Makes records of events.
struct Lines {
    log: Log,
    limits: Limits,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let left_out = match self.admit(metadata) {
            Admission::Yes => None,
            Admission::YesAfter(lines) => Some(lines),
            Admission::No => return,
        };
        let mut record = Record::of(event);
        if let Some(lines) = left_out {
            record.add("left_out", lines.into());
        }
        self.log.write(&record);
    }
}

impl Lines {
    fn admit(&self, metadata: &Metadata<'_>) -> Admission {
        // Whoever asks for more wants all of it.
        if *metadata.level() > Level::INFO {
            return Admission::Yes;
        }
        self.limits.admit(metadata.callsite(), Instant::now())
    }
}

/// Waits for what was logged to be written, but not for ever.
pub fn finish(limit: Duration) {
    if let Some(log) = installed() {
        log.flush(limit);
    }
}
