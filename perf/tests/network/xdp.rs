//! The traffic suite by AF_XDP rings: among ring nodes, beside socket nodes, beside the kernel's
//! VXLAN. After each, the rings were used, nothing was dropped, every frame is accounted for.

use crate::common::{LIMIT, assert_none};
use crate::flannel::check_beside_kernel;
use crate::harness::number;
use crate::hostile::{bad_packets, random_bytes};
use crate::matrix::check_every_path;
use crate::restart::restarts;
use crate::rings::{Status, check_frames, check_rings, ring_test, xdp};
use crate::transfers::check_transfers;
use ringway_perf::lab::{
    Encap, Family, INTERFACE, Io, Mode, Node, NodeKind, RingwayOptions, Topology, UnderlayFamily,
    Wire,
};
use ringway_perf::traffic::{UdpEcho, ping, transfer};
use std::time::Duration;

const TIME: Duration = Duration::from_secs(90);

/// Every path between two nodes, and what their rings say afterwards. `rings`: at each.
fn check(what: &str, wire: Wire<'_>, options: [&RingwayOptions; 2], rings: usize) -> Vec<String> {
    let [kind1, kind2] = options.map(|options| NodeKind::Ringway(options.clone()));
    let mut topology = Topology::on(wire, kind1, kind2).unwrap();
    let mut failures = check_every_path(what, &mut topology);
    for (node, options) in [&mut topology.n1, &mut topology.n2]
        .into_iter()
        .zip(options)
    {
        failures.extend(match options.io {
            Io::Xdp => check_rings(what, node, rings),
            Io::Auto | Io::Socket => check_frames(what, node),
        });
    }
    failures
}

fn matrix(name: &str, encap: Encap, families: &[UnderlayFamily]) {
    ring_test(name, TIME, || {
        let mut failures = Vec::new();
        for &family in families {
            let options = RingwayOptions {
                encap,
                family,
                ..xdp()
            };
            for mode in Mode::ALL {
                let what = format!("{encap} over {family}, {mode}");
                failures.extend(check(&what, Wire::Veth(mode), [&options; 2], 1));
            }
        }
        assert_none(&failures);
    });
}

#[test]
fn rings_carry_vxlan() {
    let families = [UnderlayFamily::V4, UnderlayFamily::V6];
    matrix("rings_carry_vxlan", Encap::Vxlan, &families);
}

#[test]
fn rings_carry_udp() {
    let families = [UnderlayFamily::V4, UnderlayFamily::V6];
    matrix("rings_carry_udp", Encap::Udp, &families);
}

#[test]
fn rings_carry_both_families_over_their_own() {
    matrix(
        "rings_carry_both_families_over_their_own",
        Encap::Vxlan,
        &[UnderlayFamily::Match],
    );
}

#[test]
fn rings_beside_sockets() {
    ring_test("rings_beside_sockets", TIME, || {
        let mut failures = Vec::new();
        for encap in [Encap::Vxlan, Encap::Udp] {
            let rings = RingwayOptions { encap, ..xdp() };
            let sockets = RingwayOptions {
                encap,
                io: Io::Socket,
                ..RingwayOptions::default()
            };
            for mode in Mode::ALL {
                let what = format!("{encap}, {mode}, rings and sockets");
                failures.extend(check(&what, Wire::Veth(mode), [&rings, &sockets], 1));
            }
        }
        assert_none(&failures);
    });
}

/// No checksum is left unfinished where nothing fills it in, and none is accepted as such.
#[test]
fn rings_refuse_unfinished_checksums_where_there_are_none() {
    let name = "rings_refuse_unfinished_checksums_where_there_are_none";
    ring_test(name, TIME, || {
        let refuse = |options| RingwayOptions {
            unfinished_checksums: "refuse",
            ..options
        };
        let rings = refuse(xdp());
        let sockets = refuse(RingwayOptions {
            io: Io::Socket,
            ..RingwayOptions::default()
        });
        let udp = RingwayOptions {
            encap: Encap::Udp,
            ..rings.clone()
        };
        let mut failures = Vec::new();
        for (what, options) in [
            ("rings, VXLAN", [&rings, &rings]),
            ("rings, UDP", [&udp, &udp]),
            ("rings and sockets", [&rings, &sockets]),
        ] {
            let what = format!("{what}, no transmit checksumming");
            failures.extend(check(&what, Wire::Veth(Mode::Bare), options, 1));
        }
        failures.extend(beside_kernel(Mode::Bare, &rings));
        assert_none(&failures);
    });
}

