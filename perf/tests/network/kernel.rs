//! The lab itself, with the kernel on both nodes: what fails here is not Ringway's fault.

use crate::common::{assert_none, check_source, check_traffic};
use crate::harness::network_test;
use ringway_perf::lab::{Family, Mode, Topology};
use ringway_perf::traffic::{Stream, throughput};
use std::time::Duration;

#[test]
fn kernel_nodes_carry_everything_in_every_mode() {
    network_test(
        "kernel_nodes_carry_everything_in_every_mode",
        Duration::from_secs(60),
        || {
            let mut failures = Vec::new();
            for mode in Mode::ALL {
                let mut topology = Topology::kernel(mode).unwrap();
                let [p1, p2, p3] = topology.add_three_pods().unwrap();
                for family in Family::BOTH {
                    for (what, from, to) in [("same node", &p1, &p2), ("across", &p1, &p3)] {
                        failures.extend(check_traffic(
                            &format!("{mode} {what}"),
                            &from.ns,
                            &to.ns,
                            to.ip(family),
                        ));
                        failures.extend(check_source(
                            what,
                            &from.ns,
                            &[from.ip(family)],
                            &to.ns,
                            to.ip(family),
                        ));
                    }
                }
            }
            assert_none(&failures);
        },
    );
}

#[test]
fn steady_stream_sees_a_cut_wire() {
    network_test(
        "steady_stream_sees_a_cut_wire",
        Duration::from_secs(30),
        || {
            let mut topology = Topology::kernel(Mode::Full).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let stream =
                Stream::start(&p1.ns, &p3.ns, p3.ip(Family::V4), Duration::from_secs(3)).unwrap();
            assert!(stream.flows(50_000, Duration::from_secs(3)));
            topology.n2.ns.ip("link set flannel.1 down").unwrap();
            std::thread::sleep(Duration::from_millis(300));
            topology.n2.ns.ip("link set flannel.1 up").unwrap();
            // The routes and neighbours went with the link: without them the stream stays cut.
            assert!(
                !stream.flows(50_000, Duration::from_millis(700)),
                "the wire was not cut"
            );
            drop(topology);
            assert!(stream.finish().is_err(), "its namespace is gone");
        },
    );
}

#[test]
fn throughput_is_measured() {
    network_test("throughput_is_measured", Duration::from_secs(30), || {
        let mut topology = Topology::kernel(Mode::Full).unwrap();
        let [p1, p2, _] = topology.add_three_pods().unwrap();
        let result =
            throughput(&p1.ns, &p2.ns, p2.ip(Family::V4), 2, Duration::from_secs(1)).unwrap();
        assert!(result.gbit > 0.1 && result.bytes > 10_000_000, "{result:?}");
    });
}
