//! The desired state, its changes, and the plan from one state to the next.

mod cluster;
mod delta;
mod diff;
mod error;
mod peer;
mod plan;
mod route;
mod state;

pub use cluster::{Change, Cluster, Contents};
pub use diff::diff;
pub use error::ClusterError;
pub use peer::{EncapKind, Node, PathSpec, Peer, gateway, has_gateway};
pub use plan::{Plan, Step};
pub use route::{Route, Source, Via};
pub use state::State;
