//! Where log lines go: over a queue that has an end, to a thread that writes them.
//!
//! ```text
//! whoever logs ─ a line ─▶ queue, 1,024 lines ─▶ thread `log` ─▶ stderr
//! ```
//!
//! Nobody who logs waits for the reader of the log, and nobody fails with it: a pipe that is full or has
//! lost its reader, a full disk and a closed descriptor cost lines, which are counted, and nothing else. The
//! count is in the log as soon as lines can be written again, and in `ringway status`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait at most; some 200 KB.
const QUEUE: usize = 1024;
/// Levels that `RUST_LOG` may name alone.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged unless RUST_LOG says more. That a connection to the API server ended is the library's warning for
/// each watch; we say it once, with what it means.
const USUAL: &str = "info,kube_client=error";

static LOST: AtomicU64 = AtomicU64::new(0);
static INSTALLED: OnceLock<Log> = OnceLock::new();

/// Lines of this process that were lost.
pub fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// The log of this process, once there is one.
pub(crate) fn installed() -> Option<&'static Log> {
    INSTALLED.get()
}

enum Message {
    Line(Vec<u8>),
    /// Dropped when all lines before it are written.
    Written(#[allow(dead_code, reason = "its end is the message")] Sender<()>),
}

/// Takes lines; a clone feeds the same queue.
#[derive(Clone)]
pub(crate) struct Log {
    queue: Sender<Message>,
    lost: &'static AtomicU64,
}

impl Log {
    /// Starts the thread that writes to `out`. It ends when the last clone is gone.
    fn start(
        out: impl Write + Send + 'static,
        lost: &'static AtomicU64,
    ) -> io::Result<(Log, std::thread::JoinHandle<()>)> {
        let (queue, lines) = bounded(QUEUE);
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_out(out, &lines, lost))?;
        Ok((Log { queue, lost }, thread))
    }

