use std::time::Instant;

use ringway_packet::mac::MacAddr;

use super::*;
use crate::netlink::{LinkChange, Netlink, Route};
use crate::reconcile::OWNER;
use crate::testing::{Wire, in_netns, set_up};
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn read(datagram: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    message::read(datagram, |change| changes.push(change));
    changes
}

/// A message of a type with a body, padded.
fn netlink(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// ndmsg of interface 7, an attribute that does not matter, NDA_DST.
fn neighbour(family: u8, address: &[u8]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(7u32.to_ne_bytes());
    body.extend([0; 4]);
    for (kind, value) in [(9u16, &[1, 2, 3, 4][..]), (1, address)] {
        body.extend((4 + value.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
    }
    body
}

#[test]
fn what_a_message_is_about() {
    let link = [&[0; 4][..], &7u32.to_ne_bytes(), &[0; 8]].concat();
    let all = [
        netlink(16, &link),
        netlink(17, &link),
        netlink(20, &[]),
        netlink(25, &[]),
        netlink(32, &[]),
        netlink(104, &[]),
        netlink(28, &neighbour(2, &[192, 0, 2, 9])),
        netlink(29, &neighbour(10, &[0xfe; 16])),
    ];
    let v6 = IpAddr::from([0xfe; 16]);
    let expected = [
        Change::Link { index: 7 },
        Change::Link { index: 7 },
        Change::Addresses,
        Change::Routes,
        Change::Routes,
        Change::Routes,
        Change::Neighbour {
            index: 7,
            ip: ip("192.0.2.9"),
        },
        Change::Neighbour { index: 7, ip: v6 },
    ];
    assert_eq!(read(&all.concat()), expected);
    // A bridge's ports and its forwarding database; a kind that is not known.
    let bridge = [&[7, 0, 0, 0][..], &7u32.to_ne_bytes(), &[0; 8]].concat();
    assert_eq!(read(&netlink(16, &bridge)), []);
    assert_eq!(read(&netlink(28, &neighbour(7, &[2; 6]))), []);
    assert_eq!(read(&netlink(9999, &[1])), []);
    assert_eq!(read(&[]), []);
}

#[test]
fn what_cannot_be_read_is_an_overrun() {
    let whole = netlink(28, &neighbour(2, &[192, 0, 2, 9]));
    for cut in 1..whole.len() {
        // Cut off, and cut off with a length to match.
        assert_eq!(read(&whole[..cut]), [Change::Overrun], "{cut}");
        let mut shorter = whole[..cut].to_vec();
        if cut >= 4 {
            shorter[..4].copy_from_slice(&(cut as u32).to_ne_bytes());
            assert_eq!(read(&shorter), [Change::Overrun], "{cut}");
        }
    }
    for wrong in [&[1, 2, 3][..], &[1; 5], &[1; 17]] {
        let message = netlink(28, &neighbour(2, wrong));
        assert_eq!(read(&message), [Change::Overrun], "{wrong:?}");
    }
    assert_eq!(read(&netlink(16, &[0; 6])), [Change::Overrun]);
    let endless = [0u8; 32];
    assert_eq!(read(&endless), [Change::Overrun]);
}

#[test]
fn a_set_that_grows_too_large_becomes_an_overrun() {
    let mut pending = Pending::default();
    for _ in 0..2 {
        for index in 0..CAPACITY as u32 {
            pending.add(Change::Link { index });
        }
        assert_eq!(pending.set.len(), CAPACITY);
    }
    pending.add(Change::Routes);
    pending.add(Change::Addresses);
    assert_eq!(
        pending.set.into_iter().collect::<Vec<_>>(),
        [Change::Overrun]
    );
}

/// Reads until the change has come; what else has come is returned.
fn wait_for(watch: &Watch, wanted: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut others = Vec::new();
    loop {
        match watch.changes().recv_timeout(Duration::from_secs(5)) {
            Ok(change) if wanted(&change) => return others,
            Ok(change) => others.push(change),
            Err(e) => panic!("{e}, after {others:?}"),
        }
    }
}

/// Reads what is there and what comes within a while.
fn settle(watch: &Watch) -> Vec<Change> {
    let mut all = Vec::new();
    while let Ok(change) = watch.changes().recv_timeout(Duration::from_millis(300)) {
        all.push(change);
    }
    all
}

#[test]
fn every_kind_of_change_is_reported() {
    in_netns(|| {
        let mut w = Wire::new();
        let index = w.here.index;
        let watch = Watch::open().unwrap();
        let mtu = LinkChange {
            mtu: Some(1400),
            ..LinkChange::default()
        };
        w.netlink.change_link(index, &mtu).unwrap();
        wait_for(&watch, |c| *c == Change::Link { index });
        for (address, length) in [("192.0.2.9", 24), ("2001:db8::9", 64)] {
            settle(&watch);
            w.netlink.add_address(index, ip(address), length).unwrap();
            wait_for(&watch, |c| *c == Change::Addresses);
        }
        for (destination, prefix_len, gateway) in [
            ("198.51.100.0", 24, "192.0.2.254"),
            ("2001:db8:2::", 48, "fe80::1"),
        ] {
            settle(&watch);
            let mut route = Route {
                protocol: crate::netlink::STATIC,
                destination: ip(destination),
                prefix_len,
                gateway: Some(ip(gateway)),
                onlink: false,
                source: None,
                interface: index,
            };
            w.netlink.set_route(&route).unwrap();
            wait_for(&watch, |c| *c == Change::Routes);
            w.netlink.remove_route(&route).unwrap();
            // With our mark they lead to pods: another matter, come and gone.
            settle(&watch);
            route.protocol = OWNER;
            let own = |all: BTreeSet<Change>| {
                all.contains(&Change::OwnRoutes) && !all.contains(&Change::Routes)
            };
            w.netlink.set_route(&route).unwrap();
            assert!(own(settle(&watch).into_iter().collect()));
            w.netlink.remove_route(&route).unwrap();
            assert!(own(settle(&watch).into_iter().collect()));
        }
        for address in ["192.0.2.2", "2001:db8::2"] {
            let ip = ip(address);
            w.netlink.probe_neighbour(index, ip).unwrap();
            wait_for(&watch, |c| *c == Change::Neighbour { index, ip });
        }
        set_up(&mut w.node_netlink, w.there.index, false);
        wait_for(&watch, |c| *c == Change::Link { index });
    });
}

#[test]
fn a_storm_is_few_changes_and_then_the_watch_still_watches() {
    in_netns(|| {
        let mut w = Wire::new();
        let index = w.here.index;
        let watch = Watch::open().unwrap();
        // More neighbours than the channel and the set hold, while nobody reads; one at a time,
        // because all namespaces share the limits of one table.
        for n in 0..4 * CAPACITY as u32 {
            let ip = IpAddr::from((0xc612_0000 + n).to_be_bytes());
            let mac = MacAddr([2, 0, 0, 0, 0, 1]);
            w.netlink.set_neighbour(index, ip, mac).unwrap();
            w.netlink.remove_neighbour(index, ip).unwrap();
        }
        let all = settle(&watch);
        assert!(all.contains(&Change::Overrun), "{} changes", all.len());
        assert!(all.len() < 1000, "{} changes", all.len());
        set_up(&mut w.node_netlink, w.there.index, false);
        wait_for(&watch, |c| *c == Change::Link { index });
    });
}

#[test]
fn one_change_many_times_is_one() {
    in_netns(|| {
        let mut w = Wire::new();
        let watch = Watch::open().unwrap();
        let started = Instant::now();
        for n in 0..200u32 {
            let change = LinkChange {
                mtu: Some(1400 + n % 2),
                ..LinkChange::default()
            };
            w.netlink.change_link(w.here.index, &change).unwrap();
        }
        let index = w.here.index;
        let links = settle(&watch)
            .into_iter()
            .filter(|c| [Change::Link { index }, Change::Overrun].contains(c))
            .count();
        // The thread that reads may be late, so much that the kernel has dropped messages: one change as well.
        let rounds = started.elapsed().as_millis() / INTERVAL.as_millis() + 2;
        assert!(
            (1..=rounds as usize).contains(&links),
            "{links} of {rounds}"
        );
    });
}

/// Threads of this process called netlink-watch, by their ids.
fn threads() -> BTreeSet<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter(|t| {
            let name = std::fs::read_to_string(t.path().join("comm"));
            name.is_ok_and(|n| n.trim() == "netlink-watch")
        })
        .map(|t| t.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_thread_ends_with_the_watch_and_its_socket_stays_where_it_was_opened() {
    in_netns(|| {
        let before = threads();
        let watch = Watch::open().unwrap();
        let changes = watch.changes().clone();
        let end = Instant::now() + Duration::from_secs(5);
        while threads().is_subset(&before) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ours = &threads() - &before;
        assert!(!ours.is_empty());
        // Another namespace is not heard.
        let node = crate::testing::Pod::new();
        let mut there = node.netlink();
        let lo = there.link("lo").unwrap().index;
        set_up(&mut there, lo, true);
        assert_eq!(settle(&watch), []);
        let started = Instant::now();
        drop(watch);
        assert!(started.elapsed() < Duration::from_secs(1));
        assert!(changes.try_recv().is_err_and(|e| e.is_disconnected()));
        // Of other tests, some may have come and gone.
        assert_ne!(threads().intersection(&ours).count(), ours.len());
        let mut here = Netlink::open().unwrap();
        assert_eq!(here.links().unwrap().len(), 1);
    });
}
