//! A child process of a lab, begun inside a namespace, ended when dropped.

use super::error::{LabError, Result};
use super::netns::Netns;
use super::registry;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A running (or ended) child process.
pub struct Process {
    child: Child,
    prefix: String,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` inside `ns`; `prefix` is the lab it belongs to.
    pub(super) fn start(prefix: &str, ns: &Netns, command: Command) -> Result<Process> {
        Process::start_after(prefix, ns, command, || Ok(()))
    }

    /// Starts `command` on a thread inside `ns` that has done `first`.
    pub(super) fn start_after(
        prefix: &str,
        ns: &Netns,
        mut command: Command,
        first: impl FnOnce() -> io::Result<()> + Send,
    ) -> Result<Process> {
        let line = format!("{command:?}");
        let child = ns
            .run(|| first().and_then(|()| command.spawn()))?
            .map_err(|source| LabError::Spawn {
                command: line,
                source,
            })?;
        registry::add_process(prefix, child.id());
        Ok(Process {
            child,
            prefix: prefix.to_owned(),
            status: None,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let status = match self.child.try_wait() {
                Ok(status) => status,
                // The lab has waited for it, because a signal ends this process.
                Err(_) => Some(ExitStatus::default()),
            };
            if status.is_some() {
                registry::remove_process(&self.prefix, self.child.id());
            }
            self.status = status;
        }
        self.status
    }

    /// Waits for its end; `None` when the time is over.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            match self.ended() {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                status => return status,
            }
        }
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // Not waited for yet, so the id is still this child's.
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
        }
    }

    /// SIGTERM, and SIGKILL if it is still there after `limit`. `true`: it went by itself.
    pub fn stop(&mut self, limit: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        if self.wait(limit).is_some() {
            return true;
        }
        self.kill();
        false
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(5));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(2));
    }
}
