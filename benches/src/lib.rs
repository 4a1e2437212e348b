#![forbid(unsafe_code)]
//! Traffic for the benchmarks: many different frames of one shape, so that neither a branch
//! predictor nor a cache learns the one frame by heart.

use std::net::IpAddr;

use ringway_packet::kit;

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

/// An address in 10.0.0.0/8 or fd77::/16, the `i`-th of a table; its /64 is its own too.
pub fn address(v6: bool, i: u32) -> u128 {
    let mixed = scatter(i.into());
    let text: IpAddr = if v6 {
        std::net::Ipv6Addr::from_bits(0xfd77 << 112 | u128::from(mixed) << 48).into()
    } else {
        std::net::Ipv4Addr::from_bits(10 << 24 | (mixed as u32 & 0xff_ffff)).into()
    };
    ringway_packet::addr::from_ip(text)
}
