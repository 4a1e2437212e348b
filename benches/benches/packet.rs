//! The first stages of every packet: parse, flow hash, checksum.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_benches::{FRAMES, config, superframe, udp};
use ringway_packet::checksum;
use ringway_packet::flow::flow_hash;
use ringway_packet::kit;
use ringway_packet::parse::parse;

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let tagged = |v6| {
        let frames = udp(v6, 1000, 18).into_iter();
        frames.map(|f| kit::tag(&f, 7)).collect::<Vec<_>>()
    };
    let tcp = |v6| -> Vec<_> { (0..FRAMES).map(|_| superframe(v6, 1000, 1400).0).collect() };
    for (name, frames) in [
        ("udp4", udp(false, 1000, 18)),
        ("tcp4", tcp(false)),
        ("tcp6", tcp(true)),
        ("udp6", udp(true, 1000, 18)),
        ("udp4 tagged", tagged(false)),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for frame in &frames {
                    let _ = black_box(parse(black_box(frame), frame.len()));
                }
            });
        });
    }
    group.finish();
}

fn hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow hash");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for (name, v6) in [("ipv4", false), ("ipv6", true)] {
        let frames: Vec<_> = udp(v6, 1000, 18)
            .into_iter()
            .map(|frame| {
                let parsed = parse(&frame, frame.len()).expect("a good frame");
                (frame, parsed)
            })
            .collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                for (_, parsed) in &frames {
                    black_box(flow_hash(black_box(parsed)));
                }
            });
        });
    }
    group.finish();
}

fn summing(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [64, 1400, 65_536] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| checksum::fold(checksum::sum(black_box(&bytes))));
        });
    }
    group.finish();
}

criterion_group!(
    name = benches;
    config = config();
    targets = parsing, hashing, summing
);
criterion_main!(benches);
