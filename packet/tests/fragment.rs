//! IPv4 fragmentation, put together again by a plain reassembly that checks every header.

mod stream;

use proptest::prelude::*;
use ringway_packet::ipv4::{FragmentError, Fragmenter, MIN_MTU};
use stream::{Flow, noise, rfc1071};

/// Strict-source-route (copied), record-route (not copied), no-operation and timestamp (not copied).
const OPTIONS: [&[u8]; 4] = [
    &[137, 7, 4, 1, 2, 3, 4],
    &[7, 7, 4, 0, 0, 0, 0],
    &[1],
    &[68, 4, 5, 0],
];

fn packet(options: Vec<u8>, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let flow = Flow {
        ip_flags: fragment,
        ip_options: options,
        ..Flow::new(false, false)
    };
    flow.bare().packet(payload)
}

fn fragments(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
    let cut = Fragmenter::new(packet, mtu)?;
    Ok((0..cut.count())
        .map(|i| {
            let mut out = vec![0xee; cut.header_len(i)];
            cut.write_header(i, &mut out);
            out.extend(&packet[cut.payload(i)]);
            out
        })
        .collect())
}

struct Header {
    len: usize,
    offset: usize,
    more: bool,
}

/// Reads a header whose lengths and checksum are right.
fn header(f: &[u8]) -> Header {
    let len = usize::from(f[0] & 15) * 4;
    assert_eq!(f[0] >> 4, 4);
    assert_eq!(rfc1071(&f[..len]), 0xffff, "checksum");
    assert_eq!(
        usize::from(u16::from_be_bytes([f[2], f[3]])),
        f.len(),
        "total length"
    );
    let word = u16::from_be_bytes([f[6], f[7]]);
    Header {
        len,
        offset: usize::from(word & 0x1fff) * 8,
        more: word & 0x2000 != 0,
    }
}

/// Payload of fragments that follow each other from `first` on.
fn join(all: &[Vec<u8>], first: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, f) in all.iter().enumerate() {
        let h = header(f);
        assert_eq!(h.offset, first + payload.len());
        if i + 1 < all.len() {
            assert!(h.more);
            assert_eq!((f.len() - h.len) % 8, 0);
            assert!(f.len() > h.len, "empty fragment");
        }
        payload.extend(&f[h.len..]);
    }
    payload
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn fragments_reassemble(
        len in 0usize..9000, mtu in MIN_MTU..3000, options in prop::collection::vec(0usize..4, 0..4),
    ) {
        let mut options: Vec<u8> = options.into_iter().flat_map(|o| OPTIONS[o].to_vec()).collect();
        options.resize(options.len().next_multiple_of(4), 0);
        let whole = packet(options, 0, &noise(len, 1));
        let got = fragments(&whole, mtu).unwrap();
        let ihl = header(&whole).len;
        prop_assert_eq!(join(&got, 0), &whole[ihl..]);
        prop_assert!(!header(got.last().unwrap()).more);
        for f in &got {
            prop_assert!(f.len() <= mtu);
            // Version, TOS, id, TTL, protocol, addresses.
            prop_assert_eq!((f[0] >> 4, f[1], &f[4..6], &f[8..10], &f[12..20]),
                (4, whole[1], &whole[4..6], &whole[8..10], &whole[12..20]));
        }
        // No more pieces than the shortest possible chunks make.
        prop_assert!(got.len() <= 1 + whole.len() / ((mtu - ihl) & !7));
        if whole.len() <= mtu {
            prop_assert_eq!(&got, &vec![whole]);
        }
    }

    #[test]
    fn fragments_of_fragments_reassemble(len in 100usize..6000, first in 500usize..3000, second in MIN_MTU..600) {
        let whole = packet(vec![], 0, &noise(len, 1));
        let got: Vec<Vec<u8>> =
            fragments(&whole, first).unwrap().iter().flat_map(|f| fragments(f, second).unwrap()).collect();
        prop_assert_eq!(join(&got, 0), &whole[20..]);
        prop_assert!(!header(got.last().unwrap()).more);
    }

    #[test]
    fn hostile_bytes_are_refused_or_bounded(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400), from in 0usize..30, mtu in 0usize..300,
    ) {
        let good = packet(vec![], 0, &noise(300, 1));
        let from = from.min(bytes.len());
        bytes[..from].copy_from_slice(&good[..from]);
        if bytes.len() >= 20 && from >= 8 {
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
        }
        if let Ok(cut) = Fragmenter::new(&bytes, mtu) {
            prop_assert!(cut.count() <= 1 + bytes.len() / 8);
            for i in 0..cut.count() + 2 {
                let mut out = vec![0; cut.header_len(i)];
                cut.write_header(i, &mut out);
                prop_assert!(cut.payload(i).end <= bytes.len());
            }
        }
    }
}

