//! A DEL that found no agent: a file for it to find when it is back.
//!
//! The runtime is told that the DEL has succeeded, and will never repeat it, so the file is synced before
//! that. Its name is container and interface, so that a repeated DEL is one file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::api::Attachment;
use crate::error::{Error, IO, Result};

/// Leaves one.
///
/// # Errors
/// The folder cannot be written: the DEL has failed, and the runtime will repeat it.
pub fn leave(folder: &Path, attachment: &Attachment) -> Result<()> {
    write(folder, attachment).map_err(|e| {
        Error::new(
            IO,
            format!("the agent is not there, and the DEL cannot be left in {}: {e}", folder.display()),
            "start it with `ringway agent`, or make the folder writable (pendingDir in the configuration)",
        )
    })
}

fn write(folder: &Path, attachment: &Attachment) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // Neither can have a slash: both were checked.
    let name = format!("{}@{}", attachment.container_id, attachment.ifname);
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(&serde_json::to_vec(attachment)?)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, folder.join(&name)))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_del_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let attachment = Attachment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
        };
        for _ in 0..2 {
            leave(&folder, &attachment).unwrap();
        }
        let names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["c1@eth0"]);
        let read: Attachment =
            serde_json::from_slice(&fs::read(folder.join("c1@eth0")).unwrap()).unwrap();
        assert_eq!(read, attachment);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(leave(&file.join("x"), &attachment).unwrap_err().code, IO);
    }
}
