//! Between pods and the world outside: masquerade, ports of the node, a firewall that forwards nothing.
//!
//! ```text
//!   pod ── node 1 (ringway) ── under0 ══ node 2
//!            └─ out0 198.51.100.1, 2001:db8:51::1 ══ .2, ::2 outside (knows no pod)
//! ```

use crate::ask::ask;
use crate::harness::{eventually, network_test, skipped};
use ringway_perf::lab::{Cni, Family, Mode, Netns, Pod, RingwayOptions, Topology, installed};
use ringway_perf::traffic::{ping, tcp_seen, udp_seen};
use serde_json::json;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(3);

/// The world outside, joined to node 1.
pub(crate) struct Outside {
    pub(crate) ns: Netns,
}

impl Outside {
    pub(crate) fn join(topology: &Topology) -> Self {
        let ns = Netns::create(&topology.lab.name("out")).unwrap();
        let node = &topology.n1.ns;
        node.ip(&format!(
            "link add out0 type veth peer name eth0 netns {}",
            ns.name()
        ))
        .unwrap();
        for (ns, interface, host) in [(node, "out0", 1), (&ns, "eth0", 2)] {
            ns.ip(&format!("addr add 198.51.100.{host}/24 dev {interface}"))
                .unwrap();
            ns.ip(&format!(
                "addr add 2001:db8:51::{host}/64 dev {interface} nodad"
            ))
            .unwrap();
            ns.ip(&format!("link set {interface} up")).unwrap();
        }
        let outside = Self { ns };
        for family in Family::BOTH {
            // Neighbour discovery works when the link-local address does, a second or two later.
            eventually("the outside answers the node", LIMIT, || {
                let to = outside.ip(family);
                ping(node, to, 1, 56, Duration::from_millis(300)).is_ok_and(|report| report.all())
            });
        }
        outside
    }

    pub(crate) fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => "198.51.100.2".parse().unwrap(),
            Family::V6 => "2001:db8:51::2".parse().unwrap(),
        }
    }

    pub(crate) fn node(family: Family) -> IpAddr {
        match family {
            Family::V4 => "198.51.100.1".parse().unwrap(),
            Family::V6 => "2001:db8:51::1".parse().unwrap(),
        }
    }
}

fn nft(name: &str) -> bool {
    if !installed("nft") {
        skipped(name, "nft is not installed");
    }
    installed("nft")
}

#[test]
fn pods_reach_the_outside_under_the_nodes_address_and_each_other_under_their_own() {
    let name = "pods_reach_the_outside_under_the_nodes_address_and_each_other_under_their_own";
    if !nft(name) {
        return;
    }
    network_test(name, Duration::from_secs(240), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let outside = Outside::join(&topology);
        let [a, _, c] = topology.add_three_pods().unwrap();
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        assert_eq!(status["rules"], "table inet ringway: masquerade");
        for round in [
            "as set",
            "after a flush",
            "behind a firewall that forwards nothing",
            "behind one that rejects by its last rule",
            "behind one of the older tables",
        ] {
            match round {
                "after a flush" => {
                    topology
                        .n1
                        .ns
                        .run(|| ringway_perf::lab::run("nft", &["flush", "ruleset"]))
                        .unwrap()
                        .unwrap();
                }
                "behind a firewall that forwards nothing" => {
                    let strict = "add table inet strict; add chain inet strict everything { type filter hook forward \
                                  priority 0; policy drop; }";
                    topology
                        .n1
                        .ns
                        .run(|| ringway_perf::lab::run("nft", &[strict]))
                        .unwrap()
                        .unwrap();
                }
                "behind one that rejects by its last rule" => {
                    let strict = "add chain inet strict last { type filter hook forward priority 1; policy accept; }; \
                                  add rule inet strict last ct state established,related accept; \
                                  add rule inet strict last reject with icmpx admin-prohibited";
                    topology
                        .n1
                        .ns
                        .run(|| ringway_perf::lab::run("nft", &[strict]))
                        .unwrap()
                        .unwrap();
                }
                "behind one of the older tables" => {
                    let node = &topology.n1.ns;
                    if node.command("iptables-legacy", "-S").is_err() {
                        skipped(
                            name,
                            "no older iptables tables in this kernel, or no iptables",
                        );
                        continue;
                    }
                    for program in ["iptables-legacy", "ip6tables-legacy"] {
                        node.command(program, "-P FORWARD DROP").unwrap();
                    }
                    // netfilter tells of changes of the newer kind only.
                    node.command("nft", "add table inet news").unwrap();
                }
                _ => {}
            }
            if round != "as set" {
                // A look takes a thirtieth of the time at most, and a firewall's rules some 20 ms.
                eventually(round, Duration::from_secs(50), || {
                    tcp_seen(&a.ns, &outside.ns, outside.ip(Family::V4), LIMIT)
                        .is_ok_and(|seen| seen.receiver_saw.ip() == Outside::node(Family::V4))
                });
            }
            for family in Family::BOTH {
                let seen = [
                    tcp_seen(&a.ns, &outside.ns, outside.ip(family), LIMIT),
                    udp_seen(&a.ns, &outside.ns, outside.ip(family), LIMIT),
                ];
                for seen in seen {
                    let seen = seen.unwrap_or_else(|e| panic!("{round}, {family}: {e}"));
                    assert_eq!(seen.sender.ip(), a.ip(family), "{round}");
                    assert_eq!(seen.receiver_saw.ip(), Outside::node(family), "{round}");
                }
                let inside = tcp_seen(&a.ns, &c.ns, c.ip(family), LIMIT).unwrap();
                assert!(inside.untranslated(), "{round}: {inside:?}");
                let to_node =
                    tcp_seen(&a.ns, &topology.n1.ns, topology.n1.ip(family), LIMIT).unwrap();
                assert!(to_node.untranslated(), "{round}: {to_node:?}");
            }
        }
    });
}

