//! `ringway capture` beside real traffic, read by tcpdump and tshark.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test, skipped};
use ringway_perf::lab::{Agent, Family, Mode, RingwayOptions, Topology, installed};
use ringway_perf::load::{Between, Io, Load, Mix, Plan};
use ringway_perf::traffic::{ping, throughput, transfer};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A running `ringway capture`.
struct Capture(Child);

impl Capture {
    fn start(agent: &Agent, words: &[&str], stdout: Stdio) -> Capture {
        let mut command = Command::new(agent.binary());
        command
            .arg("--socket")
            .arg(agent.socket())
            .arg("capture")
            .args(words);
        let before = captures(agent);
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
        let capture = Capture(child.unwrap());
        eventually("the capture has begun", LIMIT, || captures(agent) > before);
        capture
    }

    /// Ends it as Ctrl-C does; what it said on stderr.
    fn end(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let mut said = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(self.0.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many captures have begun so far.
fn captures(agent: &Agent) -> usize {
    let log = std::fs::read_to_string(agent.log_path()).unwrap_or_default();
    log.matches("a capture begins").count()
}

/// What tcpdump counts in a file.
fn tcpdump(file: &Path, filter: &str) -> usize {
    let output = Command::new("tcpdump")
        .args(["-nr"])
        .arg(file)
        .arg(filter)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    // One packet may take several lines: the first begins with its time.
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let begins = |line: &&str| line.get(2..3) == Some(":") && line.get(5..6) == Some(":");
    lines.lines().filter(begins).count()
}

/// Packets a file has, and what was lost, by the words of the command that wrote it.
fn counts(said: &str) -> (u64, u64) {
    let number = |text: &str| text.rsplit(' ').next().and_then(|n| n.parse().ok());
    let packets = said
        .split(" packets")
        .next()
        .and_then(number)
        .unwrap_or_else(|| panic!("{said}"));
    let lost = said
        .split(" more were lost")
        .next()
        .filter(|_| said.contains("more were lost"));
    (packets, lost.and_then(number).unwrap_or(0))
}

#[test]
fn a_live_stream_is_read_by_tcpdump_and_tshark() {
    let name = "a_live_stream_is_read_by_tcpdump_and_tshark";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [p1, p2, p3] = topology.add_three_pods().unwrap();
        let readers = ["tcpdump", "tshark"].map(installed);
        if readers != [true, true] {
            skipped(name, "no tcpdump or no tshark");
        }
        // Every pod, those to come included.
        let prefix = p1.ns.name().split("-n1p").next().unwrap().to_owned();
        let pods = format!("{prefix}-n1p*");
        let words = ["--pod", &pods, "--peer", "node2", "-w", "-"];
        let agent = topology.n1.agent().unwrap();
        let mut capture = Capture::start(agent, &words, Stdio::piped());
        let mut stream = capture.0.stdout.take().unwrap();
        let spawn = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::piped());
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let fields = [
            "-e",
            "frame.interface_name",
            "-e",
            "frame.comment",
            "-e",
            "ip.dst",
            "-e",
            "icmp.type",
        ];
        let tshark = [&["-nr", "-", "-T", "fields"][..], &fields].concat();
        let mut children: BTreeMap<&str, Child> = BTreeMap::new();
        if readers[0] {
            children.insert("tcpdump", spawn("tcpdump", &["-nlr", "-"]));
        }
        if readers[1] {
            children.insert("tshark", spawn("tshark", &tshark));
        }
        let copying = {
            let mut inputs: Vec<_> = children
                .values_mut()
                .map(|c| c.stdin.take().unwrap())
                .collect();
            std::thread::spawn(move || {
                let mut all = Vec::new();
                let mut room = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut room) {
                    all.extend_from_slice(&room[..len]);
                    inputs
                        .iter_mut()
                        .for_each(|input| input.write_all(&room[..len]).unwrap());
                }
                all.len()
            })
        };
        assert!(ping(&p1.ns, p2.ip(Family::V4), 2, 56, LIMIT).unwrap().all());
        assert!(ping(&p1.ns, p3.ip(Family::V4), 2, 56, LIMIT).unwrap().all());
        let p4 = topology.n1.add_pod().unwrap();
        assert!(ping(&p4.ns, p2.ip(Family::V4), 2, 56, LIMIT).unwrap().all());
        assert!(ping(&p4.ns, p3.ip(Family::V6), 2, 56, LIMIT).unwrap().all());
        // Twice the time between two looks into the rings.
        std::thread::sleep(Duration::from_millis(100));
        let said = capture.end();
        assert!(copying.join().unwrap() > 1000);
        println!("{said}");
        let outputs: BTreeMap<&str, Output> = children
            .into_iter()
            .map(|(program, child)| (program, child.wait_with_output().unwrap()))
            .collect();
        for (program, output) in &outputs {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program}: {errors}");
            for pod in [&p1, &p4] {
                let ip = pod.ip(Family::V4).to_string();
                assert!(
                    text.contains(&ip),
                    "{program} has not seen {ip}:\n{text}\n{errors}"
                );
            }
            match *program {
                "tcpdump" => {
                    let echo = format!(
                        "IP {} > {}: ICMP echo request",
                        p1.ip(Family::V4),
                        p2.ip(Family::V4)
                    );
                    // Where they come in and where they go out.
                    assert_eq!(text.matches(&echo).count(), 4, "{text}");
                    assert!(text.contains("ICMP6, echo request"), "{text}");
                }
                _ => {
                    let line = format!("{}/eth0\tfrom {}/eth0", p2.ns.name(), p1.ns.name());
                    assert!(text.contains(&line), "{text}");
                    let line = format!(
                        "{}/eth0\tto peer node2\t{}\t8",
                        p1.ns.name(),
                        p3.ip(Family::V4)
                    );
                    assert!(text.contains(&line), "{text}");
                    let line = format!("peer node2\tto {}/eth0", p1.ns.name());
                    assert!(text.contains(&line), "{text}");
                    let line = format!("{}/eth0\tto {}/eth0", p4.ns.name(), p2.ns.name());
                    assert!(text.contains(&line), "the pod that came later: {text}");
                }
            }
        }
    });
}

