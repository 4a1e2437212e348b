//! A made-up node for tests.
//!
//! ```text
//!   default/web 10.77.1.2 fd77:1::2 ┐                 ┌─ node2 10.77.2.0/24 fd77:2::/64 vxlan
//!   default/db  10.77.1.3 fd77:1::3 ┤ node1 ═ underlay┤
//!   the node's stack                ┘                 └─ node3 10.77.3.0/24 fd77:3::/64 udp
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use ringway_config::Decider;
use ringway_control::captures::TraceBasis;
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::addr::from_ip;
use ringway_packet::kit;
use ringway_packet::mac::MacAddr;
use ringway_switch::{Returns, UdpPorts};
use ringway_tables::{NodeInfo, Path, Peer, PeerPaths, Port, PortId, PortKind, Snapshot};

use crate::{Described, Protocol};

pub(crate) fn ip4(text: &str) -> u32 {
    match text.parse().unwrap() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

pub(crate) fn ip6(text: &str) -> u128 {
    from_ip(text.parse().unwrap())
}

pub(crate) fn underlay(node: u8) -> IpAddr {
    IpAddr::from([192, 168, 77, node])
}

pub(crate) fn path(node: u8, encap: Encap, (here, there): (u8, u8)) -> Path {
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, node]),
        src: underlay(here),
        dst: underlay(there),
        encap,
        transport: TransportSpec::usual(encap, UdpChecksum::Zero),
        ttl: 64,
        dont_fragment: true,
    };
    Path {
        peer: Default::default(),
        encap,
        src: spec.src,
        dst: spec.dst,
        src_mac: MacAddr([0x0a, 0x58, 10, 77, here, 0]),
        dst_mac: MacAddr([0x0a, 0x58, 10, 77, there, 0]),
        mtu: 1450,
        outer: OuterHeader::new(&spec).unwrap(),
    }
}

/// The first packet of a connection from port 40000 to port 443 of this address.
pub fn described(to: &str) -> Described {
    Described {
        to: to.parse().unwrap(),
        protocol: Protocol::Tcp(443),
        src_port: 40_000,
        size: None,
        ttl: None,
        mac: None,
        source: None,
        fragmentable: false,
    }
}

/// Node `here` with two pods, and two peers.
pub fn basis_of(here: u8, decider: Decider) -> TraceBasis {
    let cidrs = |node: u8| {
        [format!("10.77.{node}.0/24"), format!("fd77:{node}::/64")].map(|c| c.parse().unwrap())
    };
    let mac = |host| MacAddr([0x0a, 0x58, 10, 77, here, host]);
    let mut tables = Snapshot::new(NodeInfo {
        name: format!("node{here}").into(),
        cidrs: cidrs(here).into(),
        addresses: [underlay(here)].into(),
        gateway_mac: kit::GATEWAY_MAC,
        vtep_mac: mac(0),
        vtep_mac6: mac(0),
        gateway4: Some(ip4(&format!("10.77.{here}.1"))),
        gateway6: Some(ip6(&format!("fd77:{here}::1"))),
        gateway_link_local: Some(0xfe80 << 112 | 1),
        vni: 1,
    })
    .unwrap();
    let pod = |kind, host: u8, name: &str| Port {
        kind,
        mac: mac(host),
        ip4: (host > 0).then(|| ip4(&format!("10.77.{here}.{host}"))),
        ip6: (host > 0).then(|| ip6(&format!("fd77:{here}::{host}"))),
        mtu: 1450,
        name: name.into(),
    };
    let node = Port {
        mac: kit::GATEWAY_MAC,
        ..pod(PortKind::Node, 0, "node")
    };
    tables.add_port(PortId::NODE, node).unwrap();
    for (id, host, name) in [(1, 2, "default/web"), (2, 3, "default/db")] {
        tables
            .add_port(PortId(id), pod(PortKind::Pod, host, name))
            .unwrap();
    }
    for there in (1..4).filter(|node| *node != here) {
        // Between node1 and node2 it is VXLAN.
        let encap = match here.max(there) {
            3 => Encap::Udp,
            _ => Encap::Vxlan { vni: 1 },
        };
        let way = path(there, encap, (here, there));
        let peer = Peer {
            name: format!("node{there}").into(),
            addresses: [underlay(there)].into(),
            cidrs: cidrs(there).into(),
        };
        let paths = PeerPaths {
            v4: Some(way.clone()),
            v6: Some(way),
        };
        tables.add_peer(peer, paths).unwrap();
    }
    TraceBasis {
        tables: Arc::new(tables),
        returns: Arc::new(Returns::default()),
        ports: UdpPorts::default(),
        unfinished: false,
        decider,
    }
}