fn beside_kernel(mode: Mode, options: &RingwayOptions) -> Vec<String> {
    let ringway = NodeKind::Ringway(options.clone());
    let mut topology = Topology::build(mode, ringway, NodeKind::KernelVxlan).unwrap();
    let what = format!("rings beside the kernel, {mode}");
    let mut failures = check_beside_kernel(&what, &mut topology);
    failures.extend(check_rings(&what, &mut topology.n1, 1));
    failures
}

#[test]
fn rings_beside_kernel_vxlan() {
    ring_test("rings_beside_kernel_vxlan", TIME, || {
        let check = |mode| beside_kernel(mode, &xdp());
        assert_none(&Mode::ALL.map(check).concat());
    });
}

/// Two queues to one worker or two, and a second worker that has no queue.
#[test]
fn rings_of_several_queues_and_workers() {
    ring_test("rings_of_several_queues_and_workers", TIME, || {
        let mut failures = Vec::new();
        for (queues, workers) in [(1, 2), (2, 1), (2, 2)] {
            let options = RingwayOptions { workers, ..xdp() };
            let what = format!("{queues} queues, {workers} workers");
            let wire = Wire::Queues(Mode::Cloud, queues);
            failures.extend(check(&what, wire, [&options; 2], queues.into()));
        }
        assert_none(&failures);
    });
}

/// An interface whose driver knows no XDP, here a macvlan: the program runs later in the kernel, and
/// says so. Its frames come from a veth, which only the configuration can know.
#[test]
fn rings_by_generic_xdp() {
    ring_test("rings_by_generic_xdp", TIME, || {
        let (generic, wire) = (xdp(), Wire::Macvlan(Mode::Cloud));
        let mut failures = check("generic XDP", wire, [&generic, &xdp()], 1);
        let accept = RingwayOptions {
            unfinished_checksums: "accept",
            ..generic
        };
        let ringway = NodeKind::Ringway(accept);
        let mut topology = Topology::on(wire, ringway, NodeKind::KernelVxlan).unwrap();
        let what = "generic XDP beside the kernel";
        failures.extend(check_beside_kernel(what, &mut topology));
        failures.extend(check_rings(what, &mut topology.n1, 1));
        assert_none(&failures);
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        let ring = &status["underlay"]["rings"][0];
        assert_eq!(ring["mode"], "generic", "{ring}");
        assert!(ring["mode_refused"].is_string(), "{ring}");
    });
}

#[test]
fn long_transfers_by_rings() {
    let megabytes = number("RINGWAY_TRANSFER_MB", 16);
    ring_test(
        "long_transfers_by_rings",
        TIME + Duration::from_secs(megabytes / 2),
        || {
            let two = RingwayOptions {
                workers: 2,
                ..xdp()
            };
            let udp = RingwayOptions {
                encap: Encap::Udp,
                ..xdp()
            };
            let ringway = NodeKind::Ringway;
            let mut failures = Vec::new();
            for (what, wire, n1, n2) in [
                (
                    "VXLAN, two queues and workers",
                    Wire::Queues(Mode::Cloud, 2),
                    ringway(two.clone()),
                    ringway(two),
                ),
                (
                    "UDP",
                    Wire::Veth(Mode::Bare),
                    ringway(udp.clone()),
                    ringway(udp),
                ),
                (
                    "to the kernel",
                    Wire::Veth(Mode::Full),
                    ringway(xdp()),
                    NodeKind::KernelVxlan,
                ),
            ] {
                let mut topology = Topology::on(wire, n1, n2).unwrap();
                let pods = topology.add_three_pods().unwrap();
                failures.extend(check_transfers(what, &pods, megabytes));
                for node in [&mut topology.n1, &mut topology.n2] {
                    if node.is_ringway() {
                        failures.extend(check_frames(what, node));
                    }
                }
            }
            assert_none(&failures);
        },
    );
}

