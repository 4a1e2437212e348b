//! Addresses that are not what they were: of the node, of its pod network, of its own port.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Io, Mode, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::time::Duration;

/// The node's address is replaced by another, as by a DHCP server; the peer is told of it.
#[test]
fn another_address_of_the_node_is_taken_without_a_restart() {
    network_test(
        "another_address_of_the_node_is_taken_without_a_restart",
        Duration::from_secs(60),
        || {
            let both = |io| Family::BOTH.map(|family| (family, io));
            for (family, io) in [both(Io::Socket), both(Io::Xdp)].concat() {
                let options = RingwayOptions {
                    io,
                    ..RingwayOptions::default()
                };
                let mut topology = Topology::ringway(Mode::Full, &options).unwrap();
                let [p1, _, p3] = topology.add_three_pods().unwrap();
                let (old, new, length) = match family {
                    Family::V4 => ("192.168.77.1", "192.168.77.11", 24),
                    Family::V6 => ("fd00:77::1", "fd00:77::11", 64),
                };
                let node = &topology.n1.ns;
                node.ip(&format!("addr del {old}/{length} dev eth0"))
                    .unwrap();
                let nodad = if family == Family::V6 { "nodad" } else { "" };
                node.ip(&format!("addr add {new}/{length} dev eth0 {nodad}"))
                    .unwrap();
                let agent = topology.n2.agent().unwrap();
                let text = std::fs::read_to_string(agent.config()).unwrap();
                let text = text.replace(&format!("\"{old}\""), &format!("\"{new}\""));
                agent.write_config(&text).unwrap();
                assert!(agent.stop());
                agent.start().unwrap();
                let agent = topology.n1.agent().unwrap();
                eventually(&format!("{family}: taken"), Duration::from_secs(5), || {
                    let status = agent.json(&["status"]).unwrap();
                    status["underlay"]["addresses"].to_string().contains(new)
                });
                for (from, to) in [(&p1, &p3), (&p3, &p1)] {
                    let answers = ping(&from.ns, to.ip(family), 2, 56, LIMIT).unwrap();
                    assert!(answers.all(), "{family}, {io}: {answers}");
                }
                // No pod of the other family noticed.
                for family in Family::BOTH {
                    let answers = ping(&p1.ns, p3.ip(family), 2, 56, LIMIT).unwrap();
                    assert!(answers.all(), "{family}, {io}: {answers}");
                }
            }
        },
    );
}

/// `node.interface` is given another name in the configuration.
#[test]
fn a_renamed_node_port_takes_the_place_of_the_old_one() {
    network_test(
        "a_renamed_node_port_takes_the_place_of_the_old_one",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let agent = topology.n1.agent().unwrap();
            let text = std::fs::read_to_string(agent.config()).unwrap();
            agent
                .write_config(&text.replacen("[node]", "[node]\ninterface = \"pods0\"", 1))
                .unwrap();
            assert!(agent.stop());
            agent.start().unwrap();
            let node = &topology.n1.ns;
            assert!(
                node.ip("link show dev ringway0").is_err(),
                "it is still there"
            );
            for family in Family::BOTH {
                for pod in [&p1, &p3] {
                    let answers = ping(node, pod.ip(family), 2, 56, LIMIT).unwrap();
                    assert!(answers.all(), "{family}: {answers}");
                }
            }
        },
    );
}

/// `eth0` is renamed in one pod and moved into another namespace by another, while no agent runs.
#[test]
fn a_pod_keeps_its_network_under_another_name() {
    network_test(
        "a_pod_keeps_its_network_under_another_name",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, p2, p3] = topology.add_three_pods().unwrap();
            assert!(topology.n1.agent().unwrap().stop());
            let renamed = &p1.ns;
            renamed
                .ip_batch("link set eth0 down\nlink set eth0 name vpn0\nlink set vpn0 up\n")
                .unwrap();
            // Its routes went with the down.
            renamed.ip("route add default via 10.77.1.1").unwrap();
            let inner = topology.n1.new_pod().unwrap();
            p2.ns
                .ip(&format!("link set eth0 netns {}", inner.ns.name()))
                .unwrap();
            inner
                .ns
                .ip_batch(
                    "addr add 10.77.1.3/24 dev eth0\nlink set eth0 up\n\
                     route add default via 10.77.1.1\n",
                )
                .unwrap();
            topology.n1.agent().unwrap().start().unwrap();
            for ns in [renamed, &inner.ns] {
                let answers = ping(ns, p3.ip(Family::V4), 2, 56, LIMIT).unwrap();
                assert!(answers.all(), "{}: {answers}", ns.name());
            }
            let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
            assert_eq!(status["pods"], 2, "{status}");
        },
    );
}
