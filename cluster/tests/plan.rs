//! Plans between random states: they arrive, and nothing goes astray on the way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use ringway_cluster::{
    Change, Cluster, Contents, EncapKind, Node, PathSpec, Peer, Plan, Route, Source, State, Step,
    Via, diff,
};
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

fn path() -> Option<PathSpec> {
    Some(PathSpec {
        encap: EncapKind::Vxlan,
        vtep_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: None,
    })
}

fn name(n: u8) -> Arc<str> {
    format!("p{n}").into()
}

fn peer(n: u8, addresses: &BTreeSet<u8>) -> Peer {
    let addresses: Vec<IpAddr> = addresses
        .iter()
        .map(|a| IpAddr::from([192, 0, 2, *a]))
        .collect();
    Peer {
        name: name(n),
        addresses: addresses.into(),
        v4: path(),
        v6: path(),
        source: Source::new("file"),
    }
}

/// A prefix within 10.0.0.0/28, or fd00::/124: small, so that they nest.
fn prefix() -> impl Strategy<Value = Cidr> {
    (any::<bool>(), 0u8..16, 0u8..=4).prop_map(|(v6, host, len)| {
        let (address, base) = match v6 {
            true => (
                IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)]),
                124,
            ),
            false => (IpAddr::from([10, 0, 0, host]), 28),
        };
        Cidr::containing(address, base + len).unwrap()
    })
}

/// What a source may say: five peers at most with addresses of their own, routes to them and to the node.
fn contents() -> impl Strategy<Value = Contents> {
    let owners = proptest::collection::vec(proptest::option::of(0u8..5), 8);
    let routes = proptest::collection::btree_map(prefix(), (0u8..6, 0u32..3), 0..12);
    let families = proptest::collection::vec(0u8..8, 5);
    (owners, routes, families, any::<bool>()).prop_map(|(owners, routes, families, node)| {
        let of = |n: u8| -> BTreeSet<u8> {
            let all = owners.iter().zip(1u8..);
            all.filter(|(owner, _)| **owner == Some(n))
                .map(|(_, a)| a)
                .collect()
        };
        let peers: Vec<Peer> = (0..5)
            .map(|n| peer(n, &of(n)))
            .filter(|p| !p.addresses.is_empty())
            .collect();
        let mut peers = peers;
        for (peer, family) in peers.iter_mut().zip(families) {
            match family {
                0 => peer.v4 = None,
                1 => peer.v6 = None,
                _ => {}
            }
        }
        let known = |prefix: &Cidr, via: &Via| match via {
            Via::Node => true,
            Via::Peer(name) => {
                let mut all = peers.iter();
                all.any(|p| p.name == *name && p.path(prefix.is_ipv6()).is_some())
            }
        };
        let routes = routes.into_iter().map(|(prefix, (n, preference))| Route {
            prefix,
            via: if n == 5 {
                Via::Node
            } else {
                Via::Peer(name(n))
            },
            source: Source::new("file"),
            preference,
        });
        let routes = routes.filter(|r| known(&r.prefix, &r.via)).collect();
        Contents {
            node: Some(Node {
                name: if node { "a".into() } else { "b".into() },
                ..Node::default()
            }),
            peers,
            routes,
        }
    })
}

fn state(contents: Contents) -> State {
    let mut cluster = Cluster::default();
    cluster
        .update(&Source::new("file"), Change::Replace(contents))
        .unwrap();
    cluster.state().clone()
}

fn every_address() -> impl Iterator<Item = IpAddr> {
    let v6 = |host| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host]);
    (0..16)
        .map(|host| IpAddr::from([10, 0, 0, host]))
        .chain((0..16).map(v6))
}

