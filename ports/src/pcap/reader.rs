//! Reading capture files nobody vouches for: memory is bounded by [`MAX_PACKET`], whatever they claim.

use std::io::{self, Read};
use std::time::Duration;

use super::ng::SECTION;
use super::ng_reader::Blocks;
use super::{FILE_HEADER, LINKTYPE_ETHERNET, MAGIC_MICROS, MAGIC_NANOS, MAX_PACKET, PACKET_HEADER};

/// One packet of a file.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Packet<'a> {
    /// Since the epoch.
    pub time: Duration,
    /// Bytes on the wire; may be more than were captured.
    pub original_len: u32,
    /// What was captured, from the Ethernet header on.
    pub bytes: &'a [u8],
}

/// Why a file cannot be read (further).
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// Not a pcap file.
    #[error("magic number {0:#010x} is that of neither a pcap nor a pcapng file")]
    Magic(
        /// As read, little endian.
        u32,
    ),
    /// A format version other than 2.x.
    #[error("pcap version {major}.{minor}, only 2.x is known")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Not Ethernet.
    #[error("link type {0}, only Ethernet (1) is known")]
    LinkType(
        /// As read, without the flag bits.
        u32,
    ),
    /// A packet header claims more than any packet has.
    #[error("packet {index} claims {claimed} bytes, limit {MAX_PACKET}")]
    TooLong {
        /// Number of the packet from 0.
        index: u64,
        /// What it claims.
        claimed: u32,
    },
    /// A block of a pcapng file is not as it should be.
    #[error("the block of packet {index} is damaged")]
    Block {
        /// Number of the packet from 0.
        index: u64,
    },
    /// The file ends within a packet (or its file header).
    #[error("the file ends within packet {index}")]
    Truncated {
        /// Number of the packet from 0.
        index: u64,
    },
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads packets from a pcap or pcapng file of either byte order and any time unit.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Blocks(Blocks),
}

#[derive(Debug)]
struct Classic {
    big_endian: bool,
    nanos: bool,
    index: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the file header. Give it a buffered input.
    ///
    /// # Errors
    /// The input is not a pcap file of Ethernet frames, or cannot be read.
    pub fn new(mut input: R) -> Result<Reader<R>, PcapError> {
        let mut header = [0u8; FILE_HEADER];
        let (magic, rest) = header.split_at_mut(4);
        if fill(&mut input, magic)? != 4 {
            return Err(PcapError::Truncated { index: 0 });
        }
        if word(magic, 0, false) == SECTION {
            let format = Format::Blocks(Blocks::default());
            return Ok(Reader { input, format });
        }
        if fill(&mut input, rest)? != rest.len() {
            return Err(PcapError::Truncated { index: 0 });
        }
        let little = word(&header, 0, false);
        let (big_endian, nanos) = match (little, little.swap_bytes()) {
            (MAGIC_MICROS, _) => (false, false),
            (MAGIC_NANOS, _) => (false, true),
            (_, MAGIC_MICROS) => (true, false),
            (_, MAGIC_NANOS) => (true, true),
            _ => return Err(PcapError::Magic(little)),
        };
        let version = word(&header, 4, big_endian);
        let (first, second) = ((version >> 16) as u16, version as u16);
        let (major, minor) = if big_endian {
            (first, second)
        } else {
            (second, first)
        };
        if major != 2 {
            return Err(PcapError::Version { major, minor });
        }
        // The upper bits carry the length of a frame check sequence.
        let link = word(&header, 20, big_endian) & 0x0fff_ffff;
        if link != LINKTYPE_ETHERNET {
            return Err(PcapError::LinkType(link));
        }
        let format = Format::Classic(Classic {
            big_endian,
            nanos,
            index: 0,
            buffer: Vec::new(),
        });
        Ok(Reader { input, format })
    }

    /// The next packet; `None` at the end of the file.
    ///
    /// # Errors
    /// The file is damaged or cannot be read; what follows is lost.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, PcapError> {
        match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.input),
            Format::Blocks(blocks) => blocks.next(&mut self.input),
        }
    }
}

