//! A real browser, Debian's Chromium without a window, driven over two pipes (`--remote-debugging-pipe`): each
//! message is JSON of the DevTools protocol with a zero byte behind it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::common::LIMIT;

/// Where `scripts/unpack.sh --whole chromium-headless-shell` has put it.
pub(super) fn unpacked() -> Option<PathBuf> {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(own.ancestors().nth(3)?.join("debs"))
    };
    let folder = match std::env::var_os("RINGWAY_DEBS") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => beside()?,
    };
    let folder = folder.join("chromium-headless-shell");
    folder.join(PROGRAM).is_file().then_some(folder)
}

const PROGRAM: &str = "usr/lib/chromium/chromium-headless-shell";
const LIBRARIES: [&str; 2] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/pulseaudio",
];

/// A browser with one page.
pub(super) struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Value,
    number: u64,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts it.
    pub(super) fn start(unpacked: &Path) -> Browser {
        let folder = tempfile::tempdir().unwrap();
        let [to, from] = ["to", "from"].map(|name| {
            let path = folder.path().join(name);
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
            path
        });
        let libraries = LIBRARIES.map(|path| unpacked.join(path).display().to_string());
        let mut command = Command::new("sh");
        // Its own sandbox wants a user that is not root; it sees our own page only.
        command
            .args(["-c", r#"exec "$0" "$@" 3<"$TO" 4>"$FROM""#])
            .arg(unpacked.join(PROGRAM))
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--remote-debugging-pipe",
                "--window-size=1280,1400",
                "--hide-scrollbars",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("data").display()
            ))
            .arg("about:blank")
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .env("TO", &to)
            .env("FROM", &from)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("stderr")).unwrap());
        let child = command.spawn().unwrap();
        // Each end waits for the other: in the order of the shell.
        let to = OpenOptions::new().write(true).open(&to).unwrap();
        let from = BufReader::new(File::open(&from).unwrap());
        let mut browser = Browser {
            child,
            to,
            from,
            session: Value::Null,
            number: 0,
            _folder: folder,
        };
        let made = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = made["targetId"].clone();
        let attached = json!({ "targetId": target, "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attached)["sessionId"].clone();
        browser.call("Page.enable", json!({}));
        browser
    }

    /// Calls a method, and gives its result.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).unwrap();
            assert_eq!(answer.pop(), Some(0), "the browser has ended");
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    #[track_caller]
    pub(super) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let wanted =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", wanted);
        assert!(
            result.get("exceptionDetails").is_none(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(super) fn wait_for(&mut self, expression: &str) {
        let end = Instant::now() + LIMIT;
        // While a page loads there is nothing in it.
        let tried =
            format!("(() => {{ try {{ return {expression} }} catch {{ return false }} }})()");
        while self.value(&tried) != true {
            if Instant::now() > end {
                let text = self.value("document.body.innerText");
                panic!(
                    "{expression} is not so; the page: {}",
                    text.as_str().unwrap_or_default()
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// What the page looks like, as PNG in base64.
    pub(super) fn screenshot(&mut self) -> String {
        let wanted = json!({ "format": "png" });
        let picture = self.call("Page.captureScreenshot", wanted);
        picture["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
