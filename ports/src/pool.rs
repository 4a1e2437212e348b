//! The buffer pool: one mapping cut into buffers, handed out by ownership, named by index.
//!
//! ```text
//!   heap   [64 KB][64 KB] ...                     buffers only
//!   umem   [64 KB][64 KB] ... [4 KB][4 KB] ...    buffers, then the frames an AF_XDP ring fills
//! ```
//!
//! - The free lists are stacks: the buffer freed last is handed out first, while its lines are still in
//!   the cache. A worker that holds few buffers at a time touches few pages, whatever the pool's size.
//! - Buffers do not begin at equal offsets of a page. Did they, the headers of all would compete for the
//!   same cache set and evict each other. On the heap the stride is an odd number of cache lines; in a
//!   UMEM, where it must be whole pages, each buffer begins some lines into its own.
//! - A [`Buf`] owns a buffer: it can be neither copied nor made up, and is in one place only: free (inside
//!   the pool), with a worker, or in a ring of the kernel, which takes it by value. A [`BufId`] only names
//!   one. The bytes behind a name can be had only while a worker holds the buffer, so those of a frame
//!   that is in a ring cannot be touched, whatever names of it are still about.
//! - A UMEM frame is one chunk, and a whole packet in one chunk can be sent from where it lies. So can
//!   one that a TAP read into the first page of a buffer.

use std::fmt;

use ringway_packet::buffers::Buffers;

use crate::frame::{Frame, Slice};
use crate::sys::Mapping;

/// Bytes before the Ethernet header of every received frame: room for outer headers and the vnet header.
pub const HEADROOM: usize = 192;

/// Buffer size that holds any frame a port can bring: headroom, a 64 KB superframe with its Ethernet
/// header and VLAN tags, or the largest UDP datagram, and a byte more so that truncation shows.
pub const BUF_SIZE: usize = HEADROOM + 65_536 + 64;

/// Bytes of a UMEM frame: one page, the largest chunk the kernel takes (`xdp_umem_reg`, net/xdp/xdp_umem.c).
pub const FRAME_SIZE: usize = PAGE;

const CACHE_LINE: usize = 64;
const PAGE: usize = 4096;
/// Bytes from one buffer to the next in a UMEM: whole pages, with room to begin up to 31 lines later.
const UMEM_STRIDE: usize = (BUF_SIZE + 31 * CACHE_LINE).next_multiple_of(PAGE);

/// Who has a buffer: nobody, a worker, or ring `n - RING`.
const FREE: u8 = 0;
const HELD: u8 = 1;
const RING: u8 = 2;

/// Names one buffer of a [`Pool`].
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct BufId(u32);

impl BufId {
    /// The index of the buffer in its pool.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Ownership of one buffer. Comes from [`Pool::alloc`] or out of a ring; ends in [`Pool::free`] or in a
/// ring. One that is dropped instead is lost to the pool ([`Census::held`] shows it).
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a buffer that is dropped is lost to its pool"]
pub struct Buf(BufId);

impl Buf {
    /// Its name.
    #[inline]
    pub fn id(&self) -> BufId {
        self.0
    }
}

/// Where a pool's buffers are. The sum of the last three is the first, always.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Census {
    /// Buffers and frames in the pool.
    pub total: usize,
    /// In the pool, to be handed out.
    pub free: usize,
    /// With a worker: in flight between a receive and a transmit.
    pub held: usize,
    /// In rings of the kernel.
    pub in_rings: usize,
}

/// A fixed set of buffers, and of frames if it is a UMEM, in one mapping. Belongs to one worker.
pub struct Pool {
    memory: Mapping,
    stride: usize,
    /// Buffer `i` begins `i & colours` lines into its stride.
    colours: u32,
    buf_size: usize,
    /// Buffers before the first frame.
    buffers: u32,
    /// It is cut into pages, as a UMEM is.
    in_chunks: bool,
    free: Vec<u32>,
    free_frames: Vec<u32>,
    state: Vec<u8>,
    held: usize,
    in_rings: usize,
    refused_frees: u64,
}

