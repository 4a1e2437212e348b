//! A way to the other node that carries less than the interface: what ICMP says of it, what a route says,
//! what no path has, and ways whose ICMP is filtered. By sockets and by rings alike.
//!
//! ```text
//!   node 1 ─── 1500 ─── router ─── 1500 ─── node 2       the router's routes to both carry less
//! ```

use crate::common::{LIMIT, assert_none};
use crate::harness::{eventually, network_test, skipped};
use crate::rings::{Status, check_frames, ring_test};
use ringway_perf::lab::{
    Encap, Family, INTERFACE, Io, Mode, Netns, Node, NodeKind, Pod, RingwayOptions, Router,
    Topology, UnderlayFamily, Wire, installed, plan, run,
};
use ringway_perf::traffic::{UdpEcho, ping, transfer};
use std::net::{IpAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(180);
const MTU: u32 = 1500;
const NARROW: u32 = 1400;
/// How long it may take until a pod knows: the error comes at once, and reaches it with a later packet.
const TOLD: Duration = Duration::from_secs(5);
/// How long it may take until a path has the MTU of its route.
const FOLLOWED: Duration = Duration::from_secs(2);
/// Payload of a datagram that fits a pod's MTU and no narrow way.
const LARGE: usize = 1380;

/// What differs from case to case.
#[derive(Clone, Copy)]
struct Case {
    io: Io,
    encap: Encap,
    underlay: Family,
}

impl Case {
    fn all(io: Io) -> Vec<Case> {
        let case = |(encap, underlay)| Case {
            io,
            encap,
            underlay,
        };
        let families = Family::BOTH;
        let encaps = [Encap::Vxlan, Encap::Udp];
        let both = encaps.map(|encap| families.map(|family| (encap, family)));
        both.concat().into_iter().map(case).collect()
    }

    fn options(self) -> RingwayOptions {
        RingwayOptions {
            io: self.io,
            encap: self.encap,
            family: match self.underlay {
                Family::V4 => UnderlayFamily::V4,
                Family::V6 => UnderlayFamily::V6,
            },
            ..RingwayOptions::default()
        }
    }

    /// What is left of an outer packet for a pod's.
    fn inner(self, outer: u32) -> u32 {
        let ip = if self.underlay == Family::V4 { 20 } else { 40 };
        let shim = if self.encap == Encap::Vxlan { 22 } else { 0 };
        outer - ip - 8 - shim
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} over {}", self.io, self.encap, self.underlay)
    }
}

fn by_both(name: &str, body: fn(Io)) {
    network_test(&format!("{name}, sockets"), TIME, || body(Io::Socket));
    ring_test(&format!("{name}, rings"), TIME, || body(Io::Xdp));
}

fn build(options: &RingwayOptions) -> (Topology, [Pod; 3]) {
    let kind = || NodeKind::Ringway(options.clone());
    let mut topology = Topology::on(Wire::Routed(Mode::Cloud), kind(), kind()).unwrap();
    let pods = topology.add_three_pods().unwrap();
    (topology, pods)
}

/// The router sends no longer packet to either node from now on, and says so.
fn narrow(router: &Router, underlay: Family, mtu: u32) {
    for node in [1, 2] {
        let (to, dev) = (plan::routed(node, underlay), Router::interface(node, 1));
        let bits = if underlay == Family::V4 { 32 } else { 128 };
        let route = format!("route replace {to}/{bits} dev {dev} mtu lock {mtu}");
        router.ns.ip(&route).unwrap();
    }
}

/// The router does not say so.
fn silence(router: &Router) {
    let rules = "add table inet quiet
        add chain inet quiet out { type filter hook output priority 0; }
        add rule inet quiet out icmp type destination-unreachable drop
        add rule inet quiet out icmpv6 type packet-too-big drop";
    router.ns.run(|| run("nft", &[rules])).unwrap().unwrap();
}

/// The MTU a pod was told of an address.
fn told(pod: &Netns, address: IpAddr) -> Option<u32> {
    let route = pod.ip(&format!("route get {address}")).unwrap();
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).map(|mtu| mtu.parse().unwrap())
}

/// One datagram that may not be fragmented while the pod does not know better.
fn send_large(pod: &Netns, address: IpAddr) {
    let any: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let sent = pod.run(|| {
        let socket = UdpSocket::bind((any, 0))?;
        // It may be an ICMP error of an earlier one.
        let _ = socket.send_to(&[0; LARGE], (address, 9));
        std::io::Result::Ok(socket)
    });
    // Its kernel heeds no error about a socket that is closed.
    let _socket = sent.unwrap().unwrap();
    sleep(Duration::from_millis(50));
}

