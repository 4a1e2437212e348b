//! Towards a peer over a ring: segment late, put the outer headers on, hand the frame to the kernel.
//!
//! A packet goes from the buffer it was read into: outer headers are written into its headroom, and the
//! buffer itself goes into the ring, no byte of payload copied. A superframe is cut here, and each segment's
//! payload is copied once, into a frame of its own, behind its headers. Copied bytes are counted.

use ringway_encap::outer::Fields;
use ringway_packet::checksum;
use ringway_packet::gso::Segmenter;
use ringway_packet::ipv4::Fragmenter;
use ringway_packet::offload::Gso;
use ringway_packet::parse::{self, Parsed};
use ringway_ports::xsk::Xsk;
use ringway_ports::{Batch, Buf, FRAME_SIZE, Frame, HEADROOM, Pool};
use ringway_switch::{Counters, DropReason, InnerSum, Tunnel, encapsulate};
use ringway_tables::{Path, Snapshot};

use super::identification::Identifications;
use super::view::{frame_of, packet_of};

const ETHERNET: usize = 14;

/// What became of a frame that was not sent whole.
pub(super) struct Lost {
    pub(super) reason: DropReason,
    /// Packets of it that were not sent.
    pub(super) packets: u32,
}

/// Everything needed to queue frames on one ring.
pub(super) struct Sender<'a> {
    pub(super) xsk: &'a mut Xsk,
    pub(super) pool: &'a mut Pool,
    pub(super) batch: &'a mut Batch,
    pub(super) counters: &'a Counters,
    pub(super) ids: &'a mut Identifications,
    /// The flow's source port, on which a socket hears what ICMP says.
    pub(super) src_port: u16,
    /// The ring may take the buffer a packet lies in.
    pub(super) may_lend: bool,
}

