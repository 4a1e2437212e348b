//! An agent whose node Kubernetes decides, and whose API server is away.

mod common;

use std::time::{Duration, Instant};

use common::{Agent, Files, UNDERLAY, output, ringway, stderr};

const CIDRS: &str = "pod_cidrs = [\"10.77.1.0/24\", \"fd77:1::/64\"]";

/// Nobody listens there, whoever asks.
fn files() -> Files {
    let section = "\n[kubernetes]\nnode = \"node1\"\nkubeconfig = \"\"\napi_server = \"https://127.0.0.1:1\"\n";
    Files::new(|text| {
        assert!(text.contains(CIDRS));
        text.replace(CIDRS, "") + section
    })
}

fn start() -> Agent {
    let mut agent = Agent::launch(files(), UNDERLAY, "", |_| {});
    agent.wait_ready();
    agent
}

#[test]
fn it_lives_and_says_what_it_waits_for() {
    let agent = start();
    let socket = agent.files.socket();
    assert_eq!(output(&["--socket", &socket, "health", "live"]), "live\n");
    let ready = || {
        let begin = Instant::now();
        let output = ringway(&["--socket", &socket, "health", "ready"]).output();
        (output.unwrap(), begin.elapsed())
    };
    let (answer, _) = ready();
    assert_eq!(answer.status.code(), Some(1));
    let said = stderr(&answer);
    let first = "ringway: not ready: node1 has no pod network yet: ";
    assert!(said.starts_with(first), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    // The best of some, for this machine does other things meanwhile.
    let best = (0..10).map(|_| ready().1).min().unwrap();
    assert!(best < Duration::from_millis(50), "{best:?}");

    let status = output(&["--socket", &socket, "status"]);
    assert!(status.contains("0, no pod network yet"), "{status}");
    assert!(status.contains("kubernetes: nothing heard yet"), "{status}");
    let json = output(&["--socket", &socket, "status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let source = &json["sources"][0];
    assert_eq!(source["name"], "kubernetes", "{json:#}");
    assert_eq!(source["state"], "waiting", "{json:#}");
    assert_eq!(json["pod_cidrs"], serde_json::json!([]));
    // The node port is there, and without addresses.
    let addresses = agent.inside("ip -o addr show dev ringway0 scope global");
    assert_eq!(addresses, "");
    agent.stop();
}

/// The kubelet waits for it, and the next agent for the kubelet.
#[test]
fn it_ends_within_200_milliseconds() {
    let ends = || {
        let agent = start();
        let begin = Instant::now();
        assert!(agent.stop().success());
        begin.elapsed()
    };
    let all = [(); 3].map(|()| ends());
    let best = all.iter().min().unwrap();
    assert!(*best <= Duration::from_millis(200), "{all:?}");
}
