//! IPv6 (RFC 8200).

use crate::bytes::{be16, be32, be128, put16, put32, put128};

/// Length of the fixed header.
pub const LEN: usize = 40;

/// Offsets of the fields.
pub mod field {
    /// Payload length, extension headers included, 2 bytes.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Next header, 1 byte.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit, 1 byte.
    pub const HOP_LIMIT: usize = 7;
    /// Source address, 16 bytes.
    pub const SRC: usize = 8;
    /// Destination address, 16 bytes.
    pub const DST: usize = 24;
}

/// Why bytes are not an IPv6 header.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum Ipv6Error {
    /// Too short.
    #[error("IPv6 header needs {LEN} bytes, {have} there")]
    Truncated {
        /// Bytes there.
        have: usize,
    },
    /// Another version.
    #[error("IP version {version}, expected 6")]
    Version {
        /// Version nibble.
        version: u8,
    },
    /// Payload length above what is there.
    #[error("IPv6 payload length {stated}, {max} bytes there")]
    PayloadLength {
        /// The field.
        stated: u16,
        /// Bytes behind the header.
        max: usize,
    },
}

/// A checked IPv6 packet.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks version and length; bytes behind the packet (padding) are cut off.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Ipv6Error> {
        let Some(header) = bytes.first_chunk::<LEN>() else {
            return Err(Ipv6Error::Truncated { have: bytes.len() });
        };
        if header[0] >> 4 != 6 {
            return Err(Ipv6Error::Version {
                version: header[0] >> 4,
            });
        }
        let stated = be16(header, field::PAYLOAD_LENGTH);
        match bytes.get(..LEN + usize::from(stated)) {
            Some(packet) => Ok(View(packet)),
            None => Err(Ipv6Error::PayloadLength {
                stated,
                max: bytes.len() - LEN,
            }),
        }
    }

    /// The fixed header.
    pub fn repr(&self) -> Repr {
        let word = be32(self.0, 0);
        Repr {
            src: be128(self.0, field::SRC),
            dst: be128(self.0, field::DST),
            next_header: self.0[field::NEXT_HEADER],
            traffic_class: (word >> 20) as u8,
            flow_label: word & 0xf_ffff,
            hop_limit: self.0[field::HOP_LIMIT],
            payload_len: be16(self.0, field::PAYLOAD_LENGTH),
        }
    }

    /// What follows the fixed header, extension headers first.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[LEN..]
    }
}

/// The contents of a fixed header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Next header.
    pub next_header: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
    /// Payload length, extension headers included.
    pub payload_len: u16,
}

impl Repr {
    /// Writes the fixed header.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        put32(
            out,
            0,
            6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff,
        );
        put16(out, field::PAYLOAD_LENGTH, self.payload_len);
        out[field::NEXT_HEADER] = self.next_header;
        out[field::HOP_LIMIT] = self.hop_limit;
        put128(out, field::SRC, self.src);
        put128(out, field::DST, self.dst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const PACKET: [u8; 45] = [
        0x6b, 0x81, 0x23, 0x45,  0x00, 0x03,  0x11,  0x40,
        0xfd, 0x77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb,
        b'a', b'b', b'c',  0xee, 0xee,
    ];

    #[test]
    fn packet_comes_back() {
        let view = View::new(&PACKET).unwrap();
        let repr = view.repr();
        let expected = Repr {
            src: 0xfd77_0001 << 96 | 2,
            dst: 0xff02 << 112 | 0xfb,
            next_header: 17,
            traffic_class: 0xb8,
            flow_label: 0x1_2345,
            hop_limit: 64,
            payload_len: 3,
        };
        assert_eq!((repr, view.payload()), (expected, &b"abc"[..]));
        let mut header = [0xee; LEN];
        repr.emit(&mut header);
        assert_eq!(header, PACKET[..LEN]);
        // A flow label has 20 bits; more do not spill into the traffic class.
        Repr {
            flow_label: 0xfff1_2345,
            ..repr
        }
        .emit(&mut header);
        assert_eq!(header, PACKET[..LEN]);
    }

    #[test]
    fn packets_that_lie_are_refused() {
        for len in 0..LEN {
            let error = Ipv6Error::Truncated { have: len };
            assert_eq!(View::new(&PACKET[..len]).unwrap_err(), error);
        }
        for len in LEN..43 {
            let error = Ipv6Error::PayloadLength {
                stated: 3,
                max: len - LEN,
            };
            assert_eq!(View::new(&PACKET[..len]).unwrap_err(), error);
        }
        for version in (0..16).filter(|version| *version != 6) {
            let mut bytes = PACKET;
            bytes[0] = version << 4 | 0xb;
            assert_eq!(
                View::new(&bytes).unwrap_err(),
                Ipv6Error::Version { version }
            );
        }
    }
}
