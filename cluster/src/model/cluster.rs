//! What all sources say, put together.
//!
//! A source tells of [`Change`]s; each is checked against the whole, entered, and answered with the [`Plan`]
//! that leads from the desired state before to the one after. What is looked at are the keys that the change
//! touches: one route among 100,000 costs what one among ten does. A change that contradicts something is
//! taken back and refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringway_packet::addr::to_ip;
use ringway_tables::Cidr;

use super::delta::Delta;
use super::{ClusterError, Node, Peer, Plan, Route, Source, State, Via, has_gateway};

/// Everything that a source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// This node, if the source decides that.
    pub node: Option<Node>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Routes, at most one to each prefix.
    pub routes: Vec<Route>,
}

/// News from a source. What it says of peers and routes is its own, whatever their `source` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This is all it says now: a file that was read, a list that was fetched anew.
    Replace(Contents),
    /// This node is another.
    SetNode(Node),
    /// A peer is new, or different.
    SetPeer(Peer),
    /// It does not know the peer any more.
    RemovePeer(Arc<str>),
    /// A route is new, or different.
    SetRoute(Route),
    /// It does not know the route any more.
    RemoveRoute(Cidr),
    /// Several at once, in force or refused together; each peer and each prefix at most once.
    Several(Vec<Change>),
}

/// The desired state and what led to it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    state: State,
    /// Routes that another source's goes before.
    shadowed: BTreeMap<(Cidr, Source), Route>,
    /// Outer addresses of peers, in order.
    addresses: BTreeSet<(IpAddr, Arc<str>)>,
    /// Prefix lengths in use, by family, and how often.
    lengths: BTreeMap<(bool, u8), usize>,
    /// Prefixes that lead to each peer.
    prefixes: BTreeMap<Arc<str>, BTreeSet<Cidr>>,
}

/// One entry as it shall be, or as it was.
enum Edit {
    Node(Node),
    Peer(Arc<str>, Option<Peer>),
    Route(Cidr, Source, Option<Route>),
}

