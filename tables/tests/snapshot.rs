//! Changes keep all tables consistent, undo each other, and refuse contradictions by name.

mod cast;

use cast::{
    GATEWAY_MAC, VTEP_MAC, addr, contents, ip, node_port, node1, path_to, paths, peer, peer_with,
    pod,
};
use ringway_packet::mac::MacAddr;
use ringway_tables::{
    MAX_PEERS, MAX_PORTS, NodeInfo, PathId, PeerId, PeerPaths, Port, PortId, PortKind, RouteChange,
    Snapshot, TableError, Target,
};

const NODE: Option<Target> = Some(Target::Port(PortId::NODE));

/// node1 with its own port, pods 2 and 3 on ports 1 and 2, and peers node2 and node3.
fn cluster() -> Snapshot {
    let mut s = Snapshot::new(node1()).unwrap();
    s.add_port(PortId::NODE, node_port()).unwrap();
    s.add_port(PortId(1), pod(2)).unwrap();
    s.add_port(PortId(2), pod(3)).unwrap();
    assert_eq!(s.add_peer(peer(2), paths()), Ok(PeerId(0)));
    assert_eq!(s.add_peer(peer(3), paths()), Ok(PeerId(1)));
    s
}

fn path(id: PathId) -> Option<Target> {
    Some(Target::Path(id))
}

#[test]
fn routes_of_a_small_cluster() {
    let s = cluster();
    let expected = [
        ("10.77.1.1", NODE),
        ("fd77:1::1", NODE),
        ("10.77.1.0", NODE),
        ("fd77:1::", NODE),
        ("10.77.1.2", Some(Target::Port(PortId(1)))),
        ("fd77:1::3", Some(Target::Port(PortId(2)))),
        ("10.77.1.4", Some(Target::Unreachable)),
        ("fd77:1::4", Some(Target::Unreachable)),
        ("10.77.2.9", path(PathId(0))),
        ("fd77:2::9", path(PathId(1))),
        ("10.77.3.9", path(PathId(2))),
        ("10.77.4.9", None),
        ("fd77:4::9", None),
        ("192.168.77.2", None),
    ];
    for (text, target) in expected {
        assert_eq!(s.route(addr(text)), target, "{text}");
    }
}

#[test]
fn macs_neighbours_sources_and_paths_of_a_small_cluster() {
    let s = cluster();
    assert_eq!(s.mac(GATEWAY_MAC), Some(PortId::NODE));
    assert_eq!(s.mac(pod(2).mac), Some(PortId(1)));
    assert_eq!(s.mac(VTEP_MAC), None);
    for text in ["10.77.1.1", "fd77:1::1", "10.77.1.0", "fd77:1::", "fe80::1"] {
        assert_eq!(s.neighbours.get(addr(text)), Some(GATEWAY_MAC), "{text}");
    }
    assert_eq!(s.neighbours.get(addr("fd77:1::2")), Some(pod(2).mac));
    assert_eq!(s.neighbours.get(addr("10.77.1.4")), None);
    assert_eq!(s.neighbours.get(addr("10.77.2.2")), None);
    assert_eq!(s.sources.get(addr("192.168.77.2")), Some(PeerId(0)));
    assert_eq!(s.sources.get(addr("fd00:77::3")), Some(PeerId(1)));
    assert_eq!(s.sources.get(addr("192.168.77.1")), None);
    assert_eq!(s.path(PathId(2)).unwrap().peer, PeerId(1));
    assert_eq!(s.path(PathId(3)).unwrap().dst, ip("fd00:77::2"));
    assert_eq!(s.free_port(), Ok(PortId(3)));
    assert_eq!(s.peer_named("node3"), Some(PeerId(1)));
    assert_eq!(s.peer_named("node4"), None);
}

