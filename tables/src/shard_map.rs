//! A persistent hash map whose lookups cost a handful of nanoseconds.
//!
//! ```text
//! root  [ shard | shard | … ]      2^d entries, indexed by the low hash bits
//!            └─ [ bucket | bucket | … ]   home by the high hash bits, then linear
//!                    └─ 5 keys, 5 values, which are used: one cache line for IPv4 routes and MACs
//! ```
//! A lookup is hash, root entry, bucket: two dependent loads and, 19 times in 20, one cache line.
//! Within a bucket all keys are compared without a branch, so nothing is mispredicted.
//!
//! Cloning shares the root. A change copies the root (24 bytes per shard) and one shard of at most
//! [`SHARD_BYTES`], unless the map is the only owner: then it is made in place. A shard that would
//! outgrow its limit is split in two; only when it was the deepest does the root double
//! (extendible hashing, Fagin 1979), and even that copies no entries, so no change ever costs a
//! pass over the table. Until its turn comes to be split, a shard stands in several root entries.
//! Removal rebuilds the shard: no tombstones, and the shard shrinks.

use std::sync::Arc;

/// Entries per bucket: with 5, every table of the switch fills its cache line(s) exactly.
const SLOTS: usize = 5;
/// A shard is split before it outgrows this.
const SHARD_BYTES: usize = 8192;
/// The root stops doubling at 2^16 shards; beyond some 10 million entries shards grow instead.
const MAX_DEPTH: u32 = 16;

/// A key of a [`ShardMap`].
pub trait Key: Copy + Eq + Default + Send + Sync + 'static {
    /// A hash whose low and high halves are both well mixed.
    fn hash(self) -> u64;
}

/// 64×64→128 multiply, halves folded.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

const SEED_A: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED_B: u64 = 0xd1b5_4a32_d192_ed03;

impl Key for u32 {
    #[inline(always)]
    fn hash(self) -> u64 {
        mix(u64::from(self) ^ SEED_A, SEED_B)
    }
}

impl Key for u64 {
    #[inline(always)]
    fn hash(self) -> u64 {
        mix(self ^ SEED_A, SEED_B)
    }
}

impl Key for u128 {
    #[inline(always)]
    fn hash(self) -> u64 {
        mix(self as u64 ^ SEED_A, (self >> 64) as u64 ^ SEED_B)
    }
}

#[derive(Copy, Clone)]
#[repr(align(64))]
struct Bucket<K, V> {
    keys: [K; SLOTS],
    values: [V; SLOTS],
    /// A bit for each slot in use; they are filled from the first on.
    used: u8,
}

impl<K: Key, V: Copy + Default> Bucket<K, V> {
    fn empty() -> Self {
        Bucket {
            keys: [K::default(); SLOTS],
            values: [V::default(); SLOTS],
            used: 0,
        }
    }

    /// Slot of `key`. Unused slots hold a default key, hence the last step.
    #[inline(always)]
    fn find(&self, key: K) -> Option<usize> {
        let mut hits = 0u32;
        for (slot, candidate) in self.keys.iter().enumerate() {
            hits |= u32::from(*candidate == key) << slot;
        }
        hits &= u32::from(self.used);
        if hits == 0 {
            None
        } else {
            Some(hits.trailing_zeros() as usize)
        }
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.used == (1 << SLOTS) - 1
    }

    fn len(&self) -> usize {
        self.used.count_ones() as usize
    }
}

/// What a key's home bucket tells of it.
pub(crate) enum AtHome<V> {
    /// Its value.
    Is(V),
    /// It is not in the map.
    Absent,
    /// The bucket is full: it may be in one behind it.
    MayBeBeyond,
}

#[derive(Clone)]
struct Shard<K, V> {
    buckets: Arc<[Bucket<K, V>]>,
    len: u32,
    /// Number of low hash bits that all keys here have in common.
    depth: u32,
}

/// A persistent hash map; how it works stands at the top of its file.
pub struct ShardMap<K, V> {
    root: Arc<[Shard<K, V>]>,
    len: usize,
}