impl Cluster {
    /// What there should be now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Prefixes that lead to a peer.
    pub fn prefixes_of(&self, peer: &str) -> impl Iterator<Item = Cidr> + '_ {
        self.prefixes.get(peer).into_iter().flatten().copied()
    }

    /// Enters a change and returns what is to be done.
    ///
    /// # Errors
    /// It contradicts itself or what is there. Nothing is changed then.
    pub fn update(&mut self, source: &Source, change: Change) -> Result<Plan, ClusterError> {
        self.update_if(source, change, |_, plan| Ok(plan))
    }

    /// The same, if whoever is to apply the plan agrees; `agree` gets the state that the plan leads to.
    ///
    /// # Errors
    /// It contradicts itself or what is there, or `agree` refuses. Nothing is changed then.
    pub fn update_if<T, E: From<ClusterError>>(
        &mut self,
        source: &Source,
        change: Change,
        agree: impl FnOnce(&State, Plan) -> Result<T, E>,
    ) -> Result<T, E> {
        let edits = self.edits(source, change)?;
        let mut delta = Delta::default();
        let (mut peers, mut prefixes) = (BTreeMap::new(), BTreeMap::new());
        for edit in &edits {
            match edit {
                Edit::Node(_) => {}
                Edit::Peer(name, _) => {
                    peers.insert(name.clone(), self.state.peers.get(name).cloned());
                }
                Edit::Route(prefix, ..) => {
                    prefixes.insert(*prefix, self.state.routes.get(prefix).cloned());
                }
            }
        }
        let node = self.state.node.clone();
        let mut undo: Vec<Edit> = edits.into_iter().map(|edit| self.put(edit)).collect();
        let checked = self.check(peers.keys(), prefixes.keys());
        let outcome = checked.map_err(E::from).and_then(|()| {
            delta.node = (node != self.state.node).then(|| self.state.node.clone());
            for (name, old) in &peers {
                delta.peer(name, old.as_ref(), self.state.peers.get(name));
            }
            for (prefix, old) in &prefixes {
                delta.route(*prefix, old.as_ref(), self.state.routes.get(prefix));
            }
            agree(&self.state, Plan::of(delta))
        });
        if outcome.is_err() {
            while let Some(edit) = undo.pop() {
                self.put(edit);
            }
        }
        outcome
    }

    fn edits(&self, source: &Source, change: Change) -> Result<Vec<Edit>, ClusterError> {
        let mut edits = Vec::new();
        match change {
            Change::SetNode(node) => edits.push(Edit::Node(node)),
            Change::SetPeer(peer) => edits.push(self.own_peer(source, peer)?),
            Change::RemovePeer(name) => {
                if self
                    .state
                    .peers
                    .get(&name)
                    .is_some_and(|p| p.source == *source)
                {
                    edits.push(Edit::Peer(name, None));
                }
            }
            Change::SetRoute(route) => edits.push(own_route(source, route)),
            Change::RemoveRoute(prefix) => edits.push(Edit::Route(prefix, source.clone(), None)),
            Change::Replace(contents) => self.replace(source, contents, &mut edits)?,
            Change::Several(changes) => {
                for change in changes {
                    edits.extend(self.edits(source, change)?);
                }
            }
        }
        Ok(edits)
    }

    /// What differs between all that a source has said and what it says now.
    fn replace(
        &self,
        source: &Source,
        contents: Contents,
        edits: &mut Vec<Edit>,
    ) -> Result<(), ClusterError> {
        edits.extend(contents.node.map(Edit::Node));
        let mut named = BTreeSet::new();
        for peer in contents.peers {
            if !named.insert(peer.name.clone()) {
                let (name, source_name) = (peer.name, source.clone());
                return Err(ClusterError::PeerTwice { name, source_name });
            }
            let edit = self.own_peer(source, peer)?;
            let same = |peer: &Peer| self.state.peers.get(&peer.name) == Some(peer);
            if !matches!(&edit, Edit::Peer(_, Some(peer)) if same(peer)) {
                edits.push(edit);
            }
        }
        let gone = self.state.peers.values();
        let gone = gone.filter(|p| p.source == *source && !named.contains(&p.name));
        edits.extend(gone.map(|p| Edit::Peer(p.name.clone(), None)));

        let mut routed: BTreeMap<Cidr, Via> = BTreeMap::new();
        for route in contents.routes {
            if let Some(one) = routed.insert(route.prefix, route.via.clone()) {
                return Err(ClusterError::RouteTwice {
                    prefix: route.prefix,
                    source_name: source.clone(),
                    one,
                    other: route.via,
                });
            }
            let edit = own_route(source, route);
            if !matches!(&edit, Edit::Route(_, _, Some(route)) if self.route_of(source, route.prefix) == Some(route))
            {
                edits.push(edit);
            }
        }
        let best = self.state.routes.values().filter(|r| r.source == *source);
        let shadowed = self.shadowed.values().filter(|r| r.source == *source);
        let gone = best
            .chain(shadowed)
            .filter(|r| !routed.contains_key(&r.prefix));
        edits.extend(gone.map(|r| Edit::Route(r.prefix, source.clone(), None)));
        Ok(())
    }

    fn own_peer(&self, source: &Source, mut peer: Peer) -> Result<Edit, ClusterError> {
        peer.source = source.clone();
        match self.state.peers.get(&peer.name) {
            Some(known) if known.source != *source => Err(ClusterError::PeerOfAnother {
                name: peer.name,
                new: source.clone(),
                owner: known.source.clone(),
            }),
            _ => Ok(Edit::Peer(peer.name.clone(), Some(peer))),
        }
    }

    /// A source's own route to a prefix, be it the best or not.
    fn route_of(&self, source: &Source, prefix: Cidr) -> Option<&Route> {
        let best = self.state.routes.get(&prefix);
        best.filter(|r| r.source == *source)
            .or_else(|| self.shadowed.get(&(prefix, source.clone())))
    }

    /// Enters one entry; what it was comes back.
    fn put(&mut self, edit: Edit) -> Edit {
        match edit {
            Edit::Node(node) => Edit::Node(std::mem::replace(&mut self.state.node, node)),
            Edit::Peer(name, peer) => {
                let old = self.put_peer(&name, peer);
                Edit::Peer(name, old)
            }
            Edit::Route(prefix, source, route) => {
                let old = self.put_route(prefix, &source, route);
                Edit::Route(prefix, source, old)
            }
        }
    }

    fn put_peer(&mut self, name: &Arc<str>, peer: Option<Peer>) -> Option<Peer> {
        for address in peer.iter().flat_map(|p| p.addresses.iter()) {
            self.addresses.insert((*address, name.clone()));
        }
        let old = match &peer {
            Some(peer) => self.state.peers.insert(name.clone(), peer.clone()),
            None => self.state.peers.remove(name),
        };
        let stays = |a: &IpAddr| peer.as_ref().is_some_and(|p| p.addresses.contains(a));
        for address in old
            .iter()
            .flat_map(|p| p.addresses.iter())
            .filter(|a| !stays(a))
        {
            self.addresses.remove(&(*address, name.clone()));
        }
        old
    }

    fn put_route(&mut self, prefix: Cidr, source: &Source, route: Option<Route>) -> Option<Route> {
        let was_best = self
            .state
            .routes
            .get(&prefix)
            .is_some_and(|r| r.source == *source);
        let old = match was_best {
            true => self.unset(prefix),
            false => self.shadowed.remove(&(prefix, source.clone())),
        };
        // The best of the others comes to light, and then maybe not for long.
        if was_best && let Some(next) = self.best_shadowed(prefix) {
            self.shadowed.remove(&(prefix, next.source.clone()));
            self.set(next);
        }
        if let Some(route) = route {
            match self.state.routes.get(&prefix) {
                Some(best) if !route.beats(best) => {
                    self.shadowed.insert((prefix, source.clone()), route);
                }
                Some(_) => {
                    if let Some(beaten) = self.unset(prefix) {
                        self.shadowed
                            .insert((prefix, beaten.source.clone()), beaten);
                    }
                    self.set(route);
                }
                None => self.set(route),
            }
        }
        old
    }

    fn best_shadowed(&self, prefix: Cidr) -> Option<Route> {
        let from = (prefix, Source::new(""));
        let same = self
            .shadowed
            .range(from..)
            .take_while(|((p, _), _)| *p == prefix);
        same.map(|(_, r)| r)
            .reduce(|a, b| if b.beats(a) { b } else { a })
            .cloned()
    }

    fn set(&mut self, route: Route) {
        let prefix = route.prefix;
        *self
            .lengths
            .entry((prefix.is_ipv6(), prefix.prefix_len()))
            .or_default() += 1;
        if let Via::Peer(name) = &route.via {
            self.prefixes
                .entry(name.clone())
                .or_default()
                .insert(prefix);
        }
        self.state.routes.insert(prefix, route);
    }

    fn unset(&mut self, prefix: Cidr) -> Option<Route> {
        let route = self.state.routes.remove(&prefix)?;
        let length = (prefix.is_ipv6(), prefix.prefix_len());
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        if let Via::Peer(name) = &route.via
            && let Some(prefixes) = self.prefixes.get_mut(name)
        {
            prefixes.remove(&prefix);
            if prefixes.is_empty() {
                self.prefixes.remove(name);
            }
        }
        Some(route)
    }

    /// Checks what a change has touched.
    fn check<'a>(
        &self,
        peers: impl Iterator<Item = &'a Arc<str>>,
        prefixes: impl Iterator<Item = &'a Cidr>,
    ) -> Result<(), ClusterError> {
        let State {
            node, peers: all, ..
        } = &self.state;
        if all.contains_key(&node.name) {
            let name = node.name.clone();
            return Err(ClusterError::PeerIsNode { name });
        }
        for v6 in [false, true] {
            if let Some(cidr) = node.main_cidr(v6).filter(|c| !has_gateway(*c)) {
                return Err(ClusterError::NoGateway { cidr });
            }
        }
        for name in peers {
            // A peer that went must not have left routes behind, nor one that changed without a path.
            for prefix in self.prefixes_of(name) {
                self.check_route(&self.state.routes[&prefix])?;
            }
            for address in self
                .state
                .peers
                .get(name)
                .iter()
                .flat_map(|p| p.addresses.iter())
            {
                self.check_address(*address, name)?;
            }
        }
        for route in prefixes.filter_map(|prefix| self.state.routes.get(prefix)) {
            self.check_route(route)?;
            let (first, last) = (route.prefix.network(), to_ip(route.prefix.last()));
            let inside = (first, Arc::from(""))..;
            if let Some((address, name)) = self.addresses.range(inside).next()
                && *address <= last
            {
                return Err(in_pods(*address, name, route));
            }
        }
        Ok(())
    }

    fn check_route(&self, route: &Route) -> Result<(), ClusterError> {
        let Via::Peer(name) = &route.via else {
            return Ok(());
        };
        let (prefix, peer) = (route.prefix, name.clone());
        match self.state.peers.get(name) {
            None => Err(ClusterError::NoPeer { prefix, peer }),
            Some(known) if known.path(prefix.is_ipv6()).is_none() => {
                Err(ClusterError::NoPath { prefix, peer })
            }
            Some(_) => Ok(()),
        }
    }

    fn check_address(&self, address: IpAddr, peer: &Arc<str>) -> Result<(), ClusterError> {
        let same = self.addresses.range((address, Arc::from(""))..);
        let same = same
            .take_while(|(a, _)| *a == address)
            .map(|(_, name)| name);
        if let Some(other) = same.into_iter().find(|name| *name != peer) {
            let (one, other) = (peer.clone(), other.clone());
            return Err(ClusterError::AddressTwice {
                address,
                one,
                other,
            });
        }
        for (v6, len) in self.lengths.keys().rev() {
            if *v6 == address.is_ipv6()
                && let Ok(prefix) = Cidr::containing(address, *len)
                && let Some(route) = self.state.routes.get(&prefix)
            {
                return Err(in_pods(address, peer, route));
            }
        }
        Ok(())
    }
}

fn own_route(source: &Source, mut route: Route) -> Edit {
    route.source = source.clone();
    Edit::Route(route.prefix, source.clone(), Some(route))
}

fn in_pods(address: IpAddr, peer: &Arc<str>, route: &Route) -> ClusterError {
    ClusterError::AddressInPods {
        address,
        peer: peer.clone(),
        prefix: route.prefix,
        via: route.via.clone(),
    }
}