#[test]
fn removing_undoes_adding_in_any_order() {
    let bare = contents(&Snapshot::new(node1()).unwrap());
    let mut s = cluster();
    let before = s.clone();
    let text = contents(&before);
    assert_eq!(s.remove_peer(PeerId(0)), Some(peer(2)));
    assert_eq!(s.remove_peer(PeerId(0)), None);
    assert_eq!(s.route(addr("10.77.2.9")), None);
    assert_eq!(s.route(addr("fe80::1")), NODE, "the gateway's");
    assert_eq!(s.sources.get(addr("192.168.77.2")), None);
    assert_eq!(s.remove_port(PortId(1)), Some(pod(2)));
    assert_eq!(s.remove_port(PortId(1)), None);
    assert_eq!(s.route(addr("10.77.1.2")), Some(Target::Unreachable));
    assert_eq!(s.remove_port(PortId::NODE), Some(node_port()));
    assert_eq!(
        s.route(addr("10.77.1.1")),
        NODE,
        "the gateway is the node's, not the port's"
    );
    s.remove_port(PortId(2));
    s.remove_peer(PeerId(1));
    assert_eq!(contents(&s), bare);
    assert_eq!(contents(&before), text, "an older snapshot has changed");
    s.add_peer(peer(2), paths()).unwrap();
    s.set_node(NodeInfo::default()).unwrap();
    s.remove_peer(PeerId(0));
    assert_eq!(contents(&s), contents(&Snapshot::default()));
}

#[test]
fn the_smallest_mtu_of_the_ports_is_known() {
    let mut s = cluster();
    assert_eq!(s.least_mtu(), 1450);
    for (id, mtu) in [(3, 1300), (4, 1280), (5, 1500)] {
        let pod = Port {
            mtu,
            ..pod(id + 10)
        };
        s.add_port(PortId(id), pod).unwrap();
    }
    assert_eq!(s.least_mtu(), 1280);
    s.remove_port(PortId(5));
    assert_eq!(s.least_mtu(), 1280);
    s.remove_port(PortId(4));
    assert_eq!(s.least_mtu(), 1300);
    s.remove_port(PortId(3));
    assert_eq!(s.least_mtu(), 1450);
    for id in 0..3 {
        s.remove_port(PortId(id));
    }
    assert_eq!(s.least_mtu(), 0);
    s.add_port(PortId(1), pod(2)).unwrap();
    assert_eq!(s.least_mtu(), 1450);
}

#[test]
fn numbers_are_reused_lowest_first() {
    let mut s = cluster();
    s.remove_peer(PeerId(0));
    assert_eq!(s.add_peer(peer(9), paths()), Ok(PeerId(0)));
    assert_eq!(s.add_peer(peer(10), paths()), Ok(PeerId(2)));
    s.remove_port(PortId(1));
    assert_eq!(s.free_port(), Ok(PortId(1)));
}

#[test]
fn a_replaced_peer_keeps_its_number_and_nothing_of_the_old() {
    let mut s = cluster();
    let new = peer_with("node2", &["192.168.77.22"], &["10.77.22.0/24"]);
    let only4 = PeerPaths {
        v4: paths().v4,
        v6: None,
    };
    s.replace_peer(PeerId(0), new, only4.clone()).unwrap();
    assert_eq!(s.route(addr("10.77.2.9")), None);
    assert_eq!(s.route(addr("10.77.22.9")), path(PathId(0)));
    assert_eq!(s.sources.get(addr("192.168.77.2")), None);
    assert_eq!(s.sources.get(addr("192.168.77.22")), Some(PeerId(0)));
    assert!(s.path(PathId(1)).is_none());
    let text = contents(&s);
    let clash = peer_with("node2", &["192.168.77.22"], &["10.77.3.0/24"]);
    assert!(s.replace_peer(PeerId(0), clash, only4.clone()).is_err());
    let error = s.replace_peer(PeerId(0), peer(3), paths()).unwrap_err();
    assert_eq!(error.to_string(), "peer node3 is already there as peer 1");
    let error = s.replace_peer(PeerId(7), peer(9), only4).unwrap_err();
    assert_eq!(error.to_string(), "there is no peer 7");
    assert_eq!(contents(&s), text);
}

