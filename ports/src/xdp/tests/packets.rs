//! Every branch of the program, from literal packets.

use std::os::fd::AsFd;

use super::super::Action::{Pass, Redirect};
use super::super::netlink::{self, Which};
use super::super::program::load;
use super::super::{
    Action, AttachOptions, Attachment, BpfError, Filter, MAX_ADDRESSES, MAX_CIDRS, MAX_PORTS,
};
use super::super::{Program, XskMap};
use super::{Sockets, filter, ip};
use crate::bpf::insn::{Asm, Reg};
use crate::common::Netns;

/// VXLAN to 10.9.0.1, UDP 4789.
pub(super) const V4: [u8; 52] = [
    0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
    0x45, 0x00, 0, 38, 0x12, 0x34, 0x40, 0x00, 64, 17, 0, 0, // IPv4, DF
    10, 9, 0, 2, 10, 9, 0, 1, //
    0xc0, 0x01, 0x12, 0xb5, 0, 18, 0, 0, // UDP
    0x08, 0, 0, 0, 0, 0, 7, 0, 0xab, 0xcd, // VXLAN, two bytes
];
/// The same to fd09::1.
pub(super) const V6: [u8; 72] = [
    0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 18, 17, 64, // IPv6
    0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
    0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
    0xc0, 0x01, 0x12, 0xb5, 0, 18, 0xff, 0xff, // UDP
    0x08, 0, 0, 0, 0, 0, 7, 0, 0xab, 0xcd, // VXLAN, two bytes
];
/// Bytes of them that must be there: up to the end of the UDP header.
const V4_LEN: usize = 42;
const V6_LEN: usize = 62;

/// `frame` with a tag of each TPID behind its addresses.
pub(super) fn tagged(frame: &[u8], tpids: &[u16]) -> Vec<u8> {
    let tags = tpids.iter().flat_map(|tpid| {
        let [high, low] = tpid.to_be_bytes();
        [high, low, 0x20, 100]
    });
    let (addresses, rest) = frame.split_at(12);
    [addresses, &tags.collect::<Vec<u8>>(), rest].concat()
}

/// `frame` with `bytes` written at `at`.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn run(program: &Program, packet: &[u8]) -> Action {
    program.test_run(packet).unwrap()
}

#[test]
fn ours_is_redirected_with_up_to_two_tags() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let program = sockets.load(&filter(&[8472, 4789]));
    for frame in [V4.as_slice(), &V6] {
        for (tags, action) in [
            (&[][..], Redirect),
            (&[0x8100], Redirect),
            (&[0x88a8], Redirect),
            (&[0x88a8, 0x8100], Redirect),
            (&[0x8100, 0x8100], Redirect),
            (&[0x88a8, 0x8100, 0x8100], Pass),
            (&[0x9100], Pass),
        ] {
            let frame = tagged(frame, tags);
            assert_eq!(run(&program, &frame), action, "{tags:x?} {frame:x?}");
        }
    }
    let other_port = with(&V4, 36, &8472u16.to_be_bytes());
    assert_eq!(run(&program, &other_port), Redirect);
    // The fields the filter does not look at: TOS, reserved bit and DF, TTL, source, source port.
    for (at, bytes) in [
        (15, &[0xb8][..]),
        (20, &[0xc0, 0]),
        (22, &[1]),
        (26, &[8, 8, 8, 8]),
        (34, &[0, 53]),
    ] {
        assert_eq!(run(&program, &with(&V4, at, bytes)), Redirect, "{at}");
    }
    for (at, bytes) in [
        (14, &[0x6b, 0xff, 0xff, 0xff][..]),
        (21, &[1]),
        (22, &[0xfe, 0x80]),
        (54, &[0, 53]),
    ] {
        assert_eq!(run(&program, &with(&V6, at, bytes)), Redirect, "{at}");
    }
}

