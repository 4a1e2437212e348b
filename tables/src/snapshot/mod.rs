//! One consistent state of all tables, and the changes that lead to the next.
//!
//! Readers use the fields and [`Snapshot::route`]. Whoever changes things clones the current
//! snapshot (cheap), calls `set_node`, `add_port`, `remove_port`, `add_peer`, … on the clone and
//! publishes it. Each change checks everything first and then keeps all tables consistent:
//!
//! | Change   | macs | routes | neighbours | sources |
//! |----------|------|--------|------------|---------|
//! | node     |      | its CIDRs → unreachable; gateways, the link-local one too, network addresses → port 0 | the same addresses → gateway MAC | |
//! | port     | MAC → port | each address → port | each address → MAC | |
//! | behind   |      | each address → port 0 | each address → gateway MAC | |
//! | peer     |      | its CIDRs → path of that family | | each underlay address → peer |
//! | routes   |      | prefix → path of that family | | |
//!
//! Prefixes may lie in one another, and the longest decides. Each has one target: a node's CIDR of a peer, a
//! borrowed address in our own, one in another peer's.

mod behind;
mod node;
mod peers;
mod ports;
mod routes;

pub use routes::RouteChange;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_packet::addr::{from_ip, to_ip, unmap};
use ringway_packet::mac::MacAddr;

use crate::claims::{Claim, Claims, Owner};
use crate::{
    Chunked, Cidr, Lpm, NodeInfo, Path, PathId, Peer, PeerId, Port, PortId, ShardMap, TableError,
    Target,
};

/// MAC → port; keys are [`MacAddr::to_key`].
pub type MacTable = ShardMap<u64, PortId>;

/// All tables at one moment. Cloning costs a dozen reference counts.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Counts up with every publication.
    pub version: u64,
    /// Our own node.
    pub node: NodeInfo,
    /// MAC → local port.
    pub macs: MacTable,
    /// IPv4 routes.
    pub routes4: Lpm<u32, Target>,
    /// IPv6 routes.
    pub routes6: Lpm<u128, Target>,
    /// IP (IPv4 mapped) → MAC of local ports and gateways: what ARP and ND are answered from.
    pub neighbours: ShardMap<u128, MacAddr>,
    /// Outer source address (IPv4 mapped) → peer.
    pub sources: ShardMap<u128, PeerId>,
    /// Local ports by [`PortId`].
    pub ports: Chunked<Port>,
    /// Peers by [`PeerId`].
    pub peers: Chunked<Peer>,
    /// Paths by [`PathId`].
    pub paths: Chunked<Path>,
    /// Encapsulations that are taken from any peer, beside that of the path back: those the node receives
    /// by. The two ends of a path change from one to another at different moments.
    pub accepted: Arc<[Encap]>,
    /// The paths of each peer, IPv4 pods' first.
    peer_paths: Chunked<[Option<PathId>; 2]>,
    /// Peers by name.
    names: Arc<BTreeMap<Arc<str>, PeerId>>,
    /// Addresses of pods behind the node's stack.
    behind: Arc<[u128]>,
    /// Outer addresses in use.
    outer: Claims,
    least_mtu: u16,
}

