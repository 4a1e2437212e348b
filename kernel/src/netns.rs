//! Network namespaces: name them, recognise them, run code inside.
//!
//! `setns` changes the calling thread for good, and a thread that changed must
//! never serve anybody else. [`run_in`] therefore starts a thread of its own,
//! runs one closure there and lets the thread die with it (about 60 µs).
//!
//! A namespace is recognised by the device and inode of its nsfs file: the path
//! `/run/netns/x` may be deleted and made again, which is another namespace.
//!
//! Agent and runtime must mean the same by a path. In a container the agent has the host's `/run/netns`, with
//! what is mounted there later. `CNI_NETNS` may also be `/proc/PID/ns/net` (`ctr run --cni`, cri-dockerd): then
//! it needs the host's process ids as well.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};
use serde::{Deserialize, Serialize};

/// Where `ip netns` keeps its names.
pub const NAMED: &str = "/run/netns";
/// `NSFS_MAGIC`, linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Why a namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Neither a name nor an absolute path.
    #[error("{given:?} is neither the name of a network namespace nor an absolute path")]
    Name {
        /// What was given.
        given: String,
    },
    /// The file cannot be opened.
    #[error("network namespace {path}: {source}{}", unseen(path, source))]
    Open {
        /// The path tried.
        path: PathBuf,
        /// Error of open(2).
        source: io::Error,
    },
    /// The path exists but is no namespace.
    #[error("{path} is not a network namespace (filesystem type {found:#x}, nsfs is 0x6e736673)")]
    NotNetns {
        /// The path tried.
        path: PathBuf,
        /// What statfs(2) said.
        found: i64,
    },
    /// The namespace is the agent's own.
    #[error("{path} is the node's own network namespace; a pod needs one of its own")]
    Own {
        /// The path tried.
        path: PathBuf,
    },
    /// `setns` refused.
    #[error("entering the network namespace {path}: {source}")]
    Enter {
        /// The path tried.
        path: PathBuf,
        /// Error of setns(2).
        source: io::Error,
    },
    /// The thread could not be started.
    #[error("no thread for the network namespace {path}: {source}")]
    Thread {
        /// The path tried.
        path: PathBuf,
        /// Error of the thread's creation.
        source: io::Error,
    },
    /// The closure panicked.
    #[error("work inside the network namespace {path} panicked")]
    Panicked {
        /// The path tried.
        path: PathBuf,
    },
}

/// Which namespace it is, however it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Device of the nsfs mount.
    pub dev: u64,
    /// Inode: the namespace's number.
    pub ino: u64,
}

impl Identity {
    /// The namespace the path leads to now.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|m| Self::of(&m))
    }

    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
        }
    }
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
    identity: Identity,
}

/// What may be the matter with a namespace that is named by a process.
fn unseen(path: &Path, error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound && path.starts_with("/proc") {
        "; an agent in a container sees the node's processes only with hostPID: true (deploy/hostpid)"
    } else {
        ""
    }
}

/// `name` → `/run/netns/name`; an absolute path stays what it is.
pub fn resolve(given: &str) -> Result<PathBuf, NetnsError> {
    let refused = || NetnsError::Name {
        given: given.to_owned(),
    };
    if given.is_empty() || given.contains('\0') || given.len() > 4096 {
        return Err(refused());
    }
    if given.starts_with('/') {
        return Ok(PathBuf::from(given));
    }
    if given.contains('/') || given == "." || given == ".." {
        return Err(refused());
    }
    Ok(Path::new(NAMED).join(given))
}

impl Netns {
    /// Opens the namespace behind `path` and makes sure that it is one.
    ///
    /// The path comes from a client. It is opened with `O_PATH` first, so that
    /// nothing but a namespace is ever really opened: a FIFO would block, a
    /// device could react.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        use std::os::unix::fs::OpenOptionsExt;
        let open_error = |source| NetnsError::Open {
            path: path.to_owned(),
            source,
        };
        let probe = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
            .open(path)
            .map_err(open_error)?;
        let found = fstatfs(&probe)
            .map_err(|e| open_error(e.into()))?
            .filesystem_type();
        if found != FsType(NSFS_MAGIC as _) {
            return Err(NetnsError::NotNetns {
                path: path.to_owned(),
                found: found.0 as i64,
            });
        }
        // Through the descriptor that was checked: the path may lead elsewhere by now.
        let file =
            File::open(format!("/proc/self/fd/{}", probe.as_raw_fd())).map_err(open_error)?;
        let metadata = file.metadata().map_err(open_error)?;
        Ok(Self {
            identity: Identity::of(&metadata),
            path: path.to_owned(),
            file,
        })
    }

    /// Which namespace it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses the namespace the calling thread is in.
    pub fn not_own(self) -> Result<Self, NetnsError> {
        match Identity::of_path(Path::new("/proc/thread-self/ns/net")) {
            Ok(own) if own == self.identity => Err(NetnsError::Own { path: self.path }),
            _ => Ok(self),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` in `netns` on a thread of its own and returns its result.
pub fn run_in<T, F>(netns: &Netns, work: F) -> Result<T, NetnsError>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    let path = || netns.path.clone();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                setns(&netns.file, CloneFlags::CLONE_NEWNET)?;
                Ok::<T, nix::Error>(work())
            })
            .map_err(|source| NetnsError::Thread {
                path: path(),
                source,
            })?;
        match thread.join() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(NetnsError::Enter {
                path: path(),
                source: e.into(),
            }),
            Err(_) => Err(NetnsError::Panicked { path: path() }),
        }
    })
}
