//! Takes away all that Ringway has made or changed on a node.

use std::fs;
use std::io;
use std::path::Path;

use ringway_ports::tap::{self, TapError};

use super::{INSTALLED, InstallError, installed, io_error};
use crate::config::Config;
use crate::control::PENDING;
use crate::netns::Netns;
use crate::pod::interface;
use crate::state::{StateDir, StateError};

/// What was done, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Taken away or put back.
    pub done: Vec<String>,
    /// Still there, and why.
    pub left: Vec<String>,
    /// Pods that have lost their interface.
    pub pods: Vec<String>,
}

/// Removes files, pods' interfaces, the node port, and puts kernel settings back. Succeeds for what is not
/// there. The configuration file stays.
///
/// # Errors
/// The agent runs, or its state cannot be read; nothing was touched then.
pub fn uninstall(config: &Config) -> Result<Report, InstallError> {
    let directory = &config.node.state_dir;
    let existed = directory.exists();
    let state_dir = match StateDir::lock(directory) {
        Err(StateError::Locked { pid, .. }) => return Err(InstallError::AgentRuns { pid }),
        other => other?,
    };
    let state = state_dir.load()?;
    let mut report = Report::default();
    // No runtime may call the plugin from here on.
    for file in installed(directory).files {
        report.file(&file);
    }
    for (name, record) in &state.pods {
        let netns = Netns::open(&record.netns);
        let Some(netns) = netns.ok().filter(|n| n.identity() == record.netns_id) else {
            continue;
        };
        match interface::sweep(&netns, &record.ifname) {
            Ok(true) => {
                report.done.push(format!("{} of pod {name}", record.ifname));
                report.pods.push(name.clone());
            }
            Ok(false) => {}
            Err(e) => report
                .left
                .push(format!("{} of pod {name}: {e}", record.ifname)),
        }
    }
    let port = &config.node.interface;
    let (done, failed) = crate::rules::remove(port);
    report.done.extend(done);
    report.left.extend(failed);
    match tap::delete(port) {
        Ok(()) => report
            .done
            .push(format!("interface {port} with its addresses and routes")),
        Err(TapError::NotFound { .. }) => {}
        Err(e) => report.left.push(e.to_string()),
    }
    let (done, failed) = state.before.put_back();
    report.done.extend(done);
    report.left.extend(failed);
    report.file(&config.node.socket);
    if report.left.is_empty() {
        for name in [
            "state.json",
            "state.json.tmp",
            "state.json.damaged",
            INSTALLED,
        ] {
            report.file(&directory.join(name));
        }
        for folder in [directory.join(PENDING), directory.clone()] {
            if folder == *directory {
                remove(&directory.join("lock")).map_err(io_error("removing", directory))?;
            }
            match fs::remove_dir(&folder) {
                Ok(()) if existed => report.done.push(folder.display().to_string()),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => report.left.push(format!("{}: {e}", folder.display())),
            }
        }
    }
    Ok(report)
}

impl Report {
    fn file(&mut self, path: &Path) {
        match remove(path) {
            Ok(true) => self.done.push(path.display().to_string()),
            Ok(false) => {}
            Err(e) => self.left.push(format!("{}: {e}", path.display())),
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
