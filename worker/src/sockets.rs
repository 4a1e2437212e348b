//! The underlay sockets of a worker: one for each outer family and encapsulation, for its life; their addresses
//! may change.

use std::os::fd::AsRawFd;

use super::Underlay;
use super::queue_id::QueueId;
use super::ready::Ready;

/// Watches all of them.
pub(super) fn watch(underlays: &[Underlay], ready: &mut Ready) {
    for (i, underlay) in underlays.iter().enumerate() {
        let queue = QueueId::Socket(i as u32);
        if let Err(error) = ready.add(queue, underlay.socket.rx_fd().as_raw_fd()) {
            tracing::error!(%error, "cannot watch an underlay socket");
        }
    }
}

/// Puts one in the place of that of the same family and encapsulation. What it had queued was flushed at the end
/// of the round.
pub(super) fn replace(
    underlays: &mut [Underlay],
    new: Underlay,
    ready: &mut Ready,
    listening: bool,
) {
    let same = |u: &Underlay| u.encap == new.encap && u.v6 == new.v6;
    let Some(at) = underlays.iter().position(same) else {
        return;
    };
    let queue = QueueId::Socket(at as u32);
    ready.remove(queue, underlays[at].socket.rx_fd().as_raw_fd());
    if listening && let Err(error) = ready.add(queue, new.socket.rx_fd().as_raw_fd()) {
        tracing::error!(%error, "cannot watch an underlay socket");
    }
    underlays[at] = new;
}
