//! The configuration file of a Ringway node in a topology.

use super::plan::{self, Family};
use super::underlay::INTERFACE;
use std::fmt;
use std::path::Path;

/// How packets travel between Ringway nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub enum Encap {
    /// VXLAN, as Flannel's vxlan backend.
    #[default]
    Vxlan,
    /// Bare IP in UDP, as Flannel's udp backend.
    Udp,
}

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encap::Vxlan => "vxlan",
            Encap::Udp => "udp",
        })
    }
}

/// Which underlay family carries the pods' packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub enum UnderlayFamily {
    /// The pod's own family.
    #[default]
    Match,
    /// Everything over IPv4.
    V4,
    /// Everything over IPv6.
    V6,
}

impl fmt::Display for UnderlayFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnderlayFamily::Match => "match",
            UnderlayFamily::V4 => "ipv4",
            UnderlayFamily::V6 => "ipv6",
        })
    }
}

/// How a Ringway node reaches the underlay: `underlay.io`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub enum Io {
    /// What the agent finds best
    #[default]
    Auto,
    /// AF_XDP rings
    Xdp,
    /// UDP sockets
    Socket,
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Io::Auto => "auto",
            Io::Xdp => "xdp",
            Io::Socket => "socket",
        })
    }
}

/// What may differ between Ringway nodes of different topologies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RingwayOptions {
    /// `underlay.encap`.
    pub encap: Encap,
    /// `underlay.family`.
    pub family: UnderlayFamily,
    /// `underlay.io`.
    pub io: Io,
    /// `workers.count`.
    pub workers: usize,
    /// `workers.polling`.
    pub polling: &'static str,
    /// `underlay.unfinished_checksums`.
    pub unfinished_checksums: &'static str,
    /// `underlay.xdp_busy_poll_us`.
    pub busy_poll_us: u32,
    /// `underlay.dont_fragment`.
    pub dont_fragment: bool,
    /// `underlay.probes`.
    pub probes: u32,
    /// `peers.mtu` of the other node.
    pub peer_mtu: Option<u32>,
    /// Peers besides the other node that do not exist ([`plan::crowd_cidr`]), with pod CIDRs.
    pub crowd: Crowd,
}

/// Peers that a node is told of and never meets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Crowd {
    /// How many.
    pub peers: u32,
    /// Pod CIDRs of each, in turn an IPv4 /28 and an IPv6 /64.
    pub cidrs: u32,
}

impl Default for RingwayOptions {
    fn default() -> Self {
        RingwayOptions {
            encap: Encap::default(),
            family: UnderlayFamily::default(),
            io: Io::default(),
            workers: 1,
            polling: "adaptive",
            unfinished_checksums: "auto",
            busy_poll_us: 0,
            dont_fragment: true,
            probes: 50,
            peer_mtu: None,
            crowd: Crowd::default(),
        }
    }
}

/// What a Ringway node is told of its peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PeerKind {
    Ringway,
    KernelVxlan,
}

/// Node `i`'s `ringway.toml`; its state and socket live in `folder`.
pub(super) fn render(
    i: u8,
    peer: u8,
    underlay: plan::Addresses,
    kind: PeerKind,
    options: &RingwayOptions,
    folder: &Path,
) -> String {
    let quoted = |families: [Family; 2], f: &dyn Fn(Family) -> String| {
        families.map(|family| format!("{:?}", f(family))).join(", ")
    };
    let cidrs = |i| quoted(Family::BOTH, &|family| plan::pod_cidr(i, family));
    let addresses = |i| quoted(Family::BOTH, &|family| underlay(i, family).to_string());
    let vtep = match kind {
        PeerKind::Ringway => String::new(),
        PeerKind::KernelVxlan => format!(
            "vtep_mac = \"{}\"\nvtep_mac_v6 = \"{}\"\n",
            plan::kernel_vtep_mac(peer, Family::V4),
            plan::kernel_vtep_mac(peer, Family::V6)
        ),
    };
    format!(
        r#"[node]
name = "node{i}"
pod_cidrs = [{cidrs_i}]
cluster_cidrs = ["10.77.0.0/16", "fd77::/16"{cluster}]
state_dir = "{folder}/state"
socket = "{folder}/ringway.sock"
[underlay]
interface = "{INTERFACE}"
encap = "{encap}"
family = "{family}"
io = "{io}"
unfinished_checksums = "{unfinished}"
xdp_busy_poll_us = {busy_poll_us}
dont_fragment = {dont_fragment}
probes = {probes}
[workers]
count = {workers}
polling = "{polling}"
[[peers]]
name = "node{peer}"
addresses = [{addresses_peer}]
pod_cidrs = [{cidrs_peer}]
{mtu}{vtep}{crowd}"#,
        cidrs_i = cidrs(i),
        cidrs_peer = cidrs(peer),
        addresses_peer = addresses(peer),
        folder = folder.display(),
        encap = options.encap,
        family = options.family,
        io = options.io,
        workers = options.workers,
        polling = options.polling,
        unfinished = options.unfinished_checksums,
        busy_poll_us = options.busy_poll_us,
        dont_fragment = options.dont_fragment,
        probes = options.probes,
        mtu = options
            .peer_mtu
            .map_or_else(String::new, |mtu| format!("mtu = {mtu}\n")),
        cluster = match options.crowd.peers {
            0 => String::new(),
            _ => format!(", {:?}, {:?}", plan::CROWD_PODS[0], plan::CROWD_PODS[1]),
        },
        crowd = crowd(options.crowd),
    )
}

/// Node `i`'s file where others say what its networks and peers are.
pub(super) fn render_told(i: u8, sections: &str, folder: &Path) -> String {
    format!(
        r#"[node]
name = "node{i}"
state_dir = "{folder}/state"
socket = "{folder}/ringway.sock"
[underlay]
interface = "{INTERFACE}"
[workers]
polling = "adaptive"
{sections}"#,
        folder = folder.display(),
    )
}

fn crowd(crowd: Crowd) -> String {
    let peer = |n: u32| {
        let addresses = Family::BOTH.map(|family| plan::crowd_address(n, family).to_string());
        let cidrs: Vec<String> = (0..crowd.cidrs)
            .map(|c| plan::crowd_cidr(n * crowd.cidrs + c))
            .collect();
        format!(
            "[[peers]]\nname = \"crowd{n}\"\naddresses = {addresses:?}\npod_cidrs = {cidrs:?}\n"
        )
    };
    (0..crowd.peers).map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_crowd_is_as_large_as_it_was_asked_for() {
        let text = crowd(Crowd {
            peers: 1_000,
            cidrs: 100,
        });
        let networks: HashSet<&str> = text.split('"').filter(|word| word.contains('/')).collect();
        assert_eq!(networks.len(), 100_000);
        assert_eq!(text.matches("[[peers]]").count(), 1_000);
        assert!(text.contains("\"10.128.0.16/28\""), "{}", &text[..300]);
        assert_eq!(crowd(Crowd::default()), "");
    }
}
