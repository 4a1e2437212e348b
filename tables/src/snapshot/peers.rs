//! Adding, changing and removing peer nodes.

use std::sync::Arc;

use ringway_packet::addr::{from_ip, to_ip};

use super::{Snapshot, is_unicast, outer_addresses, own_address_inside};
use crate::claims::{Claim, Owner};
use crate::{MAX_PEERS, Path, PathId, Peer, PeerId, PeerPaths, TableError, Target};

impl Snapshot {
    /// The peer of this name.
    pub fn peer_named(&self, name: &str) -> Option<PeerId> {
        self.names.get(name).copied()
    }

    /// Adds a peer under the lowest free number. Its paths lead to it, whatever their `peer` field said.
    pub fn add_peer(&mut self, peer: Peer, paths: PeerPaths) -> Result<PeerId, TableError> {
        self.check_name(None, &peer)?;
        let id = PeerId(self.peers.lowest_free(0));
        if id.0 >= MAX_PEERS {
            return Err(TableError::TooManyPeers {
                name: peer.name,
                limit: MAX_PEERS,
            });
        }
        self.check_peer(id, &peer, &paths)?;
        self.insert_peer(id, peer, paths);
        Ok(id)
    }

    /// Replaces a peer and its paths; it keeps its number, and a path of the same family its own. On error
    /// the old one stays.
    pub fn replace_peer(
        &mut self,
        id: PeerId,
        peer: Peer,
        paths: PeerPaths,
    ) -> Result<(), TableError> {
        let old = self.peer(id).cloned().ok_or(TableError::NoPeer { id })?;
        self.check_name(Some(id), &peer)?;
        self.check_peer(id, &peer, &paths)?;
        self.clear_addresses(id, &old);
        if old.name != peer.name {
            Arc::make_mut(&mut self.names).remove(&old.name);
        }
        let stays: std::collections::HashSet<_> = peer.cidrs.iter().collect();
        for cidr in old.cidrs.iter().filter(|cidr| !stays.contains(cidr)) {
            self.remove_route(cidr.first(), cidr.prefix_len(), cidr.is_ipv6());
        }
        self.insert_peer(id, peer, paths);
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
        self.clear_addresses(id, &peer);
        Arc::make_mut(&mut self.names).remove(&peer.name);
        for cidr in peer.cidrs.iter() {
            self.remove_route(cidr.first(), cidr.prefix_len(), cidr.is_ipv6());
        }
        for path in self.peer_paths.remove(id.0).into_iter().flatten().flatten() {
            self.paths.remove(path.0);
        }
        Some(peer)
    }

    fn clear_addresses(&mut self, id: PeerId, peer: &Peer) {
        for addr in outer_addresses(&peer.addresses) {
            self.outer.remove(&Claim::address(addr, Owner::Peer(id)));
            self.sources.remove(addr);
        }
    }

    /// Enters what was checked, over what a peer of this number left: its paths, and routes that stay.
    fn insert_peer(&mut self, id: PeerId, peer: Peer, paths: PeerPaths) {
        for addr in outer_addresses(&peer.addresses) {
            self.outer.insert(Claim::address(addr, Owner::Peer(id)));
            self.sources.insert(addr, id);
        }
        if self.names.get(&peer.name) != Some(&id) {
            Arc::make_mut(&mut self.names).insert(peer.name.clone(), id);
        }
        let mut numbers = self.peer_paths.get(id.0).copied().unwrap_or_default();
        for (number, path) in numbers.iter_mut().zip([paths.v4, paths.v6]) {
            match (path, *number) {
                (Some(path), known) => {
                    let at = known.unwrap_or(PathId(self.paths.lowest_free(0)));
                    self.paths.set(at.0, Path { peer: id, ..path });
                    *number = Some(at);
                }
                (None, Some(gone)) => {
                    self.paths.remove(gone.0);
                    *number = None;
                }
                (None, None) => {}
            }
        }
        self.peer_paths.set(id.0, numbers);
        for cidr in peer.cidrs.iter() {
            if let Some(path) = numbers[usize::from(cidr.is_ipv6())]
                && self.exact(*cidr) != Some(Target::Path(path))
            {
                self.set_cidr(*cidr, Target::Path(path));
            }
        }
        self.peers.set(id.0, peer);
    }

    fn check_name(&self, own: Option<PeerId>, peer: &Peer) -> Result<(), TableError> {
        match self.peer_named(&peer.name) {
            Some(id) if Some(id) != own => Err(TableError::DuplicatePeer {
                name: peer.name.clone(),
                id,
            }),
            _ => Ok(()),
        }
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
        let label = format!("peer {}", peer.name);
        own_address_inside(&peer.addresses, &peer.cidrs, &peer.name, &label)?;
        self.check_addresses(Some(id), &peer.addresses, &peer.name)?;
        self.check_prefixes(Some(id), &peer.cidrs, &peer.name, &label)
    }
}
