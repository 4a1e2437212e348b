//! What the desired state and the configuration ask of the node's kernel.

use ringway_kernel::node::{self, Network};
use ringway_kernel::pod::interface;
use ringway_kernel::rules;

use ringway_cluster::{State, Via, gateway, has_gateway};
use ringway_config::Config;
use ringway_tables::Cidr;

/// The node port, for pods with this MTU.
pub(super) fn node_spec(config: &Config, state: &State, mtu: u16) -> node::Spec {
    node::Spec {
        name: config.node.interface.clone(),
        alias: interface::alias(&config.node.state_dir),
        underlay: config.underlay.interface.clone(),
        mtu,
        own: networks(state),
        peers: of_peers(state).collect(),
    }
}

/// The rules, without host ports.
pub(super) fn rules(config: &Config, state: &State) -> rules::Desired {
    let mut inside: Vec<Cidr> = state.routes.keys().copied().collect();
    inside.extend(&config.node.cluster_cidrs);
    inside.extend(&config.egress.masquerade_exclude);
    rules::Desired {
        interface: config.node.interface.clone(),
        own: networks(state),
        inside: fewest(inside),
        masquerade: config.egress.masquerade,
        ports: Vec::new(),
    }
}

/// Prefixes that lead to peers.
fn of_peers(state: &State) -> impl Iterator<Item = Cidr> + '_ {
    let routes = state.routes.values();
    routes.filter_map(|route| matches!(route.via, Via::Peer(_)).then_some(route.prefix))
}

/// This node's pod networks.
pub(super) fn networks(state: &State) -> Vec<Network> {
    let own = state.node.cidrs.iter();
    own.map(|cidr| Network {
        cidr: *cidr,
        gateway: has_gateway(*cidr).then(|| gateway(*cidr)),
    })
    .collect()
}

/// The same addresses in as few networks as it takes: a peer more or less inside one is no other set of rules,
/// and a thousand peers side by side are a line of them.
fn fewest(mut all: Vec<Cidr>) -> Vec<Cidr> {
    all.sort_by_key(|cidr| (cidr.is_ipv6(), cidr.first(), cidr.prefix_len()));
    let mut few: Vec<Cidr> = Vec::new();
    for cidr in all {
        let inside = |last: &Cidr| last.is_ipv6() == cidr.is_ipv6() && last.contains(cidr.last());
        if few.last().is_some_and(inside) {
            continue;
        }
        few.push(cidr);
        while let [.., left, right] = few[..]
            && let Some(both) = joined(left, right)
        {
            few.truncate(few.len() - 2);
            few.push(both);
        }
    }
    few
}

/// The network of which these two are the halves.
fn joined(left: Cidr, right: Cidr) -> Option<Cidr> {
    let len = left.prefix_len().checked_sub(1)?;
    let of = |cidr: Cidr| Cidr::containing(cidr.network(), len).ok();
    let halves = left.prefix_len() == right.prefix_len() && left.is_ipv6() == right.is_ipv6();
    of(left).filter(|both| halves && Some(*both) == of(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn few(all: &[&str]) -> Vec<String> {
        let all = all.iter().map(|cidr| cidr.parse().unwrap()).collect();
        fewest(all).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn networks_in_and_beside_one_another_are_one() {
        let nested = few(&[
            "10.77.2.0/24",
            "fd77:2::/64",
            "10.77.0.0/16",
            "10.79.0.0/24",
            "fd77::/16",
            "10.77.0.0/16",
        ]);
        assert_eq!(nested, ["10.77.0.0/16", "10.79.0.0/24", "fd77::/16"]);
        // 10.77.1.0/24 is not the other half of 10.77.2.0/24.
        let beside = [
            "10.77.0.0/24",
            "10.77.1.0/24",
            "10.77.2.0/24",
            "10.77.3.0/24",
        ];
        assert_eq!(few(&beside), ["10.77.0.0/22"]);
        assert_eq!(few(&beside[1..]), ["10.77.1.0/24", "10.77.2.0/23"]);
        assert_eq!(
            few(&["0.0.0.0/1", "128.0.0.0/1", "::/1"]),
            ["0.0.0.0/0", "::/1"]
        );
    }
}
