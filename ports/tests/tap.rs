//! TAP ports against the kernel's own network stack.
//!
//! ```text
//!   netns A  t0(TAP) ──read/write── this test ──read/write── t0(TAP)  netns B
//!            10.8.0.1                                        10.8.0.2
//! ```

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Netns, eventually, pool};
use ringway_packet::offload::{Checksum, Gso};
use ringway_ports::tap::{
    Offloads, Opened, Tap, TapError, TapOptions, create_persistent, delete, open_queue, unpersist,
};
use ringway_ports::{Batch, Frame, Pool, Port, Slice, TransmitError};

fn create(ns: &Netns, name: &str) -> Opened {
    ns.enter(|| create_persistent(name, &TapOptions::default()))
        .expect("TAP is made")
}

#[test]
fn a_persistent_tap_survives_its_descriptor_and_reopens() {
    let ns = Netns::new();
    let options = TapOptions {
        owner_uid: Some(65_533),
        ..TapOptions::default()
    };
    let opened = ns.enter(|| create_persistent("t0", &options)).unwrap();
    assert!(opened.offloads.checksum && opened.offloads.tso);
    ns.ip("addr add 10.8.0.1/24 dev t0");
    drop(opened);
    assert!(ns.ip("addr show dev t0").contains("10.8.0.1"));
    assert!(
        ns.ip("tuntap show").contains("user 65533"),
        "{}",
        ns.ip("tuntap show")
    );
    let again = ns.enter(|| open_queue("t0", false)).unwrap();
    assert_eq!(
        again.offloads,
        Offloads {
            checksum: true,
            tso: true,
            uso: again.offloads.uso
        }
    );
    drop(again);
    ns.enter(|| delete("t0")).unwrap();
    assert!(
        matches!(ns.enter(|| open_queue("t0", false)), Err(TapError::NotFound { name }) if name == "t0")
    );
    assert!(
        !ns.ip("link show").contains("t0"),
        "a failed open makes nothing"
    );
}

#[test]
fn a_queue_that_is_about_to_be_closed_is_waited_for() {
    let ns = Netns::new();
    let opened = create(&ns, "t0");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            drop(opened);
        });
        ns.enter(|| delete("t0")).expect("free after 100 ms");
    });
    let opened = create(&ns, "t0");
    let refused = ns.enter(|| delete("t0")).unwrap_err();
    assert!(matches!(refused, TapError::Busy { .. }), "{refused}");
    drop(opened);
}

#[test]
fn every_mistake_has_its_own_error() {
    let ns = Netns::new();
    ns.ip("link add d0 type veth peer name d1");
    let single = create(&ns, "t0");
    ns.enter(|| {
        let multi = TapOptions { multi_queue: true, ..TapOptions::default() };
        assert!(matches!(create_persistent("t0", &TapOptions::default()), Err(TapError::Taken { .. })));
        assert!(matches!(create_persistent("d0", &TapOptions::default()), Err(TapError::Taken { .. })));
        assert!(matches!(open_queue("d0", false), Err(TapError::NotTap { .. })));
        assert!(matches!(open_queue("t0", false), Err(TapError::Busy { .. })));
        assert!(matches!(open_queue("t0", true), Err(TapError::QueueMode { wanted: true, .. })));
        let first = create_persistent("t1", &multi).unwrap();
        let second = open_queue("t1", true).unwrap();
        assert!(matches!(open_queue("t1", false), Err(TapError::QueueMode { wanted: false, .. })));
        drop((first, second));
        let error = open_queue("t1", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface t1 was made with multi_queue = true, opened with multi_queue = false; they must be equal"
        );
        delete("t1").unwrap();
        for name in ["", "a/b", "with space", "sixteen-letters-", "..", "t%d"] {
            assert!(matches!(create_persistent(name, &TapOptions::default()), Err(TapError::Name { .. })), "{name}");
        }
    });
    drop(single);
}

#[test]
fn a_tap_moved_to_another_namespace_keeps_its_descriptor() {
    let (node, pod) = (Netns::new(), Netns::new());
    let opened = create(&node, "t0");
    node.ip(&format!("link set t0 netns {} name eth0", pod.name));
    pod.ip("addr add 10.8.0.1/24 dev eth0");
    pod.ip("link set eth0 up");
    let mut tap = Tap::new(Arc::new(opened.fd), 5);
    let (mut pool, mut batch) = (pool(), Batch::new());
    // Router solicitation, MLD and the like come by themselves.
    eventually("a frame from the pod", || {
        (tap.receive(&mut pool, &mut batch, 1).unwrap() > 0).then_some(())
    });
    assert_eq!((batch.frames[0].port, batch.frames[0].start), (5, 192));
    unpersist(tap.fd().as_fd()).unwrap();
    drop(tap);
    assert!(!pod.ip("link show").contains("eth0"));
}

