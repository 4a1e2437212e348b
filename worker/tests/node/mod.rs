//! Workers on a node of two or three pods, whose queues are sockets or real TAPs.

#![allow(dead_code, unreachable_pub)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_kernel::pod::interface::{self, Making, PodAddress, Spec};
use ringway_kernel::pod::lanes::Queues;
use ringway_kernel::pod::queue::Queue;
use ringway_kernel::testing::Pod;
use ringway_packet::kit;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_ports::socket::UdpUnderlay;
use ringway_switch::counters::Cell;
use ringway_switch::{Counters, DropReason, UdpPorts};
use ringway_tables::{
    NodeInfo, Path, Peer, PeerPaths, Port as Entry, PortId, PortKind, Publisher, Snapshot,
};
use ringway_worker::limits::{Rate, RateLimits};
use ringway_worker::{Command, Event, LaneQueue, Polling, UnderlaySocket, Worker, WorkerConfig};

/// Of the node.
pub const VNI: u32 = 1;
pub const VXLAN: Encap = Encap::Vxlan { vni: VNI };

/// MTU of pods with real TAPs.
pub const MTU: u16 = 1450;

/// Address of pod `n`; from 256 on it is of the next network: 10.77.2.3 has the number 259.
pub fn ip(n: u32, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(ip6(n).into())
    } else {
        IpAddr::V4((0x0a4d_0100 + n).into())
    }
}

/// The interface of pod `n` in its namespace, with queues for so many workers.
pub fn interface_of(n: u32, inside: &Pod, workers: usize) -> Making {
    let gateway = n & !0xff | 1;
    let addresses = [
        (ip(n, false), 24, ip(gateway, false)),
        (ip(n, true), 64, ip(gateway, true)),
    ]
    .map(|(ip, prefix_len, gateway)| PodAddress {
        ip,
        prefix_len,
        gateway,
    });
    let spec = Spec {
        ifname: "eth0",
        alias: "ringway test",
        mac: pod(n).mac,
        mtu: MTU,
        addresses: &addresses,
        routes: &[],
        workers,
        queue: Queue::of(MTU, None),
    };
    interface::create(&inside.netns(), &spec).unwrap()
}

/// A node with workers; pod `n` has port `n`, 10.77.1.n and fd77:1::n.
pub struct Node {
    publisher: Publisher,
    pub workers: Vec<Worker>,
    _events: Receiver<Event>,
}

impl Node {
    pub fn new(workers: usize, polling: Polling) -> Node {
        Node::with_sockets(polling, (0..workers).map(|_| Vec::new()).collect())
    }

    /// One worker with pods 2 and 3, and the pods' ends of their queues.
    pub fn with_two_pods() -> (Node, UnixDatagram, UnixDatagram) {
        let mut node = Node::new(1, Polling::Interrupt);
        let ((one, a), (two, b)) = (queue(), queue());
        node.attach(2, &one, 0, None);
        node.attach(3, &two, 0, None);
        (node, a, b)
    }

    /// With sockets of the underlay, of each worker.
    pub fn with_sockets(polling: Polling, sockets: Vec<Vec<UnderlaySocket>>) -> Node {
        Node::of_net(1, polling, sockets)
    }

    /// The same with pods in 10.77.net.0/24.
    pub fn of_net(net: u32, polling: Polling, sockets: Vec<Vec<UnderlaySocket>>) -> Node {
        let cidrs = [format!("10.77.{net}.0/24"), format!("fd77:{net}::/64")];
        let node = NodeInfo {
            cidrs: cidrs.map(|cidr| cidr.parse().unwrap()).into(),
            gateway_mac: kit::GATEWAY_MAC,
            gateway4: Some(0x0a4d_0001 | net << 8),
            gateway6: Some(ip6((net - 1) << 8 | 1)),
            vni: VNI,
            ..NodeInfo::default()
        };
        let publisher = Publisher::new(Snapshot::new(node).unwrap());
        let (sender, _events) = unbounded();
        let workers = sockets
            .into_iter()
            .enumerate()
            .map(|(index, sockets)| {
                let config = WorkerConfig {
                    count: 1,
                    index,
                    cpu: None,
                    polling,
                    idle_spin_us: 50,
                    ports: UdpPorts::default(),
                    returns: Arc::default(),
                    largest: 1464,
                };
                let counters = Arc::new(Counters::default());
                let reader = publisher.reader();
                Worker::spawn(config, reader, counters, sockets, sender.clone()).unwrap()
            })
            .collect();
        Node {
            publisher,
            workers,
            _events,
        }
    }

