//! From a peer: take the tunnel header off, coalesce early, then the pipeline.
//!
//! ```text
//!   recvmmsg ▶ buffers, each with datagrams of one size ─┐
//!   ring ▶ frames ▶ outer headers off, checksum verified ┴▶ open ▶ parse ▶ offer to the coalescer
//!            ▶ leaders in order of arrival: gather tail, rewrite head ▶ pipeline, once per superframe
//! ```
//!
//! A message may also be one datagram with a superpacket in it, of a kernel's VXLAN device over a link
//! that passes such (veth). It then goes on as the superframe it is: see [`split`] and `superframe.rs`.
//!
//! Nothing is held back beyond one batch. Within a flow the order of arrival is kept; flows overtake
//! each other by at most a batch.
//!
//! A bare IP packet (UDP encapsulation) is given its Ethernet header in the 14 bytes before it. From the
//! second datagram of a buffer on those are the end of the datagram before, so its headers move to a place
//! of their own (`heads.rs`).

mod heads;
mod superframe;

use ringway_encap::outer::Outer;
use ringway_encap::split::split;
use ringway_encap::{Carries, Encap};
use ringway_packet::checksum;
use ringway_packet::gro::{Coalescer, Offer};
use ringway_packet::gso::Segmenter;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::Parsed;
use ringway_ports::socket::{Datagrams, Received};
use ringway_ports::xsk::RxFrame;
use ringway_ports::{Batch, Frame, Pool, SHARED, Slice, Tail};
use ringway_switch::{
    DropReason, InnerSum, Pipeline, congestion, outer_checksum, put_ethernet, reason_of, untag,
};
use ringway_tables::{PeerId, Snapshot};

use heads::Heads;
use superframe::{MAX_CUT, segment_size};

use super::packet::{frame_of, packet_of};

/// Most inner frames of one receive: 64 messages of 64 segments.
const MAX_INNER: usize = 4096;
const NONE: u32 = u32::MAX;
const ETHERNET: usize = 14;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;

/// An inner frame on its way to the pipeline.
#[derive(Clone, Copy)]
struct Inner {
    frame: Frame,
    parsed: Parsed,
    peer: PeerId,
    tos: u8,
    encap: Encap,
    /// Next frame that joined the same leader.
    next: u32,
    /// Last frame that joined, of a leader.
    last: u32,
    joined: bool,
    /// The coalescer knows it: it leads a group, of one at least.
    leads: bool,
    /// What lies before it is another's.
    behind: bool,
    /// Which superframe it is to be cut from, and as which segment: `at << 16 | i`; or `NONE`.
    cut: u32,
}

impl Inner {
    /// One by itself.
    #[inline]
    fn of(frame: Frame, parsed: Parsed, peer: PeerId, tos: u8, encap: Encap) -> Inner {
        Inner {
            frame,
            parsed,
            peer,
            tos,
            encap,
            next: NONE,
            last: NONE,
            joined: false,
            leads: false,
            behind: false,
            cut: NONE,
        }
    }
}

/// A frame ready for the pipeline, and what is known about it.
pub(super) struct Opened {
    pub(super) frame: Frame,
    pub(super) parsed: Option<Parsed>,
    pub(super) peer: PeerId,
    pub(super) tos: u8,
    pub(super) encap: Encap,
}

/// What is to be known about the socket that was read.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// What its datagrams carry.
    pub(super) encap: Encap,
    /// UDP runs may become superframes: every TAP takes them.
    pub(super) uso: bool,
    /// Checksums may be unfinished.
    pub(super) unfinished: bool,
}

/// Scratch of the receive side, reused.
pub(super) struct Opener {
    pub(super) received: Received,
    coalescer: Coalescer,
    inners: Vec<Inner>,
    tail: Vec<Slice>,
    heads: Heads,
    /// Superframes of this batch that are to be cut.
    cut: Vec<Segmenter>,
}

impl Opener {
    pub(super) fn new() -> Opener {
        Opener {
            received: Received::new(),
            coalescer: Coalescer::new(),
            inners: Vec::with_capacity(MAX_INNER),
            tail: Vec::with_capacity(MAX_INNER),
            heads: Heads::default(),
            cut: Vec::with_capacity(MAX_CUT),
        }
    }