/// The largest MTU that native XDP at both ends of a veth leaves (a page less headroom and
/// `skb_shared_info`): packets of more than half a page, each in one frame.
#[test]
fn rings_carry_large_packets() {
    ring_test("rings_carry_large_packets", TIME, || {
        let mut failures = Vec::new();
        for encap in [Encap::Vxlan, Encap::Udp] {
            let options = RingwayOptions { encap, ..xdp() };
            let mut topology = Topology::ringway(Mode::Cloud, &options).unwrap();
            for node in [&mut topology.n1, &mut topology.n2] {
                assert!(node.agent().unwrap().stop());
            }
            for node in [&topology.n1, &topology.n2] {
                node.ns
                    .ip(&format!("link set {INTERFACE} mtu 3500"))
                    .unwrap();
            }
            for node in [&mut topology.n1, &mut topology.n2] {
                node.agent().unwrap().start().unwrap();
            }
            let what = format!("{encap}, MTU 3500");
            failures.extend(check_every_path(&what, &mut topology));
            for node in [&mut topology.n1, &mut topology.n2] {
                failures.extend(check_rings(&what, node, 1));
            }
        }
        assert_none(&failures);
    });
}

#[test]
fn bad_packets_by_rings_are_counted_by_reason() {
    ring_test("bad_packets_by_rings_are_counted_by_reason", TIME, || {
        bad_packets(&xdp());
    });
}

#[test]
fn random_bytes_by_rings_are_survived() {
    ring_test("random_bytes_by_rings_are_survived", TIME, || {
        random_bytes(&xdp());
    });
}

#[test]
fn streams_survive_restarts_by_rings() {
    ring_test("streams_survive_restarts_by_rings", TIME, || {
        restarts(&xdp());
    });
}

/// A packet that fits a frame is not copied in user space, whoever carries it; a superframe's
/// payload is copied once at most.
#[test]
fn single_packets_are_not_copied() {
    ring_test("single_packets_are_not_copied", TIME, || {
        for io in [Io::Xdp, Io::Socket] {
            for encap in [Encap::Vxlan, Encap::Udp] {
                let options = RingwayOptions {
                    io,
                    encap,
                    ..RingwayOptions::default()
                };
                let mut topology = Topology::ringway(Mode::Cloud, &options).unwrap();
                let [p1, _, p3] = topology.add_three_pods().unwrap();
                for (family, most) in [(Family::V4, 1400), (Family::V6, 1382)] {
                    let to = p3.ip(family);
                    assert!(ping(&p1.ns, to, 10, 1300, LIMIT).unwrap().all());
                    let sizes = [0, 1, 63, 64, 512, 1232, most];
                    let report = UdpEcho::run(&p1.ns, &p3.ns, to, &sizes, LIMIT).unwrap();
                    assert!(report.all(), "{report}");
                }
                for node in [&mut topology.n1, &mut topology.n2] {
                    let copied = Status::of(node).copied_bytes();
                    assert_eq!(copied, 0, "{io}, {encap}: node {}", node.number);
                }
                transfer(&p1.ns, &p3.ns, p3.ip(Family::V4), 20_000_000, LIMIT).unwrap();
                for node in [&mut topology.n1, &mut topology.n2] {
                    let (copied, sent) = (Status::of(node).copied_bytes(), sent(node));
                    println!(
                        "{io}, {encap}, node {}: {copied} bytes copied of {sent}",
                        node.number
                    );
                    match io {
                        Io::Xdp => assert!((1..=sent).contains(&copied), "{copied} of {sent}"),
                        Io::Auto | Io::Socket => assert_eq!(copied, 0),
                    }
                }
            }
        }
    });
}

/// Bytes sent to the peer, a superframe with one header.
fn sent(node: &mut Node) -> u64 {
    let peers = node.agent().unwrap().json(&["tables", "peers"]).unwrap();
    let bytes = peers[0]["to_peer"]["bytes"].as_u64();
    bytes.unwrap_or_else(|| panic!("no bytes in {peers}"))
}