impl Snapshot {
    /// Tables that know nothing but the node.
    pub fn new(node: NodeInfo) -> Result<Snapshot, TableError> {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node)?;
        Ok(snapshot)
    }

    /// Where a packet to this address (IPv4 mapped) goes.
    #[inline]
    pub fn route(&self, addr: u128) -> Option<Target> {
        match unmap(addr) {
            Some(v4) => self.routes4.lookup(v4),
            None => self.routes6.lookup(addr),
        }
    }

    /// Port of a MAC.
    #[inline]
    pub fn mac(&self, mac: MacAddr) -> Option<PortId> {
        self.macs.get(mac.to_key())
    }

    /// A local port.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.0)
    }

    /// The smallest MTU of all local ports; 0 without any.
    #[inline]
    pub fn least_mtu(&self) -> u16 {
        self.least_mtu
    }

    /// A peer.
    #[inline]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.0)
    }

    /// A path.
    #[inline]
    pub fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.get(id.0)
    }

    /// The path by which a peer's pods of a family are reached.
    pub fn path_of(&self, peer: PeerId, v6: bool) -> Option<PathId> {
        self.peer_paths.get(peer.0)?[usize::from(v6)]
    }

    /// Bytes of all tables that are not shared with `other`: what a change has copied. (The
    /// publication itself adds one `Snapshot`.)
    pub fn unshared_bytes(&self, other: &Snapshot) -> usize {
        self.macs.unshared_bytes(&other.macs)
            + self.routes4.unshared_bytes(&other.routes4)
            + self.routes6.unshared_bytes(&other.routes6)
            + self.neighbours.unshared_bytes(&other.neighbours)
            + self.sources.unshared_bytes(&other.sources)
            + self.ports.unshared_bytes(&other.ports)
            + self.peers.unshared_bytes(&other.peers)
            + self.paths.unshared_bytes(&other.paths)
    }

    fn set_route(&mut self, addr: u128, len: u8, v6: bool, target: Target) {
        match unmap(addr) {
            Some(v4) if !v6 => self.routes4.insert(v4, len, target),
            _ => self.routes6.insert(addr, len, target),
        };
    }

    fn remove_route(&mut self, addr: u128, len: u8, v6: bool) {
        match unmap(addr) {
            Some(v4) if !v6 => self.routes4.remove(v4, len),
            _ => self.routes6.remove(addr, len),
        };
    }

    fn set_host_route(&mut self, addr: u128, target: Target) {
        let v6 = unmap(addr).is_none();
        self.set_route(addr, if v6 { 128 } else { 32 }, v6, target);
    }

    fn remove_host_route(&mut self, addr: u128) {
        let v6 = unmap(addr).is_none();
        self.remove_route(addr, if v6 { 128 } else { 32 }, v6);
    }

    /// The target of a route to exactly this address.
    fn host_route(&self, addr: u128) -> Option<Target> {
        match unmap(addr) {
            Some(v4) => self.routes4.get(v4, 32),
            None => self.routes6.get(addr, 128),
        }
    }

    fn peer_label(&self, id: PeerId) -> String {
        self.peer(id).map_or_else(
            || format!("peer {id}"),
            |peer| format!("peer {}", peer.name),
        )
    }

    fn port_label(&self, id: PortId) -> String {
        match self.port(id) {
            Some(port) if id != PortId::NODE => format!("pod {}", port.name),
            _ => format!("the gateway of node {}", self.node.name),
        }
    }

    fn owner_label(&self, owner: Owner) -> String {
        match owner {
            Owner::Node => format!("node {}", self.node.name),
            Owner::Peer(id) => self.peer_label(id),
        }
    }

    fn path_label(&self, id: PathId) -> String {
        self.path(id)
            .map_or_else(|| format!("path {id}"), |path| self.peer_label(path.peer))
    }

    /// Whose the addresses of a target are.
    fn target_label(&self, target: Target) -> String {
        match target {
            Target::Port(id) => self.port_label(id),
            Target::Path(id) => self.path_label(id),
            Target::Unreachable => format!("node {}", self.node.name),
        }
    }

    /// Checks outer addresses against all that is there but what peer `own` has.
    fn check_addresses(
        &self,
        own: Option<PeerId>,
        addresses: &[IpAddr],
        new: &Arc<str>,
    ) -> Result<(), TableError> {
        for addr in outer_addresses(addresses) {
            let what = host(addr);
            let overlap = |other, holder| TableError::Overlap {
                what,
                new: new.clone(),
                other,
                holder,
            };
            if let Some(owner) = self.outer.owner(addr)
                && own.is_none_or(|own| owner != Owner::Peer(own))
            {
                return Err(overlap(what, self.owner_label(owner)));
            }
            let prefix = match unmap(addr) {
                Some(v4) => self.routes4.lookup_prefix(v4),
                None => self.routes6.lookup_prefix(addr),
            };
            if let Some((len, target)) = prefix {
                let other = Cidr::containing(to_ip(addr), len).unwrap_or(what);
                return Err(overlap(other, self.target_label(target)));
            }
        }
        Ok(())
    }

    /// Checks prefixes against all that is there but what leads to peer `own`, and against each other.
    fn check_prefixes(
        &self,
        own: Option<PeerId>,
        prefixes: &[Cidr],
        new: &Arc<str>,
        label: &str,
    ) -> Result<(), TableError> {
        let mut seen = std::collections::HashSet::with_capacity(prefixes.len());
        for &what in prefixes {
            let overlap = |other, holder| TableError::Overlap {
                what,
                new: new.clone(),
                other,
                holder,
            };
            if !seen.insert(what) {
                return Err(overlap(what, label.into()));
            }
            match self.exact(what) {
                Some(Target::Path(id)) if own.is_some() && self.path(id).map(|p| p.peer) == own => {
                }
                Some(target @ Target::Port(_)) if own.is_some() => {
                    return Err(TableError::DuplicateAddress {
                        address: what.network(),
                        new: new.clone(),
                        holder: self.target_label(target),
                    });
                }
                // The node's own: a CIDR of one address, and its pod.
                None | Some(Target::Port(_)) => {}
                Some(target) => return Err(overlap(what, self.target_label(target))),
            }
            // The owner does not matter for the search.
            if let Some(inside) = self.outer.overlapping(&Claim::cidr(what, Owner::Node)) {
                return Err(overlap(host(inside.first), self.owner_label(inside.owner)));
            }
        }
        Ok(())
    }

    /// The target of exactly this prefix.
    fn exact(&self, cidr: Cidr) -> Option<Target> {
        match unmap(cidr.first()) {
            Some(v4) if !cidr.is_ipv6() => self.routes4.get(v4, cidr.prefix_len()),
            _ => self.routes6.get(cidr.first(), cidr.prefix_len()),
        }
    }

    fn set_cidr(&mut self, cidr: Cidr, target: Target) {
        self.set_route(cidr.first(), cidr.prefix_len(), cidr.is_ipv6(), target);
    }
}

/// Refuses an outer address in a pod network of the same node: the tunnel would lead into itself.
fn own_address_inside(
    addresses: &[IpAddr],
    cidrs: &[Cidr],
    new: &Arc<str>,
    label: &str,
) -> Result<(), TableError> {
    for addr in outer_addresses(addresses) {
        if let Some(other) = cidrs.iter().find(|cidr| cidr.contains(addr)) {
            return Err(TableError::Overlap {
                what: host(addr),
                new: new.clone(),
                other: *other,
                holder: label.into(),
            });
        }
    }
    Ok(())
}

/// Each address once, IPv4 mapped.
fn outer_addresses(addresses: &[IpAddr]) -> Vec<u128> {
    let mut all: Vec<u128> = addresses.iter().map(|&ip| from_ip(ip)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// An address as a network, for messages.
fn host(addr: u128) -> Cidr {
    let ip = to_ip(addr);
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    Cidr::containing(ip, bits).unwrap_or_else(|_| Cidr::default_route(ip.is_ipv6()))
}

/// Whether an address (IPv4 mapped) can be one interface's.
fn is_unicast(addr: u128) -> bool {
    let ip = to_ip(addr);
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}
