//! Looking whether the rules are still there, and setting again what is not.
//!
//! Both looks ask programs, on threads of their own: our table is listed when somebody has changed it, and now
//! and then; others' chains are gone through when somebody has changed any, not too often.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::watch::Changed;
use super::{Rules, TABLE, Table, forward, nft};
use crate::reconcile::{Difference, Ledger};

/// How often everything is looked at although nobody has told of a change.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// How long a listing of our table is waited for.
const SHORT: Duration = Duration::from_millis(20);
/// Looks at foreign chains may take this part of the time at most: kube-proxy may change something every
/// second, and with many services a look takes longer.
const SHARE: u32 = 30;
/// What differences in our table, and in others' chains, are called.
const KIND: &str = "rules";
const FORWARD: &str = "forward chains";

impl Rules {
    /// To be called once a second: looks whether everything is still there, when somebody has changed something
    /// or it is time, and sets again what is not.
    pub fn look(&mut self, ledger: &mut Ledger, now: Instant) {
        self.take_forward(Some((&mut *ledger, now)));
        if let Some(watch) = &mut self.watch {
            let Changed { ours, others } = watch.changed();
            self.changed.ours |= ours;
            self.changed.others |= others;
        }
        let since = now.saturating_duration_since(self.looked);
        let is_due = self.changed.others && since >= self.cost * SHARE;
        if (is_due || since >= LOOK) && ledger.paused(now).is_none() {
            self.looked = now;
            let fought = |chain: &&String| ledger.holds_off(&chain_thing(chain), now);
            let fought: BTreeSet<String> = self.opened.iter().filter(fought).cloned().collect();
            // Those are looked at when it is time, without a further change.
            self.changed.others = !fought.is_empty();
            self.forward(fought);
        }
        self.look_at_table(ledger, now);
    }

    fn look_at_table(&mut self, ledger: &mut Ledger, now: Instant) {
        self.take_listing(ledger, now);
        let late = now.saturating_duration_since(self.listed) >= LOOK;
        let failed = matches!(self.table, Table::Failed(_));
        let due = self.changed.ours || late || (failed && self.changed.others);
        if !due || self.listing.is_some() || self.table == Table::None {
            return;
        }
        self.changed.ours = false;
        self.listed = now;
        self.begin_listing();
        // Mostly it takes some milliseconds, and else it is taken a second later.
        let deadline = Instant::now() + SHORT;
        while self.is_listing() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.take_listing(ledger, now);
    }

    pub(super) fn is_listing(&self) -> bool {
        let listing = self.listing.as_ref();
        listing.is_some_and(|(_, thread)| !thread.is_finished())
    }

    /// Takes the outcome of a listing that has ended.
    fn take_listing(&mut self, ledger: &mut Ledger, now: Instant) {
        let ended = self.listing.take_if(|(_, thread)| thread.is_finished());
        let Some((revision, thread)) = ended else {
            return;
        };
        match thread.join() {
            Ok(listed) if revision == self.revision => self.compare(listed, ledger, now),
            // What was set since is another matter.
            _ => self.changed.ours = true,
        }
    }

    /// Has our table listed on a thread of its own: nothing else waits for the program.
    pub(super) fn begin_listing(&mut self) {
        let thread = std::thread::Builder::new().name("nft".into());
        match thread.spawn(|| nft::list(TABLE)) {
            Ok(thread) => self.listing = Some((self.revision, thread)),
            Err(e) => {
                self.changed.ours = true;
                tracing::warn!("no thread to list table {TABLE}: {e}");
            }
        }
    }

    /// Compares our table with what was set, and sets it again if somebody has changed it.
    fn compare(&mut self, listed: Option<String>, ledger: &mut Ledger, now: Instant) {
        let found = if listed.is_some() { "changed" } else { "gone" };
        match (listed, &self.table) {
            (_, Table::None) => return,
            (Some(listed), Table::Listed(set)) if listed == *set => {
                return ledger.looked(KIND, &BTreeSet::new(), now);
            }
            (Some(listed), Table::Set) => {
                self.table = Table::Listed(listed);
                return ledger.looked(KIND, &BTreeSet::new(), now);
            }
            _ => {}
        }
        let failed = matches!(self.table, Table::Failed(_));
        let difference = Difference {
            kind: KIND,
            thing: format!("nftables table {TABLE}"),
            wanted: "as it was set".into(),
            found: found.into(),
            by: None,
        };
        if !failed && !ledger.permits(&difference, now) {
            // Looked at again.
            self.changed.ours = true;
            return;
        }
        match self.apply() {
            Ok(()) if failed => ledger.looked(KIND, &BTreeSet::new(), now),
            Ok(()) => {
                ledger.restored(difference, now);
                // What came meanwhile was not translated, and would go on so.
                self.forget_udp(self.desired.ports.clone());
            }
            // Never set, and said at the start.
            Err(_) if failed => {}
            Err(e) => ledger.failed(&difference, e.to_string(), true, now),
        }
    }

    /// Opens the way through firewalls but in the chains to `leave`, on a thread of its own: the lock of the older
    /// iptables may be held by somebody for as long as they please, and no pod shall wait for that.
    pub(super) fn forward(&mut self, leave: BTreeSet<String>) {
        if !self.accept_forward {
            return;
        }
        if self.is_forwarding() {
            // What was changed meanwhile is looked at when it has ended.
            self.changed.others = true;
            return;
        }
        self.take_forward(None);
        let interface = self.desired.interface.clone();
        let thread = std::thread::Builder::new().name("firewall".into());
        match thread.spawn(move || forward::open(&interface, &leave)) {
            Ok(thread) => self.forwarding = Some(thread),
            Err(e) => tracing::warn!("no thread to look at the firewall: {e}"),
        }
    }

    /// Takes the outcome of a look that has ended: says once what was opened and what cannot be; what was open
    /// before somebody has closed.
    pub(super) fn take_forward(&mut self, mut ledger: Option<(&mut Ledger, Instant)>) {
        if self.is_forwarding() {
            return;
        }
        let Some(Ok(opened)) = self.forwarding.take().map(JoinHandle::join) else {
            return;
        };
        self.cost = opened.took;
        let mut closed = BTreeSet::new();
        for chain in opened.chains {
            let again = !self.opened.insert(chain.clone());
            if let Some((ledger, now)) = ledger.as_mut().filter(|_| again) {
                closed.insert(chain_thing(&chain));
                let difference = Difference {
                    kind: FORWARD,
                    thing: chain_thing(&chain),
                    wanted: "open for pods' packets".into(),
                    found: "closed".into(),
                    by: None,
                };
                ledger.restored(difference, *now);
            } else {
                tracing::info!(
                    "the firewall forwards nothing by default; pods' packets are let through in {chain} \
                     (egress.accept_forward = false leaves it)"
                );
            }
        }
        if let Some((ledger, now)) = &mut ledger {
            ledger.looked(FORWARD, &closed, *now);
        }
        let known = std::mem::take(&mut self.conditions);
        self.conditions = opened.conditions;
        for condition in &mut self.conditions {
            match known
                .iter()
                .find(|old| old.what == condition.what && old.why == condition.why)
            {
                Some(old) => condition.since = old.since,
                None => tracing::warn!("{}", condition.why),
            }
        }
    }

    /// Waits for the end of that look, so long at most.
    pub(super) fn await_forward(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.is_forwarding() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.take_forward(None);
    }

    pub(super) fn is_forwarding(&self) -> bool {
        self.forwarding
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

/// What a chain that was opened is called.
fn chain_thing(chain: &str) -> String {
    format!("chain {chain}")
}
