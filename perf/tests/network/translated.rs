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
use crate::services::{Tool, download_survives_restarts};
use ringway_perf::lab::{
    Cni, Drops, Family, Mode, Netns, Pod, RingwayOptions, Topology, installed,
};
use serde_json::json;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);
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

/// Both nodes let pods keep their address towards the nodes.
fn keep_addresses(topology: &mut Topology) {
    for node in [&mut topology.n1, &mut topology.n2] {
        let agent = node.agent().unwrap();
        let text = std::fs::read_to_string(agent.config()).unwrap();
        let egress = "[egress]\nmasquerade_exclude = [\"192.168.77.0/24\", \"fd00:77::/64\"]\n";
        agent.write_config(&format!("{text}\n{egress}")).unwrap();
        assert!(agent.stop());
        agent.start().unwrap();
    }
}

/// A pod of node 1 that has port 8080 of the node.
fn with_host_port(topology: &mut Topology) -> Pod {
    let pod = topology.n1.new_pod().unwrap();
    let ips = Family::BOTH.map(|family| pod.ip(family).to_string());
    let ports = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
    ]);
    let cni = Cni::ringway(topology.n1.agent().unwrap(), "1.0.0")
        .unwrap()
        .with("runtimeConfig", json!({"ips": ips, "portMappings": ports}));
    cni.add("web", &pod.ns).unwrap().unwrap();
    pod
}

#[test]
fn every_answer_is_translated_back() {
    let name = "every_answer_is_translated_back";
    if !usable(name) {
        return;
    }
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let outside = Outside::join(&topology);
        route_pods(&outside);
        keep_addresses(&mut topology);
        let [a, _, c] = topology.add_three_pods().unwrap();
        let d = topology.n2.add_pod().unwrap();
        let web = with_host_port(&mut topology);
        let (n1, n2) = (topology.n1.ns.clone(), topology.n2.ns.clone());
        let before = drops(&mut topology);
        let mut failures = Vec::new();
        for family in Family::BOTH {
            let gateway = topology.n1.gateway(family);
            let own = topology.n1.ip(family);
            for target in [own, gateway] {
                // Each asks under this address, which a backend here sees, and one there if it is of node 1.
                let by_gateway = target == gateway;
                let sources = [
                    ("a pod of node 1", &a.ns, a.ip(family), true),
                    ("a pod of node 2", &c.ns, c.ip(family), false),
                    ("the outside", &outside.ns, outside.ip(family), false),
                    ("node 1", &n1, target, false),
                    (
                        "node 2",
                        &n2,
                        if by_gateway {
                            topology.n2.gateway(family)
                        } else {
                            topology.n2.ip(family)
                        },
                        false,
                    ),
                ];
                for (who, from, address, keeps) in sources {
                    // The outside has no route to the underlay.
                    if who == "the outside" && !by_gateway {
                        continue;
                    }
                    let mut check = |what: &str, port: u16, pod: &Pod, bind: u16, saw: IpAddr| {
                        let target = SocketAddr::new(target, port);
                        let bind = SocketAddr::new(pod.ip(family), bind);
                        let seen = ask(from, target, &pod.ns, bind, MANY);
                        if seen != Ok([saw].into()) {
                            failures.push(format!("{who} to {what} {target}: {seen:?}, not {saw}"));
                        }
                    };
                    check("host port", 8080, &web, 80, address);
                    for (what, port, pod, saw) in [
                        ("node port, backend here", 30080, &web, address),
                        (
                            "node port, backend there",
                            30081,
                            &d,
                            if keeps { address } else { gateway },
                        ),
                        ("node port, backend itself", 30082, &c, gateway),
                    ] {
                        if pod.ns == c.ns && from != &c.ns {
                            continue;
                        }
                        let bind = SocketAddr::new(pod.ip(family), 81);
                        Tool::Nft.service(&n1, SocketAddr::new(target, port), bind, false);
                        check(what, port, pod, 81, saw);
                        Tool::Nft.clear(&n1, family == Family::V6);
                    }
                }
            }
            // What nobody translates: a process of the other node, under the pod's own address.
            let seen = ask(
                &c.ns,
                SocketAddr::new(own, 9000),
                &n1,
                SocketAddr::new(own, 9000),
                MANY,
            );
            if seen != Ok([c.ip(family)].into()) {
                failures.push(format!(
                    "a pod of node 2 to a process of node 1, {family}: {seen:?}"
                ));
            }
        }
        crate::common::assert_none(&failures);
        nothing_dropped(&mut topology, &before);
        // A client uses a port again to speak to the backend itself: the answers are its own.
        for family in Family::BOTH {
            let client = |to: SocketAddr| {
                let socket =
                    c.ns.run(|| UdpSocket::bind(SocketAddr::new(c.ip(family), 5353)))
                        .unwrap()
                        .unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                socket.connect(to).unwrap();
                socket
            };
            let bind = SocketAddr::new(web.ip(family), 80);
            let server = web.ns.run(|| UdpSocket::bind(bind)).unwrap().unwrap();
            server.set_read_timeout(Some(LIMIT)).unwrap();
            for to in [SocketAddr::new(topology.n1.ip(family), 8080), bind] {
                let client = client(to);
                client.send(b"?").unwrap();
                let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
                assert_eq!(peer.ip(), c.ip(family));
                server.send_to(b"!", peer).unwrap();
                assert_eq!(
                    client
                        .recv(&mut [0; 8])
                        .unwrap_or_else(|e| panic!("{to}: {e}")),
                    1
                );
            }
        }
    });
}

/// The server speaks first after the restart: nothing of the client tells the new agent of the flow.
#[test]
fn a_remote_pods_download_by_a_host_port_survives_restarts_of_the_agent() {
    let name = "a_remote_pods_download_by_a_host_port_survives_restarts_of_the_agent";
    if !usable(name) {
        return;
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        keep_addresses(&mut topology);
        let c = topology.n2.add_pod().unwrap();
        let web = with_host_port(&mut topology);
        for family in Family::BOTH {
            let listener = web
                .ns
                .run(|| TcpListener::bind(SocketAddr::new(web.ip(family), 80)))
                .unwrap()
                .unwrap();
            let target = SocketAddr::new(topology.n1.ip(family), 8080);
            let stream =
                c.ns.run(|| TcpStream::connect_timeout(&target, LIMIT))
                    .unwrap()
                    .unwrap();
            download_survives_restarts(&mut topology, &listener, stream, family);
        }
    });
}
