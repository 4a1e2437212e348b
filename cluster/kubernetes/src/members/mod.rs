//! From Node objects to the desired state.
//!
//! ```text
//! Node ─ claim.rs ─▶ claims: networks, outer addresses     (read once per version of a Node)
//!                      │
//!                      ▼
//!              index: who else claims what overlaps        (index.rs)
//!                      │ the earlier Node wins, on every node of the cluster alike
//!                      ▼
//!        said: peer and routes of each Node ── differs? ──▶ Change
//! ```
//!
//! A Node is written by many: its kubelet, a cloud's controllers, whoever may patch it. So each is looked at for
//! itself, and what is wrong with one costs no other its network. What a Node's change can touch are the Nodes whose
//! claims overlap its own; only they are looked at again, be there ten or ten thousand.
//!
//! One thing is decided here and not alike everywhere: nobody else's Node gets an address that this machine has, be it
//! older.

mod claim;
mod index;
mod problem;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringway_cluster::{Change, Contents, Node as OwnNode, Peer, Route, Source, Via};
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

use crate::slim::{Node, VERSION_KEY};
pub use problem::{Problem, ProblemKind};

use claim::{Claims, host};
use index::{Index, Rank};

/// Preference of what a cluster's API says: less than what somebody wrote into this node's own file (200).
const PREFERENCE: u32 = 150;

/// What every Node is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Name of this node.
    pub own: Arc<str>,
    /// VXLAN network identifier that everybody has.
    pub vni: u32,
    /// Networks of all pods: no pod network is outside of them. None: not known.
    pub networks: Vec<Cidr>,
    /// Addresses that are no pods': the API server's, this node's outer ones.
    pub reserved: Vec<IpAddr>,
}

/// All Nodes, and what is said of them.
#[derive(Clone, Debug)]
pub struct Members {
    rules: Rules,
    source: Source,
    vtep_default: fn(&[Cidr]) -> MacAddr,
    nodes: BTreeMap<Arc<str>, Member>,
    index: Index,
    /// Nodes to look at again.
    touched: BTreeSet<Arc<str>>,
    /// What is in force.
    said: BTreeMap<Arc<str>, Said>,
}

#[derive(Clone, Debug)]
struct Member {
    node: Node,
    claims: Claims,
}

/// What is said of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    own: Option<OwnNode>,
    peer: Option<Peer>,
    networks: BTreeSet<Cidr>,
    problems: Vec<Problem>,
}

/// Changes of one Node. Those of several may be applied together, and if that is refused, one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// Which one.
    pub name: Arc<str>,
    /// Whether it is this node.
    pub own: bool,
    /// What changes.
    pub changes: Vec<Change>,
    next: Option<Said>,
}

impl Members {
    /// Nobody. `vtep_default` is the VTEP MAC of a node with these networks that has never had another.
    pub fn new(source: Source, rules: Rules, vtep_default: fn(&[Cidr]) -> MacAddr) -> Self {
        Self {
            touched: [rules.own.clone()].into(),
            rules,
            source,
            vtep_default,
            nodes: BTreeMap::new(),
            index: Index::default(),
            said: BTreeMap::new(),
        }
    }

    /// A Node that is new, or different; whether anything of it matters.
    pub fn set(&mut self, node: Node) -> bool {
        if self
            .nodes
            .get(node.name.as_str())
            .is_some_and(|m| m.node == node)
        {
            return false;
        }
        let name: Arc<str> = node.name.as_str().into();
        self.forget(&name);
        let claims = Claims::of(&node, &self.rules);
        let rank = Rank::of(&node);
        for what in claims.all() {
            self.touched.extend(self.index.overlapping(what));
            self.index.insert(what, rank.clone());
        }
        self.touched.insert(name.clone());
        self.nodes.insert(name, Member { node, claims });
        true
    }

    /// A Node that is gone.
    pub fn remove(&mut self, name: &str) {
        self.forget(name);
        self.nodes.remove(name);
        self.touched.insert(name.into());
    }

    /// These are all there are.
    pub fn replace(&mut self, nodes: Vec<Node>) {
        let names: BTreeSet<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
        let gone = self.nodes.keys().filter(|name| !names.contains(&***name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.remove(&name);
        }
        for node in nodes {
            self.set(node);
        }
    }

    /// Other rules; whether they differ.
    pub fn set_rules(&mut self, rules: Rules) -> bool {
        if rules == self.rules {
            return false;
        }
        self.rules = rules;
        let nodes = std::mem::take(&mut self.nodes);
        self.index = Index::default();
        for member in nodes.into_values() {
            self.set(member.node);
        }
        true
    }

    /// What every Node is held against.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A Node by its name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(|member| &member.node)
    }

