//! What carries verdicts out: buffers, TAPs, sockets, rings.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_packet::offload::Gso;
use ringway_packet::parse;
use ringway_ports::frame::Batch;
use ringway_ports::pool::HEADROOM;
use ringway_ports::socket::TxReport;
use ringway_ports::tap::Tap;
use ringway_ports::{Frame, Pool, Port, SHARED, Tail, TransmitError};
use ringway_switch::trace::Off;
use ringway_switch::{Counters, DropReason, Out, Pipeline, Tunnel, Verdict};
use ringway_tables::{PortId, Snapshot};

use super::found::{Found, found};
use super::identification::Identifications;
use super::limited::Limited;
use super::receive::{Kind, Opener};
use super::rings::Rings;
use super::timers::Timers;
use super::view::{frame_of, packet_of};
use super::{Underlay, ring, tunnel};

/// Large buffers of a worker's pool. A batch holds at most 64 and what it originates; the rest is for
/// frames that a ring sends from the buffer they were read into.
const BUFFERS: usize = 512;
/// One-page frames of a worker's pool: those that rings are filled with, and a transmit ring full of
/// segments. Never touched without rings, and memory that is never touched costs nothing.
const FRAMES: usize = 12288;
/// Large buffers that no ring may take: a ring that does not move must not stop traffic within the node.
const RESERVE: usize = 128;

pub(super) struct TapQueue {
    pub(super) tap: Tap,
    pub(super) read: bool,
    pub(super) uso: bool,
    pub(super) limited: Option<Box<Limited>>,
}

pub(super) struct Io {
    pub(super) pool: Pool,
    pub(super) batch: Batch,
    pub(super) taps: Vec<Option<TapQueue>>,
    pub(super) underlays: Vec<Underlay>,
    pub(super) rings: Rings,
    /// Checksums of what rings bring may be unfinished.
    pub(super) unfinished: bool,
    ids: Identifications,
    /// Index in `underlays` by (UDP encapsulation?, IPv6?).
    by_kind: [Option<usize>; 4],
    pub(super) report: TxReport,
    /// TAPs that take no UDP superframes.
    pub(super) without_uso: usize,
    /// What the last visit found; of no meaning if that was nothing.
    pub(super) found: Found,
    /// Of this round, in nanoseconds.
    pub(super) now: u64,
    /// When limited pods may be served again.
    pub(super) timers: Timers,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// The interface behind the queue was deleted.
    Gone,
    /// Nothing was there.
    Nothing,
    /// Something was, and it was all.
    Drained,
    /// Something was, and there may be more.
    MoreMayWait,
    /// It was not read: its pod may send again at that moment, in nanoseconds.
    Waits(u64),
}

impl Io {
    /// `largest`: bytes of the longest packet, Ethernet header included, that is to be sent from the
    /// buffer it was read into.
    pub(super) fn new(underlays: Vec<Underlay>, largest: usize, ids: Identifications) -> Io {
        let mut by_kind = [None; 4];
        for (i, underlay) in underlays.iter().enumerate() {
            by_kind[kind(underlay.encap, underlay.v6)] = Some(i);
        }
        Io {
            pool: Pool::umem(BUFFERS, FRAMES, largest),
            batch: Batch::new(),
            taps: Vec::new(),
            underlays,
            rings: Rings::default(),
            unfinished: false,
            ids,
            by_kind,
            report: TxReport::default(),
            without_uso: 0,
            found: Found::Much,
            now: 0,
            timers: Timers::new(),
        }
    }

    /// The queue this worker has of a port.
    pub(super) fn queue_of(&self, port: PortId) -> Option<Arc<OwnedFd>> {
        let queue = self.taps.get(port.0 as usize)?.as_ref()?;
        Some(queue.tap.fd().clone())
    }

