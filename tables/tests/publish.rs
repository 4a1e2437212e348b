//! From publisher to readers: never held up, always whole, freed by the publisher.

mod cast;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use cast::{address_of, large, large_pod, node1, paths};
use ringway_tables::{Peer, PortId, Publisher, Snapshot, Target};

#[test]
fn readers_are_never_held_up_and_see_whole_snapshots_in_order() {
    let mut publisher = Publisher::new(large(100));
    let stop = Arc::new(AtomicBool::new(false));
    let loads = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (mut reader, stop, loads) = (publisher.reader(), stop.clone(), loads.clone());
            thread::spawn(move || {
                let mut last = 0;
                while !stop.load(Relaxed) {
                    let s = reader.load();
                    assert!(s.version >= last, "{} after {last}", s.version);
                    last = s.version;
                    // Odd versions lack pod 50, in every table.
                    let present = last % 2 == 0;
                    assert_eq!(s.port(PortId(50)).is_some(), present);
                    assert_eq!(s.mac(large_pod(50).mac).is_some(), present);
                    let target = if present {
                        Target::Port(PortId(50))
                    } else {
                        Target::Unreachable
                    };
                    assert_eq!(s.routes4.lookup(address_of(50)), Some(target));
                    loads.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for i in 0..2_000 {
        let mut next = (*publisher.current()).clone();
        if i % 2 == 0 {
            next.remove_port(PortId(50)).unwrap();
        } else {
            next.add_port(PortId(50), large_pod(50)).unwrap();
        }
        publisher.publish(next);
    }
    // The publisher sits on a half-built snapshot; readers go on.
    let half_built = (*publisher.current()).clone();
    let before = loads.load(Relaxed);
    let started = Instant::now();
    while loads.load(Relaxed) < before + 10_000 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "readers make no progress"
        );
        thread::yield_now();
    }
    drop(half_built);
    stop.store(true, Relaxed);
    readers
        .into_iter()
        .for_each(|reader| reader.join().unwrap());
}

#[test]
fn replaced_snapshots_live_until_no_reader_holds_them() {
    let mut publisher = Publisher::new(large(10));
    let mut slow = publisher.reader();
    let mut quick = publisher.reader();
    assert_eq!(slow.load().version, 0);
    let first = Arc::downgrade(&publisher.current());
    for version in 1..=3 {
        let next = (*publisher.current()).clone();
        assert_eq!(publisher.publish(next), version);
        assert_eq!(quick.load().version, version);
    }
    // `slow` holds version 0; versions 1 and 2 have gone as soon as `quick` moved on.
    assert_eq!(publisher.reclaim(), 1);
    assert!(first.upgrade().is_some());
    assert_eq!(slow.load().version, 3);
    // The reader has let go, and yet it is the publisher who frees.
    assert!(first.upgrade().is_some());
    assert_eq!(publisher.reclaim(), 0);
    assert!(first.upgrade().is_none());
}

#[test]
fn a_new_reader_starts_with_the_current_snapshot() {
    let mut publisher = Publisher::new(Snapshot::default());
    let next = (*publisher.current()).clone();
    publisher.publish(next);
    let mut reader = publisher.reader();
    assert_eq!(reader.load().version, 1);
    assert_eq!(reader.clone().load().version, 1);
    // Readers outlive the publisher.
    drop(publisher);
    assert_eq!(reader.load().version, 1);
}

#[test]
fn a_thousand_peers_and_their_removal() {
    let mut s = Snapshot::new(node1()).unwrap();
    let peer = |n: u32| Peer {
        name: format!("node{n}").into(),
        addresses: [std::net::IpAddr::from((0xac10_0000 + n).to_be_bytes())].into(),
        cidrs: [format!("10.{}.{}.0/24", 100 + n / 256, n % 256)
            .parse()
            .unwrap()]
        .into(),
    };
    let ids: Vec<_> = (0..1_000)
        .map(|n| s.add_peer(peer(n), paths()).unwrap())
        .collect();
    assert_eq!(s.sources.len(), 1_000);
    for (n, id) in (0..1_000).zip(&ids) {
        assert!(
            s.clone()
                .add_peer(
                    Peer {
                        name: "x".into(),
                        ..peer(n)
                    },
                    paths()
                )
                .is_err()
        );
        let inside = 0x0a64_0000 + (n << 8) + 5;
        let path = s.path_of(*id, false).unwrap();
        assert_eq!(s.routes4.lookup(inside), Some(Target::Path(path)));
    }
    for (n, id) in ids.into_iter().enumerate().rev().collect::<Vec<_>>() {
        assert_eq!(s.remove_peer(id), Some(peer(n as u32)));
    }
    assert_eq!(
        cast::contents(&s),
        cast::contents(&Snapshot::new(node1()).unwrap())
    );
}
