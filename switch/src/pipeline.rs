//! The way of a frame, top to bottom in the order a frame meets it.
//!
//! ```text
//!  from_port ──────▶ 1 parse ▶ 2 admit ▶ 3 neighbour protocols ─┐
//!                                                               ├▶ 4 look up ▶ 5 decide ▶ 6 judge ▶ 7 rewrite ▶ verdict
//!  from_datagrams ─┐                                            │
//!  from_frames ────┴▶ open: 1 parse ▶ 2 admit ▶ coalesce ▶ next ┘
//! ```
//!
//! These are all the entries there are. Each counts the frame as received, runs it to exactly one [`Verdict`],
//! counts that, and leaves the frame rewritten for whoever carries the verdict out. Answers and ICMP errors are
//! left in the outbox. No clock, no lock, no allocation: `now` is an argument.
//!
//! A stage is a file of this name, and knows no stage after it. What it needs besides the frame and the tables
//! is in the [`Context`].

use std::sync::Arc;

use ringway_encap::Carries;
use ringway_packet::buffers::Buffers;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::Offload;
use ringway_packet::parse::{self, Parsed};
use ringway_tables::{PeerId, PortId, PortKind, Snapshot};

use crate::arrivals::{Arrivals, Fate, Inner, Message, Options, OuterFrame, UdpPorts};
use crate::context::Context;
use crate::counters::{Counters, Side};
use crate::decide::{self, Decision};
use crate::frame::{Frame, Origin};
use crate::limiter::Limiter;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::probe;
use crate::probe::answers::Probes;
use crate::reason::{DropReason, reason_of};
use crate::returns::Returns;
use crate::trace::{Sink, Step};
use crate::verdict::{Stage, Verdict};
use crate::{admit, icmp, judge, lookup, neighbour, priority, rewrite};

/// The pipeline of one worker.
pub struct Pipeline {
    cx: Context,
    ports: UdpPorts,
}

/// A frame that came from a peer and has its verdict. Its tail is [`Arrivals::tail`].
#[derive(Clone, Copy, Debug)]
pub struct Arrival<I> {
    /// Buffer of the head.
    pub buf: I,
    /// Offset of the head, from the Ethernet header on.
    pub start: u32,
    /// Bytes of the head.
    pub linear: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// Packets on the wire that it stands for.
    pub packets: u32,
    /// Checksum and segmentation still to be done.
    pub offload: Offload,
    /// Who sent it, if that is known.
    pub peer: Option<PeerId>,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl Pipeline {
    /// A pipeline that counts into `counters`.
    pub fn new(counters: Arc<Counters>, ports: UdpPorts) -> Self {
        let cx = Context {
            outbox: Outbox::default(),
            limiter: Limiter::default(),
            probes: Probes::default(),
            counters,
            returns: Arc::default(),
            now: 0,
        };
        Pipeline { cx, ports }
    }

    /// The same with a table of flows that it shares with others.
    pub fn sharing(mut self, returns: Arc<Returns>) -> Self {
        self.cx.returns = returns;
        self
    }

    /// The counters it writes.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.cx.counters
    }