#[test]
fn a_path_can_be_replaced_where_there_is_one() {
    let mut s = cluster();
    let mut path = path_to(ip("192.168.77.2"));
    path.mtu = 1350;
    assert!(s.replace_path(PathId(2), path.clone()));
    let now = s.path(PathId(2)).unwrap();
    assert_eq!((now.mtu, now.peer), (1350, PeerId(1)));
    assert!(!s.replace_path(PathId(99), path));
}

#[test]
fn the_node_can_change_while_ports_and_peers_stay() {
    let mut s = cluster();
    let mut node = node1();
    node.cidrs = ["10.77.0.0/25", "10.77.1.0/25"]
        .map(|c| c.parse().unwrap())
        .into();
    node.gateway4 = Some(0x0a4d_0001);
    node.gateway6 = None;
    s.set_node(node).unwrap();
    assert_eq!(s.route(addr("10.77.0.1")), NODE);
    assert_eq!(
        s.route(addr("10.77.1.1")),
        NODE,
        "still an address of the node's port"
    );
    assert_eq!(s.route(addr("10.77.1.2")), Some(Target::Port(PortId(1))));
    assert_eq!(s.route(addr("10.77.1.200")), None);
    assert_eq!(s.route(addr("fd77:1::9")), None);
    assert_eq!(s.route(addr("10.77.2.1")), path(PathId(0)));
}

#[test]
fn a_network_of_one_address_is_its_own_network_address() {
    let mut node = node1();
    node.cidrs = ["10.77.1.1/32"].map(|c| c.parse().unwrap()).into();
    node.gateway6 = None;
    let s = Snapshot::new(node).unwrap();
    assert_eq!(s.route(addr("10.77.1.1")), NODE);
}

/// Tries to add a changed pod 9 to the cluster; it must change nothing.
fn refused_port(id: u32, change: impl FnOnce(&mut Port)) -> String {
    let mut s = cluster();
    let before = contents(&s);
    let mut port = pod(9);
    change(&mut port);
    let error = s.add_port(PortId(id), port).unwrap_err();
    assert_eq!(contents(&s), before);
    error.to_string()
}

