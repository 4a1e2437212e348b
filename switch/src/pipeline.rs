//! The way of a frame, top to bottom in the order a frame meets it.
//!
//! ```text
//!  from_port ──▶ 1 parse ▶ 2 admit ▶ 3 neighbour protocols ▶ 4 switch by MAC
//!                                                          ▶ 4 route by IP ─┐
//!  from_underlay ▶ open outer ─┐                                            ├▶ 5 decide ▶ 6 rewrite ▶ verdict
//!  (socket: open, coalesce) ───┴▶ from_peer ▶ 1 parse ▶ 2 admit ▶ 4 route ──┘
//! ```
//!
//! A delivery to a pod may turn into one to the node as the last thing before its verdict (7): see
//! [`returns`](crate::returns).
//!
//! Every entry counts the frame as received, runs it to exactly one [`Verdict`], counts that, and
//! leaves the frame in `packet` rewritten for whoever carries the verdict out. Answers and ICMP
//! errors are left in the outbox. No clock, no lock, no allocation: `now` is an argument.

use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::Outer;
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::{self, Layer, Parsed};
use ringway_tables::{PeerId, PortId, PortKind, Snapshot, Target};

use crate::counters::Counters;
use crate::limiter::Limiter;
use crate::outbox::Outbox;
use crate::returns::{Returns, Role};
use crate::trace::{Sink, Step};
use crate::{DropReason, Packet, Verdict, admit, forward, neighbour, priority, underlay};

/// UDP ports by which an outer packet's encapsulation is told.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// VXLAN; 8472 on Linux and with Flannel, 4789 by RFC 7348.
    pub vxlan: u16,
    /// Flannel's udp backend; 8285.
    pub udp: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports {
            vxlan: 8472,
            udp: 8285,
        }
    }
}

/// The pipeline of one worker.
pub struct Pipeline {
    pub(crate) outbox: Outbox,
    pub(crate) limiter: Limiter,
    pub(crate) counters: Arc<Counters>,
    ports: Ports,
    returns: Arc<Returns>,
}

/// What a stage gives: go on with `T`, or this is the verdict.
pub(crate) type Stage<T> = Result<T, Verdict>;

impl Pipeline {
    /// A pipeline that counts into `counters`.
    pub fn new(counters: Arc<Counters>, ports: Ports) -> Self {
        Pipeline {
            outbox: Outbox::default(),
            limiter: Limiter::default(),
            counters,
            ports,
            returns: Arc::default(),
        }
    }

    /// The same with a table of flows that it shares with others.
    pub fn sharing(self, returns: Arc<Returns>) -> Self {
        Pipeline { returns, ..self }
    }

    /// The counters it writes.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Frames the switch made; send them, then clear.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Leaves a frame in the outbox that tells the port `to` that `ip` (IPv4 mapped) is at `mac` from now on;
    /// `false` when there is no room.
    pub fn announce(&mut self, to: PortId, ip: u128, mac: MacAddr) -> bool {
        neighbour::announce(self, to, ip, mac)
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
        sink.step(|| Step::FromPort(port));
        let (packets, bytes) = (packet.packets, packet.len);
        let verdict = self
            .port_stages(snapshot, port, packet, now, sink)
            .unwrap_or_else(|v| v);
        let counters = &*self.counters;
        let side = counters.port(port);
        counters.received.add(packets);
        side.rx.add(packets, bytes);
        counters.account(&verdict, packets, Some(side));
        self.count_out(snapshot, &verdict, packet);
        sink.step(|| Step::Verdict(verdict));
        verdict
    }

