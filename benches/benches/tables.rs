//! Lookups at 1, 1,000 and 100,000 entries, and one change among 100,000.
//!
//! Every lookup is a hit; keys come in random order, as many as the largest table has entries, so
//! that a large table is not measured by the few entries that stay in the first-level cache.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_benches::{address, scatter};
use ringway_packet::addr::unmap;
use ringway_tables::{Lpm, PortId, ShardMap};

const SIZES: [u32; 3] = [1, 1_000, 100_000];
const LOOKUPS: usize = 100_000;

/// Indices of entries in random order.
fn order(size: u32) -> Vec<u32> {
    (0..LOOKUPS as u64)
        .map(|i| (scatter(i + 1_000_000) % u64::from(size)) as u32)
        .collect()
}

fn v4(i: u32) -> u32 {
    unmap(address(false, i)).expect("an IPv4 address")
}

/// One of the 16 million networks of this length: a /8 has not enough of them.
fn net24(i: u32) -> u32 {
    (scatter(i.into()) as u32) << 8
}

fn lookup<K: Copy, R, G: Fn(K) -> R>(
    c: &mut Criterion,
    name: &str,
    table: impl Fn(u32) -> G,
    key: impl Fn(u32) -> K,
) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    for size in SIZES {
        let get = table(size);
        let keys: Vec<K> = order(size).into_iter().map(&key).collect();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                for key in &keys {
                    black_box(get(black_box(*key)));
                }
            });
        });
    }
    group.finish();
}

fn lookups(c: &mut Criterion) {
    let mac = |i: u32| scatter(i.into()) >> 16;
    lookup(
        c,
        "mac table get",
        |size| {
            let mut table = ShardMap::new();
            (0..size).for_each(|i| {
                table.insert(mac(i), PortId(i));
            });
            move |key: u64| table.get(key)
        },
        mac,
    );
    lookup(
        c,
        "neighbour table get",
        |size| {
            let mut table = ShardMap::new();
            (0..size).for_each(|i| {
                table.insert(address(true, i), PortId(i));
            });
            move |key: u128| table.get(key)
        },
        |i| address(true, i),
    );
    lookup(
        c,
        "route lookup ipv4, /32 among a /8",
        |size| {
            let mut table = Lpm::new();
            table.insert(10 << 24, 8, PortId(0));
            (0..size).for_each(|i| {
                table.insert(v4(i), 32, PortId(i));
            });
            move |key: u32| table.lookup(key)
        },
        v4,
    );
    lookup(
        c,
        "route lookup ipv4, /24",
        |size| {
            let mut table = Lpm::new();
            (0..size).for_each(|i| {
                table.insert(net24(i), 24, PortId(i));
            });
            move |key: u32| table.lookup(key)
        },
        |i| net24(i) | 7,
    );
    lookup(
        c,
        "route lookup ipv6, /64",
        |size| {
            let mut table = Lpm::new();
            (0..size).for_each(|i| {
                table.insert(address(true, i) >> 64 << 64, 64, PortId(i));
            });
            move |key: u128| table.lookup(key)
        },
        |i| address(true, i),
    );
}

fn change(c: &mut Criterion) {
    let mut table = ShardMap::new();
    for i in 0..100_000 {
        table.insert(address(true, i), PortId(i));
    }
    c.bench_function("insert into a shared table of 100000", |b| {
        b.iter_batched(
            || table.clone(),
            |mut copy| {
                copy.insert(address(true, 100_001), PortId(1));
                copy
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, lookups, change);
criterion_main!(benches);
