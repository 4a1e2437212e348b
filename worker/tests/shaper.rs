//! What is counted and in what order it goes; a socket stands for the queue of a TAP, so that a test sees
//! every frame. No root.

mod node;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use ringway_kernel::pod::lanes::Queues;
use ringway_switch::DropReason;
use ringway_tables::PortId;
use ringway_worker::Polling;

use node::*;

fn counts(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(name, n)| ((*name).into(), *n)).collect()
}

/// A node with pod 2, and pod 3 to which 20 frames were sent: one passed, eight wait, eleven were lost.
fn flooded() -> (Node, UnixDatagram, UnixDatagram) {
    let mut node = Node::new(1, Polling::Interrupt);
    let ((one, a), (two, b)) = (queue(), queue());
    node.attach(2, &one, 0, None);
    node.attach(3, &two, 0, Some(&ingress(1000, 16_000)));
    for number in 0..20 {
        send(&a, &frame(2, 3, 16_384, number));
    }
    eventually("all have a verdict", || {
        node.sum(|c| &c.delivered.frames) == 20
    });
    (node, a, b)
}

#[test]
fn what_the_limit_keeps_from_a_pod_is_lost_for_that_reason_and_no_other() {
    let (node, _a, b) = flooded();
    assert_eq!(received(&b), [0]);
    let mut expected = vec![
        ("received", 20),
        ("received packets", 20),
        ("delivered", 20),
        ("delivered packets", 20),
        ("lost rate_limited", 11),
        ("pod 3 rate_limited", 11),
    ];
    assert_eq!(node.counted(), counts(&expected));
    assert_eq!(node.sum(|c| &c.copied_bytes), 8 * 16_384);
    // What waits when the pod goes is lost, too.
    node.detach(3);
    expected.insert(4, ("lost port_gone", 8));
    expected.insert(5, ("pod 3 port_gone", 8));
    assert_eq!(node.counted(), counts(&expected));
    assert!(received(&b).is_empty());
    node.stop();
}

#[test]
fn a_number_that_is_given_to_another_pod_begins_with_counts_of_zero() {
    let (node, a, b) = flooded();
    assert!(received(&b) == [0] && node.counted().contains(&("pod 3 rate_limited".into(), 11)));
    node.detach(3);
    let (another, _c) = queue();
    node.add_tap(3, &another, 0, None);
    send(&a, &frame(2, 3, 1000, 1));
    let to_pod = |n| node.sum(|c| &c.port(PortId(n)).tx.count.frames);
    eventually("it is delivered", || to_pod(3) == 1);
    let of_pod_3 = |(name, _): &(String, u64)| name.starts_with("pod 3");
    assert_eq!(node.counted().into_iter().find(of_pod_3), None);
    // What others and all together have counted stays.
    assert_eq!(node.lost(DropReason::RateLimited), 11);
    assert_eq!(node.sum(|c| &c.port(PortId(2)).rx.count.frames), 21);
    node.stop();
}

#[test]
fn what_waits_goes_in_order() {
    let mut node = Node::new(1, Polling::Interrupt);
    let ((one, a), (two, b)) = (queue(), queue());
    node.attach(2, &one, 0, None);
    // 1 MB/s.
    node.attach(3, &two, 0, Some(&ingress(8_000_000, 16_000)));
    let begin = Instant::now();
    for number in 0..9 {
        send(&a, &frame(2, 3, 16_384, number));
    }
    let mut got = Vec::new();
    eventually("all arrive", || {
        got.extend(received(&b));
        got.len() == 9
    });
    assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    // All but the first had to wait for 16 KB each.
    let waited = begin.elapsed();
    assert!(waited > Duration::from_millis(100), "after {waited:?}");
    assert_eq!(node.lost(DropReason::RateLimited), 0);
    assert_eq!(node.sum(|c| &c.copied_bytes), 8 * 16_384);
    node.stop();
}

#[test]
fn a_pod_waits_with_what_is_beyond_its_limit_and_nothing_is_lost() {
    for polling in [Polling::Interrupt, Polling::Adaptive] {
        let mut node = Node::new(1, polling);
        let ((one, a), (two, b)) = (queue(), queue());
        // 100 KB/s.
        node.attach(2, &one, 0, Some(&egress(800_000, 16_000)));
        node.attach(3, &two, 0, None);
        let bytes = frame(2, 3, 1000, 1);
        send(&a, &bytes);
        eventually("the first arrives", || !received(&b).is_empty());
        let (mut sent, mut got) = (1, 1);
        enough("frames in a second", || {
            let (begin, before, first) = (Instant::now(), node.rounds(), got);
            while begin.elapsed() < Duration::from_secs(1) {
                // There is always more to read.
                while a.send(&bytes).is_ok() {
                    sent += 1;
                }
                got += received(&b).len();
                std::thread::sleep(Duration::from_micros(200));
            }
            let (rounds, passed) = (node.rounds() - before, got - first);
            let allowed = 1.0 + 100.0 * begin.elapsed().as_secs_f64();
            let off = passed as f64 - allowed;
            assert!(off < 1.5, "{passed} frames, not {allowed}");
            // Each frame: a timer, a read, a look whether there is more, and its neighbours' ends.
            if polling == Polling::Interrupt {
                assert!(
                    rounds < 10 * passed as u64,
                    "{rounds} rounds, {passed} frames"
                );
            }
            (passed as f64, off > -5.0)
        });
        // The rest is not lost: it waits where the pod put it.
        node.detach(2);
        node.add_tap(2, &one, 0, None);
        eventually("what waited arrives", || {
            got += received(&b).len();
            got == sent
        });
        let packets = sent as u64;
        let expected = [
            ("received", packets),
            ("received packets", packets),
            ("delivered", packets),
            ("delivered packets", packets),
        ];
        assert_eq!(node.counted(), counts(&expected));
        node.stop();
    }
}

