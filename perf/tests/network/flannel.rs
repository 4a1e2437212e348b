//! One Ringway node beside one node as Flannel's vxlan backend programs it.

use crate::common::{assert_none, check_source, check_traffic};
use crate::harness::network_test;
use ringway_perf::lab::{Family, Mode, NodeKind, RingwayOptions, Topology};
use std::time::Duration;

#[test]
fn ringway_and_kernel_vxlan_understand_each_other() {
    network_test(
        "ringway_and_kernel_vxlan_understand_each_other",
        Duration::from_secs(90),
        || {
            let mut failures = Vec::new();
            for mode in Mode::ALL {
                let ringway = NodeKind::Ringway(RingwayOptions::default());
                let mut topology = Topology::build(mode, ringway, NodeKind::KernelVxlan).unwrap();
                let [p1, _, p3] = topology.add_three_pods().unwrap();
                let (n1, n2) = (&topology.n1, &topology.n2);
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
                        let what = format!("{mode}, {path}");
                        failures.extend(check_traffic(&what, from, &to.ns, to.ip(family)));
                        failures.extend(check_source(&what, from, &own, &to.ns, to.ip(family)));
                    }
                }
            }
            assert_none(&failures);
        },
    );
}
