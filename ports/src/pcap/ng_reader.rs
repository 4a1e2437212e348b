//! Reading pcapng of anybody's: several sections, either byte order, blocks of kinds that are skipped.
//!
//! Memory is bounded whatever a file claims: one block, and a word for each interface.

use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use super::ng::{BYTE_ORDER, INTERFACE, PACKET, SECTION, find_option, len_of};
use super::reader::{fill, half, word};
use super::{LINKTYPE_ETHERNET, MAX_PACKET, Packet, PcapError};

/// A packet of the only or first interface, without time (draft-ietf-opsawg-pcapng section 4.4).
const SIMPLE_PACKET: u32 = 3;
/// Most interfaces of a section.
const MOST_INTERFACES: usize = 65_536;
/// `if_tsresol`
const RESOLUTION: u16 = 9;

/// What is known of an interface.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snap_len: u32,
    /// As `if_tsresol` has it: powers of ten, or with the highest bit of two.
    resolution: u8,
}

/// A packet in its block.
struct Found {
    bytes: Range<usize>,
    time: Duration,
    original_len: u32,
}

/// The blocks of a file.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Packets so far.
    index: u64,
    /// The block at hand.
    block: Vec<u8>,
    /// The first word of the file was read already.
    begun: bool,
}

impl Blocks {
    /// The next packet; `None` at the end of the file.
    pub(super) fn next(&mut self, input: &mut impl Read) -> Result<Option<Packet<'_>>, PcapError> {
        loop {
            let Some(kind) = self.read(input)? else {
                return Ok(None);
            };
            match kind {
                SECTION => self.interfaces.clear(),
                INTERFACE => self.describe()?,
                PACKET | SIMPLE_PACKET => break,
                _ => {}
            }
        }
        let (index, packet) = (self.index, self.packet());
        let found = packet.ok_or(PcapError::Block { index })??;
        self.index += 1;
        Ok(Some(Packet {
            time: found.time,
            original_len: found.original_len,
            bytes: &self.block[found.bytes],
        }))
    }

    /// Reads a block; gives its type.
    fn read(&mut self, input: &mut impl Read) -> Result<Option<u32>, PcapError> {
        let index = self.index;
        let truncated = PcapError::Truncated { index };
        let mut head = [0; 12];
        let known = if std::mem::replace(&mut self.begun, true) {
            0
        } else {
            head[..4].copy_from_slice(&SECTION.to_le_bytes());
            4
        };
        match fill(input, &mut head[known..])? {
            0 if known == 0 => return Ok(None),
            read if known + read == head.len() => {}
            _ => return Err(truncated),
        }
        // The same in either byte order.
        if word(&head, 0, false) == SECTION {
            self.big_endian = match word(&head, 8, true) {
                BYTE_ORDER => true,
                other if other.swap_bytes() == BYTE_ORDER => false,
                _ => return Err(PcapError::Block { index }),
            };
        }
        let (kind, claimed) = (self.get(&head, 0), self.get(&head, 4));
        let len = len_of(claimed).map_err(|_| PcapError::TooLong { index, claimed })?;
        self.block.clear();
        self.block.extend_from_slice(&head);
        // Grows with what is there, not with what is claimed.
        let rest = (len - head.len()) as u64;
        let read = input.by_ref().take(rest).read_to_end(&mut self.block)?;
        if (read as u64) < rest {
            return Err(truncated);
        }
        if self.get(&self.block, len - 4) != claimed {
            return Err(PcapError::Block { index });
        }
        Ok(Some(kind))
    }

    fn get(&self, bytes: &[u8], at: usize) -> u32 {
        match bytes.get(at..at + 4) {
            Some(bytes) => word(bytes, 0, self.big_endian),
            None => 0,
        }
    }

    /// Takes the description of an interface.
    fn describe(&mut self) -> Result<(), PcapError> {
        let index = self.index;
        if self.block.len() < 20 || self.interfaces.len() == MOST_INTERFACES {
            return Err(PcapError::Block { index });
        }
        self.interfaces.push(Interface {
            link: half(&self.block, 8, self.big_endian).into(),
            snap_len: self.get(&self.block, 12),
            resolution: self.resolution().unwrap_or(6),
        });
        Ok(())
    }

    fn resolution(&self) -> Option<u8> {
        let options = self.block.get(16..self.block.len() - 4)?;
        find_option(options, RESOLUTION, self.big_endian)?
            .first()
            .copied()
    }

    /// Where the packet lies in the block, its time, and how long it was. `None`: the block is not as it should be.
    fn packet(&self) -> Option<Result<Found, PcapError>> {
        let get = |at| self.get(&self.block, at);
        let simple = get(0) == SIMPLE_PACKET;
        let number = if simple { 0 } else { get(8) };
        let interface = self.interfaces.get(number as usize)?;
        let body = if simple { 12 } else { 28 };
        let room = self.block.len().checked_sub(body + 4)?;
        let original_len = if simple { get(8) } else { get(24) };
        let captured = match (simple, interface.snap_len) {
            (false, _) => get(20),
            (true, 0) => original_len,
            (true, snap_len) => original_len.min(snap_len),
        };
        let index = self.index;
        if captured > MAX_PACKET {
            let claimed = captured;
            return Some(Err(PcapError::TooLong { index, claimed }));
        }
        if captured as usize > room {
            return None;
        }
        if interface.link != LINKTYPE_ETHERNET {
            return Some(Err(PcapError::LinkType(interface.link)));
        }
        let ticks = u64::from(get(12)) << 32 | u64::from(get(16));
        let time = match simple {
            true => Duration::ZERO,
            false => time(ticks, interface.resolution),
        };
        Some(Ok(Found {
            bytes: body..body + captured as usize,
            time,
            original_len,
        }))
    }
}

