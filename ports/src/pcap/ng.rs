//! Capture files in the pcapng format (draft-ietf-opsawg-pcapng): several interfaces, comments, losses.
//!
//! A file is a list of blocks. Each begins with its type and its length, which is a multiple of 4, and ends with
//! its length. A section header is first; an interface is described before the first packet that was seen on it;
//! after a packet's bytes come options, among them comments that Wireshark shows. Written here: one section, in the
//! machine's byte order, all interfaces Ethernet and with one snap length, or libpcap stops reading.

use super::reader::half;

/// Of what is written here: the machine's.
const BIG_ENDIAN: bool = cfg!(target_endian = "big");

pub(super) const SECTION: u32 = 0x0a0d_0d0a;
pub(super) const BYTE_ORDER: u32 = 0x1a2b_3c4d;
pub(super) const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
pub(super) const PACKET: u32 = 6;
const LINKTYPE_ETHERNET: u16 = 1;

/// Longest option that is written.
const OPTION_MAX: usize = 4096;
/// Largest block that is read: a packet of 256 KiB and its options.
pub const BLOCK_MAX: usize = 1 << 20;

/// Which way a packet went (`epb_flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Into the switch.
    In = 1,
    /// Out of it.
    Out = 2,
}

/// What is said of an interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub description: &'a str,
    /// The filter that was in force, as it was written; empty: none.
    pub filter: &'a str,
}

/// What is said of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of the interface, in the order of their descriptions.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Bytes it had.
    pub original_len: u32,
    /// Those that were captured.
    pub bytes: &'a [u8],
    /// Which way it went.
    pub direction: Direction,
    /// Packets lost since the one before.
    pub lost: u64,
    /// Whatever else is to be known of it.
    pub comment: &'a str,
}

/// What is said of an interface at some moment; the last one counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Number of the interface.
    pub interface: u32,
    /// Nanoseconds since 1970: now.
    pub time: u64,
    /// When the capture began.
    pub began: u64,
    /// Packets seen that were wanted.
    pub received: u64,
    /// Packets of these for which there was no room.
    pub lost: u64,
}

/// Appends the section header: what a file begins with.
pub fn section(out: &mut Vec<u8>, program: &str) {
    block(out, SECTION, |body| {
        put32(body, BYTE_ORDER);
        put16(body, 1);
        put16(body, 0);
        // The section's length is not known yet.
        body.extend_from_slice(&u64::MAX.to_ne_bytes());
        // shb_userappl
        option(body, 4, program.as_bytes());
        end_of_options(body);
    });
}

/// Appends the description of the next interface.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>, snap_len: u32) {
    block(out, INTERFACE, |body| {
        put16(body, LINKTYPE_ETHERNET);
        put16(body, 0);
        put32(body, snap_len);
        // if_name, if_description
        option(body, 2, interface.name.as_bytes());
        option(body, 3, interface.description.as_bytes());
        // if_tsresol: 10^-9 s
        option(body, 9, &[9]);
        if !interface.filter.is_empty() {
            // if_filter: 0 says that it is text.
            let text = [&[0], interface.filter.as_bytes()].concat();
            option(body, 11, &text);
        }
        end_of_options(body);
    });
}

/// Appends a packet.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, PACKET, |body| {
        put32(body, packet.interface);
        time(body, packet.time);
        put32(body, packet.bytes.len() as u32);
        put32(body, packet.original_len);
        body.extend_from_slice(packet.bytes);
        pad(body);
        // epb_flags, epb_dropcount
        option(body, 2, &(packet.direction as u32).to_ne_bytes());
        if packet.lost > 0 {
            option(body, 4, &packet.lost.to_ne_bytes());
        }
        if !packet.comment.is_empty() {
            option(body, 1, packet.comment.as_bytes());
        }
        end_of_options(body);
    });
}

