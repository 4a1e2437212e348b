//! The thread that follows etcd.
//!
//! ```text
//! connect ─▶ read all ─▶ watch from there ─▶ settle: own record, what is said, status, disk ◀─┐
//!    ▲  ▲        ▲                             │ an event, this node changes, something due   │
//!    │  │        └── history is compacted ─────┼──────────────────────────────────────────────┘
//!    │  └──────────── next server ◀── error ───┘
//!    └── every server has failed: wait, longer each time
//! ```
//!
//! After an error everything is read anew: a server may be one that was restored from a backup, whose revisions
//! begin earlier than those that were seen. What was said stays in force all the while.

mod follow;
mod say;

use std::sync::mpsc;
use std::time::Duration;

use ringway_cluster::source::{Apply, Local, Status};
use tokio::sync::{oneshot, watch};

use crate::{Saved, Settings};
use follow::Follower;

/// How long the thread is waited for: it may be in the middle of a change that waits for who stops it.
const STOP: Duration = Duration::from_millis(100);

/// A running source. Dropping it stops it, too, without waiting.
pub struct Handle {
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Handle {
    /// Stops it; returns when it has stopped, after 100 ms at the latest. The own record stays, and so does what
    /// was said.
    pub fn stop(self) {
        drop(self.stop);
        // Disconnected when the thread ends.
        let _ = self.ended.recv_timeout(STOP);
    }
}

/// Starts to follow etcd in a thread of its own. `saved` is what [`Saved::load`] has found and whose contents are
/// in force already; `local` says how this node is.
///
/// # Errors
/// The system gives no thread or no epoll instance.
pub fn spawn(
    settings: Settings,
    saved: Option<Saved>,
    local: watch::Receiver<Local>,
    apply: Apply,
    status: watch::Sender<Status>,
) -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut follower = Follower::new(settings, saved, local, (apply, status));
    let (stop, stopped) = oneshot::channel::<()>();
    let (alive, ended) = mpsc::channel();
    std::thread::Builder::new()
        .name("etcd".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // An error: whoever could have stopped it is gone.
                    _ = stopped => {}
                    never = follower.run() => match never {},
                }
                follower.save();
            });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            drop(alive);
        })?;
    Ok(Handle { stop, ended })
}
