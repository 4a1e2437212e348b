//! The same work with the crate xsk-rs, as its examples do it.
//!
//! Its calls that move frames are `unsafe`: a [`FrameDesc`] is a number that may be copied, and who holds it
//! may read and write the frame, whoever has it. So this is the one file outside `ports` that may be unsafe.
//! What makes it sound is one array of descriptors, `frames`: those before `free` are ours, what stands behind
//! is stale. A frame leaves by the end of the free ones into the fill or transmit ring, and comes back there
//! from the completion ring. A received one is looked at in `received`, and goes from there straight back into
//! the fill ring before the next visit.

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use ringway_ports::FRAME_SIZE;
use ringway_ports::xsk::XskConfig;
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::loops::VISIT;

/// Pause between two attempts at a queue that is being let go of.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How long frames may take to come back from a wire that is up.
const PATIENCE: Duration = Duration::from_secs(1);
/// As of [`Xsk::flush`](ringway_ports::xsk::Xsk::flush): frames of one system call at least, and calls of one
/// flush beyond those that are needed.
const FRAMES_PER_KICK: u32 = 16;
const SPARE_KICKS: u32 = 16;

/// A socket of xsk-rs on a memory of its own.
pub(super) struct XskRs {
    umem: Umem,
    rx: RxQueue,
    fill: FillQueue,
    tx: TxQueue,
    completion: CompQueue,
    /// Frames, of which the first `free` are not in a ring.
    frames: Vec<FrameDesc>,
    free: usize,
    /// Frames in the transmit ring, on the wire or in the completion ring.
    sending: usize,
    /// Room for those of one visit.
    received: Vec<FrameDesc>,
    entries: u32,
    zero_copy: bool,
}

impl XskRs {
    pub(super) const COMPILED: bool = true;

