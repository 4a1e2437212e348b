//! One queue's rings at work: receive, transmit, give back.

mod bare;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::open::{Got, XskConfig};
use super::ring::{Consumer, Producer};
use crate::pool::{Buf, Pool};
use crate::sys;

pub use bare::Carousel;

/// System calls of one flush, beyond those that the frames queued make necessary.
const SPARE_KICKS: u32 = 16;
/// Frames that one system call sends in copy mode, at least (16 before Linux 5.10, 32 since).
const FRAMES_PER_KICK: u32 = 16;

/// A received frame, and the buffer it lies in.
#[derive(Debug)]
pub struct RxFrame {
    /// The buffer; it goes back to the pool when the frame is done with.
    pub buf: Buf,
    /// Offset of the Ethernet header in it.
    pub off: u32,
    /// Bytes.
    pub len: u32,
}

/// What one ring pair counted.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct XskCounters {
    /// Frames received.
    pub received: u64,
    /// Frames handed to the transmit ring.
    pub sent: u64,
    /// Frames that found the transmit ring full.
    pub full: u64,
    /// System calls to wake the kernel.
    pub kicks: u64,
    /// Those that failed for another reason than "again".
    pub failed_kicks: u64,
    /// Times frames were missing to top up the fill ring.
    pub starved: u64,
    /// Descriptors for frames that the ring did not have: a bug, here or in the kernel.
    pub stray: u64,
}

/// What the kernel counted for a socket (`XDP_STATISTICS`, linux/if_xdp.h).
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct XskStatistics {
    /// Dropped for other reasons than a full ring, such as a frame longer than a chunk.
    pub rx_dropped: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty.
    pub fill_ring_empty: u64,
    /// Transmit descriptors the kernel refused.
    pub tx_invalid: u64,
}

/// The rings of one queue.
#[derive(Debug)]
pub struct Xsk {
    fd: Arc<OwnedFd>,
    queue: u32,
    ring: u8,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    rx: Consumer<libc::xdp_desc>,
    tx: Producer<libc::xdp_desc>,
    /// Frames the kernel has to receive into, and how many it is to have.
    filled: u32,
    fill_target: u32,
    /// Frames in the transmit ring, on the wire or in the completion ring.
    sending: u32,
    /// Of those, not published yet.
    unpublished: u32,
    /// The last system call to send failed for good: the link is down, or the device gone.
    stalled: bool,
    counters: XskCounters,
    pub(super) got: Got,
}

impl Xsk {
    pub(super) fn new(
        fd: Arc<OwnedFd>,
        config: &XskConfig,
        fill: Producer<u64>,
        completion: Consumer<u64>,
        rx: Consumer<libc::xdp_desc>,
        tx: Producer<libc::xdp_desc>,
    ) -> Xsk {
        Xsk {
            fd,
            queue: config.queue,
            ring: config.ring,
            fill,
            completion,
            rx,
            tx,
            filled: 0,
            fill_target: config.fill.min(config.entries),
            sending: 0,
            unpublished: 0,
            stalled: false,
            counters: XskCounters::default(),
            got: Got::default(),
        }
    }

    /// Receives at most `budget` frames and appends them to `out`; then tops the fill ring up. Returns
    /// the number added; fewer than `budget` means that nothing more waits.
    pub fn receive(&mut self, pool: &mut Pool, out: &mut Vec<RxFrame>, budget: usize) -> usize {
        let mut added = 0;
        while added < budget {
            let Some(descriptor) = self.rx.pop() else {
                break;
            };
            let Some((buf, off)) = pool.reclaim(descriptor.addr, self.ring) else {
                self.counters.stray += 1;
                continue;
            };
            self.filled = self.filled.saturating_sub(1);
            out.push(RxFrame {
                buf,
                off,
                len: descriptor.len,
            });
            added += 1;
        }
        if added > 0 {
            self.rx.publish();
            self.counters.received += added as u64;
        }
        self.refill(pool);
        added
    }

    /// Gives the kernel frames to receive into, as many as it is to have.
    #[inline]
    pub fn refill(&mut self, pool: &mut Pool) {
        let before = self.filled;
        while self.filled < self.fill_target && self.fill.has_room() {
            let Some(frame) = pool.alloc_frame() else {
                self.counters.starved += 1;
                break;
            };
            self.fill.push(pool.lend(frame, self.ring));
            self.filled += 1;
        }
        if self.filled != before {
            self.fill.publish();
        }
        if self.fill.wants_waking() {
            self.counters.kicks += 1;
            let _ = sys::wake_receive(self.fd.as_fd());
        }
    }

    /// Polls the device, if it is polled by us.
    pub fn poll(&mut self) {
        if self.got.busy_poll {
            self.counters.kicks += 1;
            let _ = sys::wake_receive(self.fd.as_fd());
        }
    }

    /// Wakes the driver for both directions, whether it asks for it or not.
    pub fn nudge(&mut self) {
        self.counters.kicks += 2;
        let _ = sys::wake_transmit(self.fd.as_fd());
        let _ = sys::wake_receive(self.fd.as_fd());
    }

