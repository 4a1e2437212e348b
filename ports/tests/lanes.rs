//! Lanes of the underlay between two namespaces: which socket of a group a datagram gets to.

mod common;

use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;

use common::{Netns, eventually, pool, veth_pair};
use ringway_ports::Pool;
use ringway_ports::socket::{
    Dest, FIRST_PORT, Lane, Piece, Received, SocketConfig, Src, TxReport, UdpUnderlay,
};

const WORKERS: usize = 3;

fn config(address: &str) -> SocketConfig {
    SocketConfig {
        workers: WORKERS as u32,
        ..SocketConfig::new(format!("{address}:8472").parse().unwrap())
    }
}

/// Sockets of all workers, opened in order.
fn group(ns: &Netns, address: &str) -> Vec<UdpUnderlay> {
    let open = || UdpUnderlay::open(&config(address)).unwrap();
    (0..WORKERS).map(|_| ns.enter(open)).collect()
}

/// Sends a datagram that says its number.
fn send(tx: &mut UdpUnderlay, pool: &Pool, dest: &str, hash: u32, number: u32) {
    let dest = Dest::from(
        format!("{dest}:8472")
            .parse::<std::net::SocketAddr>()
            .unwrap(),
    );
    let (off, bytes) = tx.slab(4).unwrap();
    bytes.copy_from_slice(&number.to_be_bytes());
    let piece = Piece {
        src: Src::Slab,
        off,
        len: 4,
    };
    tx.push(dest, hash, 0, &[piece]).unwrap();
    let mut report = TxReport::new();
    tx.flush(pool, &mut report);
    assert_eq!((report.datagrams, report.drops.total()), (1, 0));
}

/// So many datagrams: at which worker and lane each number came, and from which port.
fn received(
    group: &mut [UdpUnderlay],
    pool: &mut Pool,
    count: usize,
) -> HashMap<u32, (usize, Lane, u16)> {
    let (mut all, mut got) = (HashMap::new(), Received::new());
    eventually(&format!("{count} datagrams"), || {
        for (worker, underlay) in group.iter_mut().enumerate() {
            for lane in Lane::ALL {
                underlay.receive(lane, pool, &mut got, 64).unwrap();
                for message in &got.datagrams {
                    let bytes = &pool.bytes(message.buf)[message.start as usize..];
                    for number in bytes[..message.len as usize].chunks(4) {
                        let number = u32::from_be_bytes(number.try_into().unwrap());
                        let before = all.insert(number, (worker, lane, message.source_port));
                        assert_eq!(before, None, "{number} came twice");
                    }
                }
                got.recycle(pool);
            }
        }
        (all.len() == count).then_some(())
    });
    all
}

#[test]
fn a_flow_has_one_worker_and_the_lane_that_its_sender_says() {
    let (a, b) = veth_pair();
    for (from, to) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
        let bracketed = |address: &str| match address.contains(':') {
            true => format!("[{address}]"),
            false => address.to_owned(),
        };
        let (from, to) = (bracketed(from), bracketed(to));
        let many = SocketConfig {
            tx_ports: 32,
            ..config(&from)
        };
        let mut tx = a.enter(|| UdpUnderlay::open(&many)).unwrap();
        let (mut group, mut pool) = (group(&b, &to), pool());
        let flows = 64;
        for flow in 0..flows {
            let hash = flow << 25;
            send(&mut tx, &pool, &to, Lane::Quiet.of_hash(hash), 2 * flow);
            send(&mut tx, &pool, &to, Lane::Bulk.of_hash(hash), 2 * flow + 1);
        }
        let got = received(&mut group, &mut pool, 2 * flows as usize);
        let mut workers = HashSet::new();
        for flow in 0..flows {
            let (quiet, bulk) = (got[&(2 * flow)], got[&(2 * flow + 1)]);
            assert_eq!((quiet.1, bulk.1), (Lane::Quiet, Lane::Bulk));
            assert_eq!((quiet.0, quiet.2 + 1), (bulk.0, bulk.2));
            assert!(quiet.2 >= FIRST_PORT);
            workers.insert(quiet.0);
        }
        assert_eq!(workers.len(), WORKERS);
    }
}

#[test]
fn of_other_ports_nothing_is_known_but_that_a_flow_has_one_worker() {
    let (a, b) = veth_pair();
    let (mut group, mut pool) = (group(&b, "10.9.0.2"), pool());
    for port in [1024, 32_768, 49_153, FIRST_PORT - 2, FIRST_PORT - 1] {
        let socket = a.enter(|| UdpSocket::bind(("10.9.0.1", port))).unwrap();
        for number in 0..4u32 {
            socket
                .send_to(&number.to_be_bytes(), "10.9.0.2:8472")
                .unwrap();
        }
        let got = received(&mut group, &mut pool, 4);
        let expected = (usize::from(port) % WORKERS, Lane::Bulk, port);
        assert_eq!(
            got,
            (0..4)
                .map(|number| (number, expected))
                .collect::<HashMap<_, _>>()
        );
    }
}

/// Whoever is left has it all, wherever; a group made anew is as at first.
#[test]
fn when_one_of_a_group_closes_nothing_is_lost() {
    let (a, b) = veth_pair();
    let mut tx = a.enter(|| UdpUnderlay::open(&config("10.9.0.1"))).unwrap();
    let mut pool = pool();
    let mut all = |group: &mut Vec<UdpUnderlay>| {
        for number in 0..64 {
            send(&mut tx, &pool, "10.9.0.2", number << 26, number);
        }
        received(group, &mut pool, 64)
    };
    let mut members = group(&b, "10.9.0.2");
    let first = all(&mut members);
    // By lane: of the pool of ports half are in each.
    assert_eq!(
        first
            .values()
            .filter(|(_, lane, _)| *lane == Lane::Bulk)
            .count(),
        32
    );
    drop(members.remove(0));
    all(&mut members);
    drop(members);
    assert_eq!(all(&mut group(&b, "10.9.0.2")), first);
}
