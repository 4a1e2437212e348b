//! Numbers by which tables refer to each other.

use std::fmt;

/// A port of the switch.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Default, Debug)]
pub struct PortId(pub u32);

impl PortId {
    /// The node's own port; pods are numbered from 1.
    pub const NODE: PortId = PortId(0);
}

/// A peer node.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Default, Debug)]
pub struct PeerId(pub u32);

/// A path to a peer. A peer has at most one for each family of inner packets:
/// [`Snapshot::path_of`](crate::Snapshot::path_of).
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Default, Debug)]
pub struct PathId(pub u32);

/// Where a route leads.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Default, Debug)]
pub enum Target {
    /// A local pod or the node's own port.
    Port(PortId),
    /// A peer.
    Path(PathId),
    /// An address of our own CIDR that nobody has.
    #[default]
    Unreachable,
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Port(id) => write!(f, "port {id}"),
            Target::Path(id) => write!(f, "path {id}"),
            Target::Unreachable => f.write_str("unreachable"),
        }
    }
}
