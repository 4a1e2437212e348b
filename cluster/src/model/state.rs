//! The desired state at one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_tables::Cidr;

use super::{EncapKind, Node, Peer, Route, Step, Via};

/// What there should be. Two states are compared with [`diff`](super::diff).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// This node.
    pub node: Node,
    /// Peers by name.
    pub peers: BTreeMap<Arc<str>, Peer>,
    /// The best route to each prefix.
    pub routes: BTreeMap<Cidr, Route>,
}

impl State {
    /// The route that an address takes: the longest prefix that contains it. Looks at every length there
    /// can be; for packets there are tables.
    pub fn route(&self, address: IpAddr) -> Option<&Route> {
        let bits = if address.is_ipv6() { 128 } else { 32 };
        (0..=bits)
            .rev()
            .find_map(|len| self.routes.get(&Cidr::containing(address, len).ok()?))
    }

    /// Where an address is, if a packet can get there: at this node, or at a peer that has an address.
    pub fn reaches(&self, address: IpAddr) -> Option<&Via> {
        let via = &self.route(address)?.via;
        let there = match via {
            Via::Node => true,
            Via::Peer(name) => self
                .peers
                .get(name)
                .is_some_and(|p| !p.addresses.is_empty()),
        };
        there.then_some(via)
    }

    /// Encapsulations in use: `default` first, then what peers ask for.
    pub fn encaps(&self, default: EncapKind) -> Vec<EncapKind> {
        let mut kinds = vec![default];
        let paths = self.peers.values().flat_map(|peer| [&peer.v4, &peer.v6]);
        for path in paths.flatten() {
            if !kinds.contains(&path.encap) {
                kinds.push(path.encap);
            }
        }
        kinds
    }

    /// Does one step of a plan.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::SetNode(node) => self.node = node.clone(),
            Step::SetPeer(peer) => {
                self.peers.insert(peer.name.clone(), peer.clone());
            }
            Step::SetRoute(route) => {
                self.routes.insert(route.prefix, route.clone());
            }
            Step::RemoveRoute(prefix) => {
                self.routes.remove(prefix);
            }
            Step::RemovePeer(name) => {
                self.peers.remove(name);
            }
        }
    }
}
