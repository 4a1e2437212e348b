//! What a worker tells of itself in shared cells.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringway_switch::counters::Cell;

use super::histogram::Histogram;

/// Nanoseconds of a visit: up to 2^10 (a microsecond), and each next bucket twice that, up to 2^24 (17 ms).
pub type VisitTimes = Histogram<10, 16>;
/// Frames of a visit: 1, 2, 4, up to 256.
pub type VisitFrames = Histogram<0, 10>;

/// How busy a worker is; load cannot be told from CPU time when it polls.
#[derive(Debug, Default)]
pub struct Load {
    /// Rounds of the loop; grows at least twice a second while the worker lives.
    pub rounds: AtomicU64,
    /// Rounds that brought at least one frame.
    pub busy_rounds: AtomicU64,
    /// Times the worker slept.
    pub sleeps: AtomicU64,
    /// Nanoseconds in rounds that brought at least one frame, from the look at the clock to the last flush.
    pub busy_ns: Cell,
    /// How long visits to queues took that brought something.
    pub visit_ns: VisitTimes,
    /// How many frames they brought.
    pub visit_frames: VisitFrames,
}

impl Load {
    /// Enters a visit that brought something; only the worker may call it.
    #[inline]
    pub(super) fn visited(&self, took_ns: u64, frames: u64) {
        self.visit_ns.add(took_ns);
        self.visit_frames.add(frames);
    }
}

/// Where a worker's packet buffers are, and what its rings and sockets did; written by the worker, read by anybody.
#[derive(Debug, Default)]
pub struct BufferStats {
    /// Buffers and frames there are.
    pub total: AtomicU64,
    /// Free ones.
    pub free: AtomicU64,
    /// In flight, between a receive and a transmit.
    pub held: AtomicU64,
    /// In rings.
    pub in_rings: AtomicU64,
    /// Of those, to be received into.
    pub filled: AtomicU64,
    /// Of those, to be sent, or sent and not given back yet.
    pub sending: AtomicU64,
    /// Frames received from rings.
    pub received: AtomicU64,
    /// Frames given to rings to be sent.
    pub sent: AtomicU64,
    /// Frames that found a transmit ring full.
    pub full: AtomicU64,
    /// Times frames were missing to top up a fill ring.
    pub starved: AtomicU64,
    /// Descriptors for frames that the ring did not have.
    pub stray: AtomicU64,
    /// Received frames the kernel dropped for want of room in the receive ring.
    pub rx_ring_full: AtomicU64,
    /// Received frames the kernel dropped otherwise.
    pub rx_dropped: AtomicU64,
    /// Times the kernel found a fill ring empty.
    pub fill_ring_empty: AtomicU64,
    /// Transmit descriptors the kernel refused.
    pub tx_invalid: AtomicU64,
    /// Messages received from sockets; one may stand for many datagrams.
    pub socket_messages: AtomicU64,
    /// Datagrams received from sockets.
    pub socket_datagrams: AtomicU64,
    /// Datagrams the kernel dropped because the receive buffer of a socket was full.
    pub socket_overflow: AtomicU64,
    /// Datagrams dropped because they were longer than a packet buffer.
    pub socket_truncated: AtomicU64,
    /// Datagrams whose flow was told that it sends too much.
    pub socket_congested: AtomicU64,
}

impl BufferStats {
    /// Enters what sockets have counted.
    pub(super) fn publish_sockets(&self, counts: SocketCounts) {
        for (cell, value) in [
            (&self.socket_messages, counts.messages),
            (&self.socket_datagrams, counts.datagrams),
            (&self.socket_overflow, counts.overflow),
            (&self.socket_truncated, counts.truncated),
            (&self.socket_congested, counts.congested),
        ] {
            cell.store(value, Relaxed);
        }
    }
}

/// What the receive sockets of a worker have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketCounts {
    /// Messages received; one may stand for many datagrams.
    pub messages: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Datagrams the kernel dropped because a receive buffer was full.
    pub overflow: u64,
    /// Datagrams dropped because they were longer than a packet buffer.
    pub truncated: u64,
    /// Datagrams whose flow was told that it sends too much.
    pub congested: u64,
}

impl SocketCounts {
    pub(crate) fn add(&mut self, new: SocketCounts) {
        self.messages += new.messages;
        self.datagrams += new.datagrams;
        self.overflow += new.overflow;
        self.truncated += new.truncated;
        self.congested += new.congested;
    }
}
