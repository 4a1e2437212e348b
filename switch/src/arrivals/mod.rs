//! From a peer: a batch of datagrams or of outer frames becomes frames for the pipeline.
//!
//! ```text
//!   datagrams ────────────────────┐
//!   frames ▶ outer headers off ───┴▶ open, each for itself ▶ superframes, coalesce ▶ next, in order of arrival
//! ```
//!
//! Opening (`open.rs`) admits: what is coalesced has passed everything that a frame by itself would have to.
//! A message may also be one datagram with a superpacket in it, of a kernel's VXLAN device over a link that
//! passes such (veth). It goes on as the superframe it is: see [`split`] and `superframe.rs`.
//!
//! Nothing is held back beyond one batch. Within a flow the order of arrival is kept; flows overtake each
//! other by at most a batch.
//!
//! The caller owns the buffers ([`Buffers`]). Payload stays where it was read; a superframe is its leader's
//! headers, rewritten, and a tail of runs of bytes. A bare IP packet gets its Ethernet header in the 14 bytes
//! before it, which may be the end of the datagram before: they are put back when the next frame is asked for.

mod congestion;
mod inner;
mod message;
mod open;
mod outer;
mod superframe;

pub use message::{Message, Options, OuterFrame};
pub use outer::UdpPorts;

pub(crate) use inner::{Fate, Inner};

use inner::{NONE, Place};
use open::Datagram;
use ringway_encap::Carries;
use ringway_encap::split::split;
use ringway_packet::buffers::Buffers;
use ringway_packet::gro::{Coalescer, Offer};
use ringway_packet::gso::{self, Segmenter};
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::{Checksum, Gso};
use ringway_packet::parse::Parsed;
use ringway_packet::{checksum, proto};
use ringway_tables::{PeerId, Snapshot};

use crate::reason::DropReason;

/// Most inner frames of one batch: 64 messages of 64 datagrams.
pub const MAX_INNER: usize = 4096;
/// Most superframes of one batch that are to be cut: one of each message.
const MAX_CUT: usize = 64;
const ETHERNET: usize = 14;

const _: () = assert!(gso::MAX_UDP_SEGMENTS <= 0xffff && MAX_CUT < 0xffff);

/// A run of bytes in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<I> {
    /// The buffer.
    pub buf: I,
    /// Offset in the buffer.
    pub off: u32,
    /// Bytes.
    pub len: u32,
}

/// What the bytes of something that came from a peer are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Contents {
    /// An Ethernet frame.
    #[default]
    Frame,
    /// A bare IP packet: it was dropped before it got an Ethernet header.
    Packet,
    /// What was not opened: a datagram's payload, from the tunnel's own header on. A ring's whole outer frame,
    /// whose outer headers were not understood, is a frame.
    Datagram,
}

/// A batch of what came from peers, and the scratch for it. After [`new`](Self::new) nothing is allocated.
pub struct Arrivals<I> {
    inners: Vec<Inner<I>>,
    coalescer: Coalescer,
    /// Superframes of this batch that are to be cut.
    cut: Vec<Segmenter>,
    /// Of the frame asked for last.
    tail: Vec<Run<I>>,
    /// The frame to look at next.
    next: usize,
    /// The outer source that was looked up last, and whose it is.
    source: (u128, Option<PeerId>),
    covered: Option<Covered<I>>,
}

/// Bytes in the place of which an Ethernet header lies for a while.
struct Covered<I> {
    buf: I,
    at: usize,
    bytes: [u8; ETHERNET],
}

impl<I: Copy> Default for Arrivals<I> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Copy> Arrivals<I> {
    /// An empty batch with all its capacity.
    pub fn new() -> Self {
        Arrivals {
            // As many again may be refused.
            inners: Vec::with_capacity(2 * MAX_INNER),
            coalescer: Coalescer::new(),
            cut: Vec::with_capacity(MAX_CUT),
            tail: Vec::with_capacity(MAX_INNER),
            next: 0,
            source: (0, None),
            covered: None,
        }
    }

    /// Datagrams of the batch, and segments of superframes that are cut.
    pub fn len(&self) -> usize {
        self.inners.len()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.inners.is_empty()
    }

    /// Bytes of each, and its headers if it was parsed. Before the first frame is asked for.
    pub fn headers(&self) -> impl Iterator<Item = (u32, Option<Parsed>)> {
        self.inners.iter().map(|inner| (inner.len, inner.parsed))
    }

