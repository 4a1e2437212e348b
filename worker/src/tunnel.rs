//! Towards a peer over datagram sockets: segment late, put the tunnel header on, queue.
//!
//! A frame that fits goes as it lies, its tunnel header written into the headroom. A superframe is cut
//! here: headers of every segment are written into the socket's header slab, payload is gathered from
//! where it was read, and the socket sends the whole as one message. Only the fragments of a superframe
//! (IPv4 without DF above the path's MTU, rare) are copied.

use std::ops::Range;

use ringway_encap::outer::TransportSpec;
use ringway_packet::gso::Segmenter;
use ringway_packet::ipv4::Fragmenter;
use ringway_packet::offload::Gso;
use ringway_packet::{checksum, parse};
use ringway_ports::socket::{
    Dest, MAX_DATAGRAMS_PER_MESSAGE, Piece, QueueFull, Src, TxReport, UdpUnderlay,
};
use ringway_ports::{Frame, Pool};
use ringway_switch::{Counters, DropReason, Tunnel};
use ringway_tables::Path;

const ETHERNET: usize = 14;

/// Everything needed to queue frames on one socket.
pub(super) struct Sender<'a> {
    pub(super) socket: &'a mut UdpUnderlay,
    pub(super) pool: &'a mut Pool,
    pub(super) report: &'a mut TxReport,
    pub(super) counters: &'a Counters,
}

