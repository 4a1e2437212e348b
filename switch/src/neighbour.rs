//! Stage 3. Neighbour protocols: ARP, IPv6 neighbour discovery and other multicast: answered here, ignored, or
//! dropped; never flooded. The tables know every address there is, so nobody has to be asked.
//!
//! A pod that takes an address for its neighbour which is in no pod network (a route like
//! `169.254.0.0/16 dev eth0`), or that another node has borrowed from ours, is answered with the
//! gateway's MAC: the node has that address, or knows the way. Not so a probe: who looks for an
//! address of its own (RFC 5227, RFC 4862 section 5.4) must not be told that it is taken.

use ringway_packet::addr::unmap;
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::{Fragment, L3, Parsed};
use ringway_packet::{addr, arp, icmpv6, proto};
use ringway_tables::{Port, PortId, PortKind, Snapshot, Target};

use crate::bytes::{
    be16, be32, be128, is_link_local, is_martian4, is_martian6, is_multicast6, mac,
};
use crate::context::Context;
use crate::outbox::{Out, Outbox};
use crate::reason::{DropReason, IgnoreReason};
use crate::trace::{Sink, Step};
use crate::verdict::Verdict;

/// Whether the way to an address (IPv4 mapped) leads by the gateway although a pod may take it for its neighbour:
/// it is in no pod network, or another node has borrowed it from ours.
fn is_beyond(snapshot: &Snapshot, target: u128) -> bool {
    match snapshot.route(target) {
        None => true,
        Some(Target::Path(_)) => snapshot.node.cidrs.iter().any(|c| c.contains(target)),
        Some(_) => false,
    }
}

/// Whether a frame is this stage's: ARP, anything multicast, and unicast neighbour discovery. A later
/// fragment has no header to tell by; without the first, which has, it is of no use to anybody.
#[inline]
pub(crate) fn concerns(head: &[u8], parsed: &Parsed) -> bool {
    head[0] & 1 == 1
        || parsed.l3 == L3::Arp
        || (parsed.proto == proto::ICMPV6
            && parsed.l3 == L3::Ipv6
            && parsed.fragment != Fragment::Later
            && matches!(head.get(usize::from(parsed.l4_off)), Some(133..=137)))
}

/// The verdict on such a frame, from the port `entry`; an answer is left in the outbox.
#[inline(never)]
pub(crate) fn handle<S: Sink>(
    cx: &mut Context,
    snapshot: &Snapshot,
    (port, entry): (PortId, &Port),
    head: &[u8],
    parsed: &Parsed,
    sink: &mut S,
) -> Verdict {
    match parsed.l3 {
        L3::Arp => answer_arp(cx, snapshot, (port, entry), head, parsed, sink),
        L3::Ipv4 => multicast4(parsed),
        L3::Ipv6 if parsed.fragment == Fragment::Later => DropReason::Multicast.into(),
        L3::Ipv6 if parsed.proto == proto::ICMPV6 => match head.get(usize::from(parsed.l4_off)) {
            // RFC 6980 section 5: neighbour discovery never comes in fragments.
            Some(133..=137) if parsed.is_fragment() => DropReason::MalformedIcmp.into(),
            Some(&icmpv6::NEIGHBOUR_SOLICITATION) => {
                answer_solicitation(cx, snapshot, (port, entry), head, parsed, sink)
            }
            Some(&icmpv6::NEIGHBOUR_ADVERTISEMENT) => IgnoreReason::NeighbourAdvertisement.into(),
            Some(&icmpv6::ROUTER_SOLICITATION) => IgnoreReason::RouterSolicitation.into(),
            // Listener query, report, done (RFC 2710) and report version 2 (RFC 3810).
            Some(130..=132 | 143) => IgnoreReason::MulticastListener.into(),
            // Router advertisement and redirect: no pod is a router.
            Some(134 | 137) => DropReason::Multicast.into(),
            _ => DropReason::Multicast.into(),
        },
        L3::Ipv6 => multicast6(parsed),
        L3::Other => DropReason::UnknownEthertype.into(),
    }
}