    /// The rest of the frame asked for last, behind its head.
    #[inline]
    pub fn tail(&self) -> &[Run<I>] {
        &self.tail
    }

    /// What the bytes of the frame asked for last are.
    pub fn contents(&self) -> Contents {
        let inner = self.next.checked_sub(1).and_then(|at| self.inners.get(at));
        match inner.map(|inner| (inner.fate, inner.carries)) {
            Some((Fate::Unopened(_), Carries::Packets)) => Contents::Datagram,
            Some((Fate::Refused(_), Carries::Packets)) => Contents::Packet,
            _ => Contents::Frame,
        }
    }

    pub(crate) fn begin(&mut self) {
        self.inners.clear();
        self.cut.clear();
        self.tail.clear();
        self.coalescer.begin();
        self.next = 0;
        // Unspecified: nobody's.
        self.source = (0, None);
        self.covered = None;
    }

    /// Enters the datagrams of a message.
    #[inline]
    pub(crate) fn enter_message<B: Buffers<Id = I>>(
        &mut self,
        snapshot: &Snapshot,
        buffers: &mut B,
        message: &Message<I>,
        options: Options,
    ) {
        let (start, len) = (message.start as usize, message.len as usize);
        let bytes = buffers.bytes(message.buf).get(start..start + len);
        let split = split(
            message.encap,
            bytes.unwrap_or(&[]),
            message.segment as usize,
        );
        // The kernel has it in 16 bits.
        let segment = split.is_superframe().then_some(message.segment as u16);
        let mut congested = message.congested;
        for range in split {
            let datagram = Datagram {
                buf: message.buf,
                start: message.start + range.start as u32,
                len: range.len() as u32,
                source: message.source,
                tos: message.tos,
                congested: std::mem::take(&mut congested),
                encap: message.encap,
                outer: None,
            };
            let bytes = buffers.bytes_mut(message.buf);
            let at = self.enter(snapshot, bytes, datagram, options.unfinished);
            self.place(snapshot, buffers, at, segment, options);
        }
    }

    /// Enters the datagram that an outer frame carries.
    #[inline]
    pub(crate) fn enter_frame<B: Buffers<Id = I>>(
        &mut self,
        snapshot: &Snapshot,
        ports: UdpPorts,
        buffers: &mut B,
        frame: &OuterFrame<I>,
        options: Options,
    ) {
        let (start, len) = (frame.start as usize, frame.len as usize);
        let buffer = buffers.bytes_mut(frame.buf);
        let bytes = buffer.get(start..start + len);
        let opened = outer::headers(snapshot, ports, bytes.unwrap_or(&[]));
        let (outer, encap) = match opened {
            Ok(opened) => opened,
            Err(reason) => return self.inners.push(open::no_datagram(frame, reason)),
        };
        let datagram = Datagram {
            buf: frame.buf,
            start: frame.start + outer.payload_off as u32,
            len: outer.payload_len as u32,
            source: outer.src,
            tos: outer.tos,
            congested: false,
            encap,
            // Zero means that none was sent.
            outer: (outer.checksum != 0).then_some(outer),
        };
        let at = self.enter(snapshot, buffer, datagram, options.unfinished);
        self.place(snapshot, buffers, at, None, options);
    }

    /// Opens a datagram in this buffer; gives its position among the frames.
    #[inline(always)]
    fn enter(
        &mut self,
        snapshot: &Snapshot,
        buffer: &mut [u8],
        datagram: Datagram<I>,
        unfinished: bool,
    ) -> usize {
        let at = self.inners.len();
        let peer = self.peer_at(snapshot, datagram.source);
        self.inners
            .push(datagram.unopened(peer, DropReason::UnknownPeer));
        let inner = &mut self.inners[at];
        let (start, len) = (datagram.start as usize, datagram.len as usize);
        let payload = buffer.get_mut(start..start + len).unwrap_or(&mut []);
        if let Err(fate) = open::open(snapshot, payload, datagram, unfinished, inner) {
            inner.fate = fate;
            if let Fate::Refused(_) = fate {
                let header = (datagram.encap.header_len() as u32).min(inner.len);
                inner.start += header;
                inner.linear -= header;
                inner.len -= header;
            }
        }
        at
    }

    /// Whose outer source address it is. Datagrams of a peer come in runs.
    #[inline(always)]
    fn peer_at(&mut self, snapshot: &Snapshot, source: u128) -> Option<PeerId> {
        if self.source.0 != source {
            self.source = (source, snapshot.sources.get(source));
        }
        self.source.1
    }

