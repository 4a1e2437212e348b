//! How a network test runs: as root, alone, within a time limit, leaving nothing.

use ringway_perf::lab::{self, Leftover};
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `body` when no other network test runs, on this machine as well as in this process; ends
/// the process (after cleaning up) when it takes longer than `limit`; fails if it leaves anything.
pub(crate) fn network_test(name: &str, limit: Duration, body: impl FnOnce()) {
    if let Err(error) = lab::require_root() {
        panic!("{error}");
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _machine = lock_machine();
    lab::clean_up_on_signals();
    let _watchdog = Watchdog::start(name, limit);
    let begin = Instant::now();
    body();
    assert_eq!(own_leftovers(), [], "{name} leaves these behind");
    println!("{name}: {:.1} s", begin.elapsed().as_secs_f64());
}

/// Notes that something was not tested, and why; `make test` counts these lines.
pub(crate) fn skipped(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

/// Polls `condition` until it holds; returns how long that took.
pub(crate) fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> Duration {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    begin.elapsed()
}

fn own_leftovers() -> Vec<Leftover> {
    let own = format!("{}{}-", lab::PREFIX, std::process::id());
    lab::leftovers()
        .into_iter()
        .filter(|leftover| leftover.to_string().contains(&own))
        .collect()
}

/// Waits for other test processes of this machine: they would share its cores.
fn lock_machine() -> Option<nix::fcntl::Flock<File>> {
    let path = std::env::temp_dir().join("ringway-network-tests.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .ok()?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).ok()
}

/// Ends the process when its time is over, by the signal that also cleans up.
struct Watchdog(#[expect(dead_code, reason = "its drop is the message")] mpsc::Sender<()>);

impl Watchdog {
    fn start(name: &str, limit: Duration) -> Watchdog {
        let (sender, receiver) = mpsc::channel();
        let name = name.to_owned();
        std::thread::spawn(move || {
            if receiver.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Past libtest's capture, which nobody will print any more.
                let _ = writeln!(
                    std::io::stderr(),
                    "\n{name}: not done after {limit:?}: giving up"
                );
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM);
            }
        });
        Watchdog(sender)
    }
}