#[test]
fn filters_take_what_tcpdump_takes() {
    let name = "filters_take_what_tcpdump_takes";
    network_test(name, Duration::from_secs(60), || {
        if !installed("tcpdump") {
            return skipped(name, "no tcpdump");
        }
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [p1, p2, p3] = topology.add_three_pods().unwrap();
        let agent = topology.n1.agent().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |n: usize| dir.path().join(format!("{n}.pcapng"));
        // Superframes are taken whole; the last looks far into one of them.
        let filters = [
            "",
            "tcp[tcpflags] & tcp-syn != 0 or icmp6",
            "host 10.77.1.2 and greater 5000",
            "udp or ether[20000] > 127",
        ];
        let captures = filters.iter().enumerate().map(|(n, filter)| {
            let path = file(n).display().to_string();
            let words = ["-w", &path, "--buffer", "60M"];
            let filter: Vec<&str> = filter.split_whitespace().collect();
            Capture::start(agent, &[&words[..], &filter].concat(), Stdio::null())
        });
        let captures: Vec<Capture> = captures.collect();
        for (to, family) in [(&p2, Family::V4), (&p3, Family::V6), (&p3, Family::V4)] {
            assert!(
                ping(&p1.ns, to.ip(family), 3, 4000, LIMIT)
                    .unwrap()
                    .times
                    .len()
                    > 1
            );
            transfer(&p1.ns, &to.ns, to.ip(family), 2_000_001, LIMIT).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        for (n, (filter, capture)) in filters.iter().zip(captures).enumerate() {
            let (packets, lost) = counts(&capture.end());
            let there = tcpdump(&file(0), filter);
            println!("{filter:?}: {packets} packets, tcpdump takes {there} of them");
            assert_eq!(lost, 0, "{filter}");
            assert_eq!(packets as usize, there, "{filter}");
            assert_eq!(tcpdump(&file(n), ""), there, "{filter}");
            assert!(there > 3, "{filter}");
        }
    });
}

#[test]
fn nothing_is_lost_at_100_000_frames_a_second() {
    let name = "nothing_is_lost_at_100_000_frames_a_second";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let p1 = topology.n1.add_pod().unwrap();
        let p2 = topology.n1.add_pod().unwrap();
        let agent = topology.n1.agent().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcapng");
        let pod = format!("{}/eth0", p2.ns.name());
        let file = path.display().to_string();
        let words = ["--pod", &pod, "-s", "128", "-w", &file, "udp"];
        let capture = Capture::start(agent, &words, Stdio::null());
        let frames = 200_000;
        let load = Load {
            mix: Mix::one(100),
            flows: 20,
            plan: Plan {
                rate: 100_000,
                count: Some(frames),
                ..Plan::default()
            },
            io: Io::Packet,
        };
        let between = Between::new(&p1.ns, &p2.ns, p2.ip(Family::V4)).unwrap();
        let outcome = between.run(&load).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let (packets, lost) = counts(&capture.end());
        let rate = frames as f64 / outcome.sent.seconds;
        println!(
            "{rate:.0} frames/s, {packets} captured, {lost} lost, {} arrived",
            outcome.counts.received
        );
        assert_eq!(lost, 0);
        assert!(
            packets >= outcome.counts.received,
            "{packets} of {}",
            outcome.counts.received
        );
        assert_eq!(outcome.sent.packets, frames);
    });
}

