//! A frame in flight, and the batch that owns its buffers.
//!
//! A frame is a linear head (`start..start+linear` of one buffer; every header is in it) followed by an
//! optional tail of slices, which lie in a list of the batch. The batch owns all buffers until
//! [`Batch::recycle`]; frames and slices only point into them. All capacity is reserved when the batch is
//! made, and a batch that is full says so instead of growing.

use ringway_packet::offload::{Checksum, Gso, Offload};

use crate::pool::{Buf, BufId, HEADROOM, Pool};

/// Slices of the tail: `first..first + count` of [`Batch::slices`].
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Tail {
    /// Index of the first slice.
    pub first: u32,
    /// Number of slices; 0 means the frame is linear.
    pub count: u32,
}

/// A frame or superframe: where its bytes are and what offloads it asks for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Frame {
    /// Buffer of the linear head.
    pub buf: BufId,
    /// Offset of the Ethernet header in the buffer; at least [`HEADROOM`] when received.
    pub start: u32,
    /// Bytes in the buffer from `start`; holds every header.
    pub linear: u32,
    /// Whole frame in bytes, tail included.
    pub len: u32,
    /// The rest of the frame, elsewhere.
    pub tail: Tail,
    /// Checksum and segmentation state, as virtio-net describes it.
    pub offload: Offload,
    /// Packets on the wire this frame stands for, at least 1.
    pub packets: u16,
    /// Port the frame came in by.
    pub port: u32,
    /// Which of its batch's buffers `buf` is, if the frame has it to itself; else [`SHARED`].
    pub slot: u32,
}

impl Frame {
    /// A frame of `len` bytes that lies whole in a buffer, behind the [headroom](HEADROOM): one packet that
    /// asks for nothing, of port 0.
    #[inline]
    pub const fn whole(buf: BufId, len: u32) -> Frame {
        Frame {
            buf,
            start: HEADROOM as u32,
            linear: len,
            len,
            tail: Tail { first: 0, count: 0 },
            offload: Offload {
                checksum: Checksum::Complete,
                gso: Gso::None,
                gso_size: 0,
                ecn: false,
            },
            packets: 1,
            port: 0,
            slot: SHARED,
        }
    }

    /// Bytes on the wire, each segment of a superframe with headers of its own. `head`: its bytes at
    /// hand. No preamble, frame check sequence or padding.
    pub fn wire_len(&self, head: &[u8]) -> u64 {
        let more = u64::from(self.packets).saturating_sub(1);
        if more == 0 {
            return u64::from(self.len);
        }
        // The checksum of a superframe is left undone, but for some of a raw socket.
        let header = self
            .offload
            .header_len(head)
            .map_or(TCP_HEADERS, |header| (header as u64).min(HEADERS_MAX));
        u64::from(self.len) + more * header
    }
}

/// Ethernet, IPv4 and TCP headers without options.
const TCP_HEADERS: u64 = 54;
/// No headers are longer: what says more has not been checked yet.
const HEADERS_MAX: u64 = 256;

/// The [`slot`](Frame::slot) of a frame that shares its buffer with others or is in no batch.
pub const SHARED: u32 = u32::MAX;

/// A run of bytes in a buffer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Slice {
    /// The buffer.
    pub buf: BufId,
    /// Offset in the buffer.
    pub off: u32,
    /// Length in bytes.
    pub len: u32,
}

/// Frames received together, and every buffer they lie in.
#[derive(Debug)]
pub struct Batch {
    /// The frames, in order of arrival.
    pub frames: Vec<Frame>,
    /// Tails of all frames.
    pub slices: Vec<Slice>,
    /// All buffers the batch holds; [`recycle`](Self::recycle) returns them. `None`: taken out.
    buffers: Vec<Option<Buf>>,
    bytes: usize,
    /// Bytes at which it counts as full.
    limit: usize,
}

