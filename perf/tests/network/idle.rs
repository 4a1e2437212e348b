//! What healthy pods send when nobody talks to them is no drop.

use crate::common::LIMIT;
use crate::harness::network_test;
use ringway_perf::lab::{Family, Mode, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::time::Duration;

#[test]
fn idle_pods_show_no_drops() {
    network_test("idle_pods_show_no_drops", Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, p2, p3] = topology.add_three_pods().unwrap();
        // Router solicitations go out for twelve seconds (RFC 4861 section 10), MLD reports twice.
        std::thread::sleep(Duration::from_secs(13));
        for to in [&p2, &p3] {
            for family in Family::BOTH {
                assert!(ping(&p1.ns, to.ip(family), 5, 56, LIMIT).unwrap().all());
            }
        }
        for node in [&mut topology.n1, &mut topology.n2] {
            let drops = node.drops().unwrap();
            assert_eq!(drops.total(), 0, "node {}: {drops}", node.number);
        }
    });
}
