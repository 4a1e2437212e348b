//! A file that may change at any time: tells when there is another text in it.
//!
//! ```text
//! /etc/ringway/ringway.toml ─▶ ..data/ringway.toml ─▶ ..2026_11_28/ringway.toml     (a mounted ConfigMap)
//!      watched: each folder on the way, not the file: an editor, kubelet and `mv` put another in its place
//! ```
//!
//! inotify(7) says that something happened in one of the folders; then the file is read and compared with what
//! was read last, so that no kind of change has to be told from another. While a writer has it open and has
//! written, nothing is read: half a file may be a valid one with half of the peers. That the kernel does not
//! report everything (another node's write on a network file system, a folder that was taken away) costs at
//! most [`LOOK`]: so often the file is looked at anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// How often the file is looked at although nothing was reported.
pub const LOOK: Duration = Duration::from_secs(2);
/// How long nothing must have happened before the file is read: programs replace files in several steps.
const SETTLE: Duration = Duration::from_millis(50);
/// The same where it is not known whether a writer has closed the file.
const SETTLE_UNREPORTED: Duration = Duration::from_secs(1);
/// Links that are followed, as the kernel does (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// What was read.
pub type Text = Result<String, io::Error>;

/// A file and what was read of it last.
pub struct File {
    path: PathBuf,
    last: Option<Seen>,
    stat: Option<Stat>,
    watched: Option<Watched>,
    /// Files, by folder and name, that somebody has written to and not closed.
    writing: BTreeSet<(WatchDescriptor, std::ffi::OsString)>,
}

/// A text, or why there is none.
#[derive(PartialEq)]
enum Seen {
    Text(String),
    Failed(io::ErrorKind),
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, PartialEq)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

struct Watched {
    inotify: Inotify,
    folders: BTreeMap<PathBuf, WatchDescriptor>,
}

impl File {
    /// A file whose text is known already.
    pub fn new(path: &Path, text: String) -> Self {
        let mut file = Self {
            path: path.to_owned(),
            last: Some(Seen::Text(text)),
            stat: None,
            watched: None,
            writing: BTreeSet::new(),
        };
        file.watch();
        file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it now, whatever was read before.
    pub fn read(&mut self) -> Text {
        self.stat = stat(&self.path);
        let text = std::fs::read_to_string(&self.path);
        self.last = Some(match &text {
            Ok(text) => Seen::Text(text.clone()),
            Err(e) => Seen::Failed(e.kind()),
        });
        text
    }

    /// Waits until there is another text than was read last, or another reason why there is none, and returns
    /// it; `None` when `stop` has become readable.
    pub fn next(&mut self, stop: BorrowedFd<'_>) -> Option<Text> {
        // When to read; something has happened if it is set.
        let mut read_at: Option<Instant> = None;
        let mut stat_before = self.stat;
        loop {
            let wait = match read_at {
                // Whoever writes will be reported to have closed it.
                Some(at) if self.writing.is_empty() => {
                    at.saturating_duration_since(Instant::now()).min(LOOK)
                }
                _ => LOOK,
            };
            if self.wait(stop, wait) {
                return None;
            }
            if self.happened() {
                self.watch();
                read_at = Some(Instant::now() + SETTLE);
                continue;
            }
            let now = stat(&self.path);
            if read_at.is_none() && now != stat_before {
                // Seen and not reported: whoever wrote it may go on.
                self.watch();
                read_at = Some(Instant::now() + SETTLE_UNREPORTED);
            }
            let settled = now == stat_before;
            stat_before = now;
            let due = read_at.is_some_and(|at| at <= Instant::now());
            if !due || !settled || !self.writing.is_empty() {
                continue;
            }
            read_at = None;
            let before = self.last.take();
            let text = self.read();
            if self.last != before {
                return Some(text);
            }
        }
    }

    /// Whether it is to stop.
    fn wait(&self, stop: BorrowedFd<'_>, time: Duration) -> bool {
        let mut fds = vec![PollFd::new(stop, PollFlags::POLLIN)];
        let inotify = self.watched.as_ref().map(|w| w.inotify.as_fd());
        fds.extend(inotify.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let millis = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        // Interrupted or refused: the file is looked at, and that is all there is to lose.
        let _ = poll(&mut fds, PollTimeout::from(millis));
        fds[0].any().unwrap_or(false)
    }

    /// Takes in what was reported; whether it was anything.
    fn happened(&mut self) -> bool {
        let Some(watched) = &self.watched else {
            return false;
        };
        let mut any = false;
        while let Ok(events) = watched.inotify.read_events() {
            for InotifyEvent { wd, mask, name, .. } in events {
                any = true;
                if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.writing.clear();
                }
                let Some(name) = name else { continue };
                if mask.contains(AddWatchFlags::IN_MODIFY) {
                    // Only what is ours: another file of the folder may be a log.
                    if watched.is_ours(wd, &name, &self.path) {
                        self.writing.insert((wd, name));
                    }
                } else {
                    self.writing.remove(&(wd, name));
                }
            }
        }
        any
    }

    /// Watches the folders that are on the way now.
    fn watch(&mut self) {
        let mut watched = match self.watched.take() {
            Some(watched) => watched,
            None => match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
                Ok(inotify) => Watched {
                    inotify,
                    folders: BTreeMap::new(),
                },
                // Looked at every two seconds.
                Err(_) => return,
            },
        };
        let on_the_way: BTreeSet<PathBuf> = links(&self.path)
            .iter()
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        let gone = |folder: &PathBuf| !on_the_way.contains(folder);
        let old: Vec<PathBuf> = watched
            .folders
            .keys()
            .filter(|f| gone(f))
            .cloned()
            .collect();
        for folder in old {
            if let Some(wd) = watched.folders.remove(&folder) {
                let _ = watched.inotify.rm_watch(wd);
                self.writing.retain(|(of, _)| *of != wd);
            }
        }
        for folder in on_the_way {
            // Again also where it is watched: another folder may have its name.
            let flags = AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            if let Ok(wd) = watched.inotify.add_watch(&folder, flags) {
                watched.folders.insert(folder, wd);
            }
        }
        self.watched = Some(watched);
    }
}

impl Watched {
    fn is_ours(&self, wd: WatchDescriptor, name: &std::ffi::OsStr, path: &Path) -> bool {
        let folder = self.folders.iter().find(|(_, of)| **of == wd);
        folder.is_some_and(|(folder, _)| links(path).contains(&folder.join(name)))
    }
}

/// The path, and where each link on the way leads: `path`, the next, …, the file. Folders may be links, too.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next.take().filter(|_| all.len() < MOST_LINKS) {
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => (folder.to_owned(), name.to_owned()),
            _ => break,
        };
        // A link in the folder's own path is replaced in the folder that it is in.
        if let Ok(target) = std::fs::read_link(&path) {
            next = Some(folder.join(target));
        } else {
            let of_folder = links_of_folder(&folder, MOST_LINKS - all.len());
            all.extend(of_folder);
            if let Ok(real) = folder.canonicalize() {
                all.push(real.join(name));
            }
        }
        all.push(path);
    }
    all
}

/// Links among the components of a folder's path.
fn links_of_folder(folder: &Path, most: usize) -> Vec<PathBuf> {
    let is_link = |path: &&Path| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    let links = folder.ancestors().filter(is_link);
    links.take(most).map(Path::to_owned).collect()
}

fn stat(path: &Path) -> Option<Stat> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stat {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}