    /// All Nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|member| &member.node)
    }

    /// What differs from what is in force. Each has to be [done](Self::done) or is offered again.
    pub fn pending(&mut self) -> Vec<NodeChange> {
        let mut all = Vec::new();
        let mut settled = Vec::new();
        // A network that passes from one to another is set by its new holder and not removed by the old one.
        let mut taken: BTreeSet<Cidr> = BTreeSet::new();
        let mut next: BTreeMap<Arc<str>, Option<Said>> = BTreeMap::new();
        for name in &self.touched {
            let said = self.now(name);
            taken.extend(said.iter().flat_map(|s| s.networks.iter()));
            next.insert(name.clone(), said);
        }
        for (name, next) in next {
            let changes = self.difference(self.said.get(&name), next.as_ref(), &taken);
            if changes.is_empty() {
                settled.push((name, next));
                continue;
            }
            all.push(NodeChange {
                own: name == self.rules.own,
                name,
                changes,
                next,
            });
        }
        for (name, next) in settled {
            self.settle(name, next);
        }
        all
    }

    /// A change is in force.
    pub fn done(&mut self, change: NodeChange) {
        self.settle(change.name, change.next);
    }

    /// All that there is to say, from nothing.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        for (name, said) in self.all_now() {
            let via = match said.own {
                Some(_) => Via::Node,
                None => Via::Peer(name.clone()),
            };
            let routes = said
                .networks
                .iter()
                .map(|prefix| self.route(*prefix, via.clone()));
            contents.routes.extend(routes);
            contents.peers.extend(said.peer);
            contents.node = said.own.or(contents.node);
        }
        contents
    }

    /// All of it is in force, as [`contents`](Self::contents) says it.
    pub fn all_done(&mut self) {
        self.said = self.all_now().collect();
        self.touched.clear();
    }

    /// What of the Nodes is not followed, and why: by Node.
    pub fn problems(&self) -> impl Iterator<Item = (&Arc<str>, &Problem)> {
        let all = self.said.iter();
        all.flat_map(|(name, said)| said.problems.iter().map(move |problem| (name, problem)))
    }

    /// The same of one Node.
    pub fn problems_of(&self, name: &str) -> &[Problem] {
        self.said.get(name).map_or(&[], |said| &said.problems)
    }

    /// Whether an agent of Ringway runs there, or ran there last.
    pub fn has_agent(&self, name: &str) -> bool {
        let node = self.node(name);
        node.is_some_and(|node| node.annotations.contains_key(VERSION_KEY))
    }

    /// The two oldest Nodes with an agent, the older one first; this one has one.
    pub fn oldest_agents(&self) -> [Option<Arc<str>>; 2] {
        let own = &self.rules.own;
        let with = self.nodes.iter();
        let with = with.filter(|(name, _)| *name == own || self.has_agent(name));
        let mut all: Vec<_> = with.map(|(n, m)| (Rank::of(&m.node), n)).collect();
        all.sort();
        let mut names = all.into_iter().map(|(_, name)| name.clone());
        [names.next(), names.next()]
    }

    fn settle(&mut self, name: Arc<str>, next: Option<Said>) {
        self.touched.remove(&name);
        match next {
            Some(said) => self.said.insert(name, said),
            None => self.said.remove(&name),
        };
    }

    /// Takes a Node's claims out of the index.
    fn forget(&mut self, name: &str) {
        let Some(member) = self.nodes.get(name) else {
            return;
        };
        let rank = Rank::of(&member.node);
        for what in member.claims.all() {
            self.index.remove(what, &rank);
            self.touched.extend(self.index.overlapping(what));
        }
    }

    /// What there is to say of every Node; of this one always something.
    fn all_now(&self) -> impl Iterator<Item = (Arc<str>, Said)> {
        let others = self.nodes.keys().filter(|name| **name != self.rules.own);
        let all = others.chain([&self.rules.own]);
        all.filter_map(|name| Some((name.clone(), self.now(name)?)))
    }

    fn now(&self, name: &Arc<str>) -> Option<Said> {
        match self.nodes.get(name) {
            Some(member) => Some(self.judge(name, member)),
            None if *name == self.rules.own => Some(Said {
                own: Some(self.own_node(None)),
                problems: vec![Problem {
                    kind: ProblemKind::Waiting,
                    text: format!(
                        "there is no Node {name}, which this node should be; set kubernetes.node to its name"
                    ),
                }],
                ..Said::default()
            }),
            None => None,
        }
    }

    /// What of a Node's claims holds.
    fn judge(&self, name: &Arc<str>, member: &Member) -> Said {
        let rank = Rank::of(&member.node);
        let mut said = Said {
            problems: member.claims.problems.clone(),
            ..Said::default()
        };
        let mut holds = |what: Cidr, what_it_is: &str| match self.index.earlier(what, &rank) {
            None => true,
            Some((other, theirs)) => {
                said.problems.push(Problem {
                    kind: ProblemKind::Conflict,
                    text: format!(
                        "node {name}: its {what_it_is} overlaps {theirs} of node {other}, which is older and keeps \
                         it; give one of them another, or delete the Node that is not in use"
                    ),
                });
                false
            }
        };
        let networks: Vec<Cidr> = member.claims.networks.clone();
        let networks: Vec<Cidr> = networks
            .into_iter()
            .filter(|cidr| holds(*cidr, &format!("pod network {cidr}")))
            .collect();
        let addresses: Vec<IpAddr> = member.claims.addresses.clone();
        let addresses: Vec<IpAddr> = addresses
            .into_iter()
            .filter(|ip| holds(host(*ip), &format!("address {ip}")))
            .collect();
        if *name == self.rules.own {
            said.own = Some(self.own_node(Some((member, &networks))));
            said.networks = networks.into_iter().collect();
            return said;
        }
        let Some(paths) = &member.claims.paths else {
            return said;
        };
        if addresses.is_empty() {
            said.problems.push(Problem {
                kind: ProblemKind::Invalid,
                text: format!(
                    "node {name}: no outer address of its own is left, its pods cannot be reached"
                ),
            });
            return said;
        }
        let (v4, v6) = (paths[0].clone(), paths[1].clone());
        let routed = |cidr: &Cidr| {
            if cidr.is_ipv6() {
                v6.is_some()
            } else {
                v4.is_some()
            }
        };
        said.networks = networks.into_iter().filter(routed).collect();
        said.peer = Some(Peer {
            name: name.clone(),
            addresses: addresses.into(),
            v4,
            v6,
            source: self.source.clone(),
        });
        said
    }

    /// This node as the API has it; without an object it has no networks.
    fn own_node(&self, member: Option<(&Member, &[Cidr])>) -> OwnNode {
        let (claims, networks) = match member {
            Some((member, networks)) => (Some(&member.claims), networks),
            None => (None, [].as_slice()),
        };
        let default = (self.vtep_default)(networks);
        let of = |v6: bool| claims.and_then(|c| c.vteps[usize::from(v6)]);
        OwnNode {
            name: self.rules.own.clone(),
            cidrs: networks.into(),
            vtep_mac: of(false).unwrap_or(default),
            vtep_mac_v6: of(true).unwrap_or(default),
        }
    }

    fn route(&self, prefix: Cidr, via: Via) -> Route {
        Route {
            prefix,
            via,
            source: self.source.clone(),
            preference: PREFERENCE,
        }
    }

    fn difference(
        &self,
        old: Option<&Said>,
        new: Option<&Said>,
        taken: &BTreeSet<Cidr>,
    ) -> Vec<Change> {
        let (none, mut changes) = (Said::default(), Vec::new());
        let (was, is) = (old.unwrap_or(&none), new.unwrap_or(&none));
        if let Some(own) = &is.own
            && was.own.as_ref() != Some(own)
        {
            changes.push(Change::SetNode(own.clone()));
        }
        match (&was.peer, &is.peer) {
            (_, Some(peer)) if was.peer.as_ref() != Some(peer) => {
                changes.push(Change::SetPeer(peer.clone()));
            }
            (Some(peer), None) => changes.push(Change::RemovePeer(peer.name.clone())),
            _ => {}
        }
        let via = match (&is.own, &is.peer) {
            (Some(_), _) => Some(Via::Node),
            (None, peer) => peer.as_ref().map(|peer| Via::Peer(peer.name.clone())),
        };
        if let Some(via) = via {
            let new = is.networks.difference(&was.networks);
            changes.extend(new.map(|c| Change::SetRoute(self.route(*c, via.clone()))));
        }
        let gone = was.networks.difference(&is.networks);
        let gone = gone.filter(|cidr| !taken.contains(cidr));
        changes.extend(gone.map(|cidr| Change::RemoveRoute(*cidr)));
        changes
    }
}

#[cfg(test)]
mod tests;
