//! The configuration file, `/etc/ringway/ringway.toml`.
//!
//! text ─ `raw` (serde, unknown keys refused) ─▶ raw values ─ `validate` ─▶
//! [`Config`], where every value has its meaning and every default is filled
//! in. A mistake is a [`ConfigError`]: file, line, key, what is wrong with the
//! value, and what to write instead. What only the machine can answer, such as
//! whether the underlay interface is up, the control plane asks.

mod agents;
mod contents;
mod error;
pub mod ipam;
mod live;
mod locate;
mod metrics;
pub mod names;
mod networks;
mod number;
mod pods;
mod raw;
mod show;
mod sources;
mod suggestion;
mod validate;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ringway_encap::Encap;
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;
use serde::{Deserialize, Serialize};

use crate::ipam::Range;
pub use agents::Agents;
pub use error::{ConfigError, Problem};
pub use live::{Difference, differences, in_force};
pub use metrics::{Listen, Metrics, NODE_IP};
pub use networks::nested;
pub use ringway_cluster::EncapKind;
pub use ringway_log::Format;
pub use ringway_worker::Polling;
pub use show::{KEYS, KeyDoc, When, show};
pub use sources::{Decider, Etcd, Kubernetes, NODE_NAME, files};
pub use validate::{common_family, family_name};

/// The least and the greatest value of a key that is a number.
pub fn range_of(key: &str) -> Option<(i128, i128)> {
    number::range_of(key)
}

/// Where the configuration is read from unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/ringway/ringway.toml";
/// Where the API socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ringway/ringway.sock";

/// What [`UnderlayConfig::interface`] is where the machine decides.
pub const AUTO: &str = "auto";

/// Where container runtimes look for plugins.
pub const CNI_BIN_DIR: &str = "/opt/cni/bin";
/// Where they look for network configurations.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";
/// Where the plugin host-local keeps which address which container has.
pub const CNI_BOOKS: &str = "/var/lib/cni/networks";

/// The effective configuration: every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// File it came from.
    pub file: PathBuf,
    /// This node.
    pub node: Node,
    /// The network between nodes.
    pub underlay: UnderlayConfig,
    /// Data-path threads.
    pub workers: Workers,
    /// Addresses that pods get.
    pub ipam: Ipam,
    /// Folders of container runtimes.
    pub cni: Cni,
    /// Between pods and the world outside.
    pub egress: Egress,
    /// Who can read the metrics.
    pub metrics: Metrics,
    /// What agents ask each other, if they do.
    pub agents: Option<Agents>,
    /// What is logged, and how.
    pub log: Log,
    /// Other nodes.
    pub peers: Vec<Peer>,
    /// The Kubernetes API as a source, if it is one.
    pub kubernetes: Option<Kubernetes>,
    /// etcd as a source, if it is one.
    pub etcd: Option<Etcd>,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name among the cluster's nodes.
    pub name: String,
    /// Pod networks of this node. The first of a family is its main one: its gateway is that of borrowed
    /// addresses (/32, /128), and where ICMP errors come from. None where another source [decides](Config::decider).
    pub pod_cidrs: Vec<Cidr>,
    /// Networks that hold all pod CIDRs of the cluster.
    pub cluster_cidrs: Vec<Cidr>,
    /// Name of the node port.
    pub interface: String,
    /// Directory of the state file and its lock.
    pub state_dir: PathBuf,
    /// Path of the API socket.
    pub socket: PathBuf,
    /// Where kernel settings are read and written.
    pub sysctl_root: PathBuf,
    /// Where what Flannel's plugin knows of a node is written, if anywhere.
    pub subnet_env: Option<PathBuf>,
    /// Inner MAC of tunnelled IPv4 packets to this node; all zero where another source decides.
    pub vtep_mac: MacAddr,
    /// Inner MAC of tunnelled IPv6 packets to this node.
    pub vtep_mac_v6: MacAddr,
    /// The node is taken over from Flannel.
    pub takeover: bool,
}

/// `[underlay]`
#[derive(Clone, Debug, PartialEq)]
pub struct UnderlayConfig {
    /// Interface the tunnels go through, or [`AUTO`].
    pub interface: String,
    /// Outer addresses; empty: taken from the interface.
    pub addresses: Vec<IpAddr>,
    /// Encapsulation for peers that do not say.
    pub encap: EncapKind,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// UDP port of the udp encapsulation.
    pub udp_port: u16,
    /// How packets reach the underlay.
    pub io: Io,
    /// Which outer family carries which pods.
    pub family: Family,
    /// Receive offload of the interface.
    pub gro: Gro,
    /// Outer UDP checksum.
    pub udp_checksum: Checksum,
    /// Whether checksums of received packets may be unfinished.
    pub unfinished_checksums: Unfinished,
    /// Microseconds the device is polled in the system calls on a ring; 0: it interrupts.
    pub xdp_busy_poll_us: u32,
    /// Pairs of source ports of each outer address and encapsulation, divided among the workers: of a pair one is
    /// for quiet flows, one for bulk.
    ///
    /// A NIC spreads them over its receive queues by Toeplitz. Of 8 queues, 8 random ports reach 65 % and the
    /// busiest gets 2.7 times its share; 64 ports reach all, 1.5 times; 128 ports 1.4 times.
    pub source_ports: usize,
    /// "Don't fragment" of outer IPv4 packets.
    pub dont_fragment: bool,
    /// A path on which large packets vanish without an ICMP error gets a smaller MTU, 1280 bytes at least.
    pub lower_mtu: bool,
    /// Probes of peers a second, at most, and as many times 10,000 bit/s; 0: none. Answers to others' have as much.
    pub probes: u32,
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq)]
pub struct Workers {
    /// Number of threads.
    pub count: usize,
    /// Processors to pin them to; empty: not pinned.
    pub cpus: Vec<usize>,
    /// What a worker does when there is nothing to do.
    pub polling: Polling,
    /// Microseconds an adaptive worker looks for more before it sleeps, at most; it begins with 20 and finds
    /// out what pays.
    pub idle_spin_us: u32,
}

