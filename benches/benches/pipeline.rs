//! The whole way of a packet, memory to memory, 64-byte UDP: to a pod of the same node, to a peer, from
//! a peer. What `ringway-perf pipeline` measures, one batch at a time; no allocation, no drop.

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_benches::config;
use ringway_perf::lab::Family;
use ringway_perf::pipeline::{Fill, Scenario, Traffic, Work};

const BATCH: usize = 64;

fn pipeline(c: &mut Criterion) {
    for (name, scenario) in [
        ("same node", Scenario::Forward),
        ("to peer", Scenario::Encap),
        ("from peer", Scenario::Decap),
        ("from peer, coalesced", Scenario::DecapCoalesced),
    ] {
        for family in Family::BOTH {
            let mut group = c.benchmark_group(format!("pipeline {name}, {family}"));
            for flows in [1, 1_000, 100_000] {
                let traffic = Traffic::small(scenario, family, flows);
                let work = Work::of(&traffic, Fill::TINY).expect("frames and tables");
                let mut lane = work.lane(BATCH).expect("a worker");
                lane.batch().expect("a batch that fits");
                group.throughput(Throughput::Elements(lane.packets()));
                group.bench_function(BenchmarkId::new("flows", flows), |b| {
                    b.iter_custom(|batches| {
                        let region = stats_alloc::Region::new(ringway_perf::ALLOCATOR);
                        let started = Instant::now();
                        for _ in 0..batches {
                            lane.batch().expect("a batch that fits");
                        }
                        let elapsed = started.elapsed();
                        let change = region.change();
                        assert_eq!(change.allocations + change.reallocations, 0, "allocations");
                        elapsed
                    });
                });
                assert_eq!(lane.forwarded(), lane.packets(), "{:?}", lane.drops());
            }
            group.finish();
        }
    }
}

criterion_group!(
    name = benches;
    config = config();
    targets = pipeline
);
criterion_main!(benches);
