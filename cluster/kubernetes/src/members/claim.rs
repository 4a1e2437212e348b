//! What one Node claims, read for itself.

use std::net::IpAddr;

use ringway_cluster::flannel::{Annotations, Backend, Vtep};
use ringway_cluster::{EncapKind, PathSpec};
use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

use super::{Problem, ProblemKind, Rules};
use crate::slim::{Node, VERSION_KEY, shortened};

/// Networks and addresses that a Node may have, and more would be a mistake or worse.
const MOST: usize = 16;
/// The largest pod network of one node, in bits: a mistyped /2 would take the Internet away.
const LARGEST: [u8; 2] = [8, 16];

/// What a Node claims, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// Networks of its pods.
    pub(super) networks: Vec<Cidr>,
    /// Outer addresses, those to send to first.
    pub(super) addresses: Vec<IpAddr>,
    /// Paths for IPv4 and IPv6 pods; none where it is no member, or not one we can talk to.
    pub(super) paths: Option<[Option<PathSpec>; 2]>,
    /// MACs of its VTEPs for IPv4 and IPv6 pods, if it says so.
    pub(super) vteps: [Option<MacAddr>; 2],
    /// One line each.
    pub(super) problems: Vec<Problem>,
}

impl Claims {
    /// Reads a Node.
    pub(super) fn of(node: &Node, rules: &Rules) -> Self {
        let mut claims = Self::default();
        let own = *node.name == *rules.own;
        let vtep = |v6| Annotations::vtep(&node.annotations, v6).map(|v: Vtep| v.mac);
        claims.vteps = [vtep(false), vtep(true)];
        if own {
            // Its outer addresses are what this machine has, whatever is written there.
            claims.addresses = Vec::new();
        } else {
            claims.read_annotations(node, rules);
            if claims.paths.is_none() {
                return claims;
            }
        }
        claims.read_networks(node, rules);
        if own && claims.networks.is_empty() && node.pod_cidrs.is_empty() {
            claims.problem(
                node,
                ProblemKind::Waiting,
                "it has no pod network yet: spec.podCIDRs is empty. The controller manager gives one with \
                 --allocate-node-cidrs; or write node.pod_cidrs into the configuration",
            );
        }
        claims
    }

    /// Everything that it claims, for the index.
    pub(super) fn all(&self) -> impl Iterator<Item = Cidr> + use<> {
        let addresses = self.addresses.iter().map(|ip| host(*ip));
        let all: Vec<Cidr> = self.networks.iter().copied().chain(addresses).collect();
        all.into_iter()
    }

    fn problem(&mut self, node: &Node, kind: ProblemKind, what: impl std::fmt::Display) {
        let text = format!("node {}: {what}", node.name);
        self.problems.push(Problem { kind, text });
    }

    fn invalid(&mut self, node: &Node, what: impl std::fmt::Display) {
        self.problem(node, ProblemKind::Invalid, what);
    }

