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
use std::time::Instant;

mod nftables;
mod opened;
mod xtables;

pub(super) use opened::Opened;
use opened::{COMMENT, Policy};

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
