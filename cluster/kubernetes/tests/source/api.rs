//! A real kube-apiserver with a real etcd on loopback, found as envtest finds them: `KUBEBUILDER_ASSETS` names the
//! folder of `kube-apiserver`, `etcd` and `kubectl`. RBAC is on, every request is audited, tokens are bound to pods.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

/// The server, until it is dropped.
pub(crate) struct Api {
    assets: PathBuf,
    pub(crate) dir: tempfile::TempDir,
    ports: [u16; 3],
    etcd: Child,
    server: Option<Child>,
    flags: Vec<String>,
}

impl Api {
    /// Starts it with more flags; `None`, and says so, where there are no binaries.
    pub(crate) fn start(flags: &[&str]) -> Option<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let Some(assets) = assets.filter(|dir| dir.join("kube-apiserver").exists()) else {
            println!(
                "SKIPPED: no kube-apiserver; KUBEBUILDER_ASSETS names the folder of kube-apiserver, etcd and kubectl"
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let ports = [free_port(), free_port(), free_port()];
        let [_, client, peer] = ports;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let etcd = Command::new(assets.join("etcd"))
            .arg(format!("--data-dir={}", dir.path().join("etcd").display()))
            .args([
                "--listen-client-urls",
                &url(client),
                "--advertise-client-urls",
                &url(client),
            ])
            .args([
                "--listen-peer-urls",
                &url(peer),
                "--initial-advertise-peer-urls",
                &url(peer),
            ])
            .args([
                "--initial-cluster",
                &format!("default={}", url(peer)),
                "--unsafe-no-fsync",
                "--log-level=error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (crt, key) = (dir.path().join("admin.crt"), dir.path().join("admin.key"));
        let admin = json!({"client-certificate": crt, "client-key": key});
        kubeconfig(dir.path(), ports[0], "admin", admin);
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut api = Self {
            assets,
            dir,
            ports,
            etcd,
            server: None,
            flags,
        };
        api.serve();
        Some(api)
    }

    pub(crate) fn serve(&mut self) {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let [port, etcd, _] = self.ports;
        let log = std::fs::File::create(at("apiserver.log")).unwrap();
        let server = Command::new(self.assets.join("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
            .arg(format!("--secure-port={port}"))
            .args([
                "--bind-address=127.0.0.1",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
            ])
            .args([
                "--enable-admission-plugins=NodeRestriction",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .args([
                format!("--tls-cert-file={}", at("server.crt")),
                format!("--tls-private-key-file={}", at("server.key")),
            ])
            .arg(format!("--client-ca-file={}", at("ca.crt")))
            .arg(format!("--service-account-key-file={}", at("server.crt")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                at("server.key")
            ))
            .args([
                format!("--cert-dir={}", at("certs")),
                format!("--audit-log-path={}", at("audit.log")),
            ])
            .arg(format!("--audit-policy-file={}", at("audit.yaml")))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        let end = Instant::now() + Duration::from_secs(120);
        while !self.kubectl(&["get", "--raw", "/readyz"], None).0 {
            assert!(
                Instant::now() < end,
                "{}",
                std::fs::read_to_string(at("apiserver.log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// It ends as one that crashes.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Another authority, other certificates and another key that signs tokens, for when it is started again.
    pub(crate) fn renew_certificates(&self) {
        certificates(self.dir.path());
    }

    /// As an administrator: whether it succeeded, and what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: Option<&Value>) -> (bool, String) {
        let mut child = Command::new(self.assets.join("kubectl"))
            .arg(format!(
                "--kubeconfig={}",
                self.dir.path().join("admin.conf").display()
            ))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if let Some(input) = input {
            stdin.write_all(input.to_string().as_bytes()).unwrap();
        }
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }

    /// Makes an object, or changes it, status included.
    pub(crate) fn apply(&self, object: &Value) {
        for more in [&[][..], &["--subresource=status"][..]] {
            if more.is_empty() || object.get("status").is_some() {
                let all = [
                    &["apply", "--server-side", "--force-conflicts", "-f", "-"],
                    more,
                ]
                .concat();
                let (done, text) = self.kubectl(&all, Some(object));
                assert!(done, "{text}");
            }
        }
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        let (done, text) = self.kubectl(&["get", kind, name, "-o", "json"], None);
        assert!(done, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// A kubeconfig with a token of the ServiceAccount, bound to a pod of that name, or to none.
    pub(crate) fn service_account(&self, pod: Option<&str>) -> PathBuf {
        let mut all = vec!["create", "token", "ringway", "-n", "ringway"];
        let bound = pod.map(|pod| {
            [
                "--bound-object-kind=Pod".to_owned(),
                format!("--bound-object-name={pod}"),
            ]
        });
        all.extend(bound.iter().flatten().map(String::as_str));
        let (done, token) = self.kubectl(&all, None);
        assert!(done, "{token}");
        let name = pod.unwrap_or("unbound");
        let file = self.dir.path().join(format!("{name}.token"));
        std::fs::write(&file, token.trim()).unwrap();
        kubeconfig(
            self.dir.path(),
            self.ports[0],
            name,
            json!({ "tokenFile": file }),
        )
    }

    /// The status that a strategic merge patch is answered with. kubectl reads before it patches, which an agent may
    /// not.
    pub(crate) fn patch(&self, who: &str, path: &str, body: &str) -> u16 {
        let file = self.dir.path().join(format!("{who}.conf"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let config = kube::config::Kubeconfig::read_from(file).unwrap();
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
                .await
                .unwrap();
            let client = kube::Client::try_from(config).unwrap();
            let request = http::Request::patch(path)
                .header("content-type", "application/strategic-merge-patch+json")
                .body(body.as_bytes().to_vec())
                .unwrap();
            match client.request::<Value>(request).await {
                Ok(_) => 200,
                Err(kube::Error::Api(status)) => status.code,
                Err(e) => panic!("{path}: {e}"),
            }
        })
    }

    /// Requests of the ServiceAccount: verb, what, and whether it was allowed.
    pub(crate) fn audit(&self) -> Vec<(String, String, bool)> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap();
        let entries = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours =
            entries.filter(|e| e["user"]["username"] == "system:serviceaccount:ringway:ringway");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        ours.map(|e| {
            let of = &e["objectRef"];
            let sub = of["subresource"]
                .as_str()
                .map(|s| format!("/{s}"))
                .unwrap_or_default();
            let allowed = e["annotations"]["authorization.k8s.io/decision"] == "allow";
            (
                text(&e["verb"]),
                format!("{}{sub}", text(&of["resource"])),
                allowed,
            )
        })
        .collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.kill();
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// An authority, the server's certificate, an administrator's, and what is audited.
fn certificates(dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let named = |name: &str, group: Option<&str>| {
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params
    };
    let mut authority = named("the tests' authority", None);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    authority.extended_key_usages = Vec::new();
    let key = KeyPair::generate().unwrap();
    write("ca.crt", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    for (file, name, group) in [
        ("server", "kube-apiserver", None),
        ("admin", "admin", Some("system:masters")),
    ] {
        let key = KeyPair::generate().unwrap();
        write(
            &format!("{file}.crt"),
            named(name, group).signed_by(&key, &issuer).unwrap().pem(),
        );
        write(&format!("{file}.key"), key.serialize_pem());
    }
    let audit = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata"}],
    });
    write("audit.yaml", audit.to_string());
}

fn kubeconfig(dir: &Path, port: u16, name: &str, user: Value) -> PathBuf {
    let file = dir.join(format!("{name}.conf"));
    let cluster = json!({"server": format!("https://127.0.0.1:{port}"), "certificate-authority": dir.join("ca.crt")});
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&file, text.to_string()).unwrap();
    file
}