/// Ticks of this resolution; finer than nanoseconds is cut off.
fn time(ticks: u64, resolution: u8) -> Duration {
    let ticks = u128::from(ticks) * 1_000_000_000;
    let exponent = u32::from(resolution & 0x7f);
    let unit = match resolution & 0x80 {
        0 => 10u128.checked_pow(exponent),
        _ => 2u128.checked_pow(exponent),
    };
    let nanos = unit.map_or(0, |unit| ticks / unit);
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Reader, ng};
    use super::*;

    /// A file written by hand in either byte order.
    struct File {
        big_endian: bool,
        bytes: Vec<u8>,
    }

    impl File {
        fn new(big_endian: bool) -> File {
            let bytes = Vec::new();
            let mut file = File { big_endian, bytes };
            file.section();
            file
        }

        fn w(&self, value: u32) -> [u8; 4] {
            match self.big_endian {
                true => value.to_be_bytes(),
                false => value.to_le_bytes(),
            }
        }

        fn h(&self, value: u16) -> [u8; 2] {
            match self.big_endian {
                true => value.to_be_bytes(),
                false => value.to_le_bytes(),
            }
        }

        fn block(&mut self, kind: u32, body: &[u8]) {
            let padded = body.len().next_multiple_of(4);
            let len = self.w(padded as u32 + 12);
            let kind = self.w(kind);
            self.bytes.extend([&kind[..], &len, body].concat());
            self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
            self.bytes.extend(len);
        }

        fn section(&mut self) {
            let body = [&self.w(BYTE_ORDER)[..], &self.h(1), &self.h(0), &[0xff; 8]];
            self.block(SECTION, &body.concat());
        }

        fn interface(&mut self, link: u16, snap_len: u32, resolution: Option<u8>) {
            let mut body = [&self.h(link)[..], &self.h(0), &self.w(snap_len)].concat();
            if let Some(resolution) = resolution {
                body.extend([&self.h(2)[..], &self.h(3), b"eth\0"].concat());
                body.extend([&self.h(9)[..], &self.h(1), &[resolution, 0, 0, 0]].concat());
                body.extend([0; 4]);
            }
            self.block(INTERFACE, &body);
        }

        fn packet(&mut self, interface: u32, ticks: u64, bytes: &[u8]) {
            let words = [
                interface,
                (ticks >> 32) as u32,
                ticks as u32,
                bytes.len() as u32,
                99,
            ];
            let head: Vec<u8> = words.iter().flat_map(|word| self.w(*word)).collect();
            self.block(PACKET, &[&head, bytes].concat());
        }
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Duration, u32)>, PcapError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(packet) = reader.next_packet()? {
            all.push((packet.bytes.to_vec(), packet.time, packet.original_len));
        }
        Ok(all)
    }

    #[test]
    fn both_byte_orders_several_sections_and_interfaces() {
        for big_endian in [false, true] {
            let mut file = File::new(big_endian);
            file.interface(1, 0, None);
            file.interface(1, 0, Some(9));
            // Of a kind that is not known: name resolution.
            file.block(4, &[0; 8]);
            file.packet(0, 5_000_001, b"abc");
            file.packet(1, 5_000_000_001, b"defgh");
            file.big_endian = !big_endian;
            file.section();
            file.interface(1, 2, Some(0x80 | 1));
            file.packet(0, 3, b"ij");
            file.block(SIMPLE_PACKET, &[&file.w(7)[..], b"kl"].concat());
            let expected = [
                (b"abc".to_vec(), Duration::new(5, 1000), 99),
                (b"defgh".to_vec(), Duration::new(5, 1), 99),
                (b"ij".to_vec(), Duration::from_millis(1500), 99),
                (b"kl".to_vec(), Duration::ZERO, 7),
            ];
            assert_eq!(read(&file.bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_a_capture_writes_is_read() {
        let mut file = Vec::new();
        ng::section(&mut file, "ringway");
        ng::interface(&mut file, &ng::Interface::default(), 0);
        let packet = ng::Packet {
            interface: 0,
            time: 7_000_000_009,
            original_len: 61,
            bytes: &[3; 61],
            direction: ng::Direction::In,
            lost: 0,
            comment: "to peer node2",
        };
        ng::packet(&mut file, &packet);
        ng::statistics(&mut file, &ng::Statistics::default());
        let expected = [(vec![3; 61], Duration::new(7, 9), 61)];
        assert_eq!(read(&file).unwrap(), expected);
    }

    #[test]
    fn a_claim_costs_nothing_and_is_refused() {
        let mut file = File::new(false);
        let begin = file.bytes.len();
        for claimed in [0, 8, 13, 2 << 20, u32::MAX] {
            file.bytes.truncate(begin);
            file.bytes.extend([1, 0, 0, 0]);
            file.bytes.extend(u32::to_le_bytes(claimed));
            file.bytes.extend([0; 4]);
            let refused = read(&file.bytes).unwrap_err();
            assert!(matches!(refused, PcapError::TooLong { claimed: c, .. } if c == claimed));
        }
        // A packet of an interface that there is not, one longer than its block, one that is not Ethernet.
        let mut file = File::new(true);
        file.packet(0, 0, b"x");
        assert!(matches!(
            read(&file.bytes),
            Err(PcapError::Block { index: 0 })
        ));
        let mut file = File::new(true);
        file.interface(1, 0, None);
        let head = [0, 0, 0, 5, 5].map(|word| file.w(word)).concat();
        file.block(PACKET, &head);
        assert!(matches!(read(&file.bytes), Err(PcapError::Block { .. })));
        let mut file = File::new(true);
        file.interface(101, 0, None);
        file.packet(0, 0, b"x");
        assert!(matches!(read(&file.bytes), Err(PcapError::LinkType(101))));
    }

    #[test]
    fn every_cut_and_every_flip_ends_in_order() {
        let mut file = File::new(true);
        file.interface(1, 0, Some(9));
        file.packet(0, 1, &[7; 40]);
        file.packet(0, 2, &[8; 20]);
        let good = file.bytes;
        let end = |bytes: &[u8]| {
            if let Ok(all) = read(bytes) {
                assert!(all.len() <= 2);
            }
        };
        for at in 0..good.len() {
            end(&good[..at]);
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                end(&bad);
            }
        }
    }
}