#[test]
fn saturated_traffic_keeps_its_rate_beside_a_capture() {
    let name = "saturated_traffic_keeps_its_rate_beside_a_capture";
    network_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let p1 = topology.n1.add_pod().unwrap();
        let p2 = topology.n1.add_pod().unwrap();
        let pod = format!("{}/eth0", p1.ns.name());
        let run = || {
            throughput(&p1.ns, &p2.ns, p2.ip(Family::V4), 4, Duration::from_secs(2))
                .unwrap()
                .gbit
        };
        run();
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let without = run();
            let words = ["--pod", &pod, "-s", "128", "-w", "/dev/null", "tcp"];
            let agent = topology.n1.agent().unwrap();
            let capture = Capture::start(agent, &words, Stdio::null());
            let with = run();
            std::thread::sleep(Duration::from_millis(1200));
            let (packets, lost) = counts(&capture.end());
            println!(
                "{without:.2} Gbit/s, with a capture {with:.2}; {packets} captured, {lost} lost"
            );
            assert!(packets > 1000);
            ratios.push(with / without);
        }
        ratios.sort_by(f64::total_cmp);
        assert!(ratios[1] >= 0.8, "{ratios:.2?}");
    });
}

#[test]
fn a_capture_ends_with_its_reader_and_with_the_agent() {
    let name = "a_capture_ends_with_its_reader_and_with_the_agent";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let agent = topology.n1.agent().unwrap();
        let mut all: Vec<Capture> = (0..4)
            .map(|_| Capture::start(agent, &["-w", "/dev/null"], Stdio::null()))
            .collect();
        let refused = agent.cli(&["capture", "-c", "1"]).unwrap_err().to_string();
        assert!(refused.contains("4 captures"), "{refused}");
        // Killed: nobody says goodbye.
        drop(all.pop());
        let ended = |agent: &Agent| {
            let log = std::fs::read_to_string(agent.log_path()).unwrap();
            log.matches("live trace ends").count()
        };
        eventually("it ends", LIMIT, || ended(agent) == 1);
        // One whose reader has gone: the next packet cannot be written.
        let mut deaf = Capture::start(agent, &["--node"], Stdio::piped());
        drop(deaf.0.stdout.take());
        let gateway = topology.n1.gateway(Family::V4);
        let pod = topology.n1.add_pod().unwrap();
        assert!(ping(&pod.ns, gateway, 2, 56, LIMIT).unwrap().all());
        eventually("its command ends", LIMIT, || {
            deaf.0.try_wait().unwrap().is_some()
        });
        let agent = topology.n1.agent().unwrap();
        eventually("it ends", LIMIT, || ended(agent) == 2);
        // The agent stops at once, and so do the commands.
        let took = std::time::Instant::now();
        assert!(agent.stop());
        let took = took.elapsed();
        assert!(took < Duration::from_millis(1500), "{took:?}");
        for capture in &mut all {
            eventually("the command ends", LIMIT, || {
                capture.0.try_wait().unwrap().is_some()
            });
            assert!(capture.0.wait().unwrap().success());
        }
    });
}