#[test]
fn everything_else_passes() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let program = sockets.load(&filter(&[4789, 8472]));
    for (what, frame) in [
        ("broadcast MAC", with(&V4, 0, &[0xff; 6])),
        ("multicast MAC", with(&V6, 0, &[0x33, 0x33, 0, 0, 0, 1])),
        ("ARP", with(&V4, 12, &[0x08, 0x06])),
        (
            "IPv6 by EtherType, IPv4 by version",
            with(&V4, 12, &[0x86, 0xdd]),
        ),
        (
            "IPv4 by EtherType, IPv6 by version",
            with(&V6, 12, &[0x08, 0x00]),
        ),
        ("an 802.3 length", with(&V4, 12, &[0x00, 0x26])),
        ("IPv4 port + 1", with(&V4, 36, &4790u16.to_be_bytes())),
        (
            "IPv4 port with its bytes swapped",
            with(&V4, 36, &4789u16.to_le_bytes()),
        ),
        ("IPv6 port - 1", with(&V6, 56, &4788u16.to_be_bytes())),
        (
            "our port as source only",
            with(&V4, 34, &[0x12, 0xb5, 0, 53]),
        ),
        ("IPv4 address + 1", with(&V4, 33, &[2])),
        (
            "our IPv4 address as source only",
            with(&V4, 26, &[10, 9, 0, 1, 10, 9, 0, 2]),
        ),
        ("IPv4 multicast", with(&V4, 30, &[239, 1, 1, 1])),
        ("IPv6 multicast", with(&V6, 38, &[0xff])),
        ("IPv6 address, first word", with(&V6, 41, &[1])),
        ("IPv6 address, second word", with(&V6, 45, &[1])),
        ("IPv6 address, third word", with(&V6, 49, &[1])),
        ("IPv6 address, fourth word", with(&V6, 53, &[2])),
        ("TCP", with(&V4, 23, &[6])),
        ("UDP-Lite", with(&V4, 23, &[136])),
        ("ICMP", with(&V4, 23, &[1])),
        ("ICMPv6", with(&V6, 20, &[58])),
        ("TCP over IPv6", with(&V6, 20, &[6])),
        ("hop-by-hop options", with(&V6, 20, &[0])),
        ("routing header", with(&V6, 20, &[43])),
        ("IPv6 fragment", with(&V6, 20, &[44])),
        ("destination options", with(&V6, 20, &[60])),
        ("IPv4 options", with(&V4, 14, &[0x46])),
        ("IPv4 header too short", with(&V4, 14, &[0x44])),
        ("version 5", with(&V4, 14, &[0x55])),
        ("version 7", with(&V6, 14, &[0x70])),
        ("first fragment", with(&V4, 20, &[0x20, 0])),
        ("first fragment, DF", with(&V4, 20, &[0x60, 0])),
        ("later fragment", with(&V4, 20, &[0x20, 0x10])),
        ("last fragment", with(&V4, 20, &[0x00, 0x01])),
        ("last fragment, far", with(&V4, 20, &[0x1f, 0x00])),
    ] {
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
            let frame = tagged(&frame, tags);
            assert_eq!(run(&program, &frame), Pass, "{what}, {tags:x?}");
        }
    }
}

#[test]
fn truncated_frames_pass() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let program = sockets.load(&filter(&[4789]));
    for (frame, whole) in [(V4.as_slice(), V4_LEN), (&V6, V6_LEN)] {
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
            let frame = tagged(frame, tags);
            let whole = whole + 4 * tags.len();
            for len in 14..=frame.len() {
                let action = if len < whole { Pass } else { Redirect };
                assert_eq!(run(&program, &frame[..len]), action, "{len} of {frame:x?}");
            }
        }
    }
    for len in 0..14 {
        let error = program.test_run(&V4[..len]).unwrap_err();
        assert!(error.to_string().contains("BPF_PROG_TEST_RUN"), "{error}");
    }
}