    /// Attaches pod `n` with one queue. Every worker writes it, worker `reader` reads it.
    pub fn attach(
        &mut self,
        n: u32,
        queue: &Arc<OwnedFd>,
        reader: usize,
        limits: Option<&Arc<RateLimits>>,
    ) {
        self.publish(n);
        self.add_tap(n, queue, reader, limits);
    }

    /// Gives the workers the queue of pod `n`, which is in the tables.
    pub fn add_tap(
        &self,
        n: u32,
        queue: &Arc<OwnedFd>,
        reader: usize,
        limits: Option<&Arc<RateLimits>>,
    ) {
        for worker in &self.workers {
            let read = worker.index() == reader;
            worker.send(Command::AddTap {
                port: PortId(n),
                queue: queue.clone(),
                lane: None,
                read,
                uso: true,
                limits: limits.cloned(),
            });
        }
    }

    /// Attaches pod `n` with queues for each worker.
    pub fn attach_all(&mut self, n: u32, queues: &Queues, limits: Option<&Arc<RateLimits>>) {
        self.publish(n);
        for (worker, queue) in self.workers.iter().zip(&queues.fds) {
            let lane = queues.lanes.as_ref().map(|lanes| LaneQueue {
                queue: lanes.fds[worker.index()].clone(),
                slots: lanes.slots.clone(),
            });
            worker.send(Command::AddTap {
                port: PortId(n),
                queue: queue.clone(),
                lane,
                read: true,
                uso: true,
                limits: limits.cloned(),
            });
        }
    }

    pub fn publish(&mut self, n: u32) {
        let mut next = Snapshot::clone(&self.publisher.current());
        next.add_port(PortId(n), pod(n)).unwrap();
        self.publisher.publish(next);
    }

    /// Publishes a peer with 10.77.2.0/24 and fd77:2::/64, over IPv4 from one address to the other.
    pub fn publish_peer(&mut self, encap: Encap, addresses: [IpAddr; 2], dst_port: u16) {
        self.publish_peer_of_net(2, encap, addresses, dst_port);
    }

    /// The same with another network.
    pub fn publish_peer_of_net(
        &mut self,
        net: u32,
        encap: Encap,
        [src, dst]: [IpAddr; 2],
        dst_port: u16,
    ) {
        let TransportSpec::Udp { checksum, .. } = TransportSpec::usual(encap, UdpChecksum::Full);
        let spec = OuterSpec {
            src_mac: pod(1).mac,
            dst_mac: pod(1).mac,
            src,
            dst,
            encap,
            transport: TransportSpec::Udp { dst_port, checksum },
            ttl: 64,
            dont_fragment: true,
        };
        let path = Path {
            peer: Default::default(),
            encap,
            src,
            dst,
            src_mac: pod(1).mac,
            dst_mac: pod(1).mac,
            mtu: 1450,
            outer: OuterHeader::new(&spec).unwrap(),
        };
        let peer = Peer {
            name: "node2".into(),
            addresses: [dst].into(),
            cidrs: [format!("10.77.{net}.0/24"), format!("fd77:{net}::/64")]
                .map(|cidr| cidr.parse().unwrap())
                .into(),
        };
        let paths = PeerPaths {
            v4: Some(path.clone()),
            v6: Some(path),
        };
        let mut next = Snapshot::clone(&self.publisher.current());
        next.add_peer(peer, paths).unwrap();
        self.publisher.publish(next);
    }

    pub fn detach(&self, n: u32) {
        let (sender, done) = unbounded();
        for worker in &self.workers {
            worker.send(Command::RemoveTap {
                port: PortId(n),
                done: sender.clone(),
            });
        }
        for _ in &self.workers {
            done.recv_timeout(Duration::from_secs(5)).unwrap();
        }
    }

    /// A count of all workers.
    pub fn sum(&self, cell: impl Fn(&Counters) -> &Cell) -> u64 {
        self.workers.iter().map(|w| cell(w.counters()).get()).sum()
    }

    pub fn lost(&self, reason: DropReason) -> u64 {
        self.sum(|counters| &counters.lost[reason.index()])
    }

    pub fn rounds(&self) -> u64 {
        let rounds = |worker: &Worker| worker.load().rounds.load(Relaxed);
        self.workers.iter().map(rounds).sum()
    }