/// A table with an owner may be changed by nobody else, as those of newer versions of firewalld.
#[test]
fn a_firewall_that_cannot_be_opened_stands_in_log_and_status() {
    let name = "a_firewall_that_cannot_be_opened_stands_in_log_and_status";
    if !nft(name) {
        return;
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let node = topology.n1.ns.clone();
        let mut nft = Command::new("nft");
        nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null());
        // It ends with its input, also when this test fails.
        let mut owner = node.run(|| nft.spawn()).unwrap().unwrap();
        let mut input = owner.stdin.take().unwrap();
        input
            .write_all(
                b"add table inet firewalld { flags owner; }\n\
                  add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }\n\
                  add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited\n",
            )
            .unwrap();
        eventually("nft sets the firewall", LIMIT, || {
            let listed = node.command("nft", "list ruleset").unwrap();
            listed.contains("admin-prohibited")
        });
        let agent = topology.n1.agent().unwrap();
        assert!(agent.stop());
        agent.start().unwrap();
        let helps = "firewall-cmd --permanent --zone=trusted --add-interface=ringway0";
        let status = agent.json(&["status"]).unwrap();
        let conditions = status["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1, "{conditions:?}");
        assert!(conditions[0]["why"].as_str().unwrap().contains(helps));
        let shown = agent.cli(&["status"]).unwrap();
        let words: Vec<&str> = shown.split_whitespace().collect();
        let expected = "the firewall stops pods' packets in chain inet firewalld filter_FORWARD";
        assert!(words.join(" ").contains(expected), "{shown}");
        assert_eq!(agent.log().matches(helps).count(), 1, "{}", agent.log());
        drop(input);
        owner.wait().unwrap();
    });
}

fn web(topology: &mut Topology, name: &str) -> Pod {
    let pod = topology.n1.new_pod().unwrap();
    let ips = Family::BOTH.map(|family| pod.ip(family).to_string());
    let ports = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
        {"hostPort": 8081, "containerPort": 81, "protocol": "TCP", "hostIP": "198.51.100.1"},
        {"hostPort": 8081, "containerPort": 81, "protocol": "UDP", "hostIP": "198.51.100.1"},
    ]);
    let cni = Cni::ringway(topology.n1.agent().unwrap(), "1.0.0")
        .unwrap()
        .with("runtimeConfig", json!({"ips": ips, "portMappings": ports}));
    cni.add(name, &pod.ns).unwrap().unwrap();
    pod
}

