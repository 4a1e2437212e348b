//! 5,000 peers and 100,000 routes: from the file's text to the tables that workers read, and one route among
//! them. The bounds are for a build without much optimisation on a machine that does other things, too; the
//! figures are printed.
//!
//! With the optimisation that tests are built with, on one shared core: 1.0 s from nothing (0.3 to read and
//! check the file, 0.5 to plan, 0.25 for the tables), 0.33 s for a file of that size in which a hundredth is
//! different, 10 µs for one route from the change to the tables that workers see, and 110 MB for configuration,
//! desired state and tables together. The kernel's own 100,000 routes are set after that publication.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ringway_cluster::{Change, Cluster, Route, Source, Via};
use ringway_tables::{Publisher, Snapshot};

use crate::tables::{Known, Surroundings};
use crate::underlay::Underlay;
use ringway_config::Config;

const PEERS: u32 = 5_000;
const ROUTES_OF_ONE: u32 = 20;

/// `shift`: how many of the peers are others than those of 0.
fn text(shift: u32) -> String {
    let mut text = String::from(
        "[node]\nname = \"a\"\npod_cidrs = [\"10.0.1.0/24\", \"fd77:1::/64\"]\n[underlay]\ninterface = \"eth0\"\n",
    );
    for n in shift..PEERS + shift {
        let [_, _, a, b] = n.to_be_bytes();
        let _ = write!(
            text,
            "[[peers]]\nname = \"node{n}\"\naddresses = [\"172.16.{a}.{b}\", \"fd00:77::{:x}\"]\npod_cidrs = [",
            n + 1
        );
        for i in 0..ROUTES_OF_ONE {
            let number = n * ROUTES_OF_ONE + i;
            let _ = match number % 2 {
                0 => write!(
                    text,
                    "\"{}/28\", ",
                    std::net::Ipv4Addr::from_bits(0x0a80_0000 + number * 8)
                ),
                _ => write!(
                    text,
                    "\"{}/64\", ",
                    std::net::Ipv6Addr::from_bits((0xfd78 << 112) + (u128::from(number) << 64))
                ),
            };
        }
        text.push_str("]\n");
    }
    text
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Node {
    config: Config,
    cluster: Cluster,
    publisher: Publisher,
    underlay: Underlay,
}

impl Node {
    /// Reads, plans, applies and publishes; how long each of it took.
    fn take(&mut self, text: &str) -> [Duration; 3] {
        let begin = Instant::now();
        self.config = Config::parse(Path::new("t"), text).unwrap();
        self.underlay.check(&self.config).unwrap();
        let parsed = begin.elapsed();
        let change = Change::Replace(self.config.contents());
        let begin = Instant::now();
        let plan = self.cluster.update(&Config::source(), change).unwrap();
        let planned = begin.elapsed();
        self.publish(&plan);
        [parsed, planned, begin.elapsed() - planned]
    }

    fn publish(&mut self, plan: &ringway_cluster::Plan) {
        let mut tables = Snapshot::clone(&self.publisher.current());
        let around = Surroundings {
            config: &self.config,
            underlay: &self.underlay,
            known: &|_| Known::default(),
        };
        around
            .apply(&mut tables, plan, self.cluster.state())
            .unwrap();
        self.publisher.publish(tables);
    }
}

#[test]
fn five_thousand_peers_and_a_hundred_thousand_routes() {
    let (first, second) = (text(0), text(50));
    let before = resident_kb();
    let mut node = Node {
        config: Config::parse(Path::new("t"), &first[..first.find("[[").unwrap()]).unwrap(),
        cluster: Cluster::default(),
        publisher: Publisher::new(Snapshot::default()),
        underlay: Underlay {
            interface: "eth0".into(),
            mtu: 1500,
            v4: Some("192.168.77.1".parse().unwrap()),
            v6: Some("fd00:78::1".parse().unwrap()),
            choices: Vec::new(),
            veth: false,
        },
    };
    let mut reader = node.publisher.reader();
    let times = node.take(&first);
    println!("all of it: parsed, planned, applied and published in {times:?}");
    assert_eq!(reader.load().version, 1, "more than one publication");
    let tables = reader.load();
    assert_eq!(tables.peers.len(), 5_000);
    assert_eq!(tables.routes4.len() + tables.routes6.len(), 100_000 + 7);
    let memory = resident_kb() - before;
    println!(
        "memory: {} MB for configuration, desired state and tables",
        memory >> 10
    );
    assert!(memory < 300 << 10, "{memory} KB");
    assert!(
        times.iter().sum::<Duration>() < Duration::from_secs(5),
        "{times:?}"
    );

    // A file of the same size in which a hundredth is different.
    let times = node.take(&second);
    println!("a hundredth of it: parsed, planned, applied and published in {times:?}");
    assert_eq!(reader.load().version, 2);
    assert_eq!(reader.load().peers.len(), 5_000);
    assert!(
        times.iter().sum::<Duration>() < Duration::from_secs(3),
        "{times:?}"
    );

    // One route.
    let mut took: Vec<Duration> = (0..100u32)
        .map(|n| {
            let prefix = format!("10.77.{n}.0/24").parse().unwrap();
            let change = Change::SetRoute(Route {
                prefix,
                via: Via::Peer(format!("node{}", 100 + n * 7).into()),
                source: Config::source(),
                preference: 200,
            });
            let begin = Instant::now();
            let plan = node.cluster.update(&Source::new("other"), change).unwrap();
            node.publish(&plan);
            let path = reader.load().route(ringway_packet::addr::from_ip(
                std::net::Ipv4Addr::new(10, 77, n as u8, 9).into(),
            ));
            let took = begin.elapsed();
            assert!(
                matches!(path, Some(ringway_tables::Target::Path(_))),
                "{path:?}"
            );
            took
        })
        .collect();
    took.sort();
    println!(
        "one route: {:?} in the middle, {:?} at most",
        took[50], took[99]
    );
    assert!(took[50] < Duration::from_millis(20), "{took:?}");
}