/// Appends statistics.
pub fn statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    block(out, STATISTICS, |body| {
        put32(body, statistics.interface);
        time(body, statistics.time);
        // isb_starttime
        let mut began = Vec::with_capacity(8);
        time(&mut began, statistics.began);
        option(body, 2, &began);
        // isb_ifrecv, isb_ifdrop
        option(body, 4, &statistics.received.to_ne_bytes());
        option(body, 5, &statistics.lost.to_ne_bytes());
        end_of_options(body);
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put32(out, kind);
    put32(out, 0);
    body(out);
    let len = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_ne_bytes());
    put32(out, len);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(OPTION_MAX)];
    put16(body, code);
    put16(body, value.len() as u16);
    body.extend_from_slice(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    put32(body, 0);
}

/// High half first, whatever the byte order.
fn time(body: &mut Vec<u8>, time: u64) {
    put32(body, (time >> 32) as u32);
    put32(body, time as u32);
}

fn pad(body: &mut Vec<u8>) {
    // What precedes is whole words.
    body.resize(body.len().next_multiple_of(4), 0);
}

fn put16(body: &mut Vec<u8>, value: u16) {
    body.extend_from_slice(&value.to_ne_bytes());
}

fn put32(body: &mut Vec<u8>, value: u32) {
    body.extend_from_slice(&value.to_ne_bytes());
}

/// One block of a stream that was written here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block<'a> {
    /// The section header, or the description of an interface: what each file needs at its beginning.
    Header,
    /// A packet.
    Packet {
        /// Number of the interface.
        interface: u32,
        /// Nanoseconds since 1970.
        time: u64,
        /// Bytes it had.
        original_len: u32,
        /// Those that were captured.
        bytes: &'a [u8],
        /// Its options.
        options: &'a [u8],
    },
    /// Anything else, statistics among it.
    Other,
}

/// A block that is too long or too short, or whose two lengths differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a block of the capture claims {0} bytes")]
pub struct NgError(
    /// What it claims.
    pub u32,
);

/// Bytes of the block that these begin with; none if it is not whole yet.
///
/// # Errors
/// It is no block.
pub fn block_len(bytes: &[u8]) -> Result<Option<usize>, NgError> {
    let Some(head) = bytes.first_chunk::<8>() else {
        return Ok(None);
    };
    let claimed = get32(head, 4);
    let len = len_of(claimed)?;
    match bytes.get(..len) {
        None => Ok(None),
        Some(block) if get32(block, len - 4) == claimed => Ok(Some(len)),
        Some(_) => Err(NgError(claimed)),
    }
}

/// Bytes of a block that claims so many.
pub(super) fn len_of(claimed: u32) -> Result<usize, NgError> {
    let len = claimed as usize;
    let is_one = (12..=BLOCK_MAX).contains(&len) && len.is_multiple_of(4);
    is_one.then_some(len).ok_or(NgError(claimed))
}

/// What a whole block is.
pub fn understand(block: &[u8]) -> Block<'_> {
    match get32(block, 0) {
        SECTION | INTERFACE => Block::Header,
        PACKET if block.len() >= 32 => {
            let captured = get32(block, 20) as usize;
            let end = 28 + captured.next_multiple_of(4);
            let (Some(bytes), Some(options)) = (
                block.get(28..28 + captured),
                block.get(end..block.len() - 4),
            ) else {
                return Block::Other;
            };
            Block::Packet {
                interface: get32(block, 8),
                time: u64::from(get32(block, 12)) << 32 | u64::from(get32(block, 16)),
                original_len: get32(block, 24),
                bytes,
                options,
            }
        }
        _ => Block::Other,
    }
}

/// The name in an interface's description; none if it is another block.
pub fn interface_name(block: &[u8]) -> Option<&str> {
    if get32(block, 0) != INTERFACE {
        return None;
    }
    let options = block.get(16..block.len().checked_sub(4)?)?;
    std::str::from_utf8(find_option(options, 2, BIG_ENDIAN)?).ok()
}

