//! A record as it lies in the ring: 48 bytes about the frame, its bytes, and padding to a multiple of 8.
//!
//! Both ends are this program, so numbers are in the machine's own order.

use ringway_switch::{DropReason, IgnoreReason};
use ringway_tables::{PeerId, PortId};
use rtrb::{Consumer, Producer};

use super::super::Entry;
use super::view::View;

/// Bytes before the frame's.
const HEADER: usize = 48;

/// Where a frame was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Place {
    /// A local port.
    Port(PortId),
    /// A peer: the inner frame.
    Peer(PeerId),
    /// The underlay: from whom is not known.
    #[default]
    Underlay,
    /// The underlay: an outer packet.
    Outer,
}

/// Which way it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// Into the switch.
    In,
    /// Out of it.
    #[default]
    Out,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum End {
    /// Delivered to a local port.
    Delivered(PortId),
    /// Sent to a peer.
    Sent(PeerId),
    /// Sent to a peer in fragments.
    Fragmented(PeerId),
    /// The switch answered it.
    #[default]
    Answered,
    /// Nobody needs it.
    Ignored(IgnoreReason),
    /// Dropped.
    Dropped(DropReason),
}

/// What its bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// An Ethernet frame.
    #[default]
    Frame,
    /// A bare IP packet behind an Ethernet header that was made up.
    Packet,
    /// A datagram's payload that was not opened, behind an Ethernet header that was made up.
    Unopened,
    /// An outer packet whose Ethernet, IP and UDP headers the kernel will make; these were made up like it does.
    Datagram,
}

/// One frame that was captured; its bytes are beside it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Bytes of the frame; there may be fewer of them here.
    pub original_len: u32,
    /// Records that were lost on this worker since the one before.
    pub lost: u32,
    /// Where it was seen.
    pub place: Place,
    /// Which way it went.
    pub way: Way,
    /// Where it came in; none for an outer packet.
    pub from: Option<Entry>,
    /// What became of it.
    pub end: End,
    /// What its bytes are.
    pub kind: Kind,
    /// Packets on the wire that it stands for.
    pub packets: u16,
    /// Payload bytes of each, of a superframe; else 0.
    pub segment: u16,
    /// Its checksum is still to be filled in.
    pub unfinished: bool,
}

/// Writes a record and the first `captured` bytes of the frame; false if there is no room.
pub(super) fn write(
    ring: &mut Producer<u8>,
    record: &Record,
    view: &View<'_>,
    captured: usize,
) -> bool {
    let size = (HEADER + captured).next_multiple_of(8);
    let Ok(mut chunk) = ring.write_chunk(size) else {
        return false;
    };
    let (first, second) = chunk.as_mut_slices();
    let mut out = Out { first, second };
    out.put(&encode(record, size as u32, captured as u32));
    let mut left = captured;
    for part in view.parts() {
        let part = &part[..part.len().min(left)];
        out.put(part);
        left -= part.len();
        if left == 0 {
            break;
        }
    }
    chunk.commit_all();
    true
}

/// The two slices of a chunk, from where nothing is written yet.
struct Out<'a> {
    first: &'a mut [u8],
    second: &'a mut [u8],
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (now, later) = bytes.split_at(bytes.len().min(self.first.len()));
        let first = std::mem::take(&mut self.first);
        first[..now.len()].copy_from_slice(now);
        self.first = &mut first[now.len()..];
        if !later.is_empty() {
            let second = std::mem::take(&mut self.second);
            second[..later.len()].copy_from_slice(later);
            self.second = &mut second[later.len()..];
        }
    }
}

