//! Taking away what a node that is given back must not have: the network, and what leads runtimes to it. The
//! record that it is given back stays, and so does the state directory.

use ringway_control::PENDING;
use ringway_control::state::{StateDir, StateError};
use ringway_kernel::before::Before;

use super::uninstall::{network, waiting};
use super::{InstallError, Places, Report, installed, search};
use ringway_config::Config;

/// Takes the network configuration away, so that no runtime calls the plugin any more. The plugin itself does no
/// harm.
pub fn withdraw(config: &Config, places: &Places) -> Report {
    let mut report = Report::default();
    let found = search::files(config, places);
    let known = installed(&config.node.state_dir).files;
    for file in known.iter().chain(&found.ours) {
        if file.parent() == Some(&places.conf_dir) {
            report.file(file);
        }
    }
    report.notes.extend(found.notes);
    report
}

/// Takes pods' interfaces, the node port and all that was changed away; the agent's control plane has ended. The
/// bridge of the network before is as its plugin made it.
///
/// # Errors
/// Another agent runs, or the state cannot be read; nothing was touched then.
pub fn give_back(config: &Config) -> Result<Report, InstallError> {
    let directory = &config.node.state_dir;
    let state_dir = match StateDir::lock(directory) {
        Err(StateError::Locked { pid, .. }) => return Err(InstallError::AgentRuns { pid }),
        other => other?,
    };
    let mut state = state_dir.load()?;
    let mut report = Report::default();
    network(config, &state, &mut report);
    if report.left.is_empty() {
        // Nobody is left to apply them.
        for file in waiting(&directory.join(PENDING)) {
            report.file(&file);
        }
        let pods: Vec<String> = state.pods.keys().cloned().collect();
        for name in pods {
            state.forget(&name);
        }
        state.before = Before::default();
        state.takeover.forget_bridge();
        state_dir.save(&state)?;
    }
    Ok(report)
}
