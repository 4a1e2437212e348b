//! What pods notice when an agent stops, starts, is killed, or comes back with other workers; and
//! that an agent never keeps a namespace alive.

use crate::common::{LIMIT, assert_none, check_traffic};
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Mode, Netns, RingwayOptions, Topology};
use ringway_perf::traffic::{OutageProbe, Stream, ping};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long packets may stop over a restart.
const PAUSE: Duration = Duration::from_secs(3);

#[test]
fn streams_survive_every_kind_of_restart() {
    network_test(
        "streams_survive_every_kind_of_restart",
        Duration::from_secs(120),
        || restarts(&RingwayOptions::default()),
    );
}

/// Restarts node 1 in every way, and says what packets and streams noticed.
pub(crate) fn restarts(options: &RingwayOptions) {
    let mut topology = Topology::ringway(Mode::Cloud, options).unwrap();
    let [p1, p2, p3] = topology.add_three_pods().unwrap();
    let workers = |workers| RingwayOptions {
        workers,
        ..options.clone()
    };
    let steps = [
        ("restart", None, false),
        ("restart with two workers", Some(workers(2)), false),
        ("kill -9", None, true),
        ("restart with one worker", Some(workers(1)), false),
    ];
    for (step, options, kill) in steps {
        let start = |to: &ringway_perf::lab::Pod, family| {
            Stream::start(&p1.ns, &to.ns, to.ip(family), Duration::from_secs(15)).unwrap()
        };
        let streams = [
            start(&p2, Family::V4),
            start(&p3, Family::V4),
            start(&p3, Family::V6),
        ];
        let probe = OutageProbe::start(&p1.ns, &p3.ns, p3.ip(Family::V4)).unwrap();
        assert!(
            streams.iter().all(|stream| stream.flows(50_000, LIMIT)),
            "{step}: flows before"
        );
        if let Some(options) = options {
            topology.configure(1, options).unwrap();
        }
        let agent = topology.n1.agent().unwrap();
        let begin = Instant::now();
        match kill {
            true => agent.kill(),
            false => assert!(agent.stop(), "{step}: the agent ignores SIGTERM"),
        }
        let stopped = begin.elapsed();
        agent.start().unwrap();
        println!(
            "{step}: stopped after {stopped:?}, ready after {:?}",
            begin.elapsed()
        );
        let flowing = streams
            .iter()
            .all(|stream| stream.flows(50_000, Duration::from_secs(12)));
        assert!(
            flowing,
            "{step}: a stream stands still; agent log:\n{}",
            agent.log()
        );
        let outage = probe.finish();
        for (path, stream) in ["same node", "across IPv4", "across IPv6"]
            .iter()
            .zip(streams)
        {
            let report = stream
                .finish()
                .unwrap_or_else(|error| panic!("{step}, {path}: {error}"));
            println!(
                "{step}, {path}: TCP stood still for {:?}",
                report.longest_gap
            );
        }
        let drops = topology.n1.drops().unwrap();
        println!(
            "{step}: no packets for {:?}; dropped since: {drops}",
            outage.longest
        );
        assert!(
            outage.longest < PAUSE,
            "{step}: no packets for {:?}",
            outage.longest
        );
    }
    let mut failures = check_traffic("after restarts", &p1.ns, &p2.ns, p2.ip(Family::V4));
    failures.extend(check_traffic(
        "after restarts",
        &p1.ns,
        &p3.ns,
        p3.ip(Family::V6),
    ));
    assert_none(&failures);
}

#[test]
fn attach_and_detach_over_a_restart() {
    network_test(
        "attach_and_detach_over_a_restart",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, p2, _] = topology.add_three_pods().unwrap();
            topology.n1.detach(&p2).unwrap();
            // Closed a moment later, when no pod is being attached.
            eventually("its interface is gone", Duration::from_secs(2), || {
                p2.ns.ip("link show eth0").is_err()
            });
            let answered = |from: &Netns, family| {
                ping(from, p2.ip(family), 1, 56, Duration::from_millis(300))
                    .unwrap()
                    .all()
            };
            assert!(!answered(&p1.ns, Family::V4));
            assert!(topology.n1.agent().unwrap().stop());
            topology.n1.agent().unwrap().start().unwrap();
            topology.n1.attach(&p2).unwrap();
            for family in Family::BOTH {
                assert!(
                    ping(&p1.ns, p2.ip(family), 3, 56, LIMIT).unwrap().all(),
                    "{family}"
                );
            }
            // The runtime asks twice when the first answer got lost.
            topology.n1.detach(&p2).unwrap();
            topology.n1.detach(&p2).unwrap();
        },
    );
}

