//! `Lpm` against a scan of all prefixes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringway_tables::{Address, Lpm};

#[derive(Clone, Debug)]
enum Op<A> {
    Insert(A, u8, u32),
    Remove(A, u8),
    Clone,
}

/// The plain truth: all prefixes, the longest that matches wins.
#[derive(Clone, Default)]
struct Scan<A: Ord>(BTreeMap<(u8, A), u32>);

impl<A: Address> Scan<A> {
    fn lookup(&self, addr: A) -> Option<(u8, u32)> {
        let matching = self
            .0
            .iter()
            .filter(|((len, network), _)| addr & A::mask(*len) == *network);
        matching
            .max_by_key(|((len, _), _)| *len)
            .map(|((len, _), value)| (*len, *value))
    }
}

fn run<A: Address + std::fmt::Debug>(ops: Vec<Op<A>>, probes: Vec<A>) {
    let mut table = Lpm::new();
    let mut scan = Scan::default();
    let mut older = Vec::new();
    for op in ops {
        match op {
            Op::Insert(a, len, v) => {
                assert_eq!(
                    table.insert(a, len, v),
                    scan.0.insert((len, a & A::mask(len)), v)
                );
            }
            Op::Remove(a, len) => {
                assert_eq!(
                    table.remove(a, len),
                    scan.0.remove(&(len, a & A::mask(len)))
                );
            }
            Op::Clone => older.push((table.clone(), scan.clone())),
        }
    }
    older.push((table, scan));
    for (table, scan) in older {
        assert_eq!(table.len(), scan.0.len());
        assert_eq!(table.is_empty(), scan.0.is_empty());
        let mut entries: Vec<_> = table.iter().map(|(a, len, v)| ((len, a), v)).collect();
        entries.sort_unstable();
        assert!(
            entries
                .iter()
                .copied()
                .eq(scan.0.iter().map(|(&k, &v)| (k, v)))
        );
        for &probe in probes.iter().chain(scan.0.keys().map(|(_, a)| a)) {
            assert_eq!(table.lookup_prefix(probe), scan.lookup(probe), "{probe:?}");
            assert_eq!(table.lookup(probe), scan.lookup(probe).map(|(_, v)| v));
        }
        for (&(len, a), &v) in &scan.0 {
            assert_eq!(table.get(a, len), Some(v));
        }
    }
}

/// Addresses close to each other, and the extremes.
fn v4() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0..4u32, 0..4u32, 0..8u32).prop_map(|(a, b, c)| 0x0a00_0000 | a << 16 | b << 8 | c),
        1 => any::<u32>(),
        1 => Just(0),
        1 => Just(u32::MAX),
    ]
}

fn v6() -> impl Strategy<Value = u128> {
    prop_oneof![
        4 => (v4(), v4()).prop_map(|(a, b)| 0xfd77 << 112 | u128::from(a) << 48 | u128::from(b & 7)),
        1 => any::<u128>(),
        1 => Just(0),
        1 => Just(u128::MAX),
    ]
}

fn ops<A: Clone + std::fmt::Debug>(
    addr: impl Strategy<Value = A> + Clone,
    len: impl Strategy<Value = u8> + Clone,
) -> impl Strategy<Value = Vec<Op<A>>> {
    let op = prop_oneof![
        6 => (addr.clone(), len.clone(), any::<u32>()).prop_map(|(a, l, v)| Op::Insert(a, l, v)),
        3 => (addr, len).prop_map(|(a, l)| Op::Remove(a, l)),
        1 => Just(Op::Clone),
    ];
    proptest::collection::vec(op, 0..120)
}

fn v4_ops() -> impl Strategy<Value = Vec<Op<u32>>> {
    let len = || prop_oneof![Just(32u8), Just(24), 0..=32u8].boxed();
    ops(v4().boxed(), len())
}

fn v6_ops() -> impl Strategy<Value = Vec<Op<u128>>> {
    let len = || prop_oneof![Just(128u8), Just(64), 0..=128u8].boxed();
    ops(v6().boxed(), len())
}

proptest! {
    #[test]
    fn ipv4_like_a_scan(ops in v4_ops(), probes in proptest::collection::vec(v4(), 0..40)) {
        run(ops, probes);
    }

    #[test]
    fn ipv6_like_a_scan(ops in v6_ops(), probes in proptest::collection::vec(v6(), 0..40)) {
        run(ops, probes);
    }
}

#[test]
fn masks() {
    assert_eq!(u32::mask(0), 0);
    assert_eq!(u32::mask(24), 0xffff_ff00);
    assert_eq!(u32::mask(32), u32::MAX);
    assert_eq!(u32::mask(200), u32::MAX);
    assert_eq!(u128::mask(0), 0);
    assert_eq!(u128::mask(1), 1 << 127);
    assert_eq!(u128::mask(128), u128::MAX);
}

#[test]
fn host_bits_and_excess_length_are_cut_off() {
    let mut table = Lpm::<u32, u32>::new();
    table.insert(0x0a4d_0107, 24, 1);
    assert_eq!(table.iter().next(), Some((0x0a4d_0100, 24, 1)));
    assert_eq!(table.remove(0x0a4d_01ff, 24), Some(1));
    table.insert(7, 99, 2);
    assert_eq!(table.lookup_prefix(7), Some((32, 2)));
}

#[test]
fn a_change_copies_one_shard_of_one_length() {
    let mut table = Lpm::<u32, u32>::new();
    for i in 0..50_000 {
        table.insert(0x0a00_0000 + i, 32, i);
        table.insert(0x2000_0000 + (i << 8), 24, i);
    }
    let mut next = table.clone();
    assert_eq!(next.unshared_bytes(&table), 0);
    next.insert(0x2000_0000, 24, 7);
    let copied = next.unshared_bytes(&table);
    assert!(copied <= 512 * 24 + 8_192 + 256, "{copied} bytes copied");
    assert_eq!(table.lookup(0x2000_0001), Some(0));
    assert_eq!(next.lookup(0x2000_0001), Some(7));
}
