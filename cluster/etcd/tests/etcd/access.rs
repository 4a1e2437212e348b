//! Passwords and certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use ringway_cluster::source::State;
use ringway_etcd::Settings;
use serde_json::json;

use super::eventually;
use super::node::{Node, settings};
use super::server::{Etcd, free_address};

const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

#[test]
fn with_users_the_password_is_shown_again_whenever_that_is_needed() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    etcd.put("config", VXLAN);
    // A user that may do no more than Flannel's documentation says.
    for (path, request) in [
        ("user/add", json!({"name": "root", "password": "root"})),
        ("user/grant", json!({"user": "root", "role": "root"})),
        ("user/add", json!({"name": "flannel", "password": "right"})),
        ("role/add", json!({"name": "flannel"})),
        ("role/add", json!({"name": "other"})),
        (
            "role/grant",
            // base64 of /coreos.com/network/ and of the key behind the last of it.
            json!({"name": "flannel", "perm": {"permType": "READWRITE",
                "key": "L2NvcmVvcy5jb20vbmV0d29yay8=", "range_end": "L2NvcmVvcy5jb20vbmV0d29yazA="}}),
        ),
        ("user/grant", json!({"user": "flannel", "role": "flannel"})),
        ("enable", json!({})),
    ] {
        etcd.call(&format!("/v3/auth/{path}"), &request);
    }
    etcd.log_in("root", "root");

    let nobody = Node::start(&etcd, "10.77.0.9");
    nobody.wait_for_error("the server wants a user: etcd.username");

    let file = etcd.folder().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let login = Some(("flannel".to_owned(), file.clone()));
    let node = Node::with(&etcd, &["10.77.0.1"], |settings| settings.login = login);
    node.wait_for_error("invalid user ID or password (see etcd.username and the password file)");
    assert_eq!(node.status().state, State::Waiting);
    // It is read anew each time.
    std::fs::write(&file, "right\n").unwrap();
    node.wait_for_subnet();
    node.wait_for_state(State::Current);

    // Its tokens end when something of the user changes; the connection and the watch go on.
    etcd.call(
        "/v3/auth/user/grant",
        &json!({"user": "flannel", "role": "other"}),
    );
    etcd.log_in("root", "root");
    node.set_addresses(&["10.77.0.8"]);
    eventually("it has written again", || {
        etcd.subnet_of("10.77.0.8").is_some()
    });

    // A right that is taken away is named, and what was there stays.
    etcd.call(
        "/v3/auth/user/revoke",
        &json!({"name": "flannel", "role": "flannel"}),
    );
    etcd.log_in("root", "root");
    node.set_addresses(&["10.77.0.7"]);
    node.wait_for_error("the user needs readwrite on the prefix");
    assert_eq!(node.status().state, State::Stale);
    assert_eq!(node.cidrs().len(), 1);
}

#[test]
fn the_net_conf_is_asked_for_once_at_one_server_after_the_other() {
    let Some(etcd) = Etcd::start() else {
        return;
    };
    let mut settings = settings(&etcd, etcd.folder().join("none"));
    let ask = |settings: &Settings| ringway_etcd::net_conf(settings, Duration::from_secs(20));
    assert_eq!(ask(&settings), Ok(None));
    etcd.put("config", VXLAN);
    let nobody = format!("http://{}", free_address());
    settings.endpoints.insert(0, nobody);
    assert_eq!(ask(&settings), Ok(Some(VXLAN.to_owned())));
    settings.endpoints.truncate(1);
    ask(&settings).unwrap_err();
}

/// An authority, a server's and a client's certificate, as files.
struct Files(PathBuf);

impl Files {
    fn make(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self(folder.join(name));
        std::fs::create_dir(&files.0).unwrap();
        std::fs::write(files.path("ca.crt"), ca.pem()).unwrap();
        for name in ["server", "client"] {
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let params = CertificateParams::new(names).unwrap();
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            std::fs::write(files.path(&format!("{name}.crt")), certificate.pem()).unwrap();
            std::fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn enter(&self, settings: &mut Settings, with_client: bool) {
        settings.ca = Some(self.path("ca.crt"));
        settings.identity = with_client.then(|| (self.path("client.crt"), self.path("client.key")));
    }
}

#[test]
fn with_tls_both_show_a_certificate_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (
        Files::make(folder.path(), "ours"),
        Files::make(folder.path(), "others"),
    );
    let secure = format!("https://{}", free_address());
    let Some(etcd) = Etcd::with(
        &[
            "--cert-file",
            &ours.text("server.crt"),
            "--key-file",
            &ours.text("server.key"),
            "--trusted-ca-file",
            &ours.text("ca.crt"),
            "--client-cert-auth",
        ],
        Some(&secure),
    ) else {
        return;
    };
    etcd.put("config", VXLAN);
    let start = |ip: &str, change: &dyn Fn(&mut Settings)| {
        Node::with(&etcd, &[ip], |settings| {
            settings.endpoints = vec![secure.clone()];
            change(settings);
        })
    };
    let node = start("10.77.0.1", &|settings| ours.enter(settings, true));
    node.wait_for_subnet();
    assert!(etcd.subnet_of("10.77.0.1").is_some());

    let strange = start("10.77.0.2", &|settings| others.enter(settings, true));
    strange.wait_for_error("certificate");
    let nameless = start("10.77.0.3", &|settings| ours.enter(settings, false));
    eventually("it is refused", || nameless.status().error.is_some());
    let unreadable = start("10.77.0.4", &|settings| {
        settings.ca = Some("/nonexistent/ca.crt".into())
    });
    unreadable.wait_for_error("cannot read /nonexistent/ca.crt");
    for node in [strange, nameless, unreadable] {
        assert_eq!(
            (node.status().state, node.cidrs().len()),
            (State::Waiting, 0)
        );
    }

    // A certificate without a scheme means https.
    let bare = secure.trim_start_matches("https://").to_owned();
    let node = start("10.77.0.5", &|settings| {
        ours.enter(settings, true);
        settings.endpoints = vec![bare.clone()];
    });
    node.wait_for_subnet();
}
