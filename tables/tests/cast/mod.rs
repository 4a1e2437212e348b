//! The cast: node1 (10.77.1.0/24, fd77:1::/64) with pods, and peers node2, node3, …
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::IpAddr;

use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_tables::{NodeInfo, Path, Peer, PeerId, PeerPaths, Port, PortId, PortKind, Snapshot};

pub(crate) const GATEWAY_MAC: MacAddr = MacAddr([2, 0x52, 0x57, 0, 0, 1]);
pub(crate) const VTEP_MAC: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 0]);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> u128 {
    from_ip(ip(text))
}

pub(crate) fn node1() -> NodeInfo {
    NodeInfo {
        name: "node1".into(),
        cidrs: ["10.77.1.0/24", "fd77:1::/64"]
            .map(|c| c.parse().unwrap())
            .into(),
        addresses: [ip("192.168.77.1"), ip("fd00:77::1")].into(),
        gateway_mac: GATEWAY_MAC,
        vtep_mac: VTEP_MAC,
        vtep_mac6: MacAddr([0x0a, 0x58, 10, 77, 1, 6]),
        gateway4: Some(0x0a4d_0101),
        gateway6: Some(addr("fd77:1::1")),
        gateway_link_local: Some(addr("fe80::1")),
        vni: 1,
    }
}

/// Pod `n` of node1: 10.77.1.n and fd77:1::n.
pub(crate) fn pod(n: u32) -> Port {
    let [_, _, high, low] = n.to_be_bytes();
    Port {
        kind: PortKind::Pod,
        mac: MacAddr([0x0a, 0x58, 10, 77, high + 1, low]),
        ip4: Some(0x0a4d_0100 + n),
        ip6: Some(addr("fd77:1::") + u128::from(n)),
        mtu: 1450,
        name: format!("pod{n}").into(),
    }
}

pub(crate) fn node_port() -> Port {
    Port {
        kind: PortKind::Node,
        mac: GATEWAY_MAC,
        ip4: Some(0x0a4d_0101),
        ip6: Some(addr("fd77:1::1")),
        mtu: 1450,
        name: "ringway0".into(),
    }
}

/// Peer `n`: underlay 192.168.77.n, pods 10.77.n.0/24 and fd77:n::/64.
pub(crate) fn peer(n: u8) -> Peer {
    peer_with(
        &format!("node{n}"),
        &[&format!("192.168.77.{n}"), &format!("fd00:77::{n:x}")],
        &[&format!("10.77.{n}.0/24"), &format!("fd77:{n:x}::/64")],
    )
}

pub(crate) fn peer_with(name: &str, addresses: &[&str], cidrs: &[&str]) -> Peer {
    Peer {
        name: name.into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        cidrs: cidrs.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

pub(crate) fn path_to(dst: IpAddr) -> Path {
    let src = if dst.is_ipv4() {
        ip("192.168.77.1")
    } else {
        ip("fd00:77::1")
    };
    let encap = Encap::Vxlan { vni: 1 };
    let spec = OuterSpec {
        src_mac: MacAddr::default(),
        dst_mac: MacAddr::default(),
        src,
        dst,
        encap,
        transport: TransportSpec::usual(encap, UdpChecksum::Full),
        ttl: 64,
        dont_fragment: true,
    };
    Path {
        peer: PeerId(u32::MAX),
        encap,
        src,
        dst,
        src_mac: VTEP_MAC,
        dst_mac: MacAddr([0x0a, 0x58, 10, 77, 2, 0]),
        mtu: 1450,
        outer: OuterHeader::new(&spec).unwrap(),
    }
}

/// One path for each inner family, over the underlay of the same family.
pub(crate) fn paths() -> PeerPaths {
    PeerPaths {
        v4: Some(path_to(ip("192.168.77.2"))),
        v6: Some(path_to(ip("fd00:77::2"))),
    }
}

/// All that a snapshot says, in an order that can be compared.
pub(crate) fn contents(s: &Snapshot) -> String {
    let mut lines = vec![format!("{:?}", s.node)];
    let mut section = |name: &str, mut entries: Vec<String>| {
        entries.sort();
        lines.extend(entries.into_iter().map(|entry| format!("{name} {entry}")));
    };
    section("mac", s.macs.iter().map(|e| format!("{e:x?}")).collect());
    section(
        "route4",
        s.routes4.iter().map(|e| format!("{e:x?}")).collect(),
    );
    section(
        "route6",
        s.routes6.iter().map(|e| format!("{e:x?}")).collect(),
    );
    section(
        "neighbour",
        s.neighbours.iter().map(|e| format!("{e:x?}")).collect(),
    );
    section(
        "source",
        s.sources.iter().map(|e| format!("{e:x?}")).collect(),
    );
    section("port", s.ports.iter().map(|e| format!("{e:?}")).collect());
    section("peer", s.peers.iter().map(|e| format!("{e:?}")).collect());
    section("path", s.paths.iter().map(|e| format!("{e:?}")).collect());
    lines.join("\n")
}

/// A node with a /8 that has `count` pods, with MACs, routes and neighbours of both families.
pub(crate) fn large(count: u32) -> Snapshot {
    let node = NodeInfo {
        cidrs: ["10.0.0.0/8", "fd77:1::/64"]
            .map(|c| c.parse().unwrap())
            .into(),
        ..node1()
    };
    let mut s = Snapshot::new(node).unwrap();
    for n in 1..=count {
        s.add_port(PortId(n), large_pod(n)).unwrap();
    }
    s
}

pub(crate) fn large_pod(n: u32) -> Port {
    let mac = MacAddr::from_u64(0x0258_0000_0000 + u64::from(n));
    let ip6 = 0xfd77_0001 << 96 | 1 << 32 | u128::from(n);
    Port {
        mac,
        ip4: Some(address_of(n)),
        ip6: Some(ip6),
        ..pod(2)
    }
}

pub(crate) fn address_of(n: u32) -> u32 {
    0x0a80_0000 + n
}