/// MTUs of a node's paths to its peer.
fn path_mtus(node: &mut Node) -> Vec<u64> {
    let paths = node.agent().unwrap().json(&["tables", "paths"]).unwrap();
    let paths = paths.as_array().unwrap();
    paths.iter().map(|p| p["mtu"].as_u64().unwrap()).collect()
}

fn wait_for_path(what: &str, node: &mut Node, mtu: u32) {
    let expected = vec![u64::from(mtu); 2];
    let took = eventually(&format!("{what}: paths of {mtu}"), FOLLOWED, || {
        path_mtus(node) == expected
    });
    println!("{what}: paths of {mtu} after {took:?}");
}

/// Which carrier was at work: each packet went by a ring, or none did.
fn check_carrier(what: &str, case: Case, topology: &mut Topology) -> Vec<String> {
    let mut failures = Vec::new();
    for node in [&mut topology.n1, &mut topology.n2] {
        failures.extend(check_frames(what, node));
        let sent = Status::of(node).buffers("sent");
        if (sent > 0) != (case.io == Io::Xdp) {
            failures.push(format!(
                "{what}, node {}: {sent} sent by rings",
                node.number
            ));
        }
    }
    failures
}

fn passes(what: &str, from: &Pod, to: &Pod) -> Vec<String> {
    let mut failures = Vec::new();
    for family in Family::BOTH {
        let address = to.ip(family);
        if let Err(error) = transfer(&from.ns, &to.ns, address, 3_000_001, LIMIT) {
            failures.push(format!("{what}: {family} TCP: {error}"));
        }
        match UdpEcho::run(&from.ns, &to.ns, address, &[LARGE], LIMIT / 3) {
            Ok(report) if report.all() => {}
            other => failures.push(format!("{what}: {family} UDP: {other:?}")),
        }
    }
    failures
}

#[test]
fn pods_are_told_of_a_narrow_path() {
    by_both("pods_are_told_of_a_narrow_path", |io| {
        let mut failures = Vec::new();
        for case in Case::all(io) {
            let what = case.to_string();
            let (mut topology, [p1, _, p3]) = build(&case.options());
            narrow(topology.router.as_ref().unwrap(), case.underlay, NARROW);
            let expected = case.inner(NARROW);
            for (from, to) in [(&p1, &p3), (&p3, &p1)] {
                for family in Family::BOTH {
                    let address = to.ip(family);
                    assert!(
                        ping(&from.ns, address, 3, 56, LIMIT).unwrap().all(),
                        "{what}"
                    );
                    let took = eventually(&format!("{what}: {family} is told"), TOLD, || {
                        send_large(&from.ns, address);
                        told(&from.ns, address) == Some(expected)
                    });
                    println!("{what}: {address} has {expected}, told after {took:?}");
                }
            }
            failures.extend(passes(&what, &p1, &p3));
            failures.extend(passes(&what, &p3, &p1));
            failures.extend(check_carrier(&what, case, &mut topology));
        }
        assert_none(&failures);
    });
}

#[test]
fn a_path_follows_its_route_and_interface() {
    by_both("a_path_follows_its_route_and_interface", |io| {
        for case in Case::all(io) {
            let what = case.to_string();
            let (mut topology, [p1, _, p3]) = build(&case.options());
            let wide = case.inner(MTU);
            let node = topology.n1.ns.clone();
            wait_for_path(&what, &mut topology.n1, wide);
            let (to, via) = (
                plan::routed_cidr(2, case.underlay),
                plan::router(1, 1, case.underlay),
            );
            let route = format!("route replace {to} via {via} dev {INTERFACE}");
            let link = format!("link set {INTERFACE} mtu");
            for (narrow, restore, both) in [
                (format!("{route} mtu {NARROW}"), route.clone(), true),
                // A veth takes no longer packets than it sends.
                (format!("{link} {NARROW}"), format!("{link} {MTU}"), false),
            ] {
                let step = format!("{what}, {narrow}");
                node.ip(&narrow).unwrap();
                wait_for_path(&step, &mut topology.n1, case.inner(NARROW));
                if both {
                    assert_none(&passes(&step, &p1, &p3));
                }
                for family in Family::BOTH {
                    let done = transfer(&p1.ns, &p3.ns, p3.ip(family), 3_000_001, LIMIT);
                    assert!(done.is_ok(), "{step}: {family} TCP: {done:?}");
                }
                node.ip(&restore).unwrap();
                // An interface that was changed has lost routes with its smaller MTU.
                Router::route(1, &node, 1).unwrap();
                wait_for_path(&step, &mut topology.n1, wide);
            }
            assert_eq!(path_mtus(&mut topology.n2), [u64::from(wide); 2], "{what}");
        }
    });
}

