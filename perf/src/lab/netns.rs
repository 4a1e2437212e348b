//! A named network namespace (`ip netns`), and code that runs inside one.
//!
//! `setns(2)` with CLONE_NEWNET moves one thread, and every namespace operation here is done on a
//! thread of its own, so that the caller never leaves the namespace it is in. A child process
//! started on such a thread begins in the namespace; unlike `ip netns exec` this makes no mount
//! namespace, which would keep a copy of the names of all the others.

use super::command::{run, run_with_input};
use super::error::{LabError, Result};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

/// The folder in which `ip netns` keeps its names.
pub(super) const NETNS_DIR: &str = "/run/netns";

/// The name of a network namespace. Cloning clones the name, not the namespace.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Netns(Arc<str>);

impl Netns {
    /// Creates the namespace and sets its loopback up.
    pub fn create(name: &str) -> Result<Netns> {
        run("ip", &["netns", "add", name])?;
        let ns = Netns(name.into());
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// An existing namespace.
    pub fn named(name: &str) -> Netns {
        Netns(name.into())
    }

    /// Removes the name. The namespace itself goes when nothing holds it any more.
    pub fn delete(&self) -> Result<()> {
        run("ip", &["netns", "del", &self.0]).map(drop)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Its file under `/run/netns`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NETNS_DIR).join(&*self.0)
    }

    /// Runs `f` inside the namespace, on a thread of its own, and waits for it. A panic of `f`
    /// continues in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || enter(&file).map(|()| f()));
            match thread.join() {
                Ok(result) => result.map_err(self.error()),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that runs `f` inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<thread::JoinHandle<io::Result<T>>> {
        let file = self.open()?;
        thread::Builder::new()
            .name(format!("in {}", self.0))
            .spawn(move || enter(&file).and_then(|()| f()))
            .map_err(self.error())
    }

    /// `ip -n NAME ARGS`, the arguments split at spaces.
    pub fn ip(&self, args: &str) -> Result<String> {
        let mut words = vec!["-n", &self.0];
        words.extend(args.split_whitespace());
        run("ip", &words)
    }

    /// Several `ip` commands in one process, one per line; stops at the first that fails.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        run_with_input("ip", &["-n", &self.0, "-batch", "-"], lines).map(drop)
    }

    /// Any other program inside the namespace, run to its end.
    pub fn command(&self, program: &str, args: &str) -> Result<String> {
        let words: Vec<&str> = args.split_whitespace().collect();
        self.run(|| run(program, &words))?
    }

    /// Sets a network sysctl, `net.` left out: `sysctl("ipv4.ip_forward", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/net/{}", key.replace('.', "/"));
        self.run(|| {
            std::fs::write(&file, value).map_err(LabError::io(format!("{value} > {file}")))
        })?
    }

    fn open(&self) -> Result<File> {
        File::open(self.path()).map_err(self.error())
    }

    fn error(&self) -> impl FnOnce(io::Error) -> LabError + use<> {
        LabError::io(format!("enter network namespace {}", self.0))
    }
}

fn enter(file: &File) -> io::Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}
