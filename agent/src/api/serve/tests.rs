use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Client;

use crossbeam_channel::unbounded;
use tokio::time::Instant;

use super::super::connection::CONNECTION_LIMIT;
use super::*;
use ringway_control::ControlError;
use ringway_control::config_file::{Said, follow};

/// The API on a socket in a directory, answered by `control`.
struct Served {
    dir: tempfile::TempDir,
    _config: tempfile::TempDir,
    handle: tokio::runtime::Handle,
}

fn served(control: impl Fn(Request) + Send + 'static) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (requests, inbox) = unbounded();
    std::thread::spawn(move || inbox.into_iter().for_each(control));
    let listener = {
        let _inside = runtime.enter();
        bind(&path).unwrap()
    };
    let handle = runtime.handle().clone();
    // Ends with the test's process.
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("ringway.toml");
    std::fs::write(&file, "").unwrap();
    let reloads = follow(file, String::new(), Said::default(), requests.clone()).unwrap();
    let (give_back, _) = mpsc::channel(1);
    let asked = Asked {
        whereabouts: None,
        others: None,
        scrapes: Scrapes::new(requests.clone(), Arc::default(), 64),
        requests,
        reloads,
        health: Arc::default(),
        give_back,
        ending: tokio::sync::watch::channel(false).1,
    };
    std::thread::spawn(move || runtime.block_on(serve(listener, asked, std::future::pending())));
    Served {
        dir,
        _config: config,
        handle,
    }
}

impl Served {
    fn connect(&self) -> Client {
        let client = Client::connect(self.dir.path().join("s")).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        client
    }

    /// Sends bytes, ends the sending side, returns all that comes back.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut client = self.connect();
        // The server may have answered and closed before all was sent.
        let _ = client.write_all(bytes);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        self.raw(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    }
}

fn status_of(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

/// Answers attaches with a conflict, and nothing else.
fn refusing(request: Request) {
    if let Request::Attach(attach, reply) = request {
        let what = format!("{} is taken", attach.name);
        reply(Err(ControlError::Broken(what)));
    }
}

const ATTACH: &str = r#"{"netns":"blue","ifname":"eth0","ips":["10.77.1.2"]}"#;

#[test]
fn errors_have_a_code_a_reason_and_a_remedy() {
    let api = served(refusing);
    for (method, path, body, status, words) in [
        ("POST", "/v1/attach", ATTACH, "409", "blue/eth0 is taken"),
        ("POST", "/v1/attach", "{", "400", "not understood"),
        ("POST", "/v1/detach", "{}", "400", "name"),
        ("GET", "/v1/nothing", "", "404", "no such resource"),
        ("GET", "/v1/attach", "", "405", "method"),
        ("DELETE", "/v1/pods", "", "405", "method"),
        ("GET", "/v1/drops?all=maybe", "", "400", "all"),
        ("GET", "/v1/drops?every=true", "", "400", "every"),
        ("GET", "/v1/drops/last?reason=no_rout", "", "404", "no_rout"),
        (
            "GET",
            "/v1/drops/last?reason=%ff%00",
            "",
            "404",
            "drop reason",
        ),
        ("GET", "/v1/drops/last?why=no_route", "", "400", "why"),
        // The control thread dropped the question.
        ("GET", "/v1/status", "", "503", "stopping"),
    ] {
        let answer = api.ask(method, path, body);
        assert_eq!(status_of(&answer), status, "{method} {path}: {answer}");
        let json = answer.split("\r\n\r\n").nth(1).unwrap();
        let error: ApiError = serde_json::from_str(json).expect(json);
        assert!(error.error.contains(words), "{error:?}");
        assert!(!error.remedy.is_empty());
    }
}

#[test]
fn a_large_body_is_refused() {
    let api = served(refusing);
    let body = format!("{{\"netns\":\"{}\"}}", "x".repeat(BODY_MAX));
    let answer = api.ask("POST", "/v1/attach", &body);
    assert_eq!(status_of(&answer), "413", "{answer}");
    // One that only claims to be, and one that does not say.
    let head = "POST /v1/attach HTTP/1.1\r\nHost: x\r\n";
    let claim = api.raw(format!("{head}Content-Length: 99999999999\r\n\r\n").as_bytes());
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(5);
    let chunked = api.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes());
    for answer in [answer, claim, chunked] {
        assert_eq!(status_of(&answer), "413", "{answer}");
        assert!(answer.contains("\"remedy\""), "{answer}");
    }
}

