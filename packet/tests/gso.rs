//! Segmentation against packets written out by hand, and hostile metadata.

mod stream;

use proptest::prelude::*;
use ringway_packet::checksum;
use ringway_packet::gso::{GsoError, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS, Segmenter};
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_packet::parse::parse;
use stream::{ACK, Flow, PSH, noise, parsed};

fn offload(flow: &Flow, gso_size: usize) -> Offload {
    let gso = match (flow.tcp, flow.v6) {
        (true, false) => Gso::Tcp4,
        (true, true) => Gso::Tcp6,
        (false, _) => Gso::Udp,
    };
    let checksum = Checksum::Partial {
        start: flow.l4() as u16,
        offset: if flow.tcp { 16 } else { 6 },
    };
    Offload {
        checksum,
        gso,
        gso_size: gso_size as u16,
        ecn: false,
    }
}

fn segmenter(flow: &Flow, frame: &[u8], off: &Offload) -> Result<Segmenter, GsoError> {
    let p = parsed(frame, flow.before.is_empty());
    Segmenter::new(frame, &p, off, frame.len())
}

fn segments(flow: &Flow, frame: &[u8], off: &Offload) -> Vec<Vec<u8>> {
    let s = segmenter(flow, frame, off).unwrap();
    (0..s.count())
        .map(|i| {
            let r = s.payload(i);
            let payload = &frame[s.header_len() + r.start..s.header_len() + r.end];
            let mut out = vec![0xee; s.header_len()];
            s.write_header(i, checksum::sum(payload), &mut out);
            out.extend(payload);
            out
        })
        .collect()
}