    /// Frames the switch made; send them, then clear.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.cx.outbox
    }

    /// Answers to this node's probes that have come.
    #[inline]
    pub fn has_probe_answers(&self) -> bool {
        self.cx.probes.has_answers()
    }

    /// Takes them.
    pub fn take_probe_answers(&mut self, each: impl FnMut(probe::Answer)) {
        self.cx.probes.take(each);
    }

    /// Leaves a frame in the outbox that tells the port `to` that `ip` (IPv4 mapped) is at `mac` from now on;
    /// `false` when there is no room.
    pub fn announce(&mut self, to: PortId, ip: u128, mac: MacAddr) -> bool {
        neighbour::announce(&mut self.cx.outbox, to, ip, mac)
    }

    /// A frame from a local port, pod or node. `now`: monotonic nanoseconds.
    #[inline]
    pub fn from_port<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        port: PortId,
        packet: &mut Packet<'_>,
        now: u64,
        sink: &mut S,
    ) -> Verdict {
        self.cx.now = now;
        sink.arrived(|| (packet.head(), packet.len));
        sink.step(|| Step::FromPort(port));
        let bytes = packet.len;
        let verdict = self
            .port_stages(snapshot, port, packet, sink)
            .unwrap_or_else(|v| v);
        let side = self.cx.counters.port(port);
        let from = Some((side, Some(bytes)));
        conclude(&self.cx.counters, snapshot, &verdict, packet, from);
        sink.step(|| Step::Verdict(verdict));
        verdict
    }

    #[inline(always)]
    fn port_stages<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        port: PortId,
        packet: &mut Packet<'_>,
        sink: &mut S,
    ) -> Stage<Verdict> {
        // 1. Parse: one bounded pass; every later stage trusts what it gives.
        let mut parsed = Parsed::default();
        parse::parse_into(packet.head(), packet.len, &mut parsed).map_err(|e| reason_of(&e))?;
        sink.step(|| Step::Parsed(parsed));
        if parsed.vlan_tags > 0 {
            return self.tagged(snapshot, port, packet, parsed, sink);
        }
        self.untagged(snapshot, port, packet, &parsed, sink)
    }

    /// A frame with VLAN tags: without them, if they name no VLAN.
    #[cold]
    #[inline(never)]
    fn tagged<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        port: PortId,
        packet: &mut Packet<'_>,
        mut parsed: Parsed,
        sink: &mut S,
    ) -> Stage<Verdict> {
        snapshot.port(port).ok_or(DropReason::UnknownPort)?;
        sink.step(|| Step::Untagged(parsed.vlan_tags));
        match packet.head()[..6] == snapshot.node.gateway_mac.0 {
            true => priority::untag(packet, &mut parsed)?,
            false => priority::accept(packet.head(), &mut parsed)?,
        }
        self.untagged(snapshot, port, packet, &parsed, sink)
    }

    #[inline(always)]
    fn untagged<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        port: PortId,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        sink: &mut S,
    ) -> Stage<Verdict> {
        // 2. Admit: is this frame the port's own?
        let entry = snapshot.port(port).ok_or(DropReason::UnknownPort)?;
        if entry.kind == PortKind::Pod {
            sink.step(|| admit::sender(packet.head(), parsed));
            admit::pod(entry, packet.head(), parsed)?;
        }
        admit::offload(&packet.offload, parsed)?;
        sink.step(|| Step::Admitted);
        // 3. ARP, ND and what is multicast: answered or ignored here, never flooded.
        if neighbour::concerns(packet.head(), parsed) {
            let (cx, from, head) = (&mut self.cx, (port, entry), packet.head());
            return Ok(neighbour::handle(cx, snapshot, from, head, parsed, sink));
        }
        let mut frame = Frame {
            origin: Origin::Port(port, entry.kind),
            packet,
            parsed,
        };
        // 4 to 7. To the gateway's MAC: route. To another: switch.
        if frame.head()[..6] != snapshot.node.gateway_mac.0 {
            let decision = decide::switch(snapshot, port, &frame, sink)?;
            return settle(&self.cx, snapshot, &mut frame, decision, sink);
        }
        route(&mut self.cx, snapshot, &mut frame, sink)
    }

    /// Datagrams from peers, of a port that carries such: they are opened, admitted and coalesced, and have
    /// their verdicts from [`next`](Self::next), which is to be asked until nothing is left.
    #[inline]
    pub fn from_datagrams<B: Buffers>(
        &mut self,
        snapshot: &Snapshot,
        arrivals: &mut Arrivals<B::Id>,
        buffers: &mut B,
        options: Options,
        messages: impl IntoIterator<Item = Message<B::Id>>,
    ) {
        arrivals.begin();
        for message in messages {
            arrivals.enter_message(snapshot, buffers, &message, options);
        }
    }

    /// The same for whole outer frames, of a port that carries frames.
    #[inline]
    pub fn from_frames<B: Buffers>(
        &mut self,
        snapshot: &Snapshot,
        arrivals: &mut Arrivals<B::Id>,
        buffers: &mut B,
        options: Options,
        frames: impl IntoIterator<Item = OuterFrame<B::Id>>,
    ) {
        arrivals.begin();
        for frame in frames {
            arrivals.enter_frame(snapshot, self.ports, buffers, &frame, options);
        }
    }

    /// The next frame of a batch that came from peers, or datagram that became none; in order of arrival.
    /// `None`: that was all. `now`: monotonic nanoseconds.
    #[inline]
    pub fn next<B: Buffers, S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        arrivals: &mut Arrivals<B::Id>,
        buffers: &mut B,
        now: u64,
        sink: &mut S,
    ) -> Option<Arrival<B::Id>> {
        let inner = arrivals.take(buffers, snapshot.node.vtep_mac)?;
        self.cx.now = now;
        let mut packet = Packet {
            buf: buffers.bytes_mut(inner.buf),
            start: inner.start as usize,
            linear: inner.linear as usize,
            len: inner.len as usize,
            packets: inner.packets,
            offload: inner.offload,
        };
        sink.arrived(|| (packet.head(), packet.len));
        let verdict = self
            .peer_stages(snapshot, inner, &mut packet, sink)
            .unwrap_or_else(|v| v);
        // What comes from a peer is rewritten where it lies, so that its record still says where that is.
        debug_assert_eq!(
            (packet.start, packet.len, packet.offload),
            (inner.start as usize, inner.len as usize, inner.offload)
        );
        let opened = !matches!(inner.fate, Fate::Unopened(_));
        let bytes = opened.then_some(inner.len as usize);
        let counters = &*self.cx.counters;
        let from = inner.peer.map(|peer| (counters.peer(peer), bytes));
        conclude(counters, snapshot, &verdict, &packet, from);
        sink.step(|| Step::Verdict(verdict));
        Some(Arrival {
            buf: inner.buf,
            start: inner.start,
            linear: inner.linear,
            len: inner.len,
            packets: inner.packets,
            offload: inner.offload,
            peer: inner.peer,
            verdict,
        })
    }

    /// Parsed and admitted it is already.
    #[inline(always)]
    fn peer_stages<I, S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        inner: &Inner<I>,
        packet: &mut Packet<'_>,
        sink: &mut S,
    ) -> Stage<Verdict> {
        if let Some(peer) = inner.peer {
            sink.step(|| Step::FromPeer(peer));
        }
        if let Some(parsed) = inner.parsed {
            sink.step(|| Step::Parsed(parsed));
            if inner.carries == Carries::Frames {
                sink.step(|| admit::vtep(snapshot, packet.head(), &parsed));
            }
            sink.step(|| lookup::back(snapshot, &parsed));
        }
        let (origin, parsed) = match (inner.fate, &inner.parsed) {
            (Fate::Admitted(origin), Some(parsed)) => (origin, parsed),
            (Fate::Refused(reason) | Fate::Unopened(reason), _) => {
                return self.refused(snapshot, inner, packet.head(), reason);
            }
            // Cannot be: what was not parsed was refused.
            (Fate::Admitted(_), None) => return Err(DropReason::MalformedEthernet.into()),
        };
        sink.step(|| Step::Admitted);
        let mut frame = Frame {
            origin,
            packet,
            parsed,
        };
        // 4 to 7.
        route(&mut self.cx, snapshot, &mut frame, sink)
    }

    /// A frame from a peer that was not admitted: a probe has nobody's source, and may have come by the path of the
    /// other family.
    #[cold]
    #[inline(never)]
    fn refused<I>(
        &mut self,
        snapshot: &Snapshot,
        inner: &Inner<I>,
        head: &[u8],
        reason: DropReason,
    ) -> Stage<Verdict> {
        let may_be = matches!(reason, DropReason::ForeignInnerSource | DropReason::VtepMac);
        if let (true, Some(peer), Some(parsed)) = (may_be, inner.peer, &inner.parsed)
            && probe::is_one(snapshot, inner.carries, head, parsed)
        {
            return Ok(probe::handle(&mut self.cx, snapshot, peer, head, parsed));
        }
        Err(reason.into())
    }
}

