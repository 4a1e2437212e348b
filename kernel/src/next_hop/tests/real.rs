//! Against the kernel: a wire to another node, driven as the control loop does.

use super::*;
use crate::netlink::{LinkChange, Route, Watch};
use crate::testing::{Wire, in_netns, set_up};

/// The longest that anything may take to be noticed.
const SOON: Duration = Duration::from_secs(2);

struct Node {
    wire: Wire,
    watch: Watch,
    hops: NextHops,
    ticked: Instant,
}

impl Node {
    fn new(destinations: &[&str]) -> Self {
        let wire = Wire::new();
        let mut node = Node {
            watch: Watch::open().unwrap(),
            hops: NextHops::new(wire.here.index),
            ticked: Instant::now(),
            wire,
        };
        let endpoints = destinations.iter().map(|d| Endpoints {
            src: ip(if d.contains(':') {
                "2001:db8::1"
            } else {
                "192.0.2.1"
            }),
            dst: ip(d),
        });
        let _ = node
            .hops
            .set_endpoints(endpoints, &mut node.wire.netlink, Instant::now());
        node
    }

    /// Works until the destination's answer satisfies; panics when that takes too long.
    fn wait(&mut self, dst: &str, what: &str, satisfied: impl Fn(NextHop) -> bool) {
        let started = Instant::now();
        loop {
            let answer = self.hops.get(ip(dst)).unwrap();
            if satisfied(answer) {
                return;
            }
            let took = started.elapsed();
            assert!(took < SOON, "{dst} is not {what} but {answer:?}");
            self.turn();
        }
    }

    /// What the control loop does: changes as they come, a tick a second.
    fn turn(&mut self) {
        let first = self
            .watch
            .changes()
            .recv_timeout(Duration::from_millis(20))
            .ok();
        let changes: Vec<_> = first
            .into_iter()
            .chain(self.watch.changes().try_iter())
            .collect();
        let mut known = self.answers();
        let netlink = &mut self.wire.netlink;
        let now = Instant::now();
        let mut changed = self.hops.handle(changes, netlink, now).destinations;
        if now - self.ticked >= TICK {
            self.ticked = now;
            changed.extend(self.hops.tick(netlink, now).destinations);
        }
        // Whoever only follows what is reported knows the answers, too.
        for dst in changed {
            known.insert(dst, self.hops.get(dst).unwrap().resolved());
        }
        assert_eq!(known, self.answers());
    }

    fn answers(&self) -> BTreeMap<IpAddr, Option<Resolved>> {
        self.hops.iter().map(|(d, n)| (d, n.resolved())).collect()
    }

    fn wait_mac(&mut self, dst: &str, mac: MacAddr) {
        self.wait(dst, &format!("at {mac}"), |n| {
            n.resolved().is_some_and(|r| r.mac == mac)
        });
    }
}

const ON_LINK: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const BEHIND: [&str; 2] = ["198.51.100.7", "2001:db8:2::7"];
const BOTH: [&str; 4] = [ON_LINK[0], ON_LINK[1], BEHIND[0], BEHIND[1]];

fn routes(index: u32, gateways: [&str; 2]) -> [Route; 2] {
    let route = |destination, prefix_len, gateway| Route {
        protocol: crate::netlink::STATIC,
        destination: ip(destination),
        prefix_len,
        gateway: Some(ip(gateway)),
        onlink: false,
        source: None,
        interface: index,
    };
    [
        route("198.51.100.0", 24, gateways[0]),
        route("2001:db8:2::", 48, gateways[1]),
    ]
}

