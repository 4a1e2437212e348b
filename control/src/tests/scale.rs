//! 5,000 peers and 100,000 routes by the control plane of a node, with its kernel: all of it at a start, a file
//! in which a hundredth is different, and one route, from the source to the tables that workers read. The bounds
//! are for a build without much optimisation on a machine that does other things, too; the figures are printed.
//!
//! With the optimisation that tests are built with, on a shared core: 2.3 s for the start, the kernel's routes
//! included; 0.1 s to read and check a file in which a hundredth is different, 0.11 s until the workers see it, and
//! 1.4 s until the kernel has all (a second of that are 50,000 networks apart from each other in its rules); 0.3 ms
//! for one route until the workers see it, 0.4 ms with the kernel's; 110 MB for all of it.

use std::fmt::Write;

use ringway_cluster::{Change, Route, Via};

use super::*;

const PEERS: u32 = 5_000;
const ROUTES_OF_ONE: u32 = 20;

/// `shift`: how many of the peers are others than those of 0.
fn text(state: &Path, shift: u32) -> String {
    let mut text = format!(
        "[node]\nname = \"a\"\npod_cidrs = [\"10.0.1.0/24\", \"fd77:1::/64\"]\nstate_dir = {state:?}\n\
         [underlay]\ninterface = \"eth0\"\n[workers]\npolling = \"interrupt\"\n"
    );
    for n in shift..PEERS + shift {
        let [_, _, a, b] = n.to_be_bytes();
        let _ = write!(
            text,
            "[[peers]]\nname = \"node{n}\"\naddresses = [\"172.16.{a}.{b}\", \"fd00:77::{:x}\"]\npod_cidrs = [",
            n + 256
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

/// How long it takes until readers of the tables see another version, and until the control thread is free.
fn seen(control: &mut Control, what: impl FnOnce(&mut Control)) -> [Duration; 2] {
    let mut reader = control.publisher.reader();
    let version = reader.load().version;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            while reader.load().version == version {
                std::thread::sleep(Duration::from_micros(20));
            }
            begin.elapsed()
        });
        what(control);
        let free = begin.elapsed();
        [waiting.join().unwrap(), free]
    })
}

fn kernel_routes(control: &mut Control) -> usize {
    let index = control.netlink.link("ringway0").unwrap().index;
    let mut count = 0;
    control.netlink.each_route(index, |_| count += 1).unwrap();
    count
}

#[test]
fn five_thousand_peers_and_a_hundred_thousand_routes() {
    in_netns(|| {
        let node = Node::new();
        let state = node.dir.path().join("state");
        let read = |text: &str| Config::parse(Path::new("t"), text).unwrap();
        let (first, second) = (text(&state, 0), text(&state, 50));
        let before = resident_kb();
        let begin = Instant::now();
        let mut control = Control::start(read(&first)).unwrap();
        println!("start, the kernel's routes included: {:?}", begin.elapsed());
        let tables = control.publisher.current();
        assert_eq!(tables.peers.len(), 5_000);
        assert_eq!(tables.routes4.len() + tables.routes6.len(), 100_000 + 7);
        drop(tables);
        let all = kernel_routes(&mut control);
        assert!(all >= 100_000, "{all} routes in the kernel");
        let memory = resident_kb() - before;
        println!(
            "memory of the agent, without workers' buffers: {} MB",
            memory >> 10
        );
        assert!(memory < 500 << 10, "{memory} KB");

        // A file of the same size in which a hundredth is different.
        let begin = Instant::now();
        let config = Box::new(read(&second));
        let parsed = begin.elapsed();
        let version = control.publisher.current().version;
        let [workers, free] = seen(&mut control, |control| {
            control.configure(Ok(config)).outcome.unwrap();
        });
        println!(
            "a hundredth: read in {parsed:?}, with the workers after {workers:?}, with the kernel after {free:?}"
        );
        assert!(parsed + workers < Duration::from_secs(3));
        // Once for the routes, and perhaps once for next hops.
        assert!(control.publisher.current().version <= version + 2);
        assert_eq!(control.publisher.current().peers.len(), 5_000);
        assert_eq!(kernel_routes(&mut control), all);

        // One route.
        let mut took: Vec<[Duration; 2]> = (0..100u32)
            .map(|n| {
                let change = Change::SetRoute(Route {
                    prefix: format!("10.77.{n}.0/24").parse().unwrap(),
                    via: Via::Peer(format!("node{}", 100 + n * 7).into()),
                    source: Config::source(),
                    preference: 200,
                });
                let took = seen(&mut control, |control| {
                    control.change(&Source::new("other"), change).unwrap();
                });
                let path = target(&control, &format!("10.77.{n}.9"));
                assert!(matches!(path, Some(Target::Path(_))), "{path:?}");
                took
            })
            .collect();
        assert_eq!(kernel_routes(&mut control), all + 100);
        // The kernel's routes follow at once, its rules now and then.
        took.sort();
        let [workers, _] = took[50];
        println!(
            "one route: with the workers after {workers:?}, {:?} at most",
            took[99][0]
        );
        took.sort_by_key(|[_, free]| *free);
        let [_, free] = took[50];
        println!(
            "one route: with the kernel after {free:?}, {:?} at most",
            took[99][1]
        );
        assert!(workers < Duration::from_millis(5), "{took:?}");
        control.stop();
    });
}