#[test]
fn ports_of_the_node_lead_to_a_pod() {
    let name = "ports_of_the_node_lead_to_a_pod";
    if !nft(name) {
        return;
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let outside = Outside::join(&topology);
        let pod = web(&mut topology, "web");
        let neighbour = topology.n1.add_pod().unwrap();
        let far = topology.n2.add_pod().unwrap();
        let node = topology.n1.ns.clone();

        // A second pod that wants the same is refused, and leaves nothing.
        let other = topology.n1.new_pod().unwrap();
        let cni = Cni::ringway(topology.n1.agent().unwrap(), "1.0.0").unwrap();
        let wants =
            json!({"portMappings": [{"hostPort": 8080, "containerPort": 1, "protocol": "tcp"}]});
        let refused = cni
            .with("runtimeConfig", wants)
            .add("other", &other.ns)
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.code, 101, "{refused}");
        assert!(
            refused
                .msg
                .contains("8080/tcp already leads to pod web/eth0"),
            "{refused}"
        );

        for round in ["first", "after kill -9"] {
            if round != "first" {
                let agent = topology.n1.agent().unwrap();
                agent.kill();
                agent.start().unwrap();
            }
            for family in Family::BOTH {
                let bind = SocketAddr::new(pod.ip(family), 80);
                let check = |what: &str, from: &Netns, target: SocketAddr, saw: &[IpAddr]| {
                    let seen = ask(from, target, &pod.ns, bind, 1)
                        .unwrap_or_else(|e| panic!("{round}, {what} to {target}: {e}"));
                    assert!(
                        !seen.is_empty() && seen.iter().all(|ip| saw.contains(ip)),
                        "{round}, {what} to {target}: seen as {seen:?}"
                    );
                };
                let at = |ip: IpAddr| SocketAddr::new(ip, 8080);
                let out = at(Outside::node(family));
                check("from outside", &outside.ns, out, &[outside.ip(family)]);
                let own = topology.n1.addresses().unwrap();
                check("from the node", &node, out, &own);
                if family == Family::V4 {
                    let gateway = [topology.n1.gateway(family)];
                    check(
                        "from the node by loopback",
                        &node,
                        at("127.0.0.1".parse().unwrap()),
                        &gateway,
                    );
                }
                check(
                    "from a pod beside it",
                    &neighbour.ns,
                    out,
                    &[neighbour.ip(family)],
                );
                check("from itself", &pod.ns, out, &[topology.n1.gateway(family)]);
                check(
                    "from a pod of another node",
                    &far.ns,
                    at(topology.n1.ip(family)),
                    &[far.ip(family), topology.n2.ip(family)],
                );
            }
            let bind = SocketAddr::new(pod.ip(Family::V4), 81);
            let at = SocketAddr::new(Outside::node(Family::V4), 8081);
            let seen = ask(&outside.ns, at, &pod.ns, bind, 1).unwrap();
            assert_eq!(seen, [outside.ip(Family::V4)].into());
            let elsewhere = SocketAddr::new(topology.n1.ip(Family::V4), 8081);
            let refused = node
                .run(|| TcpStream::connect_timeout(&elsewhere, LIMIT))
                .unwrap();
            assert!(
                refused.is_err(),
                "another address of the node leads nowhere"
            );
        }

        // UDP of a client that never stops sending finds the pod that takes over.
        let client = outside
            .ns
            .run(|| UdpSocket::bind("198.51.100.2:4000"))
            .unwrap()
            .unwrap();
        client.connect("198.51.100.1:8080").unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let ask = |pod: &Pod| {
            let bind = SocketAddr::new(pod.ip(Family::V4), 80);
            let server = pod.ns.run(|| UdpSocket::bind(bind)).unwrap().unwrap();
            server.set_read_timeout(Some(LIMIT)).unwrap();
            client.send(b"x").unwrap();
            let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
            server.send_to(b"y", peer).unwrap();
            client.recv(&mut [0; 8]).unwrap();
        };
        ask(&pod);
        cni.del("web", Some(&pod.ns)).unwrap().unwrap();
        client.send(b"to nobody").unwrap();
        // Refused by the node, which the next call would say.
        std::thread::sleep(Duration::from_millis(100));
        let _ = client.take_error();
        let second = web(&mut topology, "second");
        ask(&second);
        cni.del("second", None).unwrap().unwrap();
        let listed = node
            .run(|| ringway_perf::lab::run("nft", &["list", "ruleset"]))
            .unwrap()
            .unwrap();
        assert!(!listed.contains("8080"), "{listed}");
    });
}

/// A client that never stops sending keeps the kernel's entry for the pod before alive: the pod goes while the
/// agent is away, and its successor has to be found all the same.
#[test]
fn a_client_that_never_stops_finds_the_successor_of_a_pod_that_went_unseen() {
    let name = "a_client_that_never_stops_finds_the_successor_of_a_pod_that_went_unseen";
    if !nft(name) {
        return;
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let outside = Outside::join(&topology);
        let pod = web(&mut topology, "web");
        let clients = Family::BOTH.map(|family| {
            let any = SocketAddr::new(outside.ip(family), 4000);
            let client = outside.ns.run(|| UdpSocket::bind(any)).unwrap().unwrap();
            client
                .connect(SocketAddr::new(Outside::node(family), 8080))
                .unwrap();
            client
        });
        let server = |pod: &Pod, family| {
            let bind = SocketAddr::new(pod.ip(family), 80);
            let server = pod.ns.run(|| UdpSocket::bind(bind)).unwrap().unwrap();
            server.set_read_timeout(Some(LIMIT)).unwrap();
            server
        };
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Relaxed) {
                    for client in &clients {
                        // Refused while nobody listens.
                        let _ = client.send(b"x");
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
                for family in Family::BOTH {
                    server(&pod, family).recv_from(&mut [0; 8]).unwrap();
                }
                let cni = Cni::ringway(topology.n1.agent().unwrap(), "1.0.0").unwrap();
                topology.n1.agent().unwrap().kill();
                cni.del("web", Some(&pod.ns)).unwrap().unwrap();
                pod.ns.delete().unwrap();
                topology.n1.agent().unwrap().start().unwrap();
                let second = web(&mut topology, "second");
                for family in Family::BOTH {
                    server(&second, family)
                        .recv_from(&mut [0; 8])
                        .unwrap_or_else(|e| panic!("{family}: the successor gets nothing: {e}"));
                }
            }));
            end.store(true, Relaxed);
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        });
    });
}
