//! Pushing outer headers, from literal bytes.

mod cast;

use cast::{
    CARRIED, FIELDS, SRC_PORT, TOS, VXLAN, all, frame, frame_with, header, naive_sum, spec,
};
use ringway_encap::Encap;
use ringway_encap::outer::{
    Fields, OuterHeader, OuterSpec, PushError, SpecError, TransportSpec, UdpChecksum,
};
use ringway_packet::checksum;
use ringway_packet::mac::MacAddr;

const VXLAN4: [u8; 50] = [
    0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08,
    0x00, // Ethernet
    0x45, 0x02, 0x00, 0x32, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x1f, 0x65, // IPv4, DF
    0xc0, 0xa8, 0x4d, 0x01, 0xc0, 0xa8, 0x4d, 0x02, // addresses
    0xc1, 0x23, 0x21, 0x18, 0x00, 0x1e, 0x00, 0x00, // UDP to 8472
    0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, // VXLAN, VNI 1
];
const UDP4: [u8; 42] = [
    0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08,
    0x00, // Ethernet
    0x45, 0x02, 0x00, 0x2a, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x1f, 0x6d, // IPv4, DF
    0xc0, 0xa8, 0x4d, 0x01, 0xc0, 0xa8, 0x4d, 0x02, // addresses
    0xc1, 0x23, 0x20, 0x5d, 0x00, 0x16, 0x00, 0x00, // UDP to 8285
];
const VXLAN6: [u8; 70] = [
    0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x86,
    0xdd, // Ethernet
    0x60, 0x20, 0x00, 0x00, 0x00, 0x1e, 0x11, 0x40, // IPv6, traffic class 2
    0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // source
    0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, // destination
    0xc1, 0x23, 0x21, 0x18, 0x00, 0x1e, 0xe8, 0x4b, // UDP to 8472
    0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, // VXLAN, VNI 1
];
const UDP6: [u8; 62] = [
    0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x86,
    0xdd, // Ethernet
    0x60, 0x20, 0x00, 0x00, 0x00, 0x16, 0x11, 0x40, // IPv6, traffic class 2
    0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // source
    0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, // destination
    0xc1, 0x23, 0x20, 0x5d, 0x00, 0x16, 0xf2, 0x16, // UDP to 8285
];

#[test]
fn literal_headers() {
    for (v6, encap, udp_checksum) in all() {
        let mut expected = match (v6, encap) {
            (false, Encap::Udp) => UDP4.to_vec(),
            (false, _) => VXLAN4.to_vec(),
            (true, Encap::Udp) => UDP6.to_vec(),
            (true, _) => VXLAN6.to_vec(),
        };
        if !v6 && udp_checksum == UdpChecksum::Full {
            let sum: [u8; 2] = if encap.header_len() == 0 {
                [0xd1, 0xb4]
            } else {
                [0xc7, 0xe9]
            };
            expected[40..42].copy_from_slice(&sum);
        }
        let header = header(v6, encap, udp_checksum);
        assert_eq!(header.len(), expected.len());
        assert_eq!(header.needs_sum(), udp_checksum == UdpChecksum::Full);
        expected.extend_from_slice(&CARRIED);
        assert_eq!(
            frame(&header, &CARRIED, SRC_PORT, TOS),
            expected,
            "v6 {v6} {encap}"
        );
    }
}

/// Without DF, with the identification given, and nothing else different.
#[test]
fn packets_that_may_be_fragmented_are_told_apart() {
    for (v6, encap, udp_checksum) in all() {
        if udp_checksum == UdpChecksum::Zero {
            continue;
        }
        let dont = header(v6, encap, udp_checksum);
        let spec = OuterSpec {
            dont_fragment: false,
            ..spec(v6, encap, udp_checksum)
        };
        let may = OuterHeader::new(&spec).unwrap();
        assert_eq!((dont.may_fragment(), may.may_fragment()), (false, !v6));
        for id in [0, 1, 0x1234, 0xffff] {
            let expected = frame(&dont, &CARRIED, SRC_PORT, TOS);
            let mut found = frame_with(&may, &CARRIED, Fields { id, ..FIELDS });
            if !v6 {
                assert_eq!(found[18..22], [&id.to_be_bytes()[..], &[0, 0]].concat());
                assert_eq!(naive_sum(&found[14..34]), 0xffff);
                found[18..22].copy_from_slice(&[0, 0, 0x40, 0]);
                found[24..26].copy_from_slice(&expected[24..26]);
            }
            assert_eq!(found, expected, "v6 {v6} {encap}, {id:#x}");
        }
    }
}

