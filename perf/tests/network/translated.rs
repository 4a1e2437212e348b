//! What the node translates, for whom, and that every answer is translated back: pods here and there, the node,
//! the other node, and the world outside ask by ports of node 1, whose backends are here and there.
//!
//! ```text
//!   a, b ── node 1 ── eth0 ══ eth0 ── node 2 ── c, d
//!             └─ out0 198.51.100.1, 2001:db8:51::1 ══ outside (routes the pod networks to node 1)
//! ```

use crate::ask::ask;
use crate::harness::{network_test, skipped};
use crate::outside::Outside;
use crate::services::Tool;
use ringway_perf::lab::{
    Cni, Drops, Family, Mode, Netns, Pod, RingwayOptions, Topology, installed,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Connections of each case, and datagrams.
const MANY: usize = 3;

fn usable(name: &str) -> bool {
    if !installed("nft") {
        skipped(name, "nft is not installed");
    }
    installed("nft")
}

/// The nodes' drops, to see that nothing was refused.
fn drops(topology: &mut Topology) -> [Drops; 2] {
    [&mut topology.n1, &mut topology.n2].map(|node| node.drops().unwrap())
}

fn nothing_dropped(topology: &mut Topology, before: &[Drops; 2]) {
    for (after, before) in drops(topology).iter().zip(before) {
        let new = after.since(before);
        assert_eq!(new.total(), 0, "{new}");
    }
}

/// The outside knows that pods and gateways are behind node 1.
fn route_pods(outside: &Outside) {
    for route in [
        "route add 10.77.0.0/16 via 198.51.100.1",
        "-6 route add fd77::/16 via 2001:db8:51::1",
    ] {
        outside.ns.ip(route).unwrap();
    }
}

#[test]
fn what_is_no_pods_reaches_a_remote_pod_as_the_gateway() {
    let name = "what_is_no_pods_reaches_a_remote_pod_as_the_gateway";
    if !usable(name) {
        return;
    }
    network_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let outside = Outside::join(&topology);
        route_pods(&outside);
        let [_, here, there] = topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        node.ip("route add default via 198.51.100.2").unwrap();
        node.ip("-6 route add default via 2001:db8:51::2").unwrap();
        let before = drops(&mut topology);
        for family in Family::BOTH {
            let gateway = topology.n1.gateway(family);
            let check = |what: &str, from: &Netns, target: SocketAddr, pod: &Pod, saw: IpAddr| {
                let bind = SocketAddr::new(pod.ip(family), 8080);
                let seen = ask(from, target, &pod.ns, bind, MANY)
                    .unwrap_or_else(|e| panic!("{family}, {what} to {target}: {e}"));
                assert_eq!(seen, [saw].into(), "{family}, {what} to {target}");
            };
            // A service whose rules know nothing of the pods' networks: the source is that of the route
            // to the service.
            let service = match family {
                Family::V4 => "10.96.0.10:80",
                Family::V6 => "[fd96::10]:80",
            };
            let service: SocketAddr = service.parse().unwrap();
            let public = SocketAddr::new(Outside::node(family), 30080);
            for (pod, direct, node_saw, outside_saw) in [
                (&there, 8080, gateway, gateway),
                (&here, 8080, Outside::node(family), outside.ip(family)),
            ] {
                let to = SocketAddr::new(pod.ip(family), direct);
                Tool::Nft.service(&node, service, to, false);
                check("the node by a service", &node, service, pod, node_saw);
                Tool::Nft.clear(&node, family == Family::V6);
                Tool::Nft.service(&node, public, to, false);
                check(
                    "the outside by a port of the node",
                    &outside.ns,
                    public,
                    pod,
                    outside_saw,
                );
                Tool::Nft.clear(&node, family == Family::V6);
                check("the outside by a route", &outside.ns, to, pod, outside_saw);
            }
        }
        nothing_dropped(&mut topology, &before);
    });
}
