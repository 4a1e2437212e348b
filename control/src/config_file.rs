//! The configuration file as a source: read again when it changes, on SIGHUP, and when the API asks.
//!
//! ```text
//! inotify, SIGHUP, `ringway config reload` ─▶ this thread: read, parse ─▶ Control: in force, or refused
//! ```
//!
//! Reading and parsing a file of 100,000 routes takes a while, which neither control nor API wait for.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ringway_cluster::source::file::{File, Text};

use crate::processors;
use crate::{Reloaded, Reply, Request, Requests};
use ringway_config::{Config, ConfigError, NetworkDefaults};

/// What is said elsewhere than in the file.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Where the API is by the command line, which goes before the file.
    pub socket: Option<PathBuf>,
    /// What holds where the file does not say.
    pub defaults: NetworkDefaults,
}

/// Has the file read again; clones do the same.
#[derive(Clone, Debug)]
pub struct Reloads {
    asked: Sender<Reply<Reloaded>>,
    /// Readable: something was asked. Closed: it is over.
    wake: std::sync::Arc<PipeWriter>,
}

impl Reloads {
    /// Reads the file now, whether it has changed or not; the answer comes from another thread.
    pub fn ask(&self, reply: Reply<Reloaded>) {
        // Whoever asks an agent that ends gets no answer.
        let _ = self.asked.send(reply);
        let _ = (&*self.wake).write_all(&[0]);
    }
}

/// Starts to look after the file. `said`: what goes before the file, or where the file does not say.
///
/// # Errors
/// No thread or pipe can be made.
pub fn follow(
    path: PathBuf,
    text: String,
    said: Said,
    requests: Requests,
) -> std::io::Result<Reloads> {
    let (reader, writer) = std::io::pipe()?;
    let (asked, inbox) = unbounded();
    let mut follower = Follower {
        file: File::new(&path, text),
        path,
        said,
        requests,
    };
    let thread = std::thread::Builder::new().name("config".into());
    thread.spawn(move || follower.run(reader, &inbox))?;
    Ok(Reloads {
        asked,
        wake: std::sync::Arc::new(writer),
    })
}

struct Follower {
    file: File,
    path: PathBuf,
    said: Said,
    requests: Requests,
}

impl Follower {
    fn run(&mut self, mut wake: PipeReader, asked: &Receiver<Reply<Reloaded>>) {
        loop {
            match self.file.next(wake.as_fd()) {
                Some(text) => {
                    if self.take(text, Box::new(drop)).is_none() {
                        return;
                    }
                }
                None => {
                    let mut bytes = [0; 64];
                    if wake.read(&mut bytes).unwrap_or(0) == 0 {
                        return;
                    }
                    // One read serves all who have asked by now.
                    let all: Vec<_> = asked.try_iter().collect();
                    for (i, reply) in all.into_iter().enumerate() {
                        let text = self.file.read();
                        if i == 0 {
                            tracing::info!(file = %self.path.display(), "reading the configuration again");
                        }
                        if self.take(text, reply).is_none() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Hands a text on and waits until it is in force or refused; `None`: the agent ends.
    fn take(&self, text: Text, reply: Reply<Reloaded>) -> Option<()> {
        let (done, wait) = bounded(1);
        let answer: Reply<Reloaded> = Box::new(move |reloaded| {
            reply(reloaded);
            let _ = done.send(());
        });
        let read = self.parse(text).map(Box::new);
        self.requests.send(Request::Configure(read, answer)).ok()?;
        wait.recv().ok()
    }

    fn parse(&self, text: Text) -> Result<Config, ConfigError> {
        let text = text.map_err(|e| ConfigError::unreadable(&self.path, &e))?;
        let mut config = Config::parse_with(&self.path, &text, &self.said.defaults)?;
        if let Some(socket) = &self.said.socket {
            config.node.socket.clone_from(socket);
        }
        processors::check(&config)?;
        Ok(config)
    }
}
