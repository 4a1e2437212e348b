//! The underlay sockets of a worker: one for each outer family and encapsulation, for its life; their addresses
//! may change, and a new encapsulation brings new ones. Sockets that no path uses any more stay, because a
//! peer may change its end of a path later than we do.

use std::os::fd::AsRawFd;

use super::config::UnderlaySocket;
use super::queue_id::{MAX_SOCKETS, QueueId};
use super::ready::Ready;
use super::uplink::Uplink;

/// Watches all of them.
pub(super) fn watch(underlays: &[UnderlaySocket], ready: &mut Ready) {
    for (i, underlay) in underlays.iter().enumerate() {
        let queue = QueueId::Socket(i as u32);
        if let Err(error) = ready.add(queue, underlay.socket.rx_fd().as_raw_fd()) {
            tracing::error!(%error, "cannot watch an underlay socket");
        }
    }
}

/// Puts one in the place of that of the same family and encapsulation, or beside the others if there is none.
/// What the old one had queued was flushed at the end of the round.
pub(super) fn set<R>(
    uplink: &mut Uplink<R>,
    new: UnderlaySocket,
    ready: &mut Ready,
    listening: bool,
) {
    let known = uplink.same_kind(&new);
    let at = known.unwrap_or(uplink.sockets.len());
    if at >= MAX_SOCKETS {
        tracing::error!("no room for another underlay socket: there are {MAX_SOCKETS}");
        return;
    }
    let (queue, fd) = (QueueId::Socket(at as u32), new.socket.rx_fd().as_raw_fd());
    if known.is_some() {
        ready.remove(queue, uplink.sockets[at].socket.rx_fd().as_raw_fd());
    }
    if listening && let Err(error) = ready.add(queue, fd) {
        tracing::error!(%error, "cannot watch an underlay socket");
    }
    uplink.set(at, new);
}
