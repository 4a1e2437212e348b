//! Signals: TERM and INT stop the agent, HUP has it read its configuration file again, and no other that can
//! be caught ends it: an agent that a stray signal kills takes every pod's network along.
//!
//! Left as they are: what a fault raises (ABRT, BUS, FPE, ILL, SEGV, SYS, TRAP; sent on purpose, they end the
//! process with a core dump), what does nothing by itself, and PIPE, which the standard library ignores.
//! Signals are caught rather than ignored, for a program that the agent starts would inherit the latter.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Failure;

const UNTOUCHED: [i32; 14] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGPIPE,
];

/// Catches all others from now on; their numbers come out.
///
/// # Errors
/// The kernel refuses a handler.
pub(super) fn catch() -> io::Result<UnboundedReceiver<i32>> {
    let (sender, numbers) = unbounded_channel();
    // Between the two the C library has its own.
    let all = (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    for number in all.filter(|number| !UNTOUCHED.contains(number)) {
        let mut caught = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() && sender.send(number).is_ok() {}
        });
    }
    Ok(numbers)
}

/// Runs what goes on until it is done, or until SIGINT or SIGTERM, which is as good an end.
pub(super) fn until_signal(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let other = |e: io::Error| Failure::Other(e.into());
    runtime.map_err(other)?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// Signals that end a program which has a terminal: SIGINT, SIGTERM, SIGQUIT, and SIGHUP when the terminal goes
/// away.
pub(super) struct Ends([Signal; 4]);

impl Ends {
    /// Catches them from now on; within a runtime.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::quit())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the first of them.
    pub(super) async fn wait(self) {
        let [mut interrupt, mut terminate, mut quit, mut hangup] = self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// `SIGHUP`, or the number of one without a name.
pub(super) fn name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |known| known.to_string())
}
