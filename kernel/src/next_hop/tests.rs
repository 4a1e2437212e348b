use std::net::IpAddr;

use ringway_packet::mac::MacAddr;

use super::hop::{BACKOFF_MAX, STALE_PERIOD};
use super::*;
use crate::netlink::{Neighbour, NeighbourState, NetlinkError, Unroutable};

mod real;

const OURS: u32 = 7;
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SRC: &str = "192.0.2.1";
const SRC6: &str = "2001:db8::1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, last])
}

fn way(dst: &str) -> Endpoints {
    let dst = ip(dst);
    let src = ip(if dst.is_ipv4() { SRC } else { SRC6 });
    Endpoints { src, dst }
}

fn by(interface: u32, gateway: Option<&str>) -> RouteTo {
    RouteTo::Link {
        interface,
        gateway: gateway.map(ip),
        source: None,
        mtu: None,
    }
}

/// What has been asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    links: usize,
    addresses: usize,
    routes: usize,
    neighbours: usize,
}

/// A kernel of which the test says everything.
struct Fake {
    link: Option<Link>,
    addresses: Vec<IpAddr>,
    routes: BTreeMap<IpAddr, RouteTo>,
    neighbours: BTreeMap<IpAddr, Neighbour>,
    broken: bool,
    asked: Asked,
    probes: Vec<IpAddr>,
}

impl Fake {
    fn entry(&mut self, address: &str, state: NeighbourState, mac: Option<MacAddr>) -> Change {
        let ip = ip(address);
        self.neighbours.insert(
            ip,
            Neighbour {
                ip,
                mac,
                state,
                protocol: None,
            },
        );
        Change::Neighbour { index: OURS, ip }
    }

    fn answer<T>(&self, value: T) -> Result<T, NetlinkError> {
        if self.broken {
            return Err(NetlinkError::Answer {
                what: "a test".into(),
                detail: "broken".into(),
            });
        }
        Ok(value)
    }

    fn probed(&mut self) -> Vec<String> {
        let probes = std::mem::take(&mut self.probes);
        probes.iter().map(ToString::to_string).collect()
    }
}

impl Kernel for Fake {
    fn find_link(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        assert_eq!(index, OURS);
        self.asked.links += 1;
        self.answer(self.link.clone())
    }

    fn find_addresses(&mut self, _: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        self.asked.addresses += 1;
        self.answer(self.addresses.clone())
    }

    fn find_route(&mut self, endpoints: Endpoints) -> Result<RouteTo, NetlinkError> {
        self.asked.routes += 1;
        let route = self.routes.get(&endpoints.dst).copied();
        self.answer(route.unwrap_or(by(OURS, None)))
    }

    fn find_neighbour(&mut self, _: u32, ip: IpAddr) -> Result<Option<Neighbour>, NetlinkError> {
        self.asked.neighbours += 1;
        self.answer(self.neighbours.get(&ip).copied())
    }

    fn probe(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        assert_eq!(index, OURS);
        self.probes.push(ip);
        self.answer(())
    }
}

/// Next hops, a kernel and a clock.
struct World {
    hops: NextHops,
    kernel: Fake,
    now: Instant,
}

impl World {
    fn new(destinations: &[&str]) -> (Self, Changed) {
        let mut world = World {
            hops: NextHops::new(OURS),
            kernel: Fake {
                link: Some(Link {
                    index: OURS,
                    mac: Some(MAC),
                    mtu: 1500,
                    up: true,
                    carrier: true,
                    ..Link::default()
                }),
                addresses: vec![ip(SRC), ip(SRC6)],
                routes: BTreeMap::new(),
                neighbours: BTreeMap::new(),
                broken: false,
                asked: Asked::default(),
                probes: Vec::new(),
            },
            now: Instant::now(),
        };
        let changed = world.set(destinations);
        (world, changed)
    }

    fn set(&mut self, destinations: &[&str]) -> Changed {
        let endpoints = destinations.iter().map(|d| way(d));
        self.hops
            .set_endpoints(endpoints, &mut self.kernel, self.now)
    }

    /// Destinations changed by a change.
    fn handle(&mut self, change: Change) -> Vec<String> {
        let changed = self.hops.handle([change], &mut self.kernel, self.now);
        texts(&changed)
    }

    fn tick(&mut self) -> Vec<String> {
        self.now += TICK;
        let changed = self.hops.tick(&mut self.kernel, self.now);
        texts(&changed)
    }

