//! The nodes: this one and its peers.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;
use serde::{Deserialize, Serialize};

use super::Source;

/// Kind of encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncapKind {
    /// VXLAN, RFC 7348, as Flannel's vxlan backend.
    Vxlan,
    /// Bare IP packets in UDP, as Flannel's udp backend.
    Udp,
}

/// This node, as far as the cluster decides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name among the cluster's nodes.
    pub name: Arc<str>,
    /// Its pod networks; the first of a family has the gateway that ICMP errors come from.
    pub cidrs: Arc<[Cidr]>,
    /// Inner destination MAC of IPv4 packets to this node.
    pub vtep_mac: MacAddr,
    /// The same for IPv6.
    pub vtep_mac_v6: MacAddr,
}

impl Node {
    /// The own pod network that an address lies in: the longest, if they lie in one another.
    pub fn cidr_of(&self, ip: IpAddr) -> Option<Cidr> {
        let around = self.cidrs.iter();
        let around = around.filter(|cidr| cidr.contains(from_ip(ip)));
        around.max_by_key(|cidr| cidr.prefix_len()).copied()
    }

    /// The gateway of a pod with this address: that of its network, or of the main one where its own is a
    /// single address.
    pub fn gateway_of(&self, ip: IpAddr) -> Option<IpAddr> {
        let cidr = self.cidr_of(ip)?;
        match has_gateway(cidr) {
            true => Some(gateway(cidr)),
            false => self.main_cidr(ip.is_ipv6()).map(gateway),
        }
    }

    /// Gateways of the pod networks that have one.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let cidrs = self.cidrs.iter().copied();
        cidrs.filter(|cidr| has_gateway(*cidr)).map(gateway)
    }

    /// The main pod network of a family.
    pub fn main_cidr(&self, v6: bool) -> Option<Cidr> {
        self.cidrs.iter().copied().find(|c| c.is_ipv6() == v6)
    }
}

/// Whether a pod network has room for a gateway; a single address or two are pods'.
pub fn has_gateway(cidr: Cidr) -> bool {
    cidr.last() - cidr.first() > 1
}

/// The gateway of a pod network: its first address, `.1` or `::1`.
pub fn gateway(cidr: Cidr) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(a) => IpAddr::V4((u32::from(a) + 1).into()),
        IpAddr::V6(a) => IpAddr::V6((u128::from(a) + 1).into()),
    }
}

/// How packets of one family travel to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSpec {
    /// Encapsulation.
    pub encap: EncapKind,
    /// Inner destination MAC.
    pub vtep_mac: MacAddr,
    /// Largest outer packet in bytes, where that is less than the interface's MTU.
    pub mtu: Option<u32>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name, unique among nodes.
    pub name: Arc<str>,
    /// Outer addresses: the first of a family is sent to, all may be sent from.
    pub addresses: Arc<[IpAddr]>,
    /// Path of its IPv4 pods.
    pub v4: Option<PathSpec>,
    /// Path of its IPv6 pods.
    pub v6: Option<PathSpec>,
    /// Who says so.
    pub source: Source,
}

impl Peer {
    /// The path for packets of a family.
    pub fn path(&self, v6: bool) -> Option<&PathSpec> {
        if v6 {
            self.v6.as_ref()
        } else {
            self.v4.as_ref()
        }
    }
}