/// `[ipam]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ipam {
    /// Within the pod networks; none of a family: all of its network.
    pub ranges: Vec<Range>,
    /// Never given out, unless asked for by name.
    pub exclude: Vec<Range>,
}

/// `[cni]`
#[derive(Clone, Debug, PartialEq)]
pub struct Cni {
    /// The agent installs plugin and network configuration once it forwards.
    pub install: bool,
    /// Folder of plugins.
    pub bin_dir: PathBuf,
    /// Folder of network configurations.
    pub conf_dir: PathBuf,
    /// Folder of the plugin host-local, one folder in it for each network.
    pub books: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or parts of the program with a level each, as `RUST_LOG` has them.
    pub level: String,
    /// What its lines look like.
    pub format: Format,
}

/// `[egress]`
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    /// Packets of pods to outside the cluster get the node's address.
    pub masquerade: bool,
    /// Networks outside the cluster to which they keep their own.
    pub masquerade_exclude: Vec<Cidr>,
    /// Pods' packets are let through where a firewall forwards nothing by default.
    pub accept_forward: bool,
}

/// `[[peers]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Name of the node.
    pub name: String,
    /// Its outer addresses; the first of a family is sent to, all are accepted.
    pub addresses: Vec<IpAddr>,
    /// Its pod networks.
    pub pod_cidrs: Vec<Cidr>,
    /// Encapsulation towards it.
    pub encap: EncapKind,
    /// Largest outer packet to it in bytes, where that is less than the interface's MTU.
    pub mtu: Option<u32>,
    /// Inner destination MAC of IPv4 packets to it.
    pub vtep_mac: MacAddr,
    /// Inner destination MAC of IPv6 packets to it.
    pub vtep_mac_v6: MacAddr,
}

/// What the cluster's network is like where the file does not say: all nodes of a cluster have to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// Networks that hold all pod networks; none: not known.
    pub cluster_cidrs: Vec<Cidr>,
    /// Encapsulation.
    pub encap: EncapKind,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// UDP port of the udp encapsulation.
    pub udp_port: u16,
}

impl Default for NetworkDefaults {
    /// As Flannel has them; VXLAN's port is Linux' (IANA's is 4789).
    fn default() -> Self {
        Self {
            cluster_cidrs: Vec::new(),
            encap: EncapKind::Vxlan,
            vni: 1,
            vxlan_port: 8472,
            udp_port: 8285,
        }
    }
}

/// How packets reach the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// AF_XDP where the driver does it without a copy, else sockets.
    Auto,
    /// AF_XDP rings; sockets, with a warning, where they do not work.
    Xdp,
    /// UDP sockets.
    Socket,
}

/// Whether a checksum that is the bare sum of its pseudo-header passes for one that a NIC was to finish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unfinished {
    /// On a veth, whose other end has no NIC to finish it.
    #[default]
    Auto,
    /// Yes.
    Accept,
    /// No.
    Refuse,
}

/// Which outer family carries which pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// The pods' own where both nodes have it, else the other.
    Match,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// What becomes of the underlay interface's receive offload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gro {
    /// Turned on.
    #[default]
    On,
    /// Left as it is.
    Keep,
}

/// Outer UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// Sent and verified wherever the kernel does it at no cost to us.
    Auto,
    /// Sent on both families.
    On,
    /// Zero on IPv4; IPv6 always has one (RFC 8200 section 8.1).
    Off,
}

impl Config {
    /// Reads and validates a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Ok(Self::load_text(file)?.0)
    }

    /// The same, with the text.
    pub fn load_text(file: &Path) -> Result<(Self, String), ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|e| ConfigError::unreadable(file, &e))?;
        Ok((Self::parse(file, &text)?, text))
    }

    /// Validates a text; `file` appears in errors only.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_with(file, text, &NetworkDefaults::default())
    }

    /// The same where the cluster has other defaults.
    pub fn parse_with(
        file: &Path,
        text: &str,
        defaults: &NetworkDefaults,
    ) -> Result<Self, ConfigError> {
        let raw = raw::parse(text).map_err(|(line, problem)| ConfigError {
            file: file.to_owned(),
            line,
            key: String::new(),
            problem: Box::new(problem),
        })?;
        validate::validate(file, raw, defaults).map_err(|(key, problem)| ConfigError {
            file: file.to_owned(),
            line: locate::line_of(text, &key),
            key,
            problem: Box::new(problem),
        })
    }

    /// Who decides what this node is.
    pub fn decider(&self) -> Decider {
        match (&self.kubernetes, &self.etcd) {
            (Some(_), _) => Decider::Kubernetes,
            (None, Some(_)) => Decider::Etcd,
            (None, None) => Decider::File,
        }
    }

    /// The encapsulation of a kind with this configuration's VNI.
    pub fn encap(&self, kind: EncapKind) -> Encap {
        match kind {
            EncapKind::Vxlan => Encap::Vxlan {
                vni: self.underlay.vni,
            },
            EncapKind::Udp => Encap::Udp,
        }
    }

    /// Source ports of a worker.
    pub fn source_ports_of_one(&self) -> usize {
        self.underlay.source_ports.div_ceil(self.workers.count)
    }

    /// The UDP port of an encapsulation.
    pub fn port(&self, kind: EncapKind) -> u16 {
        match kind {
            EncapKind::Vxlan => self.underlay.vxlan_port,
            EncapKind::Udp => self.underlay.udp_port,
        }
    }
}

#[cfg(test)]
mod tests;
