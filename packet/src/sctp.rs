//! SCTP's common header (RFC 9260 section 3.1). Its checksum is a CRC32c over the packet alone.

use crate::bytes::{be16, be32, put16, put32};

/// Length of the header.
pub const LEN: usize = 12;

/// Offsets of the fields.
pub mod field {
    /// Source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// Destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Verification tag, 4 bytes.
    pub const TAG: usize = 4;
    /// CRC32c, 4 bytes.
    pub const CHECKSUM: usize = 8;
}

/// Why bytes are not an SCTP packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("SCTP header needs {LEN} bytes, {have} there")]
pub struct SctpError {
    /// Bytes there.
    pub have: usize,
}

/// A checked SCTP packet.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks the length.
    pub fn new(bytes: &'a [u8]) -> Result<Self, SctpError> {
        if bytes.len() < LEN {
            return Err(SctpError { have: bytes.len() });
        }
        Ok(View(bytes))
    }

    /// The common header.
    pub fn repr(&self) -> Repr {
        Repr {
            src_port: be16(self.0, field::SRC_PORT),
            dst_port: be16(self.0, field::DST_PORT),
            tag: be32(self.0, field::TAG),
            checksum: be32(self.0, field::CHECKSUM),
        }
    }

    /// The chunks.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[LEN..]
    }
}

/// The contents of a common header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Verification tag.
    pub tag: u32,
    /// CRC32c, as it lies.
    pub checksum: u32,
}

impl Repr {
    /// Writes the header.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        put16(out, field::SRC_PORT, self.src_port);
        put16(out, field::DST_PORT, self.dst_port);
        put32(out, field::TAG, self.tag);
        put32(out, field::CHECKSUM, self.checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; LEN] = [0x0b, 0x59, 0x0b, 0x5a, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4];

    #[test]
    fn header_comes_back() {
        let repr = View::new(&HEADER).unwrap().repr();
        let expected = Repr {
            src_port: 2905,
            dst_port: 2906,
            tag: 0xdead_beef,
            checksum: 0x0102_0304,
        };
        assert_eq!(repr, expected);
        let mut again = [0; LEN];
        repr.emit(&mut again);
        assert_eq!(again, HEADER);
        for len in 0..LEN {
            assert_eq!(
                View::new(&HEADER[..len]).unwrap_err(),
                SctpError { have: len }
            );
        }
    }
}
