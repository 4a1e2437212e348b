//! AF_XDP rings on a real veth pair, in copy mode: frames arrive as they were sent, nothing is lost by the
//! accounting, and what cannot be is said.

mod common;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use common::{Netns, eventually, veth_pair};
use ringway_ports::xdp::{AttachMode, AttachOptions, Attachment, Filter, Program, XskMap};
use ringway_ports::xsk::{MAX_FRAME, RX_HEADROOM, RxFrame, Xsk, XskConfig, XskError, ZeroCopy};
use ringway_ports::{HEADROOM, Pool};

const PORT: u16 = 8472;
const ETHERNET: usize = 14;

fn ifindex(ns: &Netns) -> u32 {
    let json = ns.exec("cat /sys/class/net/v0/ifindex");
    json.trim().parse().unwrap()
}

fn mac(ns: &Netns) -> [u8; 6] {
    let text = ns.exec("cat /sys/class/net/v0/address");
    let mut bytes = text
        .trim()
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).unwrap());
    std::array::from_fn(|_| bytes.next().unwrap())
}

fn config(ns: &Netns, queue: u32, ring: u8) -> XskConfig {
    XskConfig {
        ifindex: ifindex(ns),
        queue,
        ring,
        entries: 256,
        fill: 128,
        zero_copy: ZeroCopy::Prefer,
        busy_poll_us: None,
        patience: Duration::from_millis(500),
    }
}

/// The receiving end: rings on every queue, the program on the interface.
struct End {
    pool: Pool,
    rings: Vec<Xsk>,
    attachment: Option<Attachment>,
    map: XskMap,
}

impl End {
    fn open(ns: &Netns, host: u8, queues: u32, mode: AttachMode) -> End {
        ns.enter(|| {
            let mut pool = Pool::umem(64, 1024, 1518);
            let map = XskMap::new(queues).unwrap();
            let mut rings: Vec<Xsk> = Vec::new();
            for queue in 0..queues {
                let share = rings.first().map(|first| first.fd().clone());
                let share = share.as_ref().map(AsFd::as_fd);
                let xsk = Xsk::open(&mut pool, &config(ns, queue, queue as u8), share).unwrap();
                map.set(queue, xsk.fd().as_fd()).unwrap();
                rings.push(xsk);
            }
            let addresses: Vec<IpAddr> = vec![
                format!("10.9.0.{host}").parse().unwrap(),
                format!("fd09::{host}").parse().unwrap(),
            ];
            let filter = Filter {
                addresses,
                ports: vec![PORT],
                cidrs: Vec::new(),
            };
            let program = Program::load(&filter, &map, false).unwrap();
            let want = AttachOptions {
                mode,
                take_over: false,
            };
            let attachment = Some(Attachment::attach("v0", &program, want).unwrap());
            End {
                pool,
                rings,
                attachment,
                map,
            }
        })
    }

    /// Takes in what has come, as payload of UDP over IPv4, until there are `count`.
    fn collect(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        eventually("frames from the ring", || {
            let mut frames = Vec::new();
            for xsk in &mut self.rings {
                xsk.receive(&mut self.pool, &mut frames, 64);
            }
            for RxFrame { buf, off, len } in frames {
                let bytes = self.pool.slice(buf.id(), off, len).unwrap();
                assert!(off as usize >= RX_HEADROOM);
                got.push(bytes[ETHERNET + 28..].to_vec());
                self.pool.free(buf);
            }
            self.check();
            (got.len() >= count).then_some(())
        });
        got
    }

    /// Every buffer is somewhere.
    fn check(&self) {
        let census = self.pool.census();
        let filled: u32 = self.rings.iter().map(Xsk::filled).sum();
        let sending: u32 = self.rings.iter().map(Xsk::sending).sum();
        assert_eq!(census.total, census.free + census.held + census.in_rings);
        assert_eq!(census.in_rings as u32, filled + sending);
        assert!(self.rings.iter().all(|xsk| xsk.counters().stray == 0));
    }
}

fn payload(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|j| (i * 31 + j * 7) as u8).collect()
}

#[test]
fn a_datagram_arrives_byte_for_byte_and_others_pass() {
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let (a, b) = veth_pair();
        let mut end = End::open(&b, 2, 1, mode);
        let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
        let passing = b.enter(|| UdpSocket::bind("10.9.0.2:9")).unwrap();
        passing
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let sent: Vec<_> = (0..100).map(|i| payload(i, 20 + i * 13)).collect();
        for datagram in &sent {
            sender.send_to(datagram, ("10.9.0.2", PORT)).unwrap();
            sender.send_to(b"by", "10.9.0.2:9").unwrap();
        }
        assert_eq!(end.collect(sent.len()), sent);
        for _ in &sent {
            assert_eq!(passing.recv(&mut [0; 8]).unwrap(), 2);
        }
        assert_eq!(end.rings[0].counters().received, 100);
    }
}