    /// Finds the frame `at`, the last, its place: a superframe's, in a group, or by itself.
    #[inline(always)]
    fn place<B: Buffers<Id = I>>(
        &mut self,
        snapshot: &Snapshot,
        buffers: &mut B,
        at: usize,
        segment: Option<u16>,
        options: Options,
    ) {
        let Some(inner) = self.inners.get_mut(at) else {
            return;
        };
        let (Fate::Admitted(_), Some(parsed)) = (inner.fate, &inner.parsed) else {
            return;
        };
        if at >= MAX_INNER {
            inner.fate = Fate::Refused(DropReason::NoBuffer);
            return;
        }
        let proto = parsed.proto;
        let long = proto == proto::TCP && parsed.ip_len > u32::from(snapshot.least_mtu());
        if long || segment.is_some() {
            match self.superframe(snapshot, buffers, at, segment, options) {
                Ok(true) => return,
                Ok(false) => {}
                Err(reason) => {
                    self.inners[at].fate = Fate::Refused(reason);
                    return;
                }
            }
        }
        if options.coalesce && (proto != proto::UDP || options.udp_superframes) {
            self.offer(buffers, at);
        }
    }

    /// Whether the frame `at`, the last, is a superframe. Then it is one from now on, or the segments of one.
    #[cold]
    #[inline(never)]
    fn superframe<B: Buffers<Id = I>>(
        &mut self,
        snapshot: &Snapshot,
        buffers: &mut B,
        at: usize,
        segment: Option<u16>,
        options: Options,
    ) -> Result<bool, DropReason> {
        let mut inner = self.inners[at];
        let Some(segments) = superframe::describe(snapshot, buffers, &mut inner, segment)? else {
            return Ok(false);
        };
        // Under no name it joins no group, but ends that of its flow: nothing overtakes it.
        if let Some(parsed) = &inner.parsed {
            let (start, len) = (inner.start as usize, inner.linear as usize);
            let head = &buffers.bytes(inner.buf)[start..start + len];
            self.coalescer.offer(NONE, head, parsed, len, &[], true);
        }
        let count = segments.count();
        if inner.offload.gso != Gso::Udp || options.udp_superframes {
            // At most 1,024.
            inner.packets = count as u32;
            self.inners[at] = inner;
            return Ok(true);
        }
        let cut = self.cut.len();
        if cut == MAX_CUT || at + count > MAX_INNER {
            return Err(DropReason::NoBuffer);
        }
        self.inners.truncate(at);
        for i in 0..count {
            let mut one = superframe::segment(&inner, &segments, i);
            one.place = Place::Cut(cut as u16, i as u16);
            self.inners.push(one);
        }
        self.cut.push(segments);
        Ok(true)
    }

    /// Offers the frame `at` to the coalescer.
    #[inline]
    fn offer<B: Buffers<Id = I>>(&mut self, buffers: &B, at: usize) {
        let id = at as u32;
        let inner = &mut self.inners[at];
        // Of a leader this is itself.
        inner.last = id;
        let Some(parsed) = &inner.parsed else { return };
        let start = inner.start as usize;
        let head = &buffers.bytes(inner.buf)[start..start + inner.linear as usize];
        let verified = inner.offload.checksum != Checksum::Complete;
        // Padding is left out.
        let end = parsed.ip_end().min(head.len());
        let payload = head.get(usize::from(parsed.payload_off)..end);
        let payload = payload.unwrap_or(&[]);
        let coalescer = &mut self.coalescer;
        inner.place = match coalescer.offer(id, head, parsed, head.len(), payload, verified) {
            Offer::Joined { leader } => {
                inner.place = Place::Joined;
                let last = std::mem::replace(&mut self.inners[leader as usize].last, id);
                self.inners[last as usize].next = id;
                return;
            }
            Offer::First => Place::Leads,
            Offer::Alone => Place::Alone,
        };
    }

