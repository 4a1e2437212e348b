//! For every reason that a worker gives, what makes it, and the whole delta. Needs root, for namespaces.
//!
//! A socket stands for the queue of a TAP where it fails as a TAP does. The underlay is real.

mod node;

use std::any::Any;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use ringway_kernel::netlink::{LinkChange, Netlink};
use ringway_kernel::pod::interface::{self, Spec};
use ringway_kernel::pod::queue::Queue;
use ringway_kernel::testing::{Pod, Wire, in_netns, set_up};
use ringway_packet::kit;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_ports::socket::{SocketConfig, SocketFds, UdpUnderlay, open_fds};
use ringway_switch::DropReason as R;
use ringway_worker::{Command, Polling, UnderlaySocket};

use node::*;

/// What was counted, and what has to live until it is looked at.
struct Done {
    node: Node,
    expected: Vec<(String, u64)>,
    _alive: Vec<Box<dyn Any>>,
}

type Case = (R, fn(R) -> Done);

const CASES: &[Case] = &[
    (R::SocketOverflow, overflow),
    (R::DatagramTruncated, nobodys_datagram),
    (R::Unsegmentable, no_superframe),
    (R::PortGone, gone),
    (R::PortDown, down),
    (R::PortFull, full),
    (R::PortRefused, refused),
    (R::RateLimited, limited),
    (R::UnderlayFull, underlay_full),
    (R::UnderlayTooBig, too_big),
    (R::UnderlayUnreachable, |r| one_to(r, "203.0.113.1", 8472)),
    // The kernel refuses what is for all, as a firewall refuses what it forbids.
    (R::UnderlayDenied, |r| one_to(r, "127.255.255.255", 8472)),
    (R::UnderlayError, from_loopback),
];

#[test]
fn every_reason_of_a_worker_has_a_case() {
    let seen: BTreeSet<R> = CASES.iter().map(|(reason, _)| *reason).collect();
    let wanted: BTreeSet<R> = R::ALL.iter().copied().filter(|r| r.is_workers()).collect();
    assert_eq!(seen, wanted);
    for (reason, case) in CASES {
        in_netns(move || {
            let Done {
                node,
                expected,
                _alive,
            } = case(*reason);
            let mut counted = Vec::new();
            let names = [format!("lost {reason}"), format!("drop {reason}")];
            assert!(
                expected
                    .iter()
                    .any(|(name, n)| names.contains(name) && *n > 0)
            );
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while counted != expected && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
                counted = node.counted();
            }
            assert_eq!(counted, expected, "{reason}");
            node.stop();
        });
    }
}

/// Frames that had this verdict, one packet each; `lost` of them at the port of pod 3, or by the underlay.
fn lost(verdict: &str, frames: u64, reason: R, lost: u64) -> Vec<(String, u64)> {
    let mut all = vec![
        ("received".into(), frames),
        ("received packets".into(), frames),
        (verdict.into(), frames),
        (format!("{verdict} packets"), frames),
        (format!("lost {reason}"), lost),
    ];
    if verdict == "delivered" {
        all.push((format!("pod 3 {reason}"), lost));
    }
    all
}

/// A node with pod 2, and that.
fn with_pod_2(mut node: Node) -> (Node, UnixDatagram) {
    let (queue, pod) = queue();
    node.attach(2, &queue, 0, None);
    (node, pod)
}

fn gone(reason: R) -> Done {
    let (mut node, a) = with_pod_2(Node::new(1, Polling::Interrupt));
    // In the tables and without a queue, as in the moment of a detach.
    node.publish(3);
    send(&a, &frame(2, 3, 1000, 1));
    Done {
        node,
        expected: lost("delivered", 1, reason, 1),
        _alive: vec![Box::new(a)],
    }
}

