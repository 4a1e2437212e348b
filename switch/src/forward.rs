//! 4–6. Lookup, decide, rewrite: switch by MAC within the node, route by IP beyond it.

use ringway_encap::ecn;
use ringway_packet::addr::mapped;
use ringway_packet::checksum;
use ringway_packet::flow::flow_hash;
use ringway_packet::offload::{Checksum, Gso, complete_checksum};
use ringway_packet::parse::{L3, Parsed};
use ringway_tables::{PathId, PortId, PortKind, Snapshot, Target};

use crate::bytes::{be16, dst4, dst6, is_link_local, is_multicast6, mac, src6};
use crate::icmp::{self, Problem};
use crate::pipeline::{Pipeline, Stage};
use crate::trace::{Sink, Step};
use crate::underlay::InnerSum;
use crate::{DropReason, Packet, Tunnel, Verdict};

/// Where a routed packet came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// A local port.
    Port(PortId, PortKind),
    /// A peer; the path leads back to the inner source.
    Peer(PathId),
}

/// Within the node: by destination MAC, the frame untouched.
#[inline]
pub(crate) fn switch<S: Sink>(
    snapshot: &Snapshot,
    port: PortId,
    packet: &Packet<'_>,
    parsed: &Parsed,
    sink: &mut S,
) -> Stage<Verdict> {
    let to = mac(packet.head(), 0);
    let found = snapshot.mac(to);
    sink.step(|| Step::Mac(to, found));
    match found {
        _ if parsed.l3 == L3::Other => Err(DropReason::UnknownEthertype.into()),
        Some(out) if out == port => Err(DropReason::Hairpin.into()),
        Some(out) => Ok(Verdict::Deliver(out)),
        None => Err(DropReason::UnknownMac.into()),
    }
}

/// By destination address. A packet that is not for this network goes to the node's own stack,
/// which routes it on and decrements its TTL there.
#[inline]
pub(crate) fn route<S: Sink>(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    from: From,
    packet: &mut Packet<'_>,
    parsed: &Parsed,
    now: u64,
    sink: &mut S,
) -> Stage<Verdict> {
    let l3 = usize::from(parsed.l3_off);
    let head = packet.head();
    // Lookup
    let target = match parsed.l3 {
        L3::Ipv4 => {
            let to = dst4(head, l3);
            let target = snapshot.routes4.lookup(to);
            sink.step(|| Step::Route(mapped(to), target));
            if target.is_none() && is_martian4(to) {
                return Err(DropReason::MartianDestination.into());
            }
            target
        }
        L3::Ipv6 => {
            let to = dst6(head, l3);
            let target = snapshot.routes6.lookup(to);
            sink.step(|| Step::Route(to, target));
            // RFC 4291 section 2.5.6: a link-local source goes no further than the gateway itself.
            let on_link = target == Some(Target::Port(PortId::NODE)) || is_link_local(to);
            if target.is_none() && is_martian6(to) || !on_link && is_link_local(src6(head, l3)) {
                return Err(DropReason::MartianDestination.into());
            }
            target
        }
        _ => return Err(DropReason::UnknownEthertype.into()),
    };
    // Decide
    match (target, from) {
        (Some(Target::Port(PortId(0))), From::Port(_, PortKind::Node)) => {
            Err(DropReason::Hairpin.into())
        }
        (Some(Target::Port(out)), From::Port(port, _)) if out == port => {
            Err(DropReason::Hairpin.into())
        }
        // The gateway's own address, or the world outside by way of the node's stack.
        (Some(Target::Port(PortId(0))), _) | (None, From::Port(_, PortKind::Pod)) => {
            if matches!(from, From::Peer(_)) {
                set_macs(
                    packet,
                    snapshot.node.gateway_mac.0,
                    snapshot.node.vtep_mac.0,
                );
            }
            Ok(Verdict::Deliver(PortId(0)))
        }
        (Some(Target::Port(out)), _) => {
            let to = snapshot.port(out).ok_or(DropReason::NoSuchPod)?.mac;
            hop(pipeline, snapshot, from, packet, parsed, now, sink)?;
            set_macs(packet, to.0, snapshot.node.gateway_mac.0);
            Ok(Verdict::Deliver(out))
        }
        (Some(Target::Path(id)), From::Port(..)) => {
            to_peer(pipeline, snapshot, from, id, packet, parsed, now, sink)
        }
        (Some(Target::Path(_)) | None, From::Peer(_)) => Err(DropReason::NotOurs.into()),
        (None, From::Port(_, PortKind::Node)) => Err(DropReason::NoRoute.into()),
        (Some(Target::Unreachable), _) => {
            icmp::send(
                pipeline,
                snapshot,
                from,
                packet,
                parsed,
                Problem::NoSuchHost,
                now,
                sink,
            );
            Err(DropReason::NoSuchPod.into())
        }
    }
}