#[test]
fn contradicting_ports_are_refused_naming_both_sides() {
    let cases = [
        (refused_port(1, |_| ()), "port 1 of pod9 is already pod2"),
        (
            refused_port(0, |_| ()),
            "port 0 of pod9 is already ringway0",
        ),
        (
            refused_port(3, |p| p.kind = PortKind::Node),
            "port 3 of pod9 is of the wrong kind: 0 is the node's port, all others are pods'",
        ),
        (
            refused_port(3, |p| p.mac = pod(2).mac),
            "MAC 0a:58:0a:4d:01:02 of pod9 already belongs to pod pod2",
        ),
        (
            refused_port(3, |p| p.mac = GATEWAY_MAC),
            "MAC 02:52:57:00:00:01 of pod9 already belongs to the gateway of node node1",
        ),
        (
            refused_port(3, |p| p.mac = VTEP_MAC),
            "MAC 0a:58:0a:4d:01:00 of pod9 already belongs to the VTEP of node node1",
        ),
        (
            refused_port(3, |p| p.mac = MacAddr::BROADCAST),
            "MAC ff:ff:ff:ff:ff:ff of pod9 is not a unicast address",
        ),
        (
            refused_port(3, |p| p.mac = MacAddr::default()),
            "MAC 00:00:00:00:00:00 of pod9 is not a unicast address",
        ),
        (
            refused_port(3, |p| p.ip4 = pod(3).ip4),
            "address 10.77.1.3 of pod9 already belongs to pod pod3",
        ),
        (
            refused_port(3, |p| p.ip6 = pod(3).ip6),
            "address fd77:1::3 of pod9 already belongs to pod pod3",
        ),
        (
            refused_port(3, |p| p.ip4 = Some(0x0a4d_0101)),
            "address 10.77.1.1 of pod9 already belongs to the gateway of node node1",
        ),
        (
            refused_port(3, |p| p.ip4 = Some(0x0a4d_0100)),
            "address 10.77.1.0 of pod9 already belongs to the gateway of node node1",
        ),
        (
            refused_port(3, |p| p.ip4 = Some(0x0a4d_0205)),
            "address 10.77.2.5 of pod9 already belongs to peer node2",
        ),
        (
            refused_port(3, |p| p.ip6 = Some(addr("fd00:77::3"))),
            "address fd00:77::3 of pod9 already belongs to peer node3",
        ),
        (
            refused_port(3, |p| p.ip4 = Some(0xc0a8_4d01)),
            "address 192.168.77.1 of pod9 already belongs to node node1",
        ),
        (
            refused_port(3, |p| p.ip4 = Some(0xe000_0001)),
            "address 224.0.0.1 of pod9 is not a unicast address of its family",
        ),
        (
            refused_port(3, |p| p.ip6 = Some(addr("10.77.1.9"))),
            "address 10.77.1.9 of pod9 is not a unicast address of its family",
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(error, expected);
    }
}

/// Tries to add a peer to the cluster; it must change nothing.
fn refused_peer(name: &str, addresses: &[&str], cidrs: &[&str]) -> String {
    let mut s = cluster();
    let mut outside = pod(9);
    outside.ip4 = Some(0x0a58_0909);
    s.add_port(PortId(9), outside).unwrap();
    let before = contents(&s);
    let error = s
        .add_peer(peer_with(name, addresses, cidrs), paths())
        .unwrap_err();
    assert_eq!(contents(&s), before);
    error.to_string()
}

#[test]
fn contradicting_peers_are_refused_naming_both_sides() {
    let cases = [
        (
            refused_peer("node2", &[], &[]),
            "peer node2 is already there as peer 0",
        ),
        (
            refused_peer("node4", &["192.168.77.4", "192.168.77.3"], &[]),
            "192.168.77.3/32 of node4 overlaps 192.168.77.3/32 of peer node3",
        ),
        (
            refused_peer("node4", &["fd00:77::1"], &[]),
            "fd00:77::1/128 of node4 overlaps fd00:77::1/128 of node node1",
        ),
        (
            refused_peer("node4", &[], &["10.77.2.0/24"]),
            "10.77.2.0/24 of node4 overlaps 10.77.2.0/24 of peer node2",
        ),
        (
            refused_peer("node4", &[], &["fd77:1::/64"]),
            "fd77:1::/64 of node4 overlaps fd77:1::/64 of node node1",
        ),
        (
            refused_peer("node4", &["10.77.2.4"], &[]),
            "10.77.2.4/32 of node4 overlaps 10.77.2.0/24 of peer node2",
        ),
        (
            refused_peer("node4", &[], &["192.168.0.0/16"]),
            "192.168.0.0/16 of node4 overlaps 192.168.77.3/32 of peer node3",
        ),
        (
            refused_peer("node4", &["10.77.4.4"], &["10.77.4.0/24"]),
            "10.77.4.4/32 of node4 overlaps 10.77.4.0/24 of peer node4",
        ),
        (
            refused_peer("node4", &[], &["10.77.4.0/24", "10.77.4.0/24"]),
            "10.77.4.0/24 of node4 overlaps 10.77.4.0/24 of peer node4",
        ),
        (
            refused_peer("node4", &[], &["10.88.9.9/32"]),
            "address 10.88.9.9 of node4 already belongs to pod pod9",
        ),
        (
            refused_peer("node4", &["224.0.0.1"], &[]),
            "address 224.0.0.1 of node4 is not a unicast address of its family",
        ),
        (
            refused_peer("node4", &["::ffff:192.168.77.4"], &[]),
            "address ::ffff:192.168.77.4 of node4 is not a unicast address of its family",
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_network_needs_a_path_of_its_family() {
    let mut s = cluster();
    let only4 = PeerPaths {
        v4: paths().v4,
        v6: None,
    };
    let error = s.add_peer(peer(4), only4).unwrap_err();
    assert_eq!(
        error.to_string(),
        "peer node4 has the network fd77:4::/64 but no path for that family"
    );
}

#[test]
fn a_contradicting_node_is_refused_naming_both_sides() {
    let refused = |change: &dyn Fn(&mut NodeInfo)| {
        let mut s = cluster();
        let before = contents(&s);
        let mut node = node1();
        change(&mut node);
        let error = s.set_node(node).unwrap_err();
        assert_eq!(contents(&s), before);
        error.to_string()
    };
    assert_eq!(
        refused(&|n| n.cidrs = ["10.77.2.0/24"].map(|c| c.parse().unwrap()).into()),
        "10.77.2.0/24 of node1 overlaps 10.77.2.0/24 of peer node2"
    );
    assert_eq!(
        refused(&|n| n.addresses = [ip("192.168.77.2")].into()),
        "192.168.77.2/32 of node1 overlaps 192.168.77.2/32 of peer node2"
    );
    assert_eq!(
        refused(&|n| n.gateway4 = Some(0x0a4d_0102)),
        "address 10.77.1.2 of node1 already belongs to pod pod2"
    );
    assert_eq!(
        refused(&|n| n.gateway6 = Some(addr("fd77:9::1"))),
        "gateway fd77:9::1 lies in none of the pod networks of node1"
    );
    assert_eq!(
        refused(&|n| n.vtep_mac = pod(3).mac),
        "MAC 0a:58:0a:4d:01:03 of node1 already belongs to pod pod3"
    );
    assert_eq!(
        refused(&|n| n.gateway_mac = MacAddr::BROADCAST),
        "MAC ff:ff:ff:ff:ff:ff of node1 is not a unicast address"
    );
}

#[test]
fn an_address_given_twice_by_one_peer_is_tolerated() {
    let mut s = cluster();
    let twice = peer_with(
        "node4",
        &["192.168.77.4", "192.168.77.4"],
        &["10.77.4.0/24"],
    );
    let id = s.add_peer(twice, paths()).unwrap();
    s.remove_peer(id);
    assert_eq!(contents(&s), contents(&cluster()));
}

#[test]
fn errors_can_be_told_apart() {
    let mut s = cluster();
    let error = s
        .add_port(
            PortId(3),
            Port {
                mac: pod(2).mac,
                ..pod(9)
            },
        )
        .unwrap_err();
    let expected = TableError::DuplicateMac {
        mac: pod(2).mac,
        new: "pod9".into(),
        holder: "pod pod2".into(),
    };
    assert_eq!(error, expected);
}

#[test]
fn prefixes_lie_in_one_another_and_the_longest_decides() {
    let mut s = cluster();
    // All of the cluster, a part of node2's network, an address of ours, and one of node3's.
    let borrower = peer_with(
        "node4",
        &["192.168.77.4"],
        &[
            "10.77.0.0/16",
            "10.77.2.128/25",
            "10.77.1.77/32",
            "fd77:3::7/128",
        ],
    );
    let id = s.add_peer(borrower, paths()).unwrap();
    let [v4, v6] = [false, true].map(|v6| path(s.path_of(id, v6).unwrap()));
    assert_eq!((v4, v6), (path(PathId(4)), path(PathId(5))));
    for (text, target) in [
        ("10.77.99.1", v4),
        ("10.77.2.200", v4),
        ("10.77.2.9", path(PathId(0))),
        ("10.77.1.77", v4),
        ("10.77.1.78", Some(Target::Unreachable)),
        ("10.77.1.2", Some(Target::Port(PortId(1)))),
        ("fd77:3::7", v6),
        ("fd77:3::8", path(PathId(3))),
    ] {
        assert_eq!(s.route(addr(text)), target, "{text}");
    }
    // What is borrowed cannot be a pod's here, all around it can.
    let mut port = pod(9);
    port.ip4 = Some(0x0a4d_014d);
    let error = s.add_port(PortId(9), port.clone()).unwrap_err().to_string();
    assert_eq!(
        error,
        "address 10.77.1.77 of pod9 already belongs to peer node4"
    );
    s.remove_peer(id);
    assert_eq!(contents(&s), contents(&cluster()));
    s.add_port(PortId(9), port).unwrap();
}

#[test]
fn a_node_borrows_an_address_for_a_pod() {
    let mut s = cluster();
    let mut node = node1();
    let cidrs = [
        "10.77.1.0/24",
        "fd77:1::/64",
        "10.78.1.0/24",
        "10.77.2.9/32",
    ];
    node.cidrs = cidrs.map(|c| c.parse().unwrap()).into();
    s.set_node(node.clone()).unwrap();
    // Each network has its gateway; a single address is a pod's and nothing else.
    for text in ["10.77.1.1", "10.78.1.1", "10.78.1.0", "fd77:1::1"] {
        assert_eq!(s.route(addr(text)), NODE, "{text}");
        assert_eq!(s.neighbours.get(addr(text)), Some(GATEWAY_MAC), "{text}");
    }
    assert_eq!(s.route(addr("10.78.1.2")), Some(Target::Unreachable));
    assert_eq!(s.route(addr("10.77.2.9")), Some(Target::Unreachable));
    assert_eq!(s.route(addr("10.77.2.8")), path(PathId(0)));
    let free = contents(&s);
    let mut port = pod(9);
    port.ip4 = Some(0x0a4d_0209);
    s.add_port(PortId(9), port).unwrap();
    let taken = Some(Target::Port(PortId(9)));
    assert_eq!(s.route(addr("10.77.2.9")), taken);
    // The node changes around it.
    node.vni = 7;
    s.set_node(node.clone()).unwrap();
    assert_eq!(s.route(addr("10.77.2.9")), taken);
    node.vni = 1;
    s.set_node(node).unwrap();
    s.remove_port(PortId(9));
    assert_eq!(contents(&s), free);
}

#[test]
fn routes_come_move_and_go_while_peers_stay() {
    let mut s = cluster();
    let to = |prefix: &str, peer: Option<u32>| RouteChange {
        prefix: prefix.parse().unwrap(),
        peer: peer.map(PeerId),
    };
    let before = contents(&s);
    s.change_routes(&[
        to("10.77.2.0/24", Some(1)),
        to("10.77.9.0/24", Some(0)),
        to("fd77:9::/64", Some(0)),
        to("10.77.3.0/24", None),
    ])
    .unwrap();
    assert_eq!(s.route(addr("10.77.2.9")), path(PathId(2)));
    assert_eq!(s.route(addr("10.77.9.9")), path(PathId(0)));
    assert_eq!(s.route(addr("fd77:9::9")), path(PathId(1)));
    assert_eq!(s.route(addr("10.77.3.9")), None);
    let cidrs = |s: &Snapshot, id| {
        let mut all: Vec<String> = s
            .peer(PeerId(id))
            .unwrap()
            .cidrs
            .iter()
            .map(|c| c.to_string())
            .collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(cidrs(&s, 0), "10.77.9.0/24 fd77:2::/64 fd77:9::/64");
    assert_eq!(cidrs(&s, 1), "10.77.2.0/24 fd77:3::/64");
    // There and back, in one go.
    let text = contents(&s);
    s.change_routes(&[to("10.77.2.0/24", Some(0)), to("10.77.2.0/24", Some(1))])
        .unwrap();
    assert_eq!(contents(&s), text);
    s.change_routes(&[
        to("10.77.2.0/24", Some(0)),
        to("10.77.9.0/24", None),
        to("fd77:9::/64", None),
        to("10.77.3.0/24", Some(1)),
    ])
    .unwrap();
    assert_eq!(s.peer(PeerId(0)).unwrap().cidrs.len(), 2);
    let routes = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|l| l.starts_with("route"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(routes(&contents(&s)), routes(&before));
    // What is the node's, a pod's or nobody's is left alone, and so is all else.
    let text = contents(&s);
    for (change, words) in [
        (
            to("10.77.1.0/24", Some(0)),
            "10.77.1.0/24 of node2 overlaps 10.77.1.0/24 of node node1",
        ),
        (
            to("10.77.1.2/32", Some(0)),
            "address 10.77.1.2 of node2 already belongs to pod pod2",
        ),
        (
            to("192.168.77.0/24", Some(0)),
            "of node2 overlaps 192.168.77.3/32 of peer node3",
        ),
        (to("10.77.8.0/24", Some(7)), "there is no peer 7"),
    ] {
        let error = s
            .change_routes(&[to("10.77.7.0/24", Some(0)), change])
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(contents(&s), text);
    }
    s.change_routes(&[
        to("10.77.1.0/24", None),
        to("10.77.1.2/32", None),
        to("10.99.0.0/16", None),
    ])
    .unwrap();
    assert_eq!(contents(&s), text);
}

#[test]
fn beyond_the_limits_there_is_a_refusal_and_no_shared_number() {
    let mut node = node1();
    node.cidrs = ["10.77.0.0/16", "fd77:1::/64"]
        .map(|c| c.parse().unwrap())
        .into();
    let mut s = Snapshot::new(node).unwrap();
    for n in 0..MAX_PEERS {
        let name = format!("n{n}");
        let id = s.add_peer(peer_with(&name, &[], &[]), PeerPaths::default());
        assert_eq!(id, Ok(PeerId(n)));
    }
    let error = s
        .add_peer(peer_with("one more", &[], &[]), PeerPaths::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no room for peer one more: 8192 peers at most"
    );
    s.remove_peer(PeerId(5_000));
    let id = s.add_peer(peer_with("one more", &[], &[]), PeerPaths::default());
    assert_eq!(id, Ok(PeerId(5_000)));
    for n in 1..MAX_PORTS {
        assert_eq!(s.free_port(), Ok(PortId(n)));
        s.add_port(PortId(n), pod(n + 10)).unwrap();
    }
    let error = s.free_port().unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no room for another pod: 4095 at most"
    );
    s.remove_port(PortId(77));
    assert_eq!(s.free_port(), Ok(PortId(77)));
}

#[test]
fn pods_behind_the_node_lead_to_its_stack_and_take_nothing_from_anybody() {
    let mut s = cluster();
    let before = contents(&s);
    let behind = ["10.77.1.7", "fd77:1::7"].map(addr);
    // A pod's, the gateway's, a peer's, and one of no network are left out.
    let others = [
        "10.77.1.2",
        "10.77.1.1",
        "10.77.1.0",
        "10.77.2.7",
        "192.0.2.1",
    ]
    .map(addr);
    let all: Vec<u128> = behind.iter().chain(&others).copied().collect();
    assert!(s.set_behind(&all));
    assert!(!s.set_behind(&all));
    assert_eq!(s.behind(), behind);
    for at in behind {
        assert_eq!(s.route(at), NODE);
        assert_eq!(s.neighbours.get(at), Some(GATEWAY_MAC));
    }
    assert_eq!(s.route(addr("10.77.1.2")), Some(Target::Port(PortId(1))));
    assert_eq!(s.route(addr("10.77.2.7")), path(PathId(0)));
    // No pod of ours gets the address meanwhile.
    let mut taken = pod(7);
    taken.mac = MacAddr([0x0e, 0, 0, 0, 0, 7]);
    let refused = s.add_port(PortId(9), taken.clone()).unwrap_err();
    assert!(
        matches!(refused, TableError::DuplicateAddress { .. }),
        "{refused}"
    );
    // What the node is may change under them.
    let mut node = node1();
    node.vtep_mac = MacAddr([0x0e, 0, 0, 0, 0, 1]);
    s.set_node(node).unwrap();
    assert_eq!(s.route(behind[0]), NODE);
    s.set_node(node1()).unwrap();
    assert!(s.set_behind(&behind[..1]));
    assert_eq!(s.route(behind[1]), Some(Target::Unreachable));
    assert!(s.set_behind(&[]));
    assert_eq!(contents(&s), before);
    s.add_port(PortId(9), taken).unwrap();
    // A port that came first keeps its address.
    assert!(!s.set_behind(&[addr("10.77.1.7")]));
    assert_eq!(s.route(addr("10.77.1.7")), Some(Target::Port(PortId(9))));
}