/// An Ethernet, IPv4 and UDP frame, checksums left out where they may be.
fn frame(from: [u8; 6], to: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut f = [&to[..], &from[..], &[8, 0]].concat();
    let len = 28 + payload.len();
    f.extend([
        0x45,
        0,
        (len >> 8) as u8,
        len as u8,
        0,
        0,
        0x40,
        0,
        64,
        17,
        0,
        0,
    ]);
    f.extend([10, 9, 0, 1, 10, 9, 0, 2]);
    let sum: u32 = f[ETHERNET..]
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    f[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    f.extend([0xc0, 0, (PORT >> 8) as u8, PORT as u8]);
    f.extend([((len - 20) >> 8) as u8, (len - 20) as u8, 0, 0]);
    f.extend_from_slice(payload);
    f
}

/// Sends frames from large buffers, from a place of their own in each, until `count` are queued.
fn send(end: &mut End, ring: usize, from: [u8; 6], to: [u8; 6], count: usize) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for i in 0..count {
        let bytes = payload(i, 20 + i * 17 % 1400);
        let frame = frame(from, to, &bytes);
        let buf = eventually("a free buffer", || {
            end.rings[ring].flush(&mut end.pool);
            end.pool.alloc()
        });
        let at = HEADROOM - i % 70;
        end.pool.bytes_mut(buf.id())[at..at + frame.len()].copy_from_slice(&frame);
        let name = buf.id();
        end.rings[ring]
            .transmit(&mut end.pool, buf, at as u32, frame.len() as u32)
            .unwrap();
        assert_eq!(end.pool.slice(name, 0, 1), None, "it is the ring's");
        sent.push(bytes);
    }
    end.rings[ring].flush(&mut end.pool);
    sent
}

#[test]
fn frames_are_sent_from_where_they_lie_and_come_back() {
    let (a, b) = veth_pair();
    let (mut from, mut to) = (
        End::open(&a, 1, 1, AttachMode::Native),
        End::open(&b, 2, 1, AttachMode::Native),
    );
    for _ in 0..5 {
        let sent = send(&mut from, 0, mac(&a), mac(&b), 100);
        assert_eq!(to.collect(sent.len()), sent);
    }
    eventually("all buffers back", || {
        from.rings[0].reap(&mut from.pool);
        from.check();
        (from.rings[0].sending() == 0).then_some(())
    });
    assert_eq!(from.pool.census().in_rings as u32, from.rings[0].filled());
    assert_eq!(from.pool.available(), 64);
    let got = from.rings[0].got();
    assert!(
        !got.zero_copy && got.refused.is_some(),
        "a veth copies: {got:?}"
    );
}

#[test]
fn one_pool_serves_the_rings_of_all_queues() {
    let (a, b) = (Netns::new(), Netns::new());
    a.ip(&format!(
        "link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v0 numrxqueues 2 numtxqueues 2 netns {}",
        b.name
    ));
    for (ns, host) in [(&a, 1), (&b, 2)] {
        ns.ip(&format!("addr add 10.9.0.{host}/24 dev v0"));
        ns.ip("link set v0 up");
    }
    let mut end = End::open(&b, 2, 2, AttachMode::Native);
    let mut sent = 0;
    for i in 0..64 {
        let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
        sender
            .send_to(&payload(i, 100), ("10.9.0.2", PORT))
            .unwrap();
        sent += 1;
    }
    assert_eq!(end.collect(sent).len(), sent);
    let by_queue: Vec<u64> = end.rings.iter().map(|x| x.counters().received).collect();
    assert!(by_queue.iter().all(|n| *n > 0), "{by_queue:?}");
    // A queue without a ring passes to the socket.
    end.map.clear(0).unwrap();
    end.map.clear(1).unwrap();
    let socket = b.enter(|| UdpSocket::bind(("10.9.0.2", PORT))).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
    sender.send_to(b"kernel", ("10.9.0.2", PORT)).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 6);
}

