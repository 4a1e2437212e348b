//! Tables and counters as rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::TransportSpec;
use ringway_packet::addr::to_ip;
use ringway_packet::mac::MacAddr;
use ringway_switch::Counters;
use ringway_tables::{Cidr, PathId, PeerId, PortId, Snapshot, Target};

use ringway_control::totals::traffic;
use ringway_control::view::{MacRow, NeighbourRow, PathRow, PeerHealth, PeerRow, RouteRow};

/// MAC table, sorted.
pub fn macs(snapshot: &Snapshot) -> Vec<MacRow> {
    let mut rows: Vec<MacRow> = snapshot
        .macs
        .iter()
        .map(|(mac, port)| MacRow {
            mac: MacAddr::from_key(mac).to_string(),
            port: port.0,
            name: port_name(snapshot, port),
        })
        .collect();
    rows.sort_by(|a, b| a.mac.cmp(&b.mac));
    rows
}

/// Routes, IPv4 first, in order of address and length.
pub fn routes(snapshot: &Snapshot) -> Vec<RouteRow> {
    let v4 = snapshot
        .routes4
        .iter()
        .map(|(a, len, t)| (Cidr::containing(std::net::Ipv4Addr::from(a).into(), len), t));
    let v6 = snapshot
        .routes6
        .iter()
        .map(|(a, len, t)| (Cidr::containing(std::net::Ipv6Addr::from(a).into(), len), t));
    let mut all: Vec<(Cidr, Target)> = v4
        .chain(v6)
        .filter_map(|(cidr, target)| Some((cidr.ok()?, target)))
        .collect();
    all.sort_by_key(|(c, _)| (c.is_ipv6(), c.first(), c.prefix_len()));
    all.into_iter()
        .map(|(prefix, target)| RouteRow {
            prefix: prefix.to_string(),
            target: target.to_string(),
            name: match target {
                Target::Port(port) => port_name(snapshot, port),
                Target::Path(path) => snapshot
                    .path(path)
                    .map_or_else(String::new, |p| peer_name(snapshot, p.peer)),
                Target::Unreachable => String::new(),
            },
        })
        .collect()
}

/// Peers by number.
pub fn peers(
    snapshot: &Snapshot,
    counters: &[Arc<Counters>],
    health: &BTreeMap<PeerId, PeerHealth>,
) -> Vec<PeerRow> {
    snapshot
        .peers
        .iter()
        .map(|(number, peer)| {
            let sides = || counters.iter().map(|c| c.peer(PeerId(number)));
            PeerRow {
                peer: number,
                name: peer.name.to_string(),
                addresses: peer.addresses.to_vec(),
                pod_cidrs: peer.cidrs.iter().map(ToString::to_string).collect(),
                from_peer: traffic(sides().map(|s| &s.rx)),
                to_peer: traffic(sides().map(|s| &s.tx)),
                health: health.get(&PeerId(number)).cloned(),
            }
        })
        .collect()
}

/// What ARP and neighbour discovery are answered from, sorted.
pub fn neighbours(snapshot: &Snapshot) -> Vec<NeighbourRow> {
    let mut rows: Vec<NeighbourRow> = snapshot
        .neighbours
        .iter()
        .map(|(ip, mac)| NeighbourRow {
            ip: to_ip(ip),
            mac: mac.to_string(),
        })
        .collect();
    rows.sort_by_key(|row| row.ip);
    rows
}

/// Paths by number.
pub fn paths(snapshot: &Snapshot) -> Vec<PathRow> {
    snapshot
        .paths
        .iter()
        .map(|(number, path)| PathRow {
            path: number,
            peer: peer_name(snapshot, path.peer),
            carries: if snapshot.path_of(path.peer, true) == Some(PathId(number)) {
                "IPv6".into()
            } else {
                "IPv4".into()
            },
            encap: match path.encap {
                Encap::Vxlan { vni } => format!("vxlan, VNI {vni}"),
                Encap::Udp => "udp".into(),
            },
            src: path.src,
            dst: path.dst,
            port: match path.outer.transport() {
                TransportSpec::Udp { dst_port, .. } => dst_port,
            },
            mtu: path.mtu,
            dst_mac: path.dst_mac.to_string(),
        })
        .collect()
}

fn port_name(snapshot: &Snapshot, port: PortId) -> String {
    snapshot
        .port(port)
        .map_or_else(String::new, |p| p.name.to_string())
}

fn peer_name(snapshot: &Snapshot, peer: PeerId) -> String {
    snapshot
        .peer(peer)
        .map_or_else(String::new, |p| p.name.to_string())
}
