//! What happens to an underlay under rings: links that go down, other MTUs, queues and MAC addresses,
//! an interface made anew, rings that are full or starved. Each time packets flow again by themselves,
//! no frame is lost, and the agents live.

use crate::common::{LIMIT, assert_none, check_traffic};
use crate::harness::eventually;
use crate::rings::{Status, check_frames, ring_test, wait_for_rings, xdp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway_perf::lab::{
    Family, INTERFACE, Io, LOWER, Mode, NodeKind, Pod, RingwayOptions, Topology, Wire,
};
use ringway_perf::traffic::{Stream, measure_cpu, ping, udp_flood};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_secs(90);
/// How long packets may stop once the fault is over: a look at the underlay each second, a neighbour
/// asked for again, rings opened anew.
const RECOVERY: Duration = Duration::from_secs(4);

/// Two nodes with three pods, whose addresses outlive a link that is down.
fn build(wire: Wire<'_>, n1: &RingwayOptions, n2: &RingwayOptions) -> (Topology, [Pod; 3]) {
    let ringway = |options: &RingwayOptions| NodeKind::Ringway(options.clone());
    let mut topology = Topology::on(wire, ringway(n1), ringway(n2)).unwrap();
    let pods = topology.add_three_pods().unwrap();
    for node in [&topology.n1, &topology.n2] {
        let key = format!("ipv6.conf.{INTERFACE}.keep_addr_on_down");
        node.ns.sysctl(&key, "1").unwrap();
    }
    (topology, pods)
}

/// As [`survives`], with every ring busy in both directions while it happens.
fn survives_under_load(
    what: &str,
    topology: &mut Topology,
    pods: &[Pod; 3],
    fault: impl FnOnce(&mut Topology),
) {
    let [p1, _, p3] = pods;
    survives(what, topology, pods, |topology| {
        let done = AtomicBool::new(false);
        let flood = |from: &Pod, to: &Pod, family| {
            let (time, to_ip) = (Duration::from_millis(100), to.ip(family));
            while !done.load(Ordering::Relaxed) {
                udp_flood(&from.ns, &to.ns, to_ip, 1000, time).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| flood(p1, p3, Family::V4));
            scope.spawn(|| flood(p3, p1, Family::V6));
            sleep(Duration::from_millis(100));
            fault(topology);
            sleep(Duration::from_millis(200));
            done.store(true, Ordering::Relaxed);
        });
    });
}

/// Streams in both families flow on after `fault`, packets within [`RECOVERY`] of its end.
fn survives(
    what: &str,
    topology: &mut Topology,
    [p1, _, p3]: &[Pod; 3],
    fault: impl FnOnce(&mut Topology),
) {
    let streams = Family::BOTH.map(|family| {
        Stream::start(&p1.ns, &p3.ns, p3.ip(family), Duration::from_secs(15)).unwrap()
    });
    let flow = |limit| streams.iter().all(|stream| stream.flows(30_000, limit));
    assert!(flow(LIMIT), "{what}: flows before");
    fault(topology);
    recovers(what, topology, p1, p3);
    // TCP doubles its patience each time, so it notices up to as much later as the fault was long.
    let flowing = flow(Duration::from_secs(8));
    assert!(flowing, "{what}: a stream stands still{}", logs(topology));
    for stream in streams {
        let report = stream.finish();
        assert!(report.is_ok(), "{what}: {report:?}{}", logs(topology));
    }
    sound(what, topology);
}

/// Pings get through within [`RECOVERY`], in both families.
fn recovers(what: &str, topology: &mut Topology, from: &Pod, to: &Pod) {
    let begin = Instant::now();
    for family in Family::BOTH {
        let quick = Duration::from_millis(100);
        while !ping(&from.ns, to.ip(family), 1, 56, quick).unwrap().all() {
            assert!(
                begin.elapsed() < RECOVERY,
                "{what}: no {family} packet within {RECOVERY:?}{}",
                logs(topology)
            );
        }
    }
    println!("{what}: packets again after {:?}", begin.elapsed());
}

/// Both agents live and know where every frame is.
fn sound(what: &str, topology: &mut Topology) {
    for node in [&mut topology.n1, &mut topology.n2] {
        let ended = node.agent().unwrap().ended();
        assert!(ended.is_none(), "{what}: an agent ended with {ended:?}");
        assert_none(&check_frames(what, node));
    }
}