impl Pool {
    /// A pool of `count` buffers of at least `buf_size` bytes on the heap, zeroed (pages are touched
    /// only when used).
    ///
    /// # Panics
    /// If `count` or `buf_size` is 0, or there is no such memory: both come from start-up configuration,
    /// not from packets.
    pub fn heap(count: usize, buf_size: usize) -> Pool {
        assert!(
            count > 0 && buf_size > 0,
            "pool of {count} buffers of {buf_size} bytes"
        );
        let stride = (buf_size.div_ceil(CACHE_LINE) | 1) * CACHE_LINE;
        let size = stride.min(buf_size.next_multiple_of(CACHE_LINE));
        Self::make(count, 0, stride, size, 0)
    }

    /// A pool that rings can use: `count` buffers of [`BUF_SIZE`] and `frames` frames of
    /// [`FRAME_SIZE`], on pages of their own. `largest` is the longest packet in bytes, from its
    /// innermost Ethernet header on, that is to be sent from the buffer a TAP read it into.
    ///
    /// # Panics
    /// If `count` is 0, or there is no such memory.
    pub fn umem(count: usize, frames: usize, largest: usize) -> Pool {
        assert!(count > 0, "UMEM without buffers");
        let spare = FRAME_SIZE.saturating_sub(HEADROOM + largest) / CACHE_LINE;
        let lines = (spare + 1).min((UMEM_STRIDE - BUF_SIZE) / CACHE_LINE + 1);
        let colours = (1 << lines.ilog2()) - 1;
        Self::make(count, frames, UMEM_STRIDE, BUF_SIZE, colours)
    }

    fn make(count: usize, frames: usize, stride: usize, buf_size: usize, colours: u32) -> Pool {
        assert!(
            u32::try_from(count + frames).is_ok(),
            "pool of {count} buffers and {frames} frames"
        );
        let size = stride
            .checked_mul(count)
            .and_then(|size| size.checked_add(frames.checked_mul(FRAME_SIZE)?))
            .expect("pool size fits the address space");
        // Not from the heap: an aligned allocation there is zeroed by hand, which touches every page.
        let memory = Mapping::anonymous(size)
            .unwrap_or_else(|error| panic!("{size} bytes of packet buffers: {error}"));
        let (buffers, all) = (count as u32, (count + frames) as u32);
        Pool {
            memory,
            stride,
            colours,
            buf_size,
            buffers,
            in_chunks: stride.is_multiple_of(PAGE),
            free: (0..buffers).rev().collect(),
            free_frames: (buffers..all).rev().collect(),
            state: vec![FREE; count + frames],
            held: 0,
            in_rings: 0,
            refused_frees: 0,
        }
    }

    /// Takes the buffer freed last, or `None` when all are out. Its bytes are whatever was there.
    #[inline]
    pub fn alloc(&mut self) -> Option<Buf> {
        let id = self.free.pop()?;
        self.take(id)
    }

    /// Takes the UMEM frame freed last, or `None` when all are out or there are none.
    #[inline]
    pub fn alloc_frame(&mut self) -> Option<Buf> {
        let id = self.free_frames.pop()?;
        self.take(id)
    }

    #[inline]
    fn take(&mut self, id: u32) -> Option<Buf> {
        self.state[id as usize] = HELD;
        self.held += 1;
        Some(Buf(BufId(id)))
    }

    /// Gives a buffer back. One of another pool is refused, counted in
    /// [`refused_frees`](Self::refused_frees), and a bug: a debug build stops there.
    #[inline]
    pub fn free(&mut self, buf: Buf) {
        let id = buf.0.0;
        match self.state.get_mut(id as usize) {
            Some(state) if *state == HELD => {
                *state = FREE;
                self.held -= 1;
                if id < self.buffers {
                    self.free.push(id);
                } else {
                    self.free_frames.push(id);
                }
            }
            _ => {
                self.refused_frees += 1;
                debug_assert!(false, "buffer {id} freed though it is not out");
            }
        }
    }