fn flow() -> impl Strategy<Value = Flow> {
    let kind = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (
        kind,
        any::<u32>(),
        any::<u16>(),
        any::<u8>(),
        any::<u32>(),
        any::<u16>(),
    )
        .prop_map(|((v6, tcp, bare, stamps), seq, id, tos, ack, window)| {
            let mut f = Flow {
                seq,
                id,
                tos,
                ack,
                window,
                ..Flow::new(v6, tcp)
            };
            if stamps {
                f = f.timestamps(ack ^ 1, seq ^ 2);
            }
            if bare { f.bare() } else { f }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn segments_are_the_packets_the_stack_would_have_sent(
        mut flow in flow(), mss in 8usize..1500, count in 1usize..=64, last in 1usize..1500, push: bool,
    ) {
        let len = (mss * (count - 1) + last.min(mss)).min(65_000);
        let payload = noise(len, flow.seq.into());
        let mut whole = flow.clone();
        if push {
            whole.flags |= PSH;
        }
        let superframe = whole.packet(&payload);
        let got = segments(&flow, &superframe, &offload(&flow, mss));
        let push = push && flow.tcp;
        prop_assert_eq!(got, flow.run(&payload, mss, push));
    }

    #[test]
    fn any_metadata_on_any_bytes_is_refused_or_bounded(
        mut frame in prop::collection::vec(any::<u8>(), 0..200), v6: bool, tcp: bool, from in 0usize..60,
        size: u16, start in 0u16..80, offset in 0u16..20, kind in 0usize..4, len in 0usize..70_000,
    ) {
        // Good headers up to some byte, anything from there.
        let good = Flow::new(v6, tcp).packet(&noise(120, 1));
        let from = from.min(frame.len()).min(good.len());
        frame[..from].copy_from_slice(&good[..from]);
        let off = Offload {
            checksum: Checksum::Partial { start, offset },
            gso: [Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp][kind],
            gso_size: size,
            ecn: false,
        };
        let len = frame.len() + len;
        if let Ok(p) = parse(&frame, len) {
            for checksum in [off.checksum, Checksum::Verified] {
                if let Ok(s) = Segmenter::new(&frame, &p, &Offload { checksum, ..off }, len) {
                    prop_assert!(s.count() <= MAX_TCP_SEGMENTS);
                    prop_assert_eq!(s.payload(s.count() - 1).end, p.ip_end() - s.header_len());
                    let mut out = vec![0; s.header_len()];
                    for i in 0..s.count() {
                        s.write_header(i, checksum::Sum::ZERO, &mut out);
                    }
                }
            }
        }
    }
}

#[test]
fn flags_go_where_they_belong() {
    let flow = Flow {
        flags: ACK | PSH | 0x01 | 0x80 | 0x40,
        ..Flow::new(false, true)
    };
    let frame = flow.packet(&noise(250, 3));
    let flags: Vec<u8> = segments(&flow, &frame, &offload(&flow, 100))
        .iter()
        .map(|s| s[14 + 20 + 13])
        .collect();
    // CWR first, ECE and ACK on all, FIN and PSH last.
    assert_eq!(flags, [0xd0, 0x50, 0x59]);
}

#[test]
fn the_urgent_pointer_moves_along_and_ends() {
    let flow = Flow {
        flags: ACK | 0x20,
        urgent: 150,
        ..Flow::new(true, true)
    };
    let frame = flow.packet(&noise(300, 3));
    let got = segments(&flow, &frame, &offload(&flow, 100));
    let urgent: Vec<(u8, u16)> = got
        .iter()
        .map(|s| {
            (
                s[54 + 13] & 0x20,
                u16::from_be_bytes([s[54 + 18], s[54 + 19]]),
            )
        })
        .collect();
    assert_eq!(urgent, [(0x20, 150), (0x20, 50), (0, 0)]);
    for s in &got {
        assert!(l4_is_right(s, &flow));
    }
}

fn l4_is_right(frame: &[u8], flow: &Flow) -> bool {
    let l4 = &frame[flow.l4()..];
    let ip = &frame[flow.l3()..flow.l4()];
    let mut pseudo = if flow.v6 {
        ip[8..40].to_vec()
    } else {
        ip[12..20].to_vec()
    };
    pseudo.extend((l4.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, if flow.tcp { 6 } else { 17 }]);
    pseudo.extend(l4);
    stream::rfc1071(&pseudo) == 0xffff
}

#[test]
fn a_partial_sum_that_lies_changes_nothing() {
    let flow = Flow::new(false, true);
    let mut frame = flow.packet(&noise(250, 3));
    let good = segments(&flow, &frame, &offload(&flow, 100));
    frame[14 + 20 + 16] ^= 0x55;
    assert_eq!(segments(&flow, &frame, &offload(&flow, 100)), good);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ffff() {
    let flow = Flow::new(false, false);
    let mut payload = noise(20, 9);
    payload[..2].copy_from_slice(&[0, 0]);
    let sum = flow.packet(&payload)[14 + 20 + 6..14 + 20 + 8].to_vec();
    payload[..2].copy_from_slice(&sum);
    // The sum of all is now 0xffff.
    let frame = flow.packet(&[payload.clone(), noise(5, 1)].concat());
    let got = segments(&flow, &frame, &offload(&flow, 20));
    assert_eq!(got[0][14 + 20 + 6..14 + 20 + 8], [0xff, 0xff]);
    assert_eq!(got[0], flow.packet(&payload));
}

#[test]
fn padding_behind_the_packet_is_not_payload() {
    let flow = Flow::new(false, true);
    let frame = flow.packet(&noise(250, 3));
    let good = segments(&flow, &frame, &offload(&flow, 100));
    let padded = [frame, vec![0xaa; 40]].concat();
    assert_eq!(segments(&flow, &padded, &offload(&flow, 100)), good);
}

#[test]
fn a_superframe_without_payload_is_one_packet() {
    let flow = Flow::new(true, true);
    let frame = flow.packet(&[]);
    assert_eq!(segments(&flow, &frame, &offload(&flow, 100)), [frame]);
}

#[test]
fn options_that_can_be_repeated_are() {
    // Router alert and padding.
    let mut v4 = Flow {
        ip_options: vec![0x94, 4, 0, 0, 1, 0, 0, 0],
        ..Flow::new(false, true)
    };
    let frame = v4.packet(&noise(250, 3));
    assert_eq!(
        segments(&v4.clone(), &frame, &offload(&v4, 100)),
        v4.run(&noise(250, 3), 100, false)
    );
    // Hop-by-hop with PadN.
    let mut v6 = Flow {
        ip_options: vec![6, 0, 1, 4, 0, 0, 0, 0],
        ..Flow::new(true, true)
    };
    let frame = v6.packet(&noise(250, 3));
    assert_eq!(
        segments(&v6.clone(), &frame, &offload(&v6, 100)),
        v6.run(&noise(250, 3), 100, false)
    );
}

#[test]
fn options_that_change_the_pseudo_header_are_refused() {
    for kind in [131, 137] {
        let flow = Flow {
            ip_options: vec![1, kind, 7, 4, 10, 0, 0, 1],
            ..Flow::new(false, true)
        };
        let frame = flow.packet(&noise(250, 3));
        assert_eq!(
            segmenter(&flow, &frame, &offload(&flow, 100)).err(),
            Some(GsoError::Options { kind })
        );
    }
    for (length, kind) in [(0, 148), (1, 148), (9, 148)] {
        let flow = Flow {
            ip_options: vec![kind, length, 0, 0],
            ..Flow::new(false, true)
        };
        let frame = flow.packet(&noise(250, 3));
        assert_eq!(
            segmenter(&flow, &frame, &offload(&flow, 100)).err(),
            Some(GsoError::Options { kind })
        );
    }
    // Routing and destination options headers.
    for kind in [43, 60] {
        let flow = Flow {
            ip_options: vec![6, 0, 1, 4, 0, 0, 0, 0],
            ..Flow::new(true, true)
        };
        let mut frame = flow.packet(&noise(250, 3));
        frame[14 + 6] = kind;
        assert_eq!(
            segmenter(&flow, &frame, &offload(&flow, 100)).err(),
            Some(GsoError::Options { kind })
        );
    }
}

#[test]
fn hostile_metadata_is_refused_with_its_reason() {
    let flow = Flow::new(false, true);
    let frame = flow.packet(&noise(3000, 3));
    let good = offload(&flow, 1000);
    let refused = |off: Offload| segmenter(&flow, &frame, &off).err();
    assert_eq!(refused(good), None);
    assert_eq!(
        refused(Offload {
            checksum: Checksum::Verified,
            ..good
        }),
        None
    );
    assert_eq!(
        refused(Offload {
            gso: Gso::None,
            ..good
        }),
        Some(GsoError::NotGso)
    );
    for gso in [Gso::Tcp6, Gso::Udp] {
        assert!(
            matches!(
                refused(Offload { gso, ..good }),
                Some(GsoError::Kind { .. })
            ),
            "{gso:?}"
        );
    }
    for size in [0, 7] {
        let error = GsoError::SegmentSize { size, min: 8 };
        assert_eq!(
            refused(Offload {
                gso_size: size,
                ..good
            }),
            Some(error)
        );
    }
    for checksum in [
        Checksum::Complete,
        Checksum::Partial {
            start: 33,
            offset: 16,
        },
        Checksum::Partial {
            start: 34,
            offset: 6,
        },
        Checksum::Partial {
            start: 35,
            offset: 15,
        },
    ] {
        assert!(
            matches!(
                refused(Offload { checksum, ..good }),
                Some(GsoError::Checksum { .. })
            ),
            "{checksum:?}"
        );
    }
}

#[test]
fn too_many_segments_are_refused() {
    let tcp = Flow::new(false, true);
    let fits = tcp.packet(&noise(8 * MAX_TCP_SEGMENTS, 1));
    assert_eq!(
        segmenter(&tcp, &fits, &offload(&tcp, 8)).map(|s| s.count()),
        Ok(MAX_TCP_SEGMENTS)
    );
    let above = tcp.packet(&noise(8 * MAX_TCP_SEGMENTS + 1, 1));
    let error = GsoError::Segments {
        segments: MAX_TCP_SEGMENTS + 1,
        limit: MAX_TCP_SEGMENTS,
    };
    assert_eq!(
        segmenter(&tcp, &above, &offload(&tcp, 8)).err(),
        Some(error)
    );
    let udp = Flow::new(true, false);
    let above = udp.packet(&noise(MAX_UDP_SEGMENTS + 1, 1));
    let error = GsoError::Segments {
        segments: MAX_UDP_SEGMENTS + 1,
        limit: MAX_UDP_SEGMENTS,
    };
    assert_eq!(
        segmenter(&udp, &above, &offload(&udp, 1)).err(),
        Some(error)
    );
}

#[test]
fn frames_that_cannot_be_superframes_are_refused() {
    for flags in [0x02, 0x04, 0x12] {
        let flow = Flow {
            flags,
            ..Flow::new(true, true)
        };
        let frame = flow.packet(&noise(250, 3));
        assert_eq!(
            segmenter(&flow, &frame, &offload(&flow, 100)).err(),
            Some(GsoError::Flags { flags })
        );
    }
    for ip_flags in [0x2000, 0x0001] {
        let flow = Flow {
            ip_flags,
            ..Flow::new(false, false)
        };
        let frame = flow.packet(&noise(240, 3));
        assert!(matches!(
            segmenter(&flow, &frame, &offload(&flow, 100)),
            Err(GsoError::Fragment { .. })
        ));
    }
    // UDP length below the IP packet's: the rest would be lost or sent as data.
    let flow = Flow::new(true, false);
    let mut frame = flow.packet(&noise(250, 3));
    frame[54 + 5] -= 1;
    let error = GsoError::UdpLength {
        found: 257,
        expected: 258,
    };
    assert_eq!(
        segmenter(&flow, &frame, &offload(&flow, 100)).err(),
        Some(error)
    );
    // Headers not wholly in `head`.
    let flow = Flow::new(true, true);
    let frame = flow.packet(&noise(250, 3));
    let p = parsed(&frame, false);
    let error = GsoError::Header { len: 74, limit: 73 };
    assert_eq!(
        Segmenter::new(&frame[..73], &p, &offload(&flow, 100), frame.len()).err(),
        Some(error)
    );
}

#[test]
fn vlan_tags_are_copied_along() {
    let mut flow = Flow::new(false, true);
    flow.before.splice(12..12, [0x81, 0, 0, 5]);
    let frame = flow.packet(&noise(250, 3));
    assert_eq!(
        segments(&flow.clone(), &frame, &offload(&flow, 100)),
        flow.run(&noise(250, 3), 100, false)
    );
}
