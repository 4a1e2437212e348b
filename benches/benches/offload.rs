//! Segmentation of a 64 KB superframe and coalescing of its segments, checksums included.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringway_benches::{config, superframe};
use ringway_packet::checksum;
use ringway_packet::gro::Coalescer;
use ringway_packet::gso::Segmenter;
use ringway_packet::parse::{Parsed, parse};

const PAYLOAD: usize = 44 * 1398;
const SEGMENT: u16 = 1398;
const PER_SEGMENT: Throughput = Throughput::ElementsAndBytes {
    elements: (PAYLOAD / SEGMENT as usize) as u64,
    bytes: PAYLOAD as u64,
};

/// The segments of one superframe as whole frames.
fn segments(v6: bool) -> Vec<(Vec<u8>, Parsed)> {
    let (frame, offload) = superframe(v6, PAYLOAD, SEGMENT);
    let parsed = parse(&frame, frame.len()).expect("a good frame");
    let segmenter = Segmenter::new(&frame, &parsed, &offload, frame.len()).expect("a superframe");
    (0..segmenter.count())
        .map(|i| {
            let piece = &frame[segmenter.header_len()..][segmenter.payload(i)];
            let mut out = vec![0; segmenter.header_len()];
            segmenter.write_header(i, checksum::sum(piece), &mut out);
            out.extend_from_slice(piece);
            let parsed = parse(&out, out.len()).expect("a good segment");
            (out, parsed)
        })
        .collect()
}

fn segmentation(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment 44 x 1398");
    group.throughput(PER_SEGMENT);
    for (name, v6) in [("tcp4", false), ("tcp6", true)] {
        let (frame, offload) = superframe(v6, PAYLOAD, SEGMENT);
        let parsed = parse(&frame, frame.len()).expect("a good frame");
        let mut out = [0; 128];
        group.bench_function(name, |b| {
            b.iter(|| {
                let s = Segmenter::new(black_box(&frame), &parsed, &offload, frame.len())
                    .expect("a superframe");
                for i in 0..s.count() {
                    let piece = &frame[s.header_len()..][s.payload(i)];
                    s.write_header(i, checksum::sum(piece), &mut out);
                    black_box(&mut out);
                }
            });
        });
    }
    group.finish();
}

fn coalescing(c: &mut Criterion) {
    let mut group = c.benchmark_group("coalesce 44 x 1398");
    group.throughput(PER_SEGMENT);
    for (name, v6, verified) in [
        ("tcp4", false, false),
        ("tcp6", true, false),
        ("tcp4 verified", false, true),
        ("tcp6 verified", true, true),
    ] {
        let frames = segments(v6);
        let mut coalescer = Coalescer::new();
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || frames[0].0[..128].to_vec(),
                |head| {
                    coalescer.begin();
                    for (id, (frame, p)) in frames.iter().enumerate() {
                        let payload = &frame[usize::from(p.payload_off)..];
                        coalescer.offer(id as u32, frame, p, frame.len(), payload, verified);
                    }
                    let group = coalescer.group(0).expect("one group");
                    assert_eq!(usize::from(group.count), frames.len());
                    coalescer.finish(0, head)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(
    name = benches;
    config = config();
    targets = segmentation, coalescing
);
criterion_main!(benches);
