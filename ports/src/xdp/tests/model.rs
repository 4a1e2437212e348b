//! The program against a plain model of what it should say, over damaged packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Action, Filter};
use super::packets::{V4, V6, tagged};
use super::{Sockets, filter, ip};

/// What the program should say.
fn expected(filter: &Filter, frame: &[u8]) -> Option<Action> {
    let half = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    if frame[0] & 1 == 1 {
        return None;
    }
    let mut at = 12;
    while at < 20 && matches!(half(at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let ethertype = half(at)?;
    let packet = &frame[at + 2..];
    let (destination, header, udp): (IpAddr, usize, bool) = match ethertype {
        0x0800 => {
            let ip = packet.first_chunk::<20>()?;
            if ip[0] >> 4 != 4 {
                return None;
            }
            let destination = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
            let whole = ip[6] & 0x3f == 0 && ip[7] == 0;
            (
                destination.into(),
                20,
                ip[0] == 0x45 && ip[9] == 17 && whole,
            )
        }
        0x86dd => {
            let ip = packet.first_chunk::<40>()?;
            if ip[0] >> 4 != 6 {
                return None;
            }
            let destination = Ipv6Addr::from(*ip[24..].first_chunk::<16>()?);
            (destination.into(), 40, ip[6] == 17)
        }
        _ => return None,
    };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 4),
        IpAddr::V6(v6) => (v6.to_bits(), 6),
    };
    let (to, family) = bits(destination);
    let inside = |(network, prefix): &(IpAddr, u8)| {
        let (network, of) = bits(*network);
        of == family && (network ^ to) >> (128 - u32::from(*prefix)) == 0
    };
    if filter.cidrs.iter().any(inside) {
        return Some(Action::Redirect);
    }
    let datagram = packet[header..].first_chunk::<8>()?;
    let port = u16::from_be_bytes([datagram[2], datagram[3]]);
    let ours = udp && filter.addresses.contains(&destination) && filter.ports.contains(&port);
    ours.then_some(Action::Redirect)
}

/// The numbers of xorshift64, the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

#[test]
fn damaged_packets_are_told_apart_as_the_model_does() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let mut routed = filter(&[4789, 4788]);
    routed.cidrs = vec![
        (ip("10.11.0.0"), 19),
        (ip("10.9.0.64"), 26),
        (ip("fd09::8000:0"), 97),
        (ip("fd0b::"), 16),
    ];
    let tags: [&[u16]; 6] = [
        &[],
        &[0x8100],
        &[0x88a8],
        &[0x88a8, 0x8100],
        &[0x8100; 2],
        &[0x8100; 3],
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut redirected = [0; 2];
    for (of, filter) in [filter(&[4789]), routed].iter().enumerate() {
        let program = sockets.load(filter);
        for _ in 0..20_000 {
            let base = if random.below(2) == 0 { &V4[..] } else { &V6 };
            let mut frame = tagged(base, tags[random.below(tags.len())]);
            for _ in 0..random.below(3) {
                // Mostly the headers: damage behind them changes nothing.
                let at = random.below(frame.len());
                frame[at] = match random.below(3) {
                    0 => frame[at] ^ (1 << random.below(8)),
                    1 => [0, 4, 6, 0x11, 0x2c, 0x45, 0x60, 0x81, 0xfd, 0xff][random.below(10)],
                    _ => random.below(256) as u8,
                };
            }
            if random.below(4) == 0 {
                frame.truncate(14 + random.below(frame.len() - 13));
            }
            let wanted = expected(filter, &frame).unwrap_or(Action::Pass);
            assert_eq!(program.test_run(&frame).unwrap(), wanted, "{frame:x?}");
            redirected[of] += usize::from(wanted == Action::Redirect);
        }
    }
    // Both answers are common, or the comparison says little.
    assert!(
        redirected.iter().all(|n| (4_000..16_000).contains(n)),
        "{redirected:?}"
    );
}
