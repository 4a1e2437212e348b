//! What the node's rules shall do.

use ringway_tables::Cidr;

use super::ports::HostPort;
use crate::network::Network;

/// Our table.
pub const TABLE: &str = "inet ringway";

/// What shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Name of the node port.
    pub interface: String,
    /// This node's pod networks.
    pub own: Vec<Network>,
    /// Networks that pods reach under their own address.
    pub inside: Vec<Cidr>,
    /// Packets of pods to other networks get the node's address.
    pub masquerade: bool,
    /// Ports of the node that lead to pods.
    pub ports: Vec<HostPort>,
}

impl Desired {
    /// Nothing is asked of the kernel.
    pub(super) fn is_empty(&self) -> bool {
        !self.masquerade && self.ports.is_empty()
    }
}
