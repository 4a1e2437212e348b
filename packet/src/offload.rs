//! Offload metadata of a frame, with exactly the meaning of `struct virtio_net_hdr`
//! (`linux/virtio_net.h`), in which a TAP device carries it.
//!
//! A superframe is one header followed by the payload of many segments; its length fields cover
//! the whole, and its checksum is always partial. `hdr_len` is a hint that has been wrong in
//! practice: it is never read, headers are parsed instead.

use crate::checksum;

/// Length of the header on a TAP device with `IFF_VNET_HDR` and the default size.
pub const VNET_HDR_LEN: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`
const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_TCPV4`
const GSO_TCPV4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`
const GSO_TCPV6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`; the older `GSO_UDP` (3) means IP fragmentation and is not offered.
const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`
const GSO_ECN: u8 = 0x80;

/// What is known of a frame's L4 checksum.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// Whatever the packet says; nobody vouches for it.
    #[default]
    Complete,
    /// To be completed: the sum from `start` to the frame's end goes to `start + offset`, where the
    /// pseudo-header's sum already is.
    Partial {
        /// From the start of the frame.
        start: u16,
        /// From `start`.
        offset: u16,
    },
    /// Computed or verified on this machine.
    Verified,
}

/// What kind of superframe this is.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub enum Gso {
    /// A single packet.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either, a datagram per segment.
    Udp,
}

/// Offload metadata of a frame.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct Offload {
    /// The L4 checksum.
    pub checksum: Checksum,
    /// Kind of superframe.
    pub gso: Gso,
    /// L4 payload bytes of each segment but the last; 0 exactly if `gso` is none.
    pub gso_size: u16,
    /// TCP with CWR set in the first segment only (RFC 3168).
    pub ecn: bool,
}

/// Why offload metadata does not fit its frame.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OffloadError {
    /// The checksum field lies outside the frame.
    #[error("checksum field at {start}+{offset} outside a frame of {len} bytes")]
    ChecksumRange {
        /// First byte summed.
        start: u16,
        /// Field, from `start`.
        offset: u16,
        /// Frame length.
        len: usize,
    },
    /// Unknown or unoffered segmentation type.
    #[error(
        "segmentation type {kind:#04x}; only none (0), TCPv4 (1), TCPv6 (4) and UDP (5) are offered"
    )]
    GsoType {
        /// `gso_type` octet.
        kind: u8,
    },
    /// Segments of 0 bytes.
    #[error("segment size 0 in a frame of {len} bytes that is to be segmented")]
    GsoSize {
        /// Frame length.
        len: usize,
    },
}

impl Offload {
    /// Reads the header of a frame of `frame_len` bytes. Fields are native-endian: without
    /// `TUNSETVNETLE` or `TUNSETVNETBE` a TAP device uses the host's order.
    #[inline]
    pub fn read(header: &[u8; VNET_HDR_LEN], frame_len: usize) -> Result<Offload, OffloadError> {
        let [flags, kind, _, _, s0, s1, c0, c1, o0, o1] = *header;
        let checksum = if flags & NEEDS_CSUM != 0 {
            let (start, offset) = (u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]));
            check_range(start, offset, frame_len)?;
            Checksum::Partial { start, offset }
        } else if flags & DATA_VALID != 0 {
            Checksum::Verified
        } else {
            Checksum::Complete
        };
        let gso = match kind & !GSO_ECN {
            0 if kind == 0 => {
                return Ok(Offload {
                    checksum,
                    ..Offload::default()
                });
            }
            GSO_TCPV4 => Gso::Tcp4,
            GSO_TCPV6 => Gso::Tcp6,
            GSO_UDP_L4 if kind & GSO_ECN == 0 => Gso::Udp,
            _ => return Err(OffloadError::GsoType { kind }),
        };
        let gso_size = u16::from_ne_bytes([s0, s1]);
        if gso_size == 0 {
            return Err(OffloadError::GsoSize { len: frame_len });
        }
        Ok(Offload {
            checksum,
            gso,
            gso_size,
            ecn: kind & GSO_ECN != 0,
        })
    }

    /// Writes the header. `hdr_len`: Ethernet to L4 header, which the kernel makes linear.
    #[inline]
    pub fn write(&self, hdr_len: u16, out: &mut [u8; VNET_HDR_LEN]) {
        let (flags, start, offset) = match self.checksum {
            Checksum::Complete => (0, 0, 0),
            Checksum::Partial { start, offset } => (NEEDS_CSUM, start, offset),
            Checksum::Verified => (DATA_VALID, 0, 0),
        };
        let kind = match self.gso {
            Gso::None => 0,
            Gso::Tcp4 => GSO_TCPV4,
            Gso::Tcp6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        let segmented = self.gso != Gso::None;
        let ecn = if self.ecn && matches!(self.gso, Gso::Tcp4 | Gso::Tcp6) {
            GSO_ECN
        } else {
            0
        };
        let [h0, h1] = if segmented { hdr_len } else { 0 }.to_ne_bytes();
        let [s0, s1] = if segmented { self.gso_size } else { 0 }.to_ne_bytes();
        let [c0, c1] = start.to_ne_bytes();
        let [o0, o1] = offset.to_ne_bytes();
        *out = [flags, kind | ecn, h0, h1, s0, s1, c0, c1, o0, o1];
    }

    /// Length of all headers of a frame whose checksum is undone, from the frame itself; `None` if the
    /// checksum is done, or the headers are not all there.
    #[inline]
    pub fn header_len(&self, frame: &[u8]) -> Option<usize> {
        let Checksum::Partial { start, .. } = self.checksum else {
            return None;
        };
        let start = usize::from(start);
        match self.gso {
            Gso::Tcp4 | Gso::Tcp6 => Some(start + usize::from(frame.get(start + 12)? >> 4) * 4),
            Gso::Udp | Gso::None => Some(start + 8),
        }
    }

    /// Packets on the wire for a frame with `payload_len` bytes behind its L4 header; at least 1.
    #[inline]
    pub fn segments(&self, payload_len: usize) -> usize {
        if self.gso == Gso::None {
            return 1;
        }
        payload_len
            .div_ceil(usize::from(self.gso_size.max(1)))
            .max(1)
    }
}

#[inline]
fn check_range(start: u16, offset: u16, len: usize) -> Result<(), OffloadError> {
    if usize::from(start) + usize::from(offset) + 2 > len {
        return Err(OffloadError::ChecksumRange { start, offset, len });
    }
    Ok(())
}

/// Completes a partial checksum in a linear frame in place. A result of 0 is written as 0xffff, as
/// Linux does (`skb_checksum_help`): for UDP 0 would mean "none", for others both mean the same.
#[inline]
pub fn complete_checksum(frame: &mut [u8], start: u16, offset: u16) -> Result<(), OffloadError> {
    check_range(start, offset, frame.len())?;
    let data = &mut frame[usize::from(start)..];
    let value = checksum::finish_udp(checksum::sum(data));
    let at = usize::from(offset);
    data[at..at + 2].copy_from_slice(&value.to_be_bytes());
    Ok(())
}
