//! The transmit queue of one socket: datagrams as runs of pieces, grouped into messages as they come.
//!
//! A message is one `sendmsg`. It takes another datagram while all of these hold (udp(7), Linux
//! `udp_send_skb`): same destination and TOS, no datagram after the first is longer than the first, only
//! the last is shorter, at most 64 datagrams, 65,507 bytes and 1,024 parts.

use super::Dest;
use crate::pool::BufId;

/// `UDP_MAX_SEGMENTS` of every kernel that has `UDP_SEGMENT` (Linux ≥ 6.9 allows 128).
pub const MAX_DATAGRAMS_PER_MESSAGE: usize = 64;
/// Largest UDP payload over IPv4; segmentation offload is held to it in sum, over IPv6 too.
pub const MAX_MESSAGE_BYTES: usize = 65_507;
/// `UIO_MAXIOV`: parts of one message.
const MAX_PARTS: usize = 1024;
/// Messages queued per socket before it asks for a flush.
const MAX_MESSAGES: usize = 512;
/// Pieces queued per socket before it asks for a flush: a batch of 256 KB in pairs of header and payload
/// needs about 400 at an MTU of 1,500.
const MAX_PIECES: usize = 4096;

/// Where the bytes of a piece are.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Src {
    /// In a pool buffer.
    Pool(BufId),
    /// In the header slab of this flush.
    Slab,
}

/// A run of bytes of a datagram.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Piece {
    /// Which memory.
    pub src: Src,
    /// Offset in it.
    pub off: u32,
    /// Length in bytes.
    pub len: u32,
}

/// The queue has no room for the datagram, or it has more than 1,024 pieces: flush and push again.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("the transmit queue of the underlay is full")]
pub struct QueueFull;

/// One `sendmsg`: datagrams that go out together.
#[derive(Copy, Clone, Debug)]
pub(super) struct Message {
    pub(super) dest: Dest,
    /// First piece, and how many.
    pub(super) first: u32,
    pub(super) parts: u32,
    /// Bytes in sum, and of each datagram but the last.
    pub(super) bytes: u32,
    pub(super) segment: u32,
    pub(super) datagrams: u16,
    pub(super) tos: u8,
    /// No further datagram may join.
    closed: bool,
}

/// The queue of one transmit socket.
#[derive(Debug)]
pub(super) struct Queue {
    messages: Vec<Message>,
    pieces: Vec<Piece>,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            messages: Vec::with_capacity(MAX_MESSAGES),
            pieces: Vec::with_capacity(MAX_PIECES),
        }
    }

    #[inline]
    pub(super) fn push(
        &mut self,
        dest: Dest,
        tos: u8,
        pieces: &[Piece],
        gso: bool,
    ) -> Result<(), QueueFull> {
        let parts = pieces.len();
        if parts > MAX_PARTS || self.pieces.len() + parts > MAX_PIECES {
            return Err(QueueFull);
        }
        // Lengths that overflow end up as a datagram of 4 GB, which the kernel refuses.
        let len = pieces
            .iter()
            .fold(0u32, |sum, piece| sum.saturating_add(piece.len));
        if gso && let Some(last) = self.messages.last_mut() {
            let joins = !last.closed
                && len <= last.segment
                && len > 0
                && last.bytes as usize + len as usize <= MAX_MESSAGE_BYTES
                && last.parts as usize + parts <= MAX_PARTS
                && last.dest == dest
                && last.tos == tos;
            if joins {
                last.parts += parts as u32;
                last.bytes += len;
                last.datagrams += 1;
                last.closed =
                    len < last.segment || usize::from(last.datagrams) == MAX_DATAGRAMS_PER_MESSAGE;
                self.pieces.extend_from_slice(pieces);
                return Ok(());
            }
        }
        if self.messages.len() == MAX_MESSAGES {
            return Err(QueueFull);
        }
        let first = self.pieces.len() as u32;
        self.pieces.extend_from_slice(pieces);
        self.messages.push(Message {
            dest,
            first,
            parts: parts as u32,
            bytes: len,
            segment: len,
            datagrams: 1,
            tos,
            closed: false,
        });
        Ok(())
    }

    /// Whether so many datagrams of so many pieces in all can be pushed, however they are grouped.
    #[inline]
    pub(super) fn has_room(&self, datagrams: usize, pieces: usize) -> bool {
        self.messages.len() + datagrams <= MAX_MESSAGES && self.pieces.len() + pieces <= MAX_PIECES
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(super) fn pieces(&self, message: &Message) -> &[Piece] {
        &self.pieces[message.first as usize..][..message.parts as usize]
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.pieces.clear();
    }
}

