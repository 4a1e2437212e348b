//! What a person gets wrong: the agent or the command says what it tried, what it found and what
//! to do, and leaves everything as it was.

use crate::common::LIMIT;
use crate::harness::{network_test, skipped};
use ringway_perf::lab::{Agent, Family, LabError, Mode, RingwayOptions, Topology, installed, run};
use ringway_perf::traffic::ping;
use std::time::Duration;

#[test]
fn a_taken_port_is_named() {
    network_test("a_taken_port_is_named", Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        assert!(topology.n1.agent().unwrap().stop());
        let node = topology.n1.ns.clone();
        node.ip("link add flannel.9 type vxlan id 9 dev eth0 dstport 8472")
            .unwrap();
        node.ip("link set flannel.9 up").unwrap();
        let log = must_end(topology.n1.agent().unwrap());
        assert!(log.contains("8472"), "the port is not named:\n{log}");
        assert!(log.contains("flannel.9"), "its holder is not named:\n{log}");
        node.ip("link del flannel.9").unwrap();
        topology.n1.agent().unwrap().start().unwrap();
        assert!(ping(&p1.ns, p3.ip(Family::V4), 3, 56, LIMIT).unwrap().all());
    });
}

#[test]
fn a_second_agent_on_the_same_state_is_refused() {
    network_test(
        "a_second_agent_on_the_same_state_is_refused",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, p2, _] = topology.add_three_pods().unwrap();
            let agent = topology.n1.agent().unwrap();
            let (binary, config) = (
                agent.binary().display().to_string(),
                agent.config().display().to_string(),
            );
            let second = topology
                .n1
                .ns
                .command("timeout", &format!("5 {binary} --config {config} agent"));
            let message = failure(second);
            assert!(
                message.contains("state"),
                "the state directory is not named:\n{message}"
            );
            assert!(
                ping(&p1.ns, p2.ip(Family::V4), 3, 56, LIMIT).unwrap().all(),
                "the first goes on"
            );
        },
    );
}

#[test]
fn missing_privileges_are_named() {
    network_test(
        "missing_privileges_are_named",
        Duration::from_secs(60),
        || {
            if !installed("setpriv") {
                return skipped("missing_privileges_are_named", "no `setpriv` (util-linux)");
            }
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let agent = topology.n1.agent().unwrap();
            assert!(agent.stop());
            let (binary, config) = (
                agent.binary().display().to_string(),
                agent.config().display().to_string(),
            );
            let line = format!(
                "5 setpriv --bounding-set=-all --inh-caps=-all {binary} --config {config} agent"
            );
            let message = failure(topology.n1.ns.command("timeout", &line));
            assert!(
                message.contains("CAP_NET_ADMIN"),
                "the capability is not named:\n{message}"
            );
        },
    );
}

#[test]
fn attach_says_what_is_in_the_way() {
    network_test(
        "attach_says_what_is_in_the_way",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let pod = topology.n1.new_pod().unwrap();
            pod.ns.ip("link add eth0 type bridge").unwrap();
            let message = failure(topology.n1.attach(&pod));
            assert!(
                message.contains("eth0"),
                "the interface is not named:\n{message}"
            );
            assert!(
                pod.ns.ip("-d link show eth0").unwrap().contains("bridge"),
                "what was there is gone"
            );
            pod.ns.ip("link del eth0").unwrap();
            topology.n1.attach(&pod).unwrap();

            let gone = topology.n1.new_pod().unwrap();
            gone.ns.delete().unwrap();
            let message = failure(topology.n1.attach(&gone));
            assert!(
                message.contains(gone.ns.name()),
                "the namespace is not named:\n{message}"
            );

            // Another pod's address.
            let other = topology.n1.new_pod().unwrap();
            let (netns, ip) = (
                other.ns.path().display().to_string(),
                pod.ip(Family::V4).to_string(),
            );
            let taken = topology
                .n1
                .agent()
                .unwrap()
                .cli(&["attach", "--netns", &netns, "--ifname", "eth0", "--ip", &ip]);
            let message = failure(taken);
            assert!(
                message.contains(&ip),
                "the address is not named:\n{message}"
            );
            assert!(
                other.ns.ip("link show eth0").is_err(),
                "a refused attach left an interface"
            );
            topology.n1.attach(&other).unwrap();
            assert!(
                ping(&other.ns, pod.ip(Family::V4), 3, 56, LIMIT)
                    .unwrap()
                    .all()
            );
        },
    );
}

#[test]
fn configuration_errors_name_line_and_key() {
    network_test(
        "configuration_errors_name_line_and_key",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let agent = topology.n1.agent().unwrap();
            assert!(agent.stop());
            let good = std::fs::read_to_string(agent.config()).unwrap();
            let (binary, config) = (
                agent.binary().display().to_string(),
                agent.config().display().to_string(),
            );
            let check = || run(&binary, &["--config", &config, "config", "check"]);
            check().expect("the good one passes");
            let cases = [
                ("count = 1", "count = 1\ncuont = 2", "cuont"),
                ("\"10.77.1.0/24\"", "\"10.77.1.9/24\"", "10.77.1.9/24"),
                ("encap = \"vxlan\"", "encap = \"geneve\"", "geneve"),
                (
                    "interface = \"eth0\"",
                    "interface = \"eth0\"\nvni = 16777216",
                    "16777216",
                ),
                ("\"10.77.2.0/24\"", "\"10.77.1.0/24\"", "10.77.1.0/24"),
            ];
            for (from, to, named) in cases {
                assert!(good.contains(from), "`{from}` is not in the file:\n{good}");
                let line = good[..good.find(from).unwrap()].lines().count()
                    + usize::from(to.contains('\n'));
                agent.write_config(&good.replacen(from, to, 1)).unwrap();
                let message = failure(check());
                assert!(
                    message.contains(named),
                    "{to}: the value is not named:\n{message}"
                );
                println!("{to:?} (line {line}): {message}");
                must_end(agent);
            }
            agent
                .write_config(&good.replace("\"eth0\"", "\"eth7\""))
                .unwrap();
            let log = must_end(agent);
            assert!(
                log.contains("eth7"),
                "the missing interface is not named:\n{log}"
            );
            agent.write_config(&good).unwrap();
            agent.start().unwrap();
        },
    );
}

/// Starts an agent that must end by itself with an error; returns what it wrote.
#[track_caller]
fn must_end(agent: &mut Agent) -> String {
    let _ = std::fs::remove_file(agent.log_path());
    agent.launch().unwrap();
    let status = agent.wait(Duration::from_secs(5));
    let log = agent.log();
    match status {
        Some(status) if !status.success() && status.code().is_some() => log,
        Some(status) => panic!("ended with {status}, not with an error:\n{log}"),
        None => {
            agent.kill();
            panic!("runs on:\n{log}")
        }
    }
}

/// What a command that must fail said. A time limit is no answer.
#[track_caller]
fn failure<T: std::fmt::Debug>(result: Result<T, LabError>) -> String {
    match result {
        Err(LabError::Command { status, output, .. }) => {
            assert!(
                !status.contains("124"),
                "it did not end by itself: {output}"
            );
            output
        }
        other => panic!("it should have failed, but: {other:?}"),
    }
}
