//! What every kind of port can do.

use std::io;

use crate::frame::{Batch, Frame};
use crate::pool::Pool;

/// A place where frames enter and leave. Used by one worker at a time.
pub trait Port {
    /// Receives at most `budget` frames into buffers of `pool` and appends them to `batch`; stops early
    /// when the batch is full, the pool is empty or nothing waits. Returns the frames added; 0 = nothing
    /// waits. Malformed frames are counted by the port and skipped; they use up budget.
    ///
    /// # Errors
    /// Only what ends the port: its device is gone, or its descriptor is not usable.
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize>;

    /// Sends one frame of `batch`. May write into the headroom before the frame (vnet header), not into
    /// the frame. What is not sent by [`flush`](Self::flush) is copied before that.
    ///
    /// # Errors
    /// Why the frame was not taken; the frame is then the caller's to count.
    fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &Batch,
        frame: &Frame,
    ) -> Result<(), TransmitError>;

    /// Hands everything transmitted so far to the other side. Afterwards the buffers may be recycled.
    ///
    /// # Errors
    /// Why queued frames were lost.
    fn flush(&mut self, pool: &Pool) -> Result<(), TransmitError>;
}

/// Why a frame was not transmitted.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum TransmitError {
    /// The other side's queue is full (`EAGAIN`, `ENOBUFS`).
    #[error("the queue of the port is full")]
    Full,
    /// The link is down: the interface is not up in its namespace (`EIO`).
    #[error("the link of the port is down")]
    Down,
    /// The interface was deleted or the queue detached (`EBADFD`).
    #[error("the interface of the port is gone")]
    Gone,
    /// The kernel refuses the frame or its offload metadata (`EINVAL`): a bug on our side or a TAP that
    /// lacks an offload the frame asks for.
    #[error("the port refuses a frame of {len} bytes and its offload metadata")]
    Refused {
        /// Length of the frame in bytes.
        len: u32,
    },
    /// The frame does not fit the port or points outside its buffers.
    #[error("a frame of {len} bytes does not fit: limit {limit}")]
    Malformed {
        /// Length of the frame in bytes.
        len: u32,
        /// What would have fitted.
        limit: u32,
    },
    /// Any other error of the system call.
    #[error("transmission failed with error number {0}")]
    Other(
        /// `errno`.
        i32,
    ),
}

impl TransmitError {
    /// Number of kinds, for arrays of counters indexed by [`index`](Self::index).
    pub const KINDS: usize = 6;

    /// A stable number for the kind of error, below [`KINDS`](Self::KINDS).
    pub fn index(self) -> usize {
        match self {
            TransmitError::Full => 0,
            TransmitError::Down => 1,
            TransmitError::Gone => 2,
            TransmitError::Refused { .. } => 3,
            TransmitError::Malformed { .. } => 4,
            TransmitError::Other(_) => 5,
        }
    }
}
