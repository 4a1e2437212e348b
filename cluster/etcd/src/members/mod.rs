//! From records to peers and routes. Pure.
//!
//! A node is known by its outer address: records with one `PublicIP` are one peer, of which the record that was
//! written last says how it is reached. Who created a record first keeps what two claim, on every node alike: etcd
//! numbers creations. What is wrong with one record costs no other its network.
//!
//! All records are looked at for each change: 5,000 take a few milliseconds, and a node's record changes when the
//! node starts, not when its lease is renewed.

mod claim;
mod record;
mod said;
mod taken;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_cluster::{Contents, Node, Peer, Route, Source, Via};
use ringway_packet::addr::from_ip;
use ringway_tables::Cidr;

use crate::layout::shown;
use claim::Claim;
pub(crate) use record::{Record, Records, Rules};
pub(crate) use said::{Said, one_by_one};
use taken::Taken;

/// Preference of what a cluster's database says: less than what somebody wrote into this node's own file (200).
const PREFERENCE: u32 = 150;
/// Lines of problems; a thousand hostile keys shall not fill the status.
const MOST_PROBLEMS: usize = 100;

/// What the records come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) node: Option<Node>,
    pub(crate) peers: BTreeMap<Arc<str>, Peer>,
    pub(crate) routes: BTreeMap<Cidr, Route>,
    /// One line each.
    pub(crate) problems: Vec<String>,
}

/// The name of this source.
pub(crate) fn source() -> Source {
    Source::new("etcd")
}

impl Members {
    /// Reads all records.
    pub(crate) fn of(records: &Records, rules: &Rules<'_>) -> Self {
        let mut members = Self {
            node: rules.node.cloned(),
            ..Self::default()
        };
        let mut taken = Taken::default();
        for cidr in rules.node.iter().flat_map(|node| node.cidrs.iter()) {
            taken.network(*cidr, "this node".into());
            members.route(*cidr, Via::Node);
        }
        let others = records.iter().filter(|(key, _)| rules.own != Some(key));
        let mut order: Vec<(&String, &Record)> = others.collect();
        order.sort_by_key(|(key, record)| (record.created, *key));
        // When the record that says how a peer is reached was written.
        let mut written: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for (key, record) in order {
            let claim = Claim::of(key, record, rules);
            for problem in &claim.problems {
                members.problem(key, problem);
            }
            let Some(name) = members.enter(key, &claim, &mut taken) else {
                continue;
            };
            let before = written.get(&name).copied().unwrap_or(i64::MIN);
            if let Some(peer) = members.peers.get_mut(&name)
                && before <= record.modified
            {
                [peer.v4, peer.v6] = claim.paths.clone();
                written.insert(name, record.modified);
            }
        }
        // The record written last may have no path for a family of another.
        let peers = &members.peers;
        members.routes.retain(|prefix, route| match &route.via {
            Via::Node => true,
            Via::Peer(name) => peers[name].path(prefix.is_ipv6()).is_some(),
        });
        if members.problems.len() > MOST_PROBLEMS {
            let more = members.problems.len() - MOST_PROBLEMS;
            members.problems.truncate(MOST_PROBLEMS);
            members.problems.push(format!("and {more} more"));
        }
        members
    }

    /// The same, as a source says it.
    pub(crate) fn contents(self) -> Contents {
        Contents {
            node: self.node,
            peers: self.peers.into_values().collect(),
            routes: self.routes.into_values().collect(),
        }
    }

    /// Enters what nobody has claimed before; the name of the peer, if anything is left of it.
    fn enter(&mut self, key: &str, claim: &Claim, taken: &mut Taken) -> Option<Arc<str>> {
        let (name, addresses) = self.addresses(key, claim, taken)?;
        let mut networks = Vec::new();
        for cidr in &claim.networks {
            let own = addresses.iter().find(|a| cidr.contains(from_ip(**a)));
            if claim.paths[usize::from(cidr.is_ipv6())].is_none() {
                continue;
            } else if let Some((other, whose)) = taken.overlapping(*cidr) {
                self.problem(
                    key,
                    &format!("{cidr} overlaps {other} of {whose}, which was there before"),
                );
            } else if let Some(address) = taken.inside(*cidr).or(own.copied()) {
                self.problem(
                    key,
                    &format!("{cidr} is refused: {address}, an address of a node, is in it"),
                );
            } else {
                networks.push(*cidr);
            }
        }
        if networks.is_empty() {
            return None;
        }
        for cidr in networks {
            taken.network(cidr, format!("node {name}").into());
            self.route(cidr, Via::Peer(name.clone()));
        }
        let peer = self.peers.entry(name.clone()).or_insert_with(|| Peer {
            name: name.clone(),
            addresses: Arc::from([]),
            v4: None,
            v6: None,
            source: source(),
        });
        let mut all = peer.addresses.to_vec();
        all.extend(addresses.iter().filter(|a| !peer.addresses.contains(a)));
        taken
            .addresses
            .extend(all.iter().map(|a| (*a, name.clone())));
        peer.addresses = all.into();
        Some(name)
    }

    /// Who it is, and its addresses that are nobody else's.
    fn addresses(
        &mut self,
        key: &str,
        claim: &Claim,
        taken: &Taken,
    ) -> Option<(Arc<str>, Vec<IpAddr>)> {
        let mut name: Option<Arc<str>> = None;
        let mut addresses = Vec::new();
        for address in &claim.addresses {
            let whose = taken.addresses.get(address);
            if let Some((cidr, whose)) = taken.around(*address) {
                self.problem(
                    key,
                    &format!("its address {address} is in {cidr} of {whose}"),
                );
                continue;
            }
            match (&name, whose) {
                (Some(own), Some(other)) if own != other => {
                    self.problem(
                        key,
                        &format!("its address {address} is node {other}'s already"),
                    );
                    continue;
                }
                // The first address says who it is.
                (None, Some(same)) => name = Some(same.clone()),
                (None, None) => name = Some(address.to_string().into()),
                _ => {}
            }
            addresses.push(*address);
        }
        Some((name?, addresses))
    }

    fn route(&mut self, prefix: Cidr, via: Via) {
        let route = Route {
            prefix,
            via,
            source: source(),
            preference: PREFERENCE,
        };
        self.routes.insert(prefix, route);
    }

    fn problem(&mut self, key: &str, what: &str) {
        self.problems
            .push(format!("subnets/{}: {what}", shown(key)));
    }
}

impl From<Members> for Said {
    fn from(members: Members) -> Self {
        Self {
            node: members.node,
            peers: members.peers,
            routes: members.routes,
        }
    }
}
