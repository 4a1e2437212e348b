//! Rounds over real sockets on the loopback interface.

mod memory;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_encap::Encap;
use ringway_ports::Batch;
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_switch::{Contents, Counters, DropReason, UdpPorts};
use ringway_tables::NodeInfo;

use super::*;
use crate::{Entry, UnderlaySocket};

/// A socket whose receive buffer holds next to nothing.
fn narrow() -> (UnderlaySocket, SocketAddr) {
    let config = SocketConfig {
        rcvbuf: 4096,
        gro: false,
        ..SocketConfig::new("127.0.0.1:0".parse().unwrap())
    };
    let socket = UdpUnderlay::open(&config).unwrap();
    let fd = socket.rx_fds()[0].try_clone().unwrap();
    let address = UdpSocket::from(fd).local_addr().unwrap();
    let underlay = UnderlaySocket {
        socket,
        encap: Encap::Vxlan { vni: 1 },
        v6: false,
        unfinished: false,
    };
    (underlay, address)
}

#[test]
fn what_a_full_receive_buffer_lost_is_received_and_dropped() {
    let (underlay, address) = narrow();
    let mut queues = Queues::<Kernel>::new(vec![underlay], (0, 1), 1500);
    let counters = Arc::new(Counters::default());
    let mut pipeline = Pipeline::new(counters.clone(), UdpPorts::default());
    let snapshot = Snapshot::new(NodeInfo::default()).unwrap();
    let mut drain = |queues: &mut Queues| {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let mut round = Round {
                snapshot: &snapshot,
                pipeline: &mut pipeline,
                queues,
                observer: None,
                now: 0,
            };
            // A port below those that say a lane.
            let outcome = round.visit(QueueId::BulkSocket(0), Batch::MAX_FRAMES);
            queues.flush();
            if outcome == Outcome::Empty {
                break;
            }
            assert!(Instant::now() < end, "{outcome:?}");
        }
    };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        sender.send_to(&[0; 1000], address).unwrap();
    }
    drain(&mut queues);
    let read = counters.received.frames.get();
    assert!((1..100).contains(&read), "{read} read");
    // How many were lost, the next one says.
    sender.send_to(&[0; 1000], address).unwrap();
    drain(&mut queues);
    let drops = |reason: DropReason| counters.drops[reason.index()].get();
    assert_eq!(drops(DropReason::UnknownPeer), read + 1);
    assert_eq!(drops(DropReason::SocketOverflow), 100 - read);
    assert_eq!(counters.received.frames.get(), 101);
    assert_eq!(counters.received.packets.get(), 101);
    assert_eq!(counters.balance(), (0, 0));
    let received = queues.uplink.received;
    assert_eq!(
        (received.datagrams, received.overflow),
        (read + 1, 100 - read)
    );
    // The first of one moment is kept, from whom is not known; of what was not read there is nothing.
    let kept = queues.dropped().of(DropReason::UnknownPeer);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].entry, Entry::Underlay);
    assert_eq!((kept[0].contents, kept[0].len), (Contents::Datagram, 1000));
    assert_eq!(kept[0].name, None);
    assert!(queues.dropped().of(DropReason::SocketOverflow).is_empty());
    // A socket in its place has lost nothing yet, whatever this one had.
    let (other, address) = narrow();
    queues.uplink.set(0, Some(other));
    sender.send_to(&[0; 1000], address).unwrap();
    drain(&mut queues);
    assert_eq!(drops(DropReason::SocketOverflow), 100 - read);
    assert_eq!(queues.uplink.received.datagrams, read + 2);
}

#[test]
fn what_stands_in_the_socket_for_bulk_has_its_flow_told() {
    let (underlay, address) = narrow();
    let mut queues = Queues::<Kernel>::new(vec![underlay], (0, 1), 1500);
    let mut pipeline = Pipeline::new(Arc::new(Counters::default()), UdpPorts::default());
    let snapshot = Snapshot::new(NodeInfo::default()).unwrap();
    // A port below those that say a lane.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    // What stood for 6 ms, read at these milliseconds, so many at once.
    let mut told = |queues: &mut Queues, budget: usize, times: &[u64]| {
        let before = queues.uplink.received.congested;
        for _ in 0..times.len() + 1 {
            sender.send_to(&[0; 9], address).unwrap();
        }
        std::thread::sleep(Duration::from_millis(6));
        for now in times {
            let mut round = Round {
                snapshot: &snapshot,
                pipeline: &mut pipeline,
                queues,
                observer: None,
                now: now * 1_000_000,
            };
            round.visit(QueueId::BulkSocket(0), budget);
            queues.flush();
        }
        queues.uplink.received.congested - before
    };
    assert_eq!(told(&mut queues, 1, &[1000, 1050, 1099]), 0);
    assert_eq!(told(&mut queues, 1, &[1100, 1101, 1199, 1200]), 2);
    // When it was read to the end, what stands again has an interval.
    assert_eq!(told(&mut queues, 64, &[1201; 3]), 0);
    assert_eq!(told(&mut queues, 1, &[1600, 1650]), 0);
}
