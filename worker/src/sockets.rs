//! The underlay sockets of a worker: one for each outer family and encapsulation, for its life; their addresses
//! may change, and a new encapsulation brings new ones. Sockets that no path uses any more stay, because a
//! peer may change its end of a path later than we do; so do those at a former address, beside the new ones, until
//! they are taken away.

use std::os::fd::{AsRawFd, RawFd};

use super::config::UnderlaySocket;
use super::queue_id::QueueId;
use super::ready::Ready;
use super::uplink::Uplink;

/// Watches all of them.
pub(super) fn watch(underlays: &[Option<UnderlaySocket>], ready: &mut Ready) {
    for (at, underlay) in underlays.iter().enumerate() {
        if let Some(underlay) = underlay {
            watch_one(at, underlay, ready);
        }
    }
}

fn watch_one(at: usize, underlay: &UnderlaySocket, ready: &mut Ready) {
    for (queue, fd) in queues(at, underlay) {
        if let Err(error) = ready.add(queue, fd) {
            tracing::error!(%error, "cannot watch an underlay socket");
        }
    }
}

/// The receive sockets of place `at`, and their descriptors.
fn queues(at: usize, underlay: &UnderlaySocket) -> [(QueueId, RawFd); 2] {
    let [quiet, bulk] = underlay.socket.rx_fds().map(AsRawFd::as_raw_fd);
    let at = at as u32;
    [
        (QueueId::Socket(at), quiet),
        (QueueId::BulkSocket(at), bulk),
    ]
}

/// Puts one, or none, in the place of another, if there is any. What the old one had queued was flushed at the end
/// of the round.
pub(super) fn set<R>(
    uplink: &mut Uplink<R>,
    at: usize,
    new: Option<UnderlaySocket>,
    ready: &mut Ready,
    listening: bool,
) {
    if let Some(old) = &uplink.sockets[at] {
        for (queue, fd) in queues(at, old) {
            ready.remove(queue, fd);
        }
    }
    if listening && let Some(new) = &new {
        watch_one(at, new, ready);
    }
    uplink.set(at, new);
}
