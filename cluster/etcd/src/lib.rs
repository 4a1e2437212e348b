//! Flannel's records in etcd as a source: for clusters without a Kubernetes API.
//!
//! ```text
//! etcd  /coreos.com/network/config                  net-conf: the network, where its subnets begin and end
//!                          /subnets/10.5.34.0-24    {"PublicIP":"10.77.0.2","BackendType":"vxlan",…}
//!         │  ▲
//!    read │  │ own record: created under a lease, renewed, written again when this node changes
//!   watch │  │
//!         ▼  │
//!       records ── members ──▶ peers, routes, problems ── what differs ──▶ Change
//! ```
//!
//! [`layout`] is the format, and which subnet a node takes; it and `members` are pure. `rpc` talks to a server,
//! `source` follows it. A server that is away changes nothing: what was said last stays in force, and is on disk
//! for the next start ([`Saved`]).
#![forbid(unsafe_code)]

pub mod layout;
mod members;
mod once;
mod own;
mod rpc;
mod saved;
mod settings;
mod source;

pub use once::net_conf;
pub use rpc::RpcError;
pub use saved::Saved;
pub use settings::Settings;
pub use source::{Handle, spawn};