fn answer_arp<S: Sink>(
    cx: &mut Context,
    snapshot: &Snapshot,
    (port, entry): (PortId, &Port),
    head: &[u8],
    parsed: &Parsed,
    sink: &mut S,
) -> Verdict {
    let at = usize::from(parsed.l3_off);
    // RFC 826: operation at 6, sender at 8 and 14, target protocol address at 24.
    if be16(head, at + 6) != arp::REQUEST {
        return IgnoreReason::ArpReply.into();
    }
    let (asker, sender, target) = (mac(head, at + 8), be32(head, at + 14), be32(head, at + 24));
    // RFC 5227: a probe has sender 0, an announcement asks for its own address.
    if entry.ip4 == Some(target) || sender == target {
        return IgnoreReason::DuplicateAddressProbe.into();
    }
    let known = snapshot.neighbours.get(addr::mapped(target));
    sink.step(|| Step::Neighbour(addr::mapped(target), known));
    let beyond = sender != 0
        && entry.kind == PortKind::Pod
        && is_beyond(snapshot, addr::mapped(target))
        && !is_martian4(target);
    let Some(answer) = known.or(beyond.then_some(snapshot.node.gateway_mac)) else {
        return DropReason::NoNeighbour.into();
    };
    sink.step(|| Step::Originated("ARP reply"));
    let put = cx.outbox.put(Out::Port(port), |out| {
        arp::write_reply(out, answer, target, asker, sender)
    });
    answered(put)
}

fn answer_solicitation<S: Sink>(
    cx: &mut Context,
    snapshot: &Snapshot,
    (port, entry): (PortId, &Port),
    head: &[u8],
    parsed: &Parsed,
    sink: &mut S,
) -> Verdict {
    let l4 = usize::from(parsed.l4_off);
    // RFC 4861 section 7.1.1: hop limit 255, code 0, at least 24 octets, target not multicast.
    let end = head.len().min(parsed.ip_end());
    if parsed.ttl != 255 || end < l4 + 24 || head[l4 + 1] != 0 || head[l4 + 8] == 0xff {
        return DropReason::MalformedIcmp.into();
    }
    let (source, target) = (parsed.src6(), be128(head, l4 + 8));
    let beyond = source != 0
        && entry.kind == PortKind::Pod
        && is_beyond(snapshot, target)
        && !is_link_local(target)
        && !is_martian6(target);
    let known = snapshot.neighbours.get(target);
    sink.step(|| Step::Neighbour(target, known));
    let Some(answer) = known.or(beyond.then_some(snapshot.node.gateway_mac)) else {
        // Nobody else has a link-local address that the tables know; probes for one are unanswered.
        return if source == 0 || is_link_local(target) {
            IgnoreReason::DuplicateAddressProbe.into()
        } else {
            DropReason::NoNeighbour.into()
        };
    };
    if entry.ip6 == Some(target) || answer == entry.mac {
        return IgnoreReason::DuplicateAddressProbe.into();
    }
    let asker: MacAddr = mac(head, 6);
    let router = answer == snapshot.node.gateway_mac;
    sink.step(|| Step::Originated("neighbour advertisement"));
    let put = cx.outbox.put(Out::Port(port), |out| {
        icmpv6::write_advertisement(out, answer, target, asker, source, router)
    });
    answered(put)
}

/// Leaves in the outbox what tells the port `to` that `ip` (IPv4 mapped) is at `mac` from now on: a gratuitous
/// ARP request, or an unsolicited neighbour advertisement that overrides (RFC 4861 section 7.2.6).
pub(crate) fn announce(outbox: &mut Outbox, to: PortId, ip: u128, mac: MacAddr) -> bool {
    outbox.put(Out::Port(to), |out| match unmap(ip) {
        Some(v4) => arp::write_announcement(out, mac, v4),
        None => icmpv6::write_advertisement(out, mac, ip, MacAddr::default(), 0, false),
    })
}

fn answered(put: bool) -> Verdict {
    if put {
        Verdict::Answered
    } else {
        DropReason::AnswerQueueFull.into()
    }
}

fn multicast4(parsed: &Parsed) -> Verdict {
    match (parsed.proto, parsed.dst_port) {
        (proto::IGMP, _) => IgnoreReason::Igmp.into(),
        (proto::UDP, 67) => IgnoreReason::Dhcp.into(),
        // 224.0.0.251 and .252
        (proto::UDP, 5353 | 5355) if parsed.dst4() >> 28 == 0xe => IgnoreReason::Mdns.into(),
        _ => DropReason::Multicast.into(),
    }
}

fn multicast6(parsed: &Parsed) -> Verdict {
    match (parsed.proto, parsed.dst_port) {
        (proto::UDP, 547) => IgnoreReason::Dhcp.into(),
        (proto::UDP, 5353 | 5355) if is_multicast6(parsed.dst6()) => IgnoreReason::Mdns.into(),
        _ => DropReason::Multicast.into(),
    }
}
