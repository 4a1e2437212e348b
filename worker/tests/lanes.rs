//! Lanes of real TAPs: what becomes bulk, what does not, and that no datagram passes another of its flow.
//! Needs root.

mod node;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBuf, UdpGsoSegment};
use ringway_kernel::netns::run_in;
use ringway_kernel::pod::interface::Making;
use ringway_kernel::testing::{Pod, in_netns};
use ringway_worker::Polling;

use node::*;

const FLOWS: usize = 12;
/// Lane changes over which the order is looked at, with `RINGWAY_LONG` and without.
const CHANGES: (u64, u64) = (10_000, 2_000);
const PATIENCE: Duration = Duration::from_secs(60);
const SEGMENT: usize = 1400;

/// Pods 2 and 3 on a node with workers.
struct Lab {
    node: Node,
    pods: Vec<(Pod, Making)>,
}

impl Lab {
    /// `None` if the kernel cannot steer, which is said.
    fn new(workers: usize) -> Option<Lab> {
        let mut node = Node::new(workers, Polling::Adaptive);
        let mut pods = Vec::new();
        for n in 2..4 {
            let inside = Pod::new();
            let making = interface_of(n, &inside, workers);
            if making.queues().lanes.is_none() {
                println!("SKIPPED: this kernel cannot steer a TAP's frames");
                return None;
            }
            node.attach_all(n, &making.queues(), None);
            pods.push((inside, making));
        }
        Some(Lab { node, pods })
    }

    fn bind(&self, n: u32) -> UdpSocket {
        let bind = || UdpSocket::bind((ip(n, false), 0)).unwrap();
        run_in(&self.pods[n as usize - 2].0.netns(), bind).unwrap()
    }

    /// Lane changes of pod 2's flows.
    fn changes(&self) -> u64 {
        let queues = self.pods[0].1.queues();
        queues.lanes.map_or(0, |lanes| lanes.slots.changes())
    }
}

/// Numbers datagrams and sends them, now in bursts, now one by one.
fn send(source: &UdpSocket, mut random: u64, over: &AtomicBool) {
    let mut bytes = vec![0; 40 * SEGMENT];
    let mut number = 0_u64;
    while !over.load(Relaxed) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (bursts, segments) = match random >> 60 {
            0..7 => (2 + (random >> 40) % 6, 40),
            7..9 => (30, 1),
            _ => (1, 1),
        };
        for _ in 0..bursts {
            for segment in bytes[..segments * SEGMENT].chunks_mut(SEGMENT) {
                segment[..8].copy_from_slice(&number.to_be_bytes());
                number += 1;
            }
            // What the queue does not take is a gap.
            let _ = source.send(&bytes[..segments * SEGMENT]);
        }
        let pause = match (random >> 50) % 4 {
            // Frames of it may have been lost: it comes back from such a silence alone.
            _ if (random >> 32).is_multiple_of(96) => Duration::from_millis(1100),
            0 => Duration::from_millis(10),
            1 => Duration::from_millis(3),
            2 => Duration::from_micros(200),
            _ => Duration::ZERO,
        };
        thread::sleep(pause);
    }
}

/// Datagrams that came, and those before which a later one came.
fn receive(sink: &UdpSocket, over: &AtomicBool) -> (u64, u64) {
    let (mut next, mut came, mut passed) = (0, 0, 0);
    let mut bytes = [0; SEGMENT];
    while !over.load(Relaxed) {
        if sink.recv(&mut bytes).is_ok() {
            let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            came += 1;
            passed += u64::from(number < next);
            next = next.max(number + 1);
        }
    }
    (came, passed)
}

/// Both at the same time overflow the queues, and what loses frames changes lanes seldom.
static TURN: Mutex<()> = Mutex::new(());

fn order_is_kept(workers: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_netns(move || {
        let Some(lab) = Lab::new(workers) else { return };
        let (sent, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (came, passed) = (AtomicU64::new(0), AtomicU64::new(0));
        let wanted = match std::env::var_os("RINGWAY_LONG") {
            Some(_) => CHANGES.0,
            None => CHANGES.1,
        };
        let begin = Instant::now();
        thread::scope(|scope| {
            for flow in 0..FLOWS {
                let (source, sink) = (lab.bind(2), lab.bind(3));
                setsockopt(&sink, RcvBufForce, &(16 << 20)).unwrap();
                setsockopt(&source, SndBuf, &(1 << 20)).unwrap();
                setsockopt(&source, UdpGsoSegment, &(SEGMENT as i32)).unwrap();
                sink.set_read_timeout(Some(Duration::from_millis(100)))
                    .unwrap();
                source.connect(sink.local_addr().unwrap()).unwrap();
                let (sent, over, came, passed) = (&sent, &over, &came, &passed);
                scope.spawn(move || send(&source, flow as u64 * 7919 + 1, sent));
                scope.spawn(move || {
                    let seen = receive(&sink, over);
                    came.fetch_add(seen.0, Relaxed);
                    passed.fetch_add(seen.1, Relaxed);
                });
            }
            while lab.changes() < wanted && begin.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(20));
            }
            sent.store(true, Relaxed);
            thread::sleep(Duration::from_millis(300));
            over.store(true, Relaxed);
        });
        let (changes, took) = (lab.changes(), begin.elapsed());
        let (came, passed) = (came.into_inner(), passed.into_inner());
        println!("{changes} lane changes in {took:.1?}, {came} datagrams, {passed} out of order");
        assert_eq!(
            passed, 0,
            "of {came} datagrams, over {changes} lane changes"
        );
        assert!(changes >= wanted, "{changes} lane changes in {took:?}");
        lab.node.stop();
    });
}

#[test]
fn no_datagram_passes_another_of_its_flow_when_that_changes_lanes() {
    order_is_kept(1);
}

#[test]
fn nor_with_two_workers() {
    order_is_kept(2);
}
