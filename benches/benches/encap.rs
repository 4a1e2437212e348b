//! Outer headers: push in front of a small packet, and pop off again.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway_benches::{FRAMES, config, udp};
use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_packet::checksum;
use ringway_packet::mac::MacAddr;

/// Bytes in front of each frame.
const ROOM: usize = 128;

const VXLAN: Encap = Encap::Vxlan { vni: 1 };

fn header(encap: Encap, v6: bool) -> OuterHeader {
    let address = |node: u8| -> IpAddr {
        let text = if v6 {
            format!("fd00:77::{node}")
        } else {
            format!("192.168.77.{node}")
        };
        text.parse().expect("an address")
    };
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x77, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0x77, 2]),
        src: address(1),
        dst: address(2),
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
    };
    OuterHeader::new(&spec).expect("an outer header")
}

/// Buffers with a frame behind `ROOM` bytes; what UDP carries begins behind the Ethernet header.
fn buffers(v6: bool) -> Vec<Vec<u8>> {
    let frames = udp(v6, 1000, 18).into_iter();
    frames
        .map(|frame| [&[0; ROOM][..], &frame].concat())
        .collect()
}

fn push(header: &OuterHeader, encap: Encap, buf: &mut [u8], port: u16) -> usize {
    let start = ROOM + encap.carries().left_behind();
    let carried = buf.len() - start;
    let sum = header.needs_sum().then(|| checksum::sum(&buf[start..]));
    let fields = Fields {
        src_port: port,
        tos: 0,
        id: 0,
    };
    header
        .push(buf, start, carried, fields, sum)
        .expect("there is room")
}

const KINDS: [(&str, Encap, bool); 4] = [
    ("vxlan over ipv4", VXLAN, false),
    ("vxlan over ipv6", VXLAN, true),
    ("udp over ipv4", Encap::Udp, false),
    ("udp over ipv6", Encap::Udp, true),
];

fn pushing(c: &mut Criterion) {
    let mut group = c.benchmark_group("push");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for (name, encap, v6) in KINDS {
        let header = header(encap, v6);
        let mut buffers = buffers(v6);
        group.bench_function(name, |b| {
            b.iter(|| {
                for (i, buf) in buffers.iter_mut().enumerate() {
                    black_box(push(&header, encap, black_box(buf), 49152 + i as u16));
                }
            });
        });
    }
    group.finish();
}

fn popping(c: &mut Criterion) {
    let mut group = c.benchmark_group("pop");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for (name, encap, v6) in KINDS {
        let header = header(encap, v6);
        let frames: Vec<Vec<u8>> = buffers(v6)
            .into_iter()
            .map(|mut buf| {
                let start = push(&header, encap, &mut buf, 50_000);
                buf.split_off(start)
            })
            .collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                for frame in &frames {
                    let _ = black_box(pop_outer(black_box(frame), frame.len()));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(
    name = benches;
    config = config();
    targets = pushing, popping
);
criterion_main!(benches);