    /// Sends what this process logs, and its panics, to stderr by a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn install(ansi: bool) -> io::Result<Log> {
        let (log, _) = Log::start(io::stderr(), &LOST)?;
        let given = std::env::var_os("RUST_LOG").map(|given| given.to_string_lossy().into_owned());
        let (filter, complaint) = filter(given.as_deref());
        // A second subscriber is refused, which is fine.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(log.clone())
            .with_ansi(ansi)
            .with_target(false)
            .try_init();
        if let Some(complaint) = complaint {
            tracing::warn!("{complaint}");
        }
        let panics = log.clone();
        // The standard one writes to stderr itself, and would wait for a reader that does not read.
        std::panic::set_hook(Box::new(move |info| {
            let current = std::thread::current();
            let name = current.name().unwrap_or("without a name");
            let mut text = format!("thread {name} {info}\n");
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                text.push_str(&backtrace.to_string());
            }
            panics.line(text.into_bytes());
        }));
        Ok(INSTALLED.get_or_init(|| log).clone())
    }

    /// Takes a line with its end.
    pub(crate) fn line(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits until what was logged before is written, but no longer than `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let (written, done) = bounded(0);
        let sent = self.queue.send_deadline(Message::Written(written), end);
        if sent.is_ok() {
            let _ = done.recv_deadline(end);
        }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

fn write_out(mut out: impl Write, lines: &Receiver<Message>, lost: &AtomicU64) {
    let mut told = 0;
    let mut tell = |out: &mut dyn Write| {
        let now = lost.load(Relaxed);
        if now > told {
            let lines = now - told;
            let notice =
                format!("{lines} log lines were lost: they could not be written in time\n");
            if out.write_all(notice.as_bytes()).is_ok() {
                told = now;
            }
        }
    };
    for message in lines {
        tell(&mut out);
        match message {
            Message::Line(line) => {
                if out.write_all(&line).is_err() {
                    lost.fetch_add(1, Relaxed);
                }
            }
            Message::Written(_) => {
                let _ = out.flush();
            }
        }
    }
}

/// What is logged: level `info`, changed by what `RUST_LOG` says. With a complaint about what it says and
/// nobody understands; such a word never silences the log.
fn filter(given: Option<&str>) -> (EnvFilter, Option<String>) {
    let given = given.unwrap_or_default().trim();
    let known = |word: &str| {
        word.is_empty()
            || word.contains(['=', '['])
            || word.starts_with("ringway")
            || word.parse::<usize>().is_ok_and(|level| level <= 5)
            || LEVELS.contains(&word.to_ascii_lowercase().as_str())
    };
    let unknown = given.split(',').map(str::trim).find(|word| !known(word));
    let complain = |why: &str| {
        Some(format!(
            "RUST_LOG={given:?}: {why}; what it does not change is logged from level info up\n  \
             to do: set it to error, warn, info, debug or trace"
        ))
    };
    match EnvFilter::try_new(format!("{USUAL},{given}")) {
        Ok(filter) => {
            let why = unknown.map(|word| format!("{word:?} is no level"));
            (filter, why.and_then(|why| complain(&why)))
        }
        Err(e) => (EnvFilter::new(USUAL), complain(&e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What was written; fails while told to, and waits while `gate` is held.
    #[derive(Clone, Default)]
    struct Out {
        text: Arc<Mutex<String>>,
        full: Arc<Mutex<bool>>,
        gate: Arc<Mutex<()>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            if *self.full.lock().unwrap() {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.text
                .lock()
                .unwrap()
                .push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started() -> (Log, Out, &'static AtomicU64) {
        let out = Out::default();
        let lost: &'static AtomicU64 = Box::leak(Box::default());
        let (log, _) = Log::start(out.clone(), lost).unwrap();
        (log, out, lost)
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn what_cannot_be_written_is_counted_and_told_afterwards() {
        let (log, out, lost) = started();
        log.line(b"one\n".to_vec());
        log.flush(LIMIT);
        *out.full.lock().unwrap() = true;
        log.line(b"two\n".to_vec());
        log.line(b"three\n".to_vec());
        log.flush(LIMIT);
        assert_eq!(lost.load(Relaxed), 2);
        *out.full.lock().unwrap() = false;
        log.line(b"four\n".to_vec());
        log.flush(LIMIT);
        let expected = "one\n2 log lines were lost: they could not be written in time\nfour\n";
        assert_eq!(*out.text.lock().unwrap(), expected);
        assert_eq!(lost.load(Relaxed), 2);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (log, out, lost) = started();
        let gate = out.gate.lock().unwrap();
        let begin = Instant::now();
        let sent = 3 * QUEUE as u64;
        for n in 0..sent {
            log.line(format!("{n}\n").into_bytes());
        }
        log.flush(Duration::from_millis(10));
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        // The thread has one line in its hands, or none yet.
        let dropped = lost.load(Relaxed);
        assert!(
            (sent - 1 - QUEUE as u64..=sent - QUEUE as u64).contains(&dropped),
            "{dropped}"
        );
        drop(gate);
        log.flush(LIMIT);
        let text = out.text.lock().unwrap();
        assert_eq!(
            text.lines().count() as u64,
            sent - dropped + 1,
            "and the notice"
        );
        assert!(
            text.contains(&format!("{dropped} log lines were lost")),
            "{text}"
        );
    }

    #[test]
    fn no_word_of_rust_log_silences_the_log() {
        for (given, filter_is, complaint) in [
            (None, "info", None),
            (Some(""), "info", None),
            (Some("debug"), "debug", None),
            (Some("WARN"), "warn", None),
            (Some("off"), "off", None),
            (
                Some("ringway_agent::control=debug"),
                "ringway_agent::control=debug,info",
                None,
            ),
            (
                Some("verbose"),
                "verbose=trace,info",
                Some("\"verbose\" is no level"),
            ),
            (
                Some("debug,loud"),
                "loud=trace,debug",
                Some("\"loud\" is no level"),
            ),
            (Some("ringway=loud"), "info", Some("expected one of")),
        ] {
            let (found, why) = filter(given);
            let mut found: Vec<String> = found.to_string().split(',').map(str::to_owned).collect();
            found.retain(|directive| directive != "kube_client=error");
            assert_eq!(found.join(","), filter_is, "{given:?}");
            match complaint {
                None => assert_eq!(why, None, "{given:?}"),
                Some(words) => {
                    let why = why.unwrap();
                    assert!(why.contains(words) && why.contains("to do: "), "{why}");
                    assert!(
                        why.contains(&format!("RUST_LOG={:?}", given.unwrap())),
                        "{why}"
                    );
                }
            }
        }
    }
}
