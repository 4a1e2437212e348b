//! Where changes come from. A source knows how to read one thing and tells what it says now; it knows neither
//! tables nor workers.
//!
//! ```text
//! source ── Change ──▶ control        (applied, or refused with the reason)
//!    ▲                    │
//!    └────── Local ───────┘           what it tells others of this node: annotations, a lease
//! ```
//!
//! A source has a thread of its own. It loads what it knew last ([`State::Stale`]) before the agent starts, so that
//! a node forwards while whatever it reads is away.

pub mod file;
pub mod pause;
pub mod record;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Change, EncapKind, Node};

pub use pause::Pause;

/// Puts a change into force, or says why not; blocks until then.
pub type Apply = Box<dyn Fn(Change) -> Result<(), String> + Send>;

/// This node, as it is in force: what a source tells the rest of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Name, pod networks and VTEP MACs.
    pub node: Node,
    /// Outer addresses in use, at most one of each family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The encapsulation that it wants to get.
    pub encap: EncapKind,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port of the encapsulation.
    pub port: u16,
    /// Bytes of the largest packet of a pod.
    pub pod_mtu: u16,
    /// Whether packets of pods are forwarded.
    pub forwards: bool,
}

/// How far what a source has said can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has said nothing yet.
    #[default]
    Waiting,
    /// It is as recorded by an earlier agent, or the server is away.
    Stale,
    /// It follows every change.
    Current,
}

/// How a source stands, for `ringway status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What its news are worth.
    pub state: State,
    /// Unix seconds at which the server last confirmed what is in force.
    pub confirmed_s: Option<u64>,
    /// Why it does not follow, if it does not.
    pub error: Option<String>,
    /// What of its news is not followed, one line each with the remedy: two nodes with one network, a hostile name.
    pub problems: Vec<String>,
}
