//! The file as it is written: strings and numbers, unknown keys refused.

use serde::Deserialize;

use super::number::Number;
use super::{
    Checksum, EncapKind, Family, Gro, Io, Polling, Problem, Unfinished, locate, sources, suggestion,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub node: Node,
    pub underlay: Underlay,
    #[serde(default)]
    pub workers: Workers,
    #[serde(default)]
    pub ipam: Ipam,
    #[serde(default)]
    pub cni: Cni,
    #[serde(default)]
    pub egress: Egress,
    #[serde(default)]
    pub metrics: Metrics,
    #[serde(default)]
    pub agents: Agents,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub peers: Vec<Peer>,
    pub kubernetes: Option<Kubernetes>,
    pub etcd: Option<Etcd>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub name: Option<String>,
    pub pod_cidrs: Option<Vec<String>>,
    #[serde(default)]
    pub cluster_cidrs: Vec<String>,
    #[serde(default = "interface")]
    pub interface: String,
    #[serde(default = "state_dir")]
    pub state_dir: String,
    #[serde(default = "socket")]
    pub socket: String,
    #[serde(default = "sysctl_root")]
    pub sysctl_root: String,
    pub subnet_env: Option<String>,
    pub vtep_mac: Option<String>,
    pub vtep_mac_v6: Option<String>,
    #[serde(default)]
    pub takeover: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Underlay {
    #[serde(default = "automatic")]
    pub interface: String,
    #[serde(default)]
    pub addresses: Vec<String>,
    pub encap: Option<EncapKind>,
    pub vni: Option<Number>,
    pub vxlan_port: Option<Number>,
    pub udp_port: Option<Number>,
    #[serde(default = "io")]
    pub io: Io,
    #[serde(default = "family")]
    pub family: Family,
    #[serde(default = "checksum")]
    pub udp_checksum: Checksum,
    #[serde(default)]
    pub gro: Gro,
    #[serde(default)]
    pub unfinished_checksums: Unfinished,
    #[serde(default = "xdp_busy_poll_us")]
    pub xdp_busy_poll_us: Number,
    #[serde(default = "source_ports")]
    pub source_ports: Number,
    #[serde(default = "dont_fragment")]
    pub dont_fragment: bool,
    #[serde(default)]
    pub lower_mtu: bool,
    #[serde(default = "probes")]
    pub probes: Number,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Workers {
    pub count: Number,
    pub cpus: Vec<Number>,
    pub polling: Polling,
    pub idle_spin_us: Number,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            count: Number::Whole(1),
            cpus: Vec::new(),
            polling: Polling::Adaptive,
            idle_spin_us: Number::Whole(60),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ipam {
    pub ranges: Vec<String>,
    pub exclude: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cni {
    pub install: bool,
    pub bin_dir: String,
    pub conf_dir: String,
    pub books: String,
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            install: false,
            bin_dir: super::CNI_BIN_DIR.into(),
            conf_dir: super::CNI_CONF_DIR.into(),
            books: super::CNI_BOOKS.into(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Egress {
    pub masquerade: bool,
    pub masquerade_exclude: Vec<String>,
    pub accept_forward: bool,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            masquerade: true,
            masquerade_exclude: Vec::new(),
            accept_forward: true,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub listen: String,
    pub peers: Number,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: String::new(),
            peers: Number::Whole(64),
            cert_file: None,
            key_file: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agents {
    pub listen: String,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub ca_file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub level: String,
    pub format: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: super::Format::Auto.name().into(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    pub name: String,
    pub addresses: Vec<String>,
    pub pod_cidrs: Vec<String>,
    pub encap: Option<EncapKind>,
    pub mtu: Option<Number>,
    pub vtep_mac: Option<String>,
    pub vtep_mac_v6: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub node: Option<String>,
    pub kubeconfig: Option<String>,
    pub api_server: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Etcd {
    #[serde(default = "endpoints")]
    pub endpoints: Vec<String>,
    #[serde(default = "prefix")]
    pub prefix: String,
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<String>,
}

fn endpoints() -> Vec<String> {
    vec![sources::ETCD_ENDPOINT.into()]
}
fn prefix() -> String {
    sources::ETCD_PREFIX.into()
}
fn interface() -> String {
    "ringway0".into()
}
fn state_dir() -> String {
    "/var/lib/ringway".into()
}
fn socket() -> String {
    super::DEFAULT_SOCKET.into()
}
fn sysctl_root() -> String {
    ringway_kernel::sysctl::ROOT.into()
}
fn automatic() -> String {
    super::AUTO.into()
}
fn xdp_busy_poll_us() -> Number {
    Number::Whole(0)
}
fn io() -> Io {
    Io::Auto
}
fn family() -> Family {
    Family::Match
}
fn checksum() -> Checksum {
    Checksum::Auto
}
fn source_ports() -> Number {
    Number::Whole(64)
}
fn probes() -> Number {
    Number::Whole(50)
}
fn dont_fragment() -> bool {
    true
}

/// Reads the text; an error comes with its line and the text of that line.
pub(super) fn parse(text: &str) -> Result<Raw, (Option<usize>, Problem)> {
    toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| locate::line(text, span.start));
        let meant = line.and_then(|line| suggestion::problem(text, line, e.message()));
        if let Some((line, problem)) = meant {
            return (Some(line), problem);
        }
        let content = line.and_then(|n| text.lines().nth(n - 1)).unwrap_or("");
        let problem = Problem::Syntax {
            message: e.message().trim().replace('\n', ", "),
            text: content.trim().chars().take(120).collect(),
        };
        (line, problem)
    })
}