impl Batch {
    /// Frames after which a batch counts as full.
    pub const MAX_FRAMES: usize = 64;
    /// Bytes after which a batch counts as full: what stays in a 512 KB L2 next to everything else.
    pub const MAX_BYTES: usize = 256 * 1024;
    /// Slices reserved: 64 UDP_GRO messages of 64 segments.
    const MAX_SLICES: usize = 4096;
    /// Buffers reserved: one per frame, and as many again for what the switch makes itself.
    const MAX_BUFFERS: usize = 4 * Self::MAX_FRAMES;

    /// An empty batch with all its capacity.
    pub fn new() -> Batch {
        Batch {
            frames: Vec::with_capacity(Self::MAX_SLICES),
            slices: Vec::with_capacity(Self::MAX_SLICES),
            buffers: Vec::with_capacity(Self::MAX_BUFFERS),
            bytes: 0,
            limit: Self::MAX_BYTES,
        }
    }

    /// A batch without capacity, to stand in for one that is moved out for a moment.
    pub(crate) const fn stand_in() -> Batch {
        Batch {
            frames: Vec::new(),
            slices: Vec::new(),
            buffers: Vec::new(),
            bytes: 0,
            limit: 0,
        }
    }

    /// Whether another receive would make the batch larger than the caches like.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.frames.len() >= Self::MAX_FRAMES
            || self.bytes >= self.limit
            || self.buffers.len() >= Self::MAX_BUFFERS
    }

    /// Lets it count as full after so many bytes more, [`MAX_BYTES`](Self::MAX_BYTES) in all at most.
    #[inline]
    pub fn allow(&mut self, bytes: usize) {
        self.limit = Self::MAX_BYTES.min(self.bytes + bytes);
    }

    /// Lets it count as full after so many bytes more, if it would not sooner.
    #[inline]
    pub fn narrow(&mut self, bytes: usize) {
        self.limit = self.limit.min(self.bytes.saturating_add(bytes));
    }

    /// Adds a frame and takes over its head buffer, which it has to itself.
    ///
    /// # Errors
    /// The reserved capacity is used up; the buffer comes back.
    #[inline]
    pub fn push(&mut self, frame: Frame, buf: Buf) -> Result<(), Buf> {
        let slot = self.buffers.len() as u32;
        let (buf, frame) = (Some(buf), Frame { slot, ..frame });
        if self.buffers.len() == self.buffers.capacity() || !self.push_view(frame) {
            return buf.map_or(Ok(()), Err);
        }
        self.buffers.push(buf);
        Ok(())
    }

    /// Takes out the buffer of a frame that has it to itself, to be sent from where it lies by whoever
    /// keeps it longer than the batch lasts. `None` for any other frame, and the second time.
    #[inline]
    pub fn take(&mut self, frame: &Frame) -> Option<Buf> {
        let slot = self.buffers.get_mut(frame.slot as usize)?;
        slot.take_if(|buf| buf.id() == frame.buf)
    }

    /// Adds a frame that lies in a buffer the batch holds already (see [`hold`](Self::hold)), such as
    /// one segment of a UDP_GRO message. `false` when the reserved capacity is used up.
    #[inline]
    #[must_use]
    pub fn push_view(&mut self, frame: Frame) -> bool {
        if self.frames.len() == self.frames.capacity() {
            return false;
        }
        self.bytes += frame.len as usize;
        self.frames.push(frame);
        true
    }

    /// Takes over a buffer, to be returned with the batch.
    ///
    /// # Errors
    /// The reserved capacity is used up; the buffer comes back.
    #[inline]
    pub fn hold(&mut self, buf: Buf) -> Result<(), Buf> {
        if self.buffers.len() == self.buffers.capacity() {
            return Err(buf);
        }
        self.buffers.push(Some(buf));
        Ok(())
    }

    /// Adds slices as one tail. `None` when the reserved capacity is used up.
    #[inline]
    pub fn push_tail(&mut self, slices: &[Slice]) -> Option<Tail> {
        if self.slices.capacity() - self.slices.len() < slices.len() {
            return None;
        }
        let tail = Tail {
            first: self.slices.len() as u32,
            count: slices.len() as u32,
        };
        self.slices.extend_from_slice(slices);
        Some(tail)
    }

    /// The tail of a frame of this batch; empty if it is linear or names slices that are not there.
    #[inline]
    pub fn tail(&self, frame: &Frame) -> &[Slice] {
        let Tail { first, count } = frame.tail;
        self.slices
            .get(first as usize..)
            .and_then(|s| s.get(..count as usize))
            .unwrap_or(&[])
    }

    /// Bytes of all frames pushed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns every buffer to the pool, the first received last, so that it is handed out first
    /// again; then the batch is empty.
    pub fn recycle(&mut self, pool: &mut Pool) {
        while let Some(buf) = self.buffers.pop() {
            if let Some(buf) = buf {
                pool.free(buf);
            }
        }
        self.frames.clear();
        self.slices.clear();
        self.bytes = 0;
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::kit;

    fn frame(buf: BufId, len: u32) -> Frame {
        Frame {
            buf,
            start: 192,
            linear: len,
            len,
            tail: Tail::default(),
            offload: Offload::default(),
            packets: 1,
            port: 0,
            slot: SHARED,
        }
    }

    #[test]
    fn recycles_every_buffer_and_keeps_the_first_hot() {
        let mut pool = Pool::heap(8, 256);
        let mut batch = Batch::new();
        let push = |pool: &mut Pool, batch: &mut Batch| {
            let buf = pool.alloc().unwrap();
            let id = buf.id();
            batch.push(frame(id, 60), buf).unwrap();
            id
        };
        let first = push(&mut pool, &mut batch);
        for _ in 0..3 {
            push(&mut pool, &mut batch);
        }
        batch.hold(pool.alloc().unwrap()).unwrap();
        assert_eq!((pool.available(), batch.bytes()), (3, 240));
        batch.recycle(&mut pool);
        assert_eq!(
            (pool.available(), batch.frames.len(), batch.bytes()),
            (8, 0, 0)
        );
        assert_eq!(pool.alloc().unwrap().id(), first);
    }

    #[test]
    fn a_buffer_is_taken_out_once_and_only_by_its_own_frame() {
        let mut pool = Pool::heap(2, 256);
        let mut batch = Batch::new();
        let bufs = [pool.alloc().unwrap(), pool.alloc().unwrap()];
        for buf in bufs {
            let id = buf.id();
            batch.push(frame(id, 60), buf).unwrap();
        }
        let (a, b) = (batch.frames[0], batch.frames[1]);
        let view = Frame { slot: SHARED, ..a };
        assert_eq!(batch.take(&view), None);
        assert_eq!(batch.take(&Frame { buf: b.buf, ..a }), None);
        let taken = batch.take(&a).unwrap();
        assert_eq!((taken.id(), batch.take(&a)), (a.buf, None));
        batch.recycle(&mut pool);
        assert_eq!(pool.available(), 1, "the other went back");
        pool.free(taken);
    }

    #[test]
    fn is_full_by_frames_or_bytes() {
        let mut pool = Pool::heap(1, 256);
        let buf = pool.alloc().unwrap().id();
        let mut batch = Batch::new();
        for _ in 0..63 {
            assert!(batch.push_view(frame(buf, 60)));
        }
        assert!(!batch.is_full());
        assert!(batch.push_view(frame(buf, 60)));
        assert!(batch.is_full());
        let mut batch = Batch::new();
        for _ in 0..4 {
            assert!(batch.push_view(frame(buf, 65_536)));
        }
        assert!(batch.is_full());
    }

    #[test]
    fn may_be_allowed_less_for_a_while() {
        let mut pool = Pool::heap(1, 256);
        let buf = pool.alloc().unwrap().id();
        let mut batch = Batch::new();
        for _ in 0..3 {
            batch.allow(50_000);
            assert!(!batch.is_full());
            assert!(batch.push_view(frame(buf, 65_536)));
            assert!(batch.is_full());
            batch.allow(Batch::MAX_BYTES);
            assert!(!batch.is_full());
        }
        assert!(batch.push_view(frame(buf, 65_536)));
        batch.allow(50_000);
        assert!(batch.is_full(), "never more than the caches like");
    }

    #[test]
    fn may_be_allowed_less_than_it_is() {
        let mut pool = Pool::heap(1, 256);
        let buf = pool.alloc().unwrap().id();
        let mut batch = Batch::new();
        batch.allow(1000);
        batch.narrow(usize::MAX);
        assert!(batch.push_view(frame(buf, 999)));
        assert!(!batch.is_full(), "still 1000");
        batch.allow(Batch::MAX_BYTES);
        batch.narrow(1);
        assert!(!batch.is_full());
        assert!(batch.push_view(frame(buf, 60)));
        assert!(batch.is_full());
    }

    #[test]
    fn on_the_wire_each_segment_has_headers() {
        let (bytes, offload) = kit::tcp("10.77.1.2:1000", "10.77.1.3:80")
            .payload_len(2500)
            .offloaded(Some(1000));
        let one = frame(Pool::heap(1, 256).alloc().unwrap().id(), bytes.len() as u32);
        assert_eq!(one.wire_len(&bytes), 54 + 2500);
        let three = Frame {
            offload,
            packets: 3,
            ..one
        };
        assert_eq!(three.wire_len(&bytes), 3 * 54 + 2500);
        let (bytes, offload) = kit::udp("[fd77:1::2]:1000", "[fd77:1::3]:53")
            .payload_len(2500)
            .offloaded(Some(1000));
        let (len, packets) = (bytes.len() as u32, 3);
        let udp6 = Frame {
            offload,
            packets,
            len,
            ..one
        };
        assert_eq!(udp6.wire_len(&bytes), 3 * 62 + 2500);
        // Without headers at hand it is an estimate, not a panic.
        assert_eq!(three.wire_len(&[]), 3 * TCP_HEADERS + 2500);
    }

    #[test]
    fn never_grows() {
        let mut pool = Pool::heap(Batch::MAX_BUFFERS + 1, 256);
        let owned = pool.alloc().unwrap();
        let buf = owned.id();
        let mut batch = Batch::new();
        let before = (
            batch.frames.capacity(),
            batch.slices.capacity(),
            batch.buffers.capacity(),
        );
        while batch.push_view(frame(buf, 60)) {}
        while let Some(one) = pool.alloc() {
            batch.hold(one).unwrap();
        }
        let back = batch.hold(owned).unwrap_err();
        assert_eq!(batch.push(frame(buf, 60), back).unwrap_err().id(), buf);
        let slice = Slice {
            buf,
            off: 0,
            len: 1,
        };
        while batch.push_tail(&[slice; 7]).is_some() {}
        assert!(batch.slices.len() > 4000);
        assert_eq!(
            before,
            (
                batch.frames.capacity(),
                batch.slices.capacity(),
                batch.buffers.capacity()
            )
        );
    }

    #[test]
    fn a_tail_out_of_range_is_empty() {
        let mut pool = Pool::heap(1, 256);
        let buf = pool.alloc().unwrap().id();
        let mut batch = Batch::new();
        let tail = batch
            .push_tail(
                &[Slice {
                    buf,
                    off: 0,
                    len: 1,
                }; 2],
            )
            .unwrap();
        assert_eq!(
            batch
                .tail(&Frame {
                    tail,
                    ..frame(buf, 1)
                })
                .len(),
            2
        );
        let wrong = Tail { first: 1, count: 2 };
        assert!(
            batch
                .tail(&Frame {
                    tail: wrong,
                    ..frame(buf, 1)
                })
                .is_empty()
        );
        let wrong = Tail {
            first: u32::MAX,
            count: u32::MAX,
        };
        assert!(
            batch
                .tail(&Frame {
                    tail: wrong,
                    ..frame(buf, 1)
                })
                .is_empty()
        );
    }
}