    #[inline]
    fn port_stages<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        port: PortId,
        packet: &mut Packet<'_>,
        now: u64,
        sink: &mut S,
    ) -> Stage<Verdict> {
        // 1. Parse: one bounded pass; every later stage trusts these offsets.
        let mut parsed = parse::parse(packet.head(), packet.len).map_err(malformed)?;
        sink.step(|| Step::Parsed(parsed));
        // 2. Admit: is this frame the port's own?
        let entry = snapshot.port(port).ok_or(DropReason::UnknownPort)?;
        if parsed.vlan_tags > 0 {
            match packet.head()[..6] == snapshot.node.gateway_mac.0 {
                true => priority::untag(packet, &mut parsed)?,
                false => priority::accept(packet.head(), &mut parsed)?,
            }
        }
        if entry.kind == PortKind::Pod {
            admit::pod(entry, packet.head(), &parsed)?;
        }
        admit::offload(&packet.offload, &parsed)?;
        sink.step(|| Step::Admitted);
        // 3. ARP, ND and what is multicast: answered or ignored here, never flooded.
        if neighbour::concerns(packet.head(), &parsed) {
            return Ok(neighbour::handle(
                self, snapshot, port, entry, packet, &parsed, sink,
            ));
        }
        // 4–6. To the gateway's MAC: route. To another: switch.
        let from = forward::From::Port(port, entry.kind);
        if entry.kind == PortKind::Pod && !self.returns.in_use() {
            return self.onward(snapshot, from, packet, &parsed, now, sink);
        }
        // 7. Answers to what the node has translated go back to it.
        self.onward_and_back(snapshot, from, entry.mac.0, packet, &parsed, now, sink)
    }

    #[inline]
    fn onward<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        from: forward::From,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        now: u64,
        sink: &mut S,
    ) -> Stage<Verdict> {
        match from {
            forward::From::Port(port, _) if packet.head()[..6] != snapshot.node.gateway_mac.0 => {
                forward::switch(snapshot, port, packet, parsed, sink)
            }
            _ => forward::route(self, snapshot, from, packet, parsed, now, sink),
        }
    }

    /// The same where there are flows that return to the node. A function of its own: what it keeps over
    /// the forwarding costs a frame a tenth, which nodes without such flows need not pay.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn onward_and_back<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        from: forward::From,
        mac: [u8; 6],
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        now: u64,
        sink: &mut S,
    ) -> Stage<Verdict> {
        let verdict = self.onward(snapshot, from, packet, parsed, now, sink)?;
        match from {
            forward::From::Port(_, PortKind::Node) => {
                self.note_return(snapshot, verdict, packet, parsed, now);
                return Ok(verdict);
            }
            _ if verdict == Verdict::Deliver(PortId::NODE) => return Ok(verdict),
            forward::From::Port(port, _) => {
                let returns = &self.returns;
                returns.direct(port, Role::Client, packet.head(), parsed);
            }
            forward::From::Peer(_) => {
                if let Verdict::Deliver(pod) = verdict {
                    let returns = &self.returns;
                    returns.direct(pod, Role::Backend, packet.head(), parsed);
                }
            }
        }
        // Which pod's flow it may be an answer of.
        let (pod, role) = match (verdict, from) {
            (Verdict::Deliver(client), _) => (client, Role::Client),
            (_, forward::From::Port(backend, _)) => (backend, Role::Backend),
            _ => return Ok(verdict),
        };
        if !self.returns.takes(pod, role, packet.head(), parsed, now) {
            return Ok(verdict);
        }
        sink.step(|| Step::Returned(pod));
        self.counters.returned.add(packet.packets);
        forward::set_macs(packet, snapshot.node.gateway_mac.0, mac);
        Ok(Verdict::Deliver(PortId::NODE))
    }

    /// A packet from the node under the address of a pod, of this node or for a pod of this node: its answers
    /// are to return to the node.
    #[inline]
    fn note_return(
        &self,
        snapshot: &Snapshot,
        verdict: Verdict,
        packet: &Packet<'_>,
        parsed: &Parsed,
        now: u64,
    ) {
        let Some((source, _)) = parsed.addresses() else {
            return;
        };
        let (pod, role) = match (snapshot.route(source), verdict) {
            (Some(Target::Port(PortId::NODE)), _) => return,
            (Some(Target::Port(client)), _) => (client, Role::Client),
            (Some(Target::Path(_)), Verdict::Deliver(backend)) => (backend, Role::Backend),
            _ => return,
        };
        self.returns
            .from_node(pod, role, packet.head(), parsed, now);
    }

    /// A whole outer frame from an underlay port that carries frames (memory, AF_XDP).
    #[inline]
    pub fn from_underlay<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        now: u64,
        sink: &mut S,
    ) -> Verdict {
        match underlay::open_frame(snapshot, self.ports, packet) {
            Ok((peer, encap, tos)) => {
                self.from_peer(snapshot, peer, encap, tos, packet, None, now, sink)
            }
            Err((peer, reason)) => {
                self.refuse(reason, packet.packets, peer);
                sink.step(|| Step::Verdict(reason.into()));
                reason.into()
            }
        }
    }

    /// Takes the outer headers of a whole frame apart, for a caller that coalesces before
    /// `from_peer`. The outer UDP checksum is still to be verified
    /// ([`outer_checksum`](crate::outer_checksum)).
    #[inline]
    pub fn outer(&self, snapshot: &Snapshot, frame: &[u8]) -> Result<(Outer, Encap), DropReason> {
        underlay::outer_headers(snapshot, self.ports, frame)
    }

    /// Whose datagram this is, and that its encapsulation is ours: the first half of
    /// `from_underlay` for ports that carry datagrams. `payload` begins at the tunnel header.
    ///
    /// # Errors
    /// The reason to [`refuse`](Self::refuse) it for, and whose it is if that is known.
    #[inline]
    pub fn open(
        &self,
        snapshot: &Snapshot,
        source: u128,
        encap: Encap,
        payload: &[u8],
    ) -> Result<PeerId, (Option<PeerId>, DropReason)> {
        let peer = underlay::peer(snapshot, source).map_err(|reason| (None, reason))?;
        underlay::tunnel_header(snapshot, encap, payload).map_err(|reason| (Some(peer), reason))?;
        Ok(peer)
    }

    /// Whether a frame out of a tunnel will be admitted by `from_peer`; for a caller that coalesces
    /// frames before it, so that none is admitted on another's credit.
    #[inline]
    pub fn admits(
        &self,
        snapshot: &Snapshot,
        peer: PeerId,
        encap: Encap,
        head: &[u8],
        parsed: &Parsed,
    ) -> bool {
        admit::peer(snapshot, peer, encap, head, parsed).is_ok()
    }

    /// Counts a datagram that was refused before it became a frame of a peer.
    pub fn refuse(&self, reason: DropReason, packets: u32, peer: Option<PeerId>) {
        self.counters.received.add(packets);
        let side = peer.map(|p| self.counters.peer(p));
        self.counters.account(&Verdict::Drop(reason), packets, side);
    }

    /// A frame that a peer sent, its outer headers taken off by [`Packet::pull`]; a bare IP packet
    /// has been given its header by [`put_ethernet`](crate::put_ethernet). `tos` is the outer TOS
    /// octet, `parsed` the offsets if the caller has parsed the frame already.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub fn from_peer<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        peer: PeerId,
        encap: Encap,
        tos: u8,
        packet: &mut Packet<'_>,
        parsed: Option<Parsed>,
        now: u64,
        sink: &mut S,
    ) -> Verdict {
        sink.step(|| Step::FromPeer(peer));
        let (packets, bytes) = (packet.packets, packet.len);
        let verdict = self
            .peer_stages(snapshot, peer, encap, tos, packet, parsed, now, sink)
            .unwrap_or_else(|v| v);
        let counters = &*self.counters;
        let side = counters.peer(peer);
        counters.received.add(packets);
        side.rx.add(packets, bytes);
        counters.account(&verdict, packets, Some(side));
        self.count_out(snapshot, &verdict, packet);
        sink.step(|| Step::Verdict(verdict));
        verdict
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn peer_stages<S: Sink>(
        &mut self,
        snapshot: &Snapshot,
        peer: PeerId,
        encap: Encap,
        tos: u8,
        packet: &mut Packet<'_>,
        parsed: Option<Parsed>,
        now: u64,
        sink: &mut S,
    ) -> Stage<Verdict> {
        // 1. Parse.
        let mut parsed = match parsed {
            Some(parsed) => parsed,
            None => parse::parse(packet.head(), packet.len).map_err(malformed)?,
        };
        sink.step(|| Step::Parsed(parsed));
        // 2. Admit: addressed to our VTEP, from an address that is the peer's.
        if parsed.vlan_tags > 0 {
            priority::untag(packet, &mut parsed)?;
        }
        let sender = admit::peer(snapshot, peer, encap, packet.head(), &parsed)?;
        underlay::congestion(tos, packet, &mut parsed)?;
        sink.step(|| Step::Admitted);
        let admit::Sender::Pod(source) = sender else {
            return forward::from_peer_node(snapshot, packet, &parsed, sink);
        };
        // 4–6. Route.
        let from = forward::From::Peer(source);
        if !self.returns.in_use() {
            return forward::route(self, snapshot, from, packet, &parsed, now, sink);
        }
        // 7. Answers to what the node has translated go back to it.
        let vtep = snapshot.node.vtep_mac.0;
        self.onward_and_back(snapshot, from, vtep, packet, &parsed, now, sink)
    }

    /// Counts a forwarded frame at the port or peer it leaves by.
    #[inline]
    fn count_out(&self, snapshot: &Snapshot, verdict: &Verdict, packet: &Packet<'_>) {
        match verdict {
            Verdict::Deliver(port) => self.counters.port(*port).tx.add(packet.packets, packet.len),
            Verdict::Tunnel(t) | Verdict::Fragment(t) => {
                if let Some(path) = snapshot.path(t.path) {
                    self.counters
                        .peer(path.peer)
                        .tx
                        .add(packet.packets, packet.len);
                }
            }
            _ => {}
        }
    }
}

/// The drop reason of a frame that does not parse.
#[cold]
pub(crate) fn malformed(error: parse::ParseError) -> Verdict {
    Verdict::Drop(reason_of(&error))
}

/// The drop reason that a parse error counts as.
#[cold]
pub fn reason_of(error: &parse::ParseError) -> DropReason {
    match error.layer() {
        Layer::Ethernet => DropReason::MalformedEthernet,
        Layer::Arp => DropReason::MalformedArp,
        Layer::Ipv4 => DropReason::MalformedIpv4,
        Layer::Ipv4Checksum => DropReason::Ipv4Checksum,
        Layer::Ipv6 => DropReason::MalformedIpv6,
        Layer::Ipv6Extensions => DropReason::Ipv6Extensions,
        Layer::Tcp => DropReason::MalformedTcp,
        Layer::Udp => DropReason::MalformedUdp,
        Layer::Sctp => DropReason::MalformedSctp,
        Layer::Icmp => DropReason::MalformedIcmp,
    }
}