impl Sender<'_> {
    /// Queues a frame that the pipeline sent to `path`; `fragment`: above the MTU, cut it by IPv4.
    pub(super) fn send(
        &mut self,
        snapshot: &Snapshot,
        path: &Path,
        tunnel: &Tunnel,
        frame: &Frame,
        fragment: bool,
    ) -> Result<(), Lost> {
        let all = |reason| Lost {
            reason,
            packets: u32::from(frame.packets),
        };
        if frame.tail.count > 0 {
            // Only what a peer sent has a tail, and what a peer sent is never tunnelled on.
            return Err(all(DropReason::Unsegmentable));
        }
        match (frame.offload.gso, fragment) {
            (Gso::None, false) => self.whole(snapshot, path, tunnel, frame).map_err(all),
            (Gso::None, true) => self.fragments(path, tunnel, frame).map_err(all),
            (_, _) => self.segments(path, tunnel, frame),
        }
    }

    fn whole(
        &mut self,
        snapshot: &Snapshot,
        path: &Path,
        tunnel: &Tunnel,
        frame: &Frame,
    ) -> Result<(), DropReason> {
        let id = self.identification(path);
        let mut packet = packet_of(self.pool, frame);
        encapsulate(snapshot, tunnel, &mut packet, self.src_port, id)?;
        let frame = frame_of(&packet, frame);
        let (off, len) = (frame.start, frame.len);
        if self.may_lend
            && self.pool.in_one_chunk(frame.buf, off, len)
            && let Some(buf) = self.batch.take(&frame)
        {
            return self.queue(buf, off, len);
        }
        if len as usize > FRAME_SIZE {
            return Err(DropReason::UnderlayTooBig);
        }
        let copy = self.frame()?;
        let copied = self
            .pool
            .copy(frame.buf, off as usize, copy.id(), 0, len as usize);
        self.counters.copied_bytes.add(u64::from(len));
        if !copied {
            self.pool.free(copy);
            return Err(DropReason::Unsegmentable);
        }
        self.queue(copy, 0, len)
    }

    fn segments(&mut self, path: &Path, tunnel: &Tunnel, frame: &Frame) -> Result<(), Lost> {
        let (start, linear) = (frame.start as usize, frame.linear as usize);
        let head = &self.pool.bytes(frame.buf)[start..start + linear];
        let cut = parse::parse(head, frame.len as usize)
            .ok()
            .and_then(|parsed| {
                let cut = Segmenter::new(head, &parsed, &frame.offload, frame.len as usize);
                Some((parsed, cut.ok()?))
            });
        let Some((parsed, cut)) = cut else {
            return Err(Lost {
                reason: DropReason::Unsegmentable,
                packets: u32::from(frame.packets),
            });
        };
        for i in 0..cut.count() {
            // Those before are on their way; a full ring does not drain within one superframe.
            self.segment(path, tunnel, frame, &cut, &parsed, i)
                .map_err(|reason| Lost {
                    reason,
                    packets: (cut.count() - i) as u32,
                })?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        path: &Path,
        tunnel: &Tunnel,
        frame: &Frame,
        cut: &Segmenter,
        parsed: &Parsed,
        i: usize,
    ) -> Result<(), DropReason> {
        let body = HEADROOM + cut.header_len();
        let range = cut.payload(i);
        let (from, len) = (
            frame.start as usize + cut.header_len() + range.start,
            range.len(),
        );
        let buf = self.frame()?;
        if !self.pool.copy(frame.buf, from, buf.id(), body, len) {
            self.pool.free(buf);
            return Err(DropReason::UnderlayTooBig);
        }
        self.counters.copied_bytes.add(len as u64);
        let bytes = self.pool.bytes_mut(buf.id());
        let sum = checksum::sum(&bytes[body..body + len]);
        cut.write_header(i, sum, &mut bytes[HEADROOM..body]);
        // The checksum was just computed: what the outer one needs follows from the headers.
        let inner = path.outer.needs_sum().then(|| {
            let ip_len = (body + len - HEADROOM) as u32 - u32::from(parsed.l3_off);
            let segment = Parsed { ip_len, ..*parsed };
            InnerSum::of(&bytes[HEADROOM..body + len], &segment, 0)
        });
        self.push(path, tunnel, buf, body + len, inner.flatten())
    }

    fn fragments(&mut self, path: &Path, tunnel: &Tunnel, frame: &Frame) -> Result<(), DropReason> {
        let (start, linear) = (frame.start as usize, frame.linear as usize);
        let head = &self.pool.bytes(frame.buf)[start..start + linear];
        let cut = Fragmenter::new(&head[ETHERNET..], usize::from(path.mtu))
            .map_err(|_| DropReason::Unsegmentable)?;
        for i in 0..cut.count() {
            let range = cut.payload(i);
            let len = range.len();
            let body = HEADROOM + ETHERNET + cut.header_len(i);
            let buf = self.frame()?;
            let from = start + ETHERNET + range.start;
            let copied = self
                .pool
                .copy(frame.buf, start, buf.id(), HEADROOM, ETHERNET)
                && self.pool.copy(frame.buf, from, buf.id(), body, len);
            self.counters.copied_bytes.add(len as u64);
            if !copied {
                self.pool.free(buf);
                return Err(DropReason::UnderlayTooBig);
            }
            let bytes = self.pool.bytes_mut(buf.id());
            cut.write_header(i, &mut bytes[HEADROOM + ETHERNET..body]);
            self.push(path, tunnel, buf, body + len, None)?;
        }
        Ok(())
    }

    /// Puts the outer headers before the packet at `HEADROOM..end` of `buf` and queues it. `inner`: its
    /// own checksum is right, and this is where.
    fn push(
        &mut self,
        path: &Path,
        tunnel: &Tunnel,
        buf: Buf,
        end: usize,
        inner: Option<InnerSum>,
    ) -> Result<(), DropReason> {
        let id = self.identification(path);
        let bytes = self.pool.bytes_mut(buf.id());
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
            tos: tunnel.tos,
            id,
        };
        match path.outer.push(bytes, carried, end - carried, fields, sum) {
            Ok(off) => self.queue(buf, off as u32, (end - off) as u32),
            Err(_) => {
                self.pool.free(buf);
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

    fn queue(&mut self, buf: Buf, off: u32, len: u32) -> Result<(), DropReason> {
        self.xsk.transmit(self.pool, buf, off, len).map_err(|buf| {
            self.pool.free(buf);
            DropReason::UnderlayFull
        })
    }

    /// A frame to put a packet into; those sent are taken back first if none is left.
    fn frame(&mut self) -> Result<Buf, DropReason> {
        if self.pool.available_frames() == 0 {
            self.xsk.flush(self.pool);
        }
        self.pool.alloc_frame().ok_or(DropReason::UnderlayFull)
    }
}
