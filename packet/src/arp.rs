//! ARP for IPv4 over Ethernet (RFC 826).

use crate::bytes::{be16, be32, put16, put32};
use crate::ethernet;
use crate::ethertype;
use crate::mac::MacAddr;

/// Length of the packet.
pub const LEN: usize = 28;
/// Operation: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has.
pub const REPLY: u16 = 2;

/// Offsets of the fields.
pub mod field {
    /// `ar$hrd`, 2 bytes: 1 is Ethernet.
    pub const HARDWARE: usize = 0;
    /// `ar$pro`, 2 bytes: 0x0800 is IPv4.
    pub const PROTOCOL: usize = 2;
    /// `ar$hln` and `ar$pln`, a byte each: 6 and 4.
    pub const LENGTHS: usize = 4;
    /// `ar$op`, 2 bytes.
    pub const OPERATION: usize = 6;
    /// Sender hardware address, 6 bytes.
    pub const SENDER_MAC: usize = 8;
    /// Sender protocol address, 4 bytes.
    pub const SENDER_IP: usize = 14;
    /// Target hardware address, 6 bytes.
    pub const TARGET_MAC: usize = 18;
    /// Target protocol address, 4 bytes.
    pub const TARGET_IP: usize = 24;
}

/// Why bytes are not ARP for IPv4 over Ethernet.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum ArpError {
    /// Too short.
    #[error("ARP needs {LEN} bytes, {have} there")]
    Truncated {
        /// Bytes there.
        have: usize,
    },
    /// Another kind of ARP.
    #[error(
        "ARP hardware {hardware:#06x}, protocol {protocol:#06x}, lengths {lengths:#06x}; expected 0x0001, 0x0800, 0x0604"
    )]
    Format {
        /// Hardware type.
        hardware: u16,
        /// Protocol type.
        protocol: u16,
        /// Both address lengths.
        lengths: u16,
    },
}

/// A checked ARP packet.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8; LEN]);

impl<'a> View<'a> {
    /// Checks length and format; bytes behind the packet (padding) are ignored.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ArpError> {
        let Some(arp) = bytes.first_chunk::<LEN>() else {
            return Err(ArpError::Truncated { have: bytes.len() });
        };
        let (hardware, protocol) = (be16(arp, field::HARDWARE), be16(arp, field::PROTOCOL));
        let lengths = be16(arp, field::LENGTHS);
        if (hardware, protocol, lengths) != (1, ethertype::IPV4, 0x0604) {
            return Err(ArpError::Format {
                hardware,
                protocol,
                lengths,
            });
        }
        Ok(View(arp))
    }

    /// What it says.
    pub fn repr(&self) -> Repr {
        let mac = |at: usize| MacAddr(std::array::from_fn(|i| self.0[at + i]));
        Repr {
            operation: be16(self.0, field::OPERATION),
            sender_mac: mac(field::SENDER_MAC),
            sender_ip: be32(self.0, field::SENDER_IP),
            target_mac: mac(field::TARGET_MAC),
            target_ip: be32(self.0, field::TARGET_IP),
        }
    }
}

/// The contents of an ARP packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// [`REQUEST`], [`REPLY`] or another.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: MacAddr,
    /// Sender protocol address.
    pub sender_ip: u32,
    /// Target hardware address.
    pub target_mac: MacAddr,
    /// Target protocol address.
    pub target_ip: u32,
}

impl Repr {
    /// Writes the packet.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        put16(out, field::HARDWARE, 1);
        put16(out, field::PROTOCOL, ethertype::IPV4);
        put16(out, field::LENGTHS, 0x0604);
        put16(out, field::OPERATION, self.operation);
        out[field::SENDER_MAC..][..6].copy_from_slice(&self.sender_mac.0);
        put32(out, field::SENDER_IP, self.sender_ip);
        out[field::TARGET_MAC..][..6].copy_from_slice(&self.target_mac.0);
        put32(out, field::TARGET_IP, self.target_ip);
    }
}

/// Writes the whole Ethernet frame that tells `asker` that `target_ip` is at `answer_mac`, and
/// gives its length; `None` if `out` is too small. Not padded to Ethernet's minimum.
pub fn write_reply(
    out: &mut [u8],
    answer_mac: MacAddr,
    target_ip: u32,
    asker_mac: MacAddr,
    asker_ip: u32,
) -> Option<usize> {
    let frame = out.get_mut(..ethernet::LEN + LEN)?;
    let (header, body) = frame.split_first_chunk_mut::<{ ethernet::LEN }>()?;
    ethernet::Repr {
        dst: asker_mac,
        src: answer_mac,
        ethertype: ethertype::ARP,
    }
    .emit(header);
    Repr {
        operation: REPLY,
        sender_mac: answer_mac,
        sender_ip: target_ip,
        target_mac: asker_mac,
        target_ip: asker_ip,
    }
    .emit(body.first_chunk_mut()?);
    Some(ethernet::LEN + LEN)
}

