//! The control groups a container runtime makes for its containers: groups at the top of every hierarchy,
//! named like everything of a lab.

use super::registry::names_in;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// The groups whose name `wanted` selects: cgroup v2's, and those of each hierarchy of cgroup v1.
pub(super) fn named(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let hierarchies = names_in(root, |_| true)
        .into_iter()
        .map(|name| root.join(name));
    [root.to_path_buf()]
        .into_iter()
        .chain(hierarchies)
        .flat_map(|folder| {
            names_in(&folder, &wanted)
                .into_iter()
                .map(move |name| folder.join(name))
        })
        .collect()
}

/// Removes a group and those in it. Their files are the kernel's and go with them; a group in which something
/// still runs stays.
pub(super) fn remove(group: &Path) {
    for name in names_in(group, |_| true) {
        let inner = group.join(name);
        if inner.is_dir() {
            remove(&inner);
        }
    }
    let _ = fs::remove_dir(group);
}