#[test]
fn a_gc_may_name_every_container_of_a_node() {
    let api = served(|request| {
        if let Request::CniGc(gc, reply) = request {
            let released = gc.keep.last().cloned().into_iter().collect();
            reply(cni::Collected { released });
        }
    });
    let one = |i: usize| format!("{{\"containerId\":\"{i:064x}\",\"ifname\":\"eth0\"}}");
    let keep: Vec<String> = (0..20_000).map(one).collect();
    let body = format!("{{\"network\":\"n\",\"keep\":[{}]}}", keep.join(","));
    assert!(body.len() > 1_800_000);
    let answer = api.ask("POST", "/v1/cni/gc", &body);
    assert_eq!(status_of(&answer), "200", "{answer}");
    assert!(answer.contains(&format!("{:064x}", 19_999)), "{answer}");
    let head = "POST /v1/cni/gc HTTP/1.1\r\nHost: x\r\n";
    let claim = format!("{head}Content-Length: {}\r\n\r\n", GC_MAX + 1);
    assert_eq!(status_of(&api.raw(claim.as_bytes())), "413");
}

#[test]
fn what_is_not_http_does_no_harm() {
    let api = served(refusing);
    for garbage in [
        &b"\0\xff\xfe"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[b'A'; 100_000],
    ] {
        let answer = api.raw(garbage);
        assert!(
            answer.is_empty() || status_of(&answer).starts_with('4'),
            "{answer}"
        );
    }
    assert_eq!(status_of(&api.ask("POST", "/v1/attach", ATTACH)), "409");
}

#[test]
fn idle_connections_wait_their_turn_and_do_not_stay() {
    let api = served(refusing);
    let started = Instant::now();
    let idle: Vec<Client> = (0..CONCURRENT).map(|_| api.connect()).collect();
    // All places are taken by clients that say nothing: the next is served when
    // their time is over.
    let answer = api.ask("POST", "/v1/attach", ATTACH);
    assert_eq!(status_of(&answer), "409");
    let waited = started.elapsed();
    assert!(
        waited >= CONNECTION_LIMIT - Duration::from_secs(1),
        "{waited:?}"
    );
    assert!(
        waited < CONNECTION_LIMIT + Duration::from_secs(5),
        "{waited:?}"
    );
    drop(idle);
}

#[test]
fn only_the_owner_may_connect_and_a_live_socket_is_not_taken() {
    let api = served(refusing);
    let path = api.dir.path().join("s");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let _inside = api.handle.enter();
    let refused = bind(&path).err().unwrap().to_string();
    assert!(refused.contains("another agent"), "{refused}");
    let file = api.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let refused = bind(&file).err().unwrap().to_string();
    assert!(refused.contains("not a socket"), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    // One that an agent left behind when it was killed is replaced.
    let stale = api.dir.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    bind(&stale).unwrap();
}

#[test]
fn a_socket_that_is_taken_away_is_made_again() {
    let served = served(refusing);
    let path = served.dir.path().join("s");
    let answers = |served: &Served| status_of(&served.ask("POST", "/v1/attach", ATTACH)) == "409";
    for whole_folder in [false, true] {
        assert!(answers(&served));
        std::fs::remove_file(&path).unwrap();
        if whole_folder {
            std::fs::remove_dir(served.dir.path()).unwrap();
        }
        let end = std::time::Instant::now() + Duration::from_secs(3);
        while !path.exists() {
            assert!(std::time::Instant::now() < end, "it is not made again");
            std::thread::sleep(Duration::from_millis(20));
        }
        // The mode is set after the socket is there.
        std::thread::sleep(Duration::from_millis(50));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(answers(&served));
}
