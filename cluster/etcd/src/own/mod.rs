//! The own record: which it is (`choose`), and how it is made, kept and given back (`hold`).

mod choose;
mod hold;
mod previous;

use std::net::Ipv4Addr;

use ringway_cluster::Node;
use ringway_packet::mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::layout::Subnets;
pub(crate) use hold::{Hold, View};
pub(crate) use previous::previous;

/// The record of this node, as far as it has to outlive the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    /// The end of its key.
    pub(crate) key: String,
    /// Its lease; 0 if somebody has reserved the subnet.
    pub(crate) lease: i64,
    /// The outer address that it names.
    pub(crate) address: Ipv4Addr,
    /// MACs of this node's VTEPs for IPv4 and IPv6 pods.
    #[serde(with = "macs")]
    pub(crate) vteps: [MacAddr; 2],
}

impl Own {
    /// Its networks.
    pub(crate) fn subnets(&self) -> Option<Subnets> {
        self.key.parse().ok()
    }

    /// This node, which has that name.
    pub(crate) fn node(&self, name: &str) -> Option<Node> {
        Some(Node {
            name: name.into(),
            cidrs: self.subnets()?.all().into(),
            vtep_mac: self.vteps[0],
            vtep_mac_v6: self.vteps[1],
        })
    }
}

/// MAC addresses as text.
mod macs {
    use ringway_packet::mac::MacAddr;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(macs: &[MacAddr; 2], to: S) -> Result<S::Ok, S::Error> {
        macs.map(|mac| mac.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<[MacAddr; 2], D::Error> {
        let [v4, v6] = <[String; 2]>::deserialize(from)?;
        let mac = |text: String| text.parse().map_err(D::Error::custom);
        Ok([mac(v4)?, mac(v6)?])
    }
}