    /// Hands a buffer to ring `ring`; gives the offset of its first byte in the UMEM. Until it comes
    /// back its bytes are the kernel's.
    #[inline]
    pub(crate) fn lend(&mut self, buf: Buf, ring: u8) -> u64 {
        let id = buf.0;
        let offset = self.offset(id);
        if let Some(state) = self.state.get_mut(id.index())
            && *state == HELD
        {
            *state = RING + ring;
            self.held -= 1;
            self.in_rings += 1;
        } else {
            self.refused_frees += 1;
            debug_assert!(false, "buffer {} lent though it is not out", id.0);
        }
        offset as u64
    }

    /// Takes back from `ring` the buffer that the UMEM offset `at` lies in, and gives the place of `at`
    /// in it. `None` if the ring does not have that buffer: the kernel would have handed it back twice.
    #[inline]
    pub(crate) fn reclaim(&mut self, at: u64, ring: u8) -> Option<(Buf, u32)> {
        let at = usize::try_from(at).ok()?;
        let frames_at = self.stride * self.buffers as usize;
        let id = if at < frames_at {
            (at / self.stride) as u32
        } else {
            self.buffers + ((at - frames_at) / FRAME_SIZE) as u32
        };
        let state = self.state.get_mut(id as usize)?;
        if *state != RING + ring {
            return None;
        }
        *state = HELD;
        self.in_rings -= 1;
        self.held += 1;
        let id = BufId(id);
        Some((Buf(id), at.checked_sub(self.offset(id))? as u32))
    }

    /// Takes back all that `ring` has. Only for a ring that the kernel has let go of.
    pub(crate) fn reclaim_all(&mut self, ring: u8) -> usize {
        let mut count = 0;
        for id in 0..self.state.len() {
            if self.state[id] == RING + ring {
                self.state[id] = HELD;
                self.in_rings -= 1;
                self.held += 1;
                self.free(Buf(BufId(id as u32)));
                count += 1;
            }
        }
        count
    }

    /// The whole memory: address and length, for the kernel to register.
    pub(crate) fn region(&self) -> (*mut u8, usize) {
        (self.memory.as_ptr(), self.memory.len())
    }

    /// Whether `len` bytes from `off` of a buffer lie in one chunk of the UMEM, and so can be sent from
    /// there. Always `false` on the heap.
    #[inline]
    pub fn in_one_chunk(&self, id: BufId, off: u32, len: u32) -> bool {
        let begin = self.offset(id) % FRAME_SIZE + off as usize;
        self.in_chunks
            && (off + len) as usize <= self.size_of(id)
            && begin / FRAME_SIZE == (begin + len.saturating_sub(1) as usize) / FRAME_SIZE
    }

    /// Where a buffer begins in the mapping.
    #[inline]
    fn offset(&self, id: BufId) -> usize {
        if id.0 < self.buffers {
            id.index() * self.stride + (id.0 & self.colours) as usize * CACHE_LINE
        } else {
            self.stride * self.buffers as usize + (id.0 - self.buffers) as usize * FRAME_SIZE
        }
    }

    #[inline]
    fn size_of(&self, id: BufId) -> usize {
        if id.0 < self.buffers {
            self.buf_size
        } else {
            FRAME_SIZE
        }
    }

    #[inline]
    fn is_held(&self, id: BufId) -> bool {
        self.state.get(id.index()) == Some(&HELD)
    }

