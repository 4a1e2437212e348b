//! What the file says of the cluster, for [`ringway_cluster`].

use std::sync::Arc;

use ringway_cluster::{Change, Cluster, Contents, Node, PathSpec, Peer, Plan, Route, Source, Via};
use ringway_tables::Cidr;

use super::{Config, ConfigError, Decider, Problem};

/// Preference of what somebody wrote down, as BIRD's for static routes.
const PREFERENCE: u32 = 200;

impl Config {
    /// The name of this source.
    pub fn source() -> Source {
        Source::new("file")
    }

    /// A cluster of which the file alone tells, and the plan that leads to it from nothing. Where another source
    /// decides what the node is, it has a name and no networks.
    ///
    /// # Errors
    /// What it says contradicts itself.
    pub fn cluster(&self) -> Result<(Cluster, Plan), ConfigError> {
        let mut cluster = Cluster::default();
        let mut all = self.contents();
        let bare = || Node {
            name: self.node_name().into(),
            ..Node::default()
        };
        all.node.get_or_insert_with(bare);
        let all = Change::Replace(all);
        let plan = cluster.update(&Self::source(), all).map_err(|e| {
            let why = e.to_string();
            ConfigError::at(&self.file, "peers", Problem::Refused { why })
        })?;
        Ok((cluster, plan))
    }

    /// The node's name in its cluster.
    pub fn node_name(&self) -> &str {
        match &self.kubernetes {
            Some(kubernetes) => &kubernetes.node,
            None => &self.node.name,
        }
    }

    /// All that the file says: the node, if the file decides that, its peers, and where pods are.
    pub fn contents(&self) -> Contents {
        let n = &self.node;
        let route = |prefix: &Cidr, via: Via| Route {
            prefix: *prefix,
            via,
            source: Self::source(),
            preference: PREFERENCE,
        };
        let mut routes: Vec<Route> = n.pod_cidrs.iter().map(|c| route(c, Via::Node)).collect();
        let mut peers = Vec::with_capacity(self.peers.len());
        for peer in &self.peers {
            let name: Arc<str> = peer.name.as_str().into();
            let path = |v6: bool| {
                let path = || PathSpec {
                    encap: peer.encap,
                    vtep_mac: if v6 { peer.vtep_mac_v6 } else { peer.vtep_mac },
                    mtu: peer.mtu,
                };
                peer.pod_cidrs.iter().any(|c| c.is_ipv6() == v6).then(path)
            };
            let to_it = |c| route(c, Via::Peer(name.clone()));
            routes.extend(peer.pod_cidrs.iter().map(to_it));
            peers.push(Peer {
                addresses: peer.addresses.as_slice().into(),
                v4: path(false),
                v6: path(true),
                source: Self::source(),
                name,
            });
        }
        Contents {
            node: (self.decider() == Decider::File).then(|| Node {
                name: n.name.as_str().into(),
                cidrs: n.pod_cidrs.as_slice().into(),
                vtep_mac: n.vtep_mac,
                vtep_mac_v6: n.vtep_mac_v6,
            }),
            peers,
            routes,
        }
    }
}
