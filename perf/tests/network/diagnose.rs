//! Set-ups that are broken in one way each: the first finding of `ringway doctor` names cause, evidence and the
//! command that cures it, and where the command can be run as it stands, it cures it.
//!
//! `make diagnose` runs these and prints what was found.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Mode, Node, NodeKind, Pod, RingwayOptions, Topology, Wire, run};
use ringway_perf::traffic::{ping, transfer};
use serde_json::Value;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(120);

/// Two nodes and three pods, of which somebody breaks something.
struct Lab {
    topology: Topology,
    pods: [Pod; 3],
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `ringway doctor` says.
struct Said {
    status: Option<i32>,
    findings: Vec<Value>,
    text: String,
}

impl Lab {
    fn new() -> Lab {
        Lab::on(Wire::Veth(Mode::Cloud), RingwayOptions::default())
    }

    fn on(wire: Wire<'_>, options: RingwayOptions) -> Lab {
        let kind = || NodeKind::Ringway(options.clone());
        let mut topology = Topology::on(wire, kind(), kind()).unwrap();
        let pods = topology.add_three_pods().unwrap();
        Lab { topology, pods }
    }

    /// On node 1, while the pods of both nodes ping each other.
    fn doctor(&mut self, more: &[&str]) -> Said {
        let done = AtomicBool::new(false);
        let [p1, _, p3] = &self.pods;
        let node = &mut self.topology.n1;
        std::thread::scope(|scope| {
            for (from, to) in [(p1, p3), (p3, p1)] {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let _ = ping(&from.ns, to.ip(Family::V4), 1, 56, LIMIT / 10);
                        sleep(Duration::from_millis(20));
                    }
                });
            }
            // Also where it panics.
            let _done = Done(&done);
            doctor(node, more)
        })
    }

    /// The first finding, in whole and of the pair from the first pod to the one on the other node.
    fn first(&mut self, what: &str, check: &str) -> Value {
        let said = self.doctor(&[]);
        let first = said.first(what, check);
        let (from, to) = (self.pods[0].name(), self.pods[2].ip(Family::V4).to_string());
        let of_pair = self.doctor(&["--from", &from, "--to", &to]);
        of_pair.first(&format!("{what}, from {from} to {to}"), check);
        first
    }
}

impl Said {
    fn first(&self, what: &str, check: &str) -> Value {
        assert_eq!(self.status, Some(1), "{what}: {}", self.text);
        let first = self
            .findings
            .first()
            .unwrap_or_else(|| panic!("{what}: {}", self.text));
        println!(
            "{what}\n   first of {}: {}\n   seen: {}\n   to do: {}",
            self.findings.len(),
            first["cause"].as_str().unwrap(),
            first["evidence"][0].as_str().unwrap(),
            first["commands"][0].as_str().unwrap_or("-"),
        );
        assert_eq!(first["check"], check, "{what}: {:#?}", self.findings);
        first.clone()
    }
}

/// As root in the namespace of the node.
fn doctor(node: &mut Node, more: &[&str]) -> Said {
    let agent = node.agent().unwrap();
    let mut command = Command::new(agent.binary());
    command.arg("--config").arg(agent.config());
    command.args(["doctor", "--json"]).args(more);
    if !more.contains(&"--seconds") {
        command.args(["--seconds", "1"]);
    }
    let output = node.ns.run(|| command.output()).unwrap().unwrap();
    let text =
        String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {text}"));
    Said {
        status: output.status.code(),
        findings: report["findings"].as_array().unwrap().clone(),
        text,
    }
}

/// One more key of the underlay, from another start of the agent on.
fn restart_with(node: &mut Node, key: &str) {
    let agent = node.agent().unwrap();
    let text = std::fs::read_to_string(agent.config()).unwrap();
    assert!(agent.stop());
    let with = format!("[underlay]\n{key}");
    agent
        .write_config(&text.replacen("[underlay]", &with, 1))
        .unwrap();
    agent.start().unwrap();
}

fn set_rules(node: &Node, rules: &str) {
    node.ns.run(|| run("nft", &[rules])).unwrap().unwrap();
}

