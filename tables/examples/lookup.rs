//! Measures lookups: `cargo run --release -p ringway-tables --example lookup`.
//!
//! Prints nanoseconds per lookup for tiny and large tables. "throughput" is independent lookups
//! back to back, as in a batch; "latency" makes each wait for the one before.

use std::hint::black_box;
use std::time::Instant;

use ringway_tables::{Lpm, PathId, PortId, ShardMap, Target};

const ADDRESSES: usize = 1 << 15;
const ROUNDS: usize = 200;

fn main() {
    println!("{:<44} {:>10} {:>10}", "", "throughput", "latency");
    for (local, peers) in [(2, 2), (110, 1_000), (110, 100_000), (1_000, 100_000)] {
        let (table, routes) = routes4(local, peers);
        let mut random = Random(7);
        let remote: Vec<u32> = (0..ADDRESSES)
            .map(|_| pick(&routes[local..], &mut random) | 9)
            .collect();
        let pods: Vec<u32> = (0..ADDRESSES)
            .map(|_| pick(&routes[..local], &mut random))
            .collect();
        let name = format!("lpm v4, {local} /32 + {peers} /24");
        report(&format!("{name}: peer"), &remote, |a| {
            table.lookup(a).map_or(0, value)
        });
        report(&format!("{name}: pod"), &pods, |a| {
            table.lookup(a).map_or(0, value)
        });
    }
    for (local, peers) in [(2, 2), (110, 1_000), (110, 100_000)] {
        let (table, routes) = routes6(local, peers);
        let mut random = Random(7);
        let remote: Vec<u128> = (0..ADDRESSES)
            .map(|_| pick(&routes[local..], &mut random) | 9)
            .collect();
        report(
            &format!("lpm v6, {local} /128 + {peers} /64: peer"),
            &remote,
            |a| table.lookup(a).map_or(0, value),
        );
    }
    for count in [2, 110, 1_000, 100_000] {
        let mut map = ShardMap::<u64, PortId>::new();
        let macs: Vec<u64> = (0..count).map(|i| 0x0a58_0a4d_0100 + i).collect();
        for (i, &mac) in macs.iter().enumerate() {
            map.insert(mac, PortId(i as u32));
        }
        let mut random = Random(7);
        let hits: Vec<u64> = (0..ADDRESSES).map(|_| pick(&macs, &mut random)).collect();
        let misses: Vec<u64> = hits.iter().map(|mac| mac | 1 << 40).collect();
        report(&format!("mac, {count} entries: hit"), &hits, |m| {
            map.get(m).map_or(0, |p| p.0)
        });
        report(&format!("mac, {count} entries: miss"), &misses, |m| {
            map.get(m).map_or(0, |p| p.0)
        });
    }
}

fn routes4(local: usize, peers: usize) -> (Lpm<u32, Target>, Vec<u32>) {
    let mut table = Lpm::new();
    let pods = (0..local as u32).map(|i| 0x0a4d_0000 + i);
    let nodes = (0..peers as u32).map(|i| 0x2000_0000 + (i << 8));
    for (i, pod) in pods.clone().enumerate() {
        table.insert(pod, 32, Target::Port(PortId(i as u32)));
    }
    for (i, node) in nodes.clone().enumerate() {
        table.insert(node, 24, Target::Path(PathId(i as u32)));
    }
    (table, pods.chain(nodes).collect())
}

fn routes6(local: usize, peers: usize) -> (Lpm<u128, Target>, Vec<u128>) {
    let mut table = Lpm::new();
    let pods = (0..local as u128).map(|i| (0xfd77_u128 << 112) + i);
    let nodes = (0..peers as u128).map(|i| (0xfd78_u128 << 112) + (i << 64));
    for (i, pod) in pods.clone().enumerate() {
        table.insert(pod, 128, Target::Port(PortId(i as u32)));
    }
    for (i, node) in nodes.clone().enumerate() {
        table.insert(node, 64, Target::Path(PathId(i as u32)));
    }
    (table, pods.chain(nodes).collect())
}

fn value(target: Target) -> u32 {
    match target {
        Target::Port(id) => id.0,
        Target::Path(id) => id.0,
        Target::Unreachable => 0,
    }
}

/// Runs `lookup` over all keys both ways and prints the fastest of five passes.
fn report<K: Copy + std::ops::BitXor<Output = K> + From<u32>>(
    name: &str,
    keys: &[K],
    lookup: impl Fn(K) -> u32,
) {
    let mut best = [f64::MAX; 2];
    for _ in 0..5 {
        let started = Instant::now();
        let mut sum = 0u32;
        for _ in 0..ROUNDS / 5 {
            for &key in keys {
                sum = sum.wrapping_add(lookup(key));
            }
        }
        black_box(sum);
        best[0] = best[0].min(nanos(started, keys.len()));
        let started = Instant::now();
        let mut last = 0u32;
        for _ in 0..ROUNDS / 5 {
            for &key in keys {
                // Zero, but the compiler and the processor do not know it.
                last = lookup(key ^ K::from(last >> 31));
            }
        }
        black_box(last);
        best[1] = best[1].min(nanos(started, keys.len()));
    }
    println!("{name:<44} {:>7.2} ns {:>7.2} ns", best[0], best[1]);
}

fn nanos(started: Instant, keys: usize) -> f64 {
    started.elapsed().as_secs_f64() * 1e9 / (ROUNDS / 5 * keys) as f64
}

fn pick<T: Copy>(from: &[T], random: &mut Random) -> T {
    from[random.next() as usize % from.len()]
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}
