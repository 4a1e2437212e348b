//! A DEL that found no agent: a file for it to find when it is back.
//!
//! The runtime is told that the DEL has succeeded, and will never repeat it, so the file is synced before
//! that. Its name is container and interface, so that a repeated DEL is one file; of a long id a file name
//! has no room for, its beginning and a hash.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
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
    let name = file_name(attachment);
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

/// Longest name that is taken as it is: with what a temporary one adds it stays below NAME_MAX, 255.
const NAME_MAX: usize = 200;

fn file_name(attachment: &Attachment) -> String {
    // Neither can have a slash: both were checked.
    let name = format!("{}@{}", attachment.container_id, attachment.ifname);
    if name.len() <= NAME_MAX {
        return name;
    }
    let mut hash = DefaultHasher::new();
    name.hash(&mut hash);
    // No id has a '~', so this is no other container's name.
    let begin: String = name.chars().take(NAME_MAX / 2).collect();
    format!("{begin}~{:016x}", hash.finish())
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
