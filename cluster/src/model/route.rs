//! Where addresses are.

use std::fmt;
use std::sync::Arc;

use ringway_tables::Cidr;

/// Who says something about the cluster: `file`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(Arc<str>);

impl Source {
    /// A source of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which node a prefix is at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// This one.
    Node,
    /// The peer of this name.
    Peer(Arc<str>),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::Node => f.write_str("this node"),
            Via::Peer(name) => write!(f, "peer {name}"),
        }
    }
}

/// A route. Longest prefix first, whatever the preferences: a borrowed address (a /32 or /128) leads to where
/// its pod is, not to whom the network around it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub prefix: Cidr,
    /// Where it is.
    pub via: Via,
    /// Who says so.
    pub source: Source,
    /// Of routes to one prefix that several sources give, the highest is taken, as BIRD does.
    pub preference: u32,
}

impl Route {
    /// Whether it goes before another route to the same prefix: higher preference, then the source whose
    /// name sorts first, so that the choice does not depend on who came first.
    pub(super) fn beats(&self, other: &Route) -> bool {
        (other.preference, &self.source) < (self.preference, &other.source)
    }
}