#[test]
fn any_sufficient_headroom_gives_the_same_header_and_less_is_refused() {
    for (v6, encap, udp_checksum) in all() {
        let header = header(v6, encap, udp_checksum);
        let expected = frame(&header, &CARRIED, SRC_PORT, TOS);
        let sum = Some(checksum::sum(&CARRIED));
        for start in 0..130 {
            let mut buf = vec![0xee; start];
            buf.extend_from_slice(&CARRIED);
            let before = buf.clone();
            let result = header.push(&mut buf, start, CARRIED.len(), FIELDS, sum);
            if start < header.len() {
                let need = header.len();
                assert_eq!(result, Err(PushError::Headroom { need, have: start }));
                assert_eq!(buf, before);
            } else {
                let at = start - header.len();
                assert_eq!(result, Ok(at));
                assert_eq!(buf[at..], expected);
                let untouched = start.saturating_sub(ringway_encap::outer::SCRATCH);
                assert_eq!(buf[..untouched], before[..untouched]);
            }
        }
    }
}

#[test]
fn every_length_keeps_all_checksums_right() {
    for (v6, encap, udp_checksum) in all() {
        let header = header(v6, encap, udp_checksum);
        let udp_at = header.len() - 8 - encap.header_len();
        let room = 65535 - (header.len() - 14) + if v6 { 40 } else { 0 };
        for len in (0..300).chain(room - 300..=room) {
            let carried: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let tos = len as u8;
            let frame = frame(&header, &carried, 49152 + len as u16 % 16384, tos);
            let udp_len = frame.len() - udp_at;
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[udp_at + 4], frame[udp_at + 5]])),
                udp_len
            );
            let addresses = if v6 {
                14 + 8..14 + 40
            } else {
                14 + 12..14 + 20
            };
            if v6 {
                assert_eq!(frame[14] << 4 | frame[15] >> 4, tos);
                assert_eq!(
                    usize::from(u16::from_be_bytes([frame[18], frame[19]])),
                    udp_len
                );
            } else {
                assert_eq!(frame[15], tos);
                assert_eq!(
                    naive_sum(&frame[14..34]),
                    0xffff,
                    "IPv4 checksum, {len} carried"
                );
                assert_eq!(
                    usize::from(u16::from_be_bytes([frame[16], frame[17]])),
                    udp_len + 20
                );
            }
            if udp_checksum == UdpChecksum::Zero {
                assert_eq!(frame[udp_at + 6..udp_at + 8], [0, 0]);
            } else {
                let mut covered = frame[addresses].to_vec();
                covered.extend_from_slice(&(udp_len as u32).to_be_bytes());
                covered.extend_from_slice(&[0, 0, 0, 17]);
                covered.extend_from_slice(&frame[udp_at..]);
                assert_eq!(naive_sum(&covered), 0xffff, "UDP checksum, {len} carried");
            }
        }
        let sum = Some(checksum::Sum::ZERO);
        let mut buf = vec![0; 128];
        let long = room + 1;
        assert_eq!(
            header.push(&mut buf, 128, long, FIELDS, sum),
            Err(PushError::TooLong {
                carried: long,
                limit: room
            })
        );
        assert_eq!(buf, vec![0; 128]);
        assert!(header.push(&mut buf, 128, usize::MAX, FIELDS, sum).is_err());
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ffff() {
    // The two carried bytes are what makes the sum ffff, and so the checksum 0.
    for (v6, expected) in [(false, 34 + 6), (true, 54 + 6)] {
        let header = header(v6, Encap::Udp, UdpChecksum::Full);
        let plain = frame(&header, &[0, 0], SRC_PORT, TOS);
        let checksum = [plain[expected], plain[expected + 1]];
        let frame = frame(&header, &checksum, SRC_PORT, TOS);
        assert_eq!(frame[expected..expected + 2], [0xff, 0xff]);
    }
}