impl<K, V> Clone for ShardMap<K, V> {
    fn clone(&self) -> Self {
        ShardMap {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<K: Key, V: Copy + Default> Default for ShardMap<K, V> {
    fn default() -> Self {
        ShardMap {
            root: Arc::from([Shard::with_capacity(0, 0)]),
            len: 0,
        }
    }
}

impl<K: Key, V: Copy + Default> ShardMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: K) -> Option<V> {
        let hash = key.hash();
        self.root.get(self.index(hash))?.get(key, hash)
    }

    /// The value of `key`, if its home bucket tells. Calls nothing, so a caller without other calls keeps its
    /// registers.
    #[inline(always)]
    pub(crate) fn get_at_home(&self, key: K) -> AtHome<V> {
        let hash = key.hash();
        match self.root.get(self.index(hash)) {
            Some(shard) => shard.get_at_home(key, hash),
            None => AtHome::Absent,
        }
    }

    /// Sets the value of `key` and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = key.hash();
        loop {
            let index = self.index(hash);
            let shard = &self.root[index];
            if shard.get(key, hash).is_some() {
                return self.edit(index, |shard| shard.replace(key, hash, value));
            }
            if !shard.has_room() && shard.must_split() {
                self.split(index);
                continue;
            }
            self.edit(index, |shard| shard.add(key, hash, value));
            self.len += 1;
            return None;
        }
    }

    /// Removes `key` and returns the value it had.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let hash = key.hash();
        let index = self.index(hash);
        let old = self.root[index].get(key, hash)?;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else {
            self.edit(index, |shard| *shard = shard.without(key));
        }
        Some(old)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.shards().flat_map(|shard| shard.entries())
    }

    /// Bytes of this map that it does not share with `other`: what a change has copied.
    pub fn unshared_bytes(&self, other: &Self) -> usize {
        if Arc::ptr_eq(&self.root, &other.root) {
            return 0;
        }
        let copied = self.shards().filter(|shard| {
            !other
                .root
                .iter()
                .any(|theirs| Arc::ptr_eq(&theirs.buckets, &shard.buckets))
        });
        size_of_val(&*self.root) + copied.map(|s| size_of_val(&*s.buckets)).sum::<usize>()
    }

    /// Each shard once, though several root entries may hold it.
    fn shards(&self) -> impl Iterator<Item = &Shard<K, V>> {
        self.root
            .iter()
            .enumerate()
            .filter(|(i, s)| i >> s.depth == 0)
            .map(|(_, s)| s)
    }

    #[inline(always)]
    fn index(&self, hash: u64) -> usize {
        hash as usize & (self.root.len() - 1)
    }

    /// Changes a shard and puts it into every root entry that holds it.
    fn edit<R>(&mut self, index: usize, change: impl FnOnce(&mut Shard<K, V>) -> R) -> R {
        let root = Arc::make_mut(&mut self.root);
        let step = 1usize << root[index].depth;
        let first = index & (step - 1);
        // Let go of the other holders, else a change in place would find the shard shared.
        for alias in (first + step..root.len()).step_by(step) {
            root[alias] = Shard::with_capacity(0, 0);
        }
        let result = change(&mut root[first]);
        for alias in (first + step..root.len()).step_by(step) {
            root[alias] = root[first].clone();
        }
        result
    }

    /// Parts a shard by the next hash bit; doubles the root if the shard was the deepest.
    fn split(&mut self, index: usize) {
        let depth = self.root[index].depth;
        if self.root.len() == 1 << depth {
            self.root = self.root.iter().chain(self.root.iter()).cloned().collect();
        }
        let halves = [0, 1].map(|bit| {
            let of_half = |key: &K| key.hash() >> depth & 1 == bit;
            let shard = &self.root[index];
            let len = shard.entries().filter(|(key, _)| of_half(key)).count();
            let mut half = Shard::with_capacity(len, depth + 1);
            shard
                .entries()
                .filter(|(key, _)| of_half(key))
                .for_each(|(k, v)| half.place(k, v));
            half
        });
        let root = Arc::make_mut(&mut self.root);
        let step = 1usize << depth;
        for (i, at) in (index & (step - 1)..root.len()).step_by(step).enumerate() {
            root[at] = halves[i & 1].clone();
        }
    }
}