    /// On a queue of interface `name` in the calling thread's namespace, with rings, fill level and patience
    /// of `config`. The mode is the one that a ring of ours has got.
    pub(super) fn open(name: &str, config: &XskConfig, zero_copy: bool) -> anyhow::Result<XskRs> {
        let entries = config.entries;
        let size = QueueSize::new(entries)?;
        let layout = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME_SIZE as u32)?)
            .fill_queue_size(size)
            .comp_queue_size(size)
            .build()?;
        let filled = config.fill.min(entries);
        // As many as the kernel can have.
        let count = (filled + entries).try_into()?;
        let (umem, frames) = Umem::new(layout, count, false).map_err(with_cause)?;
        let mode = match zero_copy {
            true => BindFlags::XDP_ZEROCOPY,
            false => BindFlags::XDP_COPY,
        };
        let socket = SocketConfig::builder()
            .rx_queue_size(size)
            .tx_queue_size(size)
            // The program is ours, for either.
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface: Interface = name.parse()?;
        let started = Instant::now();
        let (tx, rx, rings) = loop {
            // SAFETY: no other socket uses this memory, and no program is to be loaded.
            match unsafe { Socket::new(socket, &umem, &interface, config.queue) } {
                Ok(socket) => break socket,
                Err(error) if is_busy(&error) && started.elapsed() < config.patience => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                Err(error) => return Err(with_cause(error)),
            }
        };
        let (fill, completion) = rings.context("no fill and completion ring")?;
        let mut opened = XskRs {
            umem,
            rx,
            fill,
            tx,
            completion,
            free: frames.len(),
            frames,
            sending: 0,
            received: vec![FrameDesc::default(); VISIT],
            entries,
            zero_copy,
        };
        let kept = opened.free - filled as usize;
        // SAFETY: frames of this memory that no ring has; they stand behind the free ones from here on.
        let given = unsafe { opened.fill.produce(&opened.frames[kept..]) };
        anyhow::ensure!(given == filled as usize, "an empty fill ring took {given}");
        opened.free = kept;
        Ok(opened)
    }

    /// For the XSKMAP.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as the queues that are borrowed with `self`.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// Writes `contents`, in turns, to all free frames: each has what it sends already.
    pub(super) fn write(&mut self, contents: &[Vec<u8>]) -> anyhow::Result<()> {
        for (desc, bytes) in self.frames[..self.free]
            .iter_mut()
            .zip(contents.iter().cycle())
        {
            // SAFETY: a frame of this memory that no ring has, and the only borrow of it.
            let mut data = unsafe { self.umem.data_mut(desc) };
            let mut cursor = data.cursor();
            cursor.set_pos(0);
            cursor.write_all(bytes)?;
        }
        Ok(())
    }

    /// Waits until what was sent is back.
    ///
    /// # Errors
    /// Frames are missing.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.sending > 0 {
            self.kick()?;
            self.reap();
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "xsk-rs: {} frames that were sent are not back",
                self.sending
            );
        }
        Ok(())
    }

    /// Received frames that nobody has taken yet.
    pub(super) fn waiting(&mut self) -> usize {
        self.rx.nb_avail_exact() as usize
    }

    /// Receives at most `budget` frames, looks at eight bytes of each and gives them back; how many, and the
    /// sum of what was read.
    #[inline]
    pub(super) fn receive(&mut self, budget: usize) -> anyhow::Result<(usize, u64)> {
        let room = budget.min(self.received.len());
        // SAFETY: descriptors of this memory come back; what stood there is in the fill ring since the last visit.
        let count = unsafe { self.rx.consume(&mut self.received[..room]) };
        let received = &self.received[..count];
        let mut sum = 0u64;
        for desc in received {
            // SAFETY: a frame of this memory that the receive ring has just given up. Nobody writes to it before
            // it is given back below, when the borrow has ended.
            let data = unsafe { self.umem.data(desc) };
            let bytes = data.contents().get(8..16).unwrap_or(&[]);
            sum = sum.wrapping_add(u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        }
        // SAFETY: the same frames, of which no borrow is left and which are not used from here on.
        let given = unsafe { self.fill.produce(received) };
        anyhow::ensure!(
            given == count,
            "{given} of {count} frames could be given back"
        );
        if self.fill.needs_wakeup() {
            self.fill.wakeup(self.rx.fd_mut(), 0)?;
        }
        Ok((count, sum))
    }

    /// Sends at most `budget` free frames of `len` bytes each, and takes back what was sent; how many it sent.
    #[inline]
    pub(super) fn transmit(&mut self, budget: usize, len: usize) -> anyhow::Result<usize> {
        let room = self.tx.nb_free(budget as u32) as usize;
        let kept = self.free - budget.min(room).min(self.free);
        let batch = &mut self.frames[kept..self.free];
        for desc in batch.iter_mut() {
            // The completion ring forgets it, and there is no other way to say it.
            // SAFETY: a frame of this memory that no ring has, and the only borrow of it.
            let mut data = unsafe { self.umem.data_mut(desc) };
            data.cursor().set_pos(len);
        }
        // SAFETY: the same frames, of which no borrow is left; they stand behind the free ones from here on, unless
        // the ring took none.
        let sent = unsafe { self.tx.produce(batch) };
        self.free -= sent;
        self.sending += sent;
        self.kick()?;
        self.reap();
        Ok(sent)
    }

    /// As ours: calls until the kernel has taken all, or takes nothing.
    #[inline]
    fn kick(&mut self) -> io::Result<()> {
        let mut pending = self.entries - self.tx.nb_free_exact();
        let mut left = pending / FRAMES_PER_KICK + SPARE_KICKS;
        while pending > 0 && self.tx.needs_wakeup() && left > 0 {
            left -= 1;
            self.tx.wakeup()?;
            let before = std::mem::replace(&mut pending, self.entries - self.tx.nb_free_exact());
            // What the call has failed for is not told: the completion ring may be full.
            let stuck = pending > 0 && self.reap() == 0 && pending == before;
            if self.zero_copy || stuck {
                break;
            }
        }
        Ok(())
    }

    /// Takes back frames that have been sent; how many.
    #[inline]
    fn reap(&mut self) -> usize {
        let room = self.free..self.free + self.sending;
        // SAFETY: descriptors of this memory come back; what stood behind the free ones is stale.
        let count = unsafe { self.completion.consume(&mut self.frames[room]) };
        self.free += count;
        self.sending -= count;
        count
    }

    /// Frames the kernel dropped for want of room.
    pub(super) fn overruns(&self) -> u64 {
        self.rx.fd().xdp_statistics().map_or(0, |s| {
            s.rx_dropped() + s.rx_ring_full() + s.rx_fill_ring_empty_descs()
        })
    }

    /// What is known of it, for an error.
    pub(super) fn account(&self) -> String {
        let (total, free, sending) = (self.frames.len(), self.free, self.sending);
        format!(
            "xsk-rs: {free} of {total} frames free, {sending} being sent, {} overruns",
            self.overruns()
        )
    }
}

fn is_busy(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(error.source(), |&cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.raw_os_error() == Some(libc::EBUSY))
}

/// Its errors do not name their cause.
fn with_cause(error: impl Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(error).context("xsk-rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the errors of xsk-rs: the cause is in the source.
    #[derive(Debug)]
    struct Wrapped(io::Error);

    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("not created")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn only_a_queue_that_somebody_has_is_waited_for() {
        let failed = |code| Wrapped(io::Error::from_raw_os_error(code));
        assert!(is_busy(&failed(libc::EBUSY)));
        assert!(!is_busy(&failed(libc::ENODEV)));
        assert!(!is_busy(&io::Error::other("no number")));
    }
}
