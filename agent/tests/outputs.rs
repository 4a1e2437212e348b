//! stdout and stderr that cannot be written: a full disk, a pipe without a reader, one that nobody reads,
//! closed descriptors.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Agent, Files, UNDERLAY, output, ringway, stderr};

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

fn no_reader() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

#[test]
fn an_answer_that_nobody_reads_ends_quietly_and_one_that_is_cut_is_an_error() {
    let files = Files::new(|text| text);
    let config = files.config();
    for words in [
        &["config", "keys"][..],
        &["--config", &config, "config", "show"],
        &["--config", &config, "config", "show", "--json"],
        &["--help"],
        &["config", "--help"],
        &["--version"],
    ] {
        let run = |stdout| {
            ringway(words)
                .stdout(stdout)
                .stderr(Stdio::piped())
                .output()
        };
        let gone = run(no_reader()).unwrap();
        assert_eq!(
            (gone.status.code(), stderr(&gone)),
            (Some(0), String::new()),
            "{words:?}"
        );
        let cut = run(full()).unwrap();
        let said = stderr(&cut);
        assert_eq!(cut.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.starts_with("ringway: the answer cannot be written: "),
            "{words:?}: {said}"
        );
        assert!(said.contains("\n  to do: "), "{words:?}: {said}");
    }
}

#[test]
fn a_complaint_that_cannot_be_written_changes_no_exit_code() {
    for (words, code) in [
        (&["nonsense"][..], 2),
        (&["--config", "/nonexistent", "config", "show"], 1),
        (&["--socket", "/nonexistent", "status"], 1),
    ] {
        for to in [full(), no_reader()] {
            let status = ringway(words)
                .stdout(Stdio::null())
                .stderr(to)
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(code), "{words:?}");
        }
    }
}

/// The agent with that for its stderr serves, and stops in order.
fn serves(what: &str, change: impl FnOnce(&mut Command) -> &mut Command) -> u64 {
    let files = Files::new(|text| text);
    let mut agent = Agent::launch(files, UNDERLAY, "", |command| {
        // Lines enough to notice.
        command.env("RUST_LOG", "debug");
        let _ = change(command);
    });
    agent.wait_ready();
    let socket = agent.files.socket();
    // Answered by the control thread, which has much to say of each.
    for _ in 0..20 {
        let wrong = [
            "--socket",
            &socket,
            "attach",
            "--netns",
            "/proc/1/nothing",
            "--ip",
            "10.77.1.9",
        ];
        let refused = ringway(&wrong).output().unwrap();
        assert_eq!(
            refused.status.code(),
            Some(1),
            "{what}: {}",
            stderr(&refused)
        );
    }
    let status = output(&["--socket", &socket, "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let ended = agent.stop();
    assert_eq!(ended.code(), Some(0), "{what}: {ended}");
    status["log_lines_lost"].as_u64().unwrap()
}

#[test]
fn an_agent_outlives_its_log() {
    let lost = serves("a full disk", |command| command.stderr(full()));
    assert!(lost > 0, "a full disk: nothing was lost");
    let lost = serves("a pipe without a reader", |command| {
        command.stderr(no_reader())
    });
    assert!(lost > 0, "a pipe without a reader: nothing was lost");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    fill(&mut writer);
    let to = writer.try_clone().unwrap();
    serves("a pipe that nobody reads", |command| command.stderr(to));
    drop(writer);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(text.iter().all(|byte| *byte == b'.'), "the pipe was full");
    // The shell closes them: Rust's runtime opens /dev/null in their places.
    assert_eq!(serves("closed descriptors", close), 0);
}

fn close(command: &mut Command) -> &mut Command {
    let script = command.get_args().last().unwrap().to_string_lossy();
    let script = script.replace("exec ", "exec 1>&- 2>&- ");
    *command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", &script])
}

/// Fills a pipe to the last byte.
fn fill(writer: &mut std::io::PipeWriter) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let set =
        |writer: &std::io::PipeWriter, flags| fcntl(writer, FcntlArg::F_SETFL(flags)).unwrap();
    set(writer, OFlag::O_NONBLOCK);
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    set(writer, OFlag::empty());
    std::thread::sleep(Duration::from_millis(1));
}
