//! What the numbered tables hold.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::OuterHeader;
use ringway_packet::mac::MacAddr;

use crate::{Cidr, PeerId};

/// What is behind a port.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum PortKind {
    /// The node's own stack; always port 0.
    Node,
    /// A pod.
    Pod,
}

/// A local port.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Port {
    /// What is behind it.
    pub kind: PortKind,
    /// Its only MAC.
    pub mac: MacAddr,
    /// IPv4 address.
    pub ip4: Option<u32>,
    /// IPv6 address.
    pub ip6: Option<u128>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Name shown to people.
    pub name: Arc<str>,
}

impl Port {
    /// Its addresses, IPv4 mapped.
    pub fn addresses(&self) -> impl Iterator<Item = u128> + use<> {
        self.ip4
            .map(ringway_packet::addr::mapped)
            .into_iter()
            .chain(self.ip6)
    }
}

/// A peer node.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Peer {
    /// Name, unique among peers.
    pub name: Arc<str>,
    /// Underlay addresses it may send from.
    pub addresses: Arc<[IpAddr]>,
    /// Prefixes that lead to it, in no particular order.
    pub cidrs: Arc<[Cidr]>,
}

/// A way to a peer.
#[derive(Clone, Debug)]
pub struct Path {
    /// Whom it leads to; set by [`Snapshot::add_peer`](crate::Snapshot::add_peer).
    pub peer: PeerId,
    /// Encapsulation.
    pub encap: Encap,
    /// Our underlay address.
    pub src: IpAddr,
    /// The peer's underlay address.
    pub dst: IpAddr,
    /// Inner source MAC: our VTEP.
    pub src_mac: MacAddr,
    /// Inner destination MAC: the peer's VTEP.
    pub dst_mac: MacAddr,
    /// Largest inner IP packet in bytes.
    pub mtu: u16,
    /// Outer header, with what its [transport](OuterHeader::transport) needs to know of the peer.
    pub outer: OuterHeader,
}

/// A peer's paths by family of the inner packet (the outer one is the path's own affair).
#[derive(Clone, Default, Debug)]
pub struct PeerPaths {
    /// For its IPv4 pods.
    pub v4: Option<Path>,
    /// For its IPv6 pods.
    pub v6: Option<Path>,
}

/// What the switch knows about its own node.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct NodeInfo {
    /// Name shown to people.
    pub name: Arc<str>,
    /// Networks of our own pods.
    pub cidrs: Arc<[Cidr]>,
    /// Our underlay addresses.
    pub addresses: Arc<[IpAddr]>,
    /// MAC of the gateway and of the node's port: frames to it are routed.
    pub gateway_mac: MacAddr,
    /// Our VTEP's MAC: inner destination of what peers send us.
    pub vtep_mac: MacAddr,
    /// The same for IPv6 pods (Flannel has a device of its own for them).
    pub vtep_mac6: MacAddr,
    /// Gateway of our IPv4 pods.
    pub gateway4: Option<u32>,
    /// Gateway of our IPv6 pods.
    pub gateway6: Option<u128>,
    /// The gateway's link-local address.
    pub gateway_link_local: Option<u128>,
    /// VNI we accept.
    pub vni: u32,
}

impl NodeInfo {
    /// Addresses that lead to the node's port, IPv4 mapped: the gateway of each CIDR and, as the address
    /// Flannel sends from, its network address. A CIDR has its first address for a gateway where none is
    /// given; one of a single address or two (RFC 3021, RFC 6164) has neither, they are pods'.
    pub fn gateway_addresses(&self) -> impl Iterator<Item = u128> + '_ {
        let given = || {
            let gateway4 = self.gateway4.map(ringway_packet::addr::mapped);
            gateway4.into_iter().chain(self.gateway6)
        };
        let roomy = self
            .cidrs
            .iter()
            .filter(|cidr| cidr.last() - cidr.first() > 1);
        let of_cidrs = roomy.flat_map(move |cidr| {
            let own = !given().any(|gateway| cidr.contains(gateway));
            std::iter::once(cidr.first()).chain(own.then(|| cidr.first() + 1))
        });
        given().chain(of_cidrs)
    }

    /// Whether an address (IPv4 mapped) is a CIDR by itself.
    pub(crate) fn is_cidr(&self, addr: u128) -> bool {
        let single = |cidr: &Cidr| cidr.first() == addr && cidr.last() == addr;
        self.cidrs.iter().any(single)
    }
}