    /// Queues the `len` bytes from `off` of `buf` as one frame, until the next [`flush`](Self::flush).
    /// They must lie in one chunk ([`Pool::in_one_chunk`]). A full ring is flushed first.
    ///
    /// # Errors
    /// The ring is still full; the buffer comes back.
    #[inline]
    pub fn transmit(&mut self, pool: &mut Pool, buf: Buf, off: u32, len: u32) -> Result<(), Buf> {
        debug_assert!(pool.in_one_chunk(buf.id(), off, len));
        if !self.tx.has_room() {
            self.flush(pool);
            if !self.tx.has_room() {
                self.counters.full += 1;
                return Err(buf);
            }
        }
        let addr = pool.lend(buf, self.ring) + u64::from(off);
        self.tx.push(libc::xdp_desc {
            addr,
            len,
            options: 0,
        });
        self.sending += 1;
        self.unpublished += 1;
        Ok(())
    }

    /// Sends what is queued and takes back what was sent.
    #[inline]
    pub fn flush(&mut self, pool: &mut Pool) {
        if self.unpublished > 0 {
            self.tx.publish();
            self.counters.sent += u64::from(self.unpublished);
            self.unpublished = 0;
            self.kick(pool);
        } else if self.stalled || self.tx.pending() > 0 {
            self.kick(pool);
        }
        if self.sending > 0 {
            self.reap(pool);
        }
    }

    fn kick(&mut self, pool: &mut Pool) {
        let mut pending = self.tx.pending();
        let mut left = pending / FRAMES_PER_KICK + SPARE_KICKS;
        while self.tx.wants_waking() && left > 0 {
            left -= 1;
            self.counters.kicks += 1;
            let mut moved = false;
            if let Err(error) = sys::wake_transmit(self.fd.as_fd()) {
                match error.raw_os_error() {
                    // There is more, or the device or the completion ring has no room just now.
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => {
                        moved = self.reap(pool) > 0;
                    }
                    _ => {
                        self.counters.failed_kicks += 1;
                        self.stalled = true;
                        return;
                    }
                }
            } else {
                self.stalled = false;
            }
            // A driver that sends from the ring by itself does so when it is scheduled.
            let before = std::mem::replace(&mut pending, self.tx.pending());
            if self.got.zero_copy || pending == 0 {
                return;
            }
            // The wire takes nothing: that is for a later flush.
            if pending == before && !moved {
                return;
            }
        }
    }

    /// Takes back frames that have been sent; returns how many.
    pub fn reap(&mut self, pool: &mut Pool) -> usize {
        let mut count = 0;
        while let Some(at) = self.completion.pop() {
            match pool.reclaim(at, self.ring) {
                Some((buf, _)) => pool.free(buf),
                None => self.counters.stray += 1,
            }
            count += 1;
        }
        if count > 0 {
            self.completion.publish();
            self.sending = self.sending.saturating_sub(count as u32);
        }
        count
    }

    /// Published frames that the kernel has not taken from the transmit ring.
    pub fn backlog(&self) -> u32 {
        self.tx.pending()
    }

    /// Whether the kernel refuses to send: the link is down, or the device gone.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether a frame has been received.
    #[inline]
    pub fn has_received(&self) -> bool {
        self.rx.is_filled()
    }

    /// Frames handed to the kernel to send that have not come back.
    pub fn sending(&self) -> u32 {
        self.sending
    }

    /// Frames the kernel has to receive into.
    pub fn filled(&self) -> u32 {
        self.filled
    }

    /// The descriptor, for polling and for the XSKMAP.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// The receive queue of the interface.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// What was got when it was opened.
    pub fn got(&self) -> &Got {
        &self.got
    }

    /// What was counted here.
    pub fn counters(&self) -> XskCounters {
        self.counters
    }

    /// What the kernel counted.
    ///
    /// # Errors
    /// getsockopt(2) fails: the socket is not what it was.
    pub fn statistics(&self) -> io::Result<XskStatistics> {
        // SAFETY: the structure is that of the option, and made of numbers.
        let s: libc::xdp_statistics = unsafe {
            sys::get_option_struct(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS)?
        };
        Ok(XskStatistics {
            rx_dropped: s.rx_dropped,
            rx_ring_full: s.rx_ring_full,
            fill_ring_empty: s.rx_fill_ring_empty_descs,
            tx_invalid: s.tx_invalid_descs,
        })
    }

    /// Closes the socket. What the rings had stays out of the pool until [`Closed::reclaim`]: the kernel
    /// lets go of a queue some milliseconds later, and may write to its frames until then.
    pub fn close(self) -> Closed {
        Closed { ring: self.ring }
    }

    /// As `close` and reclaim at once, for a socket that was never bound.
    pub(super) fn abandon(self, pool: &mut Pool) {
        pool.reclaim_all(self.ring);
    }
}

/// What is left of a closed ring: the frames it had.
#[derive(Debug)]
#[must_use = "the frames of a closed ring are to be reclaimed"]
pub struct Closed {
    ring: u8,
}

impl Closed {
    /// Takes the ring's frames back; how many. To be called when the kernel has let go: a second after
    /// the close, or when the same queue has been bound again.
    pub fn reclaim(self, pool: &mut Pool) -> usize {
        pool.reclaim_all(self.ring)
    }
}