impl Sender<'_> {
    /// Queues a frame that the pipeline sent to `path`; `fragment`: above the MTU, cut it by IPv4.
    pub(super) fn send(
        &mut self,
        path: &Path,
        tunnel: &Tunnel,
        frame: &Frame,
        fragment: bool,
    ) -> Result<(), DropReason> {
        let TransportSpec::Udp { dst_port: port, .. } = path.outer.transport();
        let addr = ringway_packet::addr::from_ip(path.dst);
        let to = Way {
            dest: Dest { addr, port },
            tunnel,
            path,
        };
        match (frame.offload.gso, fragment) {
            (Gso::None, false) => self.whole(&to, frame),
            (Gso::None, true) => self.fragments(&to, frame),
            (_, false) => self.segments(&to, frame),
            (_, true) => self.segment_fragments(&to, frame),
        }
    }

    fn push(&mut self, to: &Way<'_>, pieces: &[Piece]) -> Result<(), DropReason> {
        for attempt in 0..2 {
            match self
                .socket
                .push(to.dest, to.tunnel.hash, to.tunnel.tos, pieces)
            {
                Ok(()) => return Ok(()),
                Err(QueueFull) if attempt == 0 => self.socket.flush(self.pool, self.report),
                Err(QueueFull) => break,
            }
        }
        Err(DropReason::UnderlayFull)
    }

    fn whole(&mut self, to: &Way<'_>, frame: &Frame) -> Result<(), DropReason> {
        let start = frame.start as usize;
        let encap = to.path.encap;
        let carried = start + encap.carries().left_behind();
        let first = carried - encap.header_len();
        encap.write_header(&mut self.pool.bytes_mut(frame.buf)[first..carried]);
        let len = start + frame.linear as usize - first;
        let head = Piece {
            src: Src::Pool(frame.buf),
            off: first as u32,
            len: len as u32,
        };
        if frame.tail.count == 0 {
            return self.push(to, &[head]);
        }
        // Only what a peer sent has a tail, and what a peer sent is never tunnelled on.
        Err(DropReason::Unsegmentable)
    }

    fn segments(&mut self, to: &Way<'_>, frame: &Frame) -> Result<(), DropReason> {
        let cut = self.segmenter(frame)?;
        let count = cut.count();
        let stride = to.tunnel_len() + cut.header_len();
        let payload_at = frame.start + cut.header_len() as u32;
        let slice = |i: usize| {
            let range = cut.payload(i);
            (payload_at + range.start as u32, range.len() as u32)
        };
        // As many at a time as make one message; a superframe of tiny segments has more.
        for first in (0..count).step_by(MAX_DATAGRAMS_PER_MESSAGE) {
            let range = first..count.min(first + MAX_DATAGRAMS_PER_MESSAGE);
            self.portion(to, frame, &cut, range, stride, slice)?;
        }
        Ok(())
    }

    fn portion(
        &mut self,
        to: &Way<'_>,
        frame: &Frame,
        cut: &Segmenter,
        range: Range<usize>,
        stride: usize,
        slice: impl Fn(usize) -> (u32, u32),
    ) -> Result<(), DropReason> {
        // All headers first, in one piece of the slab.
        let (slab, mut room, pool) = self.room(to, range.len(), range.len() * stride)?;
        for i in range.clone() {
            let (off, len) = slice(i);
            let payload = pool
                .slice(frame.buf, off, len)
                .ok_or(DropReason::Unsegmentable)?;
            let (header, rest) = room.split_at_mut(stride);
            to.write_tunnel(header);
            cut.write_header(i, checksum::sum(payload), &mut header[to.tunnel_len()..]);
            room = rest;
        }
        // Ethernet stays behind where the tunnel carries bare IP; its room is written but not sent.
        let skip = to.skip();
        for (place, i) in range.enumerate() {
            let (off, len) = slice(i);
            let pieces = [
                Piece {
                    src: Src::Slab,
                    off: slab + (place * stride + skip) as u32,
                    len: (stride - skip) as u32,
                },
                Piece {
                    src: Src::Pool(frame.buf),
                    off,
                    len,
                },
            ];
            self.push_header(to, &pieces)?;
        }
        Ok(())
    }

    fn fragments(&mut self, to: &Way<'_>, frame: &Frame) -> Result<(), DropReason> {
        let (start, linear) = (frame.start as usize, frame.linear as usize);
        if frame.tail.count > 0 {
            return Err(DropReason::Unsegmentable);
        }
        let head = &self.pool.bytes(frame.buf)[start..start + linear];
        let cut = Fragmenter::new(&head[ETHERNET..], usize::from(to.path.mtu))
            .map_err(|_| DropReason::Unsegmentable)?;
        let mut ethernet = [0; ETHERNET];
        ethernet.copy_from_slice(&head[..ETHERNET]);
        let skip = to.skip();
        for i in 0..cut.count() {
            let front = to.tunnel_len() + ETHERNET;
            let stride = front + cut.header_len(i);
            let (at, room, _) = self.room(to, 1, stride)?;
            to.write_tunnel(room);
            room[front - ETHERNET..front].copy_from_slice(&ethernet);
            cut.write_header(i, &mut room[front..]);
            let range = cut.payload(i);
            let pieces = [
                Piece {
                    src: Src::Slab,
                    off: at + skip as u32,
                    len: (stride - skip) as u32,
                },
                Piece {
                    src: Src::Pool(frame.buf),
                    off: (start + ETHERNET + range.start) as u32,
                    len: range.len() as u32,
                },
            ];
            self.push_header(to, &pieces)?;
        }
        Ok(())
    }

    /// Segments that are themselves above the MTU: each is put together in a buffer of its own and
    /// fragmented from there. The only copy of payload on this path.
    fn segment_fragments(&mut self, to: &Way<'_>, frame: &Frame) -> Result<(), DropReason> {
        let cut = self.segmenter(frame)?;
        let scratch = self.pool.alloc().ok_or(DropReason::NoBuffer)?;
        let outcome = (|| {
            for i in 0..cut.count() {
                let range = cut.payload(i);
                let (off, len) = (
                    frame.start + (cut.header_len() + range.start) as u32,
                    range.len(),
                );
                let payload = self
                    .pool
                    .slice(frame.buf, off, len as u32)
                    .ok_or(DropReason::Unsegmentable)?;
                let sum = checksum::sum(payload);
                let body = frame.start as usize + cut.header_len();
                if !self
                    .pool
                    .copy(frame.buf, off as usize, scratch.id(), body, len)
                {
                    return Err(DropReason::Unsegmentable);
                }
                self.counters.copied_bytes.add(len as u64);
                cut.write_header(
                    i,
                    sum,
                    &mut self.pool.bytes_mut(scratch.id())[frame.start as usize..body],
                );
                let bytes = (cut.header_len() + len) as u32;
                let segment = Frame {
                    buf: scratch.id(),
                    linear: bytes,
                    len: bytes,
                    ..*frame
                };
                self.fragments(to, &segment)?;
                // The scratch buffer is used again for the next segment.
                self.socket.flush(self.pool, self.report);
            }
            Ok(())
        })();
        self.pool.free(scratch);
        outcome
    }

    fn segmenter(&self, frame: &Frame) -> Result<Segmenter, DropReason> {
        let (start, linear) = (frame.start as usize, frame.linear as usize);
        let head = &self.pool.bytes(frame.buf)[start..start + linear];
        let parsed =
            parse::parse(head, frame.len as usize).map_err(|_| DropReason::Unsegmentable)?;
        Segmenter::new(head, &parsed, &frame.offload, frame.len as usize)
            .map_err(|_| DropReason::Unsegmentable)
    }

    /// Room in the header slab, and in the queue for so many datagrams of a header and a payload each;
    /// if there is not enough of either, all that is queued is sent first. Gives the pool besides, for
    /// reading.
    fn room(
        &mut self,
        to: &Way<'_>,
        datagrams: usize,
        bytes: usize,
    ) -> Result<(u32, &mut [u8], &Pool), DropReason> {
        let queued = self
            .socket
            .has_room(to.tunnel.hash, datagrams, 2 * datagrams);
        if !queued || !self.socket.has_slab(bytes) {
            self.socket.flush(self.pool, self.report);
        }
        let (at, room) = self.socket.slab(bytes).ok_or(DropReason::UnderlayFull)?;
        Ok((at, room, &*self.pool))
    }

    /// As `push`, for a datagram whose header is in the slab, which a flush would give away. There is
    /// room: see `room`.
    fn push_header(&mut self, to: &Way<'_>, pieces: &[Piece]) -> Result<(), DropReason> {
        self.socket
            .push(to.dest, to.tunnel.hash, to.tunnel.tos, pieces)
            .map_err(|QueueFull| DropReason::UnderlayFull)
    }
}

/// Where a frame goes.
struct Way<'a> {
    dest: Dest,
    tunnel: &'a Tunnel,
    path: &'a Path,
}

impl Way<'_> {
    fn tunnel_len(&self) -> usize {
        self.path.encap.header_len()
    }

    /// Bytes of a header in the slab that are not sent.
    fn skip(&self) -> usize {
        self.path.encap.carries().left_behind()
    }

    fn write_tunnel(&self, out: &mut [u8]) {
        self.path.encap.write_header(out);
    }
}