#[test]
fn a_pod_that_waits_for_a_long_time_wakes_nobody_and_can_go() {
    let mut node = Node::new(1, Polling::Interrupt);
    let ((one, a), (two, b)) = (queue(), queue());
    node.attach(2, &one, 0, Some(&egress(1000, 8)));
    node.attach(3, &two, 0, None);
    let bytes = frame(2, 3, 1000, 1);
    send(&a, &bytes);
    eventually("the first arrives", || !received(&b).is_empty());
    send(&a, &bytes);
    std::thread::sleep(Duration::from_millis(20));
    let before = node.rounds();
    for _ in 0..20 {
        // The queue is full after some; each that fits would make an edge.
        let _ = a.send(&bytes);
        std::thread::sleep(Duration::from_millis(1));
    }
    let rounds = node.rounds() - before;
    assert!(rounds <= 3, "{rounds} rounds while it waits for 8 s");
    node.detach(2);
    assert_eq!(node.sum(|c| &c.received.frames), 1);
    // Its number again, without a limit: what waited is read.
    node.add_tap(2, &one, 0, None);
    eventually("the second arrives", || !received(&b).is_empty());
    node.stop();
}

#[test]
fn workers_share_the_limit_of_a_pod() {
    let mut node = Node::new(2, Polling::Interrupt);
    let ((one, a), (two, b), (three, c)) = (queue(), queue(), queue());
    node.attach(2, &one, 0, None);
    node.attach(4, &three, 1, None);
    // 200 KB/s in all.
    node.attach(3, &two, 0, Some(&ingress(1_600_000, 16_000)));
    let (from_one, from_three) = (frame(2, 3, 1000, 1), frame(4, 3, 1000, 3));
    enough("frames in a second", || {
        let (begin, mut got) = (Instant::now(), Vec::new());
        while begin.elapsed() < Duration::from_secs(1) {
            let _ = (a.send(&from_one), c.send(&from_three));
            got.extend(received(&b));
            std::thread::sleep(Duration::from_micros(200));
        }
        let allowed = 2.0 + 200.0 * begin.elapsed().as_secs_f64();
        let off = got.len() as f64 - allowed;
        assert!(off < 2.0, "{} frames, not {allowed}", got.len());
        (got.len() as f64, off > -20.0 && is_fair(&got))
    });
    assert_eq!(node.lost(DropReason::PortFull), 0);
    node.stop();
}

#[test]
fn workers_that_read_a_pod_share_its_limit_fairly() {
    let mut node = Node::new(2, Polling::Interrupt);
    let ((one, a), (two, b), (three, c)) = (queue(), queue(), queue());
    // Two queues of one pod, 200 KB/s in all.
    let queues = Queues {
        fds: vec![one, three],
        lanes: None,
        uso: true,
    };
    node.attach_all(2, &queues, Some(&egress(1_600_000, 16_000)));
    node.attach(3, &two, 0, None);
    let (by_one, by_three) = (frame(2, 3, 1000, 1), frame(2, 3, 1000, 3));
    enough("frames in a second", || {
        let (begin, mut got) = (Instant::now(), Vec::new());
        while begin.elapsed() < Duration::from_secs(1) {
            let _ = (a.send(&by_one), c.send(&by_three));
            got.extend(received(&b));
            std::thread::sleep(Duration::from_micros(200));
        }
        let allowed = 2.0 + 200.0 * begin.elapsed().as_secs_f64();
        let off = got.len() as f64 - allowed;
        assert!(off < 3.0, "{} frames, not {allowed}", got.len());
        (got.len() as f64, off > -20.0 && is_fair(&got))
    });
    node.stop();
}

/// Neither of two workers starves.
fn is_fair(got: &[u8]) -> bool {
    let share = |worker| got.iter().filter(|n| **n == worker).count();
    let shares = [1, 3].map(share);
    println!("{shares:?} frames");
    shares.iter().all(|share| share * 4 > got.len())
}