#[test]
fn peers_on_the_link_and_behind_gateways_are_resolved_and_follow_their_routes() {
    in_netns(|| {
        let mut n = Node::new(&BOTH);
        let theirs = n.wire.there.mac.unwrap();
        for dst in ON_LINK {
            n.wait_mac(dst, theirs);
            let resolved = n.hops.get(ip(dst)).unwrap().resolved().unwrap();
            let expected = Resolved {
                via: ip(dst),
                mac: theirs,
                src_mac: n.wire.here.mac.unwrap(),
            };
            assert_eq!(resolved, expected);
        }
        let no_route = NextHop::Elsewhere(Unroutable::NoRoute.into());
        for dst in BEHIND {
            assert_eq!(n.hops.get(ip(dst)), Some(no_route));
        }
        // The node's link-local address is its second gateway.
        let node_link_local = n
            .wire
            .node_netlink
            .addresses(n.wire.there.index)
            .unwrap()
            .iter()
            .find(|a| a.ip.is_ipv6() && !a.global)
            .unwrap()
            .ip
            .to_string();
        let index = n.wire.here.index;
        for gateways in [[ON_LINK[0], ON_LINK[1]], [ON_LINK[0], &node_link_local]] {
            for route in routes(index, gateways) {
                n.wire.netlink.set_route(&route).unwrap();
            }
            for (dst, via) in BEHIND.iter().zip(gateways) {
                n.wait(dst, via, |a| {
                    a.resolved()
                        .is_some_and(|r| r.via == ip(via) && r.mac == theirs)
                });
            }
        }
        // To a gateway that is not there, then away.
        for route in routes(index, ["192.0.2.99", "fe80::99"]) {
            n.wire.netlink.set_route(&route).unwrap();
        }
        for dst in BEHIND {
            n.wait(dst, "resolving", |a| a == NextHop::Resolving);
        }
        for route in routes(index, ["192.0.2.99", "fe80::99"]) {
            n.wire.netlink.remove_route(&route).unwrap();
        }
        for dst in BEHIND {
            n.wait(dst, "without a route", |a| a == no_route);
        }
        for dst in ON_LINK {
            n.wait_mac(dst, theirs);
        }
    });
}

#[test]
fn a_peers_new_mac_is_noticed_as_is_ours() {
    in_netns(|| {
        let mut n = Node::new(&ON_LINK);
        // A node that moves says so, as routers with VRRP do.
        n.wire.node_sysctl("net/ipv4/conf/eth0/arp_notify", "1");
        n.wire.node_sysctl("net/ipv6/conf/eth0/ndisc_notify", "1");
        for dst in ON_LINK {
            n.wait_mac(dst, n.wire.there.mac.unwrap());
        }
        let change = |mac| LinkChange {
            mac: Some(mac),
            ..LinkChange::default()
        };
        let there = n.wire.there.index;
        let theirs = mac(0x42);
        n.wire
            .node_netlink
            .change_link(there, &change(theirs))
            .unwrap();
        for dst in ON_LINK {
            n.wait_mac(dst, theirs);
        }
        let ours = mac(0x43);
        let here = n.wire.here.index;
        n.wire.netlink.change_link(here, &change(ours)).unwrap();
        for dst in ON_LINK {
            n.wait(dst, "sent to from our new address", |a| {
                a.resolved()
                    .is_some_and(|r| r.src_mac == ours && r.mac == theirs)
            });
        }
    });
}

#[test]
fn the_link_goes_down_and_up_and_away_and_changes_its_mtu() {
    in_netns(|| {
        let mut n = Node::new(&ON_LINK);
        let theirs = n.wire.there.mac.unwrap();
        for dst in ON_LINK {
            n.wait_mac(dst, theirs);
        }
        let down = NextHop::Elsewhere(Elsewhere::LinkDown);
        // The carrier goes and comes: the other end's doing.
        let there = n.wire.there.index;
        for up in [false, true] {
            set_up(&mut n.wire.node_netlink, there, up);
            for dst in &ON_LINK[..1] {
                match up {
                    false => n.wait(dst, "down", |a| a == down),
                    true => n.wait_mac(dst, theirs),
                }
            }
        }
        // Ours, which costs the link its IPv6 addresses.
        let here = n.wire.here.index;
        set_up(&mut n.wire.netlink, here, false);
        for dst in ON_LINK {
            n.wait(dst, "down", |a| a == down);
        }
        set_up(&mut n.wire.netlink, here, true);
        n.wait_mac(ON_LINK[0], theirs);
        let src = ip("2001:db8::1");
        let gone = NextHop::Elsewhere(Elsewhere::NotOurs { src });
        n.wait(ON_LINK[1], "without a source", |a| a == gone);
        n.wire.netlink.add_address(here, src, 64).unwrap();
        n.wait(ON_LINK[1], "looked for", |a| {
            !matches!(a, NextHop::Elsewhere(_))
        });

        let mtu = LinkChange {
            mtu: Some(1400),
            ..LinkChange::default()
        };
        n.wire.netlink.change_link(here, &mtu).unwrap();
        let small = |n: &Node| n.hops.link().is_some_and(|link| link.mtu == 1400);
        while !small(&n) {
            n.wait_mac(ON_LINK[0], theirs);
            n.turn();
        }
        n.wire.netlink.delete_link("under0").unwrap();
        let gone = NextHop::Elsewhere(Elsewhere::InterfaceGone);
        for dst in ON_LINK {
            n.wait(dst, "gone", |a| a == gone);
        }
    });
}

