//! The buffer pool: one allocation cut into equal buffers, handed out by index.
//!
//! - The free list is a stack: the buffer freed last is handed out first, while its lines are still in
//!   the cache. A worker that holds few buffers at a time touches few pages, whatever the pool's size.
//! - The stride between buffers is an odd number of cache lines. Were it a power of two, the headers of
//!   all buffers would compete for the same cache set and evict each other.
//! - A buffer is named by a [`BufId`], not borrowed: the batch that received it owns it, and any number
//!   of messages may gather from it before the batch is recycled. Freeing twice is refused.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

/// Bytes before the Ethernet header of every received frame: room for outer headers and the vnet header.
pub const HEADROOM: usize = 192;

/// Buffer size that holds any frame a port can bring: headroom, a 64 KB superframe with its Ethernet
/// header and VLAN tags, or the largest UDP datagram, and a byte more so that truncation shows.
pub const BUF_SIZE: usize = HEADROOM + 65_536 + 64;

const CACHE_LINE: usize = 64;
const PAGE: usize = 4096;

/// Names one buffer of a [`Pool`].
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct BufId(u32);

impl BufId {
    /// The index of the buffer in its pool.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A fixed set of equal buffers in one allocation. Belongs to one worker; not shared.
pub struct Pool {
    memory: NonNull<u8>,
    layout: Layout,
    stride: usize,
    buf_size: usize,
    free: Vec<u32>,
    /// Whether the buffer is handed out; catches a double free.
    held: Vec<bool>,
    refused_frees: u64,
}

// SAFETY: the pool owns its allocation alone and hands out references only through `&self` and
// `&mut self`, so it may move to another thread like a `Vec<u8>`. The raw pointer is what keeps the
// compiler from seeing that.
unsafe impl Send for Pool {}

impl Pool {
    /// A pool of `count` buffers of at least `buf_size` bytes on the heap, zeroed (pages are touched
    /// only when used).
    ///
    /// # Panics
    /// If `count` or `buf_size` is 0, or their product exceeds the address space: both come from
    /// start-up configuration, not from packets.
    pub fn heap(count: usize, buf_size: usize) -> Pool {
        assert!(
            count > 0 && buf_size > 0 && u32::try_from(count).is_ok(),
            "pool of {count} buffers of {buf_size} bytes"
        );
        let lines = buf_size.div_ceil(CACHE_LINE) | 1;
        let stride = lines * CACHE_LINE;
        let size = stride
            .checked_mul(count)
            .expect("pool size fits the address space");
        let layout = Layout::from_size_align(size, PAGE).expect("pool size fits the address space");
        // SAFETY: the layout's size is not zero, checked above. `Vec<u8>` would not align to a page.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        Pool {
            memory,
            layout,
            stride,
            buf_size: stride.min(buf_size.next_multiple_of(CACHE_LINE)),
            free: (0..count as u32).rev().collect(),
            held: vec![false; count],
            refused_frees: 0,
        }
    }

    /// Takes the buffer freed last, or `None` when all are out. Its bytes are whatever was there.
    #[inline]
    pub fn alloc(&mut self) -> Option<BufId> {
        let id = self.free.pop()?;
        self.held[id as usize] = true;
        Some(BufId(id))
    }

    /// Gives a buffer back. A buffer that is not out is refused, counted in
    /// [`refused_frees`](Self::refused_frees), and a bug: a debug build stops there.
    #[inline]
    pub fn free(&mut self, id: BufId) {
        match self.held.get_mut(id.index()) {
            Some(held) if *held => {
                *held = false;
                self.free.push(id.0);
            }
            _ => {
                self.refused_frees += 1;
                debug_assert!(false, "buffer {} freed though it is not out", id.0);
            }
        }
    }

