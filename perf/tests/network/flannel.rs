//! One Ringway node beside one node as Flannel's vxlan backend programs it.

use crate::common::{assert_none, check_source, check_traffic};
use crate::harness::network_test;
use ringway_perf::lab::{Family, Mode, NodeKind, RingwayOptions, Topology};
use std::time::Duration;

fn beside_kernel_vxlan(name: &str, mode: Mode) {
    network_test(name, Duration::from_secs(170), || {
        let ringway = NodeKind::Ringway(RingwayOptions::default());
        let mut topology = Topology::build(mode, ringway, NodeKind::KernelVxlan).unwrap();
        assert_none(&check_beside_kernel(&mode.to_string(), &mut topology));
    });
}

/// Both directions, both families, pods and nodes. On a veth with checksum offload (`full`,
/// `cloud`) the kernel's inner checksums arrive unfilled, as they do between two virtual machines
/// of one host: a VXLAN peer in user space has to see that by itself.
pub(crate) fn check_beside_kernel(name: &str, topology: &mut Topology) -> Vec<String> {
    let [p1, _, p3] = topology.add_three_pods().unwrap();
    let (n1, n2) = (&topology.n1, &topology.n2);
    let mut failures = Vec::new();
    for family in Family::BOTH {
        let pairs = [
            (
                "Ringway pod to kernel pod",
                &p1.ns,
                vec![p1.ip(family)],
                &p3,
            ),
            (
                "kernel pod to Ringway pod",
                &p3.ns,
                vec![p3.ip(family)],
                &p1,
            ),
            (
                "Ringway node to kernel pod",
                &n1.ns,
                n1.addresses().unwrap(),
                &p3,
            ),
            (
                "kernel node to Ringway pod",
                &n2.ns,
                n2.addresses().unwrap(),
                &p1,
            ),
        ];
        for (path, from, own, to) in pairs {
            let what = format!("{name}, {path}");
            failures.extend(check_traffic(&what, from, &to.ns, to.ip(family)));
            failures.extend(check_source(&what, from, &own, &to.ns, to.ip(family)));
        }
    }
    failures
}

#[test]
fn beside_kernel_vxlan_full() {
    beside_kernel_vxlan("beside_kernel_vxlan_full", Mode::Full);
}

#[test]
fn beside_kernel_vxlan_cloud() {
    beside_kernel_vxlan("beside_kernel_vxlan_cloud", Mode::Cloud);
}

#[test]
fn beside_kernel_vxlan_bare() {
    beside_kernel_vxlan("beside_kernel_vxlan_bare", Mode::Bare);
}
