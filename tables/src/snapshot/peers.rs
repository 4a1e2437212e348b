//! Adding, changing and removing peer nodes.

use ringway_packet::addr::{from_ip, to_ip};

use super::{Snapshot, is_unicast};
use crate::claims::{Claim, Owner};
use crate::{Path, PathId, Peer, PeerId, PeerPaths, PortId, TableError, Target};

impl Snapshot {
    /// The peer of this name.
    pub fn peer_named(&self, name: &str) -> Option<PeerId> {
        let mut peers = self.peers.iter();
        peers
            .find(|(_, peer)| &*peer.name == name)
            .map(|(id, _)| PeerId(id))
    }

    /// Adds a peer under the lowest free number. Its paths get the numbers [`PeerId::path4`] and
    /// [`PeerId::path6`] and lead to it, whatever their `peer` field said.
    pub fn add_peer(&mut self, peer: Peer, paths: PeerPaths) -> Result<PeerId, TableError> {
        if let Some(id) = self.peer_named(&peer.name) {
            return Err(TableError::DuplicatePeer {
                name: peer.name,
                id,
            });
        }
        let id = PeerId(self.peers.lowest_free(0));
        self.insert_peer(id, peer, paths)?;
        Ok(id)
    }

    /// Replaces a peer and its paths; it keeps its number. On error the old one stays.
    pub fn replace_peer(
        &mut self,
        id: PeerId,
        peer: Peer,
        paths: PeerPaths,
    ) -> Result<(), TableError> {
        let mut next = self.clone();
        next.remove_peer(id).ok_or(TableError::NoPeer { id })?;
        if let Some(id) = next.peer_named(&peer.name) {
            return Err(TableError::DuplicatePeer {
                name: peer.name,
                id,
            });
        }
        next.insert_peer(id, peer, paths)?;
        *self = next;
        Ok(())
    }

    /// Replaces one path of a peer, for example when its MTU was learnt. Returns whether that
    /// path existed; only existing ones are replaced.
    pub fn replace_path(&mut self, id: PathId, path: Path) -> bool {
        let Some(old) = self.path(id) else {
            return false;
        };
        let path = Path {
            peer: old.peer,
            ..path
        };
        self.paths.set(id.0, path);
        true
    }

    /// Removes a peer with all that led to it and returns it.
    pub fn remove_peer(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.peers.remove(id.0)?;
        for claim in peer_claims(id, &peer) {
            self.claims.remove(&claim);
        }
        for &address in peer.addresses.iter() {
            self.sources.remove(from_ip(address));
        }
        for cidr in peer.cidrs.iter() {
            self.remove_route(cidr.first(), cidr.prefix_len(), cidr.is_ipv6());
        }
        self.paths.remove(id.path4().0);
        self.paths.remove(id.path6().0);
        Some(peer)
    }

    fn insert_peer(&mut self, id: PeerId, peer: Peer, paths: PeerPaths) -> Result<(), TableError> {
        self.check_peer(id, &peer, &paths)?;
        for claim in peer_claims(id, &peer) {
            self.claims.insert(claim);
        }
        for &address in peer.addresses.iter() {
            self.sources.insert(from_ip(address), id);
        }
        for cidr in peer.cidrs.iter() {
            let path = if cidr.is_ipv6() {
                id.path6()
            } else {
                id.path4()
            };
            self.set_route(
                cidr.first(),
                cidr.prefix_len(),
                cidr.is_ipv6(),
                Target::Path(path),
            );
        }
        for (number, path) in [(id.path4(), paths.v4), (id.path6(), paths.v6)] {
            if let Some(path) = path {
                self.paths.set(number.0, Path { peer: id, ..path });
            }
        }
        self.peers.set(id.0, peer);
        Ok(())
    }

    fn check_peer(&self, id: PeerId, peer: &Peer, paths: &PeerPaths) -> Result<(), TableError> {
        for &cidr in peer.cidrs.iter() {
            let path = if cidr.is_ipv6() { &paths.v6 } else { &paths.v4 };
            if path.is_none() {
                return Err(TableError::NoPath {
                    name: peer.name.clone(),
                    cidr,
                });
            }
        }
        for &address in peer.addresses.iter() {
            let addr = from_ip(address);
            // to_ip undoes from_ip but for IPv4 in IPv6 clothes.
            if !is_unicast(addr) || to_ip(addr) != address {
                return Err(TableError::InvalidAddress {
                    address,
                    new: peer.name.clone(),
                });
            }
        }
        let claims = peer_claims(id, peer);
        self.check_claims(&claims, &peer.name, &format!("peer {}", peer.name))?;
        for (port, entry) in self.ports.iter() {
            for addr in entry.addresses() {
                let pod = Claim::address(addr, Owner::NodeCidr);
                if claims.iter().any(|claim| claim.overlaps(&pod)) {
                    let holder = self.port_label(PortId(port));
                    let (address, new) = (to_ip(addr), peer.name.clone());
                    return Err(TableError::DuplicateAddress {
                        address,
                        new,
                        holder,
                    });
                }
            }
        }
        Ok(())
    }
}

fn peer_claims(id: PeerId, peer: &Peer) -> Vec<Claim> {
    let cidrs = peer
        .cidrs
        .iter()
        .map(|&cidr| Claim::cidr(cidr, Owner::PeerCidr(id)));
    let mut addresses: Vec<u128> = peer.addresses.iter().map(|&ip| from_ip(ip)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let addresses = addresses
        .into_iter()
        .map(|addr| Claim::address(addr, Owner::PeerAddress(id)));
    cidrs.chain(addresses).collect()
}
