//! What pods and the node know of a pod whose addresses come to another MAC address.

use crate::harness::network_test;
use ringway_perf::lab::{Family, Mode, Netns, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Within a second, the first of them or one that follows: the workers are told after the attach is answered.
fn answered(from: &Netns, to: IpAddr) -> bool {
    let begin = Instant::now();
    let once = || ping(from, to, 1, 56, Duration::from_millis(200)).is_ok_and(|r| r.all());
    while begin.elapsed() < Duration::from_secs(1) {
        if once() {
            return true;
        }
    }
    false
}

fn originated(topology: &mut Topology) -> u64 {
    let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
    status["totals"]["originated"]["frames"].as_u64().unwrap()
}

#[test]
fn a_pod_that_comes_back_with_another_mac_address_is_answered_at_once() {
    let name = "a_pod_that_comes_back_with_another_mac_address_is_answered_at_once";
    network_test(name, Duration::from_secs(60), || {
        for workers in [1, 2] {
            let options = RingwayOptions {
                workers,
                ..RingwayOptions::default()
            };
            let mut topology = Topology::ringway(Mode::Cloud, &options).unwrap();
            let [p1, p2, p3] = topology.add_three_pods().unwrap();
            let node = topology.n1.ns.clone();
            let netns = p2.ns.path().display().to_string();
            let ips = Family::BOTH.map(|family| p2.ip(family).to_string());
            let by_default = None;
            for (round, mac) in [
                ("another", Some("02:00:00:00:00:22")),
                ("a third, after a restart", Some("02:00:00:00:00:33")),
                ("the derived one again", by_default),
            ] {
                for family in Family::BOTH {
                    for from in [&p1.ns, &node, &p3.ns] {
                        assert!(answered(from, p2.ip(family)), "{workers}, before {round}");
                    }
                }
                topology.n1.detach(&p2).unwrap();
                let agent = topology.n1.agent().unwrap();
                if round.contains("restart") {
                    assert!(agent.stop());
                    agent.start().unwrap();
                }
                let before = originated(&mut topology);
                let mut words = vec!["attach", "--netns", &netns, "--ifname", "eth0"];
                words.extend(["--ip", &ips[0], "--ip", &ips[1]]);
                if let Some(mac) = mac {
                    words.extend(["--mac", mac]);
                }
                let agent = topology.n1.agent().unwrap();
                agent.cli(&words).unwrap();
                for family in Family::BOTH {
                    for (who, from) in [("a pod", &p1.ns), ("the node", &node), ("far", &p3.ns)] {
                        assert!(
                            answered(from, p2.ip(family)),
                            "{workers} workers, {family}, {round}: {who} is not answered within a second"
                        );
                    }
                }
                // One of each family to the neighbour, and to the node, which has answered others since.
                assert!(originated(&mut topology) >= before + 4, "{round}");
                let known = node.ip("neigh show dev ringway0").unwrap();
                let derived = "0a:58:0a:4d:01:03";
                for ip in &ips {
                    let entry = known
                        .lines()
                        .find(|line| line.starts_with(&format!("{ip} ")));
                    let entry = entry.unwrap_or_else(|| panic!("{ip} is not in {known}"));
                    assert!(entry.contains(mac.unwrap_or(derived)), "{round}: {entry}");
                    assert!(entry.contains("PERMANENT"), "{round}: {entry}");
                }
            }
            // The same MAC address again is no news. Somebody may ask for an address meanwhile, but not always.
            let quiet = (0..3).any(|_| {
                topology.n1.detach(&p2).unwrap();
                let before = originated(&mut topology);
                topology.n1.attach(&p2).unwrap();
                originated(&mut topology) == before
            });
            assert!(quiet, "what has not changed is announced");
        }
    });
}