fn down(reason: R) -> Done {
    let (mut node, a) = with_pod_2(Node::new(1, Polling::Interrupt));
    let inside = Pod::new();
    let spec = Spec {
        ifname: "eth0",
        alias: "ringway test",
        mac: pod(3).mac,
        mtu: 1450,
        addresses: &[],
        routes: &[],
        workers: 1,
        queue: Queue::of(1450, None),
    };
    let making = interface::create(&inside.netns(), &spec).unwrap();
    let mut netlink = inside.netlink();
    let index = netlink.link("eth0").unwrap().index;
    set_up(&mut netlink, index, false);
    // Not read: what the pod sends by itself is not looked at.
    node.attach(3, &making.queues().fds[0], 1, None);
    send(&a, &frame(2, 3, 1000, 1));
    Done {
        node,
        expected: lost("delivered", 1, reason, 1),
        _alive: vec![Box::new(a), Box::new(making), Box::new(inside)],
    }
}

fn full(reason: R) -> Done {
    let (mut node, a) = with_pod_2(Node::new(1, Polling::Interrupt));
    let (two, b) = queue();
    node.attach(3, &two, 0, None);
    for number in 0..40 {
        send(&a, &frame(2, 3, 16_384, number));
    }
    eventually("all have a verdict", || {
        node.sum(|c| &c.delivered.frames) == 40
    });
    let passed = received(&b);
    assert!(
        passed.iter().copied().eq(0..passed.len() as u8),
        "{passed:?}"
    );
    Done {
        node,
        expected: lost("delivered", 40, reason, 40 - passed.len() as u64),
        _alive: vec![Box::new(a), Box::new(b)],
    }
}

fn refused(reason: R) -> Done {
    let (mut node, a) = with_pod_2(Node::new(1, Polling::Interrupt));
    let (two, b) = queue();
    node.attach(3, &two, 1, None);
    drop(b);
    send(&a, &frame(2, 3, 1000, 1));
    Done {
        node,
        expected: lost("delivered", 1, reason, 1),
        _alive: vec![Box::new(a)],
    }
}

fn limited(reason: R) -> Done {
    let (mut node, a) = with_pod_2(Node::new(1, Polling::Interrupt));
    let (two, b) = queue();
    node.attach(3, &two, 0, Some(&ingress(1000, 16_000)));
    // One passes, eight wait.
    for number in 0..20 {
        send(&a, &frame(2, 3, 16_384, number));
    }
    Done {
        node,
        expected: lost("delivered", 20, reason, 11),
        _alive: vec![Box::new(a), Box::new(b)],
    }
}

fn underlay(config: &SocketConfig, fds: Option<SocketFds>) -> Node {
    let socket = match fds {
        Some(fds) => UdpUnderlay::adopt(config, fds),
        None => UdpUnderlay::open(config),
    };
    let socket = UnderlaySocket {
        socket: socket.unwrap(),
        encap: VXLAN,
        v6: false,
        unfinished: false,
    };
    Node::with_sockets(Polling::Interrupt, vec![vec![socket]])
}

fn on(local: &str) -> SocketConfig {
    SocketConfig::new(SocketAddr::new(local.parse().unwrap(), 0))
}

/// A frame of pod 2 to a pod of the peer, behind its vnet header.
fn to_peer(payload: usize) -> Vec<u8> {
    let frame = kit::udp("10.77.1.2:1000", "10.77.2.2:53").macs(pod(2).mac, kit::GATEWAY_MAC);
    let frame = frame.payload_len(payload).frame();
    [vec![0; VNET_HDR_LEN], frame].concat()
}

/// A node, on an interface of `config`, with a peer there; and its pod.
fn towards(config: &SocketConfig, dst: &str, port: u16) -> (Node, UnixDatagram) {
    let mut node = underlay(config, None);
    let ends: [IpAddr; 2] = [config.local.ip(), dst.parse().unwrap()];
    node.publish_peer(VXLAN, ends, port);
    with_pod_2(node)
}

fn one_to(reason: R, dst: &str, port: u16) -> Done {
    let (node, a) = towards(&on("127.0.0.1"), dst, port);
    send(&a, &to_peer(1200));
    Done {
        node,
        expected: lost("tunnelled", 1, reason, 1),
        _alive: vec![Box::new(a)],
    }
}

/// The kernel sends nothing from there to another node (EINVAL).
fn from_loopback(reason: R) -> Done {
    let wire = Wire::new();
    let mut done = one_to(reason, "192.0.2.2", 8472);
    done._alive.push(Box::new(wire));
    done
}

