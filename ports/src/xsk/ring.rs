//! The four rings of an AF_XDP socket: single producer, single consumer, memory shared with the kernel.
//!
//! Each ring has a producer and a consumer index that only ever grow, an array of descriptors indexed by
//! their low bits, and a flags word in which the kernel asks to be woken. Our side keeps copies: of its own
//! index, which the kernel sees only at [`publish`](Producer::publish), and of the other side's, which is
//! read again only when the ring seems full or empty. So a descriptor costs no shared cache line
//! (Documentation/networking/af_xdp.rst; net/xdp/xsk_queue.h has the kernel's half).

use std::io;
use std::mem::size_of;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::Mapping;

/// A mapped ring and where its parts are.
#[derive(Debug)]
struct Shared<T> {
    /// Keeps the memory; everything below points into it.
    _map: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    descriptors: NonNull<T>,
    mask: u32,
}

// SAFETY: the pointers lead into the mapping that moves along; a ring end is used by one thread at a time
// because its methods take `&mut self` wherever they touch descriptors.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn map(
        fd: BorrowedFd<'_>,
        page_offset: i64,
        offsets: &libc::xdp_ring_offset,
        entries: u32,
    ) -> io::Result<Shared<T>> {
        assert!(entries.is_power_of_two(), "ring of {entries} entries");
        let len = offsets.desc as usize + entries as usize * size_of::<T>();
        let map = Mapping::shared(fd, len, page_offset)?;
        let at = |offset: u64, size: usize| {
            let offset = offset as usize;
            // The kernel said so itself; a kernel that lies about its rings is not to be believed further.
            if !offset.is_multiple_of(size) || offset + size > len {
                return Err(io::Error::other(format!(
                    "ring part at {offset} of {len} bytes"
                )));
            }
            // SAFETY: the offset is within the mapping, just checked.
            NonNull::new(unsafe { map.as_ptr().add(offset) })
                .ok_or(io::ErrorKind::InvalidData.into())
        };
        Ok(Shared {
            producer: at(offsets.producer, 4)?.cast(),
            consumer: at(offsets.consumer, 4)?.cast(),
            flags: at(offsets.flags, 4)?.cast(),
            descriptors: at(offsets.desc, 8)?.cast(),
            mask: entries - 1,
            _map: map,
        })
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: points into the mapping, aligned; the kernel, too, accesses it only atomically.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn wants_waking(&self) -> bool {
        // SAFETY: as above.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    #[inline]
    fn slot(&self, index: u32) -> *mut T {
        // SAFETY: the masked index is below the number of entries, which the mapping has room for.
        unsafe { self.descriptors.as_ptr().add((index & self.mask) as usize) }
    }
}

/// Our end of a ring that the kernel consumes: fill, transmit.
#[derive(Debug)]
pub(super) struct Producer<T> {
    shared: Shared<T>,
    next: u32,
    /// First index that is not free, as far as known.
    limit: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        page_offset: i64,
        offsets: &libc::xdp_ring_offset,
        entries: u32,
    ) -> io::Result<Producer<T>> {
        let shared = Shared::map(fd, page_offset, offsets, entries)?;
        let next = shared.producer().load(Ordering::Relaxed);
        let limit = shared
            .consumer()
            .load(Ordering::Acquire)
            .wrapping_add(entries);
        Ok(Producer {
            shared,
            next,
            limit,
        })
    }

    /// Whether another descriptor fits.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        if self.next == self.limit {
            let consumed = self.shared.consumer().load(Ordering::Acquire);
            self.limit = consumed.wrapping_add(self.shared.mask + 1);
        }
        self.next != self.limit
    }

    /// Writes a descriptor; the caller has asked [`has_room`](Self::has_room). The kernel sees it after
    /// the next publish.
    #[inline]
    pub(super) fn push(&mut self, descriptor: T) {
        debug_assert!(self.next != self.limit, "ring is full");
        // SAFETY: between the consumer's index and our unpublished one the kernel does not look.
        unsafe { self.shared.slot(self.next).write(descriptor) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel all that was pushed.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Descriptors published that the kernel has not taken yet.
    #[inline]
    pub(super) fn pending(&self) -> u32 {
        let consumed = self.shared.consumer().load(Ordering::Acquire);
        self.shared
            .producer()
            .load(Ordering::Relaxed)
            .wrapping_sub(consumed)
    }

    #[inline]
    pub(super) fn wants_waking(&self) -> bool {
        self.shared.wants_waking()
    }
}

/// Our end of a ring that the kernel fills: receive, completion.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    next: u32,
    /// First index that is not filled, as far as known.
    limit: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        page_offset: i64,
        offsets: &libc::xdp_ring_offset,
        entries: u32,
    ) -> io::Result<Consumer<T>> {
        let shared = Shared::map(fd, page_offset, offsets, entries)?;
        let next = shared.consumer().load(Ordering::Relaxed);
        Ok(Consumer {
            shared,
            next,
            limit: next,
        })
    }

    /// The next descriptor; its place is the kernel's again after the next publish.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.next == self.limit {
            self.limit = self.shared.producer().load(Ordering::Acquire);
            if self.next == self.limit {
                return None;
            }
        }
        // SAFETY: below the producer's index, read with Acquire, the kernel has written and does not
        // write again before we publish.
        let descriptor = unsafe { self.shared.slot(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(descriptor)
    }

    /// Whether there is a descriptor to pop.
    #[inline]
    pub(super) fn is_filled(&self) -> bool {
        self.shared.producer().load(Ordering::Relaxed) != self.next
    }

    /// Descriptors to pop.
    #[inline]
    pub(super) fn filled(&self) -> u32 {
        let produced = self.shared.producer().load(Ordering::Relaxed);
        produced.wrapping_sub(self.next)
    }

    /// Gives the places of all that was popped back to the kernel.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.shared.consumer().store(self.next, Ordering::Release);
    }
}
