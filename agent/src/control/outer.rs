//! Whether the outer addresses are still those that would be chosen. The sockets and every peer's path have
//! them, so another takes a new start; until then it is said.

use std::time::{Duration, Instant};

use super::Control;
use crate::netlink::Change;
use crate::underlay::Underlay;

/// Looks are this far apart at least: every peer's route is asked for.
const PERIOD: Duration = Duration::from_secs(2);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Outer {
    told: bool,
    looked: Option<Instant>,
    /// What is wrong with the addresses in use, if anything is.
    outdated: Option<String>,
}

impl Outer {
    /// Takes note of what the kernel tells.
    pub(super) fn hear(&mut self, changes: &[Change]) {
        let matters =
            |c: &Change| matches!(c, Change::Overrun | Change::Addresses | Change::Routes);
        self.told |= changes.iter().any(matters);
    }

    /// For `ringway status`.
    pub(super) fn outdated(&self) -> Option<String> {
        self.outdated.clone()
    }
}

impl Control {
    /// Once a second.
    pub(super) fn look_at_outer_addresses(&mut self) {
        let early = |at: Instant| at.elapsed() < PERIOD;
        if !self.outer.told || self.outer.looked.is_some_and(early) {
            return;
        }
        self.outer.told = false;
        self.outer.looked = Some(Instant::now());
        let used = self.underlay.addresses();
        let outdated = match Underlay::examine(&self.config, &mut self.netlink) {
            Ok(now) if now.addresses() == used => None,
            Ok(now) => {
                let other = now.choices.iter().filter(|c| !used.contains(&c.address));
                let other: Vec<String> = other
                    .map(|c| format!("{} ({})", c.address, c.why))
                    .collect();
                let left: Vec<String> = used
                    .iter()
                    .filter(|ip| !now.addresses().contains(ip))
                    .map(ToString::to_string)
                    .collect();
                Some(match other.as_slice() {
                    [] => format!("{} cannot be used any more", left.join(", ")),
                    other => format!("{} would be chosen now", other.join(", ")),
                })
            }
            Err(e) => Some(e.problem.to_string()),
        };
        if outdated != self.outer.outdated {
            match &outdated {
                Some(what) => tracing::warn!(
                    in_use = ?used,
                    "outer addresses: {what}; start the agent again to change them"
                ),
                None => tracing::info!("the outer addresses in use are the right ones again"),
            }
        }
        self.outer.outdated = outdated;
    }
}
