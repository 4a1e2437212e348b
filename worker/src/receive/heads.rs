//! Headers in a place of their own, for a frame whose headroom is the end of another.

use ringway_packet::parse::Parsed;
use ringway_ports::socket::Received;
use ringway_ports::{BufId, Frame, HEADROOM, Pool, Slice};

/// Bytes of a frame that move along with its headers, if it has as many: what an ICMP error may quote.
const HEAD: usize = 256;
const CACHE_LINE: usize = 64;

/// The buffer that the next head goes into; those used up are with what was received.
#[derive(Default)]
pub(super) struct Heads {
    buf: Option<BufId>,
    used: usize,
}

impl Heads {
    /// Forgets the buffer, which was given back.
    pub(super) fn clear(&mut self) {
        *self = Heads::default();
    }

    /// A place for `len` bytes with headroom before them: its buffer, and where they begin. `None` if the
    /// pool has no buffer.
    pub(super) fn place(
        &mut self,
        pool: &mut Pool,
        received: &mut Received,
        len: usize,
    ) -> Option<(BufId, usize)> {
        let end = HEADROOM + len;
        let buf = match self.buf {
            Some(buf) if self.used + end <= pool.bytes(buf).len() => buf,
            _ => {
                let new = pool.alloc()?;
                let id = new.id();
                received.buffers.push(new);
                *self = Heads {
                    buf: Some(id),
                    used: 0,
                };
                id
            }
        };
        let at = self.used + HEADROOM;
        self.used = (at + len).next_multiple_of(CACHE_LINE);
        Some((buf, at))
    }

    /// Moves the linear part of a frame. Without a buffer it stays where it is: what lies before it may then
    /// be written over.
    pub(super) fn move_head(
        &mut self,
        frame: &mut Frame,
        pool: &mut Pool,
        received: &mut Received,
    ) {
        let (start, len) = (frame.start as usize, frame.linear as usize);
        let Some((buf, at)) = self.place(pool, received, len) else {
            return;
        };
        if pool.copy(frame.buf, start, buf, at, len) {
            (frame.buf, frame.start) = (buf, at as u32);
        }
    }
}

/// What of the linear part of a frame need not move, if anything.
pub(super) fn rest(frame: &Frame, parsed: &Parsed) -> Option<Slice> {
    let head = (HEAD as u32).max(parsed.payload_off.into());
    let len = frame.linear.checked_sub(head).filter(|len| *len > 0)?;
    Some(Slice {
        buf: frame.buf,
        off: frame.start + head,
        len,
    })
}
