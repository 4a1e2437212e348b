//! `ShardMap` and `Chunked` against the standard library's maps, with clones that must not change.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use ringway_tables::{Chunked, Key, ShardMap};

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u32),
    Remove(u64),
    Clone,
}

/// Few keys, so that they meet; among them those whose bits are all zero or all one.
fn key() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..400u64, 1 => any::<u64>(), 1 => Just(0), 1 => Just(u64::MAX)]
}

fn ops(count: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
        3 => key().prop_map(Op::Remove),
        1 => Just(Op::Clone),
    ];
    proptest::collection::vec(op, 0..count)
}

fn same<K: Key + Ord + std::hash::Hash + std::fmt::Debug>(
    map: &ShardMap<K, u32>,
    model: &HashMap<K, u32>,
) -> bool {
    let mut ours: Vec<_> = map.iter().collect();
    let mut theirs: Vec<_> = model.iter().map(|(&k, &v)| (k, v)).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    ours == theirs
        && map.len() == model.len()
        && map.is_empty() == model.is_empty()
        && model.iter().all(|(&k, &v)| map.get(k) == Some(v))
}

fn run<K: Key + Ord + std::hash::Hash + std::fmt::Debug>(ops: Vec<Op>, key: impl Fn(u64) -> K) {
    let mut map = ShardMap::new();
    let mut model = HashMap::new();
    let mut older = Vec::new();
    for op in ops {
        match op {
            Op::Insert(k, v) => assert_eq!(map.insert(key(k), v), model.insert(key(k), v)),
            Op::Remove(k) => {
                assert_eq!(map.remove(key(k)), model.remove(&key(k)));
                assert_eq!(map.get(key(k)), None);
            }
            Op::Clone => older.push((map.clone(), model.clone())),
        }
    }
    assert!(same(&map, &model));
    for (map, model) in older {
        assert!(same(&map, &model), "an older clone has changed");
    }
}

proptest! {
    #[test]
    fn u64_keys_like_hash_map(ops in ops(600)) {
        run(ops, |k| k);
    }

    #[test]
    fn u32_keys_like_hash_map(ops in ops(600)) {
        run(ops, |k| k as u32);
    }

    #[test]
    fn u128_keys_like_hash_map(ops in ops(600)) {
        run(ops, |k| u128::from(k) << 64 | u128::from(k >> 1));
    }

    #[test]
    fn chunked_like_btree_map(ops in ops(300)) {
        let mut ours = Chunked::new();
        let mut model = BTreeMap::new();
        let mut older = Vec::new();
        for op in ops {
            match op {
                Op::Insert(k, v) => {
                    let k = k as u32 % 500;
                    prop_assert_eq!(ours.set(k, v), model.insert(k, v));
                }
                Op::Remove(k) => {
                    let k = k as u32 % 500;
                    prop_assert_eq!(ours.remove(k), model.remove(&k));
                    prop_assert_eq!(ours.get(k), None);
                }
                Op::Clone => older.push((ours.clone(), model.clone())),
            }
        }
        older.push((ours, model));
        for (ours, model) in older {
            prop_assert_eq!(ours.len(), model.len());
            prop_assert!(ours.iter().map(|(k, v)| (k, *v)).eq(model.iter().map(|(&k, &v)| (k, v))));
            let free = (3..).find(|k| !model.contains_key(k)).unwrap();
            prop_assert_eq!(ours.lowest_free(3), free);
        }
    }
}

#[test]
fn grows_through_many_splits_and_shrinks_to_nothing() {
    let mut map = ShardMap::new();
    let mut older = Vec::new();
    for i in 0..20_000u32 {
        if i.is_power_of_two() {
            older.push((i, map.clone()));
        }
        assert_eq!(map.insert(i << 8, i), None);
    }
    for (count, old) in &older {
        assert_eq!(old.len(), *count as usize);
        assert!((0..20_000).all(|i| old.get(i << 8) == (i < *count).then_some(i)));
    }
    let full = map.clone();
    for i in 0..20_000u32 {
        assert_eq!(map.remove(i << 8), Some(i));
        assert_eq!(map.remove(i << 8), None);
    }
    assert!(map.is_empty());
    assert_eq!(map.iter().count(), 0);
    assert_eq!(full.iter().count(), 20_000);
}

#[test]
fn one_change_among_100_000_copies_one_shard_and_the_root() {
    let mut map = ShardMap::<u32, u64>::new();
    for i in 0..100_000 {
        map.insert(0x0a00_0000 + i, u64::from(i));
    }
    let mut worst = 0;
    for i in 0..2_000 {
        let mut next = map.clone();
        assert_eq!(next.unshared_bytes(&map), 0);
        match i % 3 {
            0 => next.insert(0x0b00_0000 + i, 1),
            1 => next.insert(0x0a00_0000 + i * 31, 1),
            _ => next.remove(0x0a00_0000 + i * 31),
        };
        let copied = next.unshared_bytes(&map);
        assert!(copied > 0);
        worst = worst.max(copied);
    }
    // Root: up to 1,024 pointers of 24 bytes; a shard of 8 KB, or two halves of one.
    assert!(worst <= 1_024 * 24 + 2 * 8_192, "{worst} bytes copied");
}

#[test]
fn setting_one_of_10_000_copies_the_pointers_and_one_chunk() {
    let mut chunked = Chunked::new();
    for i in 0..10_000u32 {
        chunked.set(i, u64::from(i));
    }
    let before = chunked.clone();
    chunked.set(5_000, 1);
    let copied = chunked.unshared_bytes(&before);
    assert_eq!(copied, 625 * 8 + 16 * 16);
    assert_eq!(before.get(5_000), Some(&5_000));
    assert_eq!(chunked.get(5_000), Some(&1));
    assert_eq!(chunked.get(u32::MAX), None);
}
