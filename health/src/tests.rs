//! A made-up world of peers: what is found, when, and at what cost.

use std::net::{IpAddr, Ipv4Addr};

use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::mac::MacAddr;
use ringway_tables::{Path, Peer, PeerPaths};

use super::*;

const MTU: u16 = 1450;
const OVERHEAD: u16 = 50;

fn tables(peers: u32) -> Snapshot {
    let mut tables = Snapshot::default();
    for i in 0..peers {
        let (src, dst): (IpAddr, IpAddr) = (
            Ipv4Addr::new(192, 168, 0, 1).into(),
            Ipv4Addr::from(0x0a00_0000 + i).into(),
        );
        let encap = Encap::Vxlan { vni: 1 };
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let outer = OuterHeader::new(&OuterSpec {
            src_mac: mac,
            dst_mac: mac,
            src,
            dst,
            encap,
            transport: TransportSpec::usual(encap, UdpChecksum::Full),
            ttl: 64,
            dont_fragment: true,
        });
        let path = Path {
            peer: PeerId(0),
            encap,
            src,
            dst,
            src_mac: mac,
            dst_mac: mac,
            mtu: MTU,
            outer: outer.unwrap(),
        };
        let peer = Peer {
            name: format!("node{i}").into(),
            addresses: [dst].into(),
            cidrs: [].into(),
        };
        // Both families by the same addresses: one path.
        let paths = PeerPaths {
            v4: Some(path.clone()),
            v6: Some(path),
        };
        tables.add_peer(peer, paths).unwrap();
    }
    tables.version = 1;
    tables
}

/// What a path does to packets.
#[derive(Clone, Copy)]
struct Link {
    /// Answers come back after so long; none: it is dead.
    round_trip: Option<Duration>,
    carries: u16,
    /// What it is sent by pods, packets of 1,400 bytes a second, and what it sends back.
    traffic: u64,
    sends: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            round_trip: Some(Duration::from_millis(1)),
            carries: MTU,
            traffic: 0,
            sends: true,
        }
    }
}

struct World {
    probing: Probing,
    tables: Snapshot,
    links: Vec<Link>,
    now: Instant,
    begin: Instant,
    counts: Vec<Seen>,
    /// Packets and bits in each second.
    spent: Vec<(u32, u32)>,
}

impl World {
    fn new(links: Vec<Link>) -> Self {
        let now = Instant::now();
        Self {
            probing: Probing::new(50),
            tables: tables(links.len() as u32),
            counts: vec![Seen::default(); links.len()],
            links,
            now,
            begin: now,
            spent: Vec::new(),
        }
    }

    /// So much time passes, in steps of a tenth of a second.
    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            let second = self.now.duration_since(self.begin).as_secs() as usize;
            if self.spent.len() <= second {
                self.spent.resize(second + 1, (0, 0));
                for (link, seen) in self.links.iter().zip(&mut self.counts) {
                    seen.sent += link.traffic;
                    seen.sent_bytes += 1400 * link.traffic;
                    let comes = link.sends && link.round_trip.is_some();
                    seen.came += if comes { link.traffic } else { 0 };
                }
                let counts = &self.counts;
                self.probing.follow(&self.tables, self.now);
                self.probing.see(self.now, |peer| counts[peer.0 as usize]);
            }
            self.probing.follow(&self.tables, self.now);
            for request in self.probing.due(self.now).0 {
                let spent = &mut self.spent[second];
                spent.0 += 1;
                spent.1 += 8 * u32::from(request.size + OVERHEAD);
                let link = self.links[request.peer.0 as usize];
                if let Some(round_trip) = link.round_trip.filter(|_| request.size <= link.carries) {
                    let answer = Answer {
                        peer: request.peer,
                        token: request.token,
                        size: request.size,
                        round_trip_ns: round_trip.as_nanos() as u64,
                    };
                    // It counts as what came, as everything does.
                    self.counts[request.peer.0 as usize].came += 1;
                    self.probing.answered(&answer, self.now + round_trip);
                }
            }
            self.now += PERIOD;
        }
    }

    fn health(&self, peer: u32) -> PeerHealth {
        self.probing.view(self.now)[&PeerId(peer)].clone()
    }

    /// Seconds until a peer is in a state, and at most `limit`.
    fn until(&mut self, peer: u32, state: PeerState, limit: u64) -> u64 {
        for second in 0..limit {
            if self.health(peer).state == state {
                return second;
            }
            self.pass(1);
        }
        panic!("{:?} after {limit} s", self.health(peer));
    }

    fn keeps_the_budget(&self) {
        for (second, (packets, bits)) in self.spent.iter().enumerate() {
            // A second may have what was saved up before it.
            assert!(
                *packets <= 65 && *bits <= 660_000,
                "{second}: {packets} {bits}"
            );
        }
        let total = self
            .spent
            .iter()
            .fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + u64::from(s.1)));
        let seconds = self.spent.len() as u64;
        assert!(u64::from(total.0) <= 50 * seconds + 10 && total.1 <= 500_000 * seconds + 100_000);
    }
}

