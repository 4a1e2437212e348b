//! What is different between two states, not yet in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_tables::Cidr;

use super::{Node, Peer, Route};

/// Before and after; one of the two may be missing.
#[derive(Debug)]
pub(super) struct Changed<T> {
    pub(super) old: Option<T>,
    pub(super) new: Option<T>,
}

#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) node: Option<Node>,
    pub(super) peers: BTreeMap<Arc<str>, Changed<Peer>>,
    pub(super) routes: BTreeMap<Cidr, Changed<Route>>,
}

impl Delta {
    /// Notes a peer, unless it is as it was.
    pub(super) fn peer(&mut self, name: &Arc<str>, old: Option<&Peer>, new: Option<&Peer>) {
        if old != new {
            let (old, new) = (old.cloned(), new.cloned());
            self.peers.insert(name.clone(), Changed { old, new });
        }
    }

    /// Notes a route, unless it is as it was.
    pub(super) fn route(&mut self, prefix: Cidr, old: Option<&Route>, new: Option<&Route>) {
        if old != new {
            let (old, new) = (old.cloned(), new.cloned());
            self.routes.insert(prefix, Changed { old, new });
        }
    }
}
