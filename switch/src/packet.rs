//! The pipeline's view of a frame: a linear head with headroom, and metadata.

use ringway_packet::offload::Offload;

/// Bytes of headroom the pipeline may use in front of a frame: an outer Ethernet, IPv6, UDP and
/// VXLAN header (70), and an Ethernet header put before a bare IP packet (14), rounded up.
pub const OUTER_HEADROOM: usize = 96;

/// One frame on its way through the pipeline.
///
/// `buf[start..start + linear]` are the bytes at hand, from the Ethernet header on, every header
/// included. Payload beyond them (`len - linear` bytes) stays with the worker.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The buffer that holds the linear head, headroom included.
    pub buf: &'a mut [u8],
    /// Where the frame begins in `buf`.
    pub start: usize,
    /// Bytes of the frame that lie in `buf`.
    pub linear: usize,
    /// Length of the whole frame in bytes.
    pub len: usize,
    /// Packets on the wire that this frame stands for: over 1 for a superframe.
    pub packets: u32,
    /// Checksum and segmentation still to be done, as in virtio-net.
    pub offload: Offload,
}

impl<'a> Packet<'a> {
    /// A frame that lies whole in `buf[start..start + len]`.
    pub fn linear(buf: &'a mut [u8], start: usize, len: usize) -> Self {
        Packet {
            buf,
            start,
            linear: len,
            len,
            packets: 1,
            offload: Offload::default(),
        }
    }

    /// The bytes at hand.
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.linear]
    }

    /// The bytes at hand, to be rewritten.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.start + self.linear]
    }

    /// Takes `n` bytes off the front; the caller has checked that they are there.
    #[inline]
    pub fn pull(&mut self, n: usize) {
        self.start += n;
        self.linear -= n;
        self.len -= n;
    }

    /// Puts `n` bytes of headroom in front of the frame.
    #[inline]
    pub fn push(&mut self, n: usize) {
        self.start -= n;
        self.linear += n;
        self.len += n;
    }
}
