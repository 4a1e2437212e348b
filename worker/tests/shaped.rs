//! Real TAPs, real connections, and the rate that they get. Needs root.
//!
//! ```text
//!   pod 2 ──20 Mbit/s from it──▶ pod 4 ──no limit──▶ pod 5 ──20 Mbit/s to it──▶ pod 3
//! ```

mod node;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, RcvBufForce};
use ringway_kernel::netns::run_in;
use ringway_kernel::pod::interface::Making;
use ringway_kernel::pod::queue::Queue;
use ringway_kernel::testing::{Pod, in_netns};
use ringway_switch::DropReason;
use ringway_tables::PortId;
use ringway_worker::Polling;

use node::*;

const RATE: u64 = 20_000_000;
/// Burst that nobody asked for, in frames of 1000 bytes: 100 ms at the rate.
const BURST: u64 = RATE / 80_000;
/// Before a rate is measured: the burst is used up, a connection has found its speed.
const BEGIN: Duration = Duration::from_secs(1);
const MEASURE: Duration = Duration::from_secs(3);

/// Pods 2 to 5 on a node with workers.
struct Lab {
    node: Node,
    pods: Vec<(Pod, Making)>,
}

impl Lab {
    fn new(workers: usize, polling: Polling) -> Lab {
        let mut node = Node::new(workers, polling);
        let limits = [Some(egress(RATE, 0)), Some(ingress(RATE, 0)), None, None];
        let pods = (2..).zip(limits).map(|(n, limits)| {
            let inside = Pod::new();
            let making = interface_of(n, &inside, workers);
            node.attach_all(n, &making.queues(), limits.as_ref());
            (inside, making)
        });
        let pods = pods.collect();
        Lab { node, pods }
    }

