//! What this node should be in its cluster, and how it gets there.
//!
//! ```text
//! source ── Change ──▶ Cluster ── desired State ── diff ──▶ Plan ──▶ tables, kernel, workers (the agent)
//! file                 checks, best route per prefix         ordered steps
//! ```
//!
//! [`model`] is pure: no I/O, no clock. A [`source`](mod@source) reads what says how the cluster is (today the
//! configuration file) and knows neither tables nor workers; who applies a plan knows no source.
#![forbid(unsafe_code)]

pub mod flannel;
pub mod model;
pub mod source;

pub use model::{
    Change, Cluster, ClusterError, Contents, EncapKind, Node, PathSpec, Peer, Plan, Route, Source,
    State, Step, Via, diff, gateway, has_gateway,
};