#[test]
fn a_peer_is_reached_with_its_round_trip_and_all_of_its_mtu() {
    let mut world = World::new(vec![Link::default(); 3]);
    world.pass(3);
    let health = world.health(1);
    assert_eq!(
        (health.state, health.verified_mtu),
        (PeerState::Reached, Some(MTU))
    );
    assert_eq!((health.round_trip_us, health.lost), (Some(1000), 0));
    assert_eq!(world.probing.targets.len(), 3);
    assert_eq!(world.probing.conditions(|_| false).len(), 0);
    // Idle, three peers cost less than a packet a second.
    world.pass(600);
    assert!(world.health(1).probes < 15, "{:?}", world.health(1));
    world.keeps_the_budget();
}

#[test]
fn of_a_thousand_peers_a_dead_one_in_use_is_found_within_ten_seconds_and_another_within_two_minutes()
 {
    let mut links = vec![Link::default(); 1000];
    (0..300).for_each(|i| links[i].traffic = 100);
    let mut world = World::new(links);
    world.pass(180);
    assert!((0..1000).all(|i| world.health(i).state == PeerState::Reached));
    assert!((0..1000).all(|i| world.health(i).verified_mtu == Some(MTU)));
    for dead in [7, 150, 299] {
        world.links[dead as usize].round_trip = None;
        let took = world.until(dead, PeerState::Silent, 120);
        assert!(took <= 10, "{dead}: {took} s");
    }
    for dead in [300, 600, 999] {
        world.links[dead as usize].round_trip = None;
        let took = world.until(dead, PeerState::Silent, 200);
        assert!(took <= 120, "{dead}: {took} s");
    }
    assert_eq!(world.probing.conditions(|_| false).len(), 6);
    // What an error says of an address is said once.
    let first = world.probing.faults().next().unwrap().address;
    assert_eq!(world.probing.conditions(|dst| dst == first).len(), 5);
    world.links[7].round_trip = Some(Duration::from_millis(2));
    assert!(world.until(7, PeerState::Reached, 60) <= 10);
    world.keeps_the_budget();
}

#[test]
fn packets_that_vanish_for_their_size_are_told_from_a_dead_path() {
    let mut world = World::new(vec![
        Link {
            carries: 1350,
            traffic: 50,
            ..Link::default()
        };
        2
    ]);
    world.pass(1);
    let took = world.until(0, PeerState::BlackHole, 120);
    assert!(took <= 60, "{took} s");
    let found = world.health(0).verified_mtu.unwrap();
    assert!((1342..=1350).contains(&found), "{found}");
    let all = world.probing.conditions(|_| false);
    assert!(
        all[0].found.contains("black hole") && all[0].why.contains("-s 1472"),
        "{:?}",
        all[0]
    );
    // The link is mended.
    world.links[0].carries = MTU;
    assert!(world.until(0, PeerState::Reached, 200) <= 120);
    assert_eq!(world.health(0).verified_mtu, Some(MTU));
    // A path that narrows while large packets are sent.
    world.links[0].carries = 1400;
    assert!(world.until(0, PeerState::BlackHole, 200) <= 150);
    world.keeps_the_budget();
}

#[test]
fn a_lost_direction_a_flannel_node_and_a_forger_are_told_apart() {
    let mut world = World::new(vec![
        Link {
            traffic: 10,
            ..Link::default()
        };
        3
    ]);
    world.links[2].round_trip = None;
    world.pass(5);
    // It has never answered: nobody's fault.
    assert_eq!(world.health(2).state, PeerState::Mute);
    // What is sent is lost, what comes does not stop.
    let counts = world.counts[1].came;
    world.links[1] = Link {
        carries: 0,
        ..world.links[1]
    };
    assert!(world.until(1, PeerState::NotHeard, 30) <= 12);
    assert!(world.counts[1].came > counts);
    let conditions = world.probing.conditions(|_| false);
    assert_eq!(conditions.len(), 1);
    assert!(conditions[0].found.contains("its own packets come"));
    // Whoever does not know the token changes nothing.
    let before = world.health(1);
    for token in 0..100 {
        let forged = Answer {
            peer: PeerId(1),
            token,
            size: MTU,
            round_trip_ns: 1,
        };
        world.probing.answered(&forged, world.now);
    }
    assert_eq!(world.health(1), before);
    assert_eq!(world.probing.unasked, 100);
}

