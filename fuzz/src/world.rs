//! The tables the pipeline target runs on: node1 with two pods, two peers, in some variants.
//!
//! ```text
//!   alice 10.77.1.2 fd77:1::2  port 1 ┐                 ┌─ node2 10.77.2.0/24 fd77:2::/64
//!   bob   10.77.1.3 fd77:1::3  port 2 ┤ node1 ═ underlay┤
//!   the node's stack           port 0 ┘                 └─ node3 10.77.3.0/24 (the other encapsulation)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::kit::GATEWAY_MAC;
use ringway_packet::mac::MacAddr;
use ringway_tables::{NodeInfo, Path, Peer, PeerId, PeerPaths, Port, PortId, PortKind, Snapshot};

/// How many variants [`snapshot`] knows.
pub(crate) const VARIANTS: u8 = 4;

pub(crate) const VNI: u32 = 1;
pub(crate) const VTEP1: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 0]);
pub(crate) const VTEP2: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 2, 0]);

/// 0: VXLAN. 1: UDP. 2: VXLAN with the smallest MTUs and full checksums. 3: UDP, IPv6 pods only.
pub(crate) fn snapshot(variant: u8) -> Snapshot {
    let (encap, other) = if variant.is_multiple_of(2) {
        (Encap::Vxlan { vni: VNI }, Encap::Udp)
    } else {
        (Encap::Udp, Encap::Vxlan { vni: VNI })
    };
    let v4 = variant != 3;
    let mtu = if variant == 2 {
        (68, 1280)
    } else {
        (1450, 1430)
    };
    let cidrs = |node: u8| {
        let mut cidrs = vec![format!("fd77:{node}::/64")];
        if v4 {
            cidrs.push(format!("10.77.{node}.0/24"));
        }
        cidrs.iter().map(|c| c.parse().expect("a CIDR")).collect()
    };
    let mut s = Snapshot::new(NodeInfo {
        name: "node1".into(),
        cidrs: cidrs(1),
        addresses: [outer4(1), outer6(1)].into(),
        gateway_mac: GATEWAY_MAC,
        vtep_mac: VTEP1,
        vtep_mac6: VTEP1,
        gateway4: v4.then(|| pod4(1, 1)),
        gateway6: Some(pod6(1, 1)),
        gateway_link_local: Some(0xfe80 << 112 | 1),
        vni: VNI,
    })
    .expect("a node");
    let port = |kind, mac, host: Option<u8>, name: &str| Port {
        kind,
        mac,
        ip4: host.filter(|_| v4).map(|host| pod4(1, host)),
        ip6: host.map(|host| pod6(1, host)),
        mtu: 1450,
        name: name.into(),
    };
    let pod_mac = |host| MacAddr([0x0a, 0x58, 10, 77, 1, host]);
    for (id, port) in [
        port(PortKind::Node, GATEWAY_MAC, None, "node"),
        port(PortKind::Pod, pod_mac(2), Some(2), "alice"),
        port(PortKind::Pod, pod_mac(3), Some(3), "bob"),
    ]
    .into_iter()
    .enumerate()
    {
        s.add_port(PortId(id as u32), port).expect("a port");
    }
    for (node, encap) in [(2, encap), (3, other)] {
        let path = |v6: bool, mtu| path(node, encap, v6, mtu, variant == 2);
        let paths = PeerPaths {
            v4: v4.then(|| path(false, mtu.0)),
            v6: Some(path(true, mtu.1)),
        };
        let peer = Peer {
            name: format!("node{node}").into(),
            addresses: [outer4(node), outer6(node)].into(),
            cidrs: cidrs(node),
        };
        s.add_peer(peer, paths).expect("a peer");
    }
    s
}

fn path(node: u8, encap: Encap, v6: bool, mtu: u16, full_checksum: bool) -> Path {
    let (src, dst) = if v6 {
        (outer6(1), outer6(node))
    } else {
        (outer4(1), outer4(node))
    };
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x77, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0x77, node]),
        src,
        dst,
        encap,
        transport: TransportSpec::usual(
            encap,
            if v6 || full_checksum {
                UdpChecksum::Full
            } else {
                UdpChecksum::Zero
            },
        ),
        ttl: 64,
        dont_fragment: true,
    };
    Path {
        peer: PeerId(0),
        encap,
        src,
        dst,
        src_mac: VTEP1,
        dst_mac: MacAddr([0x0a, 0x58, 10, 77, node, 0]),
        mtu,
        outer: OuterHeader::new(&spec).expect("an outer header"),
    }
}

pub(crate) fn outer4(node: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 77, node).into()
}

fn outer6(node: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, u16::from(node)).into()
}

fn pod4(node: u8, host: u8) -> u32 {
    Ipv4Addr::new(10, 77, node, host).to_bits()
}

fn pod6(node: u8, host: u8) -> u128 {
    Ipv6Addr::new(0xfd77, node.into(), 0, 0, 0, 0, 0, host.into()).to_bits()
}
