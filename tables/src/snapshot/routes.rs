//! Routes to peers that come, move and go while the peers stay.

use std::collections::{BTreeMap, HashSet};

use super::Snapshot;
use crate::{Cidr, PeerId, TableError, Target};

/// A route as it shall be.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct RouteChange {
    /// Destination.
    pub prefix: Cidr,
    /// The peer it leads to; none: there is no such route to a peer any more.
    pub peer: Option<PeerId>,
}

impl Snapshot {
    /// Changes routes to peers, in order. A prefix that leads to another peer is moved in place. One that
    /// leads nowhere else (the node's own CIDR, a pod) is refused, and nothing is changed then.
    pub fn change_routes(&mut self, changes: &[RouteChange]) -> Result<(), TableError> {
        for change in changes {
            self.check_change(change)?;
        }
        // Each peer's list is written once, however many of its routes change.
        let mut lists: BTreeMap<PeerId, (Vec<Cidr>, HashSet<Cidr>)> = BTreeMap::new();
        for RouteChange { prefix, peer } in changes {
            let before = match self.exact(*prefix) {
                Some(Target::Path(path)) => self.path(path).map(|path| path.peer),
                _ => None,
            };
            if before == *peer {
                continue;
            }
            if let Some(before) = before {
                let (added, removed) = lists.entry(before).or_default();
                added.retain(|cidr| cidr != prefix);
                removed.insert(*prefix);
            }
            let path = peer.and_then(|peer| Some((peer, self.path_of(peer, prefix.is_ipv6())?)));
            match path {
                Some((peer, path)) => {
                    self.set_cidr(*prefix, Target::Path(path));
                    lists.entry(peer).or_default().0.push(*prefix);
                }
                None => {
                    self.remove_route(prefix.first(), prefix.prefix_len(), prefix.is_ipv6());
                }
            }
        }
        for (id, (added, removed)) in lists {
            if let Some(peer) = self.peer(id) {
                let mut peer = peer.clone();
                let stays = peer.cidrs.iter().filter(|cidr| !removed.contains(cidr));
                peer.cidrs = stays.copied().chain(added).collect();
                self.peers.set(id.0, peer);
            }
        }
        Ok(())
    }

    fn check_change(&self, change: &RouteChange) -> Result<(), TableError> {
        let RouteChange { prefix, peer } = *change;
        let Some(id) = peer else { return Ok(()) };
        let entry = self.peer(id).ok_or(TableError::NoPeer { id })?;
        if self.path_of(id, prefix.is_ipv6()).is_none() {
            return Err(TableError::NoPath {
                name: entry.name.clone(),
                cidr: prefix,
            });
        }
        // It may come from any peer.
        let from = match self.exact(prefix) {
            Some(Target::Path(path)) => self.path(path).map(|path| path.peer),
            _ => None,
        };
        let label = format!("peer {}", entry.name);
        self.check_prefixes(from.or(Some(id)), &[prefix], &entry.name, &label)
    }
}
