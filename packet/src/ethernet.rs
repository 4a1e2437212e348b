//! Ethernet II (RFC 894) and VLAN tags (IEEE 802.1Q, 802.1ad).

use crate::bytes::{be16, put16};
use crate::ethertype;
use crate::mac::MacAddr;

/// Length of the header without tags.
pub const LEN: usize = 14;
/// Length of a VLAN tag.
pub const VLAN_LEN: usize = 4;

/// Offsets of the fields.
pub mod field {
    /// Destination, 6 bytes.
    pub const DST: usize = 0;
    /// Source, 6 bytes.
    pub const SRC: usize = 6;
    /// EtherType, 2 bytes.
    pub const ETHERTYPE: usize = 12;
}

/// Why bytes are not an Ethernet header or VLAN tag.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("{need} bytes of Ethernet header or VLAN tag needed, {have} there")]
pub struct EthernetError {
    /// Bytes needed.
    pub need: usize,
    /// Bytes there.
    pub have: usize,
}

/// A checked Ethernet header.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8; LEN]);

impl<'a> View<'a> {
    /// Checks the length.
    pub fn new(bytes: &'a [u8]) -> Result<Self, EthernetError> {
        let header = bytes.first_chunk().ok_or(EthernetError {
            need: LEN,
            have: bytes.len(),
        })?;
        Ok(View(header))
    }

    /// What it says.
    pub fn repr(&self) -> Repr {
        let mac = |at: usize| MacAddr(std::array::from_fn(|i| self.0[at + i]));
        Repr {
            dst: mac(field::DST),
            src: mac(field::SRC),
            ethertype: be16(self.0, field::ETHERTYPE),
        }
    }
}

/// The contents of an Ethernet header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// EtherType, or the first tag's.
    pub ethertype: u16,
}

impl Repr {
    /// Writes the header.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        out[field::DST..][..6].copy_from_slice(&self.dst.0);
        out[field::SRC..][..6].copy_from_slice(&self.src.0);
        put16(out, field::ETHERTYPE, self.ethertype);
    }
}

/// A VLAN tag, as it lies behind the EtherType that announces it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Tag {
    /// Priority code point, 3 bits.
    pub priority: u8,
    /// Drop eligible.
    pub drop_eligible: bool,
    /// VLAN identifier, 12 bits.
    pub vlan: u16,
    /// EtherType of what follows.
    pub ethertype: u16,
}

impl Tag {
    /// Reads a tag.
    pub fn parse(bytes: &[u8]) -> Result<Tag, EthernetError> {
        let Some(tag) = bytes.first_chunk::<VLAN_LEN>() else {
            return Err(EthernetError {
                need: VLAN_LEN,
                have: bytes.len(),
            });
        };
        let control = be16(tag, 0);
        Ok(Tag {
            priority: (control >> 13) as u8,
            drop_eligible: control & 0x1000 != 0,
            vlan: control & 0xfff,
            ethertype: be16(tag, 2),
        })
    }

    /// Writes the tag; bits of `priority` and `vlan` above their width are dropped.
    pub fn emit(&self, out: &mut [u8; VLAN_LEN]) {
        let control = u16::from(self.priority) << 13
            | u16::from(self.drop_eligible) << 12
            | self.vlan & 0xfff;
        put16(out, 0, control);
        put16(out, 2, self.ethertype);
    }
}

/// Whether this EtherType announces a VLAN tag.
#[inline]
pub const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::QINQ)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGGED: [u8; 18] = [
        0x33, 0x33, 0, 0, 0, 1, 0x0a, 0x58, 10, 77, 1, 2, 0x81, 0x00, 0xb0, 0x2a, 0x86, 0xdd,
    ];

    #[test]
    fn header_and_tag_come_back() {
        let repr = View::new(&TAGGED).unwrap().repr();
        assert_eq!(repr.dst, MacAddr::of_ipv6_multicast(1));
        assert_eq!(repr.src, MacAddr([0x0a, 0x58, 10, 77, 1, 2]));
        assert!(is_vlan(repr.ethertype));
        let tag = Tag::parse(&TAGGED[14..]).unwrap();
        assert_eq!(
            tag,
            Tag {
                priority: 5,
                drop_eligible: true,
                vlan: 42,
                ethertype: ethertype::IPV6
            }
        );
        let mut again = [0; 18];
        repr.emit(again.first_chunk_mut().unwrap());
        tag.emit(again.last_chunk_mut().unwrap());
        assert_eq!(again, TAGGED);
    }

    #[test]
    fn short_ones_are_refused() {
        for len in 0..LEN {
            assert_eq!(
                View::new(&TAGGED[..len]).unwrap_err(),
                EthernetError {
                    need: 14,
                    have: len
                }
            );
        }
        for len in 0..VLAN_LEN {
            assert_eq!(
                Tag::parse(&TAGGED[..len]),
                Err(EthernetError { need: 4, have: len })
            );
        }
    }
}
