//! Longest-prefix match: one hash table per prefix length in use, longest first.
//!
//! A pod network has very few lengths (/32 for local pods, /24 for peers), so a lookup is one or
//! two probes, and the table of the longest length, that of our own pods, is small and hot. A
//! trie would cost a dependent load per level instead. With n lengths in use a lookup costs at
//! most n probes, 33 or 129 in the worst case.
//!
//! Each length remembers the span of addresses its prefixes lie in, and is passed over without a
//! probe by an address outside: all /32 are in the node's own network, so a packet to a remote pod
//! costs one probe. The span is not narrowed by removals (until the length is out of use), which
//! costs a probe at worst.

use std::sync::Arc;

use crate::shard_map::{AtHome, Key, ShardMap};

/// An address that can be looked up: `u32` or `u128`, host order.
pub trait Address: Key + Ord + std::ops::BitAnd<Output = Self> {
    /// Length of an address in bits.
    const BITS: u8;
    /// Network mask of a prefix length.
    fn mask(len: u8) -> Self;
}

impl Address for u32 {
    const BITS: u8 = 32;
    fn mask(len: u8) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(len.min(32)))
            .unwrap_or(0)
    }
}

impl Address for u128 {
    const BITS: u8 = 128;
    fn mask(len: u8) -> u128 {
        u128::MAX
            .checked_shl(128 - u32::from(len.min(128)))
            .unwrap_or(0)
    }
}

#[derive(Clone)]
struct Level<A, V> {
    mask: A,
    /// Lowest and highest network here; may be wider after removals.
    span: (A, A),
    len: u8,
    map: ShardMap<A, V>,
}

impl<A: Address, V: Copy + Default> Level<A, V> {
    /// The network that an address would be in, if there may be such here.
    #[inline(always)]
    fn network(&self, addr: A) -> Option<A> {
        let network = addr & self.mask;
        (self.span.0 <= network && network <= self.span.1).then_some(network)
    }

    fn get(&self, addr: A) -> Option<V> {
        self.map.get(self.network(addr)?)
    }
}

/// A persistent routing table. Cloning is one reference count.
pub struct Lpm<A, V> {
    /// Sorted by length, longest first; none is empty.
    levels: Arc<[Level<A, V>]>,
}

impl<A, V> Clone for Lpm<A, V> {
    fn clone(&self) -> Self {
        Lpm {
            levels: self.levels.clone(),
        }
    }
}

impl<A: Address, V: Copy + Default> Default for Lpm<A, V> {
    fn default() -> Self {
        Lpm {
            levels: Arc::from([]),
        }
    }
}

impl<A: Address, V: Copy + Default> Lpm<A, V> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.levels.iter().map(|level| level.map.len()).sum()
    }

    /// Whether there are no prefixes.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Value of the longest prefix that contains `addr`.
    #[inline]
    pub fn lookup(&self, addr: A) -> Option<V> {
        // A plain loop that calls nothing: `find_map` becomes a function that keeps its state in memory, and a
        // call in a loop has registers saved before it.
        for level in self.levels.iter() {
            let Some(network) = level.network(addr) else {
                continue;
            };
            match level.map.get_at_home(network) {
                AtHome::Is(value) => return Some(value),
                AtHome::Absent => {}
                AtHome::MayBeBeyond => return self.lookup_beyond(addr),
            }
        }
        None
    }

    /// The same where a bucket overflows: rare.
    #[cold]
    #[inline(never)]
    fn lookup_beyond(&self, addr: A) -> Option<V> {
        self.levels.iter().find_map(|level| level.get(addr))
    }

    /// The same with the prefix's length.
    #[inline]
    pub fn lookup_prefix(&self, addr: A) -> Option<(u8, V)> {
        self.levels.iter().find_map(|l| Some((l.len, l.get(addr)?)))
    }

    /// Value of exactly this prefix. Host bits are ignored.
    pub fn get(&self, prefix: A, len: u8) -> Option<V> {
        let level = self.levels.iter().find(|level| level.len == len)?;
        level.get(prefix)
    }

    /// Sets the value of a prefix and returns the one it had. Host bits are ignored; a length
    /// above [`Address::BITS`] counts as that.
    pub fn insert(&mut self, prefix: A, len: u8, value: V) -> Option<V> {
        let len = len.min(A::BITS);
        let at = match self.position(len) {
            Ok(at) => at,
            Err(at) => {
                let mask = A::mask(len);
                let new = Level {
                    mask,
                    span: (prefix & mask, prefix & mask),
                    len,
                    map: ShardMap::new(),
                };
                let (longer, shorter) = self.levels.split_at(at);
                self.levels = longer
                    .iter()
                    .chain([&new])
                    .chain(shorter)
                    .cloned()
                    .collect();
                at
            }
        };
        let level = &mut Arc::make_mut(&mut self.levels)[at];
        let network = prefix & level.mask;
        level.span = (level.span.0.min(network), level.span.1.max(network));
        level.map.insert(network, value)
    }

    /// Removes exactly this prefix and returns the value it had.
    pub fn remove(&mut self, prefix: A, len: u8) -> Option<V> {
        let at = self.position(len).ok()?;
        let level = &mut Arc::make_mut(&mut self.levels)[at];
        let old = level.map.remove(prefix & level.mask);
        if level.map.is_empty() {
            self.levels = self
                .levels
                .iter()
                .filter(|l| !l.map.is_empty())
                .cloned()
                .collect();
        }
        old
    }

    /// All prefixes as (network, length, value), longest first.
    pub fn iter(&self) -> impl Iterator<Item = (A, u8, V)> + '_ {
        self.levels
            .iter()
            .flat_map(|level| level.map.iter().map(|(a, v)| (a, level.len, v)))
    }

    /// Bytes of this table that it does not share with `other`: what a change has copied.
    pub fn unshared_bytes(&self, other: &Self) -> usize {
        if Arc::ptr_eq(&self.levels, &other.levels) {
            return 0;
        }
        let empty = ShardMap::new();
        let maps = self.levels.iter().map(|level| {
            let theirs = other.levels.iter().find(|theirs| theirs.len == level.len);
            level
                .map
                .unshared_bytes(theirs.map_or(&empty, |theirs| &theirs.map))
        });
        size_of_val(&*self.levels) + maps.sum::<usize>()
    }

    fn position(&self, len: u8) -> Result<usize, usize> {
        self.levels.binary_search_by(|level| len.cmp(&level.len))
    }
}
