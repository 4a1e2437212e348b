//! `ringway drops` as it is used: with nothing lost, with much, watched, and asked for what there is not.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Instant;

use common::{Files, LIMIT, answering, output, ringway, stderr};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway_control::view::{Drop, DropAt, Drops, KernelLoss};
use serde_json::{Value, json};

const PODS: usize = 110;

fn at(kind: &str, name: &str, direction: &str, packets: u64) -> DropAt {
    DropAt {
        kind: kind.into(),
        name: name.into(),
        direction: direction.into(),
        packets,
        rate: None,
    }
}

fn drop(reason: &str, frames: u64, at: Vec<DropAt>) -> Drop {
    Drop {
        reason: reason.into(),
        frames,
        cause: "It was seen.".into(),
        remedy: "Do something.".into(),
        at,
        ..Drop::default()
    }
}

fn loss(counter: &str, at: &str, count: u64) -> KernelLoss {
    KernelLoss {
        counter: counter.into(),
        at: at.into(),
        count,
        rate: None,
        cause: "It overflowed.".into(),
        remedy: "Make room.".into(),
    }
}

/// Each of 110 pods drops, and so do a peer and what nobody sent.
fn many() -> Drops {
    let pods = (0..PODS).map(|n| at("pod", &format!("default/web-{n}"), "from", 1 + n as u64));
    let gone = [
        at("pod", "default/web-7", "to", 5000),
        at("node", "ringway0", "to", 3),
    ];
    Drops {
        drops: vec![
            drop("spoofed_ipv4", 9000, pods.rev().collect()),
            drop("port_gone", 0, gone.to_vec()),
            drop(
                "foreign_inner_source",
                12,
                vec![at("peer", "node2", "from", 12)],
            ),
            drop("unknown_peer", 7, vec![]),
        ],
        kernel: vec![
            loss("tap_tx_dropped", "pod default/web-7", 2000),
            loss("tap_rx_dropped", "node ringway0", 1),
            loss("nic_rx_missed", "eth0", 30),
        ],
        ..Drops::default()
    }
}

fn agent(drops: &Drops) -> Files {
    let files = Files::new(|text| text);
    answering(
        &files,
        vec![("/v1/drops", json!(drops)), ("/v1/drops/last", json!([]))],
    );
    files
}

fn text(files: &Files, words: &str) -> String {
    let socket = files.socket();
    let mut all = vec!["--socket", &socket, "drops"];
    all.extend(words.split_whitespace());
    output(&all)
}

#[test]
fn with_nothing_lost_every_view_says_so() {
    let files = agent(&Drops::default());
    for words in ["", "--by pod", "--by peer"] {
        let said = text(&files, words);
        assert_eq!(
            said, "no packet was dropped since the agent started\n",
            "{words}"
        );
    }
    let said = text(&files, "--last");
    assert!(said.starts_with("no frame was kept"), "{said}");
    assert_eq!(
        json!(Drops::default()),
        serde_json::from_str::<Value>(&text(&files, "--json")).unwrap()
    );
}

#[test]
fn by_reason_names_the_places_that_lost_most_and_what_to_do() {
    let files = agent(&many());
    let said = text(&files, "");
    for words in [
        "spoofed_ipv4: 9000 frames, 0/s\n  from    pod default/web-109: 110 packets, 0/s\n",
        "and 105 more: --by pod, --by peer\n  cause   It was seen.\n  to do   Do something.\n",
        "  to      pod default/web-7: 5000 packets, 0/s",
        "tap_tx_dropped: 2000 packets by the kernel, 0/s\n  at      pod default/web-7: 2000, 0/s\n",
        "  to do   Make room.",
    ] {
        assert!(said.contains(words), "{words:?} in\n{said}");
    }
}

#[test]
fn by_pod_and_by_peer_have_a_row_for_each_reason_at_each_place() {
    let files = agent(&many());
    let said = text(&files, "--by pod");
    let rows: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["POD", "WAY", "REASON", "PACKETS", "RATE"]);
    // The pod that lost most is first, with all that it lost, also in the kernel.
    assert_eq!(rows[1], ["default/web-7", "to", "port_gone", "5000", "0/s"]);
    assert_eq!(
        rows[2],
        ["default/web-7", "from", "tap_tx_dropped", "2000", "0/s"]
    );
    assert_eq!(
        rows[3],
        ["default/web-7", "from", "spoofed_ipv4", "8", "0/s"]
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row.contains(&"spoofed_ipv4"))
            .count(),
        PODS
    );
    assert!(said.contains("node ringway0"), "{said}");
    assert!(
        said.ends_with("\nat no pod and no peer: unknown_peer 7\n"),
        "{said}"
    );
    let nobody = agent(&Drops {
        drops: vec![drop("unknown_peer", 7, Vec::new())],
        ..Drops::default()
    });
    let said = text(&nobody, "--by peer");
    assert!(
        said.starts_with("no peer is known to be concerned\n"),
        "{said}"
    );
    let said = text(&files, "--by peer");
    assert_eq!(said.lines().count(), 3, "{said}");
    let row: Vec<&str> = said.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["node2", "from", "foreign_inner_source", "12", "0/s"]);
}