/// Peers all of whose outer addresses pass to others: nobody can have an address that another still has.
fn disowned(old: &State, new: &State) -> BTreeSet<Arc<str>> {
    let passes = |peer: &Peer, address: &IpAddr| {
        new.peers
            .values()
            .any(|other| other.name != peer.name && other.addresses.contains(address))
    };
    let all = old.peers.values();
    let gone = all.filter(|peer| peer.addresses.iter().all(|a| passes(peer, a)));
    gone.map(|peer| peer.name.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_plan_arrives_and_nothing_goes_astray(a in contents(), b in contents()) {
        let (old, new) = (state(a), state(b));
        let plan = diff(&old, &new);
        let disowned = disowned(&old, &new);
        let mut now = old.clone();
        for step in plan.steps() {
            now.apply(step);
            for address in every_address() {
                let (before, after) = (old.route(address), new.route(address));
                let via = now.route(address).map(|r| &r.via);
                // Nowhere but where it went before or will go.
                prop_assert!(
                    via == before.map(|r| &r.via) || via == after.map(|r| &r.via),
                    "{address} goes to {via:?} at {step:?}"
                );
                let both = old.reaches(address).is_some() && new.reaches(address).is_some();
                let lost = match before.map(|r| &r.via) {
                    Some(Via::Peer(name)) => disowned.contains(name),
                    _ => false,
                };
                if both && !lost {
                    prop_assert!(now.reaches(address).is_some(), "{address} is lost at {step:?}");
                }
            }
            // Never are two peers at one outer address.
            let mut outer = BTreeSet::new();
            for address in now.peers.values().flat_map(|p| p.addresses.iter()) {
                prop_assert!(outer.insert(*address), "{address} is two peers' at {step:?}");
            }
            // And never does a route lead to a peer that is not there.
            for route in now.routes.values() {
                if let Via::Peer(name) = &route.via {
                    let path = now.peers.get(name).and_then(|p| p.path(route.prefix.is_ipv6()));
                    prop_assert!(path.is_some(), "{route:?} at {step:?}");
                }
            }
        }
        prop_assert_eq!(&now, &new);
        prop_assert!(diff(&new, &new).is_empty());
    }

    #[test]
    fn a_source_that_speaks_again_gets_the_same_plan_as_the_difference(a in contents(), b in contents()) {
        let file = Source::new("file");
        let mut cluster = Cluster::default();
        cluster.update(&file, Change::Replace(a.clone())).unwrap();
        let before = cluster.state().clone();
        let plan = cluster.update(&file, Change::Replace(b)).unwrap();
        prop_assert_eq!(plan, diff(&before, cluster.state()));
        // All of it back in one: nothing of the way is left behind.
        cluster.update(&file, Change::Replace(a.clone())).unwrap();
        prop_assert_eq!(cluster.state(), &before);
        prop_assert_eq!(cluster.update(&file, Change::Replace(a)).unwrap(), Plan::default());
    }

    #[test]
    fn two_sources_come_to_the_same_in_any_order(a in contents(), b in contents(), c in contents()) {
        let (one, two) = (Source::new("one"), Source::new("two"));
        // The second brings routes only: a peer is one source's.
        let routes_only = |mut contents: Contents, peers: &Contents| {
            contents.node = None;
            contents.peers.clear();
            contents.routes.retain(|r| match &r.via {
                Via::Node => true,
                Via::Peer(name) => {
                    let mut all = peers.peers.iter();
                    all.any(|p| p.name == *name && p.path(r.prefix.is_ipv6()).is_some())
                }
            });
            contents
        };
        let b = routes_only(b, &a);
        let c = routes_only(c, &a);
        let mut first = Cluster::default();
        first.update(&one, Change::Replace(a.clone())).unwrap();
        first.update(&two, Change::Replace(b.clone())).unwrap();
        let mut second = Cluster::default();
        second.update(&one, Change::Replace(a)).unwrap();
        second.update(&two, Change::Replace(c)).unwrap();
        // One by one.
        let gone: Vec<Cidr> = second.state().routes.keys().copied().collect();
        for prefix in gone {
            second.update(&two, Change::RemoveRoute(prefix)).unwrap();
        }
        second.update(&two, Change::Replace(Contents::default())).unwrap();
        for route in b.routes {
            second.update(&two, Change::SetRoute(route)).unwrap();
        }
        prop_assert_eq!(first.state(), second.state());
    }
}

#[test]
fn what_contradicts_is_refused_and_changes_nothing() {
    let file = Source::new("file");
    let mut cluster = Cluster::default();
    let route = |prefix: &str, via: Via| Route {
        prefix: prefix.parse().unwrap(),
        via,
        source: file.clone(),
        preference: 0,
    };
    let to = |n| Via::Peer(name(n));
    let contents = Contents {
        node: None,
        peers: vec![peer(1, &BTreeSet::from([1])), peer(2, &BTreeSet::from([2]))],
        routes: vec![route("10.0.0.0/28", to(1)), route("10.0.0.4/32", to(2))],
    };
    cluster
        .update(&file, Change::Replace(contents.clone()))
        .unwrap();
    let before = cluster.state().clone();
    let no_path = Peer {
        v4: None,
        ..peer(1, &BTreeSet::from([1]))
    };
    let refused = [
        (
            Change::SetPeer(peer(3, &BTreeSet::from([9, 2]))),
            "192.0.2.2 is an address of peer p3 and of peer p2",
        ),
        (
            Change::RemovePeer(name(1)),
            "10.0.0.0/28 leads to peer p1, which is not known",
        ),
        (
            Change::SetPeer(no_path),
            "10.0.0.0/28 leads to peer p1, which has no path",
        ),
        (
            Change::SetRoute(route("10.0.0.8/32", to(9))),
            "peer p9, which is not known",
        ),
        (
            Change::SetRoute(route("192.0.2.0/24", to(2))),
            "192.0.2.1 of peer p1 lies in the pod network 192.0.2.0/24 of peer p2",
        ),
        (
            Change::SetPeer(Peer {
                addresses: [IpAddr::from([10, 0, 0, 3])].into(),
                ..peer(2, &BTreeSet::new())
            }),
            "10.0.0.3 of peer p2 lies in the pod network 10.0.0.0/28 of peer p1",
        ),
        (
            Change::Replace(Contents {
                peers: vec![peer(1, &BTreeSet::from([1])); 2],
                ..Contents::default()
            }),
            "peer p1 is given twice by file",
        ),
        (
            Change::Replace(Contents {
                routes: vec![route("10.0.0.0/28", to(1)), route("10.0.0.0/28", Via::Node)],
                ..contents.clone()
            }),
            "10.0.0.0/28 is given twice by file, as peer p1's and this node's",
        ),
    ];
    for (change, words) in refused {
        let error = cluster.update(&file, change).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(cluster.state(), &before);
    }
    let other = Source::new("bgp");
    let error = cluster
        .update(&other, Change::SetPeer(peer(1, &BTreeSet::from([1]))))
        .unwrap_err();
    assert!(
        error.to_string().contains("known from file already"),
        "{error}"
    );
    // What another source does not say it cannot take away either.
    assert!(
        cluster
            .update(&other, Change::RemovePeer(name(1)))
            .unwrap()
            .is_empty()
    );
    assert!(
        cluster
            .update(&other, Change::RemoveRoute("10.0.0.0/28".parse().unwrap()))
            .unwrap()
            .is_empty()
    );
    assert_eq!(cluster.state(), &before);
}

#[test]
fn of_two_sources_the_preferred_one_is_taken_and_the_other_stays_in_reserve() {
    let (file, bgp) = (Source::new("file"), Source::new("bgp"));
    let mut cluster = Cluster::default();
    let peers = (1..4).map(|n| peer(n, &BTreeSet::from([n]))).collect();
    let all = Contents {
        peers,
        ..Contents::default()
    };
    cluster.update(&file, Change::Replace(all)).unwrap();
    let prefix: Cidr = "10.0.0.0/28".parse().unwrap();
    let route = |n, preference| Route {
        prefix,
        via: Via::Peer(name(n)),
        source: file.clone(),
        preference,
    };
    cluster
        .update(&bgp, Change::SetRoute(route(1, 100)))
        .unwrap();
    let plan = cluster
        .update(&file, Change::SetRoute(route(2, 200)))
        .unwrap();
    assert!(
        matches!(plan.steps(), [Step::SetRoute(r)] if r.via == Via::Peer(name(2))),
        "{plan:?}"
    );
    assert!(
        cluster
            .update(&bgp, Change::SetRoute(route(3, 150)))
            .unwrap()
            .is_empty()
    );
    let plan = cluster.update(&file, Change::RemoveRoute(prefix)).unwrap();
    // In place: there is no moment without a route.
    assert!(
        matches!(plan.steps(), [Step::SetRoute(r)] if r.via == Via::Peer(name(3)) && r.source == bgp),
        "{plan:?}"
    );
    let plan = cluster.update(&bgp, Change::RemoveRoute(prefix)).unwrap();
    assert_eq!(plan.steps(), [Step::RemoveRoute(prefix)]);
    assert_eq!(cluster.prefixes_of("p3").count(), 0);
}
