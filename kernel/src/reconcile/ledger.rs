//! What somebody else has changed, and what is done about it.
//!
//! ```text
//!                 ┌─ right ◀──────────────────────────────┐
//!  difference ────┤                                        │
//!                 ├─ set again: counted, logged once ──────┤
//!                 │      └─ more than 5 times a minute ─▶ fight: once in 30 s, until a minute is quiet
//!                 ├─ cannot be set ─▶ failure ─────────────┘ when it can
//!                 └─ paused ─▶ left as it is
//! ```
//!
//! A fight, a failure and what a pause leaves are conditions: the operator sees what was wanted, what was found
//! and why it stays so. It reads no clock: `now` is an argument.
//! Conditions fail CNI's STATUS and CHECK; those of a firewall that cannot be opened are only shown, because
//! an operator may mean it so. What went along with something else (routes with their address) is set again
//! with it and is nobody's fight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

mod condition;

pub use condition::{By, Condition, Difference};

/// How often one thing may be set again within [`WINDOW`] before it counts as a fight.
pub const PATIENCE: usize = 5;
/// See [`PATIENCE`].
pub const WINDOW: Duration = Duration::from_secs(60);
/// How often it is set again in a fight.
pub const BACKOFF: Duration = Duration::from_secs(30);
/// A fight is over when nothing has changed for so long.
pub const QUIET: Duration = Duration::from_secs(60);
/// Longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Things that are remembered, beyond which only the count goes on; a bound on memory, for a router's whole
/// table may be taken away.
const THINGS: usize = 4096;
/// Different texts that are kept from being logged again.
const LOGGED: usize = 256;
/// Conditions of one kind that are listed one by one.
const LISTED: usize = 16;

/// A pause that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pause of {} s is longer than 24 hours ({} s)", .0.as_secs(), PAUSE_MAX.as_secs())]
pub struct PauseTooLong(pub Duration);

/// What became of one thing.
#[derive(Debug)]
struct Entry {
    last: Difference,
    /// When it was last seen different.
    differed: Instant,
    /// When it was set again, the last few times.
    restored: VecDeque<Instant>,
    fight: Option<Instant>,
    failure: Option<Failure>,
    /// Left as it is by a pause, since when.
    left: Option<Instant>,
}

/// It cannot be set.
#[derive(Debug)]
struct Failure {
    why: String,
    since: Instant,
    /// Not only just now, while somebody was changing something else.
    lasting: bool,
}

/// What was found and done so far.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    paused_until: Option<Instant>,
    restored: u64,
    last: Option<String>,
    logged: BTreeSet<String>,
}

impl Ledger {
    /// How often something was set again that somebody had changed.
    pub fn restored_count(&self) -> u64 {
        self.restored
    }

