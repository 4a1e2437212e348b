//! Pod networks of all nodes against each other.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ringway_tables::Cidr;

use super::validate::Located;
use super::{Config, Peer, Problem};

/// Networks may lie in one another, for the longest decides; what is the same is one node's only.
pub(super) fn overlaps(config: &Config) -> Located<()> {
    let mut owners: HashMap<Cidr, &str> = HashMap::new();
    let own = config.node.pod_cidrs.iter().enumerate();
    for (i, c) in own {
        if let Some(owner) = owners.insert(*c, "this node") {
            return Err((format!("node.pod_cidrs[{i}]"), overlap(*c, owner)));
        }
    }
    for (i, peer) in config.peers.iter().enumerate() {
        for (j, c) in peer.pod_cidrs.iter().enumerate() {
            if let Some(owner) = owners.insert(*c, &peer.name) {
                return Err((format!("peers[{i}].pod_cidrs[{j}]"), overlap(*c, owner)));
            }
        }
    }
    Ok(())
}

fn overlap(value: Cidr, owner: &str) -> Problem {
    let (value, owner) = (value.to_string(), owner.to_owned());
    Problem::Overlap { value, owner }
}

/// Pod networks by length, so that thousands of addresses are looked up in thousands of networks.
pub(super) struct Networks<'a> {
    owners: HashMap<Cidr, &'a str>,
    lengths: BTreeSet<(bool, u8)>,
}

impl<'a> Networks<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let own = config.node.pod_cidrs.iter().map(|c| (*c, "this node"));
        let of_peer = |p: &'a Peer| p.pod_cidrs.iter().map(|c| (*c, p.name.as_str()));
        let owners: HashMap<Cidr, &str> =
            own.chain(config.peers.iter().flat_map(of_peer)).collect();
        let lengths = owners
            .keys()
            .map(|c| (c.is_ipv6(), c.prefix_len()))
            .collect();
        Self { owners, lengths }
    }

    /// One that an address lies in, and whose it is.
    pub(super) fn around(&self, address: IpAddr) -> Option<(Cidr, &'a str)> {
        let same = self
            .lengths
            .iter()
            .filter(|(v6, _)| *v6 == address.is_ipv6());
        same.rev().find_map(|(_, len)| {
            let cidr = Cidr::containing(address, *len).ok()?;
            Some((cidr, *self.owners.get(&cidr)?))
        })
    }
}

/// Networks of peers that lie in another node's, with their keys: what borrowing needs, and a slip more often.
pub fn nested(config: &Config) -> Vec<(String, Problem)> {
    let all = Networks::of(config);
    let mut found = Vec::new();
    for (i, peer) in config.peers.iter().enumerate() {
        for (j, cidr) in peer.pod_cidrs.iter().enumerate() {
            let shorter = all.lengths.iter().rev();
            let shorter =
                shorter.filter(|(v6, len)| *v6 == cidr.is_ipv6() && *len < cidr.prefix_len());
            let around = shorter.filter_map(|(_, len)| {
                let around = Cidr::containing(cidr.network(), *len).ok()?;
                Some((around, *all.owners.get(&around)?))
            });
            // The nearest one around decides whose these addresses would be.
            let Some((around, other)) = around.take(1).find(|(_, other)| *other != peer.name)
            else {
                continue;
            };
            let problem = Problem::Nested {
                value: cidr.to_string().into(),
                owner: peer.name.as_str().into(),
                around: around.to_string().into(),
                other: other.into(),
            };
            found.push((format!("peers[{i}].pod_cidrs[{j}]"), problem));
        }
    }
    found
}

/// That a pod network lies in one of the cluster's, if there are any of its family.
pub(super) fn in_cluster(key: &str, network: Cidr, config: &Config) -> Located<()> {
    let mut same = config
        .node
        .cluster_cidrs
        .iter()
        .filter(|c| c.is_ipv6() == network.is_ipv6())
        .peekable();
    if same.peek().is_none() {
        return Ok(());
    }
    let known: Vec<String> = same.clone().map(ToString::to_string).collect();
    if same.any(|c| c.prefix_len() <= network.prefix_len() && c.overlaps(network)) {
        return Ok(());
    }
    let problem = Problem::OutsideCluster {
        value: network.to_string(),
        cluster: known.join(", "),
    };
    Err((key.to_owned(), problem))
}