#[test]
fn a_link_that_is_down_or_gone_says_so() {
    let ns = Netns::new();
    let mut tap = Tap::new(Arc::new(create(&ns, "t0").fd), 1);
    let (mut pool, mut batch) = (pool(), Batch::new());
    let buf = pool.alloc().unwrap();
    let frame = Frame {
        buf: buf.id(),
        start: 192,
        linear: 60,
        len: 60,
        tail: ringway_ports::Tail::default(),
        offload: Default::default(),
        packets: 1,
        port: 0,
        slot: ringway_ports::SHARED,
    };
    batch.push(frame, buf).unwrap();
    assert_eq!(
        tap.transmit(&mut pool, &batch, &frame),
        Err(TransmitError::Down)
    );
    ns.ip("link set t0 up");
    assert_eq!(tap.transmit(&mut pool, &batch, &frame), Ok(()));
    // Frames that point outside their memory are refused before the kernel sees them.
    for bad in [
        Frame { start: 9, ..frame },
        Frame {
            linear: 13,
            ..frame
        },
        Frame {
            linear: u32::MAX,
            ..frame
        },
        Frame {
            start: u32::MAX,
            ..frame
        },
        Frame {
            tail: ringway_ports::Tail { first: 0, count: 1 },
            ..frame
        },
    ] {
        assert!(
            matches!(
                tap.transmit(&mut pool, &batch, &bad),
                Err(TransmitError::Malformed { .. })
            ),
            "{bad:?}"
        );
    }
    ns.ip("link del t0");
    assert_eq!(
        tap.transmit(&mut pool, &batch, &frame),
        Err(TransmitError::Gone)
    );
    batch.recycle(&mut pool);
    assert!(tap.receive(&mut pool, &mut batch, 1).is_err());
    assert_eq!(pool.available(), pool.total());
}

#[test]
fn the_kernel_pings_through_a_tap() {
    let ns = Netns::new();
    let mut tap = Tap::new(Arc::new(create(&ns, "t0").fd), 1);
    ns.ip("addr add 10.8.0.1/24 dev t0");
    ns.ip("link set t0 up");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let responder = scope.spawn(|| {
            let (mut pool, mut batch, mut echoes) = (pool(), Batch::new(), 0);
            while !done.load(Ordering::Relaxed) {
                if tap.receive(&mut pool, &mut batch, 64).unwrap() == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
                for frame in batch.frames.clone() {
                    let range = frame.start as usize..(frame.start + frame.linear) as usize;
                    if respond(&mut pool.bytes_mut(frame.buf)[range], &mut echoes) {
                        tap.transmit(&mut pool, &batch, &frame).unwrap();
                    }
                }
                batch.recycle(&mut pool);
            }
            echoes
        });
        let output = ns.exec("ping -n -c 3 -i 0.02 -W 2 -s 1000 10.8.0.2");
        done.store(true, Ordering::Relaxed);
        assert!(output.contains(" 0% packet loss"), "{output}");
        assert_eq!(responder.join().unwrap(), 3);
    });
    assert_eq!(tap.counters().malformed, 0);
}

/// Turns an ARP request or an ICMP echo request into its answer in place.
fn respond(frame: &mut [u8], echoes: &mut u32) -> bool {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
    frame.copy_within(6..12, 0);
    frame[6..12].copy_from_slice(&MAC);
    match (frame[12], frame[13]) {
        (8, 6) => {
            let target: [u8; 4] = frame[38..42].try_into().unwrap();
            frame[21] = 2;
            frame.copy_within(22..32, 32);
            frame[22..28].copy_from_slice(&MAC);
            frame[28..32].copy_from_slice(&target);
            true
        }
        (8, 0) if frame[23] == 1 && frame[34] == 8 => {
            let source: [u8; 4] = frame[26..30].try_into().unwrap();
            frame.copy_within(30..34, 26);
            frame[30..34].copy_from_slice(&source);
            frame[34] = 0;
            // One word went from 0x0800 to 0, so its complement's sum grows by as much (RFC 1624).
            let sum = u32::from(u16::from_be_bytes([frame[36], frame[37]])) + 0x0800;
            let sum = (sum & 0xffff) + (sum >> 16);
            frame[36..38].copy_from_slice(&(sum as u16).to_be_bytes());
            *echoes += 1;
            true
        }
        _ => false,
    }
}

