//! Stage 5. Decide: switch by MAC within the node, route by IP beyond it. Nothing is written yet.

use ringway_packet::offload::Gso;
use ringway_packet::parse::{L3, Parsed};
use ringway_tables::{Path, PathId, Port, PortId, PortKind, Snapshot, Target};

use crate::bytes::{is_link_local, is_martian4, is_martian6};
use crate::frame::{Frame, Origin};
use crate::icmp::Problem;
use crate::lookup;
use crate::reason::DropReason;
use crate::trace::{Sink, Step};

/// What is to be done with a frame.
#[derive(Clone, Copy)]
pub(crate) enum Decision<'s> {
    /// Within the node, by its destination MAC: untouched.
    Switch(PortId),
    /// To the node's own stack.
    Node,
    /// One hop, to a pod.
    Pod(PortId, &'s Port),
    /// One hop, to a peer.
    Peer {
        id: PathId,
        path: &'s Path,
        /// It is IPv4 above the path's MTU, and may be fragmented.
        fragment: bool,
    },
}

impl Decision<'_> {
    /// The local port it leads to.
    #[inline]
    pub(crate) fn port(&self) -> Option<PortId> {
        match *self {
            Decision::Switch(port) | Decision::Pod(port, _) => Some(port),
            Decision::Node => Some(PortId::NODE),
            Decision::Peer { .. } => None,
        }
    }
}

/// Why a frame goes nowhere, and what its sender is to hear of it.
pub(crate) struct Refusal {
    pub(crate) reason: DropReason,
    pub(crate) icmp: Option<Problem>,
}

impl From<DropReason> for Refusal {
    #[inline]
    fn from(reason: DropReason) -> Refusal {
        Refusal { reason, icmp: None }
    }
}

impl Refusal {
    #[cold]
    fn with_icmp(reason: DropReason, problem: Problem) -> Refusal {
        Refusal {
            reason,
            icmp: Some(problem),
        }
    }
}

/// By destination MAC.
#[inline(always)]
pub(crate) fn switch<'s, S: Sink>(
    snapshot: &Snapshot,
    port: PortId,
    frame: &Frame<'_, '_>,
    sink: &mut S,
) -> Result<Decision<'s>, DropReason> {
    let found = lookup::by_mac(snapshot, frame.head(), sink);
    match found {
        _ if frame.parsed.l3 == L3::Other => Err(DropReason::UnknownEthertype),
        Some(out) if out == port => Err(DropReason::Hairpin),
        Some(out) => Ok(Decision::Switch(out)),
        None => Err(DropReason::UnknownMac),
    }
}

/// By destination address, what is sent to the gateway. A packet that is not for this network goes to the node's own stack, which routes it
/// on and decrements its TTL there.
#[inline(always)]
pub(crate) fn route<'s, S: Sink>(
    snapshot: &'s Snapshot,
    frame: &Frame<'_, '_>,
    sink: &mut S,
) -> Result<Decision<'s>, Refusal> {
    let origin = frame.origin;
    if origin == Origin::PeerNode {
        return from_peer_node(snapshot, frame.parsed, sink);
    }
    if !matches!(frame.parsed.l3, L3::Ipv4 | L3::Ipv6) {
        return Err(DropReason::UnknownEthertype.into());
    }
    let target = lookup::by_address(snapshot, frame.parsed, sink);
    if is_martian(target, frame) {
        return Err(DropReason::MartianDestination.into());
    }
    match (target, origin) {
        (Some(Target::Port(PortId::NODE)), Origin::Port(_, PortKind::Node)) => {
            Err(DropReason::Hairpin.into())
        }
        (Some(Target::Port(out)), Origin::Port(port, _)) if out == port => {
            Err(DropReason::Hairpin.into())
        }
        // The gateway's own address, or the world outside by way of the node's stack.
        (Some(Target::Port(PortId::NODE)), _) | (None, Origin::Port(_, PortKind::Pod)) => {
            Ok(Decision::Node)
        }
        (Some(Target::Port(out)), _) => {
            let to = snapshot.port(out).ok_or(DropReason::NoSuchPod)?;
            check_ttl(origin, frame, sink)?;
            Ok(Decision::Pod(out, to))
        }
        (Some(Target::Path(id)), Origin::Port(..)) => {
            let path = snapshot.path(id).ok_or(DropReason::NoPath)?;
            let fragment = check_size(path, frame, sink)?;
            check_ttl(origin, frame, sink)?;
            Ok(Decision::Peer { id, path, fragment })
        }
        (None, Origin::Port(_, PortKind::Node)) => Err(DropReason::NoRoute.into()),
        (Some(Target::Path(_)) | None, _) => Err(DropReason::NotOurs.into()),
        (Some(Target::Unreachable), _) => Err(Refusal::with_icmp(
            DropReason::NoSuchPod,
            Problem::NoSuchHost,
        )),
    }
}

