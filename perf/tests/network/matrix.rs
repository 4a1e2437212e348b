//! Every combination two Ringway nodes can have: encapsulation, underlay family, pod family, what
//! the underlay's interfaces offload.

use crate::common::{assert_none, check_source, check_traffic};
use crate::harness::network_test;
use ringway_perf::lab::{Encap, Family, Io, Mode, RingwayOptions, Topology, UnderlayFamily};
use std::time::Duration;

fn matrix(name: &str, encap: Encap, family: UnderlayFamily) {
    network_test(name, Duration::from_secs(90), || {
        let options = RingwayOptions {
            encap,
            family,
            ..RingwayOptions::default()
        };
        let mut failures = Vec::new();
        for mode in Mode::ALL {
            let mut topology = Topology::ringway(mode, &options).unwrap();
            let what = format!("{encap} over {family}, {mode}");
            failures.extend(check_every_path(&what, &mut topology));
        }
        assert_none(&failures);
    });
}

/// Traffic on every path between pods and nodes, and who they see.
pub(crate) fn check_every_path(name: &str, topology: &mut Topology) -> Vec<String> {
    let mut failures = Vec::new();
    let [p1, p2, p3] = topology.add_three_pods().unwrap();
    let n1 = &topology.n1;
    let own = n1.addresses().unwrap();
    for pods in Family::BOTH {
        let what = |path: &str| format!("{name}, {path}");
        failures.extend(check_traffic(
            &what("same node"),
            &p1.ns,
            &p2.ns,
            p2.ip(pods),
        ));
        failures.extend(check_traffic(&what("across"), &p1.ns, &p3.ns, p3.ip(pods)));
        failures.extend(check_traffic(
            &what("node to own pod"),
            &n1.ns,
            &p1.ns,
            p1.ip(pods),
        ));
        for to in [&p2, &p3] {
            let source = check_source(&what("pod"), &p1.ns, &[p1.ip(pods)], &to.ns, to.ip(pods));
            failures.extend(source);
        }
        for to in [&p1, &p3] {
            failures.extend(check_source(
                &what("node to pod"),
                &n1.ns,
                &own,
                &to.ns,
                to.ip(pods),
            ));
        }
        for to in [n1.gateway(pods), n1.ip(pods)] {
            failures.extend(check_source(
                &what("pod to node"),
                &p1.ns,
                &[p1.ip(pods)],
                &n1.ns,
                to,
            ));
        }
        let back = check_source(
            &what("back"),
            &p3.ns,
            &[p3.ip(pods)],
            &n1.ns,
            n1.gateway(pods),
        );
        failures.extend(back);
    }
    failures
}

#[test]
fn vxlan_over_ipv4() {
    matrix("vxlan_over_ipv4", Encap::Vxlan, UnderlayFamily::V4);
}

#[test]
fn vxlan_over_ipv6() {
    matrix("vxlan_over_ipv6", Encap::Vxlan, UnderlayFamily::V6);
}

#[test]
fn vxlan_over_the_pods_own_family() {
    matrix(
        "vxlan_over_the_pods_own_family",
        Encap::Vxlan,
        UnderlayFamily::Match,
    );
}

#[test]
fn udp_over_ipv4() {
    matrix("udp_over_ipv4", Encap::Udp, UnderlayFamily::V4);
}

#[test]
fn udp_over_ipv6() {
    matrix("udp_over_ipv6", Encap::Udp, UnderlayFamily::V6);
}

#[test]
fn every_way_of_waiting() {
    network_test("every_way_of_waiting", Duration::from_secs(60), || {
        let mut failures = Vec::new();
        for polling in ["spin", "interrupt"] {
            for io in [Io::Socket, Io::Xdp] {
                let options = RingwayOptions {
                    polling,
                    io,
                    ..RingwayOptions::default()
                };
                let mut topology = Topology::ringway(Mode::Cloud, &options).unwrap();
                let what = format!("polling {polling}, {io}");
                failures.extend(check_every_path(&what, &mut topology));
            }
        }
        assert_none(&failures);
    });
}

#[test]
fn every_read_verb_answers_people_and_programs() {
    let name = "every_read_verb_answers_people_and_programs";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let agent = topology.n1.agent().unwrap();
        let (ours, peers) = (p1.ip(Family::V4), p3.ip(Family::V4));
        let network = "10.77.2.0/24";
        for (verb, words) in [
            (&["status"][..], &["node1", "eth0", "worker 0"][..]),
            (&["pods"], &[&ours.to_string()]),
            (&["tables", "mac"], &["ringway0"]),
            (&["tables", "routes"], &[network, "node2"]),
            (&["tables", "peers"], &["node2", network]),
            (&["tables", "neighbours"], &[&ours.to_string()]),
            (&["tables", "paths"], &["node2", "vxlan"]),
            (&["drops"], &["no packet was dropped"]),
        ] {
            let text = agent.cli(verb).unwrap();
            for word in words {
                assert!(text.contains(word), "{verb:?} lacks {word}: {text}");
            }
            assert!(
                !text.contains(&peers.to_string()),
                "{verb:?} cannot know {peers}"
            );
            let json = agent.json(verb).unwrap();
            assert!(json.is_object() || json.is_array(), "{verb:?}: {json}");
        }
    });
}
