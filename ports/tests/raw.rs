//! AF_PACKET sockets on a real veth pair and a real TAP: frames arrive as they were sent, superframes in one
//! piece, and what a device does not take is said.

mod common;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use common::{Netns, eventually, veth_pair};
use ringway_packet::kit;
use ringway_packet::offload::{Checksum, Gso};
use ringway_ports::raw::{BATCH, RawError, RawReceiver, RawSender};
use ringway_ports::tap::{TapOptions, create_persistent};

fn ifindex(ns: &Netns, name: &str) -> u32 {
    let text = ns.exec(&format!("cat /sys/class/net/{name}/ifindex"));
    text.trim().parse().unwrap()
}

fn open_pair(a: &Netns, b: &Netns) -> (RawSender, RawReceiver) {
    let (from, to) = (ifindex(a, "v0"), ifindex(b, "v0"));
    let sender = a.enter(|| RawSender::open(from)).unwrap();
    let receiver = b.enter(|| RawReceiver::open(to, 8 << 20)).unwrap();
    (sender, receiver)
}

/// Nobody's but ours: the kernel's own frames (neighbour discovery, MLD) are others.
fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb5])
}

#[test]
fn frames_arrive_as_they_were_sent_and_in_order() {
    let (a, b) = veth_pair();
    let (sender, mut receiver) = open_pair(&a, &b);
    // Local experimental EtherType (IEEE 802).
    let frames: Vec<Vec<u8>> = (0..500usize)
        .map(|i| {
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
            frame.extend((0..46 + i * 2).map(|j| (i + j) as u8));
            frame
        })
        .collect();
    let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let (mut sent, mut got) = (0, Vec::new());
    eventually("all of them", || {
        if sent < slices.len() {
            let count = sender.send(&slices[sent..]).unwrap();
            assert!((1..=BATCH).contains(&count), "{count}");
            sent += count;
        }
        receiver
            .receive(|frame| {
                assert!(!frame.truncated);
                if ours(frame.bytes) {
                    got.push(frame.bytes.to_vec());
                }
            })
            .unwrap();
        (got.len() == frames.len()).then_some(())
    });
    assert_eq!(got, frames);
    assert_eq!(receiver.overrun().unwrap(), 0);
}

#[test]
fn a_superframe_comes_in_one_piece_with_its_metadata() {
    let (a, b) = veth_pair();
    let (_, mut receiver) = open_pair(&a, &b);
    let socket = a.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
    let size: libc::c_int = 1000;
    // SAFETY: an int of the length given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            4,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    socket.send_to(&[7; 3500], "10.9.0.2:4000").unwrap();
    let found = eventually("the superframe", || {
        let mut found = None;
        receiver
            .receive(|frame| {
                // UDP over IPv4.
                if frame.bytes.get(23) == Some(&17) {
                    found = Some((frame.bytes.len(), frame.offload.unwrap()));
                }
            })
            .unwrap();
        found
    });
    let (len, offload) = found;
    assert_eq!(len, 14 + 20 + 8 + 3500);
    assert_eq!((offload.gso, offload.gso_size), (Gso::Udp, 1000));
    assert!(matches!(offload.checksum, Checksum::Partial { .. }));
}

#[test]
fn what_a_device_does_not_take_is_said() {
    let (a, b) = veth_pair();
    let (sender, mut receiver) = open_pair(&a, &b);
    let long = vec![0; 1515];
    assert_eq!(
        sender.send(&[&long]).unwrap_err().raw_os_error(),
        Some(libc::EMSGSIZE)
    );
    a.ip("link set v0 down");
    let frame = kit::udp("10.9.0.1:1", "10.9.0.2:2").payload_len(18).frame();
    assert_eq!(
        sender.send(&[&frame]).unwrap_err().raw_os_error(),
        Some(libc::ENETDOWN)
    );
    // Its own end goes: said once.
    b.ip("link set v0 down");
    let down = eventually("it is said", || receiver.receive(|_| {}).err());
    assert_eq!(down.raw_os_error(), Some(libc::ENETDOWN));
    assert!(matches!(
        a.enter(|| RawSender::open(9999)),
        Err(RawError::Bind { ifindex: 9999, .. })
    ));
}

#[test]
fn a_full_device_refuses_and_a_full_socket_counts() {
    let ns = Netns::new();
    let _tap = ns
        .enter(|| create_persistent("t0", &TapOptions::default()))
        .unwrap();
    ns.ip("link set t0 txqueuelen 100 up");
    let index = ifindex(&ns, "t0");
    let sender = ns.enter(|| RawSender::open(index)).unwrap();
    let frame = kit::udp("10.9.0.1:1", "10.9.0.2:2").payload_len(18).frame();
    // Nobody reads the TAP.
    let mut taken = 0;
    let error = loop {
        match sender.send(&[&frame]) {
            Ok(count) => taken += count,
            Err(error) => break error,
        }
        assert!(taken < 1000, "a TAP of 100 entries took {taken}");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    assert!(taken > 0, "it took none");

    let (a, b) = veth_pair();
    let (from, to) = (ifindex(&a, "v0"), ifindex(&b, "v0"));
    let sender = a.enter(|| RawSender::open(from)).unwrap();
    let mut receiver = b.enter(|| RawReceiver::open(to, 1 << 16)).unwrap();
    for _ in 0..1000 {
        sender.send(&[&frame]).unwrap();
    }
    let mut received = 0;
    eventually("each is received or counted", || {
        while receiver
            .receive(|f| received += u64::from(f.bytes == frame))
            .unwrap()
            > 0
        {}
        let overrun = receiver.overrun().unwrap();
        // The kernel's own frames may be among those lost.
        (received > 0 && overrun > 0 && received + overrun >= 1000).then_some(())
    });
    assert!(received < 1000, "{received}");
}