/// What a [`relay`] saw.
#[derive(Default, Debug)]
struct Seen {
    tcp4: u32,
    tcp6: u32,
    udp: u32,
    partial: u32,
    largest: u32,
    packets: u64,
}

/// Carries frames between two TAPs until `done`, each frame in three pieces if `split`.
fn relay(taps: &mut [Tap; 2], split: bool, done: &AtomicBool) -> Seen {
    let (mut pool, mut batch, mut seen) = (pool(), Batch::new(), Seen::default());
    while !done.load(Ordering::Relaxed) {
        let mut idle = true;
        for (from, to) in [(0, 1), (1, 0)] {
            idle &= taps[from].receive(&mut pool, &mut batch, 64).unwrap() == 0;
            for i in 0..batch.frames.len() {
                let mut frame = batch.frames[i];
                match frame.offload.gso {
                    Gso::Tcp4 => seen.tcp4 += 1,
                    Gso::Tcp6 => seen.tcp6 += 1,
                    Gso::Udp => seen.udp += 1,
                    Gso::None => assert_eq!(frame.packets, 1),
                }
                if frame.offload.gso != Gso::None {
                    assert!(
                        matches!(frame.offload.checksum, Checksum::Partial { .. }),
                        "{frame:?}"
                    );
                    let least = (frame.len - 200) / u32::from(frame.offload.gso_size);
                    assert!(u32::from(frame.packets) >= least.max(1), "{frame:?}");
                }
                seen.partial +=
                    u32::from(matches!(frame.offload.checksum, Checksum::Partial { .. }));
                seen.largest = seen.largest.max(frame.len);
                seen.packets += u64::from(frame.packets);
                if split && frame.len > 100 {
                    let middle = (frame.len - 100) / 2;
                    let slices = [
                        Slice {
                            buf: frame.buf,
                            off: frame.start + 100,
                            len: middle,
                        },
                        Slice {
                            buf: frame.buf,
                            off: frame.start + 100 + middle,
                            len: frame.len - 100 - middle,
                        },
                    ];
                    frame.tail = batch.push_tail(&slices).unwrap();
                    frame.linear = 100;
                }
                match taps[to].transmit(&mut pool, &batch, &frame) {
                    Ok(()) | Err(TransmitError::Full) => {}
                    Err(error) => panic!("{error}: {frame:?}"),
                }
            }
            batch.recycle(&mut pool);
        }
        if idle {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    assert_eq!(pool.available(), pool.total());
    seen
}

fn joined() -> ([Netns; 2], [Tap; 2], Offloads) {
    let namespaces = [Netns::new(), Netns::new()];
    let mut offloads = Offloads::default();
    let mut port = 0;
    let taps = namespaces.each_ref().map(|ns| {
        let opened = create(ns, "t0");
        offloads = opened.offloads;
        port += 1;
        ns.ip(&format!("addr add 10.8.0.{port}/24 dev t0"));
        ns.ip(&format!("addr add fd08::{port}/64 dev t0 nodad"));
        ns.ip("link set t0 up");
        Tap::new(Arc::new(opened.fd), port)
    });
    (namespaces, taps, offloads)
}

const MEGABYTES: usize = 8;

fn block(i: usize) -> Vec<u8> {
    (0..1 << 20)
        .map(|j: usize| (j.wrapping_mul(2_654_435_761) >> 13) as u8 ^ i as u8)
        .collect()
}

fn tcp_through(address: &str, split: bool) -> Seen {
    let ([a, b], mut taps, _) = joined();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let cable = scope.spawn(|| relay(&mut taps, split, &done));
        let listener = b.enter(|| TcpListener::bind(address)).unwrap();
        let server = scope.spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut data = vec![0; 1 << 20];
            for i in 0..MEGABYTES {
                stream.read_exact(&mut data).unwrap();
                assert!(data == block(i), "megabyte {i} arrived as sent");
            }
            stream.write_all(b"k").unwrap();
        });
        let mut stream = a.enter(|| TcpStream::connect(address)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        for i in 0..MEGABYTES {
            stream.write_all(&block(i)).unwrap();
        }
        stream.read_exact(&mut [0]).unwrap();
        server.join().unwrap();
        done.store(true, Ordering::Relaxed);
        cable.join().unwrap()
    })
}

