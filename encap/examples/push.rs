//! Measures pushing and popping: `cargo run --release -p ringway-encap --example push`.
//!
//! Prints nanoseconds per 64-byte packet for each kind of outer header, over 64 buffers as in a
//! batch, and for 1,000 different headers.

use std::hint::black_box;
use std::time::Instant;

use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_packet::mac::MacAddr;

const BATCH: usize = 64;
const BATCHES: usize = 100_000;
const STRIDE: usize = 2048 + 64;
const START: usize = 192;
const CARRIED: usize = 64;

fn main() {
    for (v6, encap) in [
        (false, Encap::Vxlan { vni: 1 }),
        (false, Encap::Udp),
        (true, Encap::Vxlan { vni: 1 }),
        (true, Encap::Udp),
    ] {
        for peers in [1usize, 1000] {
            let headers: Vec<OuterHeader> = (0..peers).map(|i| header(i, v6, encap)).collect();
            measure(
                &headers,
                &format!("{encap} over IPv{}, {peers} peers", if v6 { 6 } else { 4 }),
            );
        }
    }
}

fn header(i: usize, v6: bool, encap: Encap) -> OuterHeader {
    let (src, dst) = if v6 {
        ("fd00::1".parse(), format!("fd00::1:{i:x}").parse())
    } else {
        (
            "10.0.0.1".parse(),
            format!("10.1.{}.{}", i / 250, i % 250 + 1).parse(),
        )
    };
    OuterHeader::new(&OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        src: src.expect("literal address"),
        dst: dst.expect("literal address"),
        encap,
        transport: TransportSpec::usual(
            encap,
            if v6 {
                UdpChecksum::Full
            } else {
                UdpChecksum::Zero
            },
        ),
        ttl: 64,
        dont_fragment: true,
    })
    .expect("a valid specification")
}

fn measure(headers: &[OuterHeader], name: &str) {
    let mut memory = vec![0u8; STRIDE * BATCH];
    let sum = headers[0]
        .needs_sum()
        .then(|| ringway_packet::checksum::sum(&[7; CARRIED]));
    let mut best = f64::MAX;
    let mut best_pop = f64::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        let mut next = 0;
        for batch in 0..BATCHES {
            for (i, buf) in memory.chunks_exact_mut(STRIDE).enumerate() {
                let fields = Fields {
                    src_port: 49152 | (batch + i) as u16,
                    tos: 2,
                    id: 0,
                };
                let at = headers[next].push(black_box(buf), START, CARRIED, fields, sum);
                let _ = black_box(at);
                next = if next + 1 == headers.len() {
                    0
                } else {
                    next + 1
                };
            }
        }
        best = best.min(started.elapsed().as_secs_f64());
        let started = Instant::now();
        let at = START - headers[0].len();
        for _ in 0..BATCHES {
            for buf in memory.chunks_exact(STRIDE) {
                let frame = &buf[at..START + CARRIED];
                let _ = black_box(pop_outer(black_box(frame), frame.len()));
            }
        }
        best_pop = best_pop.min(started.elapsed().as_secs_f64());
    }
    let per = 1e9 / (BATCH * BATCHES) as f64;
    println!(
        "{name:<36} push {:>6.2} ns   pop {:>6.2} ns",
        best * per,
        best_pop * per
    );
}
