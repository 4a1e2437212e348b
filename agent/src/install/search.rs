//! What Ringway has left on a machine, found without any record of it.
//!
//! Every TAP of ours has an owner that no account has, and an alias that names the state directory of the
//! agent that made it: two nodes on one machine, in namespaces of their own and maybe with the same
//! addresses, do not touch each other's. A network configuration is ours if it leads the plugin to this
//! agent; the plugin is ours by its own help text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ringway_kernel::netlink::{Netlink, NetlinkError, Tap};
use ringway_kernel::netns::{Identity, Netns, run_in};
use ringway_kernel::pod::interface::{TAP_OWNER_UID, alias};
use serde_json::Value;

use super::{PLUGIN, Places};
use ringway_config::Config;
use ringway_control::PENDING;

/// Folders of named namespaces: of `ip netns`, containerd and CRI-O; of Docker.
const NAMED: [&str; 2] = [ringway_kernel::netns::NAMED, "/run/docker/netns"];
/// How long a TAP may be in use after its agent has ended.
const PATIENCE: Duration = Duration::from_millis(500);
/// What the plugin says of itself in its help.
const HELP: &[u8] = b"CNI plugin of Ringway";

/// A pod's interface.
pub(super) struct Found {
    pub(super) netns: Netns,
    pub(super) tap: Tap,
}

/// Interfaces of pods in every namespace that has a name or a process, the caller's own left out.
pub(super) fn pods(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    for netns in namespaces() {
        let ours = run_in(&netns, || ours(config));
        // A namespace that goes at this moment takes its interfaces along.
        for tap in ours.ok().and_then(Result::ok).unwrap_or_default() {
            if let Ok(netns) = Netns::open(netns.path()) {
                found.push(Found { netns, tap });
            }
        }
    }
    found
}

/// TAPs of this agent in the calling thread's namespace. The descriptors of an agent that has just ended are
/// waited for.
pub(super) fn ours(config: &Config) -> Result<Vec<Tap>, NetlinkError> {
    let alias = alias(&config.node.state_dir);
    let mut netlink = Netlink::open()?;
    let begin = Instant::now();
    loop {
        let mut taps = netlink.taps()?;
        taps.retain(|tap| tap.owner == Some(TAP_OWNER_UID) && tap.alias.as_ref() == Some(&alias));
        if begin.elapsed() > PATIENCE || !taps.iter().any(|tap| tap.in_use) {
            return Ok(taps);
        }
        thread::sleep(PATIENCE / 50);
    }
}

fn namespaces() -> Vec<Netns> {
    let list = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
    };
    let named = NAMED.iter().flat_map(|folder| list(Path::new(folder)));
    let processes = list(Path::new("/proc"))
        .into_iter()
        .map(|process| process.join("ns/net"));
    let own = Identity::of_path(Path::new("/proc/thread-self/ns/net")).ok();
    let mut seen = BTreeSet::new();
    named
        .chain(processes)
        .filter_map(|path| Some((Identity::of_path(&path).ok()?, path)))
        .filter(|(identity, _)| Some(*identity) != own && seen.insert((identity.dev, identity.ino)))
        .filter_map(|(_, path)| Netns::open(&path).ok())
        .collect()
}

/// Files that `install-cni` makes, in the folders where runtimes look.
#[derive(Default)]
pub(super) struct Files {
    pub(super) ours: Vec<PathBuf>,
    /// What stays, and why.
    pub(super) notes: Vec<String>,
}

/// Looks for them by what is in them.
pub(super) fn files(config: &Config, places: &Places) -> Files {
    let mut files = Files::default();
    let mut needed = None;
    let entries = fs::read_dir(&places.conf_dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Some(value) = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
        else {
            continue;
        };
        let alone = std::slice::from_ref(&value);
        let plugins = value["plugins"].as_array().map_or(alone, Vec::as_slice);
        let calls = |plugin: &Value| plugin["type"] == PLUGIN;
        if !plugins.iter().any(calls) {
            continue;
        }
        if plugins.len() == 1 && leads_here(config, &plugins[0]) {
            files.ours.push(path);
        } else {
            files.notes.push(format!(
                "{} calls {PLUGIN} too, and is not as install-cni writes it: it stays",
                path.display()
            ));
            needed = Some(path);
        }
    }
    let plugin = places.bin_dir.join(PLUGIN);
    let is_ours = fs::read(&plugin).is_ok_and(|bytes| {
        let mut windows = bytes.windows(HELP.len());
        windows.any(|window| window == HELP)
    });
    match needed {
        _ if !is_ours => {}
        None => files.ours.push(plugin),
        Some(path) => {
            files
                .notes
                .push(format!("{} stays for {}", plugin.display(), path.display()))
        }
    }
    files
}

/// Whether a plugin's entry names this agent: by the folder of its deletions, or by its socket.
fn leads_here(config: &Config, plugin: &Value) -> bool {
    let is = |key: &str, path: &Path| plugin[key].as_str().map(|given| Path::new(given) == path);
    is("pendingDir", &config.node.state_dir.join(PENDING))
        .or(is("socket", &config.node.socket))
        .unwrap_or(false)
}
