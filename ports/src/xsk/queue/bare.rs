//! The rings with nothing around them: the most that a queue can do, to measure against.
//!
//! This is what a loop in C does. Addresses go round from ring to ring; no pool hands frames out and nobody
//! is asked who has which. Not for packets: a frame is looked at and given back before anything can be
//! done with it.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::{FRAMES_PER_KICK, SPARE_KICKS, Xsk};
use crate::pool::Pool;
use crate::sys;

/// Frames of one length, written once, that go round between transmit and completion ring.
#[derive(Debug)]
pub struct Carousel {
    waiting: VecDeque<u64>,
    out: u32,
    len: u32,
}

impl Xsk {
    /// Received frames that nobody has taken yet.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.rx.filled()
    }

    /// Takes at most `budget` frames, reads eight bytes of each one's Ethernet header and gives it straight
    /// back. Returns how many, and the sum of what was read, for which it had to be read.
    pub fn bare_receive(&mut self, pool: &Pool, budget: usize) -> (usize, u64) {
        let (base, len) = pool.region();
        let (mut count, mut sum) = (0, 0u64);
        while count < budget && self.fill.has_room() {
            let Some(descriptor) = self.rx.pop() else {
                break;
            };
            let at = descriptor.addr as usize;
            assert!(at + 16 <= len, "frame at {at} of a UMEM of {len} bytes");
            // SAFETY: within the mapping, just checked. The frame is ours from the pop to the push below,
            // and nobody else borrows it: for the pool it is in a ring all the time. That is why the
            // pool's safe accessors do not serve.
            sum = sum.wrapping_add(unsafe { base.add(at + 8).cast::<u64>().read_unaligned() });
            self.fill.push(descriptor.addr);
            count += 1;
        }
        if count > 0 {
            self.rx.publish();
            self.fill.publish();
            self.counters.received += count as u64;
        }
        if self.fill.wants_waking() {
            self.counters.kicks += 1;
            let _ = sys::wake_receive(self.fd.as_fd());
        }
        (count, sum)
    }

    /// A carousel of all of `contents`, which are equally long, as far as there are frames.
    pub fn carousel(&mut self, pool: &mut Pool, contents: &[Vec<u8>]) -> Carousel {
        let len = contents.first().map_or(0, Vec::len);
        let mut waiting = VecDeque::with_capacity(contents.len());
        for bytes in contents {
            let Some(buf) = pool.alloc_frame() else {
                break;
            };
            pool.bytes_mut(buf.id())[..len].copy_from_slice(bytes);
            waiting.push_back(pool.lend(buf, self.ring));
        }
        Carousel {
            waiting,
            out: 0,
            len: len as u32,
        }
    }

    /// Takes back what was sent and sends at most `budget` frames; returns how many.
    pub fn bare_transmit(&mut self, carousel: &mut Carousel, budget: usize) -> usize {
        self.bare_reap(carousel);
        let mut count = 0;
        while count < budget && self.tx.has_room() {
            let Some(addr) = carousel.waiting.pop_front() else {
                break;
            };
            let len = carousel.len;
            self.tx.push(libc::xdp_desc {
                addr,
                len,
                options: 0,
            });
            count += 1;
        }
        carousel.out += count as u32;
        self.tx.publish();
        self.counters.sent += count as u64;
        let mut left = self.tx.pending() / FRAMES_PER_KICK + SPARE_KICKS;
        while self.tx.wants_waking() && left > 0 {
            left -= 1;
            self.counters.kicks += 1;
            if sys::wake_transmit(self.fd.as_fd()).is_err() {
                self.bare_reap(carousel);
            }
            if self.got.zero_copy || self.tx.pending() == 0 {
                break;
            }
        }
        count
    }

    fn bare_reap(&mut self, carousel: &mut Carousel) {
        let mut any = false;
        while let Some(addr) = self.completion.pop() {
            carousel.waiting.push_back(addr);
            carousel.out = carousel.out.saturating_sub(1);
            any = true;
        }
        if any {
            self.completion.publish();
        }
    }

    /// Gives the frames back to the pool; those still under way come back as any other.
    pub fn end_carousel(&mut self, pool: &mut Pool, mut carousel: Carousel) {
        self.bare_reap(&mut carousel);
        for addr in carousel.waiting {
            if let Some((buf, _)) = pool.reclaim(addr, self.ring) {
                pool.free(buf);
            }
        }
        self.sending += carousel.out;
    }
}
