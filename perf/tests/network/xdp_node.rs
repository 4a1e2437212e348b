//! What is not the switch's: the node's own traffic while rings are attached, and the interface after
//! the agent is gone or finds somebody else there.

use crate::common::{LIMIT, assert_none, check_traffic};
use crate::foreign;
use crate::harness::eventually;
use crate::rings::{Status, check_frames, ring_test, wait_for_rings, xdp};
use ringway_perf::lab::{Family, INTERFACE, Mode, Netns, RingwayOptions, Topology, run};
use ringway_perf::traffic::{DNS_SIZES, Pattern, ping, transfer};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// DNS, HTTPS, IANA's VXLAN port and the neighbours of those that are ours (8472 and 8285).
const UDP_PORTS: [u16; 5] = [53, 443, 4789, 8471, 8286];
/// SSH, the API server, the kubelet.
const TCP_PORTS: [u16; 3] = [22, 6443, 10250];

#[test]
fn the_nodes_own_traffic_passes_untouched_under_load() {
    let name = "the_nodes_own_traffic_passes_untouched_under_load";
    ring_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &xdp()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let (node, other) = (topology.n1.ns.clone(), topology.n2.ns.clone());
        let seconds = ["192.168.77.101", "fd00:77::101"];
        let add = format!(
            "addr add {}/24 dev {INTERFACE}\naddr add {}/64 dev {INTERFACE} nodad\n",
            seconds[0], seconds[1]
        );
        node.ip_batch(&add).unwrap();
        let done = AtomicBool::new(false);
        let moved = AtomicU64::new(0);
        let failures = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut failures = Vec::new();
                while !done.load(Ordering::Relaxed) && failures.is_empty() {
                    match transfer(&p1.ns, &p3.ns, p3.ip(Family::V4), 4 << 20, LIMIT) {
                        Ok(report) => drop(moved.fetch_add(report.bytes, Ordering::Relaxed)),
                        Err(error) => failures.push(format!("bulk TCP between pods: {error}")),
                    }
                }
                failures
            });
            let mut failures = Vec::new();
            for (family, second) in Family::BOTH.into_iter().zip(seconds) {
                // Our own tunnel port, at an address that is not ours to tunnel by.
                let found = questions(&other, &node, second.parse().unwrap(), 8472);
                failures.extend(found.map(|found| format!("UDP {second} 8472: {found}")));
                let address = topology.n1.ip(family);
                match ping(&other, address, 1000, 56, LIMIT) {
                    Ok(report) if report.all() => {}
                    Ok(report) => failures.push(format!("ping {address}: {report}")),
                    Err(error) => failures.push(format!("ping {address}: {error}")),
                }
                for port in UDP_PORTS {
                    let found = questions(&other, &node, address, port);
                    failures.extend(found.map(|found| format!("UDP {address} {port}: {found}")));
                }
                for port in TCP_PORTS {
                    let found = typing(&other, &node, address, port);
                    failures.extend(found.map(|found| format!("TCP {address} {port}: {found}")));
                }
            }
            done.store(true, Ordering::Relaxed);
            failures.extend(load.join().unwrap());
            failures
        });
        let moved = moved.load(Ordering::Relaxed);
        println!("bulk TCP meanwhile: {} MB each way", moved >> 20);
        assert_none(&failures);
        assert!(moved > 4 << 20, "there was no load");
        for node in [&mut topology.n1, &mut topology.n2] {
            assert_none(&check_frames("under load", node));
        }
    });
}

/// Three hundred questions and answers as DNS has them, one after the other; none may get lost.
fn questions(from: &Netns, to: &Netns, address: IpAddr, port: u16) -> Option<String> {
    let server = to
        .run(|| UdpSocket::bind((address, port)))
        .unwrap()
        .unwrap();
    let client = from
        .run(|| UdpSocket::bind((any(address), 0)))
        .unwrap()
        .unwrap();
    client.connect((address, port)).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
    }
    let mut buffer = [0; 2048];
    let (mut asked, mut answered) = (Pattern::new(port.into()), Pattern::new(port.into()));
    let whole = DNS_SIZES.iter().filter(|&&size| size < 1400);
    for (i, &size) in whole.cycle().take(300).enumerate() {
        let mut question = vec![0; size];
        asked.fill(&mut question);
        let mut exchange = || {
            client.send(&question)?;
            let (len, peer) = server.recv_from(&mut buffer)?;
            server.send_to(&buffer[..len], peer)?;
            client.recv(&mut buffer)
        };
        match exchange() {
            Ok(len) if len == size && answered.check(&buffer[..len]).is_ok() => {}
            Ok(len) => return Some(format!("answer {i} of {len} bytes is not the question")),
            Err(error) => return Some(format!("question {i} of {size} bytes: {error}")),
        }
    }
    None
}

/// Keystrokes and lines that come back, as in a shell of another host.
fn typing(from: &Netns, to: &Netns, address: IpAddr, port: u16) -> Option<String> {
    let listener = to
        .run(|| TcpListener::bind((address, port)))
        .unwrap()
        .unwrap();
    let client = from.run(|| TcpStream::connect_timeout(&(address, port).into(), LIMIT));
    let mut client = match client.unwrap() {
        Ok(client) => client,
        Err(error) => return Some(format!("connect: {error}")),
    };
    let mut server = listener.accept().unwrap().0;
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    let mut pattern = Pattern::new(port.into());
    let mut slowest = Duration::ZERO;
    for size in [1, 1, 1, 80, 1, 1, 1400, 200].into_iter().cycle().take(800) {
        let (mut typed, mut heard, mut shown) = (vec![0; size], vec![0; size], vec![0; size]);
        pattern.fill(&mut typed);
        let begin = Instant::now();
        let mut exchange = || {
            client.write_all(&typed)?;
            server.read_exact(&mut heard)?;
            server.write_all(&heard)?;
            client.read_exact(&mut shown)
        };
        if let Err(error) = exchange() {
            return Some(format!("{size} bytes: {error}"));
        }
        if shown != typed {
            return Some(format!("{size} bytes came back as others"));
        }
        slowest = slowest.max(begin.elapsed());
    }
    // A retransmission takes 200 ms at least: something was lost.
    (slowest > Duration::from_millis(190)).then(|| format!("an echo took {slowest:?}"))
}

