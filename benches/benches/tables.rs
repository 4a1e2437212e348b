//! Lookups at 1 to 1,048,576 entries, of keys that are there and of keys that are not, and one change
//! among 100,000.
//!
//! Keys come in random order, as many as would fill a second-level cache several times, so that a
//! large table is not measured by the few entries that stay in the first-level cache.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{
    BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use ringway_benches::{address, config, mix24, scatter};
use ringway_packet::addr::unmap;
use ringway_packet::mac::MacAddr;
use ringway_tables::{Chunked, Lpm, PeerId, Port, PortId, PortKind, ShardMap};

const SIZES: [u32; 5] = [1, 64, 1 << 10, 1 << 16, 1 << 20];
const LOOKUPS: usize = 1 << 17;

/// Indices of entries in random order.
fn order(size: u32) -> impl Iterator<Item = u32> {
    (0..LOOKUPS as u64).map(move |i| (scatter(i + 1_000_000) % u64::from(size)) as u32)
}

fn v4(i: u32) -> u32 {
    unmap(address(false, i)).expect("an IPv4 address")
}

/// One of the 16 million networks of this length: a /8 has not enough of them.
fn net24(i: u32) -> u32 {
    mix24(i) << 8
}

fn mac(i: u32) -> u64 {
    scatter(i.into()) >> 16
}

/// `key` of an index below a table's size is in it, of one above is not.
fn lookup<K: Copy, R, G: Fn(K) -> R>(
    c: &mut Criterion,
    name: &str,
    table: impl Fn(u32) -> G,
    key: impl Fn(u32) -> K,
) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.sampling_mode(SamplingMode::Flat);
    for size in SIZES {
        let get = table(size);
        for (outcome, first) in [("hit", 0), ("miss", size)] {
            let keys: Vec<K> = order(size).map(|i| key(first + i)).collect();
            group.bench_function(BenchmarkId::new(outcome, size), |b| {
                b.iter(|| {
                    for key in &keys {
                        black_box(get(black_box(*key)));
                    }
                });
            });
        }
    }
    group.finish();
}

fn by_hash(c: &mut Criterion) {
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
                table.insert(address(true, i), MacAddr::from_u64(mac(i)));
            });
            move |key: u128| table.get(key)
        },
        |i| address(true, i),
    );
    lookup(
        c,
        "peer by underlay address",
        |size| {
            let mut table = ShardMap::new();
            (0..size).for_each(|i| {
                table.insert(address(false, i), PeerId(i));
            });
            move |key: u128| table.get(key)
        },
        |i| address(false, i),
    );
}

fn routes(c: &mut Criterion) {
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

/// Ports; peers and paths are found the same way.
fn by_number(c: &mut Criterion) {
    let port = Port {
        kind: PortKind::Pod,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ip4: Some(10 << 24),
        ip6: None,
        mtu: 1500,
        name: Arc::from("pod"),
    };
    lookup(
        c,
        "port by number",
        |size| {
            let mut table = Chunked::default();
            (0..size).for_each(|i| {
                table.set(i, port.clone());
            });
            move |key: u32| table.get(key).map(|port| port.mtu)
        },
        |i| i,
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

criterion_group!(
    name = benches;
    config = config();
    targets = by_hash, routes, by_number, change
);
criterion_main!(benches);