impl Message {
    /// The datagrams of a message one by one, as runs of its pieces: (first piece, pieces, bytes). A
    /// datagram always begins with a piece, for pieces are pushed datagram by datagram.
    pub(super) fn singles<'a>(&'a self, pieces: &'a [Piece]) -> impl Iterator<Item = Message> + 'a {
        let mut next = 0;
        let mut left = self.datagrams;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let first = next;
            let mut bytes = 0u32;
            while next < pieces.len() && (bytes < self.segment || pieces[next].len == 0) {
                bytes = bytes.saturating_add(pieces[next].len);
                next += 1;
            }
            if left == 0 {
                next = pieces.len();
            }
            Some(Message {
                first: self.first + first as u32,
                parts: (next - first) as u32,
                bytes,
                segment: bytes,
                datagrams: 1,
                closed: true,
                ..*self
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEST: Dest = Dest {
        addr: 0xffff_0a00_0001,
        port: 8472,
    };

    fn piece(len: u32) -> Piece {
        Piece {
            src: Src::Slab,
            off: 0,
            len,
        }
    }

    fn shapes(queue: &Queue) -> Vec<(u16, u32, u32)> {
        queue
            .messages()
            .iter()
            .map(|m| (m.datagrams, m.segment, m.bytes))
            .collect()
    }

    #[test]
    fn equal_datagrams_become_one_message_and_a_short_one_ends_it() {
        let mut queue = Queue::new();
        for len in [100, 100, 60, 100, 120, 120] {
            queue
                .push(DEST, 0, &[piece(8), piece(len - 8)], true)
                .unwrap();
        }
        assert_eq!(
            shapes(&queue),
            [(3, 100, 260), (1, 100, 100), (2, 120, 240)]
        );
    }

    #[test]
    fn destination_tos_and_missing_offload_keep_apart() {
        let mut queue = Queue::new();
        queue.push(DEST, 0, &[piece(100)], true).unwrap();
        queue
            .push(Dest { port: 1, ..DEST }, 0, &[piece(100)], true)
            .unwrap();
        queue
            .push(Dest { port: 1, ..DEST }, 2, &[piece(100)], true)
            .unwrap();
        queue
            .push(Dest { port: 1, ..DEST }, 2, &[piece(100)], false)
            .unwrap();
        assert_eq!(shapes(&queue), [(1, 100, 100); 4]);
    }

    #[test]
    fn messages_are_bounded_by_datagrams_bytes_and_parts() {
        let mut queue = Queue::new();
        for _ in 0..65 {
            queue.push(DEST, 0, &[piece(10)], true).unwrap();
        }
        assert_eq!(shapes(&queue), [(64, 10, 640), (1, 10, 10)]);
        let mut queue = Queue::new();
        for _ in 0..7 {
            queue.push(DEST, 0, &[piece(10_000)], true).unwrap();
        }
        assert_eq!(shapes(&queue), [(6, 10_000, 60_000), (1, 10_000, 10_000)]);
        let mut queue = Queue::new();
        for _ in 0..2 {
            queue.push(DEST, 0, &[piece(1); 1000], true).unwrap();
        }
        assert_eq!(queue.messages().len(), 2);
        assert_eq!(queue.push(DEST, 0, &[piece(1); 1025], true), Err(QueueFull));
    }

    #[test]
    fn fills_up_without_growing() {
        let mut queue = Queue::new();
        let mut pushed = 0;
        while queue.push(DEST, 0, &[piece(10)], false).is_ok() {
            pushed += 1;
        }
        assert_eq!(
            (pushed, queue.messages.capacity()),
            (MAX_MESSAGES, MAX_MESSAGES)
        );
        let mut queue = Queue::new();
        while queue.push(DEST, 0, &[piece(10); 100], true).is_ok() {}
        assert_eq!(queue.pieces.capacity(), MAX_PIECES);
        queue.clear();
        assert!(queue.push(DEST, 0, &[piece(10)], true).is_ok());
    }

    #[test]
    fn empty_datagrams_and_absurd_lengths_stay_alone() {
        let mut queue = Queue::new();
        queue.push(DEST, 0, &[], true).unwrap();
        queue.push(DEST, 0, &[], true).unwrap();
        queue
            .push(DEST, 0, &[piece(u32::MAX), piece(u32::MAX)], true)
            .unwrap();
        queue
            .push(DEST, 0, &[piece(u32::MAX), piece(u32::MAX)], true)
            .unwrap();
        assert_eq!(queue.messages().len(), 4);
    }

    #[test]
    fn a_message_comes_apart_as_it_was_pushed() {
        let mut queue = Queue::new();
        queue.push(DEST, 0, &[piece(8), piece(92)], true).unwrap();
        queue.push(DEST, 0, &[piece(100)], true).unwrap();
        queue.push(DEST, 0, &[piece(50), piece(50)], true).unwrap();
        queue
            .push(DEST, 0, &[piece(8), piece(1), piece(1)], true)
            .unwrap();
        let message = queue.messages()[0];
        assert_eq!(queue.messages().len(), 1);
        let singles: Vec<_> = message
            .singles(queue.pieces(&message))
            .map(|m| (m.first, m.parts, m.bytes))
            .collect();
        assert_eq!(singles, [(0, 2, 100), (2, 1, 100), (3, 2, 100), (5, 3, 10)]);
    }
}
