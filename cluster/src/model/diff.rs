//! From two states to the plan that leads from one to the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::delta::Delta;
use super::{Plan, State};

/// The plan that makes `new` of `old`; empty if they are equal.
pub fn diff(old: &State, new: &State) -> Plan {
    let mut delta = Delta {
        node: (old.node != new.node).then(|| new.node.clone()),
        ..Delta::default()
    };
    each_pair(&old.peers, &new.peers, |name, a, b| delta.peer(name, a, b));
    each_pair(&old.routes, &new.routes, |prefix, a, b| {
        delta.route(*prefix, a, b)
    });
    Plan::of(delta)
}

/// Walks through two sorted maps side by side.
pub(super) fn each_pair<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
    mut pair: impl FnMut(&'a K, Option<&'a V>, Option<&'a V>),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let a = if order.is_le() { old.next() } else { None };
        let b = if order.is_ge() { new.next() } else { None };
        if let Some((key, _)) = a.or(b) {
            pair(key, a.map(|(_, v)| v), b.map(|(_, v)| v));
        }
    }
}
