//! A source's record on disk: what it knew last.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Writes it as a whole or not at all, for its owner alone: a power cut leaves the old one or the new one.
///
/// # Errors
/// It cannot be written. What was there is there still.
pub fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// The same path with one more extension.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
