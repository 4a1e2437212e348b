//! Fragmentation of an IPv4 packet (RFC 791 section 3.2), headers only; payload stays where it is.
//!
//! The packet may be a fragment itself: offsets go on from its own, and the last piece has its "more
//! fragments". The first piece keeps all options, the others those with the copied flag, so that they
//! can carry more payload. All but the last carry a multiple of 8 bytes.

use std::ops::Range;

use crate::bytes::{be16, put16};
use crate::checksum::{self, Sum};

/// Smallest MTU of an IPv4 link (RFC 791 section 3.2): the longest header and 8 bytes.
pub const MIN_MTU: usize = 68;

const HEADER: usize = 20;
const MAX_HEADER: usize = 60;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Of the offset, in units of 8 bytes.
const OFFSET: u16 = 0x1fff;
const MAX_PACKET: usize = 65_535;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const COPIED: u8 = 0x80;

/// Why a packet cannot be fragmented.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FragmentError {
    /// Not an IPv4 packet, or not all of it.
    #[error("an IPv4 packet of {total} bytes with a header of {header}, {len} bytes there")]
    Length {
        /// Total length field.
        total: usize,
        /// Header length field in bytes.
        header: usize,
        /// Bytes given.
        len: usize,
    },
    /// The sender forbids it.
    #[error("DF is set on a packet of {len} bytes, the MTU is {mtu}")]
    DontFragment {
        /// Total length.
        len: usize,
        /// Limit.
        mtu: usize,
    },
    /// No IPv4 link has such an MTU.
    #[error("MTU {mtu}, at least 68 needed")]
    Mtu {
        /// Given.
        mtu: usize,
    },
    /// A fragment with more to come whose payload is no multiple of 8 bytes.
    #[error("a fragment that is not the last with {len} bytes of payload, no multiple of 8")]
    Unaligned {
        /// Payload.
        len: usize,
    },
    /// A fragment beyond the longest packet ("ping of death").
    #[error("a fragment that ends at byte {end}, a packet has at most 65535")]
    Offset {
        /// Where its payload ends in the whole packet.
        end: usize,
    },
    /// An option that does not fit the header.
    #[error("IPv4 option {kind} of length {len} with {left} bytes left")]
    Option {
        /// Type.
        kind: u8,
        /// Length octet; 0 if it is missing.
        len: u8,
        /// Bytes from its type to the end of the header.
        left: usize,
    },
}

/// A header as all pieces with it have it, length, offset and checksum 0.
#[derive(Copy, Clone, Debug)]
struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
    sum: Sum,
    /// Payload bytes of a piece with this header that is not the last.
    chunk: usize,
}

/// Precomputed from a packet's header.
#[derive(Clone, Debug)]
pub struct Fragmenter {
    first: Header,
    rest: Header,
    /// Where the packet's payload begins.
    payload_at: usize,
    payload_len: usize,
    /// Flags and offset of the packet.
    fragment: u16,
    count: usize,
}

impl Fragmenter {
    /// `packet`: from the IP header to at least the end of the packet. A packet that fits `mtu` comes
    /// out as it is, in one piece.
    ///
    /// # Errors
    /// See [`FragmentError`].
    pub fn new(packet: &[u8], mtu: usize) -> Result<Fragmenter, FragmentError> {
        let (total, payload_at) = lengths(packet)?;
        if mtu < MIN_MTU {
            return Err(FragmentError::Mtu { mtu });
        }
        let payload_len = total - payload_at;
        let fragment = be16(packet, 6);
        let fits = total <= mtu;
        if !fits {
            if fragment & DONT_FRAGMENT != 0 {
                return Err(FragmentError::DontFragment { len: total, mtu });
            }
            if fragment & MORE_FRAGMENTS != 0 && !payload_len.is_multiple_of(8) {
                return Err(FragmentError::Unaligned { len: payload_len });
            }
            let end = usize::from(fragment & OFFSET) * 8 + payload_len;
            if end > MAX_PACKET - HEADER {
                return Err(FragmentError::Offset { end });
            }
        }
        let header = &packet[..payload_at];
        let first = Header::new(header, mtu);
        let (count, rest) = if fits {
            (1, first)
        } else {
            let (bytes, len) = later(header)?;
            let rest = Header::new(&bytes[..len], mtu);
            (1 + (payload_len - first.chunk).div_ceil(rest.chunk), rest)
        };
        Ok(Fragmenter {
            first,
            rest,
            payload_at,
            payload_len,
            fragment,
            count,
        })
    }