/// `ringway drops --watch …` with a pipe for its stdout.
fn watch(files: &Files, words: &[&str]) -> Child {
    let socket = files.socket();
    let mut all = vec!["--socket", &socket, "drops", "--watch"];
    all.extend(words);
    let mut command = ringway(&all);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ends_well(mut child: Child) {
    let end = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it goes on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), String::new())
    );
}

#[test]
fn a_watch_goes_on_until_interrupted_or_until_nobody_reads() {
    let files = agent(&many());
    let mut child = watch(&files, &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    // Blocks of lines: no terminal, so nothing is cleared.
    assert!(next().ends_with(" UTC, 0 s of watching"));
    let head: Vec<String> = next().split_whitespace().map(str::to_owned).collect();
    assert_eq!(head, ["REASON", "COUNT", "RATE", "MOSTLY"]);
    let first = next();
    assert!(
        first.starts_with("spoofed_ipv4") && !first.contains("/s"),
        "{first}"
    );
    while !next().is_empty() {}
    assert!(next().ends_with("UTC, 1 s of watching"));
    next();
    let second = next();
    assert!(
        second.contains("0/s"),
        "rates since the look before: {second}"
    );
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    ends_well(child);
    // Nobody reads any more.
    let mut child = watch(&files, &["--by", "pod"]);
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    std::mem::drop(stdout);
    ends_well(child);
}

/// As `kubectl exec -i` does when it ends, and as a script without input does not.
#[test]
fn a_watch_ends_when_the_pipe_at_its_stdin_is_let_go() {
    let files = agent(&many());
    let socket = files.socket();
    let begin = |held: bool| {
        // Nobody reads on, and the pipe stays open: an object is more than has room in it.
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let mut command = ringway(&["--socket", &socket, "drops", "--watch", "--json"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command.stdout(writer);
        let mut child = command.spawn().unwrap();
        let hand = child.stdin.take().filter(|_| held);
        reader.read_exact(&mut [0]).unwrap();
        (child, hand, reader)
    };
    let (mut without, _, _its_pipe) = begin(false);
    let (mut with, hand, _pipe) = begin(true);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(with.try_wait().unwrap().is_none());
    std::mem::drop(hand);
    ends_well(with);
    // Its stdin was closed when it began.
    assert!(without.try_wait().unwrap().is_none());
    without.kill().unwrap();
    without.wait().unwrap();
}

#[test]
fn a_watched_object_is_a_line() {
    let files = agent(&many());
    let mut child = watch(&files, &["--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let (first, second) = (next(), next());
    for look in [&first, &second] {
        assert_eq!(look["drops"].as_array().unwrap().len(), 4);
    }
    assert_eq!(first["drops"][0]["rate"], Value::Null);
    for rate in [
        &second["drops"][0]["rate"],
        &second["drops"][0]["at"][0]["rate"],
        &second["kernel"][0]["rate"],
    ] {
        assert_eq!(*rate, 0.0);
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    ends_well(child);
}

#[test]
fn a_reason_is_explained_without_an_agent_and_an_unknown_one_has_near_names() {
    let said = output(&[
        "--socket",
        "/nonexistent",
        "drops",
        "--explain",
        "socket_overflow",
    ]);
    for label in ["reason", "cause", "to do", "where", "counted", "example"] {
        assert!(
            said.lines().any(|line| line.starts_with(label)),
            "{label} in\n{said}"
        );
    }
    let said = output(&["drops", "--explain", "tap_tx_dropped", "--json"]);
    let known: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(known["reason"], "tap_tx_dropped");
    assert!(known["counted"].as_str().unwrap().contains("IFLA_STATS64"));
    let refused = ringway(&["drops", "--explain", "unknown_pier"])
        .output()
        .unwrap();
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("\"unknown_pier\"") && said.contains("unknown_peer"),
        "{said}"
    );
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    for words in [
        "--hex",
        "--last --watch",
        "--explain a --by pod",
        "--by nothing",
    ] {
        let mut all = vec!["drops"];
        all.extend(words.split(' '));
        let refused = ringway(&all).output().unwrap();
        assert_eq!(
            refused.status.code(),
            Some(2),
            "{words}: {}",
            stderr(&refused)
        );
    }
}