/// A shell command of a finding, in the namespace of the node.
fn obey(node: &Node, finding: &Value) {
    let command = finding["commands"][0].as_str().unwrap();
    node.ns
        .run(|| run("sh", &["-c", command]))
        .unwrap()
        .unwrap();
}

fn contains(finding: &Value, part: &str) {
    assert!(finding.to_string().contains(part), "{part}: {finding:#}");
}

fn reaches(lab: &Lab) -> bool {
    let [p1, _, p3] = &lab.pods;
    ping(&p1.ns, p3.ip(Family::V4), 1, 56, LIMIT / 3).is_ok_and(|report| report.all())
}

#[test]
fn a_healthy_node_has_no_findings() {
    network_test("a_healthy_node_has_no_findings", TIME, || {
        let mut lab = Lab::new();
        for family in Family::BOTH {
            transfer(
                &lab.pods[0].ns,
                &lab.pods[2].ns,
                lab.pods[2].ip(family),
                3_000_001,
                LIMIT,
            )
            .unwrap();
        }
        let said = lab.doctor(&[]);
        assert_eq!(
            (said.status, said.findings.len()),
            (Some(0), 0),
            "{}",
            said.text
        );
        let (from, to) = (lab.pods[0].name(), lab.pods[1].ip(Family::V6).to_string());
        let said = lab.doctor(&["--from", &from, "--to", &to]);
        assert_eq!(
            (said.status, said.findings.len()),
            (Some(0), 0),
            "{}",
            said.text
        );
    });
}

#[test]
fn a_peer_with_another_vni() {
    network_test("a_peer_with_another_vni", TIME, || {
        let mut lab = Lab::new();
        restart_with(&mut lab.topology.n2, "vni = 77");
        let first = lab.first("a peer with another VNI", "drops");
        contains(&first, "unknown_vni");
        contains(&first, "vni");
    });
}

#[test]
fn a_firewall_that_drops_the_tunnels_port() {
    network_test("a_firewall_that_drops_the_tunnels_port", TIME, || {
        let mut lab = Lab::new();
        let rules = "add table inet guard
            add chain inet guard input { type filter hook input priority 0; }
            add rule inet guard input udp dport 8472 counter drop";
        set_rules(&lab.topology.n1, rules);
        let first = lab.first("a firewall that drops the UDP port", "firewall");
        contains(&first, "inet guard input");
        obey(&lab.topology.n1, &first);
        eventually("the way is free", LIMIT, || reaches(&lab));
    });
}

#[test]
fn a_port_that_somebody_else_has() {
    network_test("a_port_that_somebody_else_has", TIME, || {
        let mut lab = Lab::new();
        let node = &mut lab.topology.n1;
        assert!(node.agent().unwrap().stop());
        let other = node
            .ns
            .run(|| UdpSocket::bind("0.0.0.0:8472"))
            .unwrap()
            .unwrap();
        node.agent().unwrap().launch().unwrap();
        node.agent().unwrap().wait(LIMIT).expect("it ends");
        let said = doctor(node, &[]);
        let first = said.first("the tunnel's port is taken", "port_taken");
        contains(&first, &format!("pid {}", std::process::id()));
        drop(other);
        node.agent().unwrap().start().unwrap();
        eventually("it runs", LIMIT, || reaches(&lab));
        // A device of the kernel, which no process owns.
        let node = &mut lab.topology.n1;
        assert!(node.agent().unwrap().stop());
        node.ns
            .ip("link add flannel.9 type vxlan id 9 dstport 8472 dev eth0")
            .unwrap();
        node.ns.ip("link set flannel.9 up").unwrap();
        node.agent().unwrap().launch().unwrap();
        node.agent().unwrap().wait(LIMIT).expect("it ends");
        let first = doctor(node, &[]).first("another overlay has the tunnel's port", "port_taken");
        contains(&first, "flannel.9 (VNI 9)");
    });
}

#[test]
fn a_pod_without_a_route() {
    network_test("a_pod_without_a_route", TIME, || {
        let mut lab = Lab::new();
        lab.pods[0].ns.ip("-4 route del default").unwrap();
        let first = lab.first("a pod without a route", "pod");
        assert_eq!(first["about"]["name"], lab.pods[0].name());
        obey(&lab.topology.n1, &first);
        assert!(reaches(&lab));
    });
}