    /// Opens what was received and coalesces it. `uso`: UDP runs may become superframes.
    pub(super) fn open(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &Pipeline,
        pool: &mut Pool,
        kind: Kind,
    ) {
        self.begin();
        for at in 0..self.received.datagrams.len() {
            let datagrams = self.received.datagrams[at];
            self.open_message(snapshot, pipeline, pool, &datagrams, kind, None);
        }
    }

    /// As `open`, for whole frames from a ring: their outer headers are taken off here, and their
    /// buffers join those of `received`. What their UDP port tells replaces the encapsulation of `kind`.
    pub(super) fn open_frames(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &Pipeline,
        pool: &mut Pool,
        frames: &mut Vec<RxFrame>,
        kind: Kind,
    ) {
        self.begin();
        for RxFrame { buf, off, len } in frames.drain(..) {
            let bytes = pool.slice(buf.id(), off, len).unwrap_or(&[]);
            match pipeline.outer(snapshot, bytes) {
                Ok((outer, encap)) => {
                    let len = outer.payload_len as u32;
                    let datagram = Datagrams {
                        buf: buf.id(),
                        start: off + outer.payload_off as u32,
                        len,
                        segment: len.max(1),
                        source: outer.src,
                        source_port: outer.src_port,
                        tos: outer.tos,
                    };
                    let kind = Kind { encap, ..kind };
                    self.open_message(snapshot, pipeline, pool, &datagram, kind, Some(&outer));
                }
                Err(reason) => pipeline.refuse(reason, 1, None),
            }
            self.received.buffers.push(buf);
        }
    }

    fn begin(&mut self) {
        self.inners.clear();
        self.cut.clear();
        self.heads.clear();
        self.coalescer.begin();
    }

