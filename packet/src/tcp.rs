//! TCP (RFC 9293).

use crate::bytes::{be16, be32, put16, put32};

/// Length of a header without options.
pub const MIN_LEN: usize = 20;
/// Length of a header with all the options there is room for.
pub const MAX_LEN: usize = 60;

/// Offsets of the fields.
pub mod field {
    /// Source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// Destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Sequence number, 4 bytes.
    pub const SEQ: usize = 4;
    /// Acknowledgement number, 4 bytes.
    pub const ACK: usize = 8;
    /// Header length in 32-bit words, upper 4 bits of 1 byte.
    pub const DATA_OFFSET: usize = 12;
    /// Flags, 1 byte.
    pub const FLAGS: usize = 13;
    /// Window, 2 bytes.
    pub const WINDOW: usize = 14;
    /// Checksum, 2 bytes.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer, 2 bytes.
    pub const URGENT: usize = 18;
    /// Options, up to the header length.
    pub const OPTIONS: usize = 20;
}

/// Flags.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// Congestion was experienced (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// The congestion window was reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// Why bytes are not a TCP segment.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum TcpError {
    /// Too short for the header.
    #[error("TCP header needs {need} bytes, {have} there")]
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// Header length below 20.
    #[error("TCP header length {bytes}, at least {MIN_LEN}")]
    DataOffset {
        /// From the data offset field.
        bytes: usize,
    },
}

/// A checked TCP segment.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks the header length. `bytes` ends where the IP packet does; the checksum is not looked
    /// at.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TcpError> {
        let have = bytes.len();
        let Some(fixed) = bytes.first_chunk::<MIN_LEN>() else {
            return Err(TcpError::Truncated {
                need: MIN_LEN,
                have,
            });
        };
        let need = usize::from(fixed[field::DATA_OFFSET] >> 4) * 4;
        if need < MIN_LEN {
            return Err(TcpError::DataOffset { bytes: need });
        }
        if need > have {
            return Err(TcpError::Truncated { need, have });
        }
        Ok(View(bytes))
    }

    /// Header length, options included.
    pub fn header_len(&self) -> usize {
        usize::from(self.0[field::DATA_OFFSET] >> 4) * 4
    }

    /// The fixed fields.
    pub fn repr(&self) -> Repr {
        Repr {
            src_port: be16(self.0, field::SRC_PORT),
            dst_port: be16(self.0, field::DST_PORT),
            seq: be32(self.0, field::SEQ),
            ack: be32(self.0, field::ACK),
            flags: self.0[field::FLAGS],
            window: be16(self.0, field::WINDOW),
            checksum: be16(self.0, field::CHECKSUM),
            urgent: be16(self.0, field::URGENT),
        }
    }

    /// Options, padding included.
    pub fn options(&self) -> &'a [u8] {
        &self.0[field::OPTIONS..self.header_len()]
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[self.header_len()..]
    }
}

/// The contents of a header without options.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, see [`flag`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Checksum.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl Repr {
    /// Writes a header of 20 bytes.
    pub fn emit(&self, out: &mut [u8; MIN_LEN]) {
        put16(out, field::SRC_PORT, self.src_port);
        put16(out, field::DST_PORT, self.dst_port);
        put32(out, field::SEQ, self.seq);
        put32(out, field::ACK, self.ack);
        out[field::DATA_OFFSET] = ((MIN_LEN / 4) << 4) as u8;
        out[field::FLAGS] = self.flags;
        put16(out, field::WINDOW, self.window);
        put16(out, field::CHECKSUM, self.checksum);
        put16(out, field::URGENT, self.urgent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const SEGMENT: [u8; 26] = [
        0x03, 0xe8, 0x00, 0x50,  0x00, 0x00, 0x00, 0x07,  0x00, 0x00, 0x00, 0x09,
        0x60, 0x18, 0x04, 0x00,  0xbe, 0xef, 0x00, 0x00,  0x02, 0x04, 0x05, 0xb4,
        b'h', b'i',
    ];

    #[test]
    fn segment_comes_back() {
        let view = View::new(&SEGMENT).unwrap();
        let repr = view.repr();
        assert_eq!(
            (repr.src_port, repr.dst_port, repr.seq, repr.ack),
            (1000, 80, 7, 9)
        );
        assert_eq!((repr.flags, repr.window), (flag::ACK | flag::PSH, 1024));
        assert_eq!((repr.checksum, repr.urgent), (0xbeef, 0));
        assert_eq!(
            (view.options(), view.payload()),
            (&[2, 4, 5, 0xb4][..], &b"hi"[..])
        );
        let mut header = [0; MIN_LEN];
        repr.emit(&mut header);
        header[field::DATA_OFFSET] = 0x60;
        assert_eq!(header, SEGMENT[..20]);
    }

    #[test]
    fn header_lengths_that_lie_are_refused() {
        for len in 0..24 {
            let need = if len < 20 { 20 } else { 24 };
            let error = View::new(&SEGMENT[..len]).unwrap_err();
            assert_eq!(error, TcpError::Truncated { need, have: len });
        }
        for words in 0..16usize {
            let mut bytes = SEGMENT;
            bytes[field::DATA_OFFSET] = (words << 4) as u8;
            match View::new(&bytes) {
                Ok(view) => assert_eq!(view.header_len(), words * 4),
                Err(TcpError::DataOffset { bytes }) => {
                    assert_eq!((bytes, words < 5), (words * 4, true))
                }
                Err(TcpError::Truncated { need, have: 26 }) => {
                    assert_eq!((need, words > 6), (words * 4, true))
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
