//! Lanes of real TAPs and of the underlay: no datagram passes another of its flow when that changes lanes. Needs
//! root.

mod node;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBuf, UdpGsoSegment};
use ringway_encap::Encap;
use ringway_kernel::netlink::{LinkChange, Netlink};
use ringway_kernel::netns::run_in;
use ringway_kernel::pod::interface::Making;
use ringway_kernel::testing::{Pod, in_netns};
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_worker::{Command, Observed, Observer, ObserverId, Outer, Polling, UnderlaySocket};

use node::*;

const PATIENCE: Duration = Duration::from_secs(600);
const SEGMENT: usize = 1400;

/// Two pods, on a node with workers or each on one of its own.
struct Lab {
    nodes: Vec<Node>,
    /// By their numbers: that which sends, and that which receives.
    pods: Vec<(u32, Pod, Making)>,
    /// Lane changes in the underlay.
    outer: Arc<AtomicU64>,
}

/// A pod with lanes on a node; `None` if the kernel cannot steer, which is said.
fn attach(node: &mut Node, n: u32, workers: usize) -> Option<(u32, Pod, Making)> {
    let inside = Pod::new();
    let making = interface_of(n, &inside, workers);
    if making.queues().lanes.is_none() {
        println!("SKIPPED: this kernel cannot steer a TAP's frames");
        return None;
    }
    node.attach_all(n, &making.queues(), None);
    Some((n, inside, making))
}

/// Sockets of all workers of a node on one port.
fn sockets(address: &str, workers: usize) -> (SocketAddr, Vec<Vec<UnderlaySocket>>) {
    let mut config = SocketConfig {
        workers: workers as u32,
        ..SocketConfig::new(format!("{address}:0").parse().unwrap())
    };
    let open = |_| {
        let socket = UdpUnderlay::open(&config).unwrap();
        config.local = address_of(&socket);
        vec![UnderlaySocket {
            socket,
            encap: Encap::Udp,
            v6: false,
            unfinished: false,
        }]
    };
    let all = (0..workers).map(open).collect();
    (config.local, all)
}

/// Counts how often a flow's outer source port says another lane than before.
struct OuterLanes {
    known: HashMap<u32, u16>,
    changes: Arc<AtomicU64>,
}

impl Observer for OuterLanes {
    fn verdict(&mut self, _: &Observed<'_>) {}

    fn outer(&mut self, outer: &Outer<'_>) {
        // Less the bit of the lane.
        let (flow, lane) = (outer.tunnel.hash << 1, outer.src_port % 2);
        if self
            .known
            .insert(flow, lane)
            .is_some_and(|before| before != lane)
        {
            self.changes.fetch_add(1, Relaxed);
        }
    }
}

/// Makes a worker slow, so that bulk stands in the receive socket.
struct Slow;

impl Observer for Slow {
    fn verdict(&mut self, _: &Observed<'_>) {
        thread::sleep(Duration::from_millis(1));
    }

    fn outer(&mut self, _: &Outer<'_>) {}
}

impl Lab {
    /// Both on one node; `None` if the kernel cannot steer.
    fn one_node(workers: usize) -> Option<Lab> {
        let mut node = Node::new(workers, Polling::Adaptive);
        let pods: Option<_> = [2, 3]
            .map(|n| attach(&mut node, n, workers))
            .into_iter()
            .collect();
        Some(Lab {
            nodes: vec![node],
            pods: pods?,
            outer: Arc::default(),
        })
    }

    /// Each on one of its own.
    fn two_nodes(workers: usize) -> Option<Lab> {
        let mut netlink = Netlink::open().unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        let lo = netlink.link("lo").unwrap().index;
        netlink.change_link(lo, &up).unwrap();
        let ends = ["127.0.0.1", "127.0.0.2"].map(|address| sockets(address, workers));
        let addresses = [0, 1].map(|i: usize| ends[i].0);
        let mut pods = Vec::new();
        let mut nodes = Vec::new();
        for ((net, n), (own, sockets)) in [(1, 2), (2, 259)].into_iter().zip(ends) {
            let mut node = Node::of_net(net, Polling::Adaptive, sockets);
            let peer = addresses[2 - net as usize];
            let between = [own.ip(), peer.ip()];
            node.publish_peer_of_net(3 - net, Encap::Udp, between, peer.port());
            pods.push(attach(&mut node, n, workers)?);
            for worker in &node.workers {
                worker.send(Command::Listen);
            }
            nodes.push(node);
        }
        let outer = Arc::<AtomicU64>::default();
        for worker in &nodes[0].workers {
            let lanes = OuterLanes {
                known: HashMap::new(),
                changes: outer.clone(),
            };
            worker.send(Command::Observe(ObserverId(1), Box::new(lanes)));
        }
        Some(Lab { nodes, pods, outer })
    }

