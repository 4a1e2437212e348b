//! An etcd on loopback, and its JSON interface to see and write what others would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually;

/// Where Flannel's keys are.
pub(crate) const PREFIX: &str = "/coreos.com/network";

/// A server with one member.
pub(crate) struct Etcd {
    program: PathBuf,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// Plain HTTP.
    pub(crate) address: SocketAddr,
    token: Option<String>,
}

/// A key as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) lease: i64,
    pub(crate) modified: i64,
}

/// Of `RINGWAY_DEBS`, of what tests of Kubernetes have, or what `scripts/unpack.sh` has left beside the build.
fn program() -> Option<PathBuf> {
    let from = |name: &str, file: &str| Some(PathBuf::from(std::env::var_os(name)?).join(file));
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(
            own.ancestors()
                .nth(3)?
                .join("debs/etcd-server/usr/bin/etcd"),
        )
    };
    let all = [
        from("RINGWAY_DEBS", "etcd-server/usr/bin/etcd"),
        from("KUBEBUILDER_ASSETS", "etcd"),
        beside(),
    ];
    all.into_iter().flatten().find(|path| path.is_file())
}

/// A port that nobody has.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    listener.local_addr().expect("it is bound")
}

impl Etcd {
    /// Starts one, or says why not.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[], None)
    }

    /// The same with further arguments, and a second address for clients, `https://…`.
    pub(crate) fn with(arguments: &[&str], second: Option<&str>) -> Option<Self> {
        let Some(program) = program() else {
            println!("SKIPPED: etcd-server could not be had; scripts/unpack.sh etcd-server");
            return None;
        };
        let folder = tempfile::tempdir().expect("there is room");
        let (address, peers) = (free_address(), free_address());
        let mut clients = format!("http://{address}");
        if let Some(second) = second {
            clients += &format!(",{second}");
        }
        let data = folder.path().join("data").display().to_string();
        let mut all: Vec<String> = [
            ("name", "lab"),
            ("data-dir", &data),
            ("listen-client-urls", &clients),
            ("advertise-client-urls", &clients),
            ("listen-peer-urls", &format!("http://{peers}")),
            ("initial-advertise-peer-urls", &format!("http://{peers}")),
            ("initial-cluster", &format!("lab=http://{peers}")),
            // A lease is at least one and a half elections long.
            ("heartbeat-interval", "100"),
            ("election-timeout", "600"),
        ]
        .iter()
        .flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()])
        .collect();
        all.extend(arguments.iter().map(|a| (*a).to_owned()));
        let mut etcd = Self {
            program,
            arguments: all,
            folder,
            child: None,
            address,
            token: None,
        };
        etcd.launch();
        Some(etcd)
    }

    /// Starts it, after [`kill`](Self::kill) with what it had.
    pub(crate) fn launch(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("there is room");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // Debian's etcd of other architectures wants to be told.
            .env(
                "ETCD_UNSUPPORTED_ARCH",
                std::env::consts::ARCH.replace("aarch64", "arm64"),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        self.child = Some(child);
        eventually("etcd answers", || {
            let range = json!({"key": base64("x")});
            let answer = self.try_call("/v3/kv/range", &range).unwrap_or_default();
            // With users it wants one.
            !answer["header"].is_null()
                || answer["error"]
                    .as_str()
                    .is_some_and(|e| e.contains("user name is empty"))
        });
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops or continues it: a machine that hangs.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let done = Command::new("kill").args([name, &id]).status();
        assert!(done.is_ok_and(|s| s.success()), "kill {name} {id}");
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// As root of its users.
    pub(crate) fn log_in(&mut self, name: &str, password: &str) {
        self.token = None;
        let answer = self.call(
            "/v3/auth/authenticate",
            &json!({"name": name, "password": password}),
        );
        self.token = answer["token"].as_str().map(str::to_owned);
    }

    /// One request; panics if it is refused.
    pub(crate) fn call(&self, path: &str, request: &Value) -> Value {
        let answer = self.try_call(path, request).expect("etcd answers");
        assert!(answer["error"].is_null(), "{path} {request}: {answer}");
        answer
    }

    fn try_call(&self, path: &str, request: &Value) -> Option<Value> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let body = request.to_string();
        let token = self
            .token
            .as_ref()
            .map_or(String::new(), |t| format!("Authorization: {t}\r\n"));
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: etcd\r\n{token}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// Writes a key below the prefix.
    pub(crate) fn put(&self, key: &str, value: &str) -> i64 {
        self.put_leased(key, value, 0)
    }

    /// The same under a lease; the revision.
    pub(crate) fn put_leased(&self, key: &str, value: &str, lease: i64) -> i64 {
        let key = base64(&format!("{PREFIX}/{key}"));
        let request = json!({"key": key, "value": base64(value), "lease": lease.to_string()});
        number(&self.call("/v3/kv/put", &request)["header"]["revision"])
    }

    pub(crate) fn delete(&self, key: &str) {
        self.call(
            "/v3/kv/deleterange",
            &json!({"key": base64(&format!("{PREFIX}/{key}"))}),
        );
    }

    /// A lease of this many seconds.
    pub(crate) fn grant(&self, seconds: u32) -> i64 {
        number(&self.call("/v3/lease/grant", &json!({"TTL": seconds}))["ID"])
    }

    /// Seconds that a lease still has, and was given.
    pub(crate) fn time_to_live(&self, lease: i64) -> (i64, i64) {
        let answer = self.call("/v3/lease/timetolive", &json!({"ID": lease.to_string()}));
        (number(&answer["TTL"]), number(&answer["grantedTTL"]))
    }

    pub(crate) fn compact(&self, revision: i64) {
        let request = json!({"revision": revision.to_string(), "physical": true});
        self.call("/v3/kv/compaction", &request);
    }

    /// All subnets.
    pub(crate) fn subnets(&self) -> Vec<Entry> {
        let first = format!("{PREFIX}/subnets/");
        let end = format!("{PREFIX}/subnets0");
        let range = json!({"key": base64(&first), "range_end": base64(&end)});
        let answer = self.call("/v3/kv/range", &range);
        let all = answer["kvs"].as_array().cloned().unwrap_or_default();
        let entry = |kv: &Value| Entry {
            key: unbase64(&kv["key"])
                .strip_prefix(&first)
                .expect("it is below")
                .to_owned(),
            value: unbase64(&kv["value"]),
            lease: number(&kv["lease"]),
            modified: number(&kv["mod_revision"]),
        };
        all.iter().map(entry).collect()
    }

    /// The subnet whose record names this address.
    pub(crate) fn subnet_of(&self, ip: &str) -> Option<Entry> {
        let named = format!("\"PublicIP\":\"{ip}\"");
        let plain = |entry: &Entry| entry.value.replace(": ", ":").contains(&named);
        self.subnets().into_iter().find(plain)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The record that flanneld on this address writes.
pub(crate) fn flannel(ip: &str, mac: &str) -> String {
    format!(
        r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    )
}

/// 64-bit numbers are strings there, and 0 is left out.
fn number(value: &Value) -> i64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.parse().expect("a number"),
        other => other.as_i64().expect("a number"),
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 section 4.
fn base64(text: &str) -> String {
    let digits = text.as_bytes().chunks(3).flat_map(|three| {
        let bits = (0..3).fold(0u32, |bits, i| {
            bits << 8 | u32::from(*three.get(i).unwrap_or(&0))
        });
        let digit = move |i: usize| match i <= three.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]),
            false => '=',
        };
        (0..4).map(digit)
    });
    digits.collect()
}

fn unbase64(value: &Value) -> String {
    let text = value.as_str().unwrap_or("").trim_end_matches('=');
    let digit = |c: u8| DIGITS.iter().position(|d| *d == c).expect("a digit") as u32;
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let bits = (0..4).fold(0, |bits, i| {
            bits << 6 | four.get(i).map_or(0, |c| digit(*c))
        });
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    String::from_utf8(bytes).expect("text")
}

#[test]
fn the_test_s_own_base64_is_the_known_one() {
    for (text, known) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(text), known);
        assert_eq!(unbase64(&json!(known)), text);
    }
}
