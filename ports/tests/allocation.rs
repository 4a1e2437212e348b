//! Nothing allocates per packet: after a warm-up, every port runs with an allocator that counts.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::{Netns, pool, receive, veth_pair};
use ringway_ports::fault::{Fault, Rates};
use ringway_ports::memory::{Null, Replay, ReplayFrame, pair};
use ringway_ports::socket::{Dest, Piece, Received, SocketConfig, Src, TxReport, UdpUnderlay};
use ringway_ports::tap::{Tap, TapOptions, create_persistent, open_queue};
use ringway_ports::{Batch, Port};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs, after it ran twice to warm up.
fn allocations(mut work: impl FnMut()) -> u64 {
    work();
    work();
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    let mut kept = Vec::new();
    assert!(allocations(|| kept.push(Box::new(1))) > 0);
}

#[test]
fn memory_ports_do_not_allocate() {
    let frames = vec![
        ReplayFrame::plain(vec![1; 1500], 1),
        ReplayFrame::plain(vec![2; 60], 2),
    ];
    let rates = Rates {
        drop: 1000,
        duplicate: 1000,
        reorder: 1000,
        ..Rates::default()
    };
    let mut source = Fault::new(Replay::new(frames), rates, 1);
    let (mut a, mut b) = pair(64, 1, 2);
    let (mut null, mut pool, mut batch, mut other) =
        (Null::default(), pool(), Batch::new(), Batch::new());
    let count = allocations(|| {
        for _ in 0..1000 {
            source.receive(&mut pool, &mut batch, 32).unwrap();
            for frame in &batch.frames {
                a.transmit(&mut pool, &batch, frame).unwrap();
            }
            b.receive(&mut pool, &mut other, 64).unwrap();
            for frame in &other.frames {
                null.transmit(&mut pool, &other, frame).unwrap();
            }
            batch.recycle(&mut pool);
            other.recycle(&mut pool);
        }
    });
    assert!(null.frames > 90_000, "{null:?}");
    assert_eq!(count, 0);
}

#[test]
fn taps_do_not_allocate() {
    let ns = Netns::new();
    let options = TapOptions {
        multi_queue: true,
        ..TapOptions::default()
    };
    let queues = ns.enter(|| {
        [
            create_persistent("t0", &options).unwrap(),
            open_queue("t0", true).unwrap(),
        ]
    });
    ns.ip("addr add 10.8.0.1/24 dev t0");
    ns.ip("link set t0 up");
    ns.ip("neigh add 10.8.0.2 lladdr 02:00:00:00:00:02 dev t0");
    let mut taps = queues.map(|queue| Tap::new(Arc::new(queue.fd), 1));
    let sender = ns
        .enter(|| std::net::UdpSocket::bind("10.8.0.1:0"))
        .unwrap();
    sender.connect("10.8.0.2:9").unwrap();
    let (mut pool, mut batch, mut frames) = (pool(), Batch::new(), 0);
    let count = allocations(|| {
        for _ in 0..300 {
            sender.send(&[1; 1000]).unwrap();
            for tap in &mut taps {
                frames += tap.receive(&mut pool, &mut batch, 32).unwrap();
                for i in 0..batch.frames.len() {
                    let mut frame = batch.frames[i];
                    tap.transmit(&mut pool, &batch, &frame).unwrap();
                    let rest = frame.len - 50;
                    let slice = ringway_ports::Slice {
                        buf: frame.buf,
                        off: frame.start + 50,
                        len: rest,
                    };
                    frame.tail = batch.push_tail(&[slice]).unwrap();
                    frame.linear = 50;
                    tap.transmit(&mut pool, &batch, &frame).unwrap();
                }
                batch.recycle(&mut pool);
            }
        }
    });
    assert!(frames >= 900, "{frames}");
    assert_eq!(count, 0);
}

#[test]
fn the_underlay_does_not_allocate() {
    let (a, b) = veth_pair();
    let (local, remote) = (
        "10.9.0.1:8472".parse().unwrap(),
        "10.9.0.2:8472".parse().unwrap(),
    );
    let mut tx = a
        .enter(|| UdpUnderlay::open(&SocketConfig::new(local)))
        .unwrap();
    let mut rx = b
        .enter(|| UdpUnderlay::open(&SocketConfig::new(remote)))
        .unwrap();
    // One destination fails, so that the error paths are held to it too.
    let dests = [
        Dest::from(remote),
        Dest {
            port: 9,
            ..Dest::from(remote)
        },
    ];
    let (mut pool, mut received, mut report) = (pool(), Received::new(), TxReport::new());
    let buf = pool.alloc().unwrap().id();
    let mut messages = 0;
    let count = allocations(|| {
        for round in 0..300u32 {
            for i in 0..64u32 {
                let (off, header) = tx.slab(8).unwrap();
                header.fill(i as u8);
                let pieces = [
                    Piece {
                        src: Src::Slab,
                        off,
                        len: 8,
                    },
                    Piece {
                        src: Src::Pool(buf),
                        off: 0,
                        len: 500 + i / 32,
                    },
                ];
                let hash = (i / 8).wrapping_mul(0x2000_0000);
                tx.push(
                    dests[usize::from(i % 32 == 0)],
                    hash,
                    (round % 4) as u8,
                    &pieces,
                )
                .unwrap();
            }
            tx.flush(&pool, &mut report);
            while receive(&mut rx, &mut pool, &mut received) > 0 {
                messages += received.datagrams.len();
                received.recycle(&mut pool);
            }
        }
    });
    assert!(
        messages > 3000 && report.icmp_errors > 0,
        "{messages} messages, {report:?}"
    );
    assert_eq!(report.datagrams + report.drops.total(), 3 * 300 * 64);
    assert_eq!(count, 0);
}
