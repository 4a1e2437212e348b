//! Kernel settings under `/proc/sys/net`, in the calling thread's namespace.
//!
//! A container sees its own `/proc/sys` read-only. The host's, mounted beside it, can be written, and shows
//! the same: which namespace's settings a file has depends on the thread that opens it, not on the mount.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the settings are unless [`set_root`] said otherwise.
pub const ROOT: &str = "/proc/sys/net";
/// A setting that every kernel has.
const EVERYWHERE: &str = "ipv4/ip_forward";

static OTHER_ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("kernel setting {path}: {source}{}", remedy(source))]
pub struct SysctlError {
    /// The file under /proc/sys.
    pub path: PathBuf,
    /// Error of open(2), read(2) or write(2).
    pub source: io::Error,
}

impl SysctlError {
    /// The setting does not exist (IPv6 switched off, older kernel).
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "\n  to do: mount the host's /proc/sys/net beside the container's own, writable, and name it in \
             node.sysctl_root"
        }
        _ => "",
    }
}

fn root() -> &'static Path {
    OTHER_ROOT.get().map_or(Path::new(ROOT), PathBuf::as_path)
}

/// Says where the settings are mounted, for the whole process; the first call decides.
///
/// # Errors
/// There are no settings there.
pub fn set_root(root: &Path) -> Result<(), SysctlError> {
    let path = root.join(EVERYWHERE);
    match fs::metadata(&path) {
        Ok(_) => {
            OTHER_ROOT.get_or_init(|| root.to_owned());
            Ok(())
        }
        Err(source) => Err(SysctlError { path, source }),
    }
}

fn path(key: &str) -> PathBuf {
    root().join(key)
}

/// Reads `key`, e.g. `ipv4/ip_forward`.
pub fn get(key: &str) -> Result<String, SysctlError> {
    let path = path(key);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(SysctlError { path, source }),
    }
}

/// Sets `key` to `value`; true when it was different before. A setting that
/// already has the value is not written: /proc/sys may be read-only.
pub fn set(key: &str, value: &str) -> Result<bool, SysctlError> {
    if get(key)? == value {
        return Ok(false);
    }
    let path = path(key);
    match fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(source) => Err(SysctlError { path, source }),
    }
}

/// Like [`set`], but a setting this kernel does not have is no error.
pub fn set_if_present(key: &str, value: &str) -> Result<bool, SysctlError> {
    match set(key, value) {
        Err(e) if e.is_missing() => Ok(false),
        other => other,
    }
}

/// Keys that exist of a pattern with one `*` for a whole component; of one without, the key itself.
pub fn matching(pattern: &str) -> Vec<String> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![pattern.to_owned()];
    };
    let Ok(entries) = fs::read_dir(path(before)) else {
        return Vec::new();
    };
    let mut keys: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|name| format!("{before}{name}{after}"))
        .filter(|key| path(key).exists())
        .collect();
    keys.sort();
    keys
}
