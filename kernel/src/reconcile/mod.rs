//! One mechanism for everything of ours in the node's kernel.
//!
//! ```text
//! wanted ──┐                ┌─ new or another value: set, in place where there is one
//!          ├─ difference ───┼─ was as wanted before: somebody changed it ─▶ Ledger: may it be set again?
//! actual ──┘                └─ bears our mark and is not wanted: removed, last
//!    ▲                                        │
//!    └───── a notification, or it is time ────┘ looked at again
//! ```
//!
//! A [`Kind`] says how things of one sort are listed, set and removed; [`Reconciled`] holds what is wanted of
//! it and does the rest; the [`Ledger`] counts, tells a fight from an accident, and knows what cannot be had.
//!
//! **Whose is it?** Routes, addresses and neighbour entries bear [`OWNER`] as the protocol that has set them, as
//! far as the kernel knows such a field. What bears it and is not wanted goes; what others have set stays, unless
//! it stands in the place of ours. An earlier version's routes are known by their next hop, its addresses at the
//! start.
//!
//! **Order.** All that is set is set before anything is removed, in the order of the keys: routes have the more
//! specific first. So no packet falls back to a wider route on the way. Only where the kernel cannot hold both
//! (the same IPv6 address with another prefix length) is the old one removed first.

mod ledger;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Instant;

use crate::before::Before;
use crate::netlink::{Netlink, NetlinkError};
use crate::sysctl::SysctlError;

pub use ledger::{
    BACKOFF, By, Condition, Difference, Ledger, PATIENCE, PAUSE_MAX, PauseTooLong, QUIET, WINDOW,
};

/// The protocol number of what is ours (`rtm_protocol`, `IFA_PROTO`, `NDA_PROTOCOL`): 82, an `R`. The kernel
/// leaves all above 4 to its users (linux/rtnetlink.h), and no daemon of iproute2's `rt_protos` has it.
pub const OWNER: u8 = 82;

/// Missing things for which it is asked what stands in their place, in one look.
const LOOK_UPS: usize = 16;

/// Why something could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// rtnetlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// What is worked on.
pub struct Kernel<'a> {
    /// Requests.
    pub netlink: &'a mut Netlink,
    /// Index of the interface that is reconciled.
    pub index: u32,
    /// What settings were before.
    pub before: &'a mut Before,
}

/// How it is looked.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What looks like an earlier version's, without a mark, is ours too.
    pub sweep: bool,
    /// Something else that takes these things along was not as it should be a moment ago: an address its routes,
    /// an interface that goes down its neighbours.
    pub along: bool,
    /// When.
    pub now: Instant,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Things that were set.
    pub set: usize,
    /// Things that could not be.
    pub failed: usize,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.set += other.set;
        self.failed += other.failed;
    }
}

/// What there is of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actual<V> {
    /// Its value.
    pub value: V,
    /// The protocol that has set it, where the kernel tells.
    pub protocol: Option<u8>,
}

/// One sort of things.
pub trait Kind {
    /// Its name, in the plural.
    const NAME: &'static str;
    /// Names one of them; they are set in this order.
    type Key: Ord + Clone;
    /// What it may be.
    type Value: PartialEq + Clone + Display;

    /// In words, of one.
    fn thing(&self, key: &Self::Key) -> String;

    /// Lists what there is of the keys that are `wanted`, and what is ours besides; with `sweep` also what looks
    /// like an earlier version's, which bears no mark.
    ///
    /// # Errors
    /// It cannot be listed; nothing is known then.
    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        wanted: &Wanted<Self::Key, Self::Value>,
        sweep: bool,
        each: &mut dyn FnMut(Self::Key, Actual<Self::Value>),
    ) -> Result<(), Refused>;

    /// What stands in the place of one that was not listed, as far as anybody can tell.
    fn instead(&mut self, _: &mut Kernel<'_>, _: &Self::Key) -> Option<Actual<Self::Value>> {
        None
    }

    /// Whether one that differed is right by now, because another of the kind was set before it.
    fn followed(&mut self, _: &Self::Key, _: &Self::Value) -> bool {
        false
    }

    /// Sets one, in place of `actual` if there is something.
    ///
    /// # Errors
    /// The kernel does not take it.
    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        key: &Self::Key,
        value: &Self::Value,
        actual: Option<&Self::Value>,
    ) -> Result<(), Refused>;

    /// Removes one; none is no error.
    ///
    /// # Errors
    /// It stays.
    fn remove(
        &mut self,
        kernel: &mut Kernel<'_>,
        key: &Self::Key,
        actual: &Self::Value,
    ) -> Result<(), Refused>;
}