    /// Everything counted that is not zero.
    pub fn counted(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        let mut note = |name: String, count: u64| {
            if count > 0 {
                all.push((name, count));
            }
        };
        for (name, pair) in [
            (
                "received",
                (|c: &Counters| &c.received) as fn(&Counters) -> &_,
            ),
            ("delivered", |c| &c.delivered),
            ("tunnelled", |c| &c.tunnelled),
            ("answered", |c| &c.answered),
            ("ignored", |c| &c.ignored),
            ("dropped", |c| &c.dropped),
            ("originated", |c| &c.originated),
        ] {
            note(name.into(), self.sum(|c| &pair(c).frames));
            note(format!("{name} packets"), self.sum(|c| &pair(c).packets));
        }
        for reason in DropReason::ALL {
            let dropped = self.sum(|counters| &counters.drops[reason.index()]);
            note(format!("drop {reason}"), dropped);
            note(format!("lost {reason}"), self.lost(*reason));
            for n in 0..9 {
                let at = |c: &Counters| c.port(PortId(n)).drops[reason.index()].get();
                let count = self.workers.iter().map(|w| at(w.counters())).sum();
                note(format!("pod {n} {reason}"), count);
            }
        }
        all
    }

    pub fn stop(self) {
        self.workers.into_iter().for_each(Worker::join);
    }
}

pub fn ip6(n: u32) -> u128 {
    let net = "fd77:1::".parse::<std::net::Ipv6Addr>().unwrap().to_bits();
    net + (u128::from(n >> 8) << 96) + u128::from(n & 0xff)
}

pub fn pod(n: u32) -> Entry {
    let ip4 = 0x0a4d_0100 + n;
    Entry {
        kind: PortKind::Pod,
        mac: kit::pod_mac(IpAddr::V4(ip4.into())),
        ip4: Some(ip4),
        ip6: Some(ip6(n)),
        mtu: 1450,
        name: format!("pod{n}").into(),
    }
}

/// To the pod: bit/s and bits.
pub fn ingress(rate: u64, burst: u64) -> Arc<RateLimits> {
    Arc::new(RateLimits::new(Rate { rate, burst }, Rate::default()).unwrap())
}

/// From the pod: bit/s and bits.
pub fn egress(rate: u64, burst: u64) -> Arc<RateLimits> {
    Arc::new(RateLimits::new(Rate::default(), Rate { rate, burst }).unwrap())
}

/// How often what fell short is measured again.
const ATTEMPTS: u32 = 5;

/// Measures until it is enough. Where others use the processors, a worker runs late and what a pod gets falls
/// short; that can only take away, so one good measurement is enough, and limits that are too tight would
/// miss it every time. What must never be is asserted by `measure` itself. `measure` gives what it got and
/// whether that is enough.
pub fn enough(what: &str, mut measure: impl FnMut() -> (f64, bool)) {
    let mut all = Vec::new();
    for _ in 0..ATTEMPTS {
        let (got, is_enough) = measure();
        if is_enough {
            return;
        }
        println!("{what}: {got:.3} is too little; again");
        all.push(got);
    }
    panic!("{what}: too little each time: {all:.3?}");
}

/// Where an underlay receives.
pub fn address_of(socket: &UdpUnderlay) -> SocketAddr {
    let fd = socket.rx_fds()[0].try_clone().unwrap();
    UdpSocket::from(fd).local_addr().unwrap()
}

/// Waits until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The worker's end, and the pod's.
pub fn queue() -> (Arc<OwnedFd>, UnixDatagram) {
    let (worker, pod) = UnixDatagram::pair().unwrap();
    for end in [&worker, &pod] {
        end.set_nonblocking(true).unwrap();
    }
    (Arc::new(worker.into()), pod)
}

/// A frame of `len` bytes between pods, behind its vnet header, with a number in its payload.
pub fn frame(from: u32, to: u32, len: usize, number: u8) -> Vec<u8> {
    let ip = |n: u32| format!("10.77.1.{n}:1000");
    let payload = vec![number; len - 42];
    let frame = kit::udp(ip(from).as_str(), ip(to).as_str())
        .macs(pod(from).mac, pod(to).mac)
        .payload(&payload)
        .frame();
    assert_eq!(frame.len(), len);
    [vec![0; VNET_HDR_LEN], frame].concat()
}

/// Sends from a pod, however long it takes.
pub fn send(pod: &UnixDatagram, frame: &[u8]) {
    eventually("the worker reads", || pod.send(frame).is_ok());
}

/// The numbers of all frames that are there.
pub fn received(pod: &UnixDatagram) -> Vec<u8> {
    let mut buf = vec![0; 70_000];
    std::iter::from_fn(|| pod.recv(&mut buf).ok().map(|len| buf[len - 1])).collect()
}
