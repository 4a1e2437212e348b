//! Where records go.

use std::io::{self, IsTerminal, Stderr, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use crate::form::{Form, Format};

/// Where journald listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// Stderr, or the journal.
pub(crate) enum Output {
    Stderr(Stderr),
    Journal(UnixDatagram),
}

impl Output {
    /// Where records of a format go, and what they look like: to stderr as text if there is no journald.
    pub(crate) fn open(format: Format) -> (Form, Output) {
        let stderr = io::stderr();
        let text = Form::Text {
            ansi: stderr.is_terminal(),
        };
        let wants_journal = match format {
            Format::Auto => is_journals(&stderr),
            Format::Journald => true,
            Format::Text | Format::Json => false,
        };
        if let (true, Ok(journal)) = (wants_journal, connect()) {
            return (Form::Journald, Output::Journal(journal));
        }
        let form = match format {
            Format::Json => Form::Json,
            _ => text,
        };
        (form, Output::Stderr(stderr))
    }
}

impl Write for Output {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stderr(stderr) => stderr.write(record),
            Output::Journal(journal) => match journal.send(record) {
                // It was started again: its socket is another one.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected
                    ) =>
                {
                    *journal = connect()?;
                    journal.send(record)
                }
                sent => sent,
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stderr(stderr) => stderr.flush(),
            Output::Journal(_) => Ok(()),
        }
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let journal = UnixDatagram::unbound()?;
    journal.connect(SOCKET)?;
    Ok(journal)
}

/// Whether what is written to stderr goes to the journal: systemd says device and inode in `JOURNAL_STREAM`
/// (systemd.exec(5)), which a program that was given another stderr has, too.
fn is_journals(stderr: &Stderr) -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(copy) = stderr.as_fd().try_clone_to_owned() else {
        return false;
    };
    let metadata = std::fs::File::from(copy).metadata();
    metadata.is_ok_and(|metadata| said == format!("{}:{}", metadata.dev(), metadata.ino()))
}
