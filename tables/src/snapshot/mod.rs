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
//! | peer     |      | its CIDRs → path of that family | | each underlay address → peer |

mod node;
mod peers;
mod ports;

use std::net::IpAddr;
use std::sync::Arc;

use ringway_packet::addr::{to_ip, unmap};
use ringway_packet::mac::MacAddr;

use crate::claims::{Claim, Claims, Owner};
use crate::{
    Chunked, Cidr, Lpm, NodeInfo, Path, PathId, Peer, PeerId, Port, PortId, ShardMap, TableError,
    Target,
};

/// MAC → port; keys are [`MacAddr::to_u64`].
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
    claims: Claims,
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
        self.macs.get(mac.to_u64())
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
            Owner::NodeCidr | Owner::NodeAddress => format!("node {}", self.node.name),
            Owner::PeerCidr(id) | Owner::PeerAddress(id) => self.peer_label(id),
        }
    }

    /// Checks ranges of one node against each other and against all that is claimed. Equal
    /// addresses of one node are tolerated; `label` says whose the ranges are.
    fn check_claims(
        &self,
        claims: &[Claim],
        new: &Arc<str>,
        label: &str,
    ) -> Result<(), TableError> {
        let overlap = |ours: &Claim, theirs: &Claim, holder: String| TableError::Overlap {
            what: range(ours),
            new: new.clone(),
            other: range(theirs),
            holder,
        };
        for (i, claim) in claims.iter().enumerate() {
            if let Some(other) = claims[..i].iter().find(|other| other.overlaps(claim)) {
                return Err(overlap(claim, other, label.into()));
            }
            if let Some(other) = self.claims.overlapping(claim) {
                return Err(overlap(claim, &other, self.owner_label(other.owner)));
            }
        }
        Ok(())
    }
}

/// A claim as a network, for messages.
fn range(claim: &Claim) -> Cidr {
    let network = to_ip(claim.first);
    let host_bits = 128 - (claim.last ^ claim.first).leading_zeros() as u8;
    let bits = if network.is_ipv4() { 32 } else { 128 };
    let len = bits - host_bits.min(bits);
    Cidr::containing(network, len).unwrap_or_else(|_| Cidr::default_route(network.is_ipv6()))
}

/// Whether an address (IPv4 mapped) can be one interface's.
fn is_unicast(addr: u128) -> bool {
    let ip = to_ip(addr);
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}