/// Number of the interface, packets that were wanted, and those of them that were lost; none if it is no
/// statistics block.
pub fn losses(block: &[u8]) -> Option<(u32, u64, u64)> {
    if get32(block, 0) != STATISTICS {
        return None;
    }
    let options = block.get(20..block.len().checked_sub(4)?)?;
    let count = |code| {
        let value = find_option(options, code, BIG_ENDIAN)?.try_into().ok()?;
        Some(u64::from_ne_bytes(value))
    };
    Some((get32(block, 8), count(4)?, count(5)?))
}

/// A packet's comment.
pub fn comment(options: &[u8]) -> Option<&str> {
    std::str::from_utf8(find_option(options, 1, BIG_ENDIAN)?).ok()
}

/// A packet's direction.
pub fn direction(options: &[u8]) -> Option<Direction> {
    match find_option(options, 2, BIG_ENDIAN)?
        .first_chunk()
        .map(|b| u32::from_ne_bytes(*b) & 3)?
    {
        1 => Some(Direction::In),
        2 => Some(Direction::Out),
        _ => None,
    }
}

/// The value of the first option with this code.
pub(super) fn find_option(mut options: &[u8], code: u16, big_endian: bool) -> Option<&[u8]> {
    loop {
        let header = options.get(..4)?;
        let found = half(header, 0, big_endian);
        let len = usize::from(half(header, 2, big_endian));
        let value = options.get(4..4 + len)?;
        match found {
            0 => return None,
            _ if found == code => return Some(value),
            _ => options = options.get(4 + len.next_multiple_of(4)..)?,
        }
    }
}

fn get32(block: &[u8], at: usize) -> u32 {
    let bytes = block.get(at..at + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut file = Vec::new();
        section(&mut file, "ringway 1.2.3");
        let described = Interface {
            name: "default/web",
            description: "pod",
            filter: "tcp port 80",
        };
        interface(&mut file, &described, 262_144);
        let frame: Vec<u8> = (0..61).collect();
        let written = Packet {
            interface: 0,
            time: 1_700_000_000_123_456_789,
            original_len: 1500,
            bytes: &frame,
            direction: Direction::In,
            lost: 7,
            comment: "dropped: spoofed_mac",
        };
        packet(&mut file, &written);
        let counted = Statistics {
            received: 8,
            lost: 7,
            ..Statistics::default()
        };
        statistics(&mut file, &counted);
        let mut rest = &file[..];
        let mut next = || {
            let len = block_len(rest).unwrap()?;
            let (block, behind) = rest.split_at(len);
            rest = behind;
            Some(block)
        };
        let header = next().unwrap();
        assert_eq!(understand(header), Block::Header);
        assert_eq!(interface_name(header), None);
        assert_eq!(interface_name(next().unwrap()), Some("default/web"));
        let Block::Packet {
            interface: 0,
            time,
            original_len: 1500,
            bytes,
            options,
        } = understand(next().unwrap())
        else {
            panic!("no packet");
        };
        assert_eq!((time, bytes), (written.time, &frame[..]));
        assert_eq!(comment(options), Some(written.comment));
        assert_eq!(direction(options), Some(Direction::In));
        assert_eq!(losses(next().unwrap()), Some((0, 8, 7)));
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let mut good = Vec::new();
        section(&mut good, "x");
        for end in 0..good.len() {
            assert_eq!(block_len(&good[..end]), Ok(None), "{end}");
        }
        for len in [0u32, 11, 13, u32::MAX, (BLOCK_MAX + 4) as u32] {
            let mut bad = good.clone();
            bad[4..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(block_len(&bad), Err(NgError(len)));
        }
        let last = good.len() - 1;
        good[last] ^= 1;
        assert!(block_len(&good).is_err());
        // A packet that claims more than its block has.
        let mut bad = vec![0; 32];
        bad[..4].copy_from_slice(&PACKET.to_ne_bytes());
        bad[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(understand(&bad), Block::Other);
        assert_eq!(comment(&[1, 0, 255, 255, 0]), None);
    }
}