/// What is wanted, by key.
#[derive(Clone, Debug)]
pub struct Wanted<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Wanted<K, V> {
    /// Where it stands.
    fn at(&self, key: &K) -> Option<usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()
    }

    /// The value wanted of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.at(key).map(|at| &self.0[at].1)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }
}

/// Things of one kind, and what is wanted of them.
#[derive(Debug)]
pub struct Reconciled<T: Kind> {
    kind: T,
    wanted: Wanted<T::Key, T::Value>,
    /// Wanted anew, and not set yet.
    fresh: BTreeSet<T::Key>,
    /// Not wanted any more, and not removed yet.
    gone: Vec<(T::Key, T::Value)>,
}

impl<T: Kind> Reconciled<T> {
    /// Nothing is wanted yet.
    pub fn new(kind: T) -> Self {
        Self {
            kind,
            wanted: Wanted(Vec::new()),
            fresh: BTreeSet::new(),
            gone: Vec::new(),
        }
    }

    /// All that is wanted.
    pub fn wanted(&self) -> &Wanted<T::Key, T::Value> {
        &self.wanted
    }

    /// Of what kind.
    pub fn kind(&mut self) -> &mut T {
        &mut self.kind
    }

    /// What is wanted from now on. Of several with one key the first counts. True if anything is different.
    pub fn want(&mut self, wanted: impl IntoIterator<Item = (T::Key, T::Value)>) -> bool {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        wanted.dedup_by(|(later, _), (first, _)| later == first);
        let old = std::mem::replace(&mut self.wanted, Wanted(wanted));
        let mut changed = false;
        for (key, value) in self.wanted.iter() {
            if old.get(key) != Some(value) {
                changed = true;
                self.fresh.insert(key.clone());
            }
        }
        let before = self.gone.len();
        let left = old.0.into_iter();
        let wanted = &self.wanted;
        self.gone
            .extend(left.filter(|(key, _)| wanted.at(key).is_none()));
        self.gone.retain(|(key, _)| wanted.at(key).is_none());
        self.fresh.retain(|key| wanted.at(key).is_some());
        changed || self.gone.len() > before
    }

    /// What is wanted of one key from now on; the rest stays.
    pub fn want_one(&mut self, key: T::Key, value: Option<T::Value>) {
        let wanted = &mut self.wanted.0;
        match (wanted.binary_search_by(|(known, _)| known.cmp(&key)), value) {
            (Ok(at), Some(value)) if wanted[at].1 == value => {}
            (Ok(at), Some(value)) => {
                wanted[at].1 = value;
                self.fresh.insert(key);
            }
            (Err(at), Some(value)) => {
                wanted.insert(at, (key.clone(), value));
                self.gone.retain(|(gone, _)| *gone != key);
                self.fresh.insert(key);
            }
            (Ok(at), None) => {
                self.gone.push(wanted.remove(at));
                self.fresh.remove(&key);
            }
            (Err(_), None) => {}
        }
    }

    /// Wants all of it anew: what is different was changed by nobody.
    pub fn all_fresh(&mut self) {
        self.fresh = self.wanted.iter().map(|(key, _)| key.clone()).collect();
    }

    /// Leaves what is not wanted any more to whoever takes it away.
    pub fn leave_gone(&mut self) {
        self.gone.clear();
    }