/// kill -9 while 50 pods are being removed: threads that close their interfaces wait in the kernel, and what the
/// process has open and locked stays so until the last of them returns.
#[test]
fn a_start_waits_for_an_agent_that_is_dying() {
    network_test(
        "a_start_waits_for_an_agent_that_is_dying",
        Duration::from_secs(180),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            for round in 0..3 {
                let pods: Vec<_> = (0..50).map(|_| topology.n1.add_pod().unwrap()).collect();
                let agent = topology.n1.agent().unwrap();
                // As a runtime does it: a DEL, then the namespace.
                std::thread::scope(|scope| {
                    for part in pods.chunks(7) {
                        let socket = agent.socket();
                        scope.spawn(move || {
                            for pod in part {
                                detach(&socket, &pod.name());
                                pod.ns.delete().unwrap();
                            }
                        });
                    }
                });
                let dying = agent.kill_at_once().unwrap();
                println!("round {round}: killed: {}", threads(dying.pid()));
                let begin = Instant::now();
                agent.start().unwrap();
                println!("round {round}: ready after {:?}", begin.elapsed());
                drop(dying);
                for family in Family::BOTH {
                    let answers = ping(&p1.ns, p3.ip(family), 2, 56, LIMIT).unwrap();
                    assert!(answers.all(), "round {round}: {family}: {answers}");
                }
            }
        },
    );
}

/// Detaches a pod, as a runtime does it: without a process of its own for each.
fn detach(socket: &Path, name: &str) {
    let body = format!("{{\"name\":\"{name}\"}}");
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "POST /v1/detach HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"existed\":true"), "{answer}");
}

/// The threads of a process with their state and where in the kernel they are.
fn threads(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let of = |task: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit(')').next().unwrap_or("").trim();
        let (stack, state) = (read("stack"), state.get(..1).unwrap_or("?").to_owned());
        let at = stack.lines().next().unwrap_or("");
        format!("{} {state} {at}", read("comm").trim())
    };
    let all: Vec<String> = tasks.flatten().flatten().map(of).collect();
    all.join("; ")
}

#[test]
fn a_deleted_namespace_is_gone_within_five_seconds() {
    network_test(
        "a_deleted_namespace_is_gone_within_five_seconds",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, p2, p3] = topology.add_three_pods().unwrap();
            delete_and_wait(&mut topology, 1, &p2.ns, "before a restart");
            let p4 = topology.n1.add_pod().unwrap();
            let agent = topology.n1.agent().unwrap();
            assert!(agent.stop());
            agent.start().unwrap();
            delete_and_wait(&mut topology, 2, &p4.ns, "after a restart");
            // Deleted while no agent runs: the next one must not hold on to it either.
            let p5 = topology.n1.add_pod().unwrap();
            topology.n1.agent().unwrap().kill();
            let canary = canary(&topology, 3, &p5.ns);
            p5.ns.delete().unwrap();
            topology.n1.agent().unwrap().start().unwrap();
            wait_for_end(&topology, &canary, "while no agent ran");
            assert!(
                ping(&p1.ns, p3.ip(Family::V4), 2, 56, LIMIT).unwrap().all(),
                "the others go on"
            );
            let pods = topology
                .n1
                .agent()
                .unwrap()
                .json(&["pods"])
                .unwrap()
                .to_string();
            for gone in [&p2, &p4, &p5] {
                assert!(
                    !pods.contains(gone.ns.name()),
                    "{} is still listed: {pods}",
                    gone.ns.name()
                );
            }
            assert!(pods.contains(p1.ns.name()), "{pods}");
        },
    );
}

fn delete_and_wait(topology: &mut Topology, number: u8, ns: &Netns, when: &str) {
    let canary = canary(topology, number, ns);
    ns.delete().unwrap();
    wait_for_end(topology, &canary, when);
    assert!(
        topology.n1.agent().unwrap().ended().is_none(),
        "{when}: the agent ended"
    );
}

/// A veth pair between the namespace and node 2: that end goes when the namespace is destroyed, and
/// not when only its name is removed.
fn canary(topology: &Topology, number: u8, ns: &Netns) -> String {
    let name = format!("canary{number}");
    let node = &topology.n2.ns;
    node.ip(&format!(
        "link add {name} type veth peer name canary netns {}",
        ns.name()
    ))
    .unwrap();
    name
}

fn wait_for_end(topology: &Topology, canary: &str, when: &str) {
    let show = format!("link show {canary}");
    let took = eventually(
        &format!("namespace deleted {when} is destroyed"),
        Duration::from_secs(5),
        || topology.n2.ns.ip(&show).is_err(),
    );
    println!("namespace deleted {when}: gone after {took:?}");
}