fn logs(topology: &mut Topology) -> String {
    let mut text = String::new();
    for node in [&mut topology.n1, &mut topology.n2] {
        let number = node.number;
        let agent = node.agent().unwrap();
        text += &format!(
            "\n--- node {number}\n{}\n{}",
            agent.cli(&["status"]).unwrap_or_default(),
            agent.log()
        );
    }
    text
}

/// Packets to node 2 go by ring again, not by socket.
fn sends_by_ring(what: &str, topology: &mut Topology, from: &Pod, to: &Pod) {
    eventually(&format!("{what}: by ring again"), RECOVERY, || {
        let before = Status::of(&mut topology.n1).buffers("sent");
        let report = ping(&from.ns, to.ip(Family::V4), 5, 56, LIMIT).unwrap();
        sleep(Duration::from_millis(150));
        report.all() && Status::of(&mut topology.n1).buffers("sent") >= before + 5
    });
}

#[test]
fn a_link_goes_down_and_comes_back() {
    ring_test("a_link_goes_down_and_comes_back", TIME, || {
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &xdp());
        for (what, number) in [("own link", 1), ("the peer's link", 2)] {
            survives_under_load(what, &mut topology, &pods, |topology| {
                let node = if number == 1 {
                    &topology.n1
                } else {
                    &topology.n2
                };
                node.ns.ip(&format!("link set {INTERFACE} down")).unwrap();
                sleep(Duration::from_secs(1));
                node.ns.ip(&format!("link set {INTERFACE} up")).unwrap();
            });
            sends_by_ring(what, &mut topology, &pods[0], &pods[2]);
            for node in [&mut topology.n1, &mut topology.n2] {
                assert_eq!(Status::of(node).rings(), 1, "{what}: node {}", node.number);
            }
        }
    });
}

#[test]
fn an_agent_starts_without_a_carrier() {
    ring_test("an_agent_starts_without_a_carrier", TIME, || {
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &xdp());
        let what = "started without a carrier";
        survives(what, &mut topology, &pods, |topology| {
            topology.n1.agent().unwrap().kill();
            topology
                .n2
                .ns
                .ip(&format!("link set {INTERFACE} down"))
                .unwrap();
            topology.n1.agent().unwrap().start().unwrap();
            sleep(Duration::from_millis(500));
            topology
                .n2
                .ns
                .ip(&format!("link set {INTERFACE} up"))
                .unwrap();
        });
        sends_by_ring(what, &mut topology, &pods[0], &pods[2]);
        assert_eq!(Status::of(&mut topology.n1).fallbacks(), 0);
    });
}

#[test]
fn a_peer_gets_another_mac_address() {
    ring_test("a_peer_gets_another_mac_address", TIME, || {
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &xdp());
        survives_under_load("another MAC", &mut topology, &pods, |topology| {
            let set = format!("link set {INTERFACE} address 02:00:00:00:be:ef");
            topology.n2.ns.ip(&set).unwrap();
        });
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        let hops = status["underlay"]["next_hops"].to_string();
        assert!(hops.contains("02:00:00:00:be:ef"), "{hops}");
        sends_by_ring("another MAC", &mut topology, &pods[0], &pods[2]);
    });
}

#[test]
fn the_mtu_changes() {
    ring_test("the_mtu_changes", TIME, || {
        let sockets = RingwayOptions {
            io: Io::Socket,
            ..RingwayOptions::default()
        };
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &sockets);
        let [p1, _, p3] = &pods;
        let set = |topology: &Topology, mtu: u32| {
            for node in [&topology.n1, &topology.n2] {
                let set = format!("link set {INTERFACE} mtu {mtu}");
                node.ns.ip(&set).unwrap();
            }
        };
        survives_under_load("MTU 1350", &mut topology, &pods, |topology| {
            set(topology, 1350);
        });
        for family in Family::BOTH {
            let what = "MTU 1350";
            assert_none(&check_traffic(what, &p1.ns, &p3.ns, p3.ip(family)));
        }
        survives_under_load("MTU 1500", &mut topology, &pods, |topology| {
            set(topology, 1500);
        });
        sends_by_ring("MTU 1500", &mut topology, p1, p3);
        assert_eq!(Status::of(&mut topology.n1).fallbacks(), 0);

        // Node 2's end stays: a veth allows its peer no more than its own XDP program can take.
        let own = |topology: &Topology, mtu| {
            let set = format!("link set {INTERFACE} mtu {mtu}");
            topology.n1.ns.ip(&set).unwrap();
        };
        survives_under_load("MTU 3819", &mut topology, &pods, |topology| {
            own(topology, 3819);
        });
        wait_for_rings("MTU 3819", &mut topology.n1, 0, RECOVERY);
        let status = Status::of(&mut topology.n1);
        assert_eq!(status.fallbacks(), 1);
        for word in ["3819", "3818"] {
            assert!(status.io().contains(word), "{}", status.io());
        }
        let agent = topology.n1.agent().unwrap();
        assert!(agent.log().contains("3818"), "{}", agent.log());
        survives_under_load("MTU 3818", &mut topology, &pods, |topology| {
            own(topology, 3818);
        });
        wait_for_rings("MTU 3818", &mut topology.n1, 1, RECOVERY);
        assert_eq!(Status::of(&mut topology.n1).io(), "xdp (configured)");
        sends_by_ring("MTU 3818", &mut topology, p1, p3);

        // The same at the start.
        assert!(topology.n1.agent().unwrap().stop());
        own(&topology, 9000);
        topology.n1.agent().unwrap().start().unwrap();
        let status = Status::of(&mut topology.n1);
        assert_eq!((status.rings(), status.fallbacks()), (0, 1));
        assert!(status.io().contains("3818"), "{}", status.io());
        recovers("MTU 9000", &mut topology, p1, p3);
    });
}