#[test]
fn pod_networks_are_redirected_whatever_they_carry() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let mut routed = filter(&[4789]);
    routed.cidrs = [
        ("10.244.1.0", 24),
        ("10.245.16.0", 20),
        ("10.246.7.128", 25),
        ("10.247.0.9", 32),
        ("fd44:0:0:1::", 64),
        ("fd45:8000::", 17),
        ("fd46::8000:0:0:0", 65),
        ("fd47::9", 128),
    ]
    .map(|(network, prefix)| (ip(network), prefix))
    .to_vec();
    let program = sockets.load(&routed);
    let to = |address: &str| match ip(address) {
        std::net::IpAddr::V4(v4) => with(&V4, 30, &v4.octets()),
        std::net::IpAddr::V6(v6) => with(&V6, 38, &v6.octets()),
    };
    for (address, action) in [
        ("10.244.1.0", Redirect),
        ("10.244.1.255", Redirect),
        ("10.244.0.255", Pass),
        ("10.244.2.0", Pass),
        ("10.245.16.0", Redirect),
        ("10.245.31.255", Redirect),
        ("10.245.32.0", Pass),
        ("10.245.15.255", Pass),
        ("10.246.7.128", Redirect),
        ("10.246.7.127", Pass),
        ("10.247.0.9", Redirect),
        ("10.247.0.8", Pass),
        ("fd44:0:0:1::", Redirect),
        ("fd44:0:0:1:ffff:ffff:ffff:ffff", Redirect),
        ("fd44:0:0:2::1", Pass),
        ("fd44:0:1:1::1", Pass),
        ("fd45:8000::1", Redirect),
        ("fd45:ffff::1", Redirect),
        ("fd45:7fff::1", Pass),
        ("fd46::8000:0:0:1", Redirect),
        ("fd46::7fff:0:0:1", Pass),
        ("fd46:1::8000:0:0:1", Pass),
        ("fd47::9", Redirect),
        ("fd47::8", Pass),
    ] {
        // TCP, which is nobody's but a pod's.
        let protocol = if address.contains(':') { 20 } else { 23 };
        let frame = with(&to(address), protocol, &[6]);
        assert_eq!(run(&program, &frame), action, "{address}");
        assert_eq!(
            run(&program, &tagged(&frame, &[0x8100])),
            action,
            "{address}"
        );
    }
    let v4 = to("10.244.1.7");
    let v6 = to("fd44:0:0:1::7");
    for frame in [
        with(&v4, 23, &[1]),
        with(&v4, 20, &[0x20, 0x10]),
        with(&v4, 14, &[0x46]),
        v4[..34].to_vec(),
        with(&v6, 20, &[44]),
        with(&v6, 20, &[0]),
        v6[..54].to_vec(),
    ] {
        assert_eq!(run(&program, &frame), Redirect, "{frame:x?}");
    }
    for frame in [
        with(&v4, 0, &[0xff; 6]),
        with(&v4, 14, &[0x65]),
        with(&v6, 14, &[0x40]),
        v4[..33].to_vec(),
        v6[..53].to_vec(),
    ] {
        assert_eq!(run(&program, &frame), Pass, "{frame:x?}");
    }
    // Tunnels to the node go on.
    assert_eq!(run(&program, &V4), Redirect);
    assert_eq!(run(&program, &V6), Redirect);
    assert_eq!(run(&program, &with(&V4, 23, &[6])), Pass);
}

#[test]
fn a_queue_without_a_socket_passes() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let program = sockets.load(&filter(&[4789]));
    let act = || run(&program, &V4);
    assert_eq!(act(), Redirect);
    sockets.map.clear(0).unwrap();
    sockets.map.clear(0).unwrap();
    assert_eq!(act(), Pass);
    sockets.map.set(1, sockets.socket.as_fd()).unwrap();
    assert_eq!(act(), Pass, "another queue's socket");
    sockets.map.set(0, sockets.socket.as_fd()).unwrap();
    sockets.map.set(0, sockets.socket.as_fd()).unwrap();
    assert_eq!(act(), Redirect);
    // A socket takes itself out of the map when it is closed.
    let Sockets { map, socket } = sockets;
    drop(socket);
    assert_eq!(act(), Pass);
    // The program keeps the map.
    drop(map);
    assert_eq!(act(), Pass);
}

#[test]
fn the_queue_a_frame_came_in_by_decides_the_slot() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    ns.ip("link add v0 numrxqueues 4 numtxqueues 4 type veth peer name v1 numrxqueues 4 numtxqueues 4");
    ns.ip("link set v0 up");
    let program = sockets.load(&filter(&[4789]));
    ns.enter(|| {
        // The queues of a veth are known to XDP only while it has a program.
        let _attachment = Attachment::attach("v0", &program, AttachOptions::default()).unwrap();
        let index = netlink::interface(Which::Name("v0")).unwrap().index;
        let act = |queue| program.test_run_from(&V4, Some((index, queue))).unwrap();
        assert_eq!([0, 1, 2, 3].map(act), [Redirect, Pass, Pass, Pass]);
        sockets.map.set(1, sockets.socket.as_fd()).unwrap();
        sockets.map.clear(0).unwrap();
        // The map has two slots, the interface four queues.
        assert_eq!([0, 1, 2, 3].map(act), [Pass, Redirect, Pass, Pass]);
    });
}