    fn open_message(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &Pipeline,
        pool: &mut Pool,
        d: &Datagrams,
        kind: Kind,
        outer: Option<&Outer>,
    ) {
        let message = pool.slice(d.buf, d.start, d.len).unwrap_or(&[]);
        let split = split(kind.encap, message, d.segment as usize);
        // The kernel has it in 16 bits.
        let segment = split.is_superframe().then_some(d.segment as u16);
        for range in split {
            let (off, len) = (d.start + range.start as u32, range.len() as u32);
            let payload = pool.slice(d.buf, off, len).unwrap_or(&[]);
            match pipeline.open(snapshot, d.source, kind.encap, payload) {
                Ok(peer) => {
                    let datagram = (off, len, segment);
                    self.add(snapshot, pool, pipeline, d, datagram, peer, kind, outer);
                }
                Err((peer, reason)) => pipeline.refuse(reason, 1, peer),
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        snapshot: &Snapshot,
        pool: &mut Pool,
        pipeline: &Pipeline,
        d: &Datagrams,
        (off, len, segment): (u32, u32, Option<u16>),
        peer: PeerId,
        kind: Kind,
        outer: Option<&Outer>,
    ) {
        let Kind {
            encap,
            uso,
            unfinished,
        } = kind;
        let header = encap.header_len() as u32;
        let (off, len) = (off + header, len - header);
        let head = pool.slice(d.buf, off, len).unwrap_or(&[]);
        let parsed = encap.carries().parse(head, head.len());
        let partial = match &parsed {
            Ok(parsed) if unfinished => unfinished_checksum(head, parsed),
            _ => None,
        };
        if let Some(outer) = outer.filter(|outer| outer.checksum != 0) {
            let inner = match &parsed {
                Ok(parsed) if partial.is_some() => InnerSum::of(head, parsed, header as usize),
                _ => None,
            };
            let payload = pool.slice(d.buf, d.start, d.len).unwrap_or(&[]);
            if let Err(reason) = outer_checksum(outer, payload, unfinished, inner) {
                return pipeline.refuse(reason, 1, Some(peer));
            }
        }
        let mut parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return pipeline.refuse(reason_of(&error), 1, Some(peer)),
        };
        if self.inners.len() == MAX_INNER {
            return pipeline.refuse(DropReason::NoBuffer, 1, Some(peer));
        }
        let id = self.inners.len() as u32;
        let mut frame = Frame {
            buf: d.buf,
            start: off,
            linear: len,
            len,
            tail: Tail::default(),
            offload: Default::default(),
            packets: 1,
            port: 0,
            slot: SHARED,
        };
        if let Some(partial) = partial {
            frame.offload.checksum = partial;
        }
        if parsed.vlan_tags > 0 {
            take_tags_off(pool, &mut frame, &mut parsed);
        }
        let (off, len) = (frame.start, frame.linear);
        let head = pool.slice(d.buf, off, len).unwrap_or(&[]);
        // A frame that will be refused must not hide behind a leader that will not, and a congestion
        // mark must be in the inner header before the coalescer compares.
        let admitted = pipeline.admits(snapshot, peer, encap, head, &parsed)
            && carry_congestion(d.tos, pool, &mut frame, &mut parsed);
        let head = pool.slice(d.buf, off, len).unwrap_or(&[]);
        let long = parsed.proto == PROTO_TCP && parsed.ip_len > u32::from(snapshot.least_mtu());
        if long || segment.is_some() {
            let added = match segment_size(snapshot, head, &parsed, segment) {
                Ok(Some(size)) if admitted => {
                    let inner = Inner::of(frame, parsed, peer, d.tos, encap);
                    self.add_superframe(pool, inner, size, uso)
                }
                Ok(_) => Ok(false),
                Err(reason) => Err(reason),
            };
            match added {
                Ok(true) => return,
                Ok(false) => {}
                Err(reason) => return pipeline.refuse(reason, 1, Some(peer)),
            }
        }
        let head = pool.slice(d.buf, off, len).unwrap_or(&[]);
        let offer = if !admitted || parsed.proto == PROTO_UDP && !uso {
            Offer::Alone
        } else {
            let payload = payload_of(head, &parsed);
            self.coalescer
                .offer(id, head, &parsed, head.len(), payload, partial.is_some())
        };
        let joined = match offer {
            Offer::Joined { leader } => {
                let last = std::mem::replace(&mut self.inners[leader as usize].last, id);
                self.inners[last as usize].next = id;
                true
            }
            Offer::First | Offer::Alone => false,
        };
        self.inners.push(Inner {
            last: id,
            joined,
            leads: matches!(offer, Offer::First),
            behind: off != d.start + header && encap.carries() == Carries::Packets,
            ..Inner::of(frame, parsed, peer, d.tos, encap)
        });
    }

    /// Frames of the last `open`, joined ones included.
    pub(super) fn len(&self) -> usize {
        self.inners.len()
    }

    /// Bytes and headers of each.
    pub(super) fn seen(&self) -> impl Iterator<Item = (u32, Option<Parsed>)> {
        self.inners
            .iter()
            .map(|inner| (inner.frame.len, Some(inner.parsed)))
    }

    /// Frame `i` ready for the pipeline, its tail entered in `batch`; `None` for one that joined
    /// another.
    pub(super) fn take(
        &mut self,
        i: usize,
        snapshot: &Snapshot,
        pool: &mut Pool,
        batch: &mut Batch,
    ) -> Option<Opened> {
        let inner = self.inners[i];
        if inner.joined {
            return None;
        }
        let mut frame = inner.frame;
        let mut parsed = inner.parsed;
        let range = frame.start as usize..(frame.start + frame.linear) as usize;
        if inner.next != NONE {
            self.gather(&mut frame, &mut parsed, i, pool, batch, range);
        } else if inner.leads && frame.offload.checksum == Checksum::Complete {
            frame.offload = self
                .coalescer
                .finish(i as u32, &mut pool.bytes_mut(frame.buf)[range]);
        } else if inner.cut != NONE {
            self.write_headers(inner.cut, &mut frame, &parsed, pool, batch);
        }
        if inner.behind {
            if inner.next == NONE
                && let Some(rest) = heads::rest(&frame, &parsed)
                && let Some(tail) = batch.push_tail(&[rest])
            {
                (frame.tail, frame.linear) = (tail, frame.linear - rest.len);
            }
            self.heads.move_head(&mut frame, pool, &mut self.received);
        }
        let mut opened = Opened {
            frame,
            parsed: Some(parsed),
            peer: inner.peer,
            tos: inner.tos,
            encap: inner.encap,
        };
        if inner.encap.carries() == Carries::Packets {
            give_ethernet(&mut opened, snapshot, pool);
        }
        Some(opened)
    }

    fn gather(
        &mut self,
        frame: &mut Frame,
        parsed: &mut Parsed,
        leader: usize,
        pool: &mut Pool,
        batch: &mut Batch,
        head: std::ops::Range<usize>,
    ) {
        self.tail.clear();
        // Padding behind the leader's IP packet must not come between the payloads.
        let mut length = u32::from(parsed.l3_off) + parsed.ip_len;
        frame.linear = length;
        let behind = self.inners[leader].behind;
        let rest = behind.then(|| heads::rest(frame, parsed)).flatten();
        self.tail.extend(rest);
        let mut packets = 1;
        let mut next = self.inners[leader].next;
        while let Some(inner) = self.inners.get(next as usize) {
            let from = u32::from(inner.parsed.payload_off);
            let bytes = u32::from(inner.parsed.l3_off) + inner.parsed.ip_len - from;
            self.tail.push(Slice {
                buf: inner.frame.buf,
                off: inner.frame.start + from,
                len: bytes,
            });
            length += bytes;
            packets += 1;
            next = inner.next;
        }
        let Some(tail) = batch.push_tail(&self.tail) else {
            // Cannot be: a batch has a slice for every inner frame. The leader goes on alone.
            debug_assert!(false, "{} slices do not fit the batch", self.tail.len());
            return;
        };
        frame.offload = self
            .coalescer
            .finish(leader as u32, &mut pool.bytes_mut(frame.buf)[head]);
        frame.linear -= rest.map_or(0, |rest| rest.len);
        frame.tail = tail;
        frame.len = length;
        frame.packets = packets;
        parsed.ip_len = length - u32::from(parsed.l3_off);
    }
}

/// Of priority tags; one that names a VLAN stays, and the pipeline refuses it.
#[cold]
fn take_tags_off(pool: &mut Pool, frame: &mut Frame, parsed: &mut Parsed) {
    let mut packet = packet_of(pool, frame);
    if untag(&mut packet, parsed).is_ok() {
        *frame = frame_of(&packet, frame);
    }
}

/// Whether the frame may go on; its inner header then has the outer one's congestion mark.
fn carry_congestion(tos: u8, pool: &mut Pool, frame: &mut Frame, parsed: &mut Parsed) -> bool {
    congestion(tos, &mut packet_of(pool, frame), parsed).is_ok()
}

/// The checksum of a frame as one to be finished, if it is the sum of the pseudo-header and no more:
/// what a kernel leaves there for the NIC (one packet in 65,536 has it by chance, and finishing its
/// checksum changes nothing then). Only a veth delivers such a packet.
fn unfinished_checksum(head: &[u8], parsed: &Parsed) -> Option<Checksum> {
    let offset = match parsed.proto {
        PROTO_TCP => 16,
        PROTO_UDP => 6,
        _ => return None,
    };
    let at = usize::from(parsed.l4_off + offset);
    let field = u16::from_be_bytes(head.get(at..at + 2)?.try_into().ok()?);
    let pseudo = InnerSum::of(head, parsed, 0)?.pseudo;
    (field == checksum::fold(pseudo)).then_some(Checksum::Partial {
        start: parsed.l4_off,
        offset,
    })
}

/// The L4 payload of a frame, padding left out.
fn payload_of<'a>(head: &'a [u8], parsed: &Parsed) -> &'a [u8] {
    let end = (usize::from(parsed.l3_off) + parsed.ip_len as usize).min(head.len());
    head.get(usize::from(parsed.payload_off)..end)
        .unwrap_or(&[])
}

fn give_ethernet(opened: &mut Opened, snapshot: &Snapshot, pool: &mut Pool) {
    let frame = &mut opened.frame;
    let mut packet = packet_of(pool, frame);
    if put_ethernet(snapshot, &mut packet).is_ok() {
        *frame = frame_of(&packet, frame);
        shift_offload(&mut frame.offload);
        if let Some(p) = &mut opened.parsed {
            p.l3_off += ETHERNET as u16;
            p.l4_off += ETHERNET as u16;
            p.payload_off += ETHERNET as u16;
        }
    } else {
        opened.parsed = None;
    }
}

fn shift_offload(offload: &mut ringway_packet::offload::Offload) {
    if let ringway_packet::offload::Checksum::Partial { start, .. } = &mut offload.checksum {
        *start += ETHERNET as u16;
    }
}

#[cfg(test)]
mod tests;
