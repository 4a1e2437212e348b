//! A queue that has an end, to a thread that writes.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::Level;

use crate::form::{Form, Record};

/// Lines that wait at most; some 200 KB.
const QUEUE: usize = 1024;

enum Message {
    Line(Vec<u8>),
    /// Dropped when all lines before it are written.
    Written(#[allow(dead_code, reason = "its end is the message")] Sender<()>),
}

/// Takes records; a clone feeds the same queue.
#[derive(Clone)]
pub struct Log {
    queue: Sender<Message>,
    form: Form,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread that writes records of this form to `out`. It ends when the last clone is gone.
    pub(crate) fn start(form: Form, out: impl Write + Send + 'static) -> std::io::Result<Log> {
        let (queue, lines) = bounded(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let count = lost.clone();
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_out(out, form, &lines, &count))?;
        Ok(Log { queue, form, lost })
    }

    /// What its lines look like.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Takes words that are no event: the last ones of a process.
    pub fn say(&self, level: Level, text: &str) {
        match self.form {
            Form::Text { .. } => self.line(format!("{text}\n").into_bytes()),
            _ => self.write(&Record::plain(level, text)),
        }
    }

    pub(crate) fn write(&self, record: &Record<'_>) {
        self.line(record.bytes(self.form));
    }

    fn line(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits until what was logged before is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let (written, done) = bounded(0);
        let sent = self.queue.send_deadline(Message::Written(written), end);
        if sent.is_ok() {
            let _ = done.recv_deadline(end);
        }
    }
}

fn write_out(mut out: impl Write, form: Form, lines: &Receiver<Message>, lost: &AtomicU64) {
    let mut told = 0;
    let mut tell = |out: &mut dyn Write| {
        let now = lost.load(Relaxed);
        if now > told {
            let text = format!(
                "{} log lines were lost: they could not be written in time",
                now - told
            );
            let notice = Record::plain(Level::WARN, &text).bytes(form);
            if out.write_all(&notice).is_ok() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

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
                return Err(io::ErrorKind::StorageFull.into());
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

    fn started() -> (Log, Out) {
        let out = Out::default();
        let log = Log::start(Form::Text { ansi: false }, out.clone()).unwrap();
        (log, out)
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn what_cannot_be_written_is_counted_and_told_afterwards() {
        let (log, out) = started();
        log.line(b"one\n".to_vec());
        log.flush(LIMIT);
        *out.full.lock().unwrap() = true;
        log.line(b"two\n".to_vec());
        log.line(b"three\n".to_vec());
        log.flush(LIMIT);
        assert_eq!(log.lost(), 2);
        *out.full.lock().unwrap() = false;
        log.line(b"four\n".to_vec());
        log.flush(LIMIT);
        let text = out.text.lock().unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines[2], lines.len()), ("one", "four", 3));
        let notice = " WARN 2 log lines were lost: they could not be written in time";
        assert!(lines[1].ends_with(notice), "{text}");
        assert_eq!(log.lost(), 2);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (log, out) = started();
        let gate = out.gate.lock().unwrap();
        let begin = Instant::now();
        let sent = 3 * QUEUE as u64;
        for n in 0..sent {
            log.line(format!("{n}\n").into_bytes());
        }
        log.flush(Duration::from_millis(10));
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        // The thread has one line in its hands, or none yet.
        let dropped = log.lost();
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
}