#[test]
fn a_flushed_neighbour_is_resolved_again_and_a_silent_one_is_not() {
    in_netns(|| {
        let mut n = Node::new(&["192.0.2.2", "2001:db8::2", "192.0.2.99"]);
        let theirs = n.wire.there.mac.unwrap();
        for dst in ON_LINK {
            n.wait_mac(dst, theirs);
            let here = n.wire.here.index;
            n.wire.netlink.remove_neighbour(here, ip(dst)).unwrap();
            n.wait(dst, "resolving", |a| a == NextHop::Resolving);
            n.wait_mac(dst, theirs);
        }
        assert_eq!(n.hops.get(ip("192.0.2.99")), Some(NextHop::Resolving));
    });
}

/// Frames to a peer never pass the kernel, so for the kernel it is idle: without probes its entry
/// would be stale for ever, whether or not anybody is there.
#[test]
fn an_idle_peer_is_validated_again_and_again_until_it_is_gone() {
    in_netns(|| {
        let mut n = Node::new(&ON_LINK);
        for family in ["ipv4", "ipv6"] {
            let path = |name| format!("/proc/sys/net/{family}/neigh/under0/{name}");
            std::fs::write(path("base_reachable_time_ms"), "300").unwrap();
            std::fs::write(path("delay_first_probe_time"), "1").unwrap();
            std::fs::write(path("retrans_time_ms"), "100").unwrap();
        }
        let (here, there) = (n.wire.here.index, n.wire.there.index);
        for dst in ON_LINK {
            n.wait_mac(dst, n.wire.there.mac.unwrap());
            // The new times hold for new entries.
            n.wire.netlink.remove_neighbour(here, ip(dst)).unwrap();
            n.wait(dst, "resolving", |a| a == NextHop::Resolving);
            n.wait_mac(dst, n.wire.there.mac.unwrap());
        }
        let mut validated = BTreeMap::from(ON_LINK.map(|dst| (dst, 0)));
        let mut before = BTreeMap::new();
        let end = Instant::now() + Duration::from_secs(60);
        while validated.values().any(|times| *times < 2) {
            assert!(Instant::now() < end, "{validated:?}");
            n.turn();
            for dst in ON_LINK {
                assert!(n.hops.get(ip(dst)).unwrap().resolved().is_some(), "{dst}");
                let state = n
                    .wire
                    .netlink
                    .neighbour(here, ip(dst))
                    .unwrap()
                    .unwrap()
                    .state;
                let was = before.insert(dst, state);
                if state == NeighbourState::Reachable && was.is_some_and(|w| w != state) {
                    *validated.get_mut(dst).unwrap() += 1;
                }
            }
        }
        for (dst, length) in [(ON_LINK[0], 24), (ON_LINK[1], 64)] {
            let node = &mut n.wire.node_netlink;
            node.remove_address(there, ip(dst), length).unwrap();
        }
        let end = Instant::now() + Duration::from_secs(30);
        for dst in ON_LINK {
            while n.hops.get(ip(dst)) != Some(NextHop::Resolving) {
                assert!(Instant::now() < end, "{dst} is still believed to be there");
                n.turn();
            }
        }
    });
}