#[test]
fn a_starved_fill_ring_loses_frames_and_recovers() {
    let (a, b) = veth_pair();
    let mut end = End::open(&b, 2, 1, AttachMode::Native);
    // Nobody else gets a frame while these are held.
    let mut hoard = Vec::new();
    while let Some(frame) = end.pool.alloc_frame() {
        hoard.push(frame);
    }
    let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
    for i in 0..300 {
        sender.send_to(&payload(i, 64), ("10.9.0.2", PORT)).unwrap();
    }
    let mut frames = Vec::new();
    eventually("as many as the fill ring had", || {
        end.rings[0].receive(&mut end.pool, &mut frames, 64);
        (frames.len() == 128).then_some(())
    });
    assert!(end.rings[0].counters().starved > 0);
    let lost = eventually("the kernel's count of what was lost", || {
        let statistics = end.rings[0].statistics().unwrap();
        (statistics.fill_ring_empty + statistics.rx_dropped > 0).then_some(statistics)
    });
    assert!(lost.fill_ring_empty > 0, "{lost:?}");
    for frame in frames.into_iter().map(|f| f.buf).chain(hoard) {
        end.pool.free(frame);
    }
    end.rings[0].refill(&mut end.pool);
    end.check();
    sender.send_to(&payload(7, 64), ("10.9.0.2", PORT)).unwrap();
    assert_eq!(end.collect(1), [payload(7, 64)]);
}

#[test]
fn a_link_that_is_down_stalls_the_ring_and_fills_it() {
    let (a, b) = veth_pair();
    let mut end = End::open(&a, 1, 1, AttachMode::Native);
    a.ip("link set v0 down");
    let (from, to) = (mac(&a), mac(&b));
    let frame = frame(from, to, &[1; 60]);
    let mut refused = 0;
    for _ in 0..300 {
        let Some(buf) = end.pool.alloc_frame() else {
            break;
        };
        end.pool.bytes_mut(buf.id())[..frame.len()].copy_from_slice(&frame);
        if let Err(buf) = end.rings[0].transmit(&mut end.pool, buf, 0, frame.len() as u32) {
            end.pool.free(buf);
            refused += 1;
        }
    }
    end.rings[0].flush(&mut end.pool);
    assert!(end.rings[0].is_stalled());
    assert_eq!(
        (refused, end.rings[0].counters().full),
        (300 - 256, 300 - 256)
    );
    assert_eq!((end.rings[0].backlog(), end.rings[0].sending()), (256, 256));
    end.check();
    a.ip("link set v0 up");
    eventually("the ring moves again", || {
        end.rings[0].flush(&mut end.pool);
        (end.rings[0].sending() == 0).then_some(())
    });
    assert!(!end.rings[0].is_stalled());
    end.check();
}

#[test]
fn a_closed_ring_gives_its_frames_back_and_the_queue_can_be_had_again() {
    let (a, b) = veth_pair();
    let mut end = End::open(&b, 2, 1, AttachMode::Native);
    let busy = b.enter(|| {
        let mut other = Pool::umem(8, 64, 1518);
        let config = XskConfig {
            patience: Duration::from_millis(30),
            ..config(&b, 0, 0)
        };
        let error = Xsk::open(&mut other, &config, None).unwrap_err();
        assert_eq!(other.census().free, 72, "what was filled came back");
        error
    });
    assert!(matches!(busy, XskError::Busy { queue: 0, .. }), "{busy}");
    assert!(busy.to_string().contains("another AF_XDP socket"), "{busy}");
    drop(end.attachment.take());
    let closed = end.rings.pop().unwrap().close();
    assert!(end.pool.census().in_rings > 0, "not yet");
    // At once, as after a restart: the kernel lets go of the queue a little later.
    let again = b
        .enter(|| Xsk::open(&mut end.pool, &config(&b, 0, 1), None))
        .unwrap();
    assert_eq!(closed.reclaim(&mut end.pool), 128);
    end.map.set(0, again.fd().as_fd()).unwrap();
    end.rings.push(again);
    let map = &end.map;
    end.attachment = b.enter(|| {
        let filter = Filter {
            addresses: vec!["10.9.0.2".parse().unwrap()],
            ports: vec![PORT],
            cidrs: Vec::new(),
        };
        let program = Program::load(&filter, map, false).unwrap();
        Some(Attachment::attach("v0", &program, AttachOptions::default()).unwrap())
    });
    let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
    sender.send_to(b"again", ("10.9.0.2", PORT)).unwrap();
    assert_eq!(end.collect(1), [b"again".to_vec()]);
}

#[test]
fn what_does_not_exist_is_named() {
    let (ns, _peer) = veth_pair();
    ns.enter(|| {
        let mut pool = Pool::umem(8, 64, 1518);
        let error = Xsk::open(&mut pool, &config(&ns, 5, 0), None).unwrap_err();
        assert!(error.to_string().contains("no queue 5"), "{error}");
        let gone = XskConfig {
            ifindex: 9999,
            ..config(&ns, 0, 0)
        };
        let error = Xsk::open(&mut pool, &gone, None).unwrap_err();
        assert!(error.to_string().contains("interface 9999"), "{error}");
        assert_eq!(pool.census().free, 72);
    });
    assert_eq!(MAX_FRAME, 4096 - 256);
}