#[test]
fn tcp_superframes_pass_whole() {
    let seen = tcp_through("10.8.0.2:5001", false);
    assert!(seen.tcp4 > 50 && seen.largest > 30_000, "{seen:?}");
    assert!(seen.packets > (MEGABYTES << 20) as u64 / 1500, "{seen:?}");
}

#[test]
fn ipv6_tcp_superframes_pass_in_pieces() {
    let seen = tcp_through("[fd08::2]:5001", true);
    assert!(seen.tcp6 > 50 && seen.largest > 30_000, "{seen:?}");
}

#[test]
fn udp_superframes_pass_whole() {
    let ([a, b], mut taps, offloads) = joined();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let cable = scope.spawn(|| relay(&mut taps, false, &done));
        let receiver = b.enter(|| UdpSocket::bind("10.8.0.2:5002")).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let sender = a.enter(|| UdpSocket::bind("10.8.0.1:0")).unwrap();
        sender.connect("10.8.0.2:5002").unwrap();
        sender.send(b"so that the neighbour is known").unwrap();
        assert_eq!(receiver.recv(&mut [0; 100]).unwrap(), 30);
        let size = 1000i32;
        // SAFETY: the value is a live int, as UDP_SEGMENT takes it.
        let result = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&sender),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const size).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
        let data: Vec<u8> = (0..20_500u32).map(|i| (i / 1000) as u8).collect();
        sender.send(&data).unwrap();
        for i in 0..21u8 {
            let mut buffer = [0; 2000];
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!((len, buffer[0]), (if i == 20 { 500 } else { 1000 }, i));
        }
        done.store(true, Ordering::Relaxed);
        let seen = cable.join().unwrap();
        if offloads.uso {
            assert_eq!(seen.udp, 1, "{seen:?}");
        } else {
            println!("SKIPPED: no USO on this kernel (needs Linux 6.2)");
        }
    });
}

#[test]
fn a_frame_larger_than_a_buffer_is_counted_not_cut() {
    let ns = Netns::new();
    let mut tap = Tap::new(Arc::new(create(&ns, "t0").fd), 1);
    ns.ip("addr add 10.8.0.1/24 dev t0");
    ns.ip("link set t0 up");
    ns.ip("neigh add 10.8.0.2 lladdr 02:00:00:00:00:02 dev t0");
    let sender = ns.enter(|| UdpSocket::bind("10.8.0.1:0")).unwrap();
    sender.send_to(&[1; 1400], "10.8.0.2:9").unwrap();
    sender.send_to(&[2; 100], "10.8.0.2:9").unwrap();
    let (mut pool, mut batch) = (Pool::heap(8, 1024), Batch::new());
    let small = eventually("the small datagram", || {
        batch.recycle(&mut pool);
        tap.receive(&mut pool, &mut batch, 8).unwrap();
        batch.frames.iter().find(|frame| frame.len == 142).copied()
    });
    assert_eq!(pool.bytes(small.buf)[small.start as usize + 42], 2);
    assert_eq!(tap.counters().malformed, 1);
}

#[test]
fn queues_of_one_tap_are_read_apart() {
    let ns = Netns::new();
    let options = TapOptions {
        multi_queue: true,
        ..TapOptions::default()
    };
    let (first, second) = ns.enter(|| {
        (
            create_persistent("t0", &options).unwrap(),
            open_queue("t0", true).unwrap(),
        )
    });
    ns.ip("addr add 10.8.0.1/24 dev t0");
    ns.ip("link set t0 up");
    ns.ip("neigh add 10.8.0.2 lladdr 02:00:00:00:00:02 dev t0");
    let mut taps = [
        Tap::new(Arc::new(first.fd), 1),
        Tap::new(Arc::new(second.fd), 2),
    ];
    let (mut pool, mut seen) = (pool(), [0, 0]);
    let socket = ns.enter(|| {
        (0..64)
            .map(|_| UdpSocket::bind("10.8.0.1:0").unwrap())
            .collect::<Vec<_>>()
    });
    for sender in &socket {
        sender.send_to(b"x", "10.8.0.2:9").unwrap();
    }
    eventually("64 frames over two queues", || {
        for (tap, seen) in taps.iter_mut().zip(&mut seen) {
            let mut batch = Batch::new();
            tap.receive(&mut pool, &mut batch, 64).unwrap();
            *seen += batch.frames.iter().filter(|frame| frame.len == 43).count();
            batch.recycle(&mut pool);
        }
        (seen[0] + seen[1] == 64).then_some(())
    });
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}
