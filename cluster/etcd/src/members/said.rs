//! What is in force of what this source says, and what is to be said next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_cluster::{Change, Contents, Node, Peer, Route, Via};
use ringway_tables::Cidr;

/// What was said and taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(super) node: Option<Node>,
    pub(super) peers: BTreeMap<Arc<str>, Peer>,
    pub(super) routes: BTreeMap<Cidr, Route>,
}

impl Said {
    /// All of it.
    pub(crate) fn contents(&self) -> Contents {
        Contents {
            node: self.node.clone(),
            peers: self.peers.values().cloned().collect(),
            routes: self.routes.values().cloned().collect(),
        }
    }

    /// What leads from this to `wanted`: each peer and each prefix at most once.
    pub(crate) fn changes(&self, wanted: &Said) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(node) = wanted.node.as_ref().filter(|_| wanted.node != self.node) {
            changes.push(Change::SetNode(node.clone()));
        }
        for (name, peer) in &wanted.peers {
            if self.peers.get(name) != Some(peer) {
                changes.push(Change::SetPeer(peer.clone()));
            }
        }
        for (prefix, route) in &wanted.routes {
            if self.routes.get(prefix) != Some(route) {
                changes.push(Change::SetRoute(route.clone()));
            }
        }
        let gone = |prefix: &&Cidr| !wanted.routes.contains_key(prefix);
        let gone = self.routes.keys().filter(gone);
        changes.extend(gone.map(|prefix| Change::RemoveRoute(*prefix)));
        let gone = |name: &&Arc<str>| !wanted.peers.contains_key(*name);
        let gone = self.peers.keys().filter(gone);
        changes.extend(gone.map(|name| Change::RemovePeer(name.clone())));
        changes
    }

    /// Enters a change that is in force.
    pub(crate) fn enter(&mut self, change: &Change) {
        match change {
            Change::Several(all) => all.iter().for_each(|change| self.enter(change)),
            Change::SetNode(node) => self.node = Some(node.clone()),
            Change::SetPeer(peer) => {
                self.peers.insert(peer.name.clone(), peer.clone());
            }
            Change::RemovePeer(name) => {
                self.peers.remove(name);
            }
            Change::SetRoute(route) => {
                self.routes.insert(route.prefix, route.clone());
            }
            Change::RemoveRoute(prefix) => {
                self.routes.remove(prefix);
            }
            Change::Replace(contents) => {
                let Contents {
                    node,
                    peers,
                    routes,
                } = contents.clone();
                self.node = node.or(self.node.take());
                self.peers = peers.into_iter().map(|p| (p.name.clone(), p)).collect();
                self.routes = routes.into_iter().map(|r| (r.prefix, r)).collect();
            }
        }
    }
}

/// The same changes in parts that can be refused for themselves, and who each is of: first this node with its
/// networks, then peers that are gone, so that others can take what they had, then each other peer.
pub(crate) fn one_by_one(changes: Vec<Change>, said: &Said) -> Vec<(String, Change)> {
    let mut gone: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut set: BTreeMap<Cidr, Via> = BTreeMap::new();
    for change in &changes {
        match change {
            Change::RemovePeer(name) => drop(gone.insert(name.clone())),
            Change::SetRoute(route) => drop(set.insert(route.prefix, route.via.clone())),
            _ => {}
        }
    }
    let part_of = |via: Option<&Via>| match via {
        Some(Via::Peer(name)) => (
            if gone.contains(name) { 1 } else { 2 },
            format!("node {name}"),
        ),
        _ => (0, "this node".to_owned()),
    };
    let mut parts: BTreeMap<(u8, String), Vec<Change>> = BTreeMap::new();
    for change in changes {
        let part = match &change {
            Change::SetPeer(Peer { name, .. }) | Change::RemovePeer(name) => {
                let via = Via::Peer(name.clone());
                let part = part_of(Some(&via));
                // Networks that become another's. Were they left until that one takes them, each of two could
                // wait for what the other has.
                let its = said.routes.values().filter(|r| r.via == via);
                let moved = |r: &&Route| set.get(&r.prefix).is_some_and(|to| *to != via);
                let moved = its.filter(moved).map(|r| Change::RemoveRoute(r.prefix));
                parts.entry(part.clone()).or_default().extend(moved);
                part
            }
            Change::SetRoute(route) => part_of(Some(&route.via)),
            Change::RemoveRoute(prefix) => part_of(said.routes.get(prefix).map(|r| &r.via)),
            _ => part_of(None),
        };
        parts.entry(part).or_default().push(change);
    }
    let several = |((_, who), changes)| (who, Change::Several(changes));
    parts.into_iter().map(several).collect()
}