    /// Runs in the namespace of pod `n`.
    fn within<T: Send>(&self, n: u32, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.pods[n as usize - 2].0.netns(), work).unwrap()
    }

    /// How the TAP of pod `n` queues.
    fn set_queue(&self, n: u32, queue: &Queue) {
        let mut inside = self.pods[n as usize - 2].0.netlink();
        let index = inside.link("eth0").unwrap().index;
        inside.change_link(index, &queue.change()).unwrap();
    }

    /// Bytes per second on the wire of a connection.
    fn tcp(&self, from: u32, to: u32, v6: bool) -> f64 {
        let listener = self.within(to, || TcpListener::bind((ip(to, v6), 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let mut client = self.within(from, || TcpStream::connect(address).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let writer = thread::spawn(move || while client.write_all(&[7; 65_536]).is_ok() {});
        let mut buf = vec![0; 1 << 20];
        let mut read_for = |time: Duration| {
            let begin = Instant::now();
            let mut bytes = 0;
            while begin.elapsed() < time {
                bytes += server.read(&mut buf).unwrap();
            }
            bytes as f64 / begin.elapsed().as_secs_f64()
        };
        read_for(BEGIN);
        let payload = read_for(MEASURE);
        drop(server);
        writer.join().unwrap();
        // Full packets with timestamps: an Ethernet header on the wire, IP and TCP headers inside.
        let headers = if v6 { 40 } else { 20 } + 32;
        payload * f64::from(MTU + 14) / f64::from(MTU - headers)
    }

    /// Sends datagrams of 1000 bytes on the wire as fast as it goes, for a second or so.
    fn flood(&self, from: u32, to: u32, v6: bool) -> Flood {
        let sink = self.within(to, || UdpSocket::bind((ip(to, v6), 0)).unwrap());
        setsockopt(&sink, RcvBufForce, &(8 << 20)).unwrap();
        let address = sink.local_addr().unwrap();
        let source = self.within(from, || UdpSocket::bind((ip(from, v6), 0)).unwrap());
        let payload = vec![7; 1000 - 14 - 8 - if v6 { 40 } else { 20 }];
        sink.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let arrived = thread::spawn(move || {
            let mut arrived = 0;
            while sink.recv(&mut [0; 1500]).is_ok() {
                arrived += 1;
            }
            arrived
        });
        let (begin, mut sent) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_secs(1) {
            sent += u64::from(source.send_to(&payload, address).is_ok());
        }
        let at_the_rate = (RATE / 8000) as f64 * begin.elapsed().as_secs_f64();
        Flood {
            sent,
            arrived: arrived.join().unwrap(),
            at_the_rate: at_the_rate as u64,
        }
    }
}

/// Datagrams of a flood.
struct Flood {
    sent: u64,
    /// Until nothing came any more.
    arrived: u64,
    /// What the rate let through while it was sent.
    at_the_rate: u64,
}

/// Whether it is the rate, less a tenth; it must not be more than that and a tenth.
fn at_the_rate(what: &str, bytes_per_second: f64) -> bool {
    let share = bytes_per_second * 8.0 / RATE as f64;
    println!("{what}: {share:.3} of the rate");
    assert!(share < 1.1, "{what}: {share:.3} of the rate");
    share > 0.9
}

fn connections(workers: usize, polling: Polling) {
    in_netns(move || {
        let lab = Lab::new(workers, polling);
        for v6 in [false, true] {
            enough("the slower of both, in bit/s", || {
                thread::scope(|scope| {
                    let from = scope.spawn(|| lab.tcp(2, 4, v6));
                    let to = scope.spawn(|| lab.tcp(5, 3, v6));
                    let beside = scope.spawn(|| lab.tcp(4, 5, v6));
                    let (from, to) = (from.join().unwrap(), to.join().unwrap());
                    let both = [
                        at_the_rate("from the pod", from),
                        at_the_rate("to the pod", to),
                    ];
                    let beside = beside.join().unwrap() * 8.0;
                    println!("beside them: {:.0} Mbit/s", beside / 1e6);
                    let more = beside > 20.0 * RATE as f64;
                    (from.min(to) * 8.0, both == [true; 2] && more)
                })
            });
        }
        lab.node.stop();
    });
}

#[test]
fn connections_get_the_rate_and_others_all_there_is() {
    connections(1, Polling::Adaptive);
}

#[test]
fn the_rate_is_that_of_all_workers_together() {
    connections(2, Polling::Interrupt);
}

#[test]
fn a_flood_to_a_limited_pod_is_dropped_and_counted() {
    in_netns(|| {
        let lab = Lab::new(1, Polling::Interrupt);
        for v6 in [false, true] {
            enough("datagrams that arrived", || {
                let before = lab.node.lost(DropReason::RateLimited);
                let delivered = lab.node.sum(|c| &c.port(PortId(3)).tx.count.packets);
                let Flood {
                    arrived,
                    at_the_rate,
                    ..
                } = lab.flood(4, 3, v6);
                let dropped = lab.node.lost(DropReason::RateLimited) - before;
                let delivered = lab.node.sum(|c| &c.port(PortId(3)).tx.count.packets) - delivered;
                // At the rate, the burst, and what waited at the end; ND is in `delivered`.
                let fair = at_the_rate + 2 * BURST;
                println!("{arrived} of {delivered} arrived, not {fair}, {dropped} dropped");
                assert!(arrived * 10 < fair * 11, "{arrived}, not {fair}");
                let told = arrived + dropped;
                assert!(
                    (told..told + 5).contains(&delivered),
                    "{told} of {delivered}"
                );
                (arrived as f64, arrived * 10 > fair * 9 && dropped > fair)
            });
        }
        let lost = [
            DropReason::PortFull,
            DropReason::PortRefused,
            DropReason::NoBuffer,
        ];
        assert_eq!(lost.map(|reason| lab.node.lost(reason)), [0; 3]);
        lab.node.stop();
    });
}

#[test]
fn a_flood_from_a_limited_pod_wakes_the_worker_seldom_and_loses_nothing_here() {
    in_netns(|| {
        let lab = Lab::new(1, Polling::Interrupt);
        let queue = Queue {
            len: 100,
            ..Queue::of(MTU, None)
        };
        lab.set_queue(2, &queue);
        enough("datagrams that arrived", || {
            let (rounds, before) = (lab.node.rounds(), lab.node.sum(|c| &c.received.packets));
            let flood = lab.flood(2, 4, false);
            let (sent, arrived) = (flood.sent, flood.arrived);
            let received = lab.node.sum(|c| &c.received.packets) - before;
            let rounds = lab.node.rounds() - rounds;
            // At the rate, the burst, and the TAP's queue at the end.
            let fair = flood.at_the_rate + BURST + 100;
            println!(
                "{sent} sent, {received} read, {arrived} arrived, not {fair}, {rounds} rounds"
            );
            assert!(arrived * 10 < fair * 11, "{arrived}, not {fair}");
            let lost = |(name, _): &&(String, u64)| name.starts_with("lost");
            let counted = lab.node.counted();
            assert_eq!(counted.iter().find(lost), None);
            assert!(rounds < 2000, "{rounds} rounds in 2 s");
            // What the TAP's queue could not hold was dropped there, where the pod sees it.
            (
                arrived as f64,
                arrived * 10 > fair * 9 && sent > 2 * received,
            )
        });
        lab.node.stop();
    });
}

#[test]
fn whoever_sends_beside_bulk_does_not_wait_long() {
    in_netns(|| {
        let lab = Lab::new(1, Polling::Adaptive);
        let limits = egress(RATE, 0);
        lab.set_queue(
            2,
            &Queue::of(MTU, limits.egress.as_ref().map(|limit| limit.bucket.rate())),
        );
        let echo = lab.within(5, || UdpSocket::bind((ip(5, false), 7)).unwrap());
        let ask = lab.within(2, || UdpSocket::bind((ip(2, false), 0)).unwrap());
        for socket in [&echo, &ask] {
            let patience = Some(Duration::from_secs(1));
            socket.set_read_timeout(patience).unwrap();
        }
        // A packet that the full queue refuses is an error of the call, not a silence.
        setsockopt(&ask, Ipv4RecvErr, &true).unwrap();
        enough("bytes per second of all streams", || {
            thread::scope(|scope| {
                let bulk: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| lab.tcp(2, 4, false)))
                    .collect();
                thread::sleep(BEGIN);
                let read = || lab.node.sum(|c| &c.port(PortId(2)).rx.bytes) as f64;
                let (before, since) = (read(), Instant::now());
                let (mut waited, mut answers) = (Duration::ZERO, 0);
                while !bulk.iter().any(|stream| stream.is_finished()) {
                    let begin = Instant::now();
                    // It is asked again, and the time counts.
                    while let Err(e) = ask.send_to(b"?", (ip(5, false), 7)) {
                        assert_eq!(e.raw_os_error(), Some(Errno::ENOBUFS as i32));
                        thread::sleep(Duration::from_millis(1));
                    }
                    if let Ok((len, from)) = echo.recv_from(&mut [0; 9]) {
                        echo.send_to(&[0; 9][..len], from).unwrap();
                        ask.recv(&mut [0; 9]).unwrap();
                        waited += begin.elapsed();
                        answers += 1;
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                let mean = waited / answers.max(1);
                println!("{answers} answers, after {mean:?} in the mean");
                // Superframes with one header each: a few hundredths are missing.
                let all = (read() - before) / since.elapsed().as_secs_f64();
                let full = at_the_rate("all streams", all);
                bulk.into_iter().for_each(|stream| {
                    stream.join().unwrap();
                });
                let soon = answers > 5 && mean < Duration::from_millis(250);
                (all, full && soon)
            })
        });
        lab.node.stop();
    });
}