    pub(super) fn serve_tap(
        &mut self,
        port: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        budget: usize,
        now: u64,
    ) -> Served {
        let first = self.batch.frames.len();
        let Some(Some(queue)) = self.taps.get_mut(port) else {
            return Served::Nothing;
        };
        if let Some(limited) = &mut queue.limited {
            match limited.may_read(now) {
                Ok(bytes) => self.batch.narrow(bytes),
                Err(at) => return Served::Waits(at),
            }
        }
        let before = queue.tap.counters();
        let received = queue.tap.receive(&mut self.pool, &mut self.batch, budget);
        let after = queue.tap.counters();
        let odd = after.malformed - before.malformed;
        for _ in 0..odd {
            // Not a frame at all: the vnet header itself makes no sense.
            pipeline.counters().received.add(1);
            let side = Some(pipeline.counters().port(PortId(port as u32)));
            pipeline
                .counters()
                .account(&Verdict::Drop(DropReason::BadOffload), 1, side);
        }
        let got = match received {
            Ok(got) => got,
            Err(error) => {
                tracing::debug!(port, %error, "read of a TAP failed");
                return Served::Gone;
            }
        };
        self.found = self.look_at(first);
        if let Some(Some(TapQueue {
            limited: Some(limited),
            ..
        })) = self.taps.get_mut(port)
        {
            let frames = self.batch.frames[first..].iter();
            let wire = frames.map(|frame| {
                let head = self.pool.slice(frame.buf, frame.start, frame.linear);
                frame.wire_len(head.unwrap_or(&[]))
            });
            limited.charge(now, wire.sum());
        }
        for i in first..self.batch.frames.len() {
            self.frame_from_port(i, snapshot, pipeline, now);
        }
        let stopped_early = self.batch.is_full() || odd > 0 || after.no_buffer != before.no_buffer;
        match got {
            0 if !stopped_early => Served::Nothing,
            _ if got < budget && !stopped_early => Served::Drained,
            _ => Served::MoreMayWait,
        }
    }

    /// What the frames of the batch from `first` on are.
    #[inline]
    fn look_at(&self, first: usize) -> Found {
        let frames = &self.batch.frames[first..];
        let packets = frames.iter().map(|frame| {
            let head = self.pool.slice(frame.buf, frame.start, frame.linear);
            let parsed = parse::parse(head.unwrap_or(&[]), frame.len as usize).ok();
            (frame.len, parsed)
        });
        found(frames.len(), packets)
    }

    #[inline]
    fn frame_from_port(
        &mut self,
        i: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        now: u64,
    ) {
        let mut frame = self.batch.frames[i];
        let mut packet = packet_of(&mut self.pool, &frame);
        let verdict = pipeline.from_port(snapshot, PortId(frame.port), &mut packet, now, &mut Off);
        frame = frame_of(&packet, &frame);
        self.batch.frames[i] = frame;
        self.carry_out(snapshot, pipeline, &frame, verdict);
    }

    pub(super) fn serve_underlay(
        &mut self,
        at: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        opener: &mut Opener,
        budget: usize,
        now: u64,
    ) -> Served {
        let underlay = &mut self.underlays[at];
        let encap = underlay.encap;
        let got = match underlay
            .socket
            .receive(&mut self.pool, &mut opener.received, budget)
        {
            Ok(got) => got,
            Err(error) => {
                tracing::warn!(%error, "receive on the underlay failed");
                return Served::Nothing;
            }
        };
        let drained = opener.received.drained;
        if got == 0 && drained {
            return Served::Nothing;
        }
        let unfinished = self.underlays[at].unfinished;
        opener.open(
            snapshot,
            pipeline,
            &mut self.pool,
            Kind {
                encap,
                uso: self.without_uso == 0,
                unfinished,
            },
        );
        self.found = found(opener.len(), opener.seen());
        self.deliver_opened(snapshot, pipeline, opener, now);
        // Everything received has been delivered or dropped, so the hot buffers can be used again at
        // once, by the next queue of this round.
        opener.received.recycle(&mut self.pool);
        self.batch.slices.clear();
        if drained {
            Served::Drained
        } else {
            Served::MoreMayWait
        }
    }

