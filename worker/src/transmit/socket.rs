//! By a datagram socket.
//!
//! A frame that fits goes as it lies, its tunnel header written into the headroom. Of a part, the headers
//! are written into the socket's header slab and the payload is gathered from where it was read; the socket
//! sends runs of equal parts as one message.

use ringway_encap::outer::TransportSpec;
use ringway_packet::addr::from_ip;
use ringway_ports::socket::{Dest, Piece, QueueFull, Src, TxReport, UdpUnderlay};
use ringway_ports::{Frame, Pool};
use ringway_switch::{Counters, DropReason};

use super::cut::Cut;
use super::{Carrier, Outgoing};
use crate::observe::{Outer, Watch};

/// Everything needed to queue packets on one socket.
pub(crate) struct SocketCarrier<'a, W> {
    pub(crate) socket: &'a mut UdpUnderlay,
    pub(crate) pool: &'a mut Pool,
    pub(crate) report: &'a mut TxReport,
    pub(crate) counters: &'a Counters,
    pub(crate) watch: &'a mut W,
}

impl<W: Watch> Carrier for SocketCarrier<'_, W> {
    fn memory(&mut self) -> (&mut Pool, &Counters) {
        (self.pool, self.counters)
    }

    #[inline]
    fn whole(&mut self, out: &Outgoing<'_>) -> Result<(), DropReason> {
        let frame = out.frame;
        let (start, encap) = (frame.start as usize, out.path.encap);
        let carried = start + encap.carries().left_behind();
        let first = carried - encap.header_len();
        encap.write_header(&mut self.pool.bytes_mut(frame.buf)[first..carried]);
        let head = Piece {
            src: Src::Pool(frame.buf),
            off: first as u32,
            len: (start + frame.linear as usize - first) as u32,
        };
        if W::ON {
            let bytes = self.pool.slice(frame.buf, head.off, head.len);
            let src_port = self.socket.source_port(out.tunnel.hash);
            observe(self.watch, out, src_port, &[bytes.unwrap_or(&[])]);
        }
        for attempt in 0..2 {
            match self.push(out, &[head]) {
                Ok(()) => return Ok(()),
                Err(QueueFull) if attempt == 0 => self.settle(),
                Err(QueueFull) => break,
            }
        }
        Err(DropReason::UnderlayFull)
    }

    fn reserve(&mut self, out: &Outgoing<'_>, parts: usize, header_bytes: usize) {
        let bytes = header_bytes + parts * out.path.encap.header_len();
        let queued = self.socket.has_room(out.tunnel.hash, parts, 2 * parts);
        if !queued || !self.socket.has_slab(bytes) {
            self.settle();
        }
    }

    #[inline]
    fn part(
        &mut self,
        out: &Outgoing<'_>,
        frame: &Frame,
        cut: &Cut,
        i: usize,
    ) -> Result<(), DropReason> {
        let encap = out.path.encap;
        let (tunnel, range) = (encap.header_len(), cut.payload(i));
        let len = tunnel + cut.header_len(i);
        let src_port = if W::ON {
            self.socket.source_port(out.tunnel.hash)
        } else {
            0
        };
        let (slab, room) = self.socket.slab(len).ok_or(DropReason::UnderlayFull)?;
        let body = Piece {
            src: Src::Pool(frame.buf),
            off: frame.start + range.start as u32,
            len: range.len() as u32,
        };
        let payload = self
            .pool
            .slice(frame.buf, body.off, body.len)
            .ok_or(DropReason::Unsegmentable)?;
        encap.write_header(room);
        cut.write_header(i, payload, &mut room[tunnel..]);
        // Ethernet stays behind where the tunnel carries bare IP; its room is written but not sent.
        let skip = encap.carries().left_behind();
        if W::ON {
            observe(self.watch, out, src_port, &[&room[skip..], payload]);
        }
        let header = Piece {
            src: Src::Slab,
            off: slab + skip as u32,
            len: (len - skip) as u32,
        };
        // Not flushed and tried again: that would give the slab away. `reserve` has seen to it.
        self.push(out, &[header, body])
            .map_err(|QueueFull| DropReason::UnderlayFull)
    }

    fn settle(&mut self) {
        self.socket.flush(self.pool, self.report);
    }
}

impl<W> SocketCarrier<'_, W> {
    #[inline]
    fn push(&mut self, out: &Outgoing<'_>, pieces: &[Piece]) -> Result<(), QueueFull> {
        let TransportSpec::Udp { dst_port: port, .. } = out.path.outer.transport();
        let addr = from_ip(out.path.dst);
        let dest = Dest { addr, port };
        let (hash, tos) = (out.tunnel.hash, out.tunnel.tos);
        self.socket.push(dest, hash, tos, pieces)
    }
}

fn observe<W: Watch>(watch: &mut W, out: &Outgoing<'_>, src_port: u16, pieces: &[&[u8]]) {
    watch.outer(&Outer {
        path: out.path,
        tunnel: out.tunnel,
        src_port,
        whole: false,
        pieces,
    });
}
