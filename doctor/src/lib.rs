//! What is wrong with a node, the most likely cause first.
//!
//! ```text
//!   the agent's answers, two looks a while apart ─┐
//!   the node: links, routes, firewall, sockets ───┼▶ Observed ── checks ──▶ findings, by rank ──▶ Report
//!   inside each pod: interface, addresses, routes ┘   values only: pure
//! ```
//!
//! [`look`] asks and decides nothing; [`checks`] decide and ask nothing. A finding names its cause, what was seen of
//! it, and the command that cures it. Causes and remedies of drops are those of `switch/src/reason.rs`.
//!
//! To add a check: what it needs to see into [`Observed`], the check beside its like, its [`Rank`], a line of
//! [`checks::NAMES`], a test with the value that makes it speak and one that leaves it silent.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod checks;
pub mod look;
mod observed;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};

pub use checks::diagnose;
pub use observed::{
    Absent, Asked, Asking, Blocked, Machine, Observed, Other, Pair, PodInside, Way,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Packets are lost, or pods cannot be added.
    Broken,
    /// It works, but not as it should, or not for long.
    Warning,
}

/// Whom a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum About {
    /// This node as a whole.
    Node,
    /// A pod, by its name.
    Pod(String),
    /// A peer, by its name.
    Peer(String),
}

/// How likely something is the cause of the others: the lower, the earlier it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Without it no agent runs.
    Start,
    /// The agent does not run, for whatever reason.
    Agent,
    /// Something that nobody gets by: the underlay's link, a firewall, a full disk.
    Underlay,
    /// Something on the way changes packets: a bit is wrong here, a bit there.
    Corrupted,
    /// What comes from a peer is not as it should be.
    FromPeer,
    /// A peer, or something on the way, is silent.
    Peer,
    /// A pod's interface or its routes.
    Pod,
    /// What a pod sends.
    FromPod,
    /// What the agent itself names.
    Condition,
    /// Losses that say no more than that there are some.
    Loss,
    /// What may matter.
    Hint,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check found it: stable, `snake_case`.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it is about.
    pub about: About,
    /// The cause, in a sentence.
    pub cause: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do.
    pub remedy: String,
    /// Commands that do it, or that show more.
    pub commands: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The most likely cause first.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub checked: Vec<String>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

impl Report {
    /// Whether something is wrong.
    pub fn is_broken(&self) -> bool {
        !self.findings.is_empty()
    }
}