fn encode(record: &Record, size: u32, captured: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &size.to_ne_bytes());
    put(4, &captured.to_ne_bytes());
    put(8, &record.time.to_ne_bytes());
    put(16, &record.original_len.to_ne_bytes());
    put(20, &record.lost.to_ne_bytes());
    let (place, place_id) = match record.place {
        Place::Port(port) => (0, port.0),
        Place::Peer(peer) => (1, peer.0),
        Place::Underlay => (2, 0),
        Place::Outer => (3, 0),
    };
    let (from, from_id) = match record.from {
        Some(Entry::Port(port)) => (0, port.0),
        Some(Entry::Peer(peer)) => (1, peer.0),
        Some(Entry::Underlay) => (2, 0),
        Some(Entry::Switch) => (3, 0),
        None => (4, 0),
    };
    let (end, end_id) = match record.end {
        End::Delivered(port) => (0, port.0),
        End::Sent(peer) => (1, peer.0),
        End::Fragmented(peer) => (2, peer.0),
        End::Answered => (3, 0),
        End::Ignored(reason) => (4, reason.index() as u32),
        End::Dropped(reason) => (5, reason.index() as u32),
    };
    let kind = match record.kind {
        Kind::Frame => 0,
        Kind::Packet => 1,
        Kind::Unopened => 2,
        Kind::Datagram => 3,
    };
    let way = u8::from(record.way == Way::Out);
    put(24, &[place, way, from, end, kind, record.unfinished.into()]);
    put(32, &place_id.to_ne_bytes());
    put(36, &from_id.to_ne_bytes());
    put(40, &end_id.to_ne_bytes());
    put(44, &record.packets.to_ne_bytes());
    put(46, &record.segment.to_ne_bytes());
    bytes
}

fn decode(bytes: &[u8; HEADER]) -> Record {
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let (low, high) = (word(8), word(12));
    let halves = if cfg!(target_endian = "little") {
        (low, high)
    } else {
        (high, low)
    };
    Record {
        time: u64::from(halves.0) | u64::from(halves.1) << 32,
        original_len: word(16),
        lost: word(20),
        place: match bytes[24] {
            0 => Place::Port(PortId(word(32))),
            1 => Place::Peer(PeerId(word(32))),
            2 => Place::Underlay,
            _ => Place::Outer,
        },
        way: if bytes[25] == 0 { Way::In } else { Way::Out },
        from: match bytes[26] {
            0 => Some(Entry::Port(PortId(word(36)))),
            1 => Some(Entry::Peer(PeerId(word(36)))),
            2 => Some(Entry::Underlay),
            3 => Some(Entry::Switch),
            _ => None,
        },
        end: match bytes[27] {
            0 => End::Delivered(PortId(word(40))),
            1 => End::Sent(PeerId(word(40))),
            2 => End::Fragmented(PeerId(word(40))),
            4 => reason(IgnoreReason::ALL, word(40)).map_or(End::Answered, End::Ignored),
            5 => reason(DropReason::ALL, word(40)).map_or(End::Answered, End::Dropped),
            _ => End::Answered,
        },
        kind: match bytes[28] {
            0 => Kind::Frame,
            1 => Kind::Packet,
            2 => Kind::Unopened,
            _ => Kind::Datagram,
        },
        unfinished: bytes[29] != 0,
        packets: half(44),
        segment: half(46),
    }
}

fn reason<T: Copy>(all: &[T], index: u32) -> Option<T> {
    all.get(index as usize).copied()
}

/// The end of the ring that is read.
pub struct RecordReader {
    ring: Consumer<u8>,
    /// The one read last.
    bytes: Vec<u8>,
}

impl RecordReader {
    pub(super) fn new(ring: Consumer<u8>) -> RecordReader {
        let bytes = Vec::new();
        RecordReader { ring, bytes }
    }

    /// The next record and its bytes, if there is one.
    pub fn read(&mut self) -> Option<(Record, &[u8])> {
        let header: [u8; HEADER] = self.take(HEADER)?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (size, captured) = (word(0) as usize, word(4) as usize);
        self.bytes.clear();
        let chunk = self.ring.read_chunk(size.checked_sub(HEADER)?).ok()?;
        let (first, second) = chunk.as_slices();
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
        chunk.commit_all();
        Some((decode(&header), self.bytes.get(..captured)?))
    }

    /// Whether the worker has let go of its end: nothing more will come.
    pub fn is_over(&self) -> bool {
        self.ring.is_abandoned() && self.ring.is_empty()
    }

    fn take<const N: usize>(&mut self, n: usize) -> Option<[u8; N]> {
        let chunk = self.ring.read_chunk(n).ok()?;
        let mut bytes = [0; N];
        let (first, second) = chunk.as_slices();
        bytes[..first.len()].copy_from_slice(first);
        bytes[first.len()..].copy_from_slice(second);
        chunk.commit_all();
        Some(bytes)
    }
}