#[test]
fn a_pod_that_spoofs() {
    network_test("a_pod_that_spoofs", TIME, || {
        let mut lab = Lab::new();
        // What follows is the packet then, and no question for a neighbour.
        assert!(reaches(&lab));
        let [p1, _, p3] = &lab.pods;
        let stolen: IpAddr = "10.77.1.200".parse().unwrap();
        p1.ns.ip(&format!("addr add {stolen}/32 dev eth0")).unwrap();
        let socket = p1.ns.run(|| UdpSocket::bind((stolen, 0))).unwrap().unwrap();
        for _ in 0..3 {
            socket.send_to(b"x", (p3.ip(Family::V4), 9)).unwrap();
        }
        let first = lab.first("a pod that spoofs", "drops");
        contains(&first, "spoofed_ipv4");
        contains(&first, &stolen.to_string());
        assert_eq!(first["about"]["name"], lab.pods[0].name());
    });
}

#[test]
fn an_interface_that_was_deleted() {
    network_test("an_interface_that_was_deleted", TIME, || {
        let mut lab = Lab::new();
        lab.pods[0].ns.ip("link del eth0").unwrap();
        let first = lab.first("a TAP deleted by hand", "pod");
        assert_eq!(first["about"]["name"], lab.pods[0].name());
        contains(&first, "interface");
    });
}

#[test]
fn a_peer_whose_agent_is_dead() {
    network_test("a_peer_whose_agent_is_dead", TIME, || {
        let mut lab = Lab::new();
        lab.topology.n2.agent().unwrap().kill();
        let first = lab.first("a peer whose agent is dead", "peer");
        assert_eq!(first["about"]["name"], "node2");
    });
}

#[test]
fn a_full_disk() {
    network_test("a_full_disk", TIME, || {
        let mut lab = Lab::new();
        let node = &mut lab.topology.n1;
        let agent = node.agent().unwrap();
        let state = agent.folder().join("state");
        assert!(agent.stop());
        let state = state.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", &state]).unwrap();
        let _unmount = Unmount(state.clone());
        agent.start().unwrap();
        let fill = format!("head -c 5000000 /dev/zero >{state}/fill || true");
        run("sh", &["-c", &fill]).unwrap();
        let first = doctor(node, &[]).first("a full disk under the state directory", "state");
        contains(&first, &state);
        // Once it has tried to write, the agent says so itself.
        assert!(node.add_pod().is_err());
        let first = doctor(node, &[]).first("a full disk, noticed", "state");
        contains(&first, "No space left");
        assert!(node.agent().unwrap().stop());
    });
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.0]);
    }
}

#[test]
fn a_route_that_has_expired() {
    network_test("a_route_that_has_expired", TIME, || {
        let options = RingwayOptions {
            family: ringway_perf::lab::UnderlayFamily::V6,
            ..RingwayOptions::default()
        };
        let mut lab = Lab::on(Wire::Routed(Mode::Cloud), options);
        assert!(reaches(&lab));
        let node = &lab.topology.n1;
        let to = ringway_perf::lab::plan::routed_cidr(2, Family::V6);
        let routes = node.ns.ip(&format!("-6 route show {to}")).unwrap();
        let route = routes.lines().next().unwrap().replace(" pref medium", "");
        node.ns.ip(&format!("-6 route del {route}")).unwrap();
        node.ns
            .ip(&format!("-6 route add {route} expires 1"))
            .unwrap();
        sleep(Duration::from_secs(2));
        let first = lab.first("a route to the peer that has expired", "route");
        assert_eq!(first["about"]["name"], "node2");
    });
}

#[test]
fn packets_that_are_corrupted_on_the_way() {
    network_test("packets_that_are_corrupted_on_the_way", TIME, || {
        let mut lab = Lab::new();
        // Each third packet, in a byte of what the pods' TCP carries.
        let rules = "add table netdev fault
            add chain netdev fault in { type filter hook ingress device eth0 priority 0; }
            add rule netdev fault in udp dport 8472 udp length > 200 numgen random mod 3 == 0 @th,800,8 set 0xa5";
        set_rules(&lab.topology.n1, rules);
        let [p1, _, p3] = &lab.pods;
        let (from, to, at) = (p3.ns.clone(), p1.ns.clone(), p1.ip(Family::V4));
        let bulk = std::thread::spawn(move || {
            transfer(&from, &to, at, 50_000_000, Duration::from_secs(6))
        });
        let said = lab.doctor(&["--seconds", "3"]);
        let first = said.first("packets corrupted on the way", "pod");
        contains(&first, "corrupted");
        let _ = bulk.join().unwrap();
    });
}

