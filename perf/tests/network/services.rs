//! Services as kube-proxy makes them, by nftables and by iptables, in the node's namespace: a pod asks an
//! address that is nobody's, the node translates, and the answer finds its way back through the node.

use crate::ask::ask;
use crate::harness::{network_test, skipped};
use ringway_perf::lab::{
    Cni, Family, Mode, Netns, NodeKind, Pod, RingwayOptions, Topology, installed, run,
};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);
/// Connections of each case, and datagrams.
const MANY: usize = 1000;
const PORT: u16 = 80;

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => "10.96.0.10".parse().unwrap(),
        Family::V6 => "fd96::10".parse().unwrap(),
    }
}

/// Who makes the rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tool {
    Nft,
    Iptables,
}

impl Tool {
    /// Translates `service` to `backend` for TCP and UDP, from pods and from the node, and lets a backend
    /// that asks for itself come from the node. `masquerade` does that for everybody, as a NodePort does.
    pub(crate) fn service(
        self,
        node: &Netns,
        service: SocketAddr,
        backend: SocketAddr,
        masquerade: bool,
    ) {
        let (v6, vip, port) = (service.is_ipv6(), service.ip(), service.port());
        let to = backend.ip();
        if self == Tool::Nft {
            let ip = if v6 { "ip6" } else { "ip" };
            let rule = format!(
                "{ip} daddr {vip} meta l4proto {{ tcp, udp }} th dport {port} {} dnat {ip} to {backend}",
                if masquerade {
                    "meta mark set 0x4000"
                } else {
                    ""
                }
            );
            let script = format!(
                "table {ip} services {{
                    chain pre {{ type nat hook prerouting priority dstnat; {rule}; }}
                    chain out {{ type nat hook output priority -100; {rule}; }}
                    chain post {{ type nat hook postrouting priority srcnat;
                        {ip} saddr {to} {ip} daddr {to} masquerade; meta mark 0x4000 masquerade; }}
                }}"
            );
            node.run(|| run("nft", &[script])).unwrap().unwrap();
            return;
        }
        let program = if v6 { "ip6tables" } else { "iptables" };
        let rule = |words: String| {
            let words: Vec<&str> = words.split_whitespace().collect();
            node.run(|| run(program, &words)).unwrap().unwrap();
        };
        for protocol in ["tcp", "udp"] {
            for chain in ["PREROUTING", "OUTPUT"] {
                let meant = format!("-w -t nat -A {chain} -d {vip} -p {protocol} --dport {port}");
                if masquerade {
                    rule(format!("{meant} -j MARK --set-mark 0x4000"));
                }
                rule(format!("{meant} -j DNAT --to-destination {backend}"));
            }
        }
        rule(format!(
            "-w -t nat -A POSTROUTING -s {to} -d {to} -j MASQUERADE"
        ));
        rule("-w -t nat -A POSTROUTING -m mark --mark 0x4000 -j MASQUERADE".into());
    }

    pub(crate) fn clear(self, node: &Netns, v6: bool) {
        let program = match (self, v6) {
            (Tool::Nft, _) => {
                let table = if v6 { "ip6" } else { "ip" };
                node.run(|| run("nft", &["delete", "table", table, "services"]))
                    .unwrap()
                    .unwrap();
                return;
            }
            (Tool::Iptables, true) => "ip6tables",
            (Tool::Iptables, false) => "iptables",
        };
        node.run(|| run(program, &["-w", "-t", "nat", "-F"]))
            .unwrap()
            .unwrap();
    }
}

fn services(name: &str, tool: Tool, other: NodeKind) {
    network_test(name, Duration::from_secs(180), || {
        let mut topology = Topology::build(
            Mode::Cloud,
            NodeKind::Ringway(RingwayOptions::default()),
            other.clone(),
        )
        .unwrap();
        let [client, beside, far] = topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        for family in Family::BOTH {
            let v6 = family == Family::V6;
            let own = client.ip(family);
            let cases: [(&str, &Pod, IpAddr); 3] = [
                ("on the same node", &beside, own),
                ("on the other node", &far, own),
                ("itself", &client, topology.n1.gateway(family)),
            ];
            // Ports of its own for each: the node's connection tracking remembers UDP for a while.
            for (i, (what, backend, expected)) in (0u16..).zip(cases) {
                let service = SocketAddr::new(vip(family), PORT + i);
                let bind = SocketAddr::new(backend.ip(family), 8080 + i);
                tool.service(&node, service, bind, false);
                let seen = ask(&client.ns, service, &backend.ns, bind, MANY)
                    .unwrap_or_else(|e| panic!("{tool:?}, {family}, backend {what}: {e}"));
                assert_eq!(
                    seen,
                    [expected].into(),
                    "{tool:?}, {family}, backend {what}: the client is seen"
                );
                tool.clear(&node, v6);
                // What the client says to the backend directly is as ever, with the flows remembered.
                if what != "itself" {
                    let seen = ask(&client.ns, bind, &backend.ns, bind, MANY).unwrap();
                    assert_eq!(seen, [own].into(), "{tool:?}, {family}, {what}, directly");
                }
            }
            // A node port of this node, asked from the other one.
            for (i, (what, backend)) in (0u16..).zip([("here", &beside), ("there", &far)]) {
                let public = SocketAddr::new(topology.n1.ip(family), 30080 + i);
                let bind = SocketAddr::new(backend.ip(family), 8080);
                tool.service(&node, public, bind, true);
                ask(&topology.n2.ns, public, &backend.ns, bind, MANY).unwrap_or_else(|e| {
                    panic!("{tool:?}, {family}, node port, backend {what}: {e}")
                });
                tool.clear(&node, v6);
            }
        }
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        assert!(
            status["totals"]["returned"]["frames"].as_u64().unwrap() > 0,
            "{status}"
        );
    });
}