    /// With a receiver that cannot keep up.
    fn slow(self) -> Lab {
        for worker in &self.nodes[1].workers {
            worker.send(Command::Observe(ObserverId(1), Box::new(Slow)));
        }
        self
    }

    fn bind(&self, pod: usize) -> UdpSocket {
        let (n, inside, _) = &self.pods[pod];
        let bind = || UdpSocket::bind((ip(*n, false), 0)).unwrap();
        run_in(&inside.netns(), bind).unwrap()
    }

    /// Lane changes of the flows.
    fn changes(&self) -> u64 {
        match self.nodes.len() {
            1 => {
                let queues = self.pods[0].2.queues();
                queues.lanes.map_or(0, |lanes| lanes.slots.changes())
            }
            _ => self.outer.load(Relaxed),
        }
    }
}

/// How datagrams are sent.
#[derive(Clone, Copy)]
struct Pattern {
    flows: usize,
    /// Of so many pauses one is a silence, after which a flow goes back whatever became of its frames.
    silence: u64,
    /// Lane changes over which the order is looked at, with `RINGWAY_LONG` and without.
    changes: (u64, u64),
}

/// In the TAP: a silence is what a flow needs that has lost frames in the lane's queue.
const TAP: Pattern = Pattern {
    flows: 12,
    silence: 96,
    changes: (10_000, 1_000),
};
/// In the underlay a flow goes back after a silence alone.
const UNDERLAY: Pattern = Pattern {
    flows: 64,
    silence: 2,
    changes: (10_000, 250),
};

/// Numbers datagrams and sends them, now in bursts, now one by one.
fn send(source: &UdpSocket, pattern: Pattern, mut random: u64, over: &AtomicBool) {
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
            _ if (random >> 32).is_multiple_of(pattern.silence) => Duration::from_millis(1100),
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

fn order_is_kept(pattern: Pattern, lab: impl FnOnce() -> Option<Lab> + Send + 'static) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_netns(move || {
        let Some(lab) = lab() else { return };
        let (sent, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (came, passed) = (AtomicU64::new(0), AtomicU64::new(0));
        let wanted = match std::env::var_os("RINGWAY_LONG") {
            Some(_) => pattern.changes.0,
            None => pattern.changes.1,
        };
        let begin = Instant::now();
        thread::scope(|scope| {
            for flow in 0..pattern.flows {
                let (source, sink) = (lab.bind(0), lab.bind(1));
                setsockopt(&sink, RcvBufForce, &(16 << 20)).unwrap();
                setsockopt(&source, SndBuf, &(1 << 20)).unwrap();
                setsockopt(&source, UdpGsoSegment, &(SEGMENT as i32)).unwrap();
                sink.set_read_timeout(Some(Duration::from_millis(100)))
                    .unwrap();
                source.connect(sink.local_addr().unwrap()).unwrap();
                let (sent, over, came, passed) = (&sent, &over, &came, &passed);
                scope.spawn(move || send(&source, pattern, flow as u64 * 7919 + 1, sent));
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
        lab.nodes.into_iter().for_each(Node::stop);
    });
}

#[test]
fn no_datagram_passes_another_of_its_flow_when_that_changes_lanes() {
    order_is_kept(TAP, || Lab::one_node(1));
}

#[test]
fn nor_with_two_workers() {
    order_is_kept(TAP, || Lab::one_node(2));
}

#[test]
fn nor_on_the_way_to_a_peer_that_is_slow() {
    order_is_kept(UNDERLAY, || Lab::two_nodes(1).map(Lab::slow));
}

#[test]
fn nor_to_a_peer_with_two_workers() {
    order_is_kept(UNDERLAY, || Lab::two_nodes(2));
}
