//! A worker's buffers: the pool, and the batch that has those in use.

use ringway_ports::{Batch, Pool};

/// Large buffers of a worker's pool. A batch holds at most 64 and what it originates; the rest is for
/// frames that a ring sends from the buffer they were read into.
const BUFFERS: usize = 512;
/// One-page frames of a worker's pool: those that rings are filled with, and a transmit ring full of
/// segments. Never touched without rings, and memory that is never touched costs nothing.
const FRAMES: usize = 12288;
/// Large buffers that no ring may take: a ring that does not move must not stop traffic within the node.
const RESERVE: usize = 128;

/// The pool, and the frames in flight.
pub(crate) struct Buffers {
    pub(crate) pool: Pool,
    pub(crate) batch: Batch,
    /// For frames that go before those of `batch`; empty otherwise, and not made before it is needed.
    side: Option<Box<Batch>>,
}

impl Buffers {
    /// `largest`: bytes of the longest packet, Ethernet header included, that is to be sent from the
    /// buffer it was read into.
    pub(crate) fn new(largest: usize) -> Buffers {
        Buffers {
            pool: Pool::umem(BUFFERS, FRAMES, largest),
            batch: Batch::new(),
            side: None,
        }
    }

    /// Whether a ring may keep a buffer.
    #[inline]
    pub(crate) fn may_lend(&self) -> bool {
        self.pool.available() > RESERVE
    }

    /// Puts the batch aside for another, or that back in its place, which must be empty.
    pub(crate) fn swap(&mut self) {
        let side = self.side.get_or_insert_default();
        std::mem::swap(&mut self.batch, side);
    }

    /// Gives the batch's buffers back; nothing may be queued that lies in them.
    pub(crate) fn recycle(&mut self) {
        self.batch.recycle(&mut self.pool);
        debug_assert_eq!(
            self.pool.census().held,
            0,
            "a buffer is lost: {:?}",
            self.pool
        );
    }
}