fn usable(name: &str, tool: Tool) -> bool {
    let (program, why) = match tool {
        Tool::Nft => ("nft", "nft is not installed"),
        Tool::Iptables => ("ip6tables", "iptables is not installed"),
    };
    let usable = installed(program);
    if !usable {
        skipped(name, why);
    }
    usable
}

/// A server that speaks while the agent of node 1 is away, stopped or killed, is heard when it is back.
pub(crate) fn download_survives_restarts(
    topology: &mut Topology,
    listener: &TcpListener,
    mut stream: TcpStream,
    family: Family,
) {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (mut server, _) = listener.accept().unwrap();
    for kill in [false, true] {
        let agent = topology.n1.agent().unwrap();
        if kill {
            agent.kill();
        } else {
            assert!(agent.stop());
        }
        server.write_all(b"while nobody is there").unwrap();
        agent.start().unwrap();
        server.write_all(b"and after").unwrap();
        let mut text = [0; 30];
        stream
            .read_exact(&mut text)
            .unwrap_or_else(|e| panic!("{family}, kill {kill}: {e}"));
        assert_eq!(&text, b"while nobody is thereand after");
    }
}

/// The server speaks first and the client only listens: after a restart nothing of the client tells the agent
/// of the flow, and an answer that reaches the client untranslated is refused by it.
#[test]
fn a_download_through_a_service_survives_restarts_of_the_agent() {
    let (name, tool) = (
        "a_download_through_a_service_survives_restarts_of_the_agent",
        Tool::Nft,
    );
    if !usable(name, tool) {
        return;
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [client, beside, far] = topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        for family in Family::BOTH {
            for (i, backend) in (0u16..).zip([&beside, &far]) {
                let service = SocketAddr::new(vip(family), 90 + i);
                let bind = SocketAddr::new(backend.ip(family), 8090 + i);
                tool.service(&node, service, bind, false);
                let listener = backend.ns.run(|| TcpListener::bind(bind)).unwrap().unwrap();
                let stream = client
                    .ns
                    .run(|| TcpStream::connect_timeout(&service, LIMIT))
                    .unwrap()
                    .unwrap();
                download_survives_restarts(&mut topology, &listener, stream, family);
                tool.clear(&node, family == Family::V6);
            }
        }
    });
}

#[test]
fn by_nftables_between_ringway_nodes() {
    let (name, tool) = ("by_nftables_between_ringway_nodes", Tool::Nft);
    if usable(name, tool) {
        services(name, tool, NodeKind::Ringway(RingwayOptions::default()));
    }
}

#[test]
fn by_nftables_with_a_kernel_node() {
    let (name, tool) = ("by_nftables_with_a_kernel_node", Tool::Nft);
    if usable(name, tool) {
        services(name, tool, NodeKind::KernelVxlan);
    }
}

#[test]
fn by_iptables_between_ringway_nodes() {
    let (name, tool) = ("by_iptables_between_ringway_nodes", Tool::Iptables);
    if usable(name, tool) {
        services(name, tool, NodeKind::Ringway(RingwayOptions::default()));
    }
}

#[test]
fn with_two_workers_a_host_port_from_a_pod_beside() {
    let name = "with_two_workers_a_host_port_from_a_pod_beside";
    if !usable(name, Tool::Nft) {
        return;
    }
    network_test(name, Duration::from_secs(90), || {
        let options = RingwayOptions {
            workers: 2,
            ..RingwayOptions::default()
        };
        let mut topology = Topology::ringway(Mode::Cloud, &options).unwrap();
        let pod = topology.n1.new_pod().unwrap();
        let client = topology.n1.add_pod().unwrap();
        let ports = json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
        ]);
        let ips = Family::BOTH.map(|family| pod.ip(family).to_string());
        let cni = Cni::ringway(topology.n1.agent().unwrap(), "1.0.0")
            .unwrap()
            .with("runtimeConfig", json!({"ips": ips, "portMappings": ports}));
        cni.add("web", &pod.ns).unwrap().unwrap();
        for family in Family::BOTH {
            let target = SocketAddr::new(topology.n1.ip(family), 8080);
            let bind = SocketAddr::new(pod.ip(family), 80);
            let seen = ask(&client.ns, target, &pod.ns, bind, MANY)
                .unwrap_or_else(|e| panic!("{family}: {e}"));
            assert_eq!(seen, [client.ip(family)].into(), "{family}");
        }
    });
}