/// From a peer's node to a pod: an answer to what the pod sent by this node's stack, outside the tunnel. The
/// stack gets it and passes it on, so that its connection tracking sees both directions.
#[cold]
pub(crate) fn from_peer_node<S: Sink>(
    snapshot: &Snapshot,
    packet: &mut Packet<'_>,
    parsed: &Parsed,
    sink: &mut S,
) -> Stage<Verdict> {
    let (head, l3) = (packet.head(), usize::from(parsed.l3_off));
    // Each family in its own table.
    let (to, target) = match parsed.l3 {
        L3::Ipv4 => {
            let to = dst4(head, l3);
            (mapped(to), snapshot.routes4.lookup(to))
        }
        _ => (dst6(head, l3), snapshot.routes6.lookup(dst6(head, l3))),
    };
    sink.step(|| Step::Route(to, target));
    match target {
        Some(Target::Port(_)) => {
            let node = &snapshot.node;
            set_macs(packet, node.gateway_mac.0, node.vtep_mac.0);
            Ok(Verdict::Deliver(PortId::NODE))
        }
        Some(Target::Unreachable) => Err(DropReason::NoSuchPod.into()),
        Some(Target::Path(_)) | None => Err(DropReason::NotOurs.into()),
    }
}

#[inline]
#[allow(clippy::too_many_arguments)]
fn to_peer<S: Sink>(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    from: From,
    id: PathId,
    packet: &mut Packet<'_>,
    parsed: &Parsed,
    now: u64,
    sink: &mut S,
) -> Stage<Verdict> {
    let path = snapshot.path(id).ok_or(DropReason::NoPath)?;
    // Size on the wire: of the largest segment, not of the superframe.
    let size = match packet.offload.gso {
        Gso::None => parsed.ip_len as usize,
        _ => usize::from(parsed.payload_off - parsed.l3_off) + usize::from(packet.offload.gso_size),
    };
    sink.step(|| Step::Size(size, path.mtu));
    let mut fragment = false;
    if size > usize::from(path.mtu) {
        fragment = parsed.l3 == L3::Ipv4 && !parsed.dont_fragment;
        if !fragment {
            icmp::send(
                pipeline,
                snapshot,
                from,
                packet,
                parsed,
                Problem::TooBig(path.mtu),
                now,
                sink,
            );
            return Err(DropReason::TooBig.into());
        }
    }
    hop(pipeline, snapshot, from, packet, parsed, now, sink)?;
    let tunnel = Tunnel {
        path: id,
        hash: flow_hash(parsed),
        tos: ecn::encapsulate(parsed.tos),
    };
    set_macs(packet, path.dst_mac.0, path.src_mac.0);
    // Segments get their checksums when they are cut; a single packet gets its own here, because
    // a tunnel has no field that says "still to be done".
    if packet.offload.gso == Gso::None {
        let mut known = Checksum::Complete;
        if let Checksum::Partial { start, offset } = packet.offload.checksum {
            // Of what comes out only a sum over the right pseudo-header is known to be right.
            if path.outer.needs_sum() && begun_right(packet.head(), parsed, start, offset) {
                known = Checksum::Verified;
            }
            complete_checksum(packet.head_mut(), start, offset)
                .map_err(|_| DropReason::BadOffload)?;
        }
        packet.offload.checksum = known;
    }
    Ok(if fragment {
        Verdict::Fragment(tunnel)
    } else {
        Verdict::Tunnel(tunnel)
    })
}

/// Whether a checksum to be completed is that of the L4 header, begins with the sum of the
/// pseudo-header, and covers the IP packet and no padding.
fn begun_right(head: &[u8], parsed: &Parsed, start: u16, offset: u16) -> bool {
    let at = usize::from(start) + usize::from(offset);
    let field = head.get(at..at + 2).map(|_| be16(head, at));
    let inner = InnerSum::of(head, parsed, 0);
    let sum = inner.map(|inner| checksum::fold(inner.pseudo));
    start == parsed.l4_off && field.is_some() && field == sum && parsed.ip_end() == head.len()
}

/// One routing hop: TTL checked and decremented. A packet from the node's stack has had its hop
/// there.
#[inline(always)]
fn hop<S: Sink>(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    from: From,
    packet: &mut Packet<'_>,
    parsed: &Parsed,
    now: u64,
    sink: &mut S,
) -> Stage<()> {
    if matches!(from, From::Port(_, PortKind::Node)) {
        return Ok(());
    }
    sink.step(|| Step::Ttl(parsed.ttl));
    if parsed.ttl <= 1 {
        icmp::send(
            pipeline,
            snapshot,
            from,
            packet,
            parsed,
            Problem::TtlExceeded,
            now,
            sink,
        );
        return Err(DropReason::TtlExceeded.into());
    }
    let l3 = usize::from(parsed.l3_off);
    // As much of the header as is touched of either.
    let ip = &mut packet.head_mut()[l3..l3 + 12];
    if parsed.l3 == L3::Ipv4 {
        ip[8] -= 1;
        // RFC 1624: TTL is the high octet of its word, so the checksum grows by 0x0100.
        let (sum, carry) = be16(ip, 10).overflowing_add(0x0100);
        ip[10..].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    } else {
        ip[7] -= 1;
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn set_macs(packet: &mut Packet<'_>, to: [u8; 6], from: [u8; 6]) {
    let macs = &mut packet.head_mut()[..12];
    macs[..6].copy_from_slice(&to);
    macs[6..].copy_from_slice(&from);
}

/// Destinations that can never be right behind a gateway (RFC 6890): "this network", loopback, multicast and
/// broadcast. Link-local and reserved ones the node's stack may have, or routes for.
pub(crate) fn is_martian4(a: u32) -> bool {
    matches!(a >> 24, 0 | 127 | 224..=239) || a == u32::MAX
}

/// The same for IPv6: unspecified, loopback and multicast.
pub(crate) fn is_martian6(a: u128) -> bool {
    a <= 1 || is_multicast6(a)
}