    fn read_annotations(&mut self, node: &Node, rules: &Rules) {
        let said = match Annotations::read(&node.annotations) {
            // Neither Flannel nor Ringway is there, or not yet.
            Ok(None) => return,
            Ok(Some(said)) => said,
            Err(e) => return self.invalid(node, e),
        };
        let path = |encap, mac| PathSpec {
            encap,
            vtep_mac: mac,
            mtu: None,
        };
        self.paths = match &said.backend {
            Backend::Vxlan { v4, v6 } => {
                let vtep = |vtep: &Option<Vtep>| vtep.filter(|v| v.vni == rules.vni);
                if let Some(other) = [v4, v6].into_iter().flatten().find(|v| v.vni != rules.vni) {
                    let (theirs, ours) = (other.vni, rules.vni);
                    self.problem(
                        node,
                        ProblemKind::Encapsulation,
                        format!(
                            "its VNI is {theirs} and ours {ours}; pods there cannot be reached until both are the \
                             same (underlay.vni here, Backend.VNI in Flannel's net-conf.json)"
                        ),
                    );
                }
                let of = |v: &Option<Vtep>| vtep(v).map(|v| path(EncapKind::Vxlan, v.mac));
                Some([of(v4), of(v6)])
            }
            Backend::Udp => {
                let bare = path(EncapKind::Udp, MacAddr::ZERO);
                // Flannel's own proxy carries IPv4 alone.
                let ours = node.annotations.contains_key(VERSION_KEY);
                Some([Some(bare.clone()), ours.then_some(bare)])
            }
            Backend::Other(name) => {
                let name = shortened(name);
                self.problem(
                    node,
                    ProblemKind::Encapsulation,
                    format!("its backend is {name:?}; Ringway speaks vxlan and udp, its pods cannot be reached"),
                );
                None
            }
        };
        for address in said
            .addresses()
            .into_iter()
            .chain(node.addresses.iter().copied())
        {
            if self.addresses.contains(&address) || self.addresses.len() == MOST {
                continue;
            }
            if rules.reserved.contains(&address) {
                self.invalid(
                    node,
                    format!("its address {address} is this node's or the API server's"),
                );
            } else if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
                self.invalid(
                    node,
                    format!("its address {address} is no address of a node"),
                );
            } else {
                self.addresses.push(address);
            }
        }
    }

    fn read_networks(&mut self, node: &Node, rules: &Rules) {
        for text in node.pod_cidrs.iter().take(MOST) {
            match network(text, rules) {
                Ok(cidr) if !self.networks.contains(&cidr) => self.networks.push(cidr),
                Ok(_) => {}
                Err(why) => {
                    let text = shortened(text);
                    self.invalid(node, format!("its pod network {text:?} is refused: {why}"));
                }
            }
        }
        // A node inside its own pod network could never be sent to.
        let outer = self.addresses.clone();
        let holds = |cidr: &Cidr| outer.iter().find(|ip| cidr.contains(from_ip(**ip)));
        let around = |cidr: &Cidr| holds(cidr).map(|ip| (*cidr, *ip));
        let wrong: Vec<(Cidr, IpAddr)> = self.networks.iter().filter_map(around).collect();
        for (cidr, ip) in wrong {
            self.networks.retain(|c| *c != cidr);
            self.invalid(
                node,
                format!("its pod network {cidr} is refused: its own address {ip} is in it"),
            );
        }
    }
}

/// One pod network, if a node may have it.
fn network(text: &str, rules: &Rules) -> Result<Cidr, String> {
    let (address, len) = text
        .split_once('/')
        .ok_or("wanted a network, as 10.244.1.0/24")?;
    let address: IpAddr = address.parse().map_err(|_| "the address is none")?;
    let len: u8 = len.parse().map_err(|_| "the length is no number of bits")?;
    let cidr = Cidr::containing(address, len).map_err(|e| e.to_string())?;
    let largest = LARGEST[usize::from(cidr.is_ipv6())];
    if len < largest {
        return Err(format!("no node's pods have more than a /{largest}"));
    }
    let inside = |of: &Cidr| {
        of.is_ipv6() == cidr.is_ipv6() && of.contains(cidr.first()) && of.contains(cidr.last())
    };
    let same_family: Vec<&Cidr> = rules
        .networks
        .iter()
        .filter(|n| n.is_ipv6() == cidr.is_ipv6())
        .collect();
    if !rules.networks.is_empty() && !rules.networks.iter().any(inside) {
        let all: Vec<String> = same_family.iter().map(ToString::to_string).collect();
        let all = if all.is_empty() {
            "none of this family".into()
        } else {
            all.join(", ")
        };
        return Err(format!(
            "it is outside of the cluster's pod networks ({all})"
        ));
    }
    if let Some(ip) = rules
        .reserved
        .iter()
        .find(|ip| cidr.contains(from_ip(**ip)))
    {
        return Err(format!(
            "{ip}, which is this node's or the API server's, is in it"
        ));
    }
    Ok(cidr)
}

/// A single address as a network.
pub(super) fn host(ip: IpAddr) -> Cidr {
    let len = if ip.is_ipv6() { 128 } else { 32 };
    // A length that its family has.
    Cidr::containing(ip, len).unwrap_or_else(|_| Cidr::default_route(ip.is_ipv6()))
}