impl<K: Key, V: Copy + Default> Shard<K, V> {
    /// Buckets for `len` entries at half load.
    fn with_capacity(len: usize, depth: u32) -> Self {
        let buckets = (2 * len).div_ceil(SLOTS);
        Shard {
            buckets: (0..buckets).map(|_| Bucket::empty()).collect(),
            len: 0,
            depth,
        }
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn get(&self, key: K, hash: u64) -> Option<V> {
        match self.get_at_home(key, hash) {
            AtHome::Is(value) => Some(value),
            AtHome::Absent => None,
            AtHome::MayBeBeyond => self.get_beyond(self.home(hash), key),
        }
    }

    #[inline(always)]
    fn get_at_home(&self, key: K, hash: u64) -> AtHome<V> {
        let Some(bucket) = self.buckets.get(self.home(hash)) else {
            return AtHome::Absent;
        };
        match bucket.find(key) {
            Some(slot) => match bucket.values.get(slot) {
                Some(value) => AtHome::Is(*value),
                None => AtHome::Absent,
            },
            None if bucket.is_full() => AtHome::MayBeBeyond,
            None => AtHome::Absent,
        }
    }

    /// The same behind a full home bucket: rare, and so not in the way of the other 19 of 20.
    #[cold]
    fn get_beyond(&self, home: usize, key: K) -> Option<V> {
        let (before, from_home) = self.buckets.split_at_checked(home)?;
        for bucket in from_home.iter().skip(1).chain(before) {
            if let Some(slot) = bucket.find(key) {
                return bucket.values.get(slot).copied();
            }
            if !bucket.is_full() {
                return None;
            }
        }
        None
    }

    /// Room for one more below a load of 13/20.
    fn has_room(&self) -> bool {
        (self.len as usize + 1) * 20 <= self.buckets.len() * SLOTS * 13
    }

    fn must_split(&self) -> bool {
        let grown = (2 * (self.len as usize + 1)).div_ceil(SLOTS);
        self.depth < MAX_DEPTH && grown * size_of::<Bucket<K, V>>() > SHARD_BYTES
    }

    fn entries(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.buckets.iter().flat_map(|bucket| {
            let pairs = bucket.keys.into_iter().zip(bucket.values);
            pairs.take(bucket.len())
        })
    }

    fn replace(&mut self, key: K, hash: u64, value: V) -> Option<V> {
        let mut at = self.home(hash);
        let buckets = Arc::make_mut(&mut self.buckets);
        for _ in 0..buckets.len() {
            let bucket = &mut buckets[at];
            if let Some(slot) = bucket.find(key) {
                return Some(std::mem::replace(&mut bucket.values[slot], value));
            }
            at = (at + 1) % buckets.len();
        }
        None
    }

    /// Adds a key that is not there.
    fn add(&mut self, key: K, hash: u64, value: V) {
        if !self.has_room() {
            let mut grown = Shard::with_capacity(self.len as usize + 1, self.depth);
            self.entries().for_each(|(k, v)| grown.place(k, v));
            *self = grown;
        }
        debug_assert_eq!(key.hash(), hash);
        self.place(key, value);
    }

    /// Puts a key that is not there into the first bucket with room. There is one: load is
    /// kept below 1 by all callers.
    fn place(&mut self, key: K, value: V) {
        let mut at = self.home(key.hash());
        let buckets = Arc::make_mut(&mut self.buckets);
        while buckets[at].is_full() {
            at = (at + 1) % buckets.len();
        }
        let bucket = &mut buckets[at];
        let slot = bucket.len();
        bucket.keys[slot] = key;
        bucket.values[slot] = value;
        bucket.used |= 1 << slot;
        self.len += 1;
    }

    fn without(&self, key: K) -> Self {
        let mut rest = Shard::with_capacity(self.len as usize - 1, self.depth);
        self.entries()
            .filter(|(k, _)| *k != key)
            .for_each(|(k, v)| rest.place(k, v));
        rest
    }
}