#[test]
fn a_peer_under_another_name_or_at_another_address_is_looked_at_anew() {
    let mut world = World::new(vec![Link::default(); 2]);
    world.pass(3);
    let mut tables = tables(1);
    tables.version = 2;
    world.tables = tables;
    world.pass(1);
    assert_eq!(world.probing.targets.len(), 1);
    // Another MTU: what was verified is not any more, until it is tried.
    let target = world.probing.targets.values_mut().next().unwrap();
    let basis = Basis {
        mtu: 1400,
        ..target.basis
    };
    target.moved(basis, world.now);
    assert_eq!(world.health(0).verified_mtu, None);
    world.pass(2);
    assert_eq!(world.health(0).verified_mtu, Some(1400));
}

#[test]
fn many_faults_are_summed_up_and_no_probes_are_none() {
    let mut world = World::new(vec![Link::default(); 100]);
    world.pass(10);
    world
        .links
        .iter_mut()
        .for_each(|link| link.round_trip = None);
    world.pass(120);
    let conditions = world.probing.conditions(|_| false);
    assert_eq!(conditions.len(), TOLD);
    assert!(
        conditions[TOLD - 1].found.contains("68 more"),
        "{:?}",
        conditions[TOLD - 1]
    );
    let mut world = World::new(vec![Link::default(); 3]);
    world.probing = Probing::new(0);
    world.pass(60);
    assert_eq!(
        world.spent.iter().map(|(packets, _)| packets).sum::<u32>(),
        0
    );
    assert!(world.probing.view(world.now).is_empty());
    // One a second is enough for three.
    let mut world = World::new(vec![Link::default(); 3]);
    world.probing = Probing::new(1);
    world.pass(60);
    assert!((0..3).all(|i| world.health(i).verified_mtu == Some(MTU)));
    let packets = world.spent.iter().map(|(packets, _)| packets).sum::<u32>();
    assert!(packets <= 63, "{packets}");
}

#[test]
fn traffic_that_goes_one_way_takes_no_probes_from_others() {
    let mut links = vec![Link::default(); 1000];
    for link in &mut links[..250] {
        (link.traffic, link.sends) = (100, false);
    }
    let mut world = World::new(links);
    world.pass(240);
    for dead in [400, 999] {
        world.links[dead as usize].round_trip = None;
        let took = world.until(dead, PeerState::Silent, 300);
        assert!(took <= 120, "{dead}: {took} s");
    }
    world.links[3].round_trip = None;
    assert!(world.until(3, PeerState::Silent, 60) <= 15);
    world.keeps_the_budget();
}

#[test]
fn a_peer_that_is_started_later_is_found_by_its_first_words() {
    let mut world = World::new(vec![
        Link {
            round_trip: None,
            ..Link::default()
        };
        2
    ]);
    world.pass(30);
    assert_eq!(world.health(0).state, PeerState::Mute);
    world.links[0].round_trip = Some(Duration::from_millis(1));
    // It asks, too.
    world.counts[0].came += 1;
    assert!(world.until(0, PeerState::Reached, 100) <= 3);
}

#[test]
fn a_path_that_is_lowered_keeps_what_is_known_until_large_packets_pass_again() {
    let mut world = World::new(vec![Link {
        carries: 1350,
        ..Link::default()
    }]);
    world.pass(1);
    world.until(0, PeerState::BlackHole, 60);
    let passes = world.health(0).verified_mtu.unwrap();
    let moved = |world: &mut World, mtu: u16| {
        let now = world.now;
        let target = world.probing.targets.values_mut().next().unwrap();
        let basis = Basis {
            mtu,
            ..target.basis
        };
        target.moved(basis, now);
    };
    moved(&mut world, passes);
    world.pass(200);
    let conditions = world.probing.conditions(|_| false);
    assert!(
        conditions[0]
            .found
            .contains(&format!("lowered to {passes}")),
        "{conditions:?}"
    );
    world.links[0].carries = MTU;
    assert!(world.until(0, PeerState::Reached, 200) <= 130);
    moved(&mut world, MTU);
    assert_eq!(world.health(0).verified_mtu, Some(MTU));
    // Another MTU than either is tried.
    moved(&mut world, 1300);
    assert_eq!(world.health(0).verified_mtu, None);
}
