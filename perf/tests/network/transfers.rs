//! Long checked transfers in both directions at once. `RINGWAY_TRANSFER_MB` sets the length.

use crate::common::{LIMIT, assert_none};
use crate::harness::{network_test, number};
use ringway_perf::lab::{Encap, Family, Mode, NodeKind, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::transfer;
use std::time::Duration;

fn long_transfers(name: &str, mode: Mode, n1: NodeKind, n2: NodeKind) {
    let megabytes = number("RINGWAY_TRANSFER_MB", 64);
    // A slow machine still moves 20 MB/s each way.
    let limit = Duration::from_secs(30 + megabytes / 5);
    network_test(name, limit, || {
        let mut topology = Topology::build(mode, n1, n2).unwrap();
        let pods = topology.add_three_pods().unwrap();
        assert_none(&check_transfers(name, &pods, megabytes));
    });
}

/// `megabytes` each way at the same time, on a node and across, in both families.
pub(crate) fn check_transfers(name: &str, [p1, p2, p3]: &[Pod; 3], megabytes: u64) -> Vec<String> {
    let mut failures = Vec::new();
    for family in Family::BOTH {
        for (path, from, to) in [("same node", p1, p2), ("across", p1, p3), ("back", p3, p2)] {
            match transfer(&from.ns, &to.ns, to.ip(family), megabytes << 20, LIMIT) {
                Ok(done) => {
                    let rate = (2 * done.bytes) as f64 * 8e-9 / done.elapsed.as_secs_f64();
                    println!(
                        "{name} {path} {family}: {megabytes} MB each way, {rate:.2} Gbit/s together"
                    );
                }
                Err(error) => failures.push(format!("{path} {family}: {error}")),
            }
        }
    }
    failures
}

fn ringway(encap: Encap, workers: usize) -> NodeKind {
    NodeKind::Ringway(RingwayOptions {
        encap,
        workers,
        ..RingwayOptions::default()
    })
}

#[test]
fn vxlan_cloud() {
    long_transfers(
        "vxlan_cloud",
        Mode::Cloud,
        ringway(Encap::Vxlan, 1),
        ringway(Encap::Vxlan, 1),
    );
}

#[test]
fn vxlan_bare_two_workers() {
    long_transfers(
        "vxlan_bare_two_workers",
        Mode::Bare,
        ringway(Encap::Vxlan, 2),
        ringway(Encap::Vxlan, 2),
    );
}

#[test]
fn udp_full() {
    long_transfers(
        "udp_full",
        Mode::Full,
        ringway(Encap::Udp, 1),
        ringway(Encap::Udp, 1),
    );
}

#[test]
fn vxlan_to_the_kernel() {
    long_transfers(
        "vxlan_to_the_kernel",
        Mode::Cloud,
        ringway(Encap::Vxlan, 1),
        NodeKind::KernelVxlan,
    );
}
