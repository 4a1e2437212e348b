//! What earlier runs left behind because they were killed outright.

use super::cgroups;
use super::registry::{self, PREFIX};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};

/// One thing a run left behind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Leftover {
    /// A network namespace.
    Netns(String),
    /// A control group of containers.
    Cgroup(PathBuf),
    /// A folder under the temporary directory.
    Folder(String),
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Leftover::Netns(name) => write!(f, "network namespace {name}"),
            Leftover::Cgroup(path) => write!(f, "control group {}", path.display()),
            Leftover::Folder(name) => {
                write!(f, "folder {}", std::env::temp_dir().join(name).display())
            }
        }
    }
}

/// Everything with a lab's prefix whose process is gone, or whose lab this process has taken down.
/// What other living processes have made is not ours to judge.
pub fn leftovers() -> Vec<Leftover> {
    let standing = registry::standing();
    let abandoned = |name: &str| {
        is_abandoned(name, &standing, std::process::id(), |pid| {
            Path::new(&format!("/proc/{pid}")).exists()
        })
    };
    let netns = registry::namespaces(abandoned)
        .into_iter()
        .map(Leftover::Netns);
    let folders = registry::names_in(&std::env::temp_dir(), abandoned)
        .into_iter()
        .map(Leftover::Folder);
    let cgroups = cgroups::named(abandoned).into_iter().map(Leftover::Cgroup);
    netns.chain(cgroups).chain(folders).collect()
}

/// Removes what [`leftovers`] finds, with the processes that still run inside; returns it.
pub fn remove_leftovers() -> Vec<Leftover> {
    let found = leftovers();
    let mut names = Vec::new();
    for leftover in &found {
        match leftover {
            Leftover::Netns(name) => {
                kill_inside(name);
                names.push(name.clone());
            }
            // After what ran inside: namespaces come first.
            Leftover::Cgroup(path) => cgroups::remove(path),
            Leftover::Folder(name) => {
                let _ = std::fs::remove_dir_all(std::env::temp_dir().join(name));
            }
        }
    }
    registry::remove_namespaces(&names);
    found
}

fn is_abandoned(
    name: &str,
    standing: &[String],
    own_pid: u32,
    lives: impl Fn(u32) -> bool,
) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let Some(pid) = rest.split('-').next().and_then(|pid| pid.parse().ok()) else {
        return false;
    };
    if pid != own_pid {
        return !lives(pid);
    }
    // A folder is named without the dash that ends the prefix.
    !standing
        .iter()
        .any(|prefix| name.starts_with(prefix) || name == prefix.trim_end_matches('-'))
}

fn kill_inside(netns: &str) {
    let pids = super::command::run("ip", &["netns", "pids", netns]).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_abandoned_are_found() {
        let standing = ["rwlab-7-1-".to_owned()];
        let abandoned = |name| is_abandoned(name, &standing, 7, |pid| pid == 9);
        assert!(abandoned("rwlab-8-0-n1"), "its process is gone");
        assert!(abandoned("rwlab-7-0-n1"), "ours, but that lab is down");
        assert!(abandoned("rwlab-7-11-n1"), "11 is not 1");
        assert!(!abandoned("rwlab-9-0-n1"), "its process lives");
        assert!(!abandoned("rwlab-7-1-n1"));
        assert!(!abandoned("rwlab-7-1"));
        assert!(!abandoned("cni-1234"));
        assert!(!abandoned("rwlab-"));
        assert!(!abandoned("rwlab-x-1"));
    }
}
