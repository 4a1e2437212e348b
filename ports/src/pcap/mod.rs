//! Capture files, Ethernet link type: the classic pcap format (draft-ietf-opsawg-pcap) is written and read, pcapng
//! read; how a capture writes that: [`ng`].
//!
//! A classic file begins with 24 bytes: magic (0xa1b2c3d4 = microseconds, 0xa1b23c4d = nanoseconds, in the byte
//! order of the writer), version 2.4, two zeroes, snap length, link type. Each packet has 16 bytes before
//! it: seconds, fraction, bytes captured, bytes on the wire.

pub mod ng;
mod ng_reader;
mod reader;
mod writer;

pub use reader::{Packet, PcapError, Reader};
pub use writer::Writer;

/// Largest packet that is read, whatever a file claims (tcpdump's own limit is the same).
pub const MAX_PACKET: u32 = 262_144;

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
