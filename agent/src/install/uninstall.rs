//! Takes away all that Ringway has made or changed on a node.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ringway_kernel::before::{Before, CHANGED};
use ringway_kernel::bridge::{self, BridgeError};
use ringway_kernel::netlink::{Netlink, Tap};
use ringway_kernel::netns::Netns;
use ringway_kernel::pod::interface::{self, TAP_OWNER_UID};
use ringway_kernel::sysctl;
use ringway_ports::tap::{self, TapError};

use crate::sources;

use super::{INSTALLED, InstallError, Places, installed, io_error, search};
use ringway_config::{AUTO, Config};
use ringway_control::PENDING;
use ringway_control::state::{State, StateDir, StateError};

const DAMAGED: &str = "state.json.damaged";

/// What was done, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Taken away or put back.
    pub done: Vec<String>,
    /// Still there, and why.
    pub left: Vec<String>,
    /// Pods that have lost their interface.
    pub pods: Vec<String>,
    /// What stays as it is because nobody knows whose it is or what it was.
    pub notes: Vec<String>,
}

/// Removes files, pods' interfaces, the node port, and puts kernel settings back: what the record of this
/// node names, and what is found on the machine in any case. Succeeds for what is not there. The
/// configuration file stays.
///
/// # Errors
/// The agent runs, or its state is a newer version's; nothing was touched then.
pub fn uninstall(config: &Config, places: &Places) -> Result<Report, InstallError> {
    let directory = &config.node.state_dir;
    let existed = directory.exists();
    let state_dir = match StateDir::lock(directory) {
        Err(StateError::Locked { pid, .. }) => return Err(InstallError::AgentRuns { pid }),
        other => other?,
    };
    // Its lock may have gone with a directory that somebody has removed.
    if UnixStream::connect(&config.node.socket).is_ok() {
        let pid = "unknown".into();
        return Err(InstallError::AgentRuns { pid });
    }
    let mut state = state_dir.load()?;
    let mut report = Report::default();
    salvage(config, &mut state, &mut report);
    // No runtime may call the plugin from here on.
    files(config, places, &mut report);
    network(config, &state, &mut report);
    report.file(&config.node.socket);
    if report.left.is_empty() {
        for name in ["state.json", "state.json.tmp", DAMAGED, INSTALLED] {
            report.file(&directory.join(name));
        }
        for name in sources::files() {
            report.file(&directory.join(name));
        }
        // Nobody is left to apply them.
        for file in waiting(&directory.join(PENDING)) {
            report.file(&file);
        }
        for folder in [directory.join(PENDING), directory.clone()] {
            if folder == *directory {
                remove(&directory.join("lock")).map_err(io_error("removing", directory))?;
            }
            match fs::remove_dir(&folder) {
                Ok(()) if existed => report.done.push(folder.display().to_string()),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => report
                    .notes
                    .push(format!("{} is a mount and stays, empty", folder.display())),
                Err(e) => report.left.push(format!("{}: {e}", folder.display())),
            }
        }
    }
    Ok(report)
}

/// Pods' interfaces, the node port, what was changed of the machine, and of the bridge of the network before.
pub(super) fn network(config: &Config, state: &State, report: &mut Report) {
    pods(config, state, report);
    node_port(config, report);
    if let Some((name, networks)) = state.takeover.bridge() {
        let widened = Netlink::open()
            .map_err(BridgeError::from)
            .and_then(|mut netlink| bridge::widen(&mut netlink, name, &networks));
        match widened {
            Ok(true) => report.done.push(format!("{name} as it was")),
            Ok(false) => {}
            Err(e) => report.left.push(format!("{name}: {e}")),
        }
    }
    let (done, failed) = state.before.put_back();
    report.done.extend(done);
    report.left.extend(failed);
}

/// DELs that the plugin has left, those that it was writing included. What is no file is not its own, and stays.
pub(super) fn waiting(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.map(|entry| entry.path()).collect()
}

