//! What the agent logs: its forms, and its level changed while it runs.

mod common;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Agent, Files, LIMIT, UNDERLAY, output, ringway, stderr};

/// An agent that writes its log to a file, with that in its configuration.
fn logging(section: &str, change: impl FnOnce(&mut Command)) -> Agent {
    let files = Files::new(|text| format!("{text}\n[log]\n{section}\n"));
    let log = std::fs::File::create(files.path("log")).unwrap();
    let mut agent = Agent::launch(files, UNDERLAY, "", |command| {
        command.stderr(log);
        change(command);
    });
    agent.wait_ready();
    agent
}

fn lines(agent: &Agent) -> Vec<String> {
    let text = std::fs::read_to_string(agent.files.path("log")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a line has these words.
#[track_caller]
fn wait_for(agent: &Agent, words: &str) {
    let end = Instant::now() + LIMIT;
    while !lines(agent).iter().any(|line| line.contains(words)) {
        assert!(Instant::now() < end, "no {words:?} in {:#?}", lines(agent));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn log(agent: &Agent, arguments: &[&str]) -> String {
    let socket = agent.files.socket();
    output(&[&["--socket", &socket, "log"], arguments].concat())
}

#[test]
fn json_is_an_object_a_line_from_the_first_to_the_last() {
    let agent = logging("format = \"json\"", |_| {});
    wait_for(&agent, "\"ready\"");
    let path = agent.files.path("log");
    let keep = std::fs::File::open(&path).unwrap();
    assert!(log(&agent, &[]).contains("format  json"));
    assert_eq!(agent.stop().code(), Some(0));
    let text = std::io::read_to_string(keep).unwrap();
    let mut messages = Vec::new();
    for line in text.lines() {
        let object: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{line}");
        messages.push(object["message"].as_str().unwrap().to_owned());
        if messages.last().unwrap() == "ready" {
            assert_eq!(object["node"], "node1", "{line}");
            assert_eq!(object["level"], "info", "{line}");
        }
    }
    assert!(messages.iter().any(|message| message == "ready"), "{text}");
    assert!(
        messages.iter().any(|message| message.contains("SIGTERM")),
        "{text}"
    );
}

#[test]
fn the_level_changes_while_the_agent_runs_and_goes_back_by_itself() {
    let agent = logging("level = \"warn\"", |_| {});
    let info = lines(&agent).iter().any(|line| line.contains(" INFO "));
    assert!(!info, "{:#?}", lines(&agent));
    assert_eq!(log(&agent, &[]), "level   warn\nformat  text\n");
    let answer = log(&agent, &["info", "--for", "1s"]);
    assert!(
        answer.starts_with("level   info, warn again in "),
        "{answer}"
    );
    wait_for(
        &agent,
        "what is logged was changed for a time level=info seconds=1",
    );
    let end = Instant::now() + LIMIT;
    while log(&agent, &[]) != "level   warn\nformat  text\n" {
        assert!(Instant::now() < end, "{}", log(&agent, &[]));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Until somebody says otherwise; a change of the file waits for that.
    log(&agent, &["debug"]);
    let config = agent.files.path("ringway.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("level = \"warn\"", "level = \"error\""),
    )
    .unwrap();
    wait_for(&agent, "log.level is \"error\", was \"warn\"");
    assert_eq!(
        log(&agent, &[]),
        "level   debug; usual: error\nformat  text\n"
    );
    assert_eq!(log(&agent, &["usual"]), "level   error\nformat  text\n");

    let socket = agent.files.socket();
    let refused = ringway(&["--socket", &socket, "log", "loud"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("\"loud\" is no level") && said.contains("to do: "),
        "{said}"
    );
    assert_eq!(log(&agent, &[]), "level   error\nformat  text\n");
}

/// Has the agent start behind these commands in a mount namespace of its own, with that for its stderr.
fn in_mounts(command: &mut Command, commands: &str, stderr: &Path) {
    let script = command.get_args().last().unwrap().to_string_lossy();
    let script = format!("{commands} && {script}");
    *command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--", "sh", "-c", &script])
        .env_remove("RUST_LOG")
        .stderr(std::fs::File::create(stderr).unwrap());
}

/// Stands for journald, in the folder that the agent sees as `/run/systemd`.
fn journal(folder: &Path) -> UnixDatagram {
    let path = folder.join("journal/socket");
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(LIMIT)).unwrap();
    journal
}

/// The next record with these words in its message.
#[track_caller]
fn entry(journal: &UnixDatagram, words: &str) -> BTreeMap<String, String> {
    let mut bytes = vec![0; 256 * 1024];
    loop {
        let len = journal
            .recv(&mut bytes)
            .unwrap_or_else(|e| panic!("no {words:?}: {e}"));
        // None of what is asked for here has line ends.
        let text = String::from_utf8_lossy(&bytes[..len]);
        let fields = text.lines().filter_map(|line| line.split_once('='));
        let fields: BTreeMap<_, _> = fields.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        if fields
            .get("MESSAGE")
            .is_some_and(|message| message.contains(words))
        {
            return fields;
        }
    }
}

#[test]
fn journald_gets_fields_and_may_be_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = journal(folder.path());
    let mount = folder.path().display().to_string();
    let agent = logging("format = \"journald\"", |command| {
        let mounts = format!(
            "mount -t tmpfs none /run && mkdir /run/systemd && mount --bind {mount} /run/systemd"
        );
        in_mounts(command, &mounts, &folder.path().join("stderr"));
    });
    let ready = entry(&first, "ready");
    assert_eq!(ready["PRIORITY"], "6");
    assert_eq!(ready["SYSLOG_IDENTIFIER"], "ringway");
    assert_eq!(ready["RINGWAY_NODE"], "node1");
    assert!(
        ready["MESSAGE"].starts_with("ready node=node1 socket="),
        "{ready:?}"
    );
    drop(first);
    let second = journal(folder.path());
    log(&agent, &["debug"]);
    let changed = entry(&second, "what is logged was changed");
    assert_eq!(changed["RINGWAY_LEVEL"], "debug");
    assert_eq!(agent.stop().code(), Some(0));
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert_eq!(said, "", "the journal has it all");
}

#[test]
fn without_journald_the_log_goes_to_stderr_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stderr");
    let agent = logging("format = \"journald\"", |command| {
        in_mounts(command, "mount -t tmpfs none /run", &path);
    });
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("there is no journald at /run/systemd/journal/socket"),
        "{text}"
    );
    assert!(text.contains("ready node=node1"), "{text}");
    assert!(agent.stop().success());
}
