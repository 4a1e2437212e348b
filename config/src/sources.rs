//! `[kubernetes]` and `[etcd]`: where the node learns its cluster from, beside this file.
//!
//! One of the two may be given. It decides what the node is then: pod networks and VTEP MACs are its to say, and the
//! file must not say them. Peers may stand in the file all the same.

use std::path::PathBuf;

use super::validate::{Located, absolute, check_name};
use super::{Config, Problem, raw};

/// The variable that holds the node's name in a pod, by the downward API (`spec.nodeName`).
pub const NODE_NAME: &str = "NODE_NAME";
/// Where Flannel keeps its keys.
pub(super) const ETCD_PREFIX: &str = "/coreos.com/network";
/// Where etcd listens on a machine of its own.
pub(super) const ETCD_ENDPOINT: &str = "http://127.0.0.1:2379";

/// `[kubernetes]`: the API server says what the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Name of the Node object.
    pub node: String,
    /// A kubeconfig; none: the token and the address that a pod has.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server in place of the one that follows from that.
    pub api_server: Option<String>,
}

/// `[etcd]`: Flannel's keys in etcd say what the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Addresses of the servers.
    pub endpoints: Vec<String>,
    /// Path before all keys.
    pub prefix: String,
    /// Certificate authority of the servers; none: the machine's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User, and the file with the password.
    pub user: Option<(String, PathBuf)>,
}

/// Who decides what this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The configuration file.
    File,
    /// The Node object.
    Kubernetes,
    /// The subnet that is leased in etcd.
    Etcd,
}

impl Decider {
    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "the configuration file",
            Self::Kubernetes => "Kubernetes",
            Self::Etcd => "etcd",
        }
    }
}

/// The files that the sections name, with their keys.
pub fn files(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let kubeconfig = config
        .kubernetes
        .as_ref()
        .and_then(|k| k.kubeconfig.clone());
    let mut all: Vec<_> = kubeconfig
        .map(|file| ("kubernetes.kubeconfig", file))
        .into_iter()
        .collect();
    let Some(etcd) = &config.etcd else {
        return all;
    };
    all.extend(etcd.ca_file.clone().map(|file| ("etcd.ca_file", file)));
    if let Some((cert, key)) = etcd.identity.clone() {
        all.extend([("etcd.cert_file", cert), ("etcd.key_file", key)]);
    }
    let password = etcd.user.clone().map(|(_, file)| file);
    all.extend(password.map(|file| ("etcd.password_file", file)));
    all
}

/// The name of the node where neither `node.name` nor the section says it.
pub(super) fn usual_name(raw: Option<&raw::Kubernetes>) -> Option<String> {
    let raw = raw?;
    raw.node.clone().or_else(|| std::env::var(NODE_NAME).ok())
}

pub(super) fn kubernetes(raw: raw::Kubernetes, name: &str) -> Located<Kubernetes> {
    let node = usual_name(Some(&raw)).unwrap_or_else(|| name.to_owned());
    check_name("kubernetes.node", &node)?;
    let api_server = given(raw.api_server);
    if let Some(url) = &api_server {
        check_url("kubernetes.api_server", url, "https://")?;
    }
    Ok(Kubernetes {
        node,
        kubeconfig: path("kubernetes.kubeconfig", raw.kubeconfig)?,
        api_server,
    })
}

pub(super) fn etcd(raw: raw::Etcd) -> Located<Etcd> {
    if raw.endpoints.is_empty() {
        return Err(("etcd.endpoints".into(), Problem::NoEndpoint));
    }
    for (i, url) in raw.endpoints.iter().enumerate() {
        check_url(&format!("etcd.endpoints[{i}]"), url, "http")?;
    }
    let prefix = raw.prefix.trim_end_matches('/').to_owned();
    if !prefix.starts_with('/') || prefix.contains(char::is_control) {
        let value = raw.prefix;
        return Err(("etcd.prefix".into(), Problem::NotAbsolute { value }));
    }
    let certificate = path("etcd.cert_file", raw.cert_file)?;
    let identity = both(
        ("etcd.cert_file", certificate),
        ("etcd.key_file", path("etcd.key_file", raw.key_file)?),
    )?;
    let password = path("etcd.password_file", raw.password_file)?;
    let user = both(
        ("etcd.username", given(raw.username)),
        ("etcd.password_file", password),
    )?;
    Ok(Etcd {
        ca_file: path("etcd.ca_file", raw.ca_file)?,
        endpoints: raw.endpoints,
        prefix,
        identity,
        user,
    })
}

/// What `config show` prints of a key that is not given can be read back.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn path(key: &str, text: Option<String>) -> Located<Option<PathBuf>> {
    given(text).map(|text| absolute(key, &text)).transpose()
}

/// Two keys that say nothing without each other.
fn both<A, B>(one: (&str, Option<A>), other: (&str, Option<B>)) -> Located<Option<(A, B)>> {
    let alone = |key: &str, missing: &str| {
        let missing = missing.to_owned();
        Err((key.to_owned(), Problem::Alone { missing }))
    };
    match (one, other) {
        ((_, Some(a)), (_, Some(b))) => Ok(Some((a, b))),
        ((_, None), (_, None)) => Ok(None),
        ((key, Some(_)), (missing, None)) | ((missing, None), (key, Some(_))) => {
            alone(key, missing)
        }
    }
}

/// A scheme and a host, without room for anything that garbles a log.
fn check_url(key: &str, url: &str, scheme: &'static str) -> Located<()> {
    let known = ["http://", "https://"];
    let known = known.iter().filter(|known| known.starts_with(scheme));
    let host = known.filter_map(|known| url.strip_prefix(known)).next();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '"' | '\\');
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && host.chars().all(plain) => {
            Ok(())
        }
        _ => {
            let value = url.to_owned();
            Err((key.to_owned(), Problem::BadUrl { value, scheme }))
        }
    }
}
