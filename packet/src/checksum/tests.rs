//! Against RFC 1071's own definition, word by word.

use super::*;
use proptest::prelude::*;

/// 16-bit words in network order, carries added back at once.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        let low = word.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([word[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u32).wrapping_mul(0x9e37_79b9).to_be_bytes()[0])
        .collect()
}

#[test]
fn example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(fold(sum(&bytes)), 0xddf2);
    assert_eq!(finish(sum(&bytes)), 0x220d);
}

#[test]
fn every_length_at_every_alignment() {
    let bytes = pattern(600);
    for start in 0..17 {
        for len in 0..500 {
            let piece = &bytes[start..start + len];
            assert_eq!(fold(sum(piece)), naive(piece), "{len} bytes from {start}");
        }
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    for len in [63, 64, 65, 127, 128, 1 << 16, (1 << 20) + 1] {
        let bytes = vec![0xff; len];
        assert_eq!(fold(sum(&bytes)), naive(&bytes), "{len}");
    }
    let mut all = Sum::ZERO;
    for _ in 0..1000 {
        all += Sum(u64::MAX);
    }
    assert_eq!(fold(all), 0xffff);
    assert_eq!(fold(Sum(u64::MAX) + Sum(1)), fold(Sum(1)));
}

#[test]
fn nothing_sums_to_nothing() {
    assert_eq!((fold(sum(&[])), finish(sum(&[0; 64]))), (0, 0xffff));
    assert_eq!(
        (finish_udp(Sum::of16(0xffff)), finish(Sum::of16(0xffff))),
        (0xffff, 0)
    );
    assert_eq!(finish_udp(Sum::of16(0x1234)), 0xedcb);
}

#[test]
fn fields_by_value() {
    for value in [0u16, 1, 0x00ff, 0xff00, 0x1234, 0xffff] {
        assert_eq!(fold(Sum::of16(value)), naive(&value.to_be_bytes()));
        let wide = u32::from(value) << 16 | 0x89ab;
        assert_eq!(fold(Sum::of32(wide)), naive(&wide.to_be_bytes()));
    }
}

#[test]
fn every_split_into_three_pieces() {
    let bytes = pattern(40);
    let whole = naive(&bytes);
    for a in 0..=bytes.len() {
        for b in a..=bytes.len() {
            let mut summer = Summer::new(Sum::ZERO);
            for piece in [&bytes[..a], &bytes[a..b], &bytes[b..]] {
                summer.add(piece);
            }
            assert_eq!(fold(summer.sum()), whole, "split at {a} and {b}");
        }
    }
}

#[test]
fn pseudo_headers_as_bytes() {
    let v4 = [10, 77, 1, 2, 192, 168, 255, 254, 0, 17, 0xff, 0xee];
    assert_eq!(
        fold(pseudo_v4(0x0a4d_0102, 0xc0a8_fffe, 17, 0xffee)),
        naive(&v4)
    );
    let (src, dst) = (
        0xfd77_0001_u128 << 96 | 0xffff,
        0xff02_u128 << 112 | 0x1_ff00_0002,
    );
    let mut v6 = Vec::new();
    v6.extend_from_slice(&src.to_be_bytes());
    v6.extend_from_slice(&dst.to_be_bytes());
    v6.extend_from_slice(&[0, 1, 2, 3, 0, 0, 0, 58]);
    assert_eq!(fold(pseudo_v6(src, dst, 58, 0x1_0203)), naive(&v6));
    assert_eq!(
        fold(pseudo_v6(u128::MAX, u128::MAX, 255, u32::MAX as usize)),
        {
            let mut bytes = vec![0xff; 36];
            bytes.extend_from_slice(&[0, 0, 0, 255]);
            naive(&bytes)
        }
    );
}

#[test]
fn example_of_rfc_1624() {
    // Section 4: equation 2 gives 0xffff here, where recomputing gives 0x0000.
    assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn update16_equals_recomputing_for_every_field_value() {
    // Two words of a header that is never all zero, as no IP header is.
    for old in (0..=0xffff_u16).step_by(97).chain([0, 1, 0xfffe, 0xffff]) {
        for new in (0..=0xffff_u16).step_by(89).chain([0, 1, 0xfffe, 0xffff]) {
            for rest in [0x0001_u16, 0x4500, 0xffff, 0xaaaa] {
                let before = finish(Sum::of16(rest) + Sum::of16(old));
                let after = finish(Sum::of16(rest) + Sum::of16(new));
                assert_eq!(
                    update16(before, old, new),
                    after,
                    "{rest:04x} {old:04x} {new:04x}"
                );
            }
        }
    }
}

#[test]
fn an_unchanged_field_leaves_the_checksum() {
    for checksum in 0..=0xfffe_u16 {
        assert_eq!(update16(checksum, 0xbeef, 0xbeef), checksum);
    }
    // 0xffff belongs to data that sums to 0, all zero; with any other it means the same as 0.
    assert_eq!(update16(0xffff, 0xbeef, 0xbeef), 0);
}

#[test]
fn verify_notices_every_flipped_bit() {
    let mut bytes = pattern(61);
    bytes[16] = 0;
    bytes[17] = 0;
    let pseudo = pseudo_v4(0x0a4d_0102, 0x0a4d_0202, 6, bytes.len());
    let value = finish(pseudo + sum(&bytes));
    bytes[16..18].copy_from_slice(&value.to_be_bytes());
    assert!(verify(pseudo, [&bytes[..]]));
    assert!(verify(
        pseudo,
        [&bytes[..33], &[], &bytes[33..40], &bytes[40..]]
    ));
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(pseudo, [&bytes[..31], &bytes[31..]]), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(
        !verify(Sum::ZERO, [&[0u8; 20][..]]),
        "all zero has no checksum"
    );
}

proptest! {
    #[test]
    fn pieces_equal_the_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..12)) {
        let whole = pieces.concat();
        let mut summer = Summer::default();
        for piece in &pieces {
            summer.add(piece);
        }
        prop_assert_eq!(fold(summer.sum()), naive(&whole));
        prop_assert_eq!(fold(sum(&whole)), naive(&whole));
    }
}
