//! Which queue of a TAP the kernel puts a frame into: lanes for quiet flows and for bulk.
//!
//! A TAP orphans each packet that is queued, so TCP does not notice what waits there, and a window's worth
//! of bulk may stand before a pod's own small requests. So every worker has two queues of a TAP, and a BPF
//! program that the kernel runs over each frame (`TUNSETSTEERINGEBPF`, Linux 4.16; drivers/net/tun.c) puts
//! flows that the worker has found to be bulk into the second. What it is told is one bit for each
//! [slot](ringway_packet::steer::slot), in memory that it shares with the worker.
//!
//! ```text
//!   frame ─ slot ─┬─ slot modulo workers ─┐
//!                 └─ bit of the slot ─────┴─▶ queue = worker × 2 + lane
//! ```
//!
//! Traps: the program is a socket filter that sees the frame from its MAC addresses on; its result is
//! taken modulo the queues that are attached, in the order in which they were; it switches the kernel's own
//! flow table off, so it must choose the worker too; and it stays with a persistent TAP when the agent has
//! gone, so it is replaced before a second queue is attached.

mod emit;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ringway_packet::steer::SLOTS;

use crate::bpf::{self, LoadError};
use crate::sys::{self, Mapping};

/// Queues of a worker.
pub const LANES: usize = 2;
/// Name of program and map in the kernel.
const NAME: &str = "ringway_lanes";
const BITS_LEN: usize = SLOTS / 8;

/// Why frames cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The verifier refused the program: a mistake in Ringway, or a kernel older than we know.
    #[error(
        "the kernel's verifier refuses the steering program: {source}; its log ends with: {log}"
    )]
    Verifier {
        /// What the kernel said.
        source: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// A call that failed.
    #[error("{call} failed: {source}")]
    Call {
        /// The command of bpf(2), or the ioctl.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SteeringError {
    fn call(call: &'static str) -> impl FnOnce(io::Error) -> SteeringError {
        move |source| SteeringError::Call { call, source }
    }
}

/// Which slots are bulk: shared by the program of one TAP and the workers that read it. Every slot has one
/// worker.
#[derive(Debug)]
pub struct LaneBits(Mapping);

// SAFETY: the mapping stays where it is until this is dropped, and is only read and written as atomics.
unsafe impl Sync for LaneBits {}

impl LaneBits {
    /// Bits that no program reads, all flows quiet.
    ///
    /// # Errors
    /// No memory.
    pub fn unshared() -> io::Result<LaneBits> {
        Mapping::anonymous(BITS_LEN).map(LaneBits)
    }

    /// From now on the slot's flows are bulk, or quiet.
    #[inline]
    pub fn set(&self, slot: u16, bulk: bool) {
        let (word, bit) = self.word(slot);
        match bulk {
            true => word.fetch_or(bit, Relaxed),
            false => word.fetch_and(!bit, Relaxed),
        };
    }

    /// Whether they are bulk.
    #[inline]
    pub fn is_bulk(&self, slot: u16) -> bool {
        let (word, bit) = self.word(slot);
        word.load(Relaxed) & bit != 0
    }

    #[inline]
    fn word(&self, slot: u16) -> (&AtomicU32, u32) {
        let slot = usize::from(slot) % SLOTS;
        // SAFETY: the mapping is a page or more, aligned to one, and lives as long as `self`; `slot / 32` is
        // within its first `BITS_LEN` bytes. The program and all of us access it in whole words.
        let word = unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>().add(slot / 32)) };
        (word, 1 << (slot % 32))
    }
}

/// A program for one TAP.
#[derive(Debug)]
pub struct Steering {
    program: OwnedFd,
}

impl Steering {
    /// Loads a program for a TAP that so many workers read, and the bits that it goes by: all flows are
    /// quiet.
    ///
    /// # Errors
    /// The kernel has no such programs or does not permit them.
    pub fn load(workers: usize) -> Result<(Steering, LaneBits), SteeringError> {
        let map = bpf::map_create_shared(NAME, BITS_LEN as u32)
            .map_err(SteeringError::call("BPF_MAP_CREATE"))?;
        // A map's memory is mapped in whole pages.
        let page = sys::page_size();
        let bits = Mapping::shared(map.as_fd(), BITS_LEN.next_multiple_of(page), 0)
            .map_err(SteeringError::call("mmap of a BPF map"))?;
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let insns = emit::emit(workers, map.as_raw_fd());
        let program = bpf::load(|log| bpf::prog_load_socket_filter(NAME, &insns, log));
        let program = program.map_err(|error| match error {
            LoadError::Verifier { source, log } => SteeringError::Verifier { source, log },
            LoadError::Call(source) => SteeringError::call("BPF_PROG_LOAD")(source),
        })?;
        Ok((Steering { program }, LaneBits(bits)))
    }

    /// Has it choose the queues of the TAP behind `queue`, in place of any other.
    ///
    /// # Errors
    /// The kernel is older than Linux 4.16, or the interface is gone.
    pub fn attach(&self, queue: BorrowedFd<'_>) -> Result<(), SteeringError> {
        let mut program = self.program.as_raw_fd();
        // SAFETY: TUNSETSTEERINGEBPF takes a pointer to an int.
        unsafe { sys::ioctl_ref(queue, libc::TUNSETSTEERINGEBPF, &mut program) }
            .map_err(SteeringError::call("TUNSETSTEERINGEBPF"))
    }
}
