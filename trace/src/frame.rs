//! The frame of a trace: given, or built as the sender's kernel would.
//!
//! A pod's kernel sends to a neighbour what lies in the network of its address, all else to its gateway. For the MAC
//! of either it asks by ARP or neighbour discovery; so does the trace: the question goes through the pipeline first,
//! and its answer is the frame's destination. If there is none the kernel sends nothing, and the question is the trace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringway_control::captures::NoPoint;
use ringway_encap::{Carries, Encap};
use ringway_packet::addr::{from_ip, to_ip};
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_packet::parse::{self, L3};
use ringway_packet::{arp, icmpv6, kit, proto};
use ringway_tables::{Cidr, PathId, Peer, PeerId, Port, PortId, PortKind, Snapshot};
use ringway_worker::trace::{Basis, Given, Tracer};

use super::{Described, From, Packet, Protocol, Request, TraceError};

const ETHERNET: usize = 14;

/// A frame and how it comes in.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    pub(super) way: Way,
    /// What it is for, if it is not what was asked for.
    pub(super) note: Option<String>,
}

/// How a frame comes in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Port {
        port: PortId,
        offload: Offload,
        packets: u16,
    },
    Datagram {
        source: u128,
        encap: Encap,
    },
    Outer,
}

impl Input {
    pub(super) fn given(&self) -> Given<'_> {
        let bytes = &self.bytes[..];
        match self.way {
            Way::Port {
                port,
                offload,
                packets,
            } => Given::Port {
                port,
                frame: bytes,
                offload,
                packets,
            },
            Way::Datagram { source, encap } => Given::Datagram {
                source,
                tos: 0,
                encap,
                payload: bytes,
            },
            Way::Outer => Given::Outer(bytes),
        }
    }

    fn from_port(port: PortId, bytes: Vec<u8>) -> Input {
        Input {
            bytes,
            way: Way::Port {
                port,
                offload: Offload::default(),
                packets: 1,
            },
            note: None,
        }
    }
}

/// The frames to trace, in order.
pub(super) fn build(
    tracer: &mut Tracer,
    basis: &Basis<'_>,
    request: &Request,
) -> Result<Vec<Input>, TraceError> {
    let tables = basis.tables;
    let port = match &request.from {
        From::Pod(name) => pod(tables, name)?,
        From::Node => PortId::NODE,
        From::Peer(name) => return from_peer(tables, name, &request.packet).map(|i| vec![i]),
        From::Underlay => {
            let Packet::Frame { bytes, .. } = &request.packet else {
                return Err(TraceError::Underlay);
            };
            return Ok(vec![Input {
                bytes: bytes.clone(),
                way: Way::Outer,
                note: None,
            }]);
        }
    };
    match &request.packet {
        Packet::Described(described) => from_port(tracer, basis, port, described),
        Packet::Frame { bytes, segment, .. } => {
            let mut input = Input::from_port(port, bytes.clone());
            if let Some(segment) = segment {
                let (offload, packets) = superframe(bytes, *segment)?;
                input.way = Way::Port {
                    port,
                    offload,
                    packets,
                };
            }
            Ok(vec![input])
        }
    }
}

fn pod(tables: &Snapshot, name: &str) -> Result<PortId, TraceError> {
    let pods = || {
        let ports = tables.ports.iter();
        ports.filter(|(_, port)| port.kind == PortKind::Pod)
    };
    let found = pods().find(|(_, port)| &*port.name == name);
    found
        .map(|(id, _)| PortId(id))
        .ok_or_else(|| NoPoint::new("pod", name, pods().map(|(_, port)| &*port.name)).into())
}

fn peer<'t>(tables: &'t Snapshot, name: &str) -> Result<(PeerId, &'t Peer), TraceError> {
    let peers = || tables.peers.iter();
    let found = peers().find(|(_, peer)| &*peer.name == name);
    found
        .map(|(id, peer)| (PeerId(id), peer))
        .ok_or_else(|| NoPoint::new("peer", name, peers().map(|(_, peer)| &*peer.name)).into())
}

