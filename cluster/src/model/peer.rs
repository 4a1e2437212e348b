//! The nodes: this one and its peers.

use std::net::IpAddr;
use std::sync::Arc;

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