/// What a damaged state still says of the settings before; what it does not say cannot be put back.
fn salvage(config: &Config, state: &mut State, report: &mut Report) {
    let Ok(text) = fs::read(config.node.state_dir.join(DAMAGED)) else {
        return;
    };
    let before = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| serde_json::from_value::<Before>(value.get("before")?.clone()).ok());
    match before {
        Some(before) if state.before == Before::default() => state.before = before,
        Some(_) => {}
        None => {
            let now = CHANGED
                .iter()
                .filter_map(|key| Some(format!("{key}={}", sysctl::get(key).ok()?)));
            let now: Vec<String> = now.collect();
            report.notes.push(format!(
                "the record of kernel settings was damaged: what they were before is not known, and they \
                 stay at {}, receive offload of {} as it is\n  \
                 to do: set what this node does not need back with sysctl -w and ethtool -K, or start the \
                 machine anew",
                now.join(", "),
                match config.underlay.interface.as_str() {
                    AUTO => "the underlay's interface",
                    name => name,
                }
            ));
        }
    }
}

/// The plugin and its configuration.
pub(super) fn files(config: &Config, places: &Places, report: &mut Report) {
    let directory = &config.node.state_dir;
    for file in installed(directory).files {
        report.file(&file);
    }
    let found = search::files(config, places);
    for file in &found.ours {
        report.file(file);
    }
    report.notes.extend(found.notes);
}

/// Interfaces that the state has, and those that are found besides.
fn pods(config: &Config, state: &State, report: &mut Report) {
    for (name, record) in &state.pods {
        let netns = Netns::open(&record.netns);
        if let Some(netns) = netns.ok().filter(|n| n.identity() == record.netns_id) {
            report.interface(&netns, &record.ifname, &format!("pod {name}"));
        }
    }
    for found in search::pods(config) {
        let netns = found.netns.path().display().to_string();
        if !report.in_use(&found.tap, &netns) {
            report.interface(&found.netns, &found.tap.name, &netns);
        }
    }
}

/// The node port, under its present name and any other.
fn node_port(config: &Config, report: &mut Report) {
    let port = &config.node.interface;
    let (done, failed) = ringway_kernel::rules::remove(port);
    report.done.extend(done);
    report.left.extend(failed);
    let found = Netlink::open().and_then(|mut netlink| {
        let ours = search::ours(config)?;
        let named = netlink.taps()?.into_iter().find(|tap| tap.name == *port);
        Ok((named, ours))
    });
    let (named, mut taps) = match found {
        Ok(found) => found,
        Err(e) => return report.left.push(format!("interface {port}: {e}")),
    };
    match named {
        Some(tap) if tap.owner != Some(TAP_OWNER_UID) || another_agents(config, &tap) => {
            let whose = "is somebody else's TAP: it stays";
            report.notes.push(format!("interface {port} {whose}"));
        }
        Some(tap) if !taps.contains(&tap) => taps.push(tap),
        _ => {}
    }
    for tap in taps {
        let name = &tap.name;
        if report.in_use(&tap, "this node") {
            continue;
        }
        match tap::delete(name) {
            Ok(()) => report
                .done
                .push(format!("interface {name} with its addresses and routes")),
            Err(TapError::NotFound { .. }) => {}
            Err(e) => report.left.push(e.to_string()),
        }
    }
}

/// Made by an agent with another state directory. One without an alias was made before there were any.
fn another_agents(config: &Config, tap: &Tap) -> bool {
    let own = interface::alias(&config.node.state_dir);
    tap.alias.as_ref().is_some_and(|alias| *alias != own)
}

impl Report {
    /// Notes a TAP that a process has open, most likely an agent that has lost its lock.
    fn in_use(&mut self, tap: &Tap, whose: &str) -> bool {
        if tap.in_use {
            self.left.push(format!(
                "{} of {whose} is in use by a process: stop the agent",
                tap.name
            ));
        }
        tap.in_use
    }

    pub(super) fn file(&mut self, path: &Path) {
        match remove(path) {
            Ok(true) => self.done.push(path.display().to_string()),
            Ok(false) => {}
            Err(e) => self.left.push(format!("{}: {e}", path.display())),
        }
    }

    fn interface(&mut self, netns: &Netns, ifname: &str, whose: &str) {
        match interface::sweep(netns, ifname) {
            Ok(true) => {
                self.done.push(format!("{ifname} of {whose}"));
                self.pods.push(whose.to_owned());
            }
            Ok(false) => {}
            Err(e) => self.left.push(format!("{ifname} of {whose}: {e}")),
        }
    }
}

/// False if it was not there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
