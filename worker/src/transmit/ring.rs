//! By a ring.
//!
//! A packet goes from the buffer it was read into: outer headers are written into its headroom, and the
//! buffer itself goes into the ring, no byte of payload copied. The payload of a part is copied once, into a
//! frame of its own, behind its headers. Copied bytes are counted.

use ringway_encap::outer::Fields;
use ringway_packet::checksum;
use ringway_ports::{Buf, FRAME_SIZE, Frame, HEADROOM, Pool};
use ringway_switch::{Counters, DropReason, InnerSum, encapsulate};
use ringway_tables::Path;

use super::cut::Cut;
use super::{Carrier, Outgoing};
use crate::buffers::Buffers;
use crate::devices::Ring;
use crate::identification::Identifications;
use crate::observe::{Outer, Watch};
use crate::packet::{frame_of, packet_of};

/// Everything needed to queue frames on one ring.
pub(crate) struct RingCarrier<'a, R, W> {
    pub(crate) ring: &'a mut R,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) counters: &'a Counters,
    pub(crate) ids: &'a mut Identifications,
    /// The flow's source port, on which a socket hears what ICMP says.
    pub(crate) src_port: u16,
    /// The ring may take the buffer a packet lies in.
    pub(crate) may_lend: bool,
    pub(crate) watch: &'a mut W,
}

impl<R: Ring, W: Watch> Carrier for RingCarrier<'_, R, W> {
    fn memory(&mut self) -> (&mut Pool, &Counters) {
        (&mut self.buffers.pool, self.counters)
    }

    #[inline]
    fn whole(&mut self, out: &Outgoing<'_>) -> Result<(), DropReason> {
        let id = self.identification(out.path);
        let Buffers { pool, batch, .. } = &mut *self.buffers;
        let mut packet = packet_of(pool, out.frame);
        encapsulate(out.path, out.tunnel, &mut packet, self.src_port, id)?;
        let frame = frame_of(&packet, out.frame);
        let (off, len) = (frame.start, frame.len);
        if self.may_lend
            && pool.in_one_chunk(frame.buf, off, len)
            && let Some(buf) = batch.take(&frame)
        {
            return self.queue(out, buf, off, len);
        }
        if len as usize > FRAME_SIZE {
            return Err(DropReason::UnderlayTooBig);
        }
        let copy = self.frame()?;
        let pool = &mut self.buffers.pool;
        let copied = pool.copy(frame.buf, off as usize, copy.id(), 0, len as usize);
        self.counters.copied_bytes.add(u64::from(len));
        if !copied {
            pool.free(copy);
            return Err(DropReason::Unsegmentable);
        }
        self.queue(out, copy, 0, len)
    }

    /// Nothing to do: [`frame`](Self::frame) makes room, and a full ring does not drain within one frame.
    fn reserve(&mut self, _: &Outgoing<'_>, _: usize, _: usize) {}

    fn part(
        &mut self,
        out: &Outgoing<'_>,
        frame: &Frame,
        cut: &Cut,
        i: usize,
    ) -> Result<(), DropReason> {
        let body = HEADROOM + cut.header_len(i);
        let range = cut.payload(i);
        let (from, len) = (frame.start as usize + range.start, range.len());
        let buf = self.frame()?;
        let pool = &mut self.buffers.pool;
        if !pool.copy(frame.buf, from, buf.id(), body, len) {
            pool.free(buf);
            return Err(DropReason::UnderlayTooBig);
        }
        self.counters.copied_bytes.add(len as u64);
        let packet = &mut pool.bytes_mut(buf.id())[HEADROOM..body + len];
        let (header, payload) = packet.split_at_mut(body - HEADROOM);
        cut.write_header(i, payload, header);
        // The checksum was just computed: what the outer one needs follows from the headers.
        let inner = out.path.outer.needs_sum().then(|| cut.inner_sum(packet));
        self.encapsulate(out, buf, body + len, inner.flatten())
    }

    /// Nothing to do: payload was copied.
    fn settle(&mut self) {}
}

impl<R: Ring, W: Watch> RingCarrier<'_, R, W> {
    /// Puts the outer headers before the packet at `HEADROOM..end` of `buf` and queues it. `inner`: its
    /// own checksum is right, and this is where.
    fn encapsulate(
        &mut self,
        out: &Outgoing<'_>,
        buf: Buf,
        end: usize,
        inner: Option<InnerSum>,
    ) -> Result<(), DropReason> {
        let path = out.path;
        let id = self.identification(path);
        let bytes = self.buffers.pool.bytes_mut(buf.id());
        let skip = path.encap.carries().left_behind();
        let carried = HEADROOM + skip;
        let sum = path.outer.needs_sum().then(|| {
            let frame = &bytes[HEADROOM..end];
            let all = inner.and_then(|inner| inner.finished(frame));
            // Without its Ethernet header, if that stays behind.
            match (all, skip) {
                (Some(sum), 0) => sum,
                (Some(sum), _) => {
                    sum + checksum::Sum::of16(!checksum::fold(checksum::sum(&frame[..skip])))
                }
                (None, _) => checksum::sum(&frame[skip..]),
            }
        });
        let fields = Fields {
            src_port: self.src_port,
            tos: out.tunnel.tos,
            id,
        };
        match path.outer.push(bytes, carried, end - carried, fields, sum) {
            Ok(off) => self.queue(out, buf, off as u32, (end - off) as u32),
            Err(_) => {
                self.buffers.pool.free(buf);
                Err(DropReason::NoBuffer)
            }
        }
    }

    #[inline]
    fn identification(&mut self, path: &Path) -> u16 {
        if path.outer.may_fragment() {
            self.ids.next(path.dst)
        } else {
            0
        }
    }

    #[inline]
    fn queue(
        &mut self,
        out: &Outgoing<'_>,
        buf: Buf,
        off: u32,
        len: u32,
    ) -> Result<(), DropReason> {
        let pool = &mut self.buffers.pool;
        if W::ON {
            self.watch.outer(&Outer {
                path: out.path,
                tunnel: out.tunnel,
                src_port: self.src_port,
                whole: true,
                pieces: &[pool.slice(buf.id(), off, len).unwrap_or(&[])],
            });
        }
        self.ring.transmit(pool, buf, off, len).map_err(|buf| {
            pool.free(buf);
            DropReason::UnderlayFull
        })
    }

    /// A frame to put a packet into; those sent are taken back first if none is left.
    fn frame(&mut self) -> Result<Buf, DropReason> {
        let pool = &mut self.buffers.pool;
        if pool.available_frames() == 0 {
            self.ring.flush(pool);
        }
        pool.alloc_frame().ok_or(DropReason::UnderlayFull)
    }
}