    /// The whole buffer.
    ///
    /// # Panics
    /// If nobody holds the buffer (it is free or in a ring) or it is of a larger pool.
    #[inline]
    pub fn bytes(&self, id: BufId) -> &[u8] {
        assert!(self.is_held(id), "buffer {} is not held", id.0);
        // SAFETY: the index is below the buffer count, so the range lies in the mapping, which the kernel
        // zeroed and which hence is initialised; `&self` keeps `bytes_mut` away for the borrow, and the buffer
        // is not in a ring, so the kernel does not write to it.
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(self.offset(id)), self.size_of(id))
        }
    }

    /// The whole buffer, writable.
    ///
    /// # Panics
    /// If nobody holds the buffer (it is free or in a ring) or it is of a larger pool.
    #[inline]
    pub fn bytes_mut(&mut self, id: BufId) -> &mut [u8] {
        assert!(self.is_held(id), "buffer {} is not held", id.0);
        // SAFETY: as in `bytes`; `&mut self` makes the borrow the only one.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.as_ptr().add(self.offset(id)),
                self.size_of(id),
            )
        }
    }

    /// `len` bytes from `off`, or `None` if they are not all in the buffer or nobody holds such a buffer.
    #[inline]
    pub fn slice(&self, id: BufId, off: u32, len: u32) -> Option<&[u8]> {
        if !self.is_held(id) {
            return None;
        }
        self.bytes(id).get(off as usize..)?.get(..len as usize)
    }

    /// The bytes of a frame in the pieces in which they lie, `tail` behind its head; `None` for a piece that is not
    /// all there.
    pub fn pieces<'a>(
        &'a self,
        frame: &Frame,
        tail: &'a [Slice],
    ) -> impl Iterator<Item = Option<&'a [u8]>> {
        let head = self.slice(frame.buf, frame.start, frame.linear);
        let tail = tail.iter().map(|s| self.slice(s.buf, s.off, s.len));
        std::iter::once(head).chain(tail)
    }

    /// Copies `len` bytes between two buffers (or within one); `false`, and nothing done, if either
    /// range is not in its buffer or either buffer is not held.
    pub fn copy(
        &mut self,
        from: BufId,
        from_off: usize,
        to: BufId,
        to_off: usize,
        len: usize,
    ) -> bool {
        let fits = |id: BufId, off: usize| {
            self.is_held(id)
                && off
                    .checked_add(len)
                    .is_some_and(|end| end <= self.size_of(id))
        };
        if !fits(from, from_off) || !fits(to, to_off) {
            return false;
        }
        let base = self.memory.as_ptr();
        // SAFETY: both ranges were checked to lie in held buffers, `&mut self` excludes any other
        // borrow, and `copy` permits overlap. Safe code cannot borrow two buffers of one pool at once.
        unsafe {
            std::ptr::copy(
                base.add(self.offset(from) + from_off),
                base.add(self.offset(to) + to_off),
                len,
            );
        }
        true
    }

    /// Bytes in each buffer.
    pub fn buf_size(&self) -> usize {
        self.buf_size
    }

    /// Bytes in the buffer or frame named.
    pub fn len_of(&self, id: BufId) -> usize {
        self.size_of(id)
    }

    /// Bytes from one buffer to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Buffers that can be taken now.
    #[inline]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// UMEM frames that can be taken now.
    #[inline]
    pub fn available_frames(&self) -> usize {
        self.free_frames.len()
    }

    /// Buffers and frames in the pool.
    pub fn total(&self) -> usize {
        self.state.len()
    }

    /// Where they all are.
    pub fn census(&self) -> Census {
        Census {
            total: self.state.len(),
            free: self.free.len() + self.free_frames.len(),
            held: self.held,
            in_rings: self.in_rings,
        }
    }

    /// Frees refused because the buffer was not out. Anything but 0 is a bug.
    pub fn refused_frees(&self) -> u64 {
        self.refused_frees
    }

    /// Start of a held buffer, for system calls that fill several buffers at once.
    pub(crate) fn address(&mut self, id: BufId) -> *mut u8 {
        assert!(self.is_held(id), "buffer {} is not held", id.0);
        // SAFETY: the index is below the buffer count, so the result lies in the mapping.
        unsafe { self.memory.as_ptr().add(self.offset(id)) }
    }
}

impl Buffers for Pool {
    type Id = BufId;

    #[inline]
    fn bytes(&self, id: BufId) -> &[u8] {
        Pool::bytes(self, id)
    }

    #[inline]
    fn bytes_mut(&mut self, id: BufId) -> &mut [u8] {
        Pool::bytes_mut(self, id)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("census", &self.census())
            .field("buf_size", &self.buf_size)
            .finish()
    }
}

#[cfg(test)]
mod tests;