/// Writes the whole Ethernet frame that tells everybody that `ip` is at `mac`, and gives its length; `None` if
/// `out` is too small. A request for the sender's own address, to all (RFC 5227 section 3), as Linux sends
/// (`arp_notify`): who knows the address takes the MAC address at once.
pub fn write_announcement(out: &mut [u8], mac: MacAddr, ip: u32) -> Option<usize> {
    let frame = out.get_mut(..ethernet::LEN + LEN)?;
    let (header, body) = frame.split_first_chunk_mut::<{ ethernet::LEN }>()?;
    ethernet::Repr {
        dst: MacAddr::BROADCAST,
        src: mac,
        ethertype: ethertype::ARP,
    }
    .emit(header);
    Repr {
        operation: REQUEST,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: MacAddr::default(),
        target_ip: ip,
    }
    .emit(body.first_chunk_mut()?);
    Some(ethernet::LEN + LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 2]);
    const GATEWAY: MacAddr = MacAddr([0x02, 0x52, 0x57, 0, 0, 1]);
    #[rustfmt::skip]
    const FRAME: [u8; 42] = [
        0x0a, 0x58, 0x0a, 0x4d, 0x01, 0x02,  0x02, 0x52, 0x57, 0x00, 0x00, 0x01,  0x08, 0x06,
        0x00, 0x01,  0x08, 0x00,  0x06, 0x04,  0x00, 0x02,
        0x02, 0x52, 0x57, 0x00, 0x00, 0x01,  0x0a, 0x4d, 0x01, 0x01,
        0x0a, 0x58, 0x0a, 0x4d, 0x01, 0x02,  0x0a, 0x4d, 0x01, 0x02,
    ];

    #[test]
    fn reply_is_these_bytes() {
        let mut out = [0xee; 50];
        assert_eq!(
            write_reply(&mut out, GATEWAY, 0x0a4d_0101, ASKER, 0x0a4d_0102),
            Some(42)
        );
        assert_eq!(out[..42], FRAME);
        assert_eq!(out[42..], [0xee; 8]);
        assert_eq!(
            write_reply(&mut out[..41], GATEWAY, 0x0a4d_0101, ASKER, 0x0a4d_0102),
            None
        );
    }

    #[test]
    fn announcement_is_these_bytes() {
        #[rustfmt::skip]
        const EXPECTED: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  0x0a, 0x58, 0x0a, 0x4d, 0x01, 0x02,  0x08, 0x06,
            0x00, 0x01,  0x08, 0x00,  0x06, 0x04,  0x00, 0x01,
            0x0a, 0x58, 0x0a, 0x4d, 0x01, 0x02,  0x0a, 0x4d, 0x01, 0x02,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  0x0a, 0x4d, 0x01, 0x02,
        ];
        let mut out = [0xee; 50];
        assert_eq!(write_announcement(&mut out, ASKER, 0x0a4d_0102), Some(42));
        assert_eq!(out[..42], EXPECTED);
        assert_eq!(out[42..], [0xee; 8]);
        assert_eq!(write_announcement(&mut out[..41], ASKER, 0x0a4d_0102), None);
    }

    #[test]
    fn view_reads_what_was_written() {
        let repr = View::new(&FRAME[14..]).unwrap().repr();
        assert_eq!(
            repr,
            Repr {
                operation: REPLY,
                sender_mac: GATEWAY,
                sender_ip: 0x0a4d_0101,
                target_mac: ASKER,
                target_ip: 0x0a4d_0102,
            }
        );
        let mut again = [0; LEN];
        repr.emit(&mut again);
        assert_eq!(again, FRAME[14..]);
    }

    #[test]
    fn other_arp_is_refused() {
        for len in 0..LEN {
            assert_eq!(
                View::new(&FRAME[14..14 + len]).unwrap_err(),
                ArpError::Truncated { have: len }
            );
        }
        for at in 0..6 {
            let mut bytes = FRAME;
            bytes[14 + at] ^= 1;
            assert!(
                matches!(View::new(&bytes[14..]), Err(ArpError::Format { .. })),
                "byte {at}"
            );
        }
    }
}
