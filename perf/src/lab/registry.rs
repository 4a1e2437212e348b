//! What this process has made and must take away again.
//!
//! Everything of a lab carries a prefix with this process's id: `rwlab-<pid>-<n>-…` names its
//! namespaces, its folder under the temporary directory and, by way of a process's environment,
//! nothing else: processes are kept here by id. Cleaning up is by prefix, not by list, so that it
//! also finds what was half made when something failed. Three roads lead there:
//! - a [`super::Lab`] is dropped (also while a panic unwinds),
//! - a signal ends the process ([`super::signal`]),
//! - the process was killed: the next one finds its leavings ([`super::leftovers`]).

use super::cgroups;
use super::netns::NETNS_DIR;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

/// Begins every name a lab gives.
pub const PREFIX: &str = "rwlab-";

static LABS: Mutex<BTreeMap<String, Vec<i32>>> = Mutex::new(BTreeMap::new());
/// Held while a lab is taken down: whoever wants the same meanwhile, or ends the process after it, waits.
static CLOSING: Mutex<()> = Mutex::new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

fn labs() -> MutexGuard<'static, BTreeMap<String, Vec<i32>>> {
    // A test that panicked must not keep the others from cleaning up.
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fresh prefix, registered.
pub(super) fn open() -> String {
    let prefix = format!(
        "{PREFIX}{}-{}-",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    labs().insert(prefix.clone(), Vec::new());
    prefix
}

/// The prefixes of the labs that stand now.
pub(super) fn standing() -> Vec<String> {
    labs().keys().cloned().collect()
}

/// A process belongs to a lab from now on.
pub(super) fn add_process(prefix: &str, pid: u32) {
    if let Some(pids) = labs().get_mut(prefix) {
        pids.push(pid.cast_signed());
    }
}

/// A process has been waited for: its id may be somebody else's from now on.
pub(super) fn remove_process(prefix: &str, pid: u32) {
    if let Some(pids) = labs().get_mut(prefix) {
        pids.retain(|&p| p != pid.cast_signed());
    }
}

/// Takes a lab down: processes, namespaces, control groups, folder.
pub(super) fn close(prefix: &str) {
    let _closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(pids) = labs().remove(prefix) else {
        return;
    };
    end_processes(&pids);
    remove_namespaces(&namespaces(|name| name.starts_with(prefix)));
    for group in cgroups::named(|name| name.starts_with(prefix)) {
        cgroups::remove(&group);
    }
    let _ = fs::remove_dir_all(folder(prefix));
}

/// Takes every lab of this process down.
pub(super) fn close_all() {
    for prefix in standing() {
        close(&prefix);
    }
}

/// The folder of a lab.
pub(super) fn folder(prefix: &str) -> PathBuf {
    std::env::temp_dir().join(prefix.trim_end_matches('-'))
}

/// Names of the namespaces that `wanted` selects.
pub(super) fn namespaces(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    names_in(Path::new(NETNS_DIR), wanted)
}

/// Names in a folder that `wanted` selects; none if the folder is not there.
pub(super) fn names_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| wanted(name))
        .collect()
}

/// Removes namespaces, a hundred of them in parallel: each waits for an RCU grace period.
pub(super) fn remove_namespaces(names: &[String]) {
    thread::scope(|scope| {
        for part in names.chunks(names.len().div_ceil(8).max(1)) {
            scope.spawn(move || {
                for name in part {
                    let _ = super::netns::Netns::named(name).delete();
                }
            });
        }
    });
}

fn end_processes(pids: &[i32]) {
    for &pid in pids {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let mut running = pids.to_vec();
    let limit = Instant::now() + Duration::from_secs(2);
    while !running.is_empty() && Instant::now() < limit {
        thread::sleep(Duration::from_millis(10));
        running.retain(|&pid| runs(pid));
    }
    for &pid in &running {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Whether a child still runs. One that has ended is waited for: the init of a process namespace does not end
/// before that.
fn runs(pid: i32) -> bool {
    waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
}