#[test]
fn one_direction_that_is_lost() {
    network_test("one_direction_that_is_lost", TIME, || {
        let mut lab = Lab::new();
        wait_for_peer(&mut lab, "reached");
        let rules = "add table netdev loss
            add chain netdev loss in { type filter hook ingress device eth0 priority 0; }
            add rule netdev loss in udp dport 8472 drop";
        // On the other node, where this one cannot look.
        set_rules(&lab.topology.n2, rules);
        let took = wait_for_peer(&mut lab, "not_heard");
        println!("named after {took:?}");
        let first = lab.first("one direction lost", "peer");
        assert_eq!(first["about"]["name"], "node2");
        contains(&first, "what is sent there is lost");
    });
}

#[test]
fn an_mtu_on_the_way_that_nobody_tells_of() {
    network_test("an_mtu_on_the_way_that_nobody_tells_of", TIME, || {
        let mut lab = Lab::new();
        let rules = "add table netdev loss
            add chain netdev loss in { type filter hook ingress device eth0 priority 0; }
            add rule netdev loss in udp dport 8472 udp length > 1372 drop";
        set_rules(&lab.topology.n2, rules);
        let [p1, _, p3] = lab.pods.clone();
        let bulk = || transfer(&p1.ns, &p3.ns, p3.ip(Family::V4), 100_000, LIMIT);
        assert!(bulk().is_err());
        // Looked at anew, and worked around: segments become smaller.
        restart_with(&mut lab.topology.n1, "lower_mtu = true");
        let took = wait_for_peer(&mut lab, "black_hole");
        println!("found after {took:?}");
        let first = lab.first("an MTU on the way", "peer");
        contains(&first, "black hole");
        // 1372 bytes of UDP are 1342 of a pod's IPv4 packet in VXLAN.
        let row = peer_row(&mut lab);
        let passes = row["health"]["verified_mtu"].as_u64().unwrap();
        assert!((1334..=1342).contains(&passes), "{row:#}");
        assert_eq!(first["commands"][0], "ping -M do -s 1472 192.168.77.2");
        contains(&first, "its MTU is lowered to");
        eventually("TCP goes again", TIME, || bulk().is_ok());
    });
}

#[test]
fn a_peer_of_flannel_is_no_finding() {
    network_test("a_peer_of_flannel_is_no_finding", TIME, || {
        let kind = NodeKind::Ringway(RingwayOptions::default());
        let wire = Wire::Veth(Mode::Cloud);
        let mut topology = Topology::on(wire, kind, NodeKind::KernelVxlan).unwrap();
        let pods = topology.add_three_pods().unwrap();
        let mut lab = Lab { topology, pods };
        wait_for_peer(&mut lab, "mute");
        assert!(reaches(&lab));
        let said = lab.doctor(&[]);
        assert_eq!(
            (said.status, said.findings.len()),
            (Some(0), 0),
            "{}",
            said.text
        );
        let status = lab.topology.n1.agent().unwrap().cli(&["status"]).unwrap();
        assert!(status.contains("answers no probes (Flannel"), "{status}");
    });
}

fn peer_row(lab: &mut Lab) -> Value {
    let agent = lab.topology.n1.agent().unwrap();
    agent.json(&["tables", "peers"]).unwrap()[0].clone()
}

/// While the pods talk; how long it took.
fn wait_for_peer(lab: &mut Lab, state: &str) -> Duration {
    let [p1, _, p3] = lab.pods.clone();
    eventually(
        &format!("the peer is {state}"),
        Duration::from_secs(40),
        || {
            for (from, to) in [(&p1, &p3), (&p3, &p1)] {
                let _ = ping(
                    &from.ns,
                    to.ip(Family::V4),
                    1,
                    56,
                    Duration::from_millis(50),
                );
            }
            peer_row(lab)["health"]["state"] == state
        },
    )
}
