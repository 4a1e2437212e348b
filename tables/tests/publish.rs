//! From publisher to readers: how fast a change arrives, what it copies, who frees what.

mod cast;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use cast::{node1, paths, pod};
use ringway_packet::mac::MacAddr;
use ringway_tables::{NodeInfo, Peer, Port, PortId, Publisher, Snapshot, Target};

const ENTRIES: u32 = 100_000;
const CHANGES: u32 = 200;

/// A node with a /8 that has `count` pods, with MACs, routes and neighbours of both families.
fn large(count: u32) -> Snapshot {
    let node = NodeInfo {
        cidrs: ["10.0.0.0/8", "fd77:1::/64"]
            .map(|c| c.parse().unwrap())
            .into(),
        ..node1()
    };
    let mut s = Snapshot::new(node).unwrap();
    for n in 1..=count {
        s.add_port(PortId(n), large_pod(n)).unwrap();
    }
    s
}

fn large_pod(n: u32) -> Port {
    let mac = MacAddr::from_u64(0x0258_0000_0000 + u64::from(n));
    let ip6 = 0xfd77_0001 << 96 | 1 << 32 | u128::from(n);
    Port {
        mac,
        ip4: Some(address_of(n)),
        ip6: Some(ip6),
        ..pod(2)
    }
}

fn address_of(n: u32) -> u32 {
    0x0a80_0000 + n
}

#[test]
fn one_change_among_100_000_is_seen_within_a_millisecond() {
    let mut publisher = Publisher::new(large(ENTRIES));
    let mut reader = publisher.reader();
    let seen = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let spinning = thread::spawn({
        let (seen, stop) = (seen.clone(), stop.clone());
        move || {
            while !stop.load(Relaxed) {
                seen.store(reader.load().version, Relaxed);
                std::hint::spin_loop();
            }
        }
    });
    let mut times = Vec::new();
    let mut worst_copy = 0;
    for i in 0..CHANGES {
        let n = i * 499 + 1;
        let before = publisher.current();
        let started = Instant::now();
        let mut next = (*before).clone();
        if i % 2 == 0 {
            next.remove_port(PortId(n)).unwrap();
        } else {
            next.add_port(PortId(ENTRIES + n), large_pod(ENTRIES + n))
                .unwrap();
        }
        let version = publisher.publish(next);
        while seen.load(Relaxed) != version {
            std::hint::spin_loop();
        }
        times.push(started.elapsed());
        worst_copy = worst_copy.max(publisher.current().unshared_bytes(&before));
        drop(before);
    }
    stop.store(true, Relaxed);
    spinning.join().unwrap();
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!(
        "median {median:?}, worst {:?}, most copied {worst_copy} bytes",
        times[times.len() - 1]
    );
    assert!(median < Duration::from_millis(1), "median {median:?}");
    // Four hash tables: a root of up to 1,024 pointers and one shard, or two halves, each; the
    // pointers to the chunks of 100,000 ports, and one chunk.
    let tables = 4 * (1_024 * 24 + 2 * 8_192 + 512);
    let ports = 2 * (ENTRIES as usize / 16 + 1) * 8 + 16 * size_of::<Option<Port>>();
    assert!(worst_copy <= tables + ports, "{worst_copy} bytes copied");
}

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
        assert_eq!(s.routes4.lookup(inside), Some(Target::Path(id.path4())));
    }
    for (n, id) in ids.into_iter().enumerate().rev().collect::<Vec<_>>() {
        assert_eq!(s.remove_peer(id), Some(peer(n as u32)));
    }
    assert_eq!(
        cast::contents(&s),
        cast::contents(&Snapshot::new(node1()).unwrap())
    );
}
