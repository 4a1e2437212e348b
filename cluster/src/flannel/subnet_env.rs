//! `/run/flannel/subnet.env`: what Flannel's CNI plugin, and others that read it, know of the node.

use std::fmt;

use ringway_tables::Cidr;

use crate::{Node, gateway};

/// What is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// Networks of all pods.
    pub networks: Vec<Cidr>,
    /// This node's main pod networks.
    pub subnets: Vec<Cidr>,
    /// MTU of pods, in bytes.
    pub mtu: u16,
    /// Whether somebody masquerades already what leaves the cluster.
    pub masquerades: bool,
}

impl SubnetEnv {
    /// That of a node whose cluster has these networks.
    pub fn of(node: &Node, networks: &[Cidr], mtu: u16, masquerades: bool) -> Self {
        let subnets = [false, true].into_iter();
        Self {
            networks: networks.to_vec(),
            subnets: subnets.filter_map(|v6| node.main_cidr(v6)).collect(),
            mtu,
            masquerades,
        }
    }
}

impl fmt::Display for SubnetEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (v6, prefix) in [(false, "FLANNEL_"), (true, "FLANNEL_IPV6_")] {
            let of = |all: &[Cidr]| -> Vec<Cidr> {
                all.iter().copied().filter(|c| c.is_ipv6() == v6).collect()
            };
            let networks: Vec<String> = of(&self.networks).iter().map(Cidr::to_string).collect();
            if !networks.is_empty() {
                writeln!(f, "{prefix}NETWORK={}", networks.join(","))?;
            }
            // The node's own address in it and not the network: the plugin's gateway.
            if let [subnet, ..] = of(&self.subnets)[..] {
                writeln!(
                    f,
                    "{prefix}SUBNET={}/{}",
                    gateway(subnet),
                    subnet.prefix_len()
                )?;
            }
        }
        writeln!(f, "FLANNEL_MTU={}", self.mtu)?;
        writeln!(f, "FLANNEL_IPMASQ={}", self.masquerades)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_flanneld_writes_it() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let node = Node {
            cidrs: vec![cidr("10.244.1.0/24"), cidr("fd77:0:0:1::/64")].into(),
            ..Node::default()
        };
        let both = [cidr("10.244.0.0/16"), cidr("fd77::/48")];
        assert_eq!(
            SubnetEnv::of(&node, &both, 1430, true).to_string(),
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
             FLANNEL_IPV6_NETWORK=fd77::/48\nFLANNEL_IPV6_SUBNET=fd77:0:0:1::1/64\n\
             FLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"
        );
        let node = Node {
            cidrs: vec![cidr("10.244.1.0/24")].into(),
            ..Node::default()
        };
        assert_eq!(
            SubnetEnv::of(&node, &both[..1], 1450, false).to_string(),
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
    }
}
