//! What the configuration asks of the node's kernel.

use ringway_kernel::node::{self, Network};
use ringway_kernel::pod::interface;
use ringway_kernel::rules;

use ringway_config::{Config, gateway, has_gateway};

/// The node port, for pods with this MTU.
pub(super) fn node_spec(config: &Config, mtu: u16) -> node::Spec {
    let peers = config.peers.iter().flat_map(|peer| &peer.pod_cidrs);
    node::Spec {
        name: config.node.interface.clone(),
        alias: interface::alias(&config.node.state_dir),
        underlay: config.underlay.interface.clone(),
        mtu,
        own: networks(config),
        peers: peers.copied().collect(),
    }
}

/// The rules, without host ports.
pub(super) fn rules(config: &Config) -> rules::Desired {
    let mut inside = config.node.pod_cidrs.clone();
    inside.extend(config.peers.iter().flat_map(|peer| &peer.pod_cidrs));
    inside.extend(&config.node.cluster_cidrs);
    inside.extend(&config.egress.masquerade_exclude);
    rules::Desired {
        interface: config.node.interface.clone(),
        own: networks(config),
        inside,
        masquerade: config.egress.masquerade,
        ports: Vec::new(),
    }
}

fn networks(config: &Config) -> Vec<Network> {
    let own = config.node.pod_cidrs.iter();
    own.map(|cidr| Network {
        cidr: *cidr,
        gateway: has_gateway(*cidr).then(|| gateway(*cidr)),
    })
    .collect()
}
