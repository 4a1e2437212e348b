//! Bursts of small packets: what a pod or the node sends at once waits in the TAP's queue until a worker
//! reads it, and none of it is lost.

use crate::common::{LIMIT, assert_none};
use crate::harness::network_test;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt::RcvBufForce,
};
use ringway_perf::lab::{Family, Mode, Netns, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Packets of a burst, and how often it is sent.
const BURSTS: [(usize, usize); 2] = [(400, 20), (900, 10)];
/// Bytes of a datagram, the first eight of which number it.
const BYTES: usize = 100;
/// Room for the largest burst at the receiver, whatever a datagram costs it there.
const RECEIVE_BUFFER: usize = 64 << 20;

#[test]
fn no_packet_of_a_burst_is_lost() {
    let name = "no_packet_of_a_burst_is_lost";
    network_test(name, Duration::from_secs(120), || {
        let mut failures = Vec::new();
        for workers in [1, 2] {
            let options = RingwayOptions {
                workers,
                ..RingwayOptions::default()
            };
            let mut topology = Topology::ringway(Mode::Cloud, &options).unwrap();
            let p1 = topology.n1.add_pod().unwrap();
            let p2 = topology.n1.add_pod().unwrap();
            let node = topology.n1.ns.clone();
            for family in Family::BOTH {
                let ways = [
                    ("pod to pod", &p1.ns, &p2.ns, p2.ip(family)),
                    ("node to pod", &node, &p2.ns, p2.ip(family)),
                    ("pod to node", &p1.ns, &node, topology.n1.gateway(family)),
                ];
                for (way, from, to, address) in ways {
                    let what = format!("{workers} workers, {way}, {family}");
                    failures.extend(bursts(&what, from, to, address));
                }
            }
            let drops = topology.n1.drops().unwrap();
            if drops.total() > 0 {
                failures.push(format!("{workers} workers: dropped {drops}"));
            }
        }
        assert_none(&failures);
    });
}

/// Sends the bursts, each when all that is left of the one before has been read.
fn bursts(what: &str, from: &Netns, to: &Netns, address: IpAddr) -> Vec<String> {
    // Neighbours are resolved, which has a queue of its own.
    assert!(ping(from, address, 1, 56, LIMIT).unwrap().all(), "{what}");
    let sink = to.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    setsockopt(&sink, RcvBufForce, &RECEIVE_BUFFER).unwrap();
    sink.set_read_timeout(Some(LIMIT)).unwrap();
    let target = sink.local_addr().unwrap();
    let source = from
        .run(|| {
            let any = if target.is_ipv4() { "0.0.0.0" } else { "::" };
            UdpSocket::bind((any, 0))
        })
        .unwrap()
        .unwrap();
    let mut failures = Vec::new();
    for (burst, rounds) in BURSTS {
        let mut arrived = 0;
        for _ in 0..rounds {
            send(&source, target, burst);
            arrived += receive(&sink, burst);
        }
        let sent = burst * rounds;
        println!("{what}: {arrived} of {sent}, {burst} at once");
        if arrived != sent {
            failures.push(format!("{what}: {arrived} of {sent}, {burst} at once"));
        }
    }
    failures
}

/// One system call: nothing is as fast.
fn send(source: &UdpSocket, target: SocketAddr, burst: usize) {
    let payloads: Vec<[u8; BYTES]> = (0..burst as u64)
        .map(|i| {
            let mut payload = [0; BYTES];
            payload[..8].copy_from_slice(&i.to_be_bytes());
            payload
        })
        .collect();
    let slices: Vec<[IoSlice<'_>; 1]> = payloads.iter().map(|p| [IoSlice::new(p)]).collect();
    let target = SockaddrStorage::from(target);
    let addresses = vec![Some(target); burst];
    let mut headers = MultiHeaders::preallocate(burst, None);
    let sent = sendmmsg(
        source.as_raw_fd(),
        &mut headers,
        &slices,
        &addresses,
        [],
        MsgFlags::empty(),
    )
    .unwrap();
    assert_eq!(sent.count(), burst);
}

/// How many different ones of a burst arrive; a silence ends it, longer than any worker sleeps on a busy
/// machine.
fn receive(sink: &UdpSocket, burst: usize) -> usize {
    let mut seen = BTreeSet::new();
    let mut buffer = [0; BYTES + 1];
    while seen.len() < burst {
        match sink.recv(&mut buffer) {
            Ok(BYTES) => {
                let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
                assert!(
                    number < burst as u64 && seen.insert(number),
                    "{number} again"
                );
            }
            Ok(other) => panic!("a datagram of {other} bytes"),
            Err(_) => break,
        }
    }
    seen.len()
}