#[test]
fn the_number_of_queues_changes() {
    ring_test("the_number_of_queues_changes", TIME, || {
        let two = RingwayOptions {
            workers: 2,
            ..xdp()
        };
        let (mut topology, pods) = build(Wire::Queues(Mode::Cloud, 2), &xdp(), &two);
        let set = |topology: &Topology, number: u8, queues: u8| {
            let node = if number == 1 {
                &topology.n1
            } else {
                &topology.n2
            };
            let args = format!("-L {INTERFACE} rx {queues} tx {queues}");
            node.ns.command("ethtool", &args)
        };
        assert_eq!(Status::of(&mut topology.n1).rings(), 2);
        // The kernel does not take a queue away from a ring.
        survives_under_load("fewer queues", &mut topology, &pods, |topology| {
            assert!(set(topology, 1, 1).is_err(), "it was taken away");
        });
        assert_eq!(Status::of(&mut topology.n1).rings(), 2);

        for number in [1, 2] {
            let node = if number == 1 {
                &mut topology.n1
            } else {
                &mut topology.n2
            };
            assert!(node.agent().unwrap().stop());
        }
        for number in [1, 2] {
            // The kernel lets go of a closed ring some milliseconds later.
            eventually("the rings are gone", LIMIT, || {
                set(&topology, number, 1).is_ok()
            });
        }
        for node in [&mut topology.n1, &mut topology.n2] {
            node.agent().unwrap().start().unwrap();
            assert_eq!(Status::of(node).rings(), 1, "node {}", node.number);
        }
        survives_under_load("more queues", &mut topology, &pods, |topology| {
            // A veth with a program needs as many receive queues as its peer has to send.
            for (number, rx, tx) in [(1, 2, 1), (2, 2, 1), (1, 2, 2), (2, 2, 2)] {
                let node = if number == 1 {
                    &topology.n1
                } else {
                    &topology.n2
                };
                let args = format!("-L {INTERFACE} rx {rx} tx {tx}");
                node.ns.command("ethtool", &args).unwrap();
            }
        });
        for node in [&mut topology.n1, &mut topology.n2] {
            wait_for_rings("more queues", node, 2, RECOVERY);
        }
        recovers(
            "more queues, rings on all",
            &mut topology,
            &pods[0],
            &pods[2],
        );
        sleep(Duration::from_millis(1200));
        sound("more queues", &mut topology);
    });
}

#[test]
fn the_interface_is_made_anew() {
    ring_test("the_interface_is_made_anew", TIME, || {
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &xdp());
        survives_under_load("interface made anew", &mut topology, &pods, |topology| {
            topology.n1.ns.ip(&format!("link del {INTERFACE}")).unwrap();
            topology.wire(Mode::Cloud).unwrap();
        });
        for node in [&mut topology.n1, &mut topology.n2] {
            wait_for_rings("interface made anew", node, 1, RECOVERY);
            assert_eq!(Status::of(node).io(), "xdp (configured)");
        }
        sends_by_ring("interface made anew", &mut topology, &pods[0], &pods[2]);

        // Gone for a while.
        survives_under_load("interface away", &mut topology, &pods, |topology| {
            topology.n1.ns.ip(&format!("link del {INTERFACE}")).unwrap();
            eventually("no rings", RECOVERY, || {
                Status::of(&mut topology.n1).rings() == 0
            });
            topology.wire(Mode::Cloud).unwrap();
        });
        for node in [&mut topology.n1, &mut topology.n2] {
            wait_for_rings("interface away", node, 1, RECOVERY);
        }
        sound("interface away", &mut topology);
    });
}