fn any(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[test]
fn a_killed_agent_leaves_the_interface_as_it_was() {
    let name = "a_killed_agent_leaves_the_interface_as_it_was";
    ring_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &xdp()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        for round in 1..=3 {
            let what = format!("kill -9, round {round}");
            assert!(
                program(&topology.n1.ns).is_some(),
                "{what}: no program before"
            );
            topology.n1.agent().unwrap().kill();
            let gone = || program(&topology.n1.ns).is_none();
            eventually(&format!("{what}: the program goes"), LIMIT, gone);
            for family in Family::BOTH {
                let address = topology.n1.ip(family);
                let report = ping(&topology.n2.ns, address, 5, 56, LIMIT).unwrap();
                assert!(report.all(), "{what}: {address}: {report}");
            }
            let begin = Instant::now();
            topology.n1.agent().unwrap().start().unwrap();
            println!("{what}: ready after {:?}", begin.elapsed());
            let status = Status::of(&mut topology.n1);
            assert_eq!(
                (status.rings(), status.fallbacks()),
                (1, 0),
                "{what}: {}",
                status.io()
            );
            assert!(ping(&p1.ns, p3.ip(Family::V6), 3, 56, LIMIT).unwrap().all());
        }
        // In order, and by sockets for once.
        assert!(topology.n1.agent().unwrap().stop());
        assert_eq!(program(&topology.n1.ns), None, "it stopped by itself");
        topology.configure(1, RingwayOptions::default()).unwrap();
        topology.n1.agent().unwrap().start().unwrap();
        let io = Status::of(&mut topology.n1).io().to_owned();
        assert!(io.starts_with("socket (auto: driver veth "), "{io}");
        assert!(ping(&p1.ns, p3.ip(Family::V4), 3, 56, LIMIT).unwrap().all());
        assert!(topology.n1.agent().unwrap().stop());
        topology.configure(1, xdp()).unwrap();
        topology.n1.agent().unwrap().start().unwrap();
        assert_eq!(Status::of(&mut topology.n1).rings(), 1);

        // Without a pause: the queue may still belong to the one before.
        topology.n1.agent().unwrap().kill();
        topology.n1.agent().unwrap().start().unwrap();
        assert_eq!(Status::of(&mut topology.n1).rings(), 1);
        let mut failures = check_traffic("after kill -9", &p1.ns, &p3.ns, p3.ip(Family::V4));
        for node in [&mut topology.n1, &mut topology.n2] {
            failures.extend(check_frames("after kill -9", node));
        }
        assert_none(&failures);
    });
}

#[test]
fn somebody_elses_program_stays_and_sockets_do_the_work() {
    let name = "somebody_elses_program_stays_and_sockets_do_the_work";
    ring_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &xdp()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        assert!(topology.n1.agent().unwrap().stop());
        let node = topology.n1.ns.clone();
        foreign::attach(&node, INTERFACE, &topology.lab.folder()).unwrap();
        let theirs = program(&node);
        assert!(theirs.is_some());
        let agent = topology.n1.agent().unwrap();
        let _ = std::fs::remove_file(agent.log_path());
        agent.start().unwrap();
        let status = Status::of(&mut topology.n1);
        assert_eq!((status.rings(), status.fallbacks()), (0, 1));
        assert!(status.io().contains(foreign::NAME), "{}", status.io());
        let failures = check_traffic("beside it", &p1.ns, &p3.ns, p3.ip(Family::V4));
        assert_none(&failures);

        // It is tried again after five seconds and ten, and only the first time said.
        if std::env::var_os("RINGWAY_LONG").is_some() {
            eventually("a second try", Duration::from_secs(8), || {
                Status::of(&mut topology.n1).fallbacks() > 1
            });
        }
        assert_eq!(program(&node), theirs, "it is another now");
        let log = topology.n1.agent().unwrap().log();
        let warnings = log.lines().filter(|line| line.contains(foreign::NAME));
        assert_eq!(warnings.count(), 1, "{log}");

        foreign::detach(&node, INTERFACE);
        wait_for_rings("it is gone", &mut topology.n1, 1, Duration::from_secs(12));
        let io = Status::of(&mut topology.n1).io().to_owned();
        assert_eq!(io, "xdp (configured)");
        assert_none(&check_traffic(
            "after it",
            &p1.ns,
            &p3.ns,
            p3.ip(Family::V6),
        ));
    });
}

/// Id of the XDP program at a node's underlay interface.
fn program(ns: &Netns) -> Option<u64> {
    let json = run("ip", &["-n", ns.name(), "-j", "link", "show", INTERFACE]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&json).unwrap();
    let xdp = links[0].get("xdp")?;
    Some(
        xdp["prog"]["id"]
            .as_u64()
            .unwrap_or_else(|| panic!("{xdp}")),
    )
}