/// A router that says of its way what no IPv4 path has. IPv6's is in `ports/tests/claims.rs`, for no
/// router says less than 1,280.
#[test]
fn what_no_path_has_is_ignored_and_counted() {
    by_both("what_no_path_has_is_ignored_and_counted", |io| {
        for case in Case::all(io) {
            if case.underlay == Family::V6 {
                continue;
            }
            let what = case.to_string();
            let (mut topology, [p1, _, p3]) = build(&case.options());
            let wide = case.inner(MTU);
            let ignored = |topology: &mut Topology| {
                let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
                status["underlay"]["path_mtu_ignored"].as_u64().unwrap()
            };
            assert_eq!(ignored(&mut topology), 0, "{what}");
            narrow(topology.router.as_ref().unwrap(), case.underlay, 575);
            let address = p3.ip(Family::V4);
            eventually(&format!("{what}: a claim is counted"), TOLD, || {
                send_large(&p1.ns, address);
                ignored(&mut topology) > 0
            });
            assert_eq!(path_mtus(&mut topology.n1), [u64::from(wide); 2], "{what}");
            assert_eq!(told(&p1.ns, address), None, "{what}");
            // The kernel has believed it; that stops nobody.
            for node in [1, 2] {
                let route = format!("route del {}/32", plan::routed(node, case.underlay));
                topology.router.as_ref().unwrap().ns.ip(&route).unwrap();
            }
            assert_none(&passes(&what, &p1, &p3));
            assert_eq!(path_mtus(&mut topology.n1), [u64::from(wide); 2], "{what}");
        }
    });
}

/// Without ICMP nothing large passes, unless packets may be fragmented or the peer's MTU is configured.
#[test]
fn narrow_paths_without_icmp() {
    let name = "narrow_paths_without_icmp";
    if !installed("nft") {
        return skipped(name, "nft is not installed");
    }
    by_both(name, |io| {
        for case in Case::all(io) {
            let what = case.to_string();
            let (mut topology, [p1, _, p3]) = build(&case.options());
            let router = topology.router.as_ref().unwrap();
            narrow(router, case.underlay, NARROW);
            silence(router);
            for family in Family::BOTH {
                let address = p3.ip(family);
                assert!(ping(&p1.ns, address, 3, 56, LIMIT).unwrap().all(), "{what}");
                let sizes = [LARGE];
                let quick = Duration::from_millis(200);
                let echo = UdpEcho::run(&p1.ns, &p3.ns, address, &sizes, quick).unwrap();
                assert_eq!(echo.ok, [0; 0], "{what}: {family} UDP passes");
                let done = transfer(&p1.ns, &p3.ns, address, 300_000, Duration::from_secs(1));
                assert!(done.is_err(), "{what}: {family} TCP passes: {done:?}");
            }
            let fragment = RingwayOptions {
                dont_fragment: false,
                ..case.options()
            };
            let configured = RingwayOptions {
                peer_mtu: Some(NARROW),
                ..case.options()
            };
            if case.underlay == Family::V4 {
                restart_with(&mut topology, &fragment);
                let step = format!("{what}, may be fragmented");
                let mut failures = passes(&step, &p1, &p3);
                failures.extend(passes(&step, &p3, &p1));
                failures.extend(check_carrier(&step, case, &mut topology));
                for node in [&mut topology.n1, &mut topology.n2] {
                    assert_eq!(path_mtus(node), [u64::from(case.inner(MTU)); 2], "{step}");
                    failures.extend(reassembled(&step, &node.ns));
                }
                assert_none(&failures);
            }
            restart_with(&mut topology, &configured);
            let step = format!("{what}, MTU of the peer");
            wait_for_path(&step, &mut topology.n1, case.inner(NARROW));
            let mut failures = passes(&step, &p1, &p3);
            failures.extend(passes(&step, &p3, &p1));
            failures.extend(check_carrier(&step, case, &mut topology));
            assert_none(&failures);
        }
    });
}

fn restart_with(topology: &mut Topology, options: &RingwayOptions) {
    for number in [1, 2] {
        topology.configure(number, options.clone()).unwrap();
    }
    for node in [&mut topology.n1, &mut topology.n2] {
        assert!(node.agent().unwrap().stop());
        node.agent().unwrap().start().unwrap();
    }
}

/// The node's kernel has put fragments together, all of them, and none of different packets.
fn reassembled(what: &str, node: &Netns) -> Vec<String> {
    let text = node.command("cat", "/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let value = |name: &str| {
        let at = names.split(' ').position(|n| n == name).unwrap();
        values.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
    };
    let (good, bad) = (value("ReasmOKs"), value("ReasmFails"));
    let wrong = good == 0 || bad > 0;
    let found = format!("{what}: {good} packets reassembled, {bad} not");
    println!("{found}");
    wrong.then_some(found).into_iter().collect()
}
