//! What was done about others' chains.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::reconcile::Condition;

/// Mark of our rules.
pub(super) const COMMENT: &str = "ringway";

/// What becomes of a packet that no rule of a chain is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// It is accepted.
    Accept,
    /// It is dropped or rejected.
    Deny,
    /// It goes on after whoever called the chain; at a hook the policy decides.
    Return,
}

/// What was done about the firewall, and what could not be.
#[derive(Debug, Default, PartialEq)]
pub(in crate::rules) struct Opened {
    /// Chains to be left alone.
    pub(super) leave: BTreeSet<String>,
    /// Chains that were opened just now.
    pub(in crate::rules) chains: Vec<String>,
    /// What may still stop packets, each with the command that helps.
    pub(in crate::rules) conditions: Vec<Condition>,
    /// How long it took.
    pub(in crate::rules) took: Duration,
}

impl Opened {
    /// Notes what may stop packets in a chain, and what helps.
    pub(super) fn obstacle(&mut self, chain: &str, why: String) {
        self.conditions.push(Condition {
            what: format!("chain {chain}"),
            wanted: "open for pods' packets".into(),
            found: "closed, as far as can be seen".into(),
            why,
            since: Instant::now(),
        });
    }
}
