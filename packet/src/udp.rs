//! UDP (RFC 768).

use crate::bytes::{be16, put16};

/// Length of the header.
pub const LEN: usize = 8;

/// Offsets of the fields.
pub mod field {
    /// Source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// Destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Length, header included, 2 bytes.
    pub const LENGTH: usize = 4;
    /// Checksum, 2 bytes; 0 is "none" (over IPv6 for tunnels only, RFC 6935).
    pub const CHECKSUM: usize = 6;
}

/// Why bytes are not a UDP datagram.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum UdpError {
    /// Too short for the header.
    #[error("UDP header needs {LEN} bytes, {have} there")]
    Truncated {
        /// Bytes there.
        have: usize,
    },
    /// Length below 8 or above what is there.
    #[error("UDP length {stated}, expected {LEN}..={max}")]
    Length {
        /// The field.
        stated: u16,
        /// Bytes there.
        max: usize,
    },
}

/// A checked UDP datagram.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks the length; bytes behind the datagram are cut off. The checksum is not looked at.
    pub fn new(bytes: &'a [u8]) -> Result<Self, UdpError> {
        let Some(header) = bytes.first_chunk::<LEN>() else {
            return Err(UdpError::Truncated { have: bytes.len() });
        };
        let stated = be16(header, field::LENGTH);
        match bytes.get(..usize::from(stated)) {
            Some(datagram) if datagram.len() >= LEN => Ok(View(datagram)),
            _ => Err(UdpError::Length {
                stated,
                max: bytes.len(),
            }),
        }
    }

    /// The header.
    pub fn repr(&self) -> Repr {
        Repr {
            src_port: be16(self.0, field::SRC_PORT),
            dst_port: be16(self.0, field::DST_PORT),
            length: be16(self.0, field::LENGTH),
            checksum: be16(self.0, field::CHECKSUM),
        }
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[LEN..]
    }
}

/// The contents of a UDP header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length, header included.
    pub length: u16,
    /// Checksum.
    pub checksum: u16,
}

impl Repr {
    /// Writes the header.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        put16(out, field::SRC_PORT, self.src_port);
        put16(out, field::DST_PORT, self.dst_port);
        put16(out, field::LENGTH, self.length);
        put16(out, field::CHECKSUM, self.checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: [u8; 11] = [
        0x03, 0xe8, 0x00, 0x35, 0x00, 0x0a, 0xbe, 0xef, b'h', b'i', 0xee,
    ];

    #[test]
    fn datagram_comes_back() {
        let view = View::new(&DATAGRAM).unwrap();
        assert_eq!(
            view.repr(),
            Repr {
                src_port: 1000,
                dst_port: 53,
                length: 10,
                checksum: 0xbeef
            }
        );
        assert_eq!(view.payload(), b"hi");
        let mut header = [0; LEN];
        view.repr().emit(&mut header);
        assert_eq!(header, DATAGRAM[..8]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for len in 0..LEN {
            assert_eq!(
                View::new(&DATAGRAM[..len]).unwrap_err(),
                UdpError::Truncated { have: len }
            );
        }
        for stated in [0, 1, 7, 12, 0xffff] {
            let mut bytes = DATAGRAM;
            put16(&mut bytes, field::LENGTH, stated);
            assert_eq!(
                View::new(&bytes).unwrap_err(),
                UdpError::Length { stated, max: 11 }
            );
        }
        for stated in [8, 11] {
            let mut bytes = DATAGRAM;
            put16(&mut bytes, field::LENGTH, stated);
            assert_eq!(
                View::new(&bytes).unwrap().payload().len(),
                usize::from(stated) - 8
            );
        }
    }
}
