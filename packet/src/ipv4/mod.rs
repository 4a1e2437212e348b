//! IPv4 (RFC 791), and cutting a packet into fragments.

mod fragment;

pub use fragment::*;

use crate::bytes::{be16, be32, put16, put32};
use crate::checksum;

/// Length of a header without options.
pub const MIN_LEN: usize = 20;
/// Length of a header with all the options there is room for.
pub const MAX_LEN: usize = 60;
/// Flag: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Fragment offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Offsets of the fields.
pub mod field {
    /// Version and header length, 1 byte.
    pub const VERSION_IHL: usize = 0;
    /// DSCP and ECN, 1 byte.
    pub const TOS: usize = 1;
    /// Total length, 2 bytes.
    pub const TOTAL_LENGTH: usize = 2;
    /// Identification, 2 bytes.
    pub const ID: usize = 4;
    /// Flags and fragment offset, 2 bytes.
    pub const FLAGS_FRAGMENT: usize = 6;
    /// Time to live, 1 byte.
    pub const TTL: usize = 8;
    /// Protocol, 1 byte.
    pub const PROTOCOL: usize = 9;
    /// Header checksum, 2 bytes.
    pub const CHECKSUM: usize = 10;
    /// Source address, 4 bytes.
    pub const SRC: usize = 12;
    /// Destination address, 4 bytes.
    pub const DST: usize = 16;
    /// Options, up to the header length.
    pub const OPTIONS: usize = 20;
}

/// Why bytes are not an IPv4 packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum Ipv4Error {
    /// Too short for the header.
    #[error("IPv4 header needs {need} bytes, {have} there")]
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// Another version.
    #[error("IP version {version}, expected 4")]
    Version {
        /// Version nibble.
        version: u8,
    },
    /// Header length below 20.
    #[error("IPv4 header length {bytes}, at least {MIN_LEN}")]
    HeaderLength {
        /// From the IHL field.
        bytes: usize,
    },
    /// Total length below the header's or above what is there.
    #[error("IPv4 total length {stated}, expected {min}..={max}")]
    TotalLength {
        /// The field.
        stated: u16,
        /// Header length.
        min: usize,
        /// Bytes there.
        max: usize,
    },
    /// Header checksum is wrong.
    #[error("IPv4 header checksum {found:#06x} is wrong")]
    Checksum {
        /// The field.
        found: u16,
    },
}

/// A checked IPv4 packet.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks version, lengths and header checksum; bytes behind the packet (padding) are cut off.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Ipv4Error> {
        let have = bytes.len();
        let Some(fixed) = bytes.first_chunk::<MIN_LEN>() else {
            return Err(Ipv4Error::Truncated {
                need: MIN_LEN,
                have,
            });
        };
        if fixed[0] >> 4 != 4 {
            return Err(Ipv4Error::Version {
                version: fixed[0] >> 4,
            });
        }
        let header_len = usize::from(fixed[field::VERSION_IHL] & 0xf) * 4;
        if header_len < MIN_LEN {
            return Err(Ipv4Error::HeaderLength { bytes: header_len });
        }
        let Some(header) = bytes.get(..header_len) else {
            return Err(Ipv4Error::Truncated {
                need: header_len,
                have,
            });
        };
        let stated = be16(fixed, field::TOTAL_LENGTH);
        if usize::from(stated) < header_len || usize::from(stated) > have {
            return Err(Ipv4Error::TotalLength {
                stated,
                min: header_len,
                max: have,
            });
        }
        if !checksum::verify(checksum::Sum::ZERO, [header]) {
            return Err(Ipv4Error::Checksum {
                found: be16(fixed, field::CHECKSUM),
            });
        }
        Ok(View(&bytes[..usize::from(stated)]))
    }

    /// Header length, options included.
    pub fn header_len(&self) -> usize {
        usize::from(self.0[field::VERSION_IHL] & 0xf) * 4
    }

    /// Options, padding included.
    pub fn options(&self) -> &'a [u8] {
        &self.0[field::OPTIONS..self.header_len()]
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[self.header_len()..]
    }

    /// More fragments follow this one.
    pub fn more_fragments(&self) -> bool {
        be16(self.0, field::FLAGS_FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Offset of this fragment in the whole payload, in bytes.
    pub fn fragment_offset(&self) -> usize {
        usize::from(be16(self.0, field::FLAGS_FRAGMENT) & FRAGMENT_OFFSET) * 8
    }

    /// The fixed fields of a packet that is no fragment.
    pub fn repr(&self) -> Repr {
        Repr {
            src: be32(self.0, field::SRC),
            dst: be32(self.0, field::DST),
            proto: self.0[field::PROTOCOL],
            tos: self.0[field::TOS],
            ttl: self.0[field::TTL],
            id: be16(self.0, field::ID),
            dont_fragment: be16(self.0, field::FLAGS_FRAGMENT) & DONT_FRAGMENT != 0,
            payload_len: self.payload().len() as u16,
        }
    }
}

/// The contents of a header without options, of a packet that is no fragment.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Protocol.
    pub proto: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Do not fragment.
    pub dont_fragment: bool,
    /// Bytes behind the header; at most 65,515.
    pub payload_len: u16,
}

impl Repr {
    /// Writes a header of 20 bytes with its checksum.
    pub fn emit(&self, out: &mut [u8; MIN_LEN]) {
        out[field::VERSION_IHL] = 0x45;
        out[field::TOS] = self.tos;
        put16(
            out,
            field::TOTAL_LENGTH,
            self.payload_len.saturating_add(MIN_LEN as u16),
        );
        put16(out, field::ID, self.id);
        put16(
            out,
            field::FLAGS_FRAGMENT,
            if self.dont_fragment { DONT_FRAGMENT } else { 0 },
        );
        out[field::TTL] = self.ttl;
        out[field::PROTOCOL] = self.proto;
        put32(out, field::SRC, self.src);
        put32(out, field::DST, self.dst);
        fill_checksum(out);
    }
}

/// Sets the checksum of a header, options included. Shorter than a header: does nothing.
pub fn fill_checksum(header: &mut [u8]) {
    if header.len() >= MIN_LEN {
        put16(header, field::CHECKSUM, 0);
        let value = checksum::finish(checksum::sum(header));
        put16(header, field::CHECKSUM, value);
    }
}

#[cfg(test)]
mod tests;