#[test]
fn a_packet_by_its_bytes() {
    // 20 + 8 + 60 bytes at an MTU of 68: 48 and 20 behind the headers.
    let whole = packet(vec![], 0, &noise(60, 1));
    let got = fragments(&whole, 68).unwrap();
    assert_eq!(got.len(), 2);
    assert_eq!(
        got[0][..12],
        [
            0x45, 2, 0, 68, 0, 100, 0x20, 0, 64, 17, got[0][10], got[0][11]
        ]
    );
    assert_eq!(
        got[1][..12],
        [0x45, 2, 0, 40, 0, 100, 0, 6, 64, 17, got[1][10], got[1][11]]
    );
    assert_eq!(join(&got, 0), &whole[20..]);
}

#[test]
fn only_copied_options_go_on() {
    // Record route (7), stream id (136, copied), no-operation.
    let options = vec![7, 7, 4, 0, 0, 0, 0, 136, 4, 0xab, 0xcd, 1];
    let whole = packet(options.clone(), 0, &noise(300, 1));
    let got = fragments(&whole, 100).unwrap();
    assert_eq!(got[0][20..32], options);
    for f in &got[1..] {
        assert_eq!(header(f).len, 24);
        assert_eq!(f[20..24], [136, 4, 0xab, 0xcd]);
    }
    // 100 - 32 and 100 - 24, rounded down to 8.
    assert_eq!((got[0].len() - 32, got[1].len() - 24), (64, 72));
    // Padding of what is left is "end of options".
    let got = fragments(
        &packet(vec![137, 7, 4, 1, 2, 3, 4, 1], 0, &noise(300, 1)),
        100,
    )
    .unwrap();
    assert_eq!(got[1][20..28], [137, 7, 4, 1, 2, 3, 4, 0]);
}

#[test]
fn a_fragment_keeps_its_place_and_what_follows() {
    // More to come, at byte 800; 8 + 152 bytes.
    let whole = packet(vec![], 0x2000 | 100, &noise(152, 1));
    let got = fragments(&whole, 100).unwrap();
    assert_eq!(join(&got, 800), &whole[20..]);
    assert!(got.iter().all(|f| header(f).more));
    let last = packet(vec![], 100, &noise(151, 1));
    let got = fragments(&last, 100).unwrap();
    assert_eq!(join(&got, 800), &last[20..]);
    assert_eq!(
        got.iter().map(|f| header(f).more).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn padding_behind_the_packet_is_left_out() {
    let whole = packet(vec![], 0, &noise(200, 1));
    let padded = [whole.clone(), vec![0xaa; 30]].concat();
    assert_eq!(fragments(&padded, 100), fragments(&whole, 100));
}

#[test]
fn a_packet_that_fits_comes_out_as_it_is() {
    // Whatever its flags: DF, and a fragment that is odd.
    for flags in [0, 0x4000, 0x2000 | 9] {
        let whole = packet(vec![7, 7, 4, 0, 0, 0, 0, 0], flags, &noise(33, 1));
        assert_eq!(
            fragments(&whole, whole.len()),
            Ok(vec![whole]),
            "{flags:#x}"
        );
    }
}

#[test]
fn refusals_name_their_reason() {
    let long = noise(300, 1);
    let whole = packet(vec![], 0, &long);
    assert_eq!(
        fragments(&whole, 67).err(),
        Some(FragmentError::Mtu { mtu: 67 })
    );
    let df = packet(vec![], 0x4000, &long);
    assert_eq!(
        fragments(&df, 100).err(),
        Some(FragmentError::DontFragment { len: 328, mtu: 100 })
    );
    let odd = packet(vec![], 0x2000, &noise(301, 1));
    assert_eq!(
        fragments(&odd, 100).err(),
        Some(FragmentError::Unaligned { len: 309 })
    );
    // The last byte of the longest packet's payload is 65,514.
    let end = packet(vec![], 8151, &noise(299, 1));
    assert_eq!(
        fragments(&end, 100).map(|f| join(&f, 65_208).len()),
        Ok(307)
    );
    let beyond = packet(vec![], 8151, &long);
    assert_eq!(
        fragments(&beyond, 100).err(),
        Some(FragmentError::Offset { end: 65_516 })
    );
    let cut = FragmentError::Length {
        total: 328,
        header: 20,
        len: 327,
    };
    assert_eq!(fragments(&whole[..327], 100).err(), Some(cut));
    for bytes in [&[][..], &whole[..19], &[0x60; 40]] {
        assert!(matches!(
            fragments(bytes, 100),
            Err(FragmentError::Length { .. })
        ));
    }
    for (options, kind, len, left) in [
        (vec![7, 9, 0, 0], 7, 9, 4),
        (vec![1, 1, 1, 7], 7, 0, 1),
        (vec![7, 1, 0, 0], 7, 1, 4),
    ] {
        let error = FragmentError::Option { kind, len, left };
        assert_eq!(
            fragments(&packet(options, 0, &long), 100).err(),
            Some(error)
        );
    }
}
