//! The books of host-local, the IPAM plugin that Flannel's configuration names: a file for each address, with
//! its container in it (`backend/disk`, containernetworking/plugins).
//!
//! ```text
//! /var/lib/cni/networks/cbr0/10.77.1.7          9f2c…\r\neth0
//! /var/lib/cni/networks/cbr0/last_reserved_ip.0
//! /var/lib/cni/networks/cbr0/lock
//! ```
//!
//! Every network's folder is read: what is in this node's networks has had its address from there. What is not
//! a book is passed over; nothing in them is believed but addresses and names.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Folders that are read.
const NETWORKS: usize = 64;
/// Books of a network that are read: more than a node has pods.
const BOOKS: usize = 4096;
/// Bytes of a book.
const LONGEST: u64 = 4096;
/// Bytes of a container's id.
const ID_MAX: usize = 256;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// The address.
    pub ip: IpAddr,
    /// Whose it is.
    pub container_id: String,
    /// Its interface there; books of old versions do not say.
    pub ifname: Option<String>,
    path: PathBuf,
}

/// Why books could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{action} {path}: {source}; see that node.takeover has the folder of host-local in cni.books"
)]
pub struct BookError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Every entry below a folder, in order of addresses; none where there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn read(folder: &Path) -> Result<Vec<Book>, BookError> {
    let mut all = Vec::new();
    for network in entries(folder, NETWORKS)? {
        // A file beside the networks is none.
        if network.is_dir() {
            for path in entries(&network, BOOKS)? {
                all.extend(book(&path)?);
            }
        }
    }
    all.sort_by_key(|book| book.ip);
    Ok(all)
}

fn entries(folder: &Path, most: usize) -> Result<Vec<PathBuf>, BookError> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let path = |entry: io::Result<fs::DirEntry>| Ok(entry.map_err(unread(folder))?.path());
            entries.take(most).map(path).collect()
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(unread(folder)(e)),
    }
}

fn unread(path: &Path) -> impl Fn(io::Error) -> BookError {
    move |source| BookError {
        action: "reading",
        path: path.to_owned(),
        source,
    }
}

/// None: it is no book, or gone by now. A book that cannot be read is not one that is not there.
fn book(path: &Path) -> Result<Option<Book>, BookError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(ip) = name.and_then(|name| name.parse().ok()) else {
        return Ok(None);
    };
    let is_book = |m: &fs::Metadata| m.is_file() && m.len() <= LONGEST;
    let read = || match fs::symlink_metadata(path)? {
        metadata if is_book(&metadata) => fs::read(path).map(Some),
        _ => Ok(None),
    };
    match read() {
        Ok(bytes) => Ok(bytes.and_then(|bytes| parse(path, ip, &bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unread(path)(e)),
    }
}

fn parse(path: &Path, ip: IpAddr, bytes: &[u8]) -> Option<Book> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines().map(str::trim);
    let container_id = lines.next().filter(|id| is_name(id))?.to_owned();
    let ifname = lines.next().filter(|name| is_name(name));
    Some(Book {
        ip,
        container_id,
        ifname: ifname.map(str::to_owned),
        path: path.to_owned(),
    })
}

/// What runtimes make ids of; it is printed, so nothing else may be in it.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !text.is_empty() && text.len() <= ID_MAX && text.chars().all(fits)
}

impl Book {
    /// Whether it is of this attachment.
    pub(super) fn is_of(&self, container_id: &str, ifname: &str) -> bool {
        let same = |name: &String| name == ifname;
        self.container_id == container_id && self.ifname.as_ref().is_none_or(same)
    }

    /// Takes the entry away, as host-local does at a DEL.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn release(&self) -> Result<(), BookError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(BookError {
                action: "removing",
                path: self.path.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_read_as_host_local_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let (cbr0, other) = (dir.path().join("cbr0"), dir.path().join("k3s"));
        for folder in [&cbr0, &other] {
            fs::create_dir(folder).unwrap();
        }
        let write = |folder: &PathBuf, name: &str, text: &[u8]| {
            fs::write(folder.join(name), text).unwrap();
        };
        write(&cbr0, "10.77.1.7", b"9f2c0000\r\neth0");
        write(&cbr0, "10.77.1.8", b"older0000");
        write(&other, "fd77:1::7", b"9f2c0000\r\neth0");
        write(&cbr0, "last_reserved_ip.0", b"10.77.1.8");
        write(&cbr0, "lock", b"");
        // What somebody hostile or unlucky has left.
        write(&cbr0, "10.77.1.9", b"");
        write(&cbr0, "10.77.1.10", b"\x1b[31mred\r\neth0");
        write(&cbr0, "10.77.1.11", &[b'a'; 5000]);
        write(&cbr0, "10.77.1.12", &[0xff, 0xfe]);
        fs::create_dir(cbr0.join("10.77.1.13")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", cbr0.join("10.77.1.14")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let all = read(dir.path()).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|b| {
                (
                    b.ip.to_string(),
                    b.container_id.as_str(),
                    b.ifname.as_deref(),
                )
            })
            .collect();
        let eth0 = Some("eth0");
        assert_eq!(
            seen,
            [
                ("10.77.1.7".into(), "9f2c0000", eth0),
                ("10.77.1.8".into(), "older0000", None),
                ("fd77:1::7".into(), "9f2c0000", eth0),
            ]
        );
        assert!(all[0].is_of("9f2c0000", "eth0") && !all[0].is_of("9f2c0000", "net1"));
        assert!(all[1].is_of("older0000", "eth0"));
        all[0].release().unwrap();
        all[0].release().unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn no_folder_is_no_books() {
        assert_eq!(read(Path::new("/nonexistent/books")).unwrap(), []);
        let error = read(Path::new("/etc/hostname")).unwrap_err().to_string();
        assert!(
            error.contains("/etc/hostname") && error.contains("cni.books"),
            "{error}"
        );
    }
}
