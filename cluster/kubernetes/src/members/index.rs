//! Who claims which part of the address space.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_packet::addr::to_ip;
use ringway_tables::Cidr;

use crate::slim::Node;

/// Which of two Nodes keeps what both claim: the older one; of the same second, the lower UID. All nodes of a
/// cluster come to the same end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// A Node that does not say when it was made, or not as the API does, is the youngest.
    undated: bool,
    created: Arc<str>,
    uid: Arc<str>,
    name: Arc<str>,
}

impl Rank {
    pub(super) fn of(node: &Node) -> Self {
        // 2026-11-28T10:00:00Z
        let dated = node.created.len() == 20
            && node.created.ends_with('Z')
            && node.created.starts_with(|c: char| c.is_ascii_digit());
        Self {
            undated: !dated,
            created: node.created.as_str().into(),
            uid: node.uid.as_str().into(),
            name: node.name.as_str().into(),
        }
    }
}

/// Networks and addresses, and whose they are. Two overlap if one is inside the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    claims: BTreeMap<Key, BTreeSet<Rank>>,
    /// Lengths in use by family, and how often.
    lengths: BTreeMap<(bool, u8), usize>,
}

/// By address, then by length: in a network lies what is between its first and its last address and is no shorter.
type Key = (bool, u128, u8);

fn key(cidr: Cidr) -> Key {
    (cidr.is_ipv6(), cidr.first(), cidr.prefix_len())
}

impl Index {
    pub(super) fn insert(&mut self, what: Cidr, rank: Rank) {
        let (v6, _, len) = key(what);
        if self.claims.entry(key(what)).or_default().insert(rank) {
            *self.lengths.entry((v6, len)).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, what: Cidr, rank: &Rank) {
        let (v6, _, len) = key(what);
        let Some(ranks) = self.claims.get_mut(&key(what)) else {
            return;
        };
        if ranks.remove(rank)
            && let Some(count) = self.lengths.get_mut(&(v6, len))
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&(v6, len));
            }
        }
        if ranks.is_empty() {
            self.claims.remove(&key(what));
        }
    }

    /// Everybody who claims some of it.
    pub(super) fn overlapping(&self, what: Cidr) -> BTreeSet<Arc<str>> {
        self.around_and_in(what)
            .map(|(_, rank)| rank.name.clone())
            .collect()
    }

    /// The oldest of the others that are older than `rank` and claim some of it, and what they claim.
    pub(super) fn earlier(&self, what: Cidr, rank: &Rank) -> Option<(Arc<str>, Cidr)> {
        let older = self
            .around_and_in(what)
            .filter(|(_, r)| *r < rank && r.name != rank.name);
        let (cidr, first) = older.min_by_key(|(_, r)| *r)?;
        Some((first.name.clone(), cidr))
    }

    fn around_and_in(&self, what: Cidr) -> impl Iterator<Item = (Cidr, &Rank)> {
        let (v6, first, len) = key(what);
        let inside = self
            .claims
            .range((v6, first, len)..=(v6, what.last(), u8::MAX));
        // A shorter network with the same first address sorts before.
        let shorter = self
            .lengths
            .range((v6, 0)..(v6, len))
            .map(|((_, len), _)| *len);
        let around = shorter.filter_map(move |len| {
            let cidr = Cidr::containing(what.network(), len).ok()?;
            self.claims.get_key_value(&key(cidr))
        });
        inside.chain(around).flat_map(|(key, ranks)| {
            let cidr = cidr_of(*key);
            ranks.iter().filter_map(move |rank| Some((cidr?, rank)))
        })
    }
}

fn cidr_of((_, first, len): Key) -> Option<Cidr> {
    Cidr::containing(to_ip(first), len).ok()
}
