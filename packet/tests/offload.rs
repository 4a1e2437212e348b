//! `struct virtio_net_hdr` byte by byte, and completing a partial checksum.

use proptest::prelude::*;
use ringway_packet::kit;
use ringway_packet::offload::{
    Checksum, Gso, Offload, OffloadError, VNET_HDR_LEN, complete_checksum,
};

/// The header with native-endian fields: flags, type, header length, size, start, offset.
fn header(
    flags: u8,
    kind: u8,
    hdr_len: u16,
    size: u16,
    start: u16,
    offset: u16,
) -> [u8; VNET_HDR_LEN] {
    let mut out = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (i, field) in [hdr_len, size, start, offset].into_iter().enumerate() {
        out[2 + i * 2..4 + i * 2].copy_from_slice(&field.to_ne_bytes());
    }
    out
}

const PARTIAL: Checksum = Checksum::Partial {
    start: 34,
    offset: 16,
};

#[test]
fn every_kind_of_header() {
    let frame_len = 3000;
    let plain = Offload::default();
    let partial = Offload {
        checksum: PARTIAL,
        ..plain
    };
    let verified = Offload {
        checksum: Checksum::Verified,
        ..plain
    };
    let tcp4 = Offload {
        checksum: PARTIAL,
        gso: Gso::Tcp4,
        gso_size: 1448,
        ecn: false,
    };
    for (bytes, offload) in [
        (header(0, 0, 0, 0, 0, 0), plain),
        (header(1, 0, 0, 0, 34, 16), partial),
        (header(2, 0, 0, 0, 0, 0), verified),
        (header(1, 1, 66, 1448, 34, 16), tcp4),
        (
            header(1, 0x81, 66, 1448, 34, 16),
            Offload { ecn: true, ..tcp4 },
        ),
        (
            header(1, 4, 66, 1448, 34, 16),
            Offload {
                gso: Gso::Tcp6,
                ..tcp4
            },
        ),
        (
            header(1, 5, 66, 1448, 34, 16),
            Offload {
                gso: Gso::Udp,
                ..tcp4
            },
        ),
    ] {
        assert_eq!(Offload::read(&bytes, frame_len), Ok(offload));
        let mut out = [0xee; VNET_HDR_LEN];
        offload.write(66, &mut out);
        assert_eq!(out, bytes, "{offload:?}");
    }
    // To be completed outweighs valid; the header length is never looked at.
    assert_eq!(
        Offload::read(&header(3, 0, 0xffff, 9, 34, 16), frame_len),
        Ok(partial)
    );
    // A UDP superframe has no CWR flag to keep.
    let mut out = [0; VNET_HDR_LEN];
    Offload {
        gso: Gso::Udp,
        gso_size: 100,
        ecn: true,
        checksum: PARTIAL,
    }
    .write(42, &mut out);
    assert_eq!(out[1], 5);
}

#[test]
fn every_type_that_is_not_offered() {
    let offered = [0, 1, 4, 5, 0x81, 0x84];
    for kind in (0..=255).filter(|kind| !offered.contains(kind)) {
        let refused = Offload::read(&header(0, kind, 0, 100, 0, 0), 3000);
        assert_eq!(refused, Err(OffloadError::GsoType { kind }));
    }
    for kind in [1, 4, 5, 0x81] {
        let refused = Offload::read(&header(1, kind, 0, 0, 34, 16), 3000);
        assert_eq!(refused, Err(OffloadError::GsoSize { len: 3000 }));
    }
}

#[test]
fn the_checksum_field_lies_within_the_frame() {
    for (start, offset, len) in [
        (34, 16, 51),
        (0, 0, 1),
        (0xffff, 0xffff, 65_535),
        (0, 50, 51),
    ] {
        let error = OffloadError::ChecksumRange { start, offset, len };
        assert_eq!(
            Offload::read(&header(1, 0, 0, 0, start, offset), len),
            Err(error)
        );
        assert_eq!(
            complete_checksum(&mut vec![0; len], start, offset),
            Err(error)
        );
    }
    assert!(Offload::read(&header(1, 0, 0, 0, 34, 16), 52).is_ok());
    assert!(complete_checksum(&mut [0; 52], 34, 16).is_ok());
}

#[test]
fn segments_of_a_payload() {
    let tcp = Offload {
        gso: Gso::Tcp4,
        gso_size: 1000,
        ..Offload::default()
    };
    for (payload, segments) in [
        (0, 1),
        (1, 1),
        (1000, 1),
        (1001, 2),
        (64_000, 64),
        (64_001, 65),
    ] {
        assert_eq!(tcp.segments(payload), segments, "{payload}");
        assert_eq!(Offload::default().segments(payload), 1);
    }
    // A size of 0 is not read, but may be made.
    assert_eq!(Offload { gso_size: 0, ..tcp }.segments(7), 7);
}

#[test]
fn a_checksum_of_zero_is_written_as_ffff() {
    // The payload is chosen so that the sum comes out as 0xffff.
    let sum = |payload: [u8; 2]| {
        let frame = kit::udp("10.77.1.2:1", "10.77.1.3:2")
            .payload(&payload)
            .frame();
        u16::from_be_bytes([frame[40], frame[41]])
    };
    let payload = sum([0, 0]).to_be_bytes();
    assert_eq!(sum(payload), 0xffff);
    let (mut frame, offload) = kit::udp("10.77.1.2:1", "10.77.1.3:2")
        .payload(&payload)
        .offloaded(None);
    let Checksum::Partial { start, offset } = offload.checksum else {
        panic!()
    };
    complete_checksum(&mut frame, start, offset).unwrap();
    assert_eq!(frame[40..42], [0xff, 0xff]);
}

proptest! {
    #[test]
    fn any_header_is_read_or_refused(bytes: [u8; VNET_HDR_LEN], len in 0usize..70_000) {
        if let Ok(offload) = Offload::read(&bytes, len) {
            prop_assert_eq!(offload.gso == Gso::None, offload.gso_size == 0);
            if let Checksum::Partial { start, offset } = offload.checksum {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= len);
            }
            let mut out = [0; VNET_HDR_LEN];
            offload.write(54, &mut out);
            prop_assert_eq!(Offload::read(&out, len), Ok(offload));
        }
    }

    #[test]
    fn completing_is_what_the_sender_would_have_written(payload in 0usize..3000, six: bool, tcp: bool) {
        let (a, b) = if six { ("[fd77::1]:1", "[fd77::2]:2") } else { ("10.0.0.1:1", "10.0.0.2:2") };
        let build = if tcp { kit::tcp(a, b) } else { kit::udp(a, b) }.payload_len(payload);
        let (mut frame, offload) = build.offloaded(None);
        let Checksum::Partial { start, offset } = offload.checksum else { panic!() };
        complete_checksum(&mut frame, start, offset).unwrap();
        prop_assert_eq!(&frame, &build.frame());
        prop_assert!(kit::l4_is_right(&frame[14..]));
    }

    #[test]
    fn completing_never_panics(mut frame in proptest::collection::vec(any::<u8>(), 0..200), start in 0u16..220, offset in 0u16..220) {
        let before = frame.clone();
        let end = usize::from(start) + usize::from(offset) + 2;
        match complete_checksum(&mut frame, start, offset) {
            Ok(()) => prop_assert_eq!(&frame[end..], &before[end..]),
            Err(_) => prop_assert!(end > before.len() && frame == before),
        }
    }
}
