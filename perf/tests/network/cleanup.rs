//! Nothing stays behind, however a run ends.

use crate::harness::{eventually, network_test};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway_perf::lab::{Mode, PREFIX, Topology};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

#[test]
fn signals_take_everything_down() {
    network_test(
        "signals_take_everything_down",
        Duration::from_secs(60),
        || {
            for (signal, status) in [
                (Signal::SIGINT, 130),
                (Signal::SIGTERM, 143),
                (Signal::SIGHUP, 129),
            ] {
                let mut run = standing();
                let names = namespaces(run.id());
                assert_eq!(names.len(), 5, "two nodes and three pods: {names:?}");
                assert_eq!(end(&mut run, signal).code(), Some(status), "{signal}");
                assert_eq!(namespaces(run.id()), [""; 0], "{signal}");
            }
        },
    );
}

#[test]
fn what_a_killed_run_leaves_is_found_and_removed() {
    network_test(
        "what_a_killed_run_leaves_is_found_and_removed",
        Duration::from_secs(60),
        || {
            let mut run = standing();
            end(&mut run, Signal::SIGKILL);
            assert_eq!(namespaces(run.id()).len(), 5);
            let clean = Command::new(env!("CARGO_BIN_EXE_ringway-perf"))
                .arg("clean")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&clean.stdout);
            for name in [
                format!("{PREFIX}{}-0-n1", run.id()),
                format!("{PREFIX}{}-0\n", run.id()),
            ] {
                assert!(said.contains(&name), "{name} is not in: {said}");
            }
            assert_eq!(namespaces(run.id()), [""; 0]);
        },
    );
}

#[test]
fn a_panic_takes_everything_down() {
    network_test(
        "a_panic_takes_everything_down",
        Duration::from_secs(60),
        || {
            let result = std::panic::catch_unwind(|| {
                let mut topology = Topology::kernel(Mode::Full).unwrap();
                topology.add_three_pods().unwrap();
                panic!("on purpose");
            });
            assert!(result.is_err());
            assert_eq!(namespaces(std::process::id()), [""; 0]);
        },
    );
}

fn standing() -> Child {
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringway-perf"))
        .args(["lab", "--n1", "kernel", "--n2", "kernel"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert!(
        lines
            .map_while(Result::ok)
            .any(|line| line.contains("standing")),
        "it did not stand"
    );
    run
}

fn end(run: &mut Child, signal: Signal) -> ExitStatus {
    kill(Pid::from_raw(run.id().cast_signed()), signal).unwrap();
    let mut status = None;
    eventually("the end", Duration::from_secs(10), || {
        status = run.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

fn namespaces(pid: u32) -> Vec<String> {
    let prefix = format!("{PREFIX}{pid}-");
    let entries = std::fs::read_dir("/run/netns").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}