/// Addresses that are never routed (RFC 6890), and what a route does not make good.
#[inline(always)]
fn is_martian(target: Option<Target>, frame: &Frame<'_, '_>) -> bool {
    let parsed = frame.parsed;
    if parsed.l3 == L3::Ipv4 {
        return target.is_none() && is_martian4(parsed.dst4());
    }
    // RFC 4291 section 2.5.6: a link-local source goes no further than the gateway itself.
    let on_link = target == Some(Target::Port(PortId::NODE)) || is_link_local(parsed.dst6());
    target.is_none() && is_martian6(parsed.dst6()) || !on_link && is_link_local(parsed.src6())
}

/// From a peer's node to a pod: an answer to what the pod sent by this node's stack, outside the tunnel. The
/// stack gets it and passes it on, so that its connection tracking sees both directions.
#[cold]
fn from_peer_node<'s, S: Sink>(
    snapshot: &Snapshot,
    parsed: &Parsed,
    sink: &mut S,
) -> Result<Decision<'s>, Refusal> {
    match lookup::by_address(snapshot, parsed, sink) {
        Some(Target::Port(_)) => Ok(Decision::Node),
        Some(Target::Unreachable) => Err(DropReason::NoSuchPod.into()),
        Some(Target::Path(_)) | None => Err(DropReason::NotOurs.into()),
    }
}

/// Whether a packet has to be fragmented for a path. What counts is the size on the wire: of the largest
/// segment, not of the superframe.
#[inline(always)]
fn check_size<S: Sink>(path: &Path, frame: &Frame<'_, '_>, sink: &mut S) -> Result<bool, Refusal> {
    let (parsed, offload) = (frame.parsed, &frame.packet.offload);
    let size = match offload.gso {
        Gso::None => parsed.ip_len as usize,
        _ => usize::from(parsed.payload_off - parsed.l3_off) + usize::from(offload.gso_size),
    };
    sink.step(|| Step::Size(size, path.mtu));
    if size <= usize::from(path.mtu) {
        Ok(false)
    } else if parsed.l3 == L3::Ipv4 && !parsed.dont_fragment {
        Ok(true)
    } else {
        Err(Refusal::with_icmp(
            DropReason::TooBig,
            Problem::TooBig(path.mtu),
        ))
    }
}

/// Whether a packet may take one hop more. One from the node's stack has had its hop there.
#[inline(always)]
fn check_ttl<S: Sink>(origin: Origin, frame: &Frame<'_, '_>, sink: &mut S) -> Result<(), Refusal> {
    if origin.is_node() {
        return Ok(());
    }
    let ttl = frame.parsed.ttl;
    sink.step(|| Step::Ttl(ttl));
    if ttl <= 1 {
        return Err(Refusal::with_icmp(
            DropReason::TtlExceeded,
            Problem::TtlExceeded,
        ));
    }
    Ok(())
}
