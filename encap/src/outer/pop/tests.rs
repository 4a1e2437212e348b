//! The short cut beside the full walk; the walk itself is tested from outside.

use super::*;
use ringway_packet::kit;

fn fast(frame: &[u8], len: usize) -> Option<Outer> {
    fast4(frame, len).or_else(|| fast6(frame, len))
}

fn walked(frame: &[u8], len: usize) -> Result<Outer, PopError> {
    let mut outer = Outer::default();
    walk(frame, len, &mut outer).map(|()| outer)
}

fn frames() -> Vec<(Vec<u8>, bool)> {
    let (a4, b4) = ("192.0.2.1:40000", "192.0.2.2:8472");
    let (a6, b6) = ("[2001:db8::1]:40000", "[2001:db8::2]:8472");
    let mut frames = Vec::new();
    for (a, b) in [(a4, b4), (a6, b6)] {
        let udp = || kit::udp(a, b);
        for build in [
            udp(),
            udp().payload_len(1400).tos(0xb9),
            udp().payload_len(3).padding(9),
        ] {
            frames.push((build.frame(), true));
        }
        let tcp = kit::tcp(a, b).frame();
        let tagged = udp().vlan(7).frame();
        let fragments = udp().payload_len(3000).fragments(1280);
        let others = [tcp, tagged].into_iter().chain(fragments);
        frames.extend(others.map(|frame| (frame, false)));
    }
    frames.push((kit::udp(a4, b4).options(&[1; 4]).frame(), false));
    frames
}

#[test]
fn the_short_cut_takes_what_is_common() {
    for (frame, common) in frames() {
        let outer = fast(&frame, frame.len());
        assert_eq!(outer.is_some(), common, "{frame:02x?}");
        if common {
            assert_eq!(outer, walked(&frame, frame.len()).ok());
        }
    }
}

#[test]
fn the_short_cut_takes_nothing_that_the_walk_refuses_or_sees_otherwise() {
    let (mut taken, mut left) = (0, 0);
    let mut agree = |frame: &[u8], len: usize| {
        let outer = fast(frame, len);
        let count = if outer.is_some() {
            &mut taken
        } else {
            &mut left
        };
        *count += 1;
        if let Some(outer) = outer {
            assert_eq!(walked(frame, len), Ok(outer), "{len}: {frame:02x?}");
        }
    };
    for (frame, _) in frames() {
        for at in 0..frame.len().min(80) {
            agree(&frame[..at], at);
            agree(&frame[..at], frame.len());
            for flip in 1..=255 {
                let mut other = frame.clone();
                other[at] ^= flip;
                agree(&other, other.len());
                // What the header's checksum would have caught.
                if frame[12] == 8 && (14..34).contains(&at) {
                    other[24..26].fill(0);
                    let sum = checksum::finish(checksum::sum(&other[14..34]));
                    other[24..26].copy_from_slice(&sum.to_be_bytes());
                    agree(&other, other.len());
                }
            }
        }
    }
    assert!(
        taken > 10_000 && left > 10_000,
        "{taken} taken, {left} left"
    );
}
