//! No signal but TERM, INT and KILL ends the agent, and HUP has it read its configuration again.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Mode, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::time::Duration;

/// Signals that a fault raises, which end any program (signal(7)); those that cannot be caught; and those the
/// C library keeps for itself.
const LEFT_OUT: [i32; 11] = [
    nix::libc::SIGKILL,
    nix::libc::SIGSTOP,
    nix::libc::SIGABRT,
    nix::libc::SIGBUS,
    nix::libc::SIGFPE,
    nix::libc::SIGILL,
    nix::libc::SIGSEGV,
    nix::libc::SIGSYS,
    nix::libc::SIGTRAP,
    32,
    33,
];

#[test]
fn no_signal_but_term_int_and_kill_ends_the_agent() {
    network_test(
        "no_signal_but_term_int_and_kill_ends_the_agent",
        Duration::from_secs(120),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let ends = [nix::libc::SIGTERM, nix::libc::SIGINT];
            let mut ended = Vec::new();
            for number in (1..65).filter(|n| !LEFT_OUT.contains(n) && !ends.contains(n)) {
                let agent = topology.n1.agent().unwrap();
                agent.signal(number).unwrap();
                if agent.wait(Duration::from_millis(100)).is_some() {
                    ended.push(number);
                    agent.start().unwrap();
                }
            }
            assert_eq!(ended, [0; 0], "signals that ended the agent");
            // None of them stopped it either.
            for family in Family::BOTH {
                let answers = ping(&p1.ns, p3.ip(family), 2, 56, LIMIT).unwrap();
                assert!(answers.all(), "{family}: {answers}");
            }
            for number in ends {
                let agent = topology.n1.agent().unwrap();
                agent.signal(number).unwrap();
                let status = agent.wait(Duration::from_secs(5));
                assert!(status.is_some_and(|s| s.success()), "{number}: {status:?}");
                agent.start().unwrap();
            }
        },
    );
}

#[test]
fn hup_has_the_file_read_and_says_what_waits_for_a_restart() {
    network_test(
        "hup_has_the_file_read_and_says_what_waits_for_a_restart",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let agent = topology.n1.agent().unwrap();
            let text = std::fs::read_to_string(agent.config()).unwrap();
            let said = |agent: &mut ringway_perf::lab::Agent, text: &str, words: &[&str]| {
                agent.write_config(text).unwrap();
                agent.signal(nix::libc::SIGHUP).unwrap();
                eventually(&format!("{words:?} in the log"), LIMIT, || {
                    let log = agent.log();
                    log.lines().any(|l| words.iter().all(|w| l.contains(w)))
                });
                agent.json(&["status"]).unwrap();
            };
            said(agent, &text, &["the configuration is what runs"]);
            let other = text.replace("count = 1", "count = 2");
            let line = ["WARN", "workers.count is 2, was 1", "next start"];
            said(agent, &other, &line);
            let wrong = text.replace("count = 1", "count = \"many\"");
            said(
                agent,
                &wrong,
                &["ERROR", "the configuration stays as it was"],
            );
            agent.write_config(&text).unwrap();
        },
    );
}
