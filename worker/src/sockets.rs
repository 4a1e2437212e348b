//! The underlay sockets of a worker: one for each outer family and encapsulation, for its life; their addresses
//! may change.

use std::os::fd::AsRawFd;

use super::UnderlaySocket;
use super::queue_id::QueueId;
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

/// Puts one in the place of that of the same family and encapsulation. What it had queued was flushed at the end
/// of the round.
pub(super) fn replace<R>(
    uplink: &mut Uplink<R>,
    new: UnderlaySocket,
    ready: &mut Ready,
    listening: bool,
) {
    let (old, fd) = (uplink.same_kind(&new), new.socket.rx_fd().as_raw_fd());
    let Some(at) = old else { return };
    let queue = QueueId::Socket(at as u32);
    ready.remove(queue, uplink.sockets[at].socket.rx_fd().as_raw_fd());
    if listening && let Err(error) = ready.add(queue, fd) {
        tracing::error!(%error, "cannot watch an underlay socket");
    }
    uplink.replace(at, new);
}
