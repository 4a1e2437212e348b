#![forbid(unsafe_code)]
//! Traffic for the benchmarks: many different frames of one shape, so that neither a branch
//! predictor nor a cache learns the one frame by heart.

use std::net::IpAddr;
use std::time::Duration;

use criterion::Criterion;
use ringway_packet::kit;

/// Short enough that all benchmarks together take under five minutes; criterion's own options
/// (`cargo bench -- --measurement-time 5`) go before.
pub fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
}

/// Frames of one benchmark; a power of two.
pub const FRAMES: usize = 256;

/// UDP from `flows` source ports to many addresses of one /24 (or /64), `payload` bytes each.
pub fn udp(v6: bool, flows: usize, payload: usize) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    (0..FRAMES)
        .map(|i| {
            let port = 1024 + (scatter(i as u64) as usize % flows.max(1)) as u16;
            let host = i % 250 + 2;
            let ends = if v6 {
                (
                    format!("[fd77:1::2]:{port}"),
                    format!("[fd77:2::{host:x}]:53"),
                )
            } else {
                (format!("10.77.1.2:{port}"), format!("10.77.2.{host}:53"))
            };
            kit::udp(&*ends.0, &*ends.1).payload(&bytes).frame()
        })
        .collect()
}

/// A TCP superframe with `payload` bytes and its metadata.
pub fn superframe(
    v6: bool,
    payload: usize,
    gso_size: u16,
) -> (Vec<u8>, ringway_packet::offload::Offload) {
    let bytes: Vec<u8> = (0..payload).map(|i| (i * 7) as u8).collect();
    let ends = if v6 {
        ("[fd77:1::2]:1", "[fd77:2::2]:2")
    } else {
        ("10.77.1.2:1", "10.77.2.2:2")
    };
    kit::tcp(ends.0, ends.1)
        .payload(&bytes)
        .offloaded(Some(gso_size))
}

/// Well-spread numbers, the same on every run (splitmix64).
pub fn scatter(i: u64) -> u64 {
    let z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// An address in 10.0.0.0/8 or fd77::/16, the `i`-th of a table; its /64 is its own too. No two of
/// the first 16 million are the same.
pub fn address(v6: bool, i: u32) -> u128 {
    let text: IpAddr = if v6 {
        let mixed = scatter(i.into());
        std::net::Ipv6Addr::from_bits(0xfd77 << 112 | u128::from(mixed) << 48).into()
    } else {
        std::net::Ipv4Addr::from_bits(10 << 24 | mix24(i)).into()
    };
    ringway_packet::addr::from_ip(text)
}

/// Well-spread numbers of 24 bits: each of them once (an odd factor, modulo 2^24).
pub fn mix24(i: u32) -> u32 {
    i.wrapping_mul(0x9e37_79b1) & 0xff_ffff
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_of_a_table_and_those_it_misses_are_different() {
        for v6 in [false, true] {
            let all: HashSet<u128> = (0..2_100_000).map(|i| address(v6, i)).collect();
            assert_eq!(all.len(), 2_100_000);
        }
    }
}
