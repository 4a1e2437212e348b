//! Pod networks as the kernel is told of them.

use std::net::IpAddr;

use ringway_tables::Cidr;

/// A pod network of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its addresses.
    pub cidr: Cidr,
    /// The one that the node has in it; none where there is no room for one.
    pub gateway: Option<IpAddr>,
}