impl Classic {
    fn next(&mut self, input: &mut impl Read) -> Result<Option<Packet<'_>>, PcapError> {
        let mut header = [0u8; PACKET_HEADER];
        match fill(input, &mut header)? {
            0 => return Ok(None),
            PACKET_HEADER => {}
            _ => return Err(PcapError::Truncated { index: self.index }),
        }
        let field = |at| word(&header, at, self.big_endian);
        let claimed = field(8);
        if claimed > MAX_PACKET {
            return Err(PcapError::TooLong {
                index: self.index,
                claimed,
            });
        }
        let unit = if self.nanos { 1 } else { 1000 };
        let time =
            Duration::from_secs(field(0).into()) + Duration::from_nanos(u64::from(field(4)) * unit);
        let original_len = field(12);
        self.buffer.resize(claimed as usize, 0);
        if fill(input, &mut self.buffer)? != self.buffer.len() {
            return Err(PcapError::Truncated { index: self.index });
        }
        self.index += 1;
        Ok(Some(Packet {
            time,
            original_len,
            bytes: &self.buffer,
        }))
    }
}

pub(super) fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian {
        u32::from_be_bytes(word)
    } else {
        u32::from_le_bytes(word)
    }
}

pub(super) fn half(bytes: &[u8], at: usize, big_endian: bool) -> u16 {
    let half = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if big_endian { half } else { half.swap_bytes() }
}

/// Reads until `buffer` is full or the input ends; returns the bytes read.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(
        big_endian: bool,
        magic: u32,
        link: u32,
        packets: &[(u32, u32, u32, u32, &[u8])],
    ) -> Vec<u8> {
        let w = |v: u32| {
            if big_endian {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        let h = |v: u16| {
            if big_endian {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        let mut out = [
            &w(magic)[..],
            &h(2),
            &h(4),
            &w(0),
            &w(0),
            &w(65535),
            &w(link),
        ]
        .concat();
        for (sec, frac, captured, original, bytes) in packets {
            out.extend([&w(*sec)[..], &w(*frac), &w(*captured), &w(*original), bytes].concat());
        }
        out
    }

    #[test]
    fn reads_both_byte_orders_and_units() {
        for big_endian in [false, true] {
            for (magic, nanos) in [(MAGIC_MICROS, 5000), (MAGIC_NANOS, 5)] {
                let bytes = file(
                    big_endian,
                    magic,
                    1,
                    &[(9, 5, 3, 99, b"abc"), (10, 0, 0, 0, b"")],
                );
                let mut reader = Reader::new(&bytes[..]).unwrap();
                let packet = reader.next_packet().unwrap().unwrap();
                assert_eq!(
                    packet,
                    Packet {
                        time: Duration::new(9, nanos),
                        original_len: 99,
                        bytes: b"abc"
                    }
                );
                assert_eq!(reader.next_packet().unwrap().unwrap().bytes, b"");
                assert!(reader.next_packet().unwrap().is_none());
            }
        }
    }

    #[test]
    fn refuses_what_is_not_ethernet_pcap() {
        let refused = |bytes: &[u8]| Reader::new(bytes).expect_err("refused").to_string();
        assert!(refused(&file(false, 0x0a0d_0d0b, 1, &[])).contains("0x0a0d0d0b"));
        assert!(refused(&file(false, MAGIC_MICROS, 101, &[])).contains("link type 101"));
        assert!(refused(&[0xd4, 0xc3]).contains("ends"));
        let mut old = file(true, MAGIC_MICROS, 1, &[]);
        old[5] = 1;
        assert!(refused(&old).contains("version 1.4"));
    }

    #[test]
    fn a_claim_of_gigabytes_costs_nothing() {
        let bytes = file(false, MAGIC_MICROS, 1, &[(0, 0, u32::MAX, 0, b"abc")]);
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert!(matches!(
            reader.next_packet(),
            Err(PcapError::TooLong {
                index: 0,
                claimed: u32::MAX
            })
        ));
        let Format::Classic(classic) = &reader.format else {
            panic!("{reader:?}");
        };
        assert!(classic.buffer.capacity() < 1000);
    }

    #[test]
    fn every_cut_and_every_flip_ends_in_order() {
        let good = file(
            false,
            MAGIC_MICROS,
            1,
            &[
                (1, u32::MAX, 40, 40, &[7; 40]),
                (u32::MAX, 2, 20, 20, &[8; 20]),
            ],
        );
        let read = |bytes: &[u8]| {
            let Ok(mut reader) = Reader::new(bytes) else {
                return;
            };
            for _ in 0..100 {
                match reader.next_packet() {
                    Ok(Some(packet)) => assert!(packet.bytes.len() <= bytes.len()),
                    _ => return,
                }
            }
            panic!("more packets than bytes");
        };
        for end in 0..good.len() {
            read(&good[..end]);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                read(&bad);
            }
        }
    }
}