    pub(super) fn serve_ring(
        &mut self,
        at: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        opener: &mut Opener,
        budget: usize,
        now: u64,
    ) -> Served {
        let Rings { open, received, .. } = &mut self.rings;
        let Some(xsk) = open.get_mut(at) else {
            return Served::Nothing;
        };
        let budget = Rings::budget(budget);
        let got = xsk.receive(&mut self.pool, received, budget);
        if got == 0 {
            return Served::Nothing;
        }
        let kind = Kind {
            encap: Encap::Udp,
            uso: self.without_uso == 0,
            unfinished: self.unfinished,
        };
        opener.open_frames(snapshot, pipeline, &mut self.pool, received, kind);
        self.found = found(opener.len(), opener.seen());
        self.deliver_opened(snapshot, pipeline, opener, now);
        opener.received.recycle(&mut self.pool);
        self.batch.slices.clear();
        if got < budget {
            Served::Drained
        } else {
            Served::MoreMayWait
        }
    }

    /// Runs what was opened and coalesced to its verdicts.
    #[inline]
    fn deliver_opened(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        opener: &mut Opener,
        now: u64,
    ) {
        for i in 0..opener.len() {
            let Some(opened) = opener.take(i, snapshot, &mut self.pool, &mut self.batch) else {
                continue;
            };
            let mut frame = opened.frame;
            let mut packet = packet_of(&mut self.pool, &frame);
            let verdict = pipeline.from_peer(
                snapshot,
                opened.peer,
                opened.encap,
                opened.tos,
                &mut packet,
                opened.parsed,
                now,
                &mut Off,
            );
            frame = frame_of(&packet, &frame);
            self.carry_out(snapshot, pipeline, &frame, verdict);
        }
    }

