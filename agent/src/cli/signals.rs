//! Signals: TERM and INT stop the agent, HUP has it read its configuration file again, and no other that can
//! be caught ends it: an agent that a stray signal kills takes every pod's network along.
//!
//! Left as they are: what a fault raises (ABRT, BUS, FPE, ILL, SEGV, SYS, TRAP; sent on purpose, they end the
//! process with a core dump), what does nothing by itself, and PIPE, which the standard library ignores.
//! Signals are caught rather than ignored, for a program that the agent starts would inherit the latter.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

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

/// A pipe at stdin that is closed sooner was so when it began: it is nobody's hand.
const HELD: Duration = Duration::from_secs(1);
/// After that long it ends, even if it is writing to somebody who does not read.
const BLOCKED: Duration = Duration::from_secs(2);

/// Runs what goes on until it is done, or until SIGINT or SIGTERM, which is as good an end, or until whoever has
/// started it lets go of the pipe at its stdin.
///
/// `kubectl exec` ends without a signal to what it has started, and containerd goes on to hold the pipe that it
/// writes to. All that says so is the pipe at stdin, which `kubectl exec -i` gives it.
pub(super) fn until_signal(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let other = |e: io::Error| Failure::Other(e.into());
    runtime.map_err(other)?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        // From now on: the work may block in its first line.
        let let_go = let_go();
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            () = let_go => Ok(()),
        }
    })
}

/// Until nobody holds the other end of the pipe at stdin; for ever, if stdin is none.
fn let_go() -> impl Future<Output = ()> {
    let is_pipe = std::fs::metadata("/proc/self/fd/0").is_ok_and(|at| at.file_type().is_fifo());
    let (sender, gone) = oneshot::channel();
    if is_pipe {
        std::thread::spawn(move || {
            std::thread::sleep(HELD);
            if is_hung_up(PollTimeout::ZERO) {
                return;
            }
            while !is_hung_up(PollTimeout::NONE) {}
            if sender.send(()).is_ok() {
                std::thread::sleep(BLOCKED);
                std::process::exit(0);
            }
        });
    }
    async {
        if gone.await.is_err() {
            std::future::pending().await
        }
    }
}

/// Whether the other end of stdin is closed, within that time. An error is none of its end.
fn is_hung_up(patience: PollTimeout) -> bool {
    let stdin = io::stdin();
    // Nothing is asked for: what is written there is not for us, and POLLHUP always counts.
    let mut fds = [PollFd::new(
        std::os::fd::AsFd::as_fd(&stdin),
        PollFlags::empty(),
    )];
    let polled = poll(&mut fds, patience);
    polled.is_ok()
        && fds[0]
            .revents()
            .is_some_and(|what| what.contains(PollFlags::POLLHUP))
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
