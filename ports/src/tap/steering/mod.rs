//! Which queue of a TAP the kernel puts a frame into: lanes for quiet flows and for bulk.
//!
//! A TAP orphans each packet that is queued, so TCP does not notice what waits there, and a window's worth
//! of bulk may stand before a pod's own small requests. So every worker has two queues of a TAP, and a BPF
//! program that the kernel runs over each frame (`TUNSETSTEERINGEBPF`, Linux 4.16; drivers/net/tun.c) puts
//! flows that the worker has found to be bulk into the second. What it goes by is a word for each
//! [slot](ringway_packet::steer::slot), in memory that it shares with the worker.
//!
//! ```text
//!   frame ─ slot ─┬─ slot modulo workers ─┐
//!                 └─ word: bulk? ─────────┴─▶ queue = worker × 2 + lane
//!                          count one more if so
//! ```
//!
//! A slot that is bulk counts the frames that were sent there. When the worker has read as many, none is in
//! the lane, and none can be on its way there unseen: only then may the slot be quiet again, or a frame
//! would pass another of its flow.
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
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use ringway_packet::steer::SLOTS;

use crate::bpf::{self, LoadError};
use crate::sys::{self, Mapping};

/// Queues of a worker.
pub const LANES: usize = 2;
/// Name of program and map in the kernel.
const NAME: &str = "ringway_lanes";
/// Of a slot's word: it is bulk. The rest is how many frames were sent there.
const BULK: u32 = 1 << 31;
const WORDS_LEN: usize = SLOTS * size_of::<u32>();

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
pub struct Slots {
    words: Mapping,
    changes: AtomicU64,
}

// SAFETY: the mapping stays where it is until this is dropped, and is only read and written as atomics.
unsafe impl Sync for Slots {}

impl Slots {
    /// Slots that no program reads, all quiet.
    ///
    /// # Errors
    /// No memory.
    pub fn unshared() -> io::Result<Slots> {
        Mapping::anonymous(WORDS_LEN).map(Slots::of)
    }

    fn of(words: Mapping) -> Slots {
        Slots {
            words,
            changes: AtomicU64::new(0),
        }
    }

    /// How often a slot has changed from one lane to the other.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// The lane that the program chooses for a frame of that slot, which it counts.
    #[inline]
    pub fn choose(&self, slot: u16) -> usize {
        let word = self.word(slot);
        let bulk = word.load(Relaxed) & BULK != 0 && word.fetch_add(1, Relaxed) & BULK != 0;
        usize::from(bulk)
    }

    /// From now on the slot's frames go to the lane for bulk, and are counted there from 0.
    #[inline]
    pub fn set_bulk(&self, slot: u16) {
        self.changes.fetch_add(1, Relaxed);
        self.word(slot).store(BULK, Relaxed);
    }

    /// How many frames of the slot were sent to the lane for bulk; `None` if it is quiet.
    #[inline]
    pub fn count(&self, slot: u16) -> Option<u32> {
        let word = self.word(slot).load(Relaxed);
        (word & BULK != 0).then_some(word & !BULK)
    }

    /// From now on its frames go to the lane for quiet flows, if exactly so many were sent to the other.
    #[inline]
    pub fn set_quiet(&self, slot: u16, count: u32) -> bool {
        let word = self.word(slot);
        let done = word
            .compare_exchange(BULK | count, 0, Relaxed, Relaxed)
            .is_ok();
        self.changes.fetch_add(done.into(), Relaxed);
        done
    }

    /// Takes so many off the count of a slot that is bulk, before it gets too large for its bits.
    #[inline]
    pub fn settle(&self, slot: u16, count: u32) {
        self.word(slot).fetch_sub(count, Relaxed);
    }

    #[inline]
    fn word(&self, slot: u16) -> &AtomicU32 {
        let slot = usize::from(slot) % SLOTS;
        // SAFETY: the mapping has `WORDS_LEN` bytes, aligned to a page, and lives as long as `self`. The
        // program and all of us access it in whole words.
        unsafe { AtomicU32::from_ptr(self.words.as_ptr().cast::<u32>().add(slot)) }
    }
}

/// A program for one TAP.
#[derive(Debug)]
pub struct Steering {
    program: OwnedFd,
}

impl Steering {
    /// Loads a program for a TAP that so many workers read, and the slots that it goes by, all quiet.
    ///
    /// # Errors
    /// The kernel has no such programs or does not permit them.
    pub fn load(workers: usize) -> Result<(Steering, Slots), SteeringError> {
        let map = bpf::map_create_shared(NAME, WORDS_LEN as u32)
            .map_err(SteeringError::call("BPF_MAP_CREATE"))?;
        // A map's memory is mapped in whole pages.
        let page = sys::page_size();
        let words = Mapping::shared(map.as_fd(), WORDS_LEN.next_multiple_of(page), 0)
            .map_err(SteeringError::call("mmap of a BPF map"))?;
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let insns = emit::emit(workers, map.as_raw_fd());
        let program = bpf::load(|log| bpf::prog_load_socket_filter(NAME, &insns, log));
        let program = program.map_err(|error| match error {
            LoadError::Verifier { source, log } => SteeringError::Verifier { source, log },
            LoadError::Call(source) => SteeringError::call("BPF_PROG_LOAD")(source),
        })?;
        Ok((Steering { program }, Slots::of(words)))
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

/// Takes the program from the TAP behind `queue`, whoever attached it; none is no error.
pub fn unsteer(queue: BorrowedFd<'_>) {
    let mut none: i32 = -1;
    // SAFETY: TUNSETSTEERINGEBPF takes a pointer to an int. Where there are no programs there is none.
    let _ = unsafe { sys::ioctl_ref(queue, libc::TUNSETSTEERINGEBPF, &mut none) };
}
