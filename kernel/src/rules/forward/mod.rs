//! The way through a firewall that forwards nothing by default.
//!
//! An accept in a chain of ours does not help: a packet has to pass every chain at the hook, and one that
//! drops by policy, or drops or rejects by its last rule, has the last word. So the rule goes into that very
//! chain, at its top, marked as ours.
//!
//! ```text
//! chains at the forward hook ─ by nft ─────────────▶ default? ─ drop, reject ─▶ two accepts at the top
//! FORWARD of iptables ─ by iptables, of either kind ──▲                              │ refused
//!   (of the older kind nft shows nothing)                                            ▼
//!                                                                          condition: what, and the command
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::reconcile::Condition;

mod nftables;
mod xtables;

/// Mark of our rules.
const COMMENT: &str = "ringway";

/// What becomes of a packet that no rule of a chain is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// It is accepted.
    Accept,
    /// It is dropped or rejected.
    Deny,
    /// It goes on after whoever called the chain; at a hook the policy decides.
    Return,
}

/// What was done about the firewall, and what could not be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Opened {
    /// Chains to be left alone.
    leave: BTreeSet<String>,
    /// Chains that were opened just now.
    pub(super) chains: Vec<String>,
    /// What may still stop packets, each with the command that helps.
    pub(super) conditions: Vec<Condition>,
    /// How long it took.
    pub(super) took: Duration,
}

impl Opened {
    /// Notes what may stop packets in a chain, and what helps.
    fn obstacle(&mut self, chain: &str, why: String) {
        self.conditions.push(Condition {
            what: format!("chain {chain}"),
            wanted: "open for pods' packets".into(),
            found: "closed, as far as can be seen".into(),
            why,
            since: Instant::now(),
        });
    }
}

/// Lets pods' packets through wherever a chain denies by default, but for those to `leave` alone.
pub(super) fn open(interface: &str, leave: &BTreeSet<String>) -> Opened {
    let begin = Instant::now();
    let mut opened = Opened {
        leave: leave.clone(),
        ..Opened::default()
    };
    let asked = xtables::open(interface, &mut opened);
    nftables::open(interface, &asked, &mut opened);
    opened.took = begin.elapsed();
    opened
}

/// Takes the rules out again. Of which chains.
pub(super) fn close(interface: &str) -> Result<Vec<String>, super::RulesError> {
    let mut closed = xtables::close(interface);
    closed.extend(nftables::close(interface)?);
    Ok(closed)
}