#[test]
fn the_rest_of_a_chained_payload_counts_by_its_sum() {
    let header = header(false, VXLAN, UdpChecksum::Full);
    let whole: Vec<u8> = (0..200).collect();
    let mut buf = vec![0; 128];
    buf.extend_from_slice(&whole[..60]);
    let sum = checksum::sum(&whole[..60]) + checksum::sum(&whole[60..]);
    let at = header
        .push(&mut buf, 128, whole.len(), FIELDS, Some(sum))
        .unwrap();
    let linear = buf.split_off(at);
    assert_eq!(
        linear,
        frame(&header, &whole, SRC_PORT, TOS)[..linear.len()]
    );
}

#[test]
fn misuse_is_refused() {
    let zero = header(false, VXLAN, UdpChecksum::Zero);
    let full = header(false, VXLAN, UdpChecksum::Full);
    let mut buf = vec![0; 100];
    assert_eq!(
        zero.push(&mut buf, 101, 0, FIELDS, None),
        Err(PushError::Start {
            start: 101,
            len: 100
        })
    );
    assert_eq!(
        full.push(&mut buf, 100, 0, FIELDS, None),
        Err(PushError::SumMissing)
    );
    assert_eq!(zero.push(&mut buf, 100, 0, FIELDS, None), Ok(50));
}

#[test]
fn specifications_that_make_no_valid_frame_are_refused() {
    let good = spec(false, VXLAN, UdpChecksum::Zero);
    let error = |change: &dyn Fn(&mut ringway_encap::outer::OuterSpec)| {
        let mut bad = good;
        change(&mut bad);
        OuterHeader::new(&bad).unwrap_err()
    };
    let v6 = "fd00::1".parse().unwrap();
    assert_eq!(
        error(&|s| s.dst = v6),
        SpecError::Family {
            src: good.src,
            dst: v6
        }
    );
    for text in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let address = text.parse().unwrap();
        assert_eq!(error(&|s| s.dst = address), SpecError::Address { address });
        assert_eq!(error(&|s| s.src = address), SpecError::Address { address });
    }
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(
        error(&|s| (s.src, s.dst) = (v6, mapped)),
        SpecError::Address { address: mapped }
    );
    let mac = MacAddr::BROADCAST;
    assert_eq!(error(&|s| s.src_mac = mac), SpecError::Mac { mac });
    assert_eq!(error(&|s| s.dst_mac = mac), SpecError::Mac { mac });
    let vni = 1 << 24;
    assert_eq!(
        error(&|s| s.encap = Encap::Vxlan { vni }),
        SpecError::Vni { vni }
    );
    let no_port = TransportSpec::Udp {
        dst_port: 0,
        checksum: UdpChecksum::Full,
    };
    assert_eq!(error(&|s| s.transport = no_port), SpecError::Port);
    assert_eq!(error(&|s| s.ttl = 0), SpecError::Ttl);
    assert_eq!(
        error(&|s| (s.src, s.dst) = (v6, v6)),
        SpecError::ZeroChecksumIpv6
    );
    assert_eq!(
        error(&|s| s.dont_fragment = false),
        SpecError::ZeroChecksumFragments
    );
    assert_eq!(
        SpecError::Vni { vni }.to_string(),
        "VNI 16777216 is above 16777215"
    );
}

#[test]
fn a_next_hop_is_entered_and_nothing_else_moves() {
    for (v6, encap, udp_checksum) in all() {
        let complete = spec(v6, encap, udp_checksum);
        let bytes = |header: &OuterHeader| frame(header, &CARRIED, SRC_PORT, TOS);
        let unknown = OuterSpec {
            src_mac: MacAddr::default(),
            dst_mac: MacAddr::default(),
            ..complete
        };
        let expected = bytes(&OuterHeader::new(&complete).unwrap());
        let mut late = OuterHeader::new(&unknown).unwrap();
        assert!(!late.has_next_hop());
        late.set_next_hop(complete.dst_mac, complete.src_mac);
        assert!(late.has_next_hop());
        assert_eq!(late.next_hop(), (complete.dst_mac, complete.src_mac));
        assert_eq!(bytes(&late), expected, "{encap:?} v6 {v6}");
        late.set_next_hop(MacAddr::default(), complete.src_mac);
        assert!(!late.has_next_hop());
    }
}
