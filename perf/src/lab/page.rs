//! A running `ringway ui`.

use super::agent::Agent;
use super::error::{LabError, Result};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The page of an agent, in the namespace of the caller; it goes when this is dropped.
pub struct Page {
    child: Child,
    url: String,
}

impl Page {
    /// Serves it at a port that is free.
    ///
    /// # Errors
    /// The command does not start, or ends without an address.
    pub fn start(agent: &Agent) -> Result<Page> {
        let mut command = Command::new(agent.binary());
        command.arg("--socket").arg(agent.socket());
        command.args(["ui", "--port", "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().map_err(|source| LabError::Spawn {
            command: "ringway ui".into(),
            source,
        })?;
        let mut page = Page {
            child,
            url: String::new(),
        };
        if let Some(stdout) = page.child.stdout.take() {
            let mut lines = BufReader::new(stdout);
            let read = lines.read_line(&mut page.url);
            read.map_err(LabError::io("read what ringway ui prints"))?;
            // It serves for as long as this is open.
            page.child.stdout = Some(lines.into_inner());
        }
        page.url.truncate(page.url.trim_end().len());
        match page.url.starts_with("http://127.0.0.1:") {
            true => Ok(page),
            false => Err(LabError::Command {
                command: "ringway ui".into(),
                status: "no address".into(),
                output: page.url.clone(),
            }),
        }
    }

    /// Its address, with the token.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads no more of what the command prints.
    pub fn stop_reading(&mut self) {
        self.child.stdout = None;
    }

    /// How the command has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