    /// The last such thing.
    pub fn last_restored(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Leaves what others change as it is for so long.
    ///
    /// # Errors
    /// It is longer than [`PAUSE_MAX`]; a pause that is on stays as it is then.
    pub fn pause(&mut self, duration: Duration, now: Instant) -> Result<(), PauseTooLong> {
        if duration > PAUSE_MAX {
            return Err(PauseTooLong(duration));
        }
        self.paused_until = Some(now + duration);
        Ok(())
    }

    /// Ends the pause; false if there was none.
    pub fn resume(&mut self) -> bool {
        self.paused_until.take().is_some()
    }

    /// How long the pause goes on, if there is one.
    pub fn paused(&self, now: Instant) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Whether what somebody else has changed may be set again now. Notes that it is different.
    pub fn permits(&mut self, difference: &Difference, now: Instant) -> bool {
        let paused = self.paused(now).is_some();
        let Some(entry) = self.entry(difference, now) else {
            return !paused;
        };
        if paused {
            entry.left.get_or_insert(now);
            return false;
        }
        entry.left = None;
        let early = |at: &Instant| now.saturating_duration_since(*at) < BACKOFF;
        !(entry.fight.is_some() && entry.restored.back().is_some_and(early))
    }

    /// Notes that it was set again, which had gone along with something else that was: one more thing set, but
    /// nobody has fought for it.
    pub fn followed(&mut self, difference: Difference) {
        self.note(&difference);
    }

    /// Whether it is fought for, and too early to set it again.
    pub fn holds_off(&self, thing: &str, now: Instant) -> bool {
        let early = |at: &Instant| now.saturating_duration_since(*at) < BACKOFF;
        let entry = self.entries.get(thing);
        entry.is_some_and(|e| e.fight.is_some() && e.restored.back().is_some_and(early))
    }

    /// Notes that it was set again.
    pub fn restored(&mut self, difference: Difference, now: Instant) {
        self.note(&difference);
        let Some(entry) = self.entry(&difference, now) else {
            return;
        };
        entry.end_failure();
        let recent = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        entry.restored.retain(recent);
        entry.restored.push_back(now);
        let more = entry.restored.len() > PATIENCE;
        while entry.restored.len() > PATIENCE {
            entry.restored.pop_front();
        }
        if more && entry.fight.is_none() {
            entry.fight = Some(now);
            let why = entry.fight_text();
            tracing::error!(
                "{} should be {} and is {}: {why}",
                entry.last.thing,
                entry.last.wanted,
                entry.last.found
            );
        }
    }

    fn note(&mut self, difference: &Difference) {
        self.restored += 1;
        let Difference {
            thing,
            wanted,
            found,
            by,
            ..
        } = difference;
        let text = format!("{thing} is {wanted} again, was {found}");
        if self.logged.len() < LOGGED && self.logged.insert(text.clone()) {
            let by = By(*by);
            tracing::warn!("somebody changed the node's network; restored: {text}{by}");
        }
        self.last = Some(text);
    }

    /// Notes that it cannot be set. It counts and is logged once it is `lasting`, or when it fails a second time:
    /// what it depends on may be gone for a moment, as a route's source address that somebody takes away.
    pub fn failed(&mut self, difference: &Difference, why: String, lasting: bool, now: Instant) {
        let Some(entry) = self.entry(difference, now) else {
            return;
        };
        let known = entry.failure.take();
        let (since, again) = known
            .as_ref()
            .map_or((now, false), |known| (known.since, now > known.since));
        let lasting = lasting || again;
        if lasting && !known.is_some_and(|known| known.lasting) {
            let Difference { thing, wanted, .. } = difference;
            tracing::error!("{thing} cannot be set to {wanted}: {why}");
        }
        entry.failure = Some(Failure {
            why,
            since,
            lasting,
        });
    }

    /// Notes that all of a kind was looked at, and that only `differing` was not as it should be.
    pub fn looked(&mut self, kind: &'static str, differing: &BTreeSet<String>, now: Instant) {
        self.entries.retain(|thing, entry| {
            if entry.last.kind != kind || differing.contains(thing) {
                return true;
            }
            entry.end_failure();
            entry.left = None;
            let quiet = now.saturating_duration_since(entry.differed) >= QUIET;
            if quiet && entry.fight.take().is_some() {
                tracing::info!("nobody changes {thing} any more");
            }
            !quiet
        });
    }

    /// What cannot be set, and why, of one thing if there is any.
    pub fn first_failure(&self) -> Option<String> {
        self.entries.values().find_map(|entry| {
            let Failure { why, .. } = entry.failure.as_ref()?;
            let Difference { thing, wanted, .. } = &entry.last;
            Some(format!("{thing} cannot be set to {wanted}: {why}"))
        })
    }

    /// Everything that is not as it should be and stays so, at most some of each kind and how many more.
    pub fn conditions(&self, now: Instant) -> Vec<Condition> {
        let mut all: Vec<Condition> = Vec::new();
        let mut listed: BTreeMap<&'static str, usize> = BTreeMap::new();
        for entry in self.entries.values() {
            let Some(condition) = self.condition(entry, now) else {
                continue;
            };
            let count = listed.entry(entry.last.kind).or_default();
            *count += 1;
            if *count <= LISTED {
                all.push(condition);
            }
        }
        for (kind, count) in listed.iter().filter(|(_, count)| **count > LISTED) {
            all.push(Condition {
                what: format!("{} more of {kind}", count - LISTED),
                wanted: "as configured".into(),
                found: "different".into(),
                why: "see those above".into(),
                since: now,
            });
        }
        all
    }

    fn condition(&self, entry: &Entry, now: Instant) -> Option<Condition> {
        let failure = entry.failure.as_ref().filter(|failure| failure.lasting);
        let (why, since) = match (failure, entry.fight, entry.left) {
            (Some(failure), _, _) => (failure.why.clone(), failure.since),
            (None, Some(since), _) => (entry.fight_text(), since),
            (None, None, Some(since)) => {
                let left = self.paused(now).unwrap_or_default().as_secs();
                let why = format!(
                    "reconciliation is paused for {left} s more; `ringway reconcile resume` ends that"
                );
                (why, since)
            }
            (None, None, None) => return None,
        };
        Some(Condition {
            what: entry.last.thing.clone(),
            wanted: entry.last.wanted.clone(),
            found: entry.last.found.clone(),
            why,
            since,
        })
    }

    /// That of a thing which differs now; `None` if there are too many.
    fn entry(&mut self, difference: &Difference, now: Instant) -> Option<&mut Entry> {
        if self.entries.len() >= THINGS && !self.entries.contains_key(&difference.thing) {
            return None;
        }
        let entry = self.entries.entry(difference.thing.clone());
        let entry = entry.or_insert_with(|| Entry {
            last: difference.clone(),
            differed: now,
            restored: VecDeque::new(),
            fight: None,
            failure: None,
            left: None,
        });
        entry.differed = now;
        if entry.last != *difference {
            entry.last = difference.clone();
        }
        Some(entry)
    }
}

impl Entry {
    fn end_failure(&mut self) {
        if self.failure.take().is_some_and(|failure| failure.lasting) {
            tracing::info!("{} is as it should be again", self.last.thing);
        }
    }

    fn fight_text(&self) -> String {
        format!(
            "somebody changes it again and again{}; it is set once in {} s. Find the program that does it and \
             have it leave this alone (README, \"What else manages the network\")",
            By(self.last.by),
            BACKOFF.as_secs()
        )
    }
}

#[cfg(test)]
mod tests;
