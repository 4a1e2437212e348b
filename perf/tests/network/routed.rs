//! Two nodes on subnets of their own, with a router between them: frames carry the gateway's MAC. It is
//! known before the first packet, and followed when it changes or the route goes to another gateway.

use crate::common::{LIMIT, assert_none};
use crate::harness::{eventually, network_test};
use crate::rings::{Status, check_frames, check_rings, ring_test};
use ringway_perf::lab::{
    Encap, Family, Io, Mode, Node, NodeKind, Pod, RingwayOptions, Router, Topology, UnderlayFamily,
    Wire, plan,
};
use ringway_perf::traffic::{OutageProbe, ping, transfer};
use std::thread::sleep;
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_secs(90);
/// How long packets may stop: a neighbour is looked at again at once, the routes 50 ms after another has
/// changed; the new next hop has to be resolved.
const RECOVERY: Duration = Duration::from_secs(1);
/// Between sending by a gateway and seeing that.
const SETTLE: Duration = Duration::from_millis(200);

/// A node and the gateway by which it reaches the other.
#[derive(Clone, Copy)]
struct Gateway<'a> {
    node: u8,
    number: u8,
    mac: &'a str,
}

#[test]
fn rings_reach_peers_through_a_router() {
    ring_test("rings_reach_peers_through_a_router", TIME, || {
        routed(Io::Xdp);
    });
}

#[test]
fn sockets_reach_peers_through_a_router() {
    network_test("sockets_reach_peers_through_a_router", TIME, || {
        routed(Io::Socket);
    });
}

fn routed(io: Io) {
    for (family, underlay) in [
        (UnderlayFamily::V4, Family::V4),
        (UnderlayFamily::V6, Family::V6),
    ] {
        for encap in [Encap::Vxlan, Encap::Udp] {
            let options = RingwayOptions {
                io,
                encap,
                family,
                // Each packet is counted.
                probes: 0,
                ..RingwayOptions::default()
            };
            follow_gateways(&format!("{io}, {encap} over {family}"), underlay, &options);
        }
    }
}

fn follow_gateways(what: &str, underlay: Family, options: &RingwayOptions) {
    let kind = || NodeKind::Ringway(options.clone());
    let mut topology = Topology::on(Wire::Routed(Mode::Cloud), kind(), kind()).unwrap();
    let pods = topology.add_three_pods().unwrap();
    let pids = pids(&mut topology);
    let macs = [1, 2].map(|node| plan::router_mac(node, 1));
    for (node, mac) in [1, 2].into_iter().zip(&macs) {
        let number = 1;
        sends_by(what, &mut topology, underlay, Gateway { node, number, mac });
    }
    first_packets(what, &mut topology, &pods);

    let announced = Gateway {
        node: 1,
        number: 1,
        mac: "02:00:00:00:be:01",
    };
    let step = format!("{what}, another MAC, announced");
    survives(
        &step,
        &mut topology,
        &pods,
        underlay,
        announced,
        |topology| {
            let router = topology.router.as_ref().unwrap();
            router.announce(1, 1).unwrap();
            set_mac(router, announced);
        },
    );

    let flushed = Gateway {
        node: 2,
        number: 1,
        mac: "02:00:00:00:be:02",
    };
    let step = format!("{what}, another MAC, neighbours flushed");
    survives(&step, &mut topology, &pods, underlay, flushed, |topology| {
        set_mac(topology.router.as_ref().unwrap(), flushed);
        for family in ["-4", "-6"] {
            let flush = format!("{family} neigh flush dev eth0");
            topology.n2.ns.ip(&flush).unwrap();
        }
    });

    let mac = plan::router_mac(1, 2);
    let second = Gateway {
        node: 1,
        number: 2,
        mac: &mac,
    };
    let step = format!("{what}, another gateway");
    survives(&step, &mut topology, &pods, underlay, second, |topology| {
        let router = topology.router.as_ref().unwrap();
        router.stop_forwarding(1, 1).unwrap();
        Router::route(1, &topology.n1.ns, 2).unwrap();
    });

    assert_eq!(self::pids(&mut topology), pids, "{what}: an agent ended");
    for node in [&mut topology.n1, &mut topology.n2] {
        assert_none(&match options.io {
            Io::Xdp => check_rings(what, node, 1),
            Io::Auto | Io::Socket => check_frames(what, node),
        });
    }
}

