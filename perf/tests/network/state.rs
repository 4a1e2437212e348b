//! State directory and API socket taken away from an agent that runs.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Mode, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::time::Duration;

#[test]
fn what_is_taken_away_is_made_again() {
    network_test(
        "what_is_taken_away_is_made_again",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let agent = topology.n1.agent().unwrap();
            let state = agent.folder().join("state");
            let saved = std::fs::read_to_string(state.join("state.json")).unwrap();
            let socket = agent.socket();
            std::fs::remove_dir_all(&state).unwrap();
            std::fs::remove_file(&socket).unwrap();
            let again = || std::fs::read_to_string(state.join("state.json")).ok();
            eventually("the state", LIMIT, || again().as_deref() == Some(&saved));
            eventually("the socket", LIMIT, || socket.exists());
            agent.wait_ready().unwrap();
            let log = agent.log();
            for word in ["removed the state directory", "removed the API socket"] {
                let lines = log
                    .lines()
                    .filter(|l| l.contains("WARN") && l.contains(word));
                assert_eq!(lines.count(), 1, "{word:?}: {log}");
            }
            // What is there now holds over a restart, and a second agent is still refused.
            agent.kill();
            agent.start().unwrap();
            for family in Family::BOTH {
                let answers = ping(&p1.ns, p3.ip(family), 2, 56, LIMIT).unwrap();
                assert!(answers.all(), "{family}: {answers}");
            }
        },
    );
}
