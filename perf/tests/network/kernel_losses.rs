//! What the kernel loses before the switch can see it: `ringway drops` names it, where, and what to do.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Agent, Family, Mode, Netns, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use serde_json::Value;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;
/// More than the queue of a TAP holds.
const TOO_MANY: usize = 3000;
/// Datagrams between two looks.
const BURST: usize = 400;
/// Longest an agent is stopped: its peers and the kernel notice nothing.
const STOPPED: Duration = Duration::from_secs(5);

#[test]
fn what_overflows_before_the_switch_is_named_with_its_remedy() {
    let name = "what_overflows_before_the_switch_is_named_with_its_remedy";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let p1 = topology.n1.add_pod().unwrap();
        let p2 = topology.n2.add_pod().unwrap();
        for family in Family::BOTH {
            // Neighbours are resolved, which has a queue of its own.
            let answers = ping(&p1.ns, p2.ip(family), 2, 56, LIMIT).unwrap();
            assert!(answers.all(), "{answers}");
        }
        let node = topology.n1.ns.clone();
        let agent = topology.n1.agent().unwrap();
        assert_eq!(lost(agent, "tap_tx_dropped", &pod(&p1)), 0);
        assert_eq!(lost(agent, "socket_dropped", "8472"), 0);
        // Nobody reads: the pod's queue fills, and what the peer sends fills the receive buffer.
        agent.signal(SIGSTOP).unwrap();
        for family in Family::BOTH {
            send(&p1, &p2, family, TOO_MANY, 100);
        }
        let began = Instant::now();
        while socket_drops(&node) == 0 && began.elapsed() < STOPPED {
            for family in Family::BOTH {
                send(&p2, &p1, family, BURST, 1200);
            }
        }
        let overflowed = socket_drops(&node);
        agent.signal(SIGCONT).unwrap();
        assert!(
            overflowed > 0,
            "the receive buffer holds all that is sent in {STOPPED:?}"
        );
        // Of both families' packets about 1000 had room.
        let refused = lost(agent, "tap_tx_dropped", &pod(&p1));
        assert!(refused > TOO_MANY as u64, "{refused}");
        assert!(lost(agent, "socket_dropped", "8472") > 0);
        let text = agent.cli(&["drops"]).unwrap();
        for words in [
            "tap_tx_dropped: ",
            "socket_dropped: ",
            &format!("  at      {}: ", pod(&p1)),
            "net.core.rmem_max",
            "workers.count",
        ] {
            assert!(text.contains(words), "{words:?} in\n{text}");
        }
        let by_pod = agent.cli(&["drops", "--by", "pod"]).unwrap();
        let row = by_pod.lines().find(|line| line.contains("tap_tx_dropped"));
        assert!(row.is_some_and(|row| row.contains("from")), "{by_pod}");
        // The next datagram of that socket tells the worker, too; either family's may have been the first to
        // overflow, that for bulk as a burst is.
        eventually("it is counted as a drop", LIMIT, || {
            for family in Family::BOTH {
                send(&p2, &p1, family, BURST, 1200);
            }
            let drops = agent.json(&["drops"]).unwrap();
            let all = drops["drops"].as_array().unwrap().iter();
            all.clone().any(|drop| drop["reason"] == "socket_overflow")
        });
    });
}

fn pod(pod: &Pod) -> String {
    format!("pod {}", pod.name())
}

/// What a counter of the kernel shows at places of this name.
fn lost(agent: &Agent, counter: &str, at: &str) -> u64 {
    let drops = agent.json(&["drops", "--all"]).unwrap();
    assert_eq!(drops["unread"], Value::Null, "{drops:#}");
    let all = drops["kernel"].as_array().unwrap().iter();
    let named =
        all.filter(|loss| loss["counter"] == counter && loss["at"].as_str().unwrap().contains(at));
    let counts: Vec<u64> = named.map(|loss| loss["count"].as_u64().unwrap()).collect();
    // With --all it is listed even at zero.
    assert!(!counts.is_empty(), "{counter} at {at} in {drops:#}");
    counts.iter().sum()
}

fn send(from: &Pod, to: &Pod, family: Family, count: usize, bytes: usize) {
    let any = match family {
        Family::V4 => "0.0.0.0:0",
        Family::V6 => "[::]:0",
    };
    let socket = from.ns.run(|| UdpSocket::bind(any)).unwrap().unwrap();
    let payload = vec![7; bytes];
    for _ in 0..count {
        // Some are refused: the interface's queue is full.
        let _ = socket.send_to(&payload, (to.ip(family), 9));
    }
}

/// Datagrams dropped at the sockets of the tunnel port, as /proc/net/udp counts them.
fn socket_drops(node: &Netns) -> u64 {
    let port = format!(":{:04X}", 8472);
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let text = node.run(|| {
        ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"]
            .map(read)
            .concat()
    });
    let text = text.unwrap();
    let of_socket = |line: &str| {
        let mut words = line.split_whitespace();
        let is_ours = words.nth(1)?.ends_with(&port);
        is_ours.then(|| words.last()?.parse::<u64>().ok()).flatten()
    };
    text.lines().filter_map(of_socket).sum()
}