    /// Pieces; at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of piece `i`'s header.
    #[inline]
    pub fn header_len(&self, i: usize) -> usize {
        self.header(i).len
    }

    /// Piece `i`'s part of the payload, counted from the start of the IP packet; empty past the last.
    #[inline]
    pub fn payload(&self, i: usize) -> Range<usize> {
        let offset = |i: usize| match i {
            0 => 0,
            _ if self.count == 1 => self.payload_len,
            _ => (i - 1)
                .saturating_mul(self.rest.chunk)
                .saturating_add(self.first.chunk)
                .min(self.payload_len),
        };
        self.payload_at + offset(i)..self.payload_at + offset(i.saturating_add(1))
    }

    /// Writes the header of piece `i` (below [`count`](Self::count)) to `out[..header_len(i)]`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn write_header(&self, i: usize, out: &mut [u8]) {
        let (header, payload) = (self.header(i), self.payload(i));
        let out = &mut out[..header.len];
        out.copy_from_slice(&header.bytes[..header.len]);
        let total = (header.len + payload.len()) as u16;
        // An offset is below 2^13: the end of the packet was checked, or there is one piece only.
        let mut fragment = self.fragment + ((payload.start - self.payload_at) / 8) as u16;
        if i + 1 < self.count {
            fragment |= MORE_FRAGMENTS;
        }
        put16(out, 2, total);
        put16(out, 6, fragment);
        put16(
            out,
            10,
            checksum::finish(header.sum + Sum::of16(total) + Sum::of16(fragment)),
        );
    }

    fn header(&self, i: usize) -> &Header {
        if i == 0 { &self.first } else { &self.rest }
    }
}

impl Header {
    /// `mtu` is at least [`MIN_MTU`], so `chunk` is at least 8.
    fn new(header: &[u8], mtu: usize) -> Header {
        let mut bytes = [0; MAX_HEADER];
        bytes[..header.len()].copy_from_slice(header);
        bytes[0] = 0x40 | (header.len() / 4) as u8;
        for at in [2, 6, 10] {
            put16(&mut bytes, at, 0);
        }
        let sum = checksum::sum(&bytes[..header.len()]);
        Header {
            bytes,
            len: header.len(),
            sum,
            chunk: (mtu - header.len()) & !7,
        }
    }
}

/// Total and header length, checked against what is there.
fn lengths(packet: &[u8]) -> Result<(usize, usize), FragmentError> {
    let len = packet.len();
    if len < HEADER || packet[0] >> 4 != 4 {
        return Err(FragmentError::Length {
            total: 0,
            header: 0,
            len,
        });
    }
    let (total, header) = (
        usize::from(be16(packet, 2)),
        usize::from(packet[0] & 15) * 4,
    );
    if header < HEADER || total < header || len < total {
        return Err(FragmentError::Length { total, header, len });
    }
    Ok((total, header))
}

/// The header of pieces after the first, and its length: options without the copied flag are left
/// out.
fn later(header: &[u8]) -> Result<([u8; MAX_HEADER], usize), FragmentError> {
    let mut bytes = [0; MAX_HEADER];
    bytes[..HEADER].copy_from_slice(&header[..HEADER]);
    let mut end = HEADER;
    let mut options = &header[HEADER..];
    while let [kind, tail @ ..] = options {
        let len = match (*kind, tail) {
            (END_OF_OPTIONS, _) => break,
            (NO_OPERATION, _) => {
                options = tail;
                continue;
            }
            (_, [len, ..]) if *len >= 2 && usize::from(*len) <= options.len() => usize::from(*len),
            (kind, _) => {
                let len = tail.first().copied().unwrap_or(0);
                return Err(FragmentError::Option {
                    kind,
                    len,
                    left: options.len(),
                });
            }
        };
        if kind & COPIED != 0 {
            bytes[end..end + len].copy_from_slice(&options[..len]);
            end += len;
        }
        options = &options[len..];
    }
    // Zero is "end of options", which is what padding must be.
    Ok((bytes, end.next_multiple_of(4)))
}