    /// Destinations changed by a change and the tick after it, for which bulk work may wait.
    fn soon(&mut self, change: Change) -> Vec<String> {
        let mut changed = self.handle(change);
        changed.extend(self.tick());
        changed
    }

    /// One destination, resolved.
    fn resolved(dst: &str) -> Self {
        let (mut world, _) = Self::new(&[]);
        world
            .kernel
            .entry(dst, NeighbourState::Reachable, Some(mac(9)));
        assert_eq!(texts(&world.set(&[dst])), [dst]);
        world
    }

    fn get(&self, dst: &str) -> NextHop {
        self.hops.get(ip(dst)).unwrap()
    }

    fn mac_of(&self, dst: &str) -> Option<MacAddr> {
        self.get(dst).resolved().map(|r| r.mac)
    }
}

fn texts(changed: &Changed) -> Vec<String> {
    changed
        .destinations
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn on_link_and_behind_a_gateway_in_both_families() {
    let (mut w, _) = World::new(&[]);
    w.kernel
        .routes
        .insert(ip("198.51.100.2"), by(OURS, Some("192.0.2.254")));
    w.kernel
        .routes
        .insert(ip("2001:db8:2::2"), by(OURS, Some("fe80::1")));
    let all = ["192.0.2.2", "198.51.100.2", "2001:db8::2", "2001:db8:2::2"];
    let vias = ["192.0.2.2", "192.0.2.254", "2001:db8::2", "fe80::1"];
    assert_eq!(w.set(&all), Changed::default());
    assert!(all.iter().all(|d| w.get(d) == NextHop::Resolving));
    let mut probed = w.kernel.probed();
    probed.sort();
    assert_eq!(
        probed,
        ["192.0.2.2", "192.0.2.254", "2001:db8::2", "fe80::1"]
    );
    for (n, (dst, via)) in all.iter().zip(vias).enumerate() {
        let change = w
            .kernel
            .entry(via, NeighbourState::Reachable, Some(mac(n as u8)));
        assert_eq!(w.handle(change), [*dst]);
        let expected = Resolved {
            via: ip(via),
            mac: mac(n as u8),
            src_mac: MAC,
        };
        assert_eq!(w.get(dst), NextHop::Resolved(expected));
    }
    assert_eq!(w.hops.iter().count(), 4);
    assert_eq!(w.kernel.probed(), [""; 0]);
}

#[test]
fn destinations_behind_one_gateway_share_its_probes_and_its_mac() {
    let (mut w, _) = World::new(&[]);
    let all = ["198.51.100.2", "198.51.100.3", "198.51.100.4"];
    for dst in all {
        w.kernel
            .routes
            .insert(ip(dst), by(OURS, Some("192.0.2.254")));
    }
    let _ = w.set(&all);
    assert_eq!(w.kernel.probed(), ["192.0.2.254"]);
    for m in [mac(1), mac(2)] {
        let change = w
            .kernel
            .entry("192.0.2.254", NeighbourState::Reachable, Some(m));
        assert_eq!(w.handle(change), all);
    }
    // Another state of the same is no news.
    let change = w
        .kernel
        .entry("192.0.2.254", NeighbourState::Delay, Some(mac(2)));
    assert_eq!(w.handle(change), [""; 0]);
    let change = w.kernel.entry("192.0.2.254", NeighbourState::Failed, None);
    assert_eq!(w.handle(change), all);
    assert_eq!(w.mac_of(all[0]), None);
}

#[test]
fn a_route_changes_to_a_gateway_to_elsewhere_to_nowhere_and_back() {
    let dst = "192.0.2.2";
    let mut w = World::resolved(dst);
    w.kernel
        .entry("192.0.2.254", NeighbourState::Reachable, Some(mac(254)));
    w.kernel
        .routes
        .insert(ip(dst), by(OURS, Some("192.0.2.254")));
    assert_eq!(w.soon(Change::Routes), [dst]);
    assert_eq!(w.mac_of(dst), Some(mac(254)));
    w.kernel.routes.insert(ip(dst), by(8, None));
    assert_eq!(w.soon(Change::Routes), [dst]);
    let other = Elsewhere::OtherInterface { index: 8 };
    assert_eq!(w.get(dst), NextHop::Elsewhere(other));
    w.kernel
        .routes
        .insert(ip(dst), RouteTo::Nowhere(Unroutable::Unreachable));
    // Neither could be used: only the reason is another.
    assert_eq!(w.soon(Change::Routes), [""; 0]);
    let nowhere = Elsewhere::Unroutable(Unroutable::Unreachable);
    assert_eq!(w.get(dst), NextHop::Elsewhere(nowhere));
    w.kernel.routes.clear();
    assert_eq!(w.soon(Change::Routes), [dst]);
    assert_eq!(w.mac_of(dst), Some(mac(9)));
}

#[test]
fn what_the_interface_does_is_seen_at_once() {
    let dst = "192.0.2.2";
    let mut w = World::resolved(dst);
    let change = Change::Link { index: OURS };
    let mut expect = |edit: &dyn Fn(&mut Option<Link>), news: bool| {
        edit(&mut w.kernel.link);
        let changed = w.hops.handle([change], &mut w.kernel, w.now);
        assert!(changed.link);
        assert_eq!(!changed.destinations.is_empty(), news);
        w.hops.get(ip(dst)).unwrap()
    };
    let link = |edit: fn(&mut Link)| move |l: &mut Option<Link>| edit(l.as_mut().unwrap());
    let why = NextHop::Elsewhere;
    let down = why(Elsewhere::LinkDown);
    assert_eq!(expect(&link(|l| l.carrier = false), true), down);
    assert_eq!(expect(&link(|l| l.up = false), false), down);
    let up = expect(
        &link(|l| {
            l.up = true;
            l.carrier = true;
        }),
        true,
    );
    assert_eq!(up.resolved().unwrap().src_mac, MAC);
    let moved = expect(&link(|l| l.mac = Some(mac(77))), true);
    assert_eq!(moved.resolved().unwrap().src_mac, mac(77));
    let small = expect(&link(|l| l.mtu = 1400), false);
    assert_eq!(small, moved);
    assert_eq!(expect(&link(|l| l.mac = None), true), why(Elsewhere::NoMac));
    assert_eq!(expect(&|l| *l = None, false), why(Elsewhere::InterfaceGone));
    assert_eq!(w.hops.link(), None);
}

#[test]
fn a_removed_address_is_not_sent_from() {
    let dst = "2001:db8::2";
    let mut w = World::resolved(dst);
    w.kernel.addresses = vec![ip(SRC)];
    assert_eq!(w.soon(Change::Addresses), [dst]);
    let src = ip(SRC6);
    assert_eq!(w.get(dst), NextHop::Elsewhere(Elsewhere::NotOurs { src }));
    w.kernel.addresses = vec![ip(SRC), ip(SRC6)];
    assert_eq!(w.soon(Change::Addresses), [dst]);
}

#[test]
fn the_mtu_of_a_route_counts_if_a_path_may_have_it() {
    for (dst, least) in [("192.0.2.2", 576), ("2001:db8::2", 1280)] {
        let cases = [
            (1300, Some(1300)),
            (9000, Some(9000)),
            (least, Some(least)),
            (least - 1, None),
        ];
        the_mtu_of_a_route(dst, &cases);
    }
}

fn the_mtu_of_a_route(dst: &str, cases: &[(u32, Option<u32>)]) {
    let mut w = World::resolved(dst);
    assert_eq!(w.hops.mtu(ip(dst)), None);
    for &(route, expected) in cases {
        let to = RouteTo::Link {
            interface: OURS,
            gateway: None,
            source: None,
            mtu: Some(route),
        };
        w.kernel.routes.insert(ip(dst), to);
        assert_eq!(w.soon(Change::Routes), [dst]);
        assert_eq!(w.hops.mtu(ip(dst)), expected);
    }
    // It holds while the neighbour is not known, and its packets go by the socket.
    let to = RouteTo::Link {
        interface: OURS,
        gateway: Some(ip("fe80::99")),
        source: None,
        mtu: Some(1300),
    };
    w.kernel.routes.insert(ip(dst), to);
    assert_eq!(w.soon(Change::Routes), [dst]);
    assert_eq!(w.get(dst).resolved(), None);
    assert_eq!(w.hops.mtu(ip(dst)), Some(1300));
}

#[test]
fn a_stale_entry_is_used_and_probed_now_and_then() {
    let dst = "192.0.2.2";
    let mut w = World::resolved(dst);
    let change = w.kernel.entry(dst, NeighbourState::Stale, Some(mac(9)));
    // As if the probes had no effect and every one were reported.
    for _ in 0..100 {
        assert_eq!(w.handle(change), [""; 0]);
    }
    assert_eq!(w.kernel.probed(), [dst]);
    for _ in 0..STALE_PERIOD.as_secs() * 4 {
        assert_eq!(w.tick(), [""; 0]);
    }
    assert_eq!(w.kernel.probed(), [dst; 4]);
    assert_eq!(w.mac_of(dst), Some(mac(9)));
    for state in [
        NeighbourState::Delay,
        NeighbourState::Probe,
        NeighbourState::Reachable,
    ] {
        let change = w.kernel.entry(dst, state, Some(mac(9)));
        assert_eq!(w.handle(change), [""; 0]);
        for _ in 0..10 {
            w.tick();
        }
        assert_eq!(w.kernel.probed(), [""; 0], "{state}");
    }
}

#[test]
fn a_silent_neighbour_is_probed_ever_less_often() {
    let dst = "192.0.2.2";
    let (mut w, _) = World::new(&[dst]);
    let start = w.now;
    let mut at = vec![0];
    assert_eq!(w.kernel.probed(), [dst]);
    for _ in 0..130 {
        w.kernel.entry(dst, NeighbourState::Failed, Some(mac(9)));
        w.tick();
        if !w.kernel.probed().is_empty() {
            at.push((w.now - start).as_secs());
        }
    }
    assert_eq!(at, [0, 1, 3, 7, 15, 31, 61, 91, 121]);
    assert_eq!(BACKOFF_MAX.as_secs(), 30);
    // It speaks: usable at once, and next time the patience is new.
    let change = w.kernel.entry(dst, NeighbourState::Stale, Some(mac(9)));
    assert_eq!(w.handle(change), [dst]);
    w.kernel.entry(dst, NeighbourState::Failed, None);
    for _ in 0..21 {
        w.tick();
    }
    w.kernel.probed();
    let change = w.kernel.entry(dst, NeighbourState::Incomplete, None);
    for _ in 0..40 {
        w.handle(change);
        w.tick();
    }
    assert_eq!(w.kernel.probed(), [""; 0], "the kernel is at it");
}

#[test]
fn entries_that_somebody_made_are_never_probed() {
    let dst = "192.0.2.2";
    for state in [NeighbourState::Permanent, NeighbourState::Noarp] {
        for (mac, usable) in [(Some(mac(1)), true), (Some(MacAddr::default()), false)] {
            let (mut w, _) = World::new(&[]);
            w.kernel.entry(dst, state, mac);
            let _ = w.set(&[dst]);
            for _ in 0..60 {
                w.tick();
            }
            assert_eq!(w.kernel.probed(), [""; 0]);
            assert_eq!(w.mac_of(dst).is_some(), usable);
        }
    }
}

#[test]
fn a_storm_asks_for_everything_once_a_second_and_for_little_every_50_ms() {
    let many: Vec<String> = (0..1000u32)
        .map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let few = ["192.0.2.2", "192.0.2.3"];
    // Times that everything may be asked for in 900 ms.
    for (destinations, times) in [(&many[..], 1), (&few[..], 19)] {
        let (mut w, _) = World::new(destinations);
        for change in [Change::Routes, Change::Addresses, Change::Overrun] {
            w.tick();
            w.kernel.asked = Asked::default();
            for _ in 0..100 {
                w.now += Duration::from_millis(9);
                w.handle(change);
            }
            let (count, asked) = (destinations.len(), w.kernel.asked);
            assert!(asked.routes <= times * count, "{asked:?}");
            assert!(asked.addresses <= times, "{asked:?}");
            w.kernel.asked = Asked::default();
            w.tick();
            let asked = w.kernel.asked;
            // What was put off, and this tick's part of the round.
            assert!(asked.routes > 0, "{asked:?}");
            assert!(asked.routes <= count + count / 20 + 3, "{asked:?}");
        }
    }
}

#[test]
fn what_is_not_ours_asks_for_nothing() {
    let dst = "192.0.2.2";
    let mut w = World::resolved(dst);
    w.tick();
    w.kernel.asked = Asked::default();
    let changes = [
        Change::Link { index: 8 },
        Change::Neighbour {
            index: 8,
            ip: ip(dst),
        },
        Change::Neighbour {
            index: OURS,
            ip: ip("192.0.2.3"),
        },
    ];
    for change in changes {
        assert_eq!(w.handle(change), [""; 0]);
    }
    for _ in 0..20 {
        w.tick();
    }
    assert_eq!(w.kernel.asked, Asked::default());
}

#[test]
fn a_change_that_nobody_announced_is_found_within_a_round() {
    let all: Vec<String> = (1..=100).map(|n| format!("192.0.2.{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut w, _) = World::new(&all);
    for dst in &all {
        w.kernel.entry(dst, NeighbourState::Reachable, Some(mac(1)));
    }
    assert_eq!(w.tick().len(), 100);
    w.kernel
        .entry("192.0.2.254", NeighbourState::Reachable, Some(mac(2)));
    for dst in &all {
        w.kernel
            .routes
            .insert(ip(dst), by(OURS, Some("192.0.2.254")));
    }
    w.kernel.asked = Asked::default();
    let mut found = 0;
    for _ in 0..ROUND.as_secs() {
        let changed = w.tick().len();
        assert!(changed <= 4, "a few at a time, not {changed}");
        found += changed;
    }
    assert_eq!(found, 100);
    assert_eq!((w.kernel.asked.links, w.kernel.asked.addresses), (1, 1));
    assert!(w.kernel.asked.routes <= 104, "{:?}", w.kernel.asked);
}

#[test]
fn while_the_kernel_does_not_answer_the_last_answer_stands() {
    let dst = "192.0.2.2";
    let mut w = World::resolved(dst);
    w.kernel.broken = true;
    w.kernel.entry(dst, NeighbourState::Failed, None);
    w.kernel.link = None;
    w.kernel.routes.insert(ip(dst), by(8, None));
    assert_eq!(w.soon(Change::Overrun), [""; 0]);
    assert_eq!(w.mac_of(dst), Some(mac(9)));
    w.kernel.broken = false;
    assert_eq!(w.tick(), [dst]);
    assert_eq!(w.get(dst), NextHop::Elsewhere(Elsewhere::InterfaceGone));
}

#[test]
fn ways_in_use_keep_their_answers() {
    let dst = "192.0.2.2";
    let mut w = World::resolved(dst);
    w.kernel.asked = Asked::default();
    // Pods of both families may ride the same way.
    assert_eq!(w.set(&[dst, dst]), Changed::default());
    assert_eq!(w.mac_of(dst), Some(mac(9)));
    assert_eq!(w.kernel.asked, Asked::default());
    let from_elsewhere = Endpoints {
        src: ip("192.0.2.99"),
        dst: ip(dst),
    };
    let changed = w.hops.set_endpoints([from_elsewhere], &mut w.kernel, w.now);
    assert_eq!(texts(&changed), [dst]);
    assert_eq!(w.kernel.asked.routes, 1);
    assert_eq!(w.set(&[]), Changed::default());
    assert_eq!(w.hops.get(ip(dst)), None);
}

#[test]
fn a_second_change_of_routes_does_not_wait_for_the_tick() {
    let (mut w, _) = World::new(&[]);
    let dst = "198.51.100.2";
    let gateways = ["192.0.2.254", "192.0.2.253", "192.0.2.252"];
    for (n, gateway) in gateways.iter().enumerate() {
        let _ = w
            .kernel
            .entry(gateway, NeighbourState::Reachable, Some(mac(n as u8)));
    }
    w.kernel.routes.insert(ip(dst), by(OURS, Some(gateways[0])));
    let _ = w.set(&[dst]);
    w.now += TICK;
    w.kernel.routes.insert(ip(dst), by(OURS, Some(gateways[1])));
    assert_eq!(w.handle(Change::Routes), [dst]);
    assert_eq!(w.hops.bulk_due(), None);
    // At once after it: put off, and not for long, for there is one destination only.
    w.kernel.routes.insert(ip(dst), by(OURS, Some(gateways[2])));
    assert_eq!(w.handle(Change::Routes), [""; 0]);
    let due = w.hops.bulk_due().expect("something was put off");
    assert!(due > w.now && due <= w.now + Duration::from_millis(50));
    w.now = due;
    let changed = w.hops.handle([], &mut w.kernel, w.now);
    assert_eq!(texts(&changed), [dst]);
    assert_eq!((w.mac_of(dst), w.hops.bulk_due()), (Some(mac(2)), None));
}