/// A frame that is routed, whoever sent it, to its verdict; a sender who did something wrong is told. Inlined
/// into each entry, in which most of what it asks of the frame's origin is known.
#[inline(always)]
fn route<S: Sink>(
    cx: &mut Context,
    snapshot: &Snapshot,
    frame: &mut Frame<'_, '_>,
    sink: &mut S,
) -> Stage<Verdict> {
    // 4 and 5. Look up, decide.
    match decide::route(snapshot, frame, sink) {
        Ok(decision) => settle(cx, snapshot, frame, decision, sink),
        Err(refusal) => {
            if let Some(problem) = refusal.icmp {
                let what = (frame.head(), frame.parsed);
                icmp::send(cx, snapshot, frame.origin, what, problem, sink);
            }
            Err(refusal.reason.into())
        }
    }
}

/// What every decision comes by.
#[inline(always)]
fn settle<S: Sink>(
    cx: &Context,
    snapshot: &Snapshot,
    frame: &mut Frame<'_, '_>,
    decision: Decision<'_>,
    sink: &mut S,
) -> Stage<Verdict> {
    // 6. Answers to what the node has translated go back to it.
    let decision = judge::judge(cx, snapshot, frame, decision, sink);
    // 7. Nothing was written before.
    let verdict = rewrite::rewrite(snapshot, frame, decision)?;
    sink.step(|| rewrite::written(frame));
    Ok(verdict)
}

/// Counts a frame that has its verdict: as received, by its verdict, and where it came from and goes to.
/// `from`: the port or peer, and the bytes to count as received from it.
#[inline(always)]
fn conclude(
    counters: &Counters,
    snapshot: &Snapshot,
    verdict: &Verdict,
    packet: &Packet<'_>,
    from: Option<(&Side, Option<usize>)>,
) {
    counters.received.add(packet.packets);
    if let Some((side, Some(bytes))) = from {
        side.rx.add(packet.packets, bytes);
    }
    counters.account(verdict, packet.packets, from.map(|(side, _)| side));
    match verdict {
        Verdict::Deliver(port) => counters.port(*port).tx.add(packet.packets, packet.len),
        Verdict::Tunnel(t) | Verdict::Fragment(t) => {
            if let Some(path) = snapshot.path(t.path) {
                let peer = counters.peer(path.peer);
                peer.tx.add(packet.packets, packet.len);
            }
        }
        Verdict::Answered | Verdict::Ignore(_) | Verdict::Drop(_) => {}
    }
}
