//! The plugin as a program, and a small agent behind its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the agent was asked: method and path, body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    asked: Asked,
}

impl Node {
    /// With an agent that gives every request this answer; with none at all for an empty one.
    pub(crate) fn new(answer: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Asked::default();
        if !answer.is_empty() {
            let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
            let (answer, asked) = (answer.to_owned(), asked.clone());
            // Ends with the test's process.
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut text = Vec::new();
                    let mut buffer = [0; 4096];
                    let whole = |text: &[u8]| {
                        let text = String::from_utf8_lossy(text);
                        let (head, body) = text.split_once("\r\n\r\n")?;
                        let length = head.split("Content-Length: ").nth(1)?.lines().next()?;
                        (body.len() >= length.parse::<usize>().ok()?).then(|| {
                            let line = head.lines().next().unwrap_or_default();
                            let line = line.trim_end_matches(" HTTP/1.1").to_owned();
                            (line, serde_json::from_str(body).unwrap_or(Value::Null))
                        })
                    };
                    let request = loop {
                        let len = stream.read(&mut buffer).unwrap();
                        text.extend_from_slice(&buffer[..len]);
                        if let Some(request) = whole(&text) {
                            break request;
                        }
                        assert!(len > 0, "a request that is not whole: {text:?}");
                    };
                    asked.lock().unwrap().push(request);
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
        Self { dir, asked }
    }

    /// That answers this JSON.
    pub(crate) fn answering(status: u16, body: &Value) -> Self {
        let body = body.to_string();
        Self::new(&format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub(crate) fn conf(&self, version: &str) -> Value {
        json!({
            "cniVersion": version, "name": "ringway", "type": "ringway-cni",
            "socket": self.dir.path().join("sock"), "pendingDir": self.dir.path().join("pending"),
        })
    }

    pub(crate) fn pending(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("pending")) else {
            return Vec::new();
        };
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

/// Calls the plugin; what it printed, and whether it succeeded.
pub(crate) fn call(verb: &str, stdin: &[u8], more: &[(&str, &str)]) -> (Value, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-cni"));
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", "/run/netns/a")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (key, value) in more {
        command.env(key, value);
    }
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = match text.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}")),
    };
    (value, output.status.success())
}

#[track_caller]
pub(crate) fn refused(answer: (Value, bool), code: u64, words: &str) {
    let (value, good) = answer;
    assert!(!good, "{value}");
    assert_eq!(value["code"], code, "{value}");
    assert!(value["cniVersion"].is_string(), "{value}");
    let text = format!("{} {}", value["msg"], value["details"]);
    assert!(text.contains(words), "{words:?} is not in {value}");
}

/// What an agent answers to an ADD.
pub(crate) fn added() -> Value {
    json!({
        "mac": "0a:58:0a:4d:01:02", "mtu": 1450,
        "ips": [{"address": "10.77.1.2/24", "gateway": "10.77.1.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.1.1"}],
    })
}

/// As it stands on stdin.
pub(crate) fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