    /// The next frame, its headers written and its tail gathered; or a datagram that was refused.
    #[inline]
    pub(crate) fn take<B: Buffers<Id = I>>(
        &mut self,
        buffers: &mut B,
        vtep: MacAddr,
    ) -> Option<&Inner<I>> {
        if let Some(Covered { buf, at, bytes }) = self.covered.take() {
            buffers.bytes_mut(buf)[at..at + ETHERNET].copy_from_slice(&bytes);
        }
        let at = loop {
            let at = self.next;
            let inner = self.inners.get(at)?;
            self.next += 1;
            if inner.place != Place::Joined {
                break at;
            }
        };
        self.tail.clear();
        let inner = &self.inners[at];
        if inner.place == Place::Alone && inner.carries == Carries::Frames {
            return self.inners.get(at);
        }
        match inner.place {
            Place::Leads => self.finish(buffers, at),
            Place::Cut(superframe, i) => self.write_headers(buffers, at, superframe, i),
            Place::Alone | Place::Joined => {}
        }
        if self.inners[at].carries == Carries::Packets {
            self.give_ethernet(buffers, at, vtep);
        }
        self.inners.get(at)
    }

    /// Makes a leader's headers those of its group, and the payload of the others its tail.
    #[inline]
    fn finish<B: Buffers<Id = I>>(&mut self, buffers: &mut B, at: usize) {
        let leader = &self.inners[at];
        let (buf, start, linear) = (leader.buf, leader.start as usize, leader.linear as usize);
        let mut next = leader.next;
        if next == NONE {
            if leader.offload.checksum == Checksum::Complete {
                let head = &mut buffers.bytes_mut(buf)[start..start + linear];
                self.inners[at].offload = self.coalescer.finish(at as u32, head);
            }
            return;
        }
        let Some(parsed) = leader.parsed else { return };
        // Padding behind the leader's IP packet must not come between the payloads.
        let mut len = parsed.ip_end() as u32;
        let head_len = len;
        let mut packets = 1;
        while let Some(inner) = self.inners.get(next as usize) {
            if let Some(parsed) = &inner.parsed {
                let from = u32::from(parsed.payload_off);
                let bytes = parsed.ip_end() as u32 - from;
                self.tail.push(Run {
                    buf: inner.buf,
                    off: inner.start + from,
                    len: bytes,
                });
                len += bytes;
                packets += 1;
            }
            next = inner.next;
        }
        let head = &mut buffers.bytes_mut(buf)[start..start + linear];
        let offload = self.coalescer.finish(at as u32, head);
        let leader = &mut self.inners[at];
        leader.offload = offload;
        (leader.linear, leader.len, leader.packets) = (head_len, len, packets);
        if let Some(parsed) = &mut leader.parsed {
            parsed.ip_len = len - u32::from(parsed.l3_off);
        }
    }

    /// Writes the headers of a segment before its payload.
    #[cold]
    fn write_headers<B: Buffers<Id = I>>(
        &mut self,
        buffers: &mut B,
        at: usize,
        superframe: u16,
        i: u16,
    ) {
        let inner = &self.inners[at];
        let Some(segments) = self.cut.get(usize::from(superframe)) else {
            return;
        };
        let start = inner.start as usize;
        let bytes = &mut buffers.bytes_mut(inner.buf)[start..start + inner.len as usize];
        let (headers, payload) = bytes.split_at_mut(segments.header_len());
        segments.write_header(usize::from(i), checksum::sum(payload), headers);
    }

    /// Gives a bare IP packet the Ethernet header of a frame to this node's VTEP.
    #[inline]
    fn give_ethernet<B: Buffers<Id = I>>(&mut self, buffers: &mut B, at: usize, vtep: MacAddr) {
        let inner = &mut self.inners[at];
        let (Fate::Admitted(_), Some(parsed)) = (inner.fate, &mut inner.parsed) else {
            return;
        };
        let start = inner.start as usize;
        let Some(room) = start.checked_sub(ETHERNET) else {
            inner.fate = Fate::Refused(DropReason::NoBuffer);
            return;
        };
        let header = &mut buffers.bytes_mut(inner.buf)[room..start];
        let mut bytes = [0; ETHERNET];
        bytes.copy_from_slice(header);
        self.covered = Some(Covered {
            buf: inner.buf,
            at: room,
            bytes,
        });
        header[..6].copy_from_slice(&vtep.0);
        header[6..12].copy_from_slice(&vtep.0);
        header[12..].copy_from_slice(&parsed.ethertype.to_be_bytes());
        inner.start -= ETHERNET as u32;
        inner.linear += ETHERNET as u32;
        inner.len += ETHERNET as u32;
        parsed.l3_off += ETHERNET as u16;
        parsed.l4_off += ETHERNET as u16;
        parsed.payload_off += ETHERNET as u16;
        if let Checksum::Partial { start, .. } = &mut inner.offload.checksum {
            *start += ETHERNET as u16;
        }
    }
}