fn too_big(reason: R) -> Done {
    let mut netlink = Netlink::open().unwrap();
    let lo = netlink.link("lo").unwrap().index;
    let change = LinkChange {
        mtu: Some(1000),
        ..LinkChange::default()
    };
    netlink.change_link(lo, &change).unwrap();
    one_to(reason, "127.0.0.1", 8472)
}

/// While nobody says where the peer is, what was sent stays in the socket's buffer.
fn underlay_full(reason: R) -> Done {
    let wire = Wire::new();
    let config = SocketConfig {
        sndbuf: 4096,
        ..on("192.0.2.1")
    };
    let (node, a) = towards(&config, "192.0.2.99", 8472);
    // One after the other: the kernel takes any number of segments as one.
    for sent in 1..=50 {
        send(&a, &to_peer(1200));
        eventually("it has a verdict", || {
            node.sum(|c| &c.tunnelled.frames) == sent
        });
    }
    eventually("the buffer is full", || node.lost(reason) > 0);
    std::thread::sleep(Duration::from_millis(50));
    // How many the kernel finds room for is its affair, and more than none.
    let count = node.lost(reason);
    assert!((1..50).contains(&count), "{count}");
    Done {
        node,
        expected: lost("tunnelled", 50, reason, count),
        _alive: vec![Box::new(a), Box::new(wire)],
    }
}

/// Its offload says that it is a TCP superframe, and it is UDP.
fn no_superframe(reason: R) -> Done {
    let (node, a) = towards(&on("127.0.0.1"), "127.0.0.1", 8472);
    let mut frame = to_peer(1200);
    // `virtio_net_hdr`: a checksum to be finished, TCP over IPv4, segments of 500 bytes.
    frame[..2].copy_from_slice(&[1, 1]);
    for (at, word) in [(4, 500u16), (6, 34), (8, 6)] {
        frame[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    }
    send(&a, &frame);
    let mut expected = lost("tunnelled", 1, reason, 3);
    (expected[1].1, expected[3].1) = (3, 3);
    Done {
        node,
        expected,
        _alive: vec![Box::new(a)],
    }
}

fn dropped(frames: u64, drops: &[(R, u64)]) -> Vec<(String, u64)> {
    let mut all = vec![
        ("received".into(), frames),
        ("received packets".into(), frames),
        ("dropped".into(), frames),
        ("dropped packets".into(), frames),
    ];
    let drops = drops
        .iter()
        .map(|(reason, n)| (format!("drop {reason}"), *n));
    all.extend(drops);
    all
}

/// More arrives than the buffer holds before the worker reads it.
fn overflow(reason: R) -> Done {
    let config = SocketConfig {
        rcvbuf: 4096,
        gro: false,
        ..on("127.0.0.1")
    };
    let fds = open_fds(&config).unwrap();
    let address = UdpSocket::from(fds.rx[0].try_clone().unwrap());
    let address = address.local_addr().unwrap();
    let node = underlay(&config, Some(fds));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        sender.send_to(&[0; 1000], address).unwrap();
    }
    node.workers[0].send(Command::Listen);
    let stranger = |node: &Node| node.sum(|c| &c.drops[R::UnknownPeer.index()]);
    eventually("it reads", || stranger(&node) > 0);
    std::thread::sleep(Duration::from_millis(200));
    let read = stranger(&node);
    // How many were lost, the next one says.
    sender.send_to(&[0; 1000], address).unwrap();
    Done {
        node,
        expected: dropped(101, &[(reason, 100 - read), (R::UnknownPeer, read + 1)]),
        _alive: Vec::new(),
    }
}

/// No UDP datagram is longer than a buffer; that of another kind of socket does not say where it comes from.
fn nobodys_datagram(reason: R) -> Done {
    let config = on("127.0.0.1");
    let (rx, far) = UnixDatagram::pair().unwrap();
    let mut fds = open_fds(&config).unwrap();
    fds.rx[0] = rx.into();
    let node = underlay(&config, Some(fds));
    node.workers[0].send(Command::Listen);
    far.send(&[0; 100]).unwrap();
    Done {
        node,
        expected: dropped(1, &[(reason, 1)]),
        _alive: vec![Box::new(far)],
    }
}