/// From a pod or the node, and the question before it if that has no answer.
fn from_port(
    tracer: &mut Tracer,
    basis: &Basis<'_>,
    id: PortId,
    described: &Described,
) -> Result<Vec<Input>, TraceError> {
    let tables = basis.tables;
    let sender = tables.port(id).ok_or_else(|| {
        let name = if id == PortId::NODE { "node" } else { "?" };
        NoPoint::new("port", name, std::iter::empty())
    })?;
    let v6 = described.to.is_ipv6();
    let own = match sender.kind {
        PortKind::Node => address(v6, tables.node.gateway4, tables.node.gateway6),
        PortKind::Pod => address(v6, sender.ip4, sender.ip6),
    };
    let source = described.source.or(own);
    let source = source.ok_or_else(|| TraceError::NoAddress {
        who: match sender.kind {
            PortKind::Node => "the node".into(),
            PortKind::Pod => format!("pod {}", sender.name),
        },
        family: if v6 { 6 } else { 4 },
        to: described.to,
    })?;
    let mac = described.mac.unwrap_or(sender.mac);
    let build = |to| packet(described, source, (mac, to)).map(|p| p.frame());
    // What it cannot be is said before anything else.
    build(MacAddr::default())?;
    let Some(hop) = next_hop(tables, sender, own.unwrap_or(source), described.to) else {
        // The node's kernel has an entry for the gateway that never ends.
        let frame = build(tables.node.gateway_mac)?;
        return Ok(vec![Input::from_port(id, frame)]);
    };
    let question = question((mac, own.unwrap_or(source)), hop);
    let mut asked = Input::from_port(id, question);
    let traced = tracer
        .run(basis, &asked.given())
        .map_err(TraceError::TooLong)?;
    let answer = traced.first().and_then(|traced| traced.made.first());
    let answer = answer.and_then(|made| made.frame.get(6..12)?.try_into().ok());
    match answer.map(MacAddr) {
        Some(to) => Ok(vec![Input::from_port(id, build(to)?)]),
        None => {
            asked.note = Some(format!(
                "the sender asks who has {hop}; without an answer it sends nothing"
            ));
            Ok(vec![asked])
        }
    }
}

/// The address of this family.
fn address(v6: bool, ip4: Option<u32>, ip6: Option<u128>) -> Option<IpAddr> {
    match v6 {
        true => ip6.map(Ipv6Addr::from_bits).map(IpAddr::V6),
        false => ip4.map(Ipv4Addr::from_bits).map(IpAddr::V4),
    }
}

/// Whom the sender's kernel asks for the MAC; none: the gateway, which it does not ask for.
fn next_hop(tables: &Snapshot, sender: &Port, own: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let cidrs = tables.node.cidrs.iter();
    let of_family = || cidrs.clone().filter(|cidr| cidr.is_ipv6() == to.is_ipv6());
    let around = |cidr: &&Cidr| cidr.contains(from_ip(own));
    if sender.kind == PortKind::Node {
        let on_link = of_family().any(|cidr| cidr.contains(from_ip(to)));
        return on_link.then_some(to);
    }
    let link_local = matches!(to, IpAddr::V6(to) if to.is_unicast_link_local());
    if link_local
        || of_family()
            .filter(around)
            .any(|cidr| cidr.contains(from_ip(to)))
    {
        return Some(to);
    }
    let gateway = address(to.is_ipv6(), tables.node.gateway4, tables.node.gateway6);
    // Of a network after the first: its own gateway, if it has room for one.
    let roomy = of_family().filter(around);
    let mut roomy = roomy.filter(|cidr| cidr.last() - cidr.first() > 1);
    match (roomy.next(), gateway) {
        (Some(cidr), Some(gateway)) if cidr.contains(from_ip(gateway)) => Some(gateway),
        (Some(cidr), _) => Some(to_ip(cidr.first() + 1)),
        (None, gateway) => gateway,
    }
}

/// Who has this address?
fn question((mac, source): (MacAddr, IpAddr), target: IpAddr) -> Vec<u8> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => kit::arp(
            MacAddr::BROADCAST,
            arp::Repr {
                operation: arp::REQUEST,
                sender_mac: mac,
                sender_ip: source.to_bits(),
                target_mac: MacAddr::ZERO,
                target_ip: target.to_bits(),
            },
        ),
        _ => {
            let target = from_ip(target);
            // RFC 4291 section 2.7.1: the solicited-node group.
            let group = 0xff02 << 112 | 0x1_ff00_0000 | (target & 0xff_ffff);
            let option = [&[1, 1][..], &mac.0].concat();
            let body = [&target.to_be_bytes()[..], &option].concat();
            let kind = icmpv6::NEIGHBOUR_SOLICITATION;
            let source = match source {
                IpAddr::V6(source) => source,
                IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
            };
            let group_ip = IpAddr::V6(Ipv6Addr::from_bits(group));
            kit::icmp(IpAddr::V6(source), group_ip, kind, 0, [0; 4])
                .macs(mac, MacAddr::of_ipv6_multicast(group))
                .ttl(255)
                .payload(&body)
                .frame()
        }
    }
}

