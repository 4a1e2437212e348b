//! Addresses beside the pod networks that only the node knows: its own link-local ones (a node's DNS cache),
//! and those it routes on (the cloud's metadata).
//!
//! ```text
//!   pod ── node 1 (lo: 169.254.20.10, fd20::10) ── meta0 ══ eth0 169.254.169.254, fd00:ec2::254 behind
//! ```

use crate::common::{LIMIT, assert_none};
use crate::harness::{eventually, network_test, skipped};
use ringway_perf::lab::{Family, Mode, Netns, Pod, RingwayOptions, Topology, installed, run};
use ringway_perf::traffic::{ping, tcp_seen, udp_seen};
use std::net::{IpAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

/// The gateway's, from its MAC.
const GATEWAY: &str = "fe80::52:57ff:fe00:1";

fn cache(family: Family) -> IpAddr {
    match family {
        Family::V4 => "169.254.20.10".parse().unwrap(),
        Family::V6 => "fd20::10".parse().unwrap(),
    }
}

fn metadata(family: Family) -> IpAddr {
    match family {
        Family::V4 => "169.254.169.254".parse().unwrap(),
        Family::V6 => "fd00:ec2::254".parse().unwrap(),
    }
}

/// A namespace behind the node that has the metadata's addresses, and knows no pod.
fn behind(topology: &Topology) -> Netns {
    let ns = Netns::create(&topology.lab.name("meta")).unwrap();
    let node = &topology.n1.ns;
    node.ip(&format!(
        "link add meta0 type veth peer name eth0 netns {}",
        ns.name()
    ))
    .unwrap();
    for (at, interface, addresses) in [
        (node, "meta0", ["198.51.100.1/24", "2001:db8:51::1/64"]),
        (&ns, "eth0", ["198.51.100.2/24", "2001:db8:51::2/64"]),
        (&ns, "eth0", ["169.254.169.254/32", "fd00:ec2::254/128"]),
        (node, "lo", ["169.254.20.10/32", "fd20::10/128"]),
    ] {
        for address in addresses {
            let flag = if address.contains(':') { "nodad" } else { "" };
            at.ip(&format!("addr add {address} dev {interface} {flag}"))
                .unwrap();
        }
        at.ip(&format!("link set {interface} up")).unwrap();
    }
    for (family, via) in Family::BOTH
        .into_iter()
        .zip(["198.51.100.2", "2001:db8:51::2"])
    {
        node.ip(&format!(
            "route add {} via {via} dev meta0",
            metadata(family)
        ))
        .unwrap();
        eventually("the namespace answers the node", LIMIT, || {
            let short = Duration::from_millis(300);
            ping(node, metadata(family), 1, 56, short).is_ok_and(|report| report.all())
        });
    }
    ns
}

fn check(what: &str, pod: &Pod, to: &Netns, address: IpAddr) -> Vec<String> {
    let mut failures = Vec::new();
    match ping(&pod.ns, address, 3, 56, LIMIT) {
        Ok(report) if report.all() => {}
        Ok(report) => failures.push(format!("{what}, ping {address}: {report}")),
        Err(error) => failures.push(format!("{what}, ping {address}: {error}")),
    }
    let short = Duration::from_secs(1);
    for (kind, seen) in [
        ("TCP", tcp_seen(&pod.ns, to, address, short)),
        ("UDP", udp_seen(&pod.ns, to, address, short)),
    ] {
        if let Err(error) = seen {
            failures.push(format!("{what}, {kind} to {address}: {error}"));
        }
    }
    failures
}

#[test]
fn pods_reach_what_the_node_has_and_routes() {
    let name = "pods_reach_what_the_node_has_and_routes";
    if !installed("nft") {
        return skipped(name, "nft is not installed");
    }
    network_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [pod, _, _] = topology.add_three_pods().unwrap();
        let metadata_ns = behind(&topology);
        let node = topology.n1.ns.clone();
        let before = topology.n1.drops().unwrap();
        let mut failures = Vec::new();
        for how in ["by the gateway", "as a neighbour"] {
            if how == "as a neighbour" {
                for network in ["169.254.0.0/16", "fd20::/64", "fd00:ec2::/64"] {
                    pod.ns.ip(&format!("route add {network} dev eth0")).unwrap();
                }
            }
            for family in Family::BOTH {
                failures.extend(check(how, &pod, &node, cache(family)));
                failures.extend(check(how, &pod, &metadata_ns, metadata(family)));
            }
        }
        let drops = topology.n1.drops().unwrap().since(&before);
        for reason in ["martian_destination", "no_neighbour"] {
            if drops.get(reason) > 0 {
                failures.push(format!("{reason}: {}", drops.get(reason)));
            }
        }
        assert_none(&failures);
    });
}

#[test]
fn the_gateways_link_local_address_takes_packets() {
    let name = "the_gateways_link_local_address_takes_packets";
    if !installed("nft") {
        return skipped(name, "nft is not installed");
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [pod, _, _] = topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        let nft = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            node.run(|| run("nft", &words)).unwrap().unwrap()
        };
        nft("add table ip6 watch");
        nft("add chain ip6 watch in { type filter hook prerouting priority -300; }");
        nft(&format!(
            "add rule ip6 watch in iifname ringway0 ip6 daddr {GATEWAY} udp dport 53 counter"
        ));
        let before = topology.n1.drops().unwrap();
        let interface = pod
            .ns
            .run(|| nix::net::if_::if_nametoindex("eth0"))
            .unwrap()
            .unwrap();
        let target = SocketAddrV6::new(GATEWAY.parse().unwrap(), 53, 0, interface);
        // From its global address, and from its link-local one.
        for source in [pod.ip(Family::V6), "::".parse().unwrap()] {
            let socket = pod
                .ns
                .run(|| UdpSocket::bind((source, 0)))
                .unwrap()
                .unwrap();
            for _ in 0..5 {
                socket.send_to(b"who is there?", target).unwrap();
            }
        }
        eventually("the node's stack got them", LIMIT, || {
            nft("list chain ip6 watch in").contains("packets 10 ")
        });
        let drops = topology.n1.drops().unwrap().since(&before);
        assert_eq!(drops.total(), 0, "{drops}");
    });
}