/// Frames that are in rings, on the wire or on their way to a TAP when it goes.
#[test]
fn a_pod_goes_while_packets_come() {
    ring_test("a_pod_goes_while_packets_come", TIME, || {
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &xdp());
        let [p1, _, p3] = &pods;
        for _ in 0..3 {
            let pod = topology.n2.add_pod().unwrap();
            let to = pod.ip(Family::V4);
            std::thread::scope(|scope| {
                let flood = || udp_flood(&p1.ns, &pod.ns, to, 1000, Duration::from_millis(400));
                let flood = scope.spawn(flood);
                sleep(Duration::from_millis(150));
                topology.n2.detach(&pod).unwrap();
                flood.join().unwrap().unwrap();
            });
        }
        recovers("a pod went", &mut topology, p1, p3);
        sound("a pod went", &mut topology);
    });
}

/// A receiver that does not look for half a second: the kernel finds no frame to fill and drops.
#[test]
fn a_fill_ring_runs_dry() {
    ring_test("a_fill_ring_runs_dry", TIME, || {
        let (mut topology, pods) = build(Wire::Veth(Mode::Cloud), &xdp(), &xdp());
        let [p1, _, p3] = &pods;
        survives("fill ring dry", &mut topology, &pods, |topology| {
            let pid = topology.n2.agent().unwrap().pid().unwrap();
            let pid = Pid::from_raw(pid.cast_signed());
            kill(pid, Signal::SIGSTOP).unwrap();
            let time = Duration::from_millis(500);
            let flood = udp_flood(&p1.ns, &p3.ns, p3.ip(Family::V4), 64, time);
            kill(pid, Signal::SIGCONT).unwrap();
            println!("{:?}", flood.unwrap());
        });
        let status = Status::of(&mut topology.n2);
        let dry = status.buffers("fill_empty");
        println!("found empty {dry} times");
        assert!(dry > 0, "it never ran dry");
        assert_eq!(topology.n2.drops().unwrap().total(), 0);
    });
}

/// A wire that takes next to nothing: what does not fit the transmit ring is dropped and counted,
/// and traffic within the node goes on.
#[test]
fn a_transmit_ring_runs_full() {
    ring_test("a_transmit_ring_runs_full", TIME, || {
        let (mut topology, pods) = build(Wire::Macvlan(Mode::Bare), &xdp(), &xdp());
        let [p1, p2, p3] = &pods;
        survives("transmit ring full", &mut topology, &pods, |topology| {
            let node = topology.n1.ns.clone();
            let slow =
                format!("qdisc add dev {LOWER} root tbf rate 64kbit burst 3000 limit 64000000");
            node.command("tc", &slow).unwrap();
            let time = Duration::from_millis(500);
            let flood = udp_flood(&p1.ns, &p3.ns, p3.ip(Family::V4), 1000, time).unwrap();
            println!("{flood:?}");
            for family in Family::BOTH {
                let report = ping(&p1.ns, p2.ip(family), 5, 56, LIMIT).unwrap();
                assert!(report.all(), "within the node meanwhile: {report}");
            }
            let status = Status::of(&mut topology.n1);
            println!(
                "{} frames wait, {} found no room",
                status.buffers("to_send"),
                status.buffers("tx_full")
            );
            assert!(
                status.buffers("tx_full") > 0,
                "it never was full{}",
                logs(topology)
            );
            let pid = topology.n1.agent().unwrap().pid().unwrap();
            let (_, used, _) = measure_cpu(pid, || sleep(Duration::from_millis(500))).unwrap();
            println!("{:.0} % of a processor meanwhile", used * 100.0);
            node.command("tc", &format!("qdisc del dev {LOWER} root"))
                .unwrap();
        });
        let drops = topology.n1.drops().unwrap();
        println!("dropped: {drops}");
        assert!(drops.get("underlay_full") > 0, "{drops}");
        assert_eq!(drops.total(), drops.get("underlay_full"), "{drops}");
        sends_by_ring("transmit ring full", &mut topology, p1, p3);
    });
}