/// The packet from this source.
fn packet(
    described: &Described,
    source: IpAddr,
    (from, to): (MacAddr, MacAddr),
) -> Result<kit::Build, TraceError> {
    let target = described.to;
    if source.is_ipv4() != target.is_ipv4() {
        let (from, to) = (source, target);
        return Err(TraceError::TwoFamilies { from, to });
    }
    let from_port = described.src_port;
    let mut build = match described.protocol {
        Protocol::Tcp(port) => kit::tcp((source, from_port), (target, port)).flags(kit::SYN),
        Protocol::Udp(port) => kit::udp((source, from_port), (target, port)),
        Protocol::Icmp => kit::ping(source, target),
    };
    build = build.macs(from, to);
    if !described.fragmentable {
        build = build.dont_fragment();
    }
    if let Some(ttl) = described.ttl {
        build = build.ttl(ttl);
    }
    if let Some(size) = described.size {
        let least = build.packet().len();
        let payload = usize::from(size).checked_sub(least);
        let payload = payload.ok_or(TraceError::TooSmall { size, least })?;
        build = build.payload_len(payload);
    }
    Ok(build)
}

/// From a peer, in the tunnel it is to use.
fn from_peer(tables: &Snapshot, name: &str, packet_of: &Packet) -> Result<Input, TraceError> {
    let (id, known) = peer(tables, name)?;
    let v6 = match packet_of {
        Packet::Described(described) => described.to.is_ipv6(),
        Packet::Frame { bytes, .. } => is_ipv6(bytes),
    };
    let path = tables.path_of(id, v6).or(tables.path_of(id, !v6));
    let path = path.and_then(|PathId(path)| tables.path(PathId(path)));
    let path = path.ok_or_else(|| TraceError::NoPath(name.into()))?;
    let (encap, source) = (path.encap, from_ip(path.dst));
    let frame = match packet_of {
        Packet::Frame {
            bytes, outer: true, ..
        } => {
            return Ok(Input {
                bytes: bytes.clone(),
                way: Way::Datagram { source, encap },
                note: None,
            });
        }
        Packet::Frame { bytes, .. } => bytes.clone(),
        Packet::Described(described) => {
            let mut cidrs = known.cidrs.iter().filter(|cidr| cidr.is_ipv6() == v6);
            let usual = cidrs.next().map(|cidr| {
                let span = cidr.last() - cidr.first();
                to_ip(cidr.first() + span.min(2))
            });
            let pod = described.source.or(usual);
            let pod = pod.ok_or_else(|| TraceError::NoAddress {
                who: format!("peer {name}"),
                family: if v6 { 6 } else { 4 },
                to: described.to,
            })?;
            let vtep = match v6 {
                true => tables.node.vtep_mac6,
                false => tables.node.vtep_mac,
            };
            let from = described.mac.unwrap_or(path.dst_mac);
            // The peer's switch has taken a hop.
            let hop = Described {
                ttl: described.ttl.or(Some(63)),
                ..described.clone()
            };
            packet(&hop, pod, (from, vtep))?.frame()
        }
    };
    let mut bytes = vec![0; encap.header_len()];
    encap.write_header(&mut bytes);
    let left_behind = match encap.carries() {
        Carries::Packets if !is_bare(&frame) => ETHERNET.min(frame.len()),
        _ => 0,
    };
    bytes.extend_from_slice(&frame[left_behind..]);
    Ok(Input {
        bytes,
        way: Way::Datagram { source, encap },
        note: None,
    })
}

/// Whether a frame's EtherType, or the version of a bare packet, says IPv6.
fn is_ipv6(bytes: &[u8]) -> bool {
    match is_bare(bytes) {
        true => bytes.first().is_some_and(|byte| byte >> 4 == 6),
        false => bytes.get(12..14) == Some(&[0x86, 0xdd]),
    }
}

/// Whether these bytes are an IP packet without an Ethernet header.
fn is_bare(bytes: &[u8]) -> bool {
    let is_frame = matches!(bytes.get(12..14), Some(&[0x08, 0x00] | &[0x86, 0xdd]));
    !is_frame && matches!(bytes.first().map(|byte| byte >> 4), Some(4 | 6))
}

/// What a frame asks for that stands for packets of so many bytes of payload.
fn superframe(bytes: &[u8], segment: u16) -> Result<(Offload, u16), TraceError> {
    let no = |why: &str| TraceError::NoSuperframe { why: why.into() };
    let parsed = parse::parse(bytes, bytes.len()).map_err(|e| no(&e.to_string()))?;
    let (gso, offset) = match (parsed.proto, parsed.l3) {
        (proto::TCP, L3::Ipv4) => (Gso::Tcp4, 16),
        (proto::TCP, L3::Ipv6) => (Gso::Tcp6, 16),
        (proto::UDP, _) => (Gso::Udp, 6),
        _ => return Err(no("only TCP and UDP have such")),
    };
    if segment == 0 {
        return Err(no("its packets have no payload"));
    }
    let offload = Offload {
        checksum: Checksum::Partial {
            start: parsed.l4_off,
            offset,
        },
        gso,
        gso_size: segment,
        ..Offload::default()
    };
    let payload = parsed.ip_end().saturating_sub(parsed.payload_off.into());
    let packets = u16::try_from(offload.segments(payload));
    Ok((offload, packets.map_err(|_| no("it has too many packets"))?))
}
