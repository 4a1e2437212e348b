//! Addresses that are not what they were: of the node, of its pod network, of its own port.

use crate::common::LIMIT;
use crate::expected::expected_to_fail;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Mode, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::time::Duration;

/// The node's address is replaced by another, as by a DHCP server; the peer is told of it.
#[test]
fn another_address_of_the_node_is_taken_without_a_restart() {
    network_test(
        "another_address_of_the_node_is_taken_without_a_restart",
        Duration::from_secs(60),
        || {
            for family in Family::BOTH {
                let mut topology =
                    Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
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
                // It is noticed, and said.
                let agent = topology.n1.agent().unwrap();
                eventually(&format!("{family}: said"), Duration::from_secs(5), || {
                    let status = agent.json(&["status"]).unwrap();
                    let outdated = status["underlay"]["outdated"].as_str().map(str::to_owned);
                    outdated.is_some_and(|text| text.contains(new))
                });
                assert!(
                    agent.log().contains("start the agent again"),
                    "{}",
                    agent.log()
                );
                let reaches = || {
                    let answers = ping(&p1.ns, p3.ip(family), 2, 56, LIMIT).unwrap();
                    assert!(answers.all(), "{family}: {answers}");
                };
                expected_to_fail("outer addresses change live (reconciliation)", reaches);
                let agent = topology.n1.agent().unwrap();
                assert!(agent.stop());
                agent.start().unwrap();
                reaches();
            }
        },
    );
}