    /// The whole buffer.
    ///
    /// # Panics
    /// If `id` is of a larger pool.
    #[inline]
    pub fn bytes(&self, id: BufId) -> &[u8] {
        assert!(id.index() < self.held.len());
        // SAFETY: the index is below the buffer count, so the range lies in the allocation, which was
        // zeroed and hence is initialised; `&self` keeps `bytes_mut` away for the borrow.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.as_ptr().add(id.index() * self.stride),
                self.buf_size,
            )
        }
    }

    /// The whole buffer, writable.
    ///
    /// # Panics
    /// If `id` is of a larger pool.
    #[inline]
    pub fn bytes_mut(&mut self, id: BufId) -> &mut [u8] {
        assert!(id.index() < self.held.len());
        // SAFETY: as in `bytes`; `&mut self` makes the borrow the only one.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.as_ptr().add(id.index() * self.stride),
                self.buf_size,
            )
        }
    }

    /// `len` bytes from `off`, or `None` if they are not all in the buffer or there is no such buffer.
    #[inline]
    pub fn slice(&self, id: BufId, off: u32, len: u32) -> Option<&[u8]> {
        if id.index() >= self.held.len() {
            return None;
        }
        self.bytes(id).get(off as usize..)?.get(..len as usize)
    }

    /// Copies `len` bytes between two buffers (or within one); `false`, and nothing done, if either
    /// range is not in its buffer.
    pub fn copy(
        &mut self,
        from: BufId,
        from_off: usize,
        to: BufId,
        to_off: usize,
        len: usize,
    ) -> bool {
        let fits = |off: usize| off.checked_add(len).is_some_and(|end| end <= self.buf_size);
        let count = self.held.len();
        if from.index() >= count || to.index() >= count || !fits(from_off) || !fits(to_off) {
            return false;
        }
        let base = self.memory.as_ptr();
        // SAFETY: both ranges were checked to lie in the allocation, `&mut self` excludes any other
        // borrow, and `copy` permits overlap. Safe code cannot borrow two buffers of one pool at once.
        unsafe {
            std::ptr::copy(
                base.add(from.index() * self.stride + from_off),
                base.add(to.index() * self.stride + to_off),
                len,
            );
        }
        true
    }

    /// Bytes in each buffer.
    pub fn buf_size(&self) -> usize {
        self.buf_size
    }

    /// Bytes from one buffer to the next: an odd number of 64-byte lines.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Buffers that can be taken now.
    #[inline]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Buffers in the pool.
    pub fn total(&self) -> usize {
        self.held.len()
    }

    /// Frees refused because the buffer was not out. Anything but 0 is a bug.
    pub fn refused_frees(&self) -> u64 {
        self.refused_frees
    }

    /// Start of a buffer, for system calls that fill several buffers at once.
    pub(crate) fn address(&mut self, id: BufId) -> *mut u8 {
        assert!(id.index() < self.held.len());
        // SAFETY: the index is below the buffer count, so the result lies in the allocation.
        unsafe { self.memory.as_ptr().add(id.index() * self.stride) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated in `heap` with this very layout, and freed only here.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("total", &self.total())
            .field("available", &self.available())
            .field("buf_size", &self.buf_size)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_the_hot_buffer_first() {
        let mut pool = Pool::heap(4, 2048);
        let a = pool.alloc().unwrap();
        let b = pool.alloc().unwrap();
        pool.free(a);
        assert_eq!(pool.alloc(), Some(a));
        pool.free(b);
        pool.free(a);
        assert_eq!(pool.alloc(), Some(a));
        assert_eq!((pool.available(), pool.total()), (3, 4));
    }

    #[test]
    fn is_bounded() {
        let mut pool = Pool::heap(2, 64);
        assert!(pool.alloc().is_some() && pool.alloc().is_some());
        assert_eq!(pool.alloc(), None);
    }

    #[test]
    fn strides_do_not_alias() {
        for size in [64, 128, 2048, 4096, 65_536, BUF_SIZE] {
            let mut pool = Pool::heap(64, size);
            assert_eq!((pool.stride() / CACHE_LINE) % 2, 1, "size {size}");
            // 64 buffers start in 64 different sets of a 64-set cache.
            let mut sets = std::collections::HashSet::new();
            while let Some(id) = pool.alloc() {
                sets.insert(pool.address(id) as usize / CACHE_LINE % 64);
            }
            assert_eq!(sets.len(), 64, "size {size}");
        }
    }

    #[test]
    fn buffers_are_disjoint() {
        let mut pool = Pool::heap(3, 100);
        let ids: Vec<_> = (0..3).map(|_| pool.alloc().unwrap()).collect();
        for (i, id) in ids.iter().enumerate() {
            pool.bytes_mut(*id).fill(i as u8 + 1);
        }
        for (i, id) in ids.iter().enumerate() {
            assert!(pool.bytes(*id).len() >= 100);
            assert!(pool.bytes(*id).iter().all(|b| *b == i as u8 + 1));
        }
    }

    #[test]
    fn copies_within_bounds_only() {
        let mut pool = Pool::heap(2, 128);
        let (a, b) = (pool.alloc().unwrap(), pool.alloc().unwrap());
        pool.bytes_mut(a)[..4].copy_from_slice(b"abcd");
        assert!(pool.copy(a, 0, b, 124, 4));
        assert_eq!(&pool.bytes(b)[124..], b"abcd");
        assert!(!pool.copy(a, 0, b, 125, 4));
        assert!(!pool.copy(a, usize::MAX, b, 0, 4));
        assert!(!pool.copy(a, 0, BufId(2), 0, 4));
        assert!(pool.slice(a, 124, 4).is_some());
        assert!(pool.slice(a, 125, 4).is_none());
        assert!(pool.slice(a, u32::MAX, u32::MAX).is_none());
        assert!(pool.slice(BufId(9), 0, 1).is_none());
    }

    #[test]
    #[cfg_attr(
        debug_assertions,
        should_panic(expected = "freed though it is not out")
    )]
    fn double_free_is_caught() {
        let mut pool = Pool::heap(2, 64);
        let a = pool.alloc().unwrap();
        pool.free(a);
        pool.free(a);
        assert_eq!((pool.refused_frees(), pool.available()), (1, 2));
    }
}
