//! The `ringway` program: run as a person runs it, and as an agent in a network namespace of its own.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const RINGWAY: &str = env!("CARGO_BIN_EXE_ringway");
/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// `ringway ARGUMENTS`, to be run.
pub(crate) fn ringway(arguments: &[&str]) -> Command {
    let mut command = Command::new(RINGWAY);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("COLUMNS")
        .env_remove("RUST_BACKTRACE")
        .env_remove("RUST_LOG");
    command
}

/// What it prints; fails unless it succeeds.
#[track_caller]
pub(crate) fn output(arguments: &[&str]) -> String {
    let output = ringway(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The sample's configuration with a folder for its files.
pub(crate) struct Files {
    pub(crate) dir: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new(change: impl FnOnce(String) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = format!(
            "[node]\nstate_dir = {:?}\nsocket = {:?}",
            dir.path().join("state"),
            dir.path().join("sock")
        );
        let text = include_str!("../../../config/ringway.toml").replacen("[node]", &own, 1);
        std::fs::write(dir.path().join("ringway.toml"), change(text)).unwrap();
        Self { dir }
    }

    pub(crate) fn config(&self) -> String {
        self.path("ringway.toml").display().to_string()
    }

    pub(crate) fn socket(&self) -> String {
        self.path("sock").display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Stands for an agent: answers each path, to the end of the test's process.
pub(crate) fn answering(files: &Files, answers: Vec<(&'static str, serde_json::Value)>) {
    let listener = UnixListener::bind(files.socket()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8192];
            let len = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            let path = request.split(' ').nth(1).unwrap();
            let found = answers.iter().find(|(known, _)| *known == path);
            let body = found.unwrap_or_else(|| panic!("{path}")).1.to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
}

/// An agent in a namespace of its own, whose eth0 is one end of a veth pair.
pub(crate) struct Agent {
    pub(crate) files: Files,
    child: Child,
}

/// An underlay for the sample's configuration. The kernel takes note of a carrier a while after it is there,
/// and has no IPv6 route before.
pub(crate) const UNDERLAY: &str = "ip link set lo up && ip link add eth0 type veth peer name wire && \
    ip link set wire up && ip link set eth0 up && ip addr add 192.168.77.1/24 dev eth0 && \
    ip addr add fd00:77::1/64 dev eth0 nodad && for try in $(seq 200); do \
    ip -6 route get fd00:77::2 from fd00:77::1 >/dev/null 2>&1 && break; sleep 0.05; done";

impl Agent {
    /// Starts it after `setup`, a shell script inside the namespace; `change` gets the command.
    pub(crate) fn launch(
        files: Files,
        setup: &str,
        arguments: &str,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        assert!(
            nix::unistd::Uid::effective().is_root(),
            "this test makes network namespaces: run it as root, e.g. sudo -E cargo test -p ringway-agent"
        );
        let script = format!(
            "{setup} && exec {RINGWAY} --config {} agent {arguments}",
            files.config()
        );
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--", "sh", "-c", &script])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        Self { files, child }
    }

    /// Waits until it answers.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            let status = ringway(&["--socket", &self.files.socket(), "status"]).output();
            let status = status.unwrap();
            if status.status.success() {
                return;
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "the agent has ended");
            assert!(Instant::now() < end, "no answer: {}", stderr(&status));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Runs a shell script inside its namespace.
    #[track_caller]
    pub(crate) fn inside(&self, script: &str) -> String {
        let target = self.pid().to_string();
        let output = Command::new("nsenter")
            .args(["--net", "--target", &target, "--", "sh", "-c", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).unwrap();
        self.wait()
    }

    /// How it ends by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