    /// Looks at all there is, sets what is different, and removes what is ours and not wanted.
    pub fn look(&mut self, kernel: &mut Kernel<'_>, ledger: &mut Ledger, look: Look) -> Outcome {
        let Look { sweep, along, now } = look;
        let mut right = vec![false; self.wanted.0.len()];
        let mut other: Vec<Option<Actual<T::Value>>> = Vec::new();
        let mut extra = Vec::new();
        let wanted = &self.wanted;
        let listed = self.kind.list(kernel, wanted, sweep, &mut |key, actual| {
            let Some(at) = wanted.at(&key) else {
                return extra.push((key, actual.value));
            };
            if wanted.0[at].1 == actual.value {
                right[at] = true;
            } else {
                other.resize(right.len(), None);
                other[at] = Some(actual);
            }
        });
        let all = Difference {
            kind: T::NAME,
            thing: T::NAME.into(),
            wanted: "listed".into(),
            found: "unknown".into(),
            by: None,
        };
        if let Err(e) = listed {
            ledger.failed(&all, e.to_string(), true, now);
            return Outcome { set: 0, failed: 1 };
        }
        let mut differing = BTreeSet::new();
        let (mut outcome, mut look_ups) = (Outcome::default(), LOOK_UPS);
        for at in (0..right.len()).filter(|at| !right[*at]) {
            let (key, value) = &self.wanted.0[at];
            if outcome.set > 0 && self.kind.followed(key, value) {
                self.fresh.remove(key);
                continue;
            }
            let fresh = self.fresh.contains(key);
            let mut actual = other.get_mut(at).and_then(Option::take);
            if actual.is_none() && !fresh && look_ups > 0 {
                look_ups -= 1;
                actual = self.kind.instead(kernel, key);
            }
            let difference = Difference {
                kind: T::NAME,
                thing: self.kind.thing(key),
                wanted: value.to_string(),
                found: actual
                    .as_ref()
                    .map_or_else(|| "not there".into(), |actual| actual.value.to_string()),
                by: actual.as_ref().and_then(|actual| actual.protocol),
            };
            differing.insert(difference.thing.clone());
            let by_somebody = !fresh && !along;
            if by_somebody && !ledger.permits(&difference, now) {
                continue;
            }
            let there = actual.as_ref().map(|actual| &actual.value);
            match self.kind.set(kernel, key, value, there) {
                Err(e) => {
                    outcome.failed += 1;
                    ledger.failed(&difference, e.to_string(), fresh, now);
                }
                Ok(()) => {
                    outcome.set += 1;
                    if !self.fresh.remove(key) {
                        match along {
                            true => ledger.followed(difference),
                            false => ledger.restored(difference, now),
                        }
                    }
                }
            }
        }
        self.fresh
            .retain(|key| self.wanted.at(key).is_some_and(|at| !right[at]));
        // Where the kernel knows no mark.
        let gone = std::mem::take(&mut self.gone).into_iter();
        let listed: BTreeSet<T::Key> = extra.iter().map(|(key, _)| key.clone()).collect();
        extra.extend(gone.filter(|(key, _)| !listed.contains(key)));
        for one in extra {
            self.take_away(kernel, ledger, &mut differing, one, now);
        }
        ledger.looked(T::NAME, &differing, now);
        outcome
    }

    /// Sets what is wanted anew and removes what is not wanted any more, without looking at the rest.
    pub fn apply(&mut self, kernel: &mut Kernel<'_>, ledger: &mut Ledger, now: Instant) {
        let mut left = BTreeSet::new();
        for key in std::mem::take(&mut self.fresh) {
            let Some(value) = self.wanted.get(&key) else {
                continue;
            };
            if let Err(e) = self.kind.set(kernel, &key, value, None) {
                let difference = Difference {
                    kind: T::NAME,
                    thing: self.kind.thing(&key),
                    wanted: value.to_string(),
                    found: "not there".into(),
                    by: None,
                };
                ledger.failed(&difference, e.to_string(), true, now);
                left.insert(key);
            }
        }
        self.fresh = left;
        for gone in std::mem::take(&mut self.gone) {
            self.take_away(kernel, ledger, &mut BTreeSet::new(), gone, now);
        }
    }

    fn take_away(
        &mut self,
        kernel: &mut Kernel<'_>,
        ledger: &mut Ledger,
        differing: &mut BTreeSet<String>,
        (key, value): (T::Key, T::Value),
        now: Instant,
    ) {
        let thing = self.kind.thing(&key);
        match self.kind.remove(kernel, &key, &value) {
            Ok(()) => tracing::debug!("removed {thing} {value}, which is not wanted any more"),
            Err(e) => {
                differing.insert(thing.clone());
                let difference = Difference {
                    kind: T::NAME,
                    thing,
                    wanted: "not there".into(),
                    found: value.to_string(),
                    by: Some(OWNER),
                };
                ledger.failed(&difference, e.to_string(), true, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
