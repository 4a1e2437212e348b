//! The systemd unit, and what an agent does that is started by it: it waits for its underlay, tells its
//! supervisor, and needs no more than the unit gives it.

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use common::{Agent, Files, LIMIT, UNDERLAY, output, ringway, stderr};

const UNIT: &str = include_str!("../../deploy/ringway.service");

/// The value of a key of the unit.
fn value(key: &str) -> &'static str {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{key} is not in the unit"))
}

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    // It looks whether the program is there.
    let unit = UNIT.replace("/usr/local/bin/ringway", env!("CARGO_BIN_EXE_ringway"));
    let file = dir.path().join("ringway.service");
    std::fs::write(&file, unit).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output();
    let Ok(verify) = verify else {
        println!("SKIPPED systemd_takes_the_unit: no systemd-analyze");
        return;
    };
    assert!(verify.status.success(), "{}", stderr(&verify));
    assert_eq!(stderr(&verify), "");
}

#[test]
fn the_unit_starts_a_command_there_is() {
    let words: Vec<&str> = value("ExecStart").split(' ').skip(1).collect();
    let mut words = words.clone();
    words.push("--help");
    assert!(output(&words).contains("--wait"));
}

/// The node's underlay comes a while after the agent.
#[test]
fn an_agent_waits_for_its_underlay_and_tells_its_supervisor() {
    let files = Files::new(|text| text);
    let supervisor = UnixDatagram::bind(files.path("notify")).unwrap();
    supervisor.set_read_timeout(Some(LIMIT)).unwrap();
    let told = || {
        let mut text = [0; 4096];
        let len = supervisor.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let (notify, log) = (files.path("notify"), files.path("log"));
    let to = std::fs::File::create(&log).unwrap();
    let mut agent = Agent::launch(files, "ip link set lo up", "--wait", |command| {
        command.env("NOTIFY_SOCKET", notify).stderr(to);
    });
    let waiting = told();
    assert!(
        waiting.starts_with("STATUS=waiting for the underlay: "),
        "{waiting}"
    );
    assert!(waiting.contains("\"eth0\""), "{waiting}");
    // The interface comes, then an address.
    agent.inside("ip link add eth0 type veth peer name wire");
    assert!(told().contains("interface eth0 is down"));
    agent.inside("ip link set wire up && ip link set eth0 up");
    assert!(told().contains("interface eth0 has no usable address"));
    assert!(agent.running());
    agent.inside("ip addr add 192.168.77.1/24 dev eth0");
    assert_eq!(told(), "READY=1\nSTATUS=ready\n");
    agent.wait_ready();
    let log = std::fs::read_to_string(log).unwrap();
    let states = log.matches("waiting for the underlay").count();
    assert_eq!(states, 3, "each once: {log}");
    let ended = agent.stop();
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert_eq!(told(), "STOPPING=1\n");
}

#[test]
fn an_agent_that_waits_can_be_stopped() {
    let files = Files::new(|text| text);
    let log = files.path("log");
    let to = std::fs::File::create(&log).unwrap();
    let mut agent = Agent::launch(files, "true", "--wait", |command| {
        command.stderr(to);
    });
    let end = std::time::Instant::now() + LIMIT;
    while !std::fs::read_to_string(&log)
        .unwrap()
        .contains("waiting for the underlay")
    {
        assert!(agent.running() && std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = agent.stop();
    assert_eq!(ended.code(), Some(0), "{ended}");
}

#[test]
fn without_wait_a_missing_underlay_is_an_error() {
    let files = Files::new(|text| text);
    let mut agent = Agent::launch(files, "true", "", |command| {
        command.stderr(Stdio::null());
    });
    assert_eq!(agent.wait().code(), Some(1));
}

/// A pod is attached, and reached from the node, by an agent with the unit's capabilities only.
#[test]
fn the_units_capabilities_are_enough() {
    let bounds: Vec<String> = value("CapabilityBoundingSet")
        .split(' ')
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let setup = format!(
        "{UNDERLAY} && set -- setpriv --no-new-privs --bounding-set=-all,{}",
        bounds.join(",")
    );
    let files = Files::new(|text| text);
    let log = files.path("log");
    let to = std::fs::File::create(&log).unwrap();
    let mut agent = Agent::launch(files, &setup, "", |command| {
        let script = command.get_args().last().unwrap().to_string_lossy();
        let script = script.replace("exec ", "exec \"$@\" ");
        *command = Command::new("unshare");
        command
            .args(["--net", "--", "sh", "-c", &script])
            .stderr(to);
    });
    agent.wait_ready();
    let capabilities = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    assert!(capabilities.contains("NoNewPrivs:\t1"), "{capabilities}");
    let netns = format!("rw{}u", std::process::id());
    let _removed = RemoveNetns(netns.clone());
    let added = Command::new("ip")
        .args(["netns", "add", &netns])
        .status()
        .unwrap();
    assert!(added.success());
    let socket = agent.files.socket();
    for verb in ["attach", "detach"] {
        let mut words = vec!["--socket", &socket, verb, "--netns", &netns];
        if verb == "attach" {
            words.extend(["--ip", "10.77.1.10", "--ip", "fd77:1::10"]);
        }
        let done = ringway(&words).output().unwrap();
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(done.status.success(), "{verb}: {}\n{log}", stderr(&done));
        if verb == "attach" {
            agent.inside("ping -c 3 -i 0.2 -W 5 10.77.1.10 && ping -c 3 -i 0.2 -W 5 fd77:1::10");
        }
    }
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        !text.contains("ermission denied") && !text.contains("not permitted"),
        "{text}"
    );
    assert_eq!(agent.stop().code(), Some(0));
}

struct RemoveNetns(String);

impl Drop for RemoveNetns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
