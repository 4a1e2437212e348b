//! `ringway install-cni` and `ringway uninstall`: the files a container runtime looks for, and the way back.
//!
//! ```text
//! /opt/cni/bin/ringway-cni               a copy of the plugin
//! /etc/cni/net.d/05-ringway.conflist     read by the runtime; sorts before Flannel's 10-flannel.conflist
//! <node.state_dir>/installed.json        which files those are
//! ```
//!
//! Files are written under a temporary name and renamed: a runtime that starts the plugin or reads the list
//! at any moment has the old or the new one, and a running plugin is not "busy". They stay over stop, crash
//! and upgrade of the agent. Only `uninstall` takes them away, with everything else the agent has made or
//! changed on the node.

mod conflist;
mod give_back;
mod search;
mod uninstall;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use ringway_config::Config;

pub use conflist::{CONFLIST, conflist};
pub use give_back::{give_back, withdraw};
pub use uninstall::{Report, uninstall};

pub use ringway_config::{CNI_BIN_DIR as BIN_DIR, CNI_CONF_DIR as CONF_DIR};
/// Name of the plugin.
pub const PLUGIN: &str = "ringway-cni";
const INSTALLED: &str = "installed.json";

/// Why files could not be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file operation failed.
    #[error(
        "{action} {path}: {source}\n  to do: run it as root, and see that the file system can be written"
    )]
    Io {
        /// What was done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The plugin is not where it should be.
    #[error(
        "there is no plugin at {path}\n  to do: build it (cargo build --release --locked) and install it beside \
         ringway (sudo install target/release/ringway-cni {folder}/), or name it with --plugin",
        folder = path.parent().unwrap_or(Path::new("/usr/local/bin")).display()
    )]
    NoPlugin {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The agent runs.
    #[error(
        "the agent runs (pid {pid})\n  to do: stop it first; pods lose their network when it is uninstalled"
    )]
    AgentRuns {
        /// Its process id.
        pid: String,
    },
    /// The state cannot be read.
    #[error("{0}")]
    State(#[from] ringway_control::state::StateError),
}

pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io {
        action,
        path,
        source,
    }
}

/// What `install-cni` has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The files.
    pub files: Vec<PathBuf>,
}

/// Where things are to go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The plugin to copy.
    pub plugin: PathBuf,
    /// Folder of plugins.
    pub bin_dir: PathBuf,
    /// Folder of network configurations.
    pub conf_dir: PathBuf,
    /// The configuration is written, too.
    pub list: bool,
}

impl Places {
    /// The usual ones; the plugin lies beside this program.
    pub fn usual() -> Self {
        let own = std::env::current_exe().unwrap_or_default();
        Self {
            plugin: own.with_file_name(PLUGIN),
            bin_dir: BIN_DIR.into(),
            conf_dir: CONF_DIR.into(),
            list: true,
        }
    }

    /// Those of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            bin_dir: config.cni.bin_dir.clone(),
            conf_dir: config.cni.conf_dir.clone(),
            ..Self::usual()
        }
    }
}

/// Writes plugin and conflist. What was written, and which other configurations a runtime would prefer.
///
/// # Errors
/// The plugin is missing or a file cannot be written; what was there before is still there.
pub fn install(config: &Config, places: &Places) -> Result<(Installed, Vec<String>), InstallError> {
    let plugin = match fs::read(&places.plugin) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let path = places.plugin.clone();
            return Err(InstallError::NoPlugin { path });
        }
        Err(e) => return Err(io_error("reading", &places.plugin)(e)),
    };
    let binary = places.bin_dir.join(PLUGIN);
    // The folder may be one that only whoever has put it there can write.
    let runs = |m: fs::Metadata| m.permissions().mode() & 0o777 == 0o755;
    let there = fs::metadata(&binary).is_ok_and(runs);
    if !there || fs::read(&binary).ok().as_ref() != Some(&plugin) {
        write(&binary, &plugin, 0o755)?;
    }
    let mut installed = Installed::default();
    // The list last: as soon as it is there, the plugin is called.
    if places.list {
        let list = places.conf_dir.join(CONFLIST);
        write(&list, conflist(config).as_bytes(), 0o644)?;
        installed.files.push(list);
    }
    installed.files.push(binary);
    // What an earlier one has put elsewhere is ours as well.
    let mut all = installed.clone();
    let earlier = self::installed(&config.node.state_dir).files;
    all.files
        .extend(earlier.into_iter().filter(|f| !installed.files.contains(f)));
    let text = serde_json::to_string_pretty(&all).unwrap_or_default();
    write(
        &config.node.state_dir.join(INSTALLED),
        text.as_bytes(),
        0o600,
    )?;
    Ok((installed, preferred(&places.conf_dir)))
}

/// The plugin for `lo`, which containerd calls for every pod besides ours.
const LOOPBACK: &str = "loopback";
/// Where Debian's package containernetworking-plugins puts plugins.
const DEBIAN_BIN_DIR: &str = "/usr/lib/cni";

/// What to do where the folder of plugins lacks one that a runtime needs besides ours.
pub fn lacks_loopback(bin_dir: &Path) -> Option<String> {
    let file = bin_dir.join(LOOPBACK);
    (!file.exists()).then(|| {
        format!(
            "there is no {}: containerd starts no pod without it\n  \
             to do: get it from the package containernetworking-plugins and copy it: \
             sudo cp {DEBIAN_BIN_DIR}/{LOOPBACK} {}/",
            file.display(),
            bin_dir.display()
        )
    })
}

/// What `install-cni` has written before, as it wrote it down.
pub(super) fn installed(state_dir: &Path) -> Installed {
    fs::read(state_dir.join(INSTALLED))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Writes a whole file under a temporary name, and renames it.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InstallError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(io_error("creating", folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Runtimes read only names with a known ending, and plugins only by their name.
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io_error("writing", path))
}

/// Configurations that sort before ours: a runtime takes the first.
pub(crate) fn preferred(conf_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(conf_dir) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let mut before: Vec<String> = names
        .filter(|n| {
            [".conflist", ".conf", ".json"]
                .iter()
                .any(|end| n.ends_with(end))
        })
        .filter(|n| n.as_str() < CONFLIST)
        .collect();
    before.sort();
    before
}

#[cfg(test)]
mod tests;