#[test]
fn the_map_takes_sockets_of_its_queues_only() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    assert_eq!(sockets.map.queues(), 2);
    let error = sockets.map.set(2, sockets.socket.as_fd()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "queue 2 is out of range: the map of sockets has 2 slots"
    );
    assert!(matches!(
        sockets.map.clear(2),
        Err(BpfError::Queue {
            queue: 2,
            queues: 2
        })
    ));
    assert!(matches!(XskMap::new(0), Err(BpfError::NoQueues)));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for other in [udp.as_fd(), std::io::stdin().as_fd(), sockets.map.as_fd()] {
        let error = sockets.map.set(0, other).unwrap_err();
        assert!(
            matches!(error, BpfError::NotXdpSocket { queue: 0, .. }),
            "{error}"
        );
    }
}

#[test]
fn filters_of_every_size_load() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let v4 = |n: usize| ip(&format!("10.9.{n}.1"));
    let v6 = |n: usize| ip(&format!("fd09::{n:x}:1"));
    for (addresses, ports, cidrs) in [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0),
        (1, 1, 0),
        (0, 0, 1),
        (1, 0, 1),
        (MAX_ADDRESSES, MAX_PORTS, MAX_CIDRS),
    ] {
        for family in ["v4", "v6", "both"] {
            let pick = |n: usize| match family {
                "v4" => v4(n),
                "v6" => v6(n),
                _ if n.is_multiple_of(2) => v4(n),
                _ => v6(n),
            };
            let cidr = |n: usize| match pick(n) {
                std::net::IpAddr::V4(_) => (ip(&format!("10.10.{n}.0")), 31),
                std::net::IpAddr::V6(_) => (ip(&format!("fd10::{n:x}:0")), 127),
            };
            let filter = Filter {
                addresses: (0..addresses).map(pick).collect(),
                ports: (0..ports).map(|n| 4789 - n as u16).collect(),
                cidrs: (0..cidrs).map(cidr).collect(),
            };
            let program = sockets.load(&filter);
            assert_eq!(filter.is_empty(), addresses * ports + cidrs == 0);
            // The last of many is found as the first is.
            let Some(last) = addresses.checked_sub(1).filter(|_| ports > 0) else {
                assert_eq!(run(&program, &V4), Pass);
                continue;
            };
            let frame = match pick(last) {
                std::net::IpAddr::V4(v4) => with(&V4, 30, &v4.octets()),
                std::net::IpAddr::V6(v6) => with(&V6, 38, &v6.octets()),
            };
            assert_eq!(run(&program, &frame), Redirect, "{filter:?}");
        }
    }
    let many = Filter {
        addresses: (0..=MAX_ADDRESSES).map(v4).collect(),
        ..Filter::default()
    };
    let error = Program::load(&many, &sockets.map, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "65 addresses: at most 64 fit the XDP program"
    );
}

#[test]
fn a_program_for_several_buffers_decides_by_the_first() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let program = Program::load(&filter(&[4789]), &sockets.map, true).unwrap();
    assert!(program.frags());
    let long = [&V4[..], &[0xab; 8000]].concat();
    assert_eq!(run(&program, &long), Redirect);
    assert_eq!(run(&program, &with(&long, 37, &[0xb6])), Pass);
}

#[test]
fn the_verifiers_objection_is_in_the_error() {
    if super::xdp_socket().is_none() {
        return;
    }
    let mut asm = Asm::default();
    asm.mov(Reg::R0, Reg::R7);
    asm.exit();
    let error = load("bad", &asm.finish(), false).unwrap_err();
    assert!(matches!(error, BpfError::Verifier { .. }), "{error}");
    assert!(error.to_string().contains("R7 !read_ok"), "{error}");
}