/// Not one of the first packets is lost, nor sent by a socket where there are rings.
fn first_packets(what: &str, topology: &mut Topology, [p1, _, p3]: &[Pod; 3]) {
    let sent = |topology: &mut Topology| {
        [&mut topology.n1, &mut topology.n2].map(|node| Status::of(node).buffers("sent"))
    };
    assert_eq!(sent(topology), [0, 0], "{what}: sent before");
    for family in Family::BOTH {
        let report = ping(&p1.ns, p3.ip(family), 1, 56, LIMIT).unwrap();
        assert!(report.all(), "{what}: first {family} ping: {report}");
    }
    let rings = Status::of(&mut topology.n1).rings() > 0;
    let expected = if rings { [2, 2] } else { [0, 0] };
    // A worker tells its counts when it wakes.
    eventually(
        &format!("{what}: {expected:?} sent by rings"),
        LIMIT,
        || sent(topology) == expected,
    );
    for (from, to) in [(p1, p3), (p3, p1)] {
        for family in Family::BOTH {
            let report = ping(&from.ns, to.ip(family), 3, 1300, LIMIT).unwrap();
            assert!(report.all(), "{what}: {family}: {report}");
        }
    }
    transfers(what, p1, p3);
}

fn transfers(what: &str, from: &Pod, to: &Pod) {
    for family in Family::BOTH {
        let done = transfer(&from.ns, &to.ns, to.ip(family), 3_000_001, LIMIT);
        assert!(done.is_ok(), "{what}: {family} TCP: {done:?}");
    }
}

/// After `change` packets flow again within [`RECOVERY`], by `gateway`.
fn survives(
    what: &str,
    topology: &mut Topology,
    [p1, _, p3]: &[Pod; 3],
    underlay: Family,
    gateway: Gateway<'_>,
    change: impl FnOnce(&Topology),
) {
    let probes =
        Family::BOTH.map(|family| OutageProbe::start(&p1.ns, &p3.ns, p3.ip(family)).unwrap());
    sleep(SETTLE);
    let begin = Instant::now();
    change(topology);
    sends_by(what, topology, underlay, gateway);
    let known = begin.elapsed();
    // What came before the change must not be taken for a recovery.
    sleep(SETTLE);
    let outages = probes.map(OutageProbe::finish);
    println!(
        "{what}: known after {known:?}; no packets for {:?}, {:?}",
        outages[0].longest, outages[1].longest
    );
    for (outage, family) in outages.iter().zip(Family::BOTH) {
        assert!(
            outage.longest < RECOVERY,
            "{what}: no {family} packets for {:?}",
            outage.longest
        );
    }
    for family in Family::BOTH {
        let report = ping(&p1.ns, p3.ip(family), 3, 56, LIMIT).unwrap();
        assert!(report.all(), "{what}: {family}: {report}");
    }
    transfers(what, p1, p3);
}

/// The status soon says that the node sends to the other by this gateway, and how.
fn sends_by(what: &str, topology: &mut Topology, underlay: Family, gateway: Gateway<'_>) {
    let Gateway { node, number, mac } = gateway;
    let via = plan::router(node, number, underlay);
    let dst = plan::routed(3 - node, underlay);
    let node = match node {
        1 => &mut topology.n1,
        _ => &mut topology.n2,
    };
    let by = if is_xdp(node) { "ring" } else { "socket" };
    let next_hop = format!("{via} at {mac}");
    let limit = Instant::now() + RECOVERY;
    loop {
        let status = Status::of(node);
        let seen = status.next_hop(dst);
        if seen == Some((by, &next_hop)) {
            return;
        }
        assert!(
            Instant::now() < limit,
            "{what}: to {dst} by {seen:?} instead of {by}: {next_hop}"
        );
        sleep(Duration::from_millis(10));
    }
}

fn is_xdp(node: &Node) -> bool {
    matches!(node.kind(), NodeKind::Ringway(options) if options.io == Io::Xdp)
}

fn set_mac(router: &Router, Gateway { node, number, mac }: Gateway<'_>) {
    let interface = Router::interface(node, number);
    let set = format!("link set {interface} address {mac}");
    router.ns.ip(&set).unwrap();
}

fn pids(topology: &mut Topology) -> [Option<u32>; 2] {
    [&mut topology.n1, &mut topology.n2].map(|node| node.agent().unwrap().pid())
}
