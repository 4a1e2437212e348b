//! Two agents that ask each other, and others who may not.

use std::path::{Path, PathBuf};

use crossbeam_channel::unbounded;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ringway_config::{Config, Decider};
use ringway_control::Request;

use super::*;
use crate::trace::testing::basis_of;

/// Who signs.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    name: &'static str,
}

impl Authority {
    fn new(name: &'static str) -> Authority {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = parameters.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca"), own.pem()).unwrap();
        let issuer = Issuer::new(parameters, key);
        Authority {
            folder,
            issuer,
            name,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Certificate and key of a node, which takes `ca` for who signs for others.
    fn section(&self, node: &str, at: SocketAddr, ca: &Path) -> Agents {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![node.to_owned()]).unwrap();
        let made = parameters.signed_by(&key, &self.issuer).unwrap();
        let [cert, own] = ["cert", "key"].map(|what| self.path(&format!("{node}.{what}")));
        std::fs::write(&cert, made.pem()).unwrap();
        std::fs::write(&own, key.serialize_pem()).unwrap();
        section(self.name, at, [&cert, &own, ca])
    }
}

/// `[agents]` with these files: certificate, key, authority.
fn section(name: &str, at: SocketAddr, [cert, key, ca]: [&Path; 3]) -> Agents {
    let text = format!(
        "[node]\npod_cidrs = [\"10.77.1.0/24\"]\n[underlay]\n[agents]\nlisten = \"{at}\"\ncert_file = {cert:?}\n\
         key_file = {key:?}\nca_file = {ca:?}\n"
    );
    let config = Config::parse(name.as_ref(), &text).unwrap();
    config.agents.unwrap()
}

fn free() -> SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

/// An agent of node1, of which node2 is a peer.
fn served(authority: &Authority) -> SocketAddr {
    let at = free();
    serve_at(at, authority.section("node1", at, &authority.path("ca")))
}

fn serve_at(at: SocketAddr, agents: Agents) -> SocketAddr {
    let (requests, inbox) = unbounded();
    std::thread::spawn(move || {
        for request in inbox {
            if let Request::TraceBasis(reply) = request {
                reply(basis_of(1, Decider::File));
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::spawn(move || runtime.block_on(serve(requests, Some(agents), None)));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(at).is_err() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(2));
    }
    at
}

/// What an agent of that name, with those files, gets to hear.
async fn asked(node: &str, agents: &Agents, at: SocketAddr) -> Across {
    let others = Others::new(node, Some(agents)).unwrap();
    let half = Half {
        peer: "node1".into(),
        address: at.ip(),
        frame: "00".repeat(60),
    };
    others.ask(&half).await
}

#[tokio::test]
async fn an_agent_hears_of_its_own_frames_and_nobody_else_hears_anything() {
    let authority = Authority::new("ours");
    let at = served(&authority);
    let ca = authority.path("ca");
    let node2 = authority.section("node2", at, &ca);
    let across = asked("node2", &node2, at).await;
    assert_eq!(
        (across.error.as_deref(), across.node.as_str()),
        (None, "node1")
    );
    let verdict = &across.traces[0].verdict;
    assert_eq!(verdict.verdict, "dropped", "{verdict:?}");

    // Another node's certificate, of the same authority.
    let node3 = authority.section("node3", at, &ca);
    let error = asked("node2", &node3, at).await.error.unwrap();
    assert!(error.contains("the certificate is not node2's"), "{error}");
    assert!(
        error.starts_with(&format!("asking node1 at {at}: ")),
        "{error}"
    );

    // Somebody else's certificate, and an agent that is somebody else.
    let stranger = Authority::new("theirs");
    let theirs = stranger.section("node2", at, &ca);
    let across = asked("node2", &theirs, at).await;
    assert!(
        across.traces.is_empty() && across.error.is_some(),
        "{across:?}"
    );
    let distrusting = authority.section("node2", at, &stranger.path("ca"));
    let error = asked("node2", &distrusting, at).await.error.unwrap();
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );

    // Files that are not there.
    let mut missing = node2.clone();
    missing.key_file = "/nonexistent".into();
    let error = asked("node2", &missing, at).await.error.unwrap();
    assert!(error.contains("agents.key_file /nonexistent"), "{error}");

    // Nobody is there.
    let nowhere = SocketAddr::new(at.ip(), 1);
    let elsewhere = authority.section("node2", nowhere, &ca);
    let error = asked("node2", &elsewhere, nowhere).await.error.unwrap();
    assert!(error.contains("refused"), "{error}");
}

/// What deploy/agent-certificates.sh makes, named by a configuration that all nodes have.
#[tokio::test]
async fn certificates_of_the_script_do_for_every_node() {
    use std::process::Command;
    if Command::new("openssl").arg("version").output().is_err() {
        println!("SKIPPED: no openssl to make certificates with");
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/agent-certificates.sh");
    let make = |nodes: &[&str]| {
        let run = Command::new(&script).arg(made.path()).args(nodes).output();
        let run = run.unwrap();
        assert!(run.status.success(), "{run:?}");
    };
    make(&["node1"]);
    let secret = made.path().join("secret");
    let first = std::fs::read(secret.join("node1.crt")).unwrap();
    make(&["node1", "node2"]);
    assert_eq!(std::fs::read(secret.join("node1.crt")).unwrap(), first);
    let all = std::fs::read_dir(&secret).unwrap();
    let mut all: Vec<_> = all.map(|file| file.unwrap().file_name()).collect();
    all.sort();
    assert_eq!(
        all,
        ["ca.crt", "node1.crt", "node1.key", "node2.crt", "node2.key"]
    );

    let at = free();
    let files = ["{node}.crt", "{node}.key", "ca.crt"].map(|name| secret.join(name));
    let shared = section("the same", at, files.each_ref().map(PathBuf::as_path));
    serve_at(at, shared.of("node1"));
    let across = asked("node2", &shared.of("node2"), at).await;
    assert_eq!(across.error, None);
    // Where a node has none, it says which is missing.
    let error = asked("node3", &shared.of("node3"), at).await.error.unwrap();
    assert!(error.contains("/secret/node3.crt"), "{error}");
}

/// What is not a frame of the asker's is refused.
#[tokio::test]
async fn nothing_but_the_other_half_of_a_trace_is_answered() {
    let authority = Authority::new("ours");
    let at = served(&authority);
    let agents = authority.section("node2", at, &authority.path("ca"));
    let say = async |request: String| {
        let connector = files(&agents).connector().unwrap();
        let name = ServerName::try_from("node1").unwrap();
        let stream = TcpStream::connect(at).await.unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let (status, body) = http::split(&answer).unwrap();
        (status, String::from_utf8_lossy(body).into_owned())
    };
    let post = |path: &str, body: &str| {
        let len = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
        )
    };
    for (body, status) in [
        (r#"{"from":"peer:node2","frame":"00"}"#, 200),
        (r#"{"from":"peer:node3","frame":"00"}"#, 403),
        (r#"{"from":"peer:node2","to":"10.77.1.2"}"#, 403),
        (r#"{"from":"default/web","to":"10.77.1.2"}"#, 403),
        (r#"{"from":"node","frame":"00"}"#, 403),
        (r#"{"from":"underlay","frame":"00"}"#, 403),
        (r#"{"live":{}}"#, 403),
        (r#"{"from":"peer:node2","frame":"0"}"#, 400),
        ("{", 400),
    ] {
        let (is, text) = say(post("/v1/trace", body)).await;
        assert_eq!(is, status, "{body}: {text}");
    }
    for path in ["/v1/status", "/v1/capture", "/metrics", "/"] {
        let (is, _) = say(post(path, "{}")).await;
        assert_eq!(is, 404, "{path}");
    }
    let get = "GET /v1/trace HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(say(get.into()).await.0, 405);

    // Without TLS, or without a certificate, there is no answer at all.
    let mut plain = TcpStream::connect(at).await.unwrap();
    plain.write_all(get.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(authority.path("ca")).unwrap();
    use rustls::pki_types::pem::PemObject;
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let nameless = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(nameless));
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("node1").unwrap();
    // TLS 1.3: the client hears of it when it reads.
    if let Ok(mut stream) = connector.connect(name, stream).await {
        let _ = stream.write_all(post("/v1/trace", "{}").as_bytes()).await;
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).await.is_err() || answer.is_empty());
    }
}

#[test]
fn a_certificate_is_of_the_nodes_that_it_names() {
    let names = vec!["node1".to_owned(), "node-2.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = made.cert.der();
    assert!(is_of(certificate, "node1") && is_of(certificate, "node-2.example"));
    for other in [
        "node2",
        "node",
        "node1.example",
        "NODE 1",
        "",
        "*",
        "10.0.0.1",
    ] {
        assert!(!is_of(certificate, other), "{other}");
    }
    assert!(!is_of(&CertificateDer::from(vec![1, 2, 3]), "node1"));
}
