//! What `config check`, `status` and the agent say of a machine that is not as the configuration has it.

mod common;

use std::process::Command;

use common::{Agent, Files, UNDERLAY, ringway, stderr};

/// `ringway ARGUMENTS` in a namespace of its own after `setup`; exit code, stdout, stderr.
fn inside(setup: &str, arguments: &str) -> (Option<i32>, String, String) {
    let script = format!(
        "{setup} && exec {} {arguments}",
        env!("CARGO_BIN_EXE_ringway")
    );
    let output = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", &script])
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text, stderr(&output))
}

#[test]
fn config_check_looks_where_the_peers_are() {
    let files = Files::new(|text| text);
    let check = format!("--config {} config check", files.config());
    let (code, text, warnings) = inside(UNDERLAY, &check);
    assert_eq!((code, warnings.as_str()), (Some(0), ""), "{text}");
    assert!(text.contains(": correct. 1 peers; underlay eth0"), "{text}");

    // Another interface leads to them.
    let other = format!(
        "{UNDERLAY} && ip link add eth1 type veth peer name wire1 && ip link set wire1 up && \
         ip link set eth1 up && ip route add 192.168.77.2 dev eth1 && \
         ip -6 route add fd00:77::2 dev eth1"
    );
    let (code, text, warnings) = inside(&other, &check);
    assert_eq!(code, Some(0), "{warnings}");
    assert!(
        text.contains("usable, with 2 warnings") && !text.contains("correct"),
        "{text}"
    );
    for (j, address) in ["192.168.77.2", "fd00:77::2"].iter().enumerate() {
        let wrong = format!("peers[0].addresses[{j}]: {address} is reached by eth1, not by eth0");
        assert!(warnings.contains(&wrong), "{warnings}");
        assert!(
            warnings.contains(&format!("ip route get {address}")),
            "{warnings}"
        );
    }
    assert!(warnings.contains("ringway.toml:17: "), "{warnings}");

    // Nothing does.
    let none = format!("{UNDERLAY} && ip route add unreachable 192.168.77.2");
    let (code, text, warnings) = inside(&none, &check);
    assert_eq!(code, Some(0), "{warnings}");
    assert!(text.contains("usable, with a warning"), "{text}");
    let wrong = "192.168.77.2 cannot be reached from 192.168.77.1: its route says unreachable";
    assert!(warnings.contains(wrong), "{warnings}");
}

#[test]
fn config_check_warns_of_a_network_inside_another_nodes() {
    let files =
        Files::new(|text| text.replace("\"10.77.2.0/24\"", "\"10.77.2.0/24\", \"10.77.1.64/26\""));
    let check = format!("--config {} config check", files.config());
    let (code, text, warnings) = inside(UNDERLAY, &check);
    assert_eq!(code, Some(0), "{warnings}");
    assert!(text.contains("usable, with a warning"), "{text}");
    let wrong = "peers[0].pod_cidrs[1]: 10.77.1.64/26, which is node2's, lies in 10.77.1.0/24, which is this node's";
    assert!(warnings.contains(wrong), "{warnings}");
}

#[test]
fn a_processor_that_is_not_there_is_refused_before_anything_is_made() {
    let files = Files::new(|text| format!("{text}\n[workers]\ncpus = [99]\n"));
    let check = format!("--config {} config check", files.config());
    let agent = format!("--config {} agent", files.config());
    for verb in [check, agent] {
        let (code, text, said) = inside(UNDERLAY, &verb);
        assert_eq!((code, text.as_str()), (Some(1), ""), "{verb}: {said}");
        assert!(
            said.contains("workers.cpus[0]: processor 99 is not one of"),
            "{said}"
        );
        assert!(said.contains("to do: list some of those"), "{said}");
        assert!(!said.contains("report this"), "{said}");
    }
}

#[test]
fn a_configuration_that_is_named_and_cannot_be_read_is_what_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(&wrong, "[node]\nname = node1\n").unwrap();
    let wrong = wrong.display().to_string();
    for (file, words) in [
        ("/nonexistent/ringway.toml", "cannot be read"),
        (wrong.as_str(), ":2: node1 is not in quotes"),
    ] {
        for verb in ["status", "pods", "drops"] {
            let output = ringway(&["--config", file, verb]).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(file) && said.contains(words), "{said}");
            assert!(!said.contains("/run/ringway"), "{said}");
        }
    }
}

#[test]
fn an_unknown_word_in_rust_log_is_told_and_the_log_goes_on() {
    let files = Files::new(|text| text);
    let log = files.path("log");
    let to = std::fs::File::create(&log).unwrap();
    let mut agent = Agent::launch(files, UNDERLAY, "", |command| {
        command.env("RUST_LOG", "verbose").stderr(to);
    });
    agent.wait_ready();
    // The log is written by a thread of its own.
    let end = std::time::Instant::now() + common::LIMIT;
    let mut text = String::new();
    while !text.contains("ready") && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(20));
        text = std::fs::read_to_string(&log).unwrap();
    }
    assert!(
        text.contains("RUST_LOG=\"verbose\": \"verbose\" is no level"),
        "{text}"
    );
    assert!(
        text.contains("to do: set it to error, warn, info, debug or trace"),
        "{text}"
    );
    assert!(text.contains("ready"), "{text}");
    assert_eq!(agent.stop().code(), Some(0));
}
