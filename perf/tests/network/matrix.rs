//! Every combination two Ringway nodes can have: encapsulation, underlay family, pod family, what
//! the underlay's interfaces offload.

use crate::common::{assert_none, check_source, check_traffic};
use crate::harness::network_test;
use ringway_perf::lab::{Encap, Family, Mode, RingwayOptions, Topology, UnderlayFamily};
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
