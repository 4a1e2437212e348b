//! The way from one state to the next, in steps that can be taken one after the other.
//!
//! ```text
//! addresses that pass to another peer are let go ─ node, peers ─ routes, longest first
//!                                                  ─ routes that go, shortest first ─ peers and paths that go
//! ```
//!
//! **Each address goes where it went before or where it will go, at every step.** A prefix that stays is
//! replaced in place. What is longer is there before what covers it changes or goes, and a route that goes
//! uncovers only what stays: of the removals that contain an address the longest comes last, and until then
//! that one decides. A route's peer is there before it and until after it.
//!
//! Only an outer address cannot belong to two peers at once. Where one passes from peer to peer, its old
//! holder lets go of it first; whoever applies the plan as a whole, as the tables do, shows nobody that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringway_tables::Cidr;

use super::delta::Delta;
use super::{Node, Peer, Route};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This node is another.
    SetNode(Node),
    /// Adds a peer, or puts it in the place of that of the same name.
    SetPeer(Peer),
    /// Adds a route, or puts it in the place of that to the same prefix.
    SetRoute(Route),
    /// Takes a route away.
    RemoveRoute(Cidr),
    /// Takes a peer away, to which no route leads any more.
    RemovePeer(Arc<str>),
}

/// Steps, in the order in which they are to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Puts changes in order.
    pub(super) fn of(delta: Delta) -> Plan {
        let mut steps = hand_over(&delta);
        steps.extend(delta.node.map(Step::SetNode));
        let mut gone = Vec::new();
        for (name, change) in delta.peers {
            match change.new {
                Some(peer) => {
                    let merged = change.old.and_then(|old| with_paths_of(&peer, old));
                    if let Some(merged) = merged {
                        steps.push(Step::SetPeer(merged));
                        gone.push(Step::SetPeer(peer));
                    } else {
                        steps.push(Step::SetPeer(peer));
                    }
                }
                None => gone.push(Step::RemovePeer(name)),
            }
        }
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for (prefix, change) in delta.routes {
            match change.new {
                Some(route) => set.push(route),
                None => removed.push(prefix),
            }
        }
        // Both sorts are stable: equal lengths stay in the order of their addresses.
        set.sort_by_key(|route| std::cmp::Reverse(route.prefix.prefix_len()));
        removed.sort_by_key(|prefix| prefix.prefix_len());
        steps.extend(set.into_iter().map(Step::SetRoute));
        steps.extend(removed.into_iter().map(Step::RemoveRoute));
        steps.append(&mut gone);
        Plan { steps }
    }
}

/// The peer with a path that it is to lose, for the routes that still take it; none if it loses none.
fn with_paths_of(peer: &Peer, old: Peer) -> Option<Peer> {
    let loses = (old.v4.is_some() && peer.v4.is_none()) || (old.v6.is_some() && peer.v6.is_none());
    loses.then(|| Peer {
        v4: peer.v4.clone().or(old.v4),
        v6: peer.v6.clone().or(old.v6),
        ..peer.clone()
    })
}

/// Has peers let go of the outer addresses that others get.
fn hand_over(delta: &Delta) -> Vec<Step> {
    let mut taken: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (name, change) in &delta.peers {
        let had: BTreeSet<&IpAddr> = change.old.iter().flat_map(|p| p.addresses.iter()).collect();
        let new = change.new.iter().flat_map(|p| p.addresses.iter());
        taken.extend(new.filter(|a| !had.contains(a)).map(|a| (*a, &**name)));
    }
    let mut steps = Vec::new();
    for change in delta.peers.values() {
        let Some(old) = &change.old else { continue };
        let keeps = |a: &&IpAddr| !taken.contains_key(a);
        let kept: Vec<IpAddr> = old.addresses.iter().filter(keeps).copied().collect();
        if kept.len() < old.addresses.len() {
            steps.push(Step::SetPeer(Peer {
                addresses: kept.into(),
                ..old.clone()
            }));
        }
    }
    steps
}