    /// Does what the verdict says, and sends what the switch made.
    #[inline]
    fn carry_out(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        frame: &Frame,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Deliver(port) => self.deliver(pipeline.counters(), port, frame),
            Verdict::Tunnel(tunnel) => {
                self.tunnel(snapshot, pipeline.counters(), &tunnel, frame, false)
            }
            Verdict::Fragment(tunnel) => {
                self.tunnel(snapshot, pipeline.counters(), &tunnel, frame, true)
            }
            Verdict::Answered | Verdict::Ignore(_) | Verdict::Drop(_) => {}
        }
        if !pipeline.outbox().is_empty() {
            self.send_originated(snapshot, pipeline);
        }
    }

    #[inline]
    fn deliver(&mut self, counters: &Counters, port: PortId, frame: &Frame) {
        let Some(Some(queue)) = self.taps.get_mut(port.0 as usize) else {
            counters.lose(
                DropReason::PortGone,
                u32::from(frame.packets),
                Some(counters.port(port)),
            );
            return;
        };
        if let Some(limited) = &mut queue.limited {
            let Io {
                pool,
                batch,
                timers,
                now,
                ..
            } = self;
            if !limited.pass(pool, batch, frame, *now, timers, counters) {
                return;
            }
        }
        if let Err(error) = queue.tap.transmit(&mut self.pool, &self.batch, frame) {
            counters.lose(
                lost(error),
                u32::from(frame.packets),
                Some(counters.port(port)),
            );
        }
    }

    fn tunnel(
        &mut self,
        snapshot: &Snapshot,
        counters: &Counters,
        tunnel: &Tunnel,
        frame: &Frame,
        fragment: bool,
    ) {
        let lose = |reason| counters.lose(reason, u32::from(frame.packets), None);
        let Some(path) = snapshot.path(tunnel.path) else {
            return lose(DropReason::NoPath);
        };
        let Some(at) = self.by_kind[kind(path.encap, path.dst.is_ipv6())] else {
            return lose(DropReason::UnderlayUnreachable);
        };
        // By a ring, if there is one that moves and the next hop is known; the kernel's stack finds it
        // out otherwise. Segments that are to be fragmented are rare, and the socket copies them less.
        let rings = self.rings.open.len();
        let awkward = fragment && frame.offload.gso != Gso::None;
        if rings > 0 && path.outer.has_next_hop() && !awkward {
            let xsk = &mut self.rings.open[tunnel.hash as usize % rings];
            if !xsk.is_stalled() {
                let mut sender = ring::Sender {
                    may_lend: self.pool.available() > RESERVE,
                    src_port: self.underlays[at].socket.source_port(tunnel.hash),
                    ids: &mut self.ids,
                    xsk,
                    pool: &mut self.pool,
                    batch: &mut self.batch,
                    counters,
                };
                if let Err(lost) = sender.send(snapshot, path, tunnel, frame, fragment) {
                    counters.lose(lost.reason, lost.packets, None);
                }
                return;
            }
        }
        let mut sender = tunnel::Sender {
            socket: &mut self.underlays[at].socket,
            pool: &mut self.pool,
            report: &mut self.report,
            counters,
        };
        if let Err(reason) = sender.send(path, tunnel, frame, fragment) {
            lose(reason);
        }
    }

    #[cold]
    pub(super) fn send_originated(&mut self, snapshot: &Snapshot, pipeline: &mut Pipeline) {
        let counters = pipeline.counters().clone();
        for (out, bytes) in pipeline.outbox().frames() {
            counters.originated.add(1);
            let Some(buf) = self.pool.alloc() else {
                counters.lose(DropReason::NoBuffer, 1, None);
                continue;
            };
            self.pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
            let len = bytes.len() as u32;
            let frame = Frame {
                buf: buf.id(),
                start: HEADROOM as u32,
                linear: len,
                len,
                tail: Tail::default(),
                offload: Default::default(),
                packets: 1,
                port: 0,
                slot: SHARED,
            };
            match out {
                Out::Port(port) => {
                    counters.port(port).tx.add(1, bytes.len());
                    self.deliver(&counters, port, &frame);
                    self.pool.free(buf);
                }
                Out::Tunnel(tunnel) => {
                    // In the batch first: it is queued until the flush of this round.
                    match self.batch.push(frame, buf) {
                        Ok(()) => {
                            let frame = self.batch.frames.pop().unwrap_or(frame);
                            self.tunnel(snapshot, &counters, &tunnel, &frame, false);
                        }
                        Err(buf) => {
                            self.pool.free(buf);
                            counters.lose(DropReason::NoBuffer, 1, None);
                        }
                    }
                }
            }
        }
        pipeline.outbox().clear();
    }

    /// Hands everything queued to the kernel.
    pub(super) fn send(&mut self) {
        for underlay in &mut self.underlays {
            underlay.socket.flush(&self.pool, &mut self.report);
        }
        for xsk in &mut self.rings.open {
            xsk.flush(&mut self.pool);
        }
    }

    /// The same, and gives the batch's buffers back.
    pub(super) fn flush(&mut self) {
        self.send();
        self.batch.recycle(&mut self.pool);
        debug_assert_eq!(
            self.pool.census().held,
            0,
            "a buffer is lost: {:?}",
            self.pool
        );
    }
}

/// Place of a socket in `by_kind`.
fn kind(encap: Encap, v6: bool) -> usize {
    let encap = match encap {
        Encap::Vxlan { .. } => 0,
        Encap::Udp => 1,
    };
    encap * 2 + usize::from(v6)
}

/// The reason that a failed transmit counts as.
pub(super) fn lost(error: TransmitError) -> DropReason {
    match error {
        TransmitError::Full => DropReason::PortFull,
        TransmitError::Down => DropReason::PortDown,
        TransmitError::Gone => DropReason::PortGone,
        TransmitError::Refused { .. }
        | TransmitError::Malformed { .. }
        | TransmitError::Other(_) => DropReason::PortRefused,
    }
}
