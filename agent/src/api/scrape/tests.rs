//! Who asks on TCP gets the metrics and nothing else, and cannot make more of them than one a second.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_channel::unbounded;

use super::*;
use crate::api::tls::Tls;
use crate::metrics::tests::view;

/// Metrics on loopback; how often the control plane was asked.
fn served(identity: Option<(PathBuf, PathBuf)>) -> (SocketAddr, Arc<AtomicU64>) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let (requests, inbox) = unbounded();
    let asked = Arc::<AtomicU64>::default();
    let counted = asked.clone();
    std::thread::spawn(move || {
        for request in inbox {
            if let Request::View(reply) = request {
                counted.fetch_add(1, Relaxed);
                reply(view(1, 1, 1));
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = "[node]\npod_cidrs = [\"10.77.1.0/24\"]\n[underlay]\n[metrics]\n";
    let text = format!("{text}listen = \"{at}\"\n");
    let config = ringway_config::Config::parse("x".as_ref(), &text).unwrap();
    let config = Metrics {
        identity,
        ..config.metrics
    };
    let scrapes = Scrapes::new(requests, Arc::default(), 64);
    std::thread::spawn(move || runtime.block_on(serve(scrapes, config, None)));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while Client::connect(at).is_err() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(2));
    }
    (at, asked)
}

fn ask(at: SocketAddr, request: &[u8]) -> String {
    let mut client = Client::connect(at).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let _ = client.write_all(request);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn only_the_metrics_and_only_to_be_read() {
    let (at, asked) = served(None);
    for (request, status) in [
        ("GET /metrics", "200"),
        ("HEAD /metrics", "200"),
        ("POST /metrics", "405"),
        ("DELETE /metrics", "405"),
        ("GET /v1/status", "404"),
        ("POST /v1/attach", "404"),
        ("GET /", "404"),
    ] {
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = ask(at, request.as_bytes());
        assert_eq!(answer.get(9..12), Some(status), "{request}: {answer}");
    }
    let answer = ask(at, GET).to_lowercase();
    assert!(answer.contains(&format!("content-type: {}\r\n", metrics::CONTENT_TYPE)));
    assert!(answer.contains("\nringway_pods 1\n") && answer.ends_with("# eof\n"));
    // However many ask.
    (0..20).for_each(|_| drop(ask(at, GET)));
    let asked = asked.load(Relaxed);
    assert!((1..=3).contains(&asked), "{asked}");
}

#[test]
fn what_is_not_http_does_no_harm() {
    let (at, _) = served(None);
    for bytes in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"GET",
        &[0xff; 100_000],
        b"GET /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    ] {
        ask_and_leave(at, bytes);
    }
    // As many as there are places say nothing.
    let idle: Vec<_> = (0..CONCURRENT - 1).map(|_| Client::connect(at)).collect();
    assert!(ask(at, GET).contains("# EOF"));
    drop(idle);
}

fn ask_and_leave(at: SocketAddr, bytes: &[u8]) {
    let mut client = Client::connect(at).unwrap();
    let _ = client.write_all(bytes);
}

#[test]
fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
    std::fs::write(&cert, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let (at, _) = served(Some((cert.clone(), key.clone())));
    assert!(!ask(at, GET).contains("# EOF"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, Client::connect(at).unwrap());
    stream.write_all(GET).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("ringway_pods 1"), "{answer}");

    // One that is wrong is named.
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&key, other.serialize_pem()).unwrap();
    let files = |cert| Files {
        section: "metrics",
        cert,
        key: key.clone(),
        ca: None,
    };
    let refused = Tls::read(files(cert)).err().unwrap();
    assert!(
        format!("{refused:#}").contains("metrics.key_file"),
        "{refused:#}"
    );
    let refused = Tls::read(files("/nonexistent".into())).err().unwrap();
    assert!(format!("{refused:#}").contains("metrics.cert_file /nonexistent"));
}
