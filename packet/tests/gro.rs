//! Coalescing: what joins, what must not, and that segmentation undoes it byte for byte.

mod stream;

use proptest::prelude::*;
use ringway_packet::checksum;
use ringway_packet::gro::{Coalescer, FLOWS, Group, MAX_IDS, MAX_SEGMENTS, Offer};
use ringway_packet::gso::Segmenter;
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_packet::parse::parse_ip;
use stream::{ACK, Flow, PSH, noise, parsed};

/// A frame as it would be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Delivered {
    bytes: Vec<u8>,
    offload: Offload,
    packets: usize,
}

/// Offers a batch and gathers payload as the worker does; frames in the order of their leaders.
fn coalesce_with(c: &mut Coalescer, frames: &[Vec<u8>]) -> (Vec<Offer>, Vec<Delivered>) {
    c.begin();
    let mut offers = Vec::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let p = parsed(frame, bare(frame));
        let payload = &frame[usize::from(p.payload_off)..p.ip_end()];
        let offer = c.offer(i as u32, frame, &p, frame.len(), payload, false);
        members.push(vec![]);
        match offer {
            Offer::Joined { leader } => members[leader as usize].push(i),
            Offer::First | Offer::Alone => members[i].push(i),
        }
        offers.push(offer);
    }
    let mut out = Vec::new();
    for (leader, ids) in members
        .iter()
        .enumerate()
        .filter(|(_, ids)| !ids.is_empty())
    {
        let mut bytes = frames[leader].clone();
        let mut offload = Offload::default();
        if offers[leader] == Offer::First {
            if ids.len() > 1 {
                bytes.truncate(parsed(&bytes, bare(&bytes)).ip_end());
            }
            offload = c.finish(leader as u32, &mut bytes);
        }
        for id in &ids[1..] {
            let p = parsed(&frames[*id], bare(&frames[*id]));
            bytes.extend(&frames[*id][usize::from(p.payload_off)..p.ip_end()]);
        }
        out.push(Delivered {
            bytes,
            offload,
            packets: ids.len(),
        });
    }
    (offers, out)
}

fn coalesce(frames: &[Vec<u8>]) -> (Vec<Offer>, Vec<Delivered>) {
    coalesce_with(&mut Coalescer::new(), frames)
}

/// Test frames with Ethernet begin with the MAC address 02:...
fn bare(frame: &[u8]) -> bool {
    frame[0] != 2
}

/// What the kernel, or we, would make of a delivered frame.
fn segment(d: &Delivered) -> Vec<Vec<u8>> {
    if d.offload.gso == Gso::None {
        return vec![d.bytes.clone()];
    }
    let p = parsed(&d.bytes, bare(&d.bytes));
    let s = Segmenter::new(&d.bytes, &p, &d.offload, d.bytes.len()).unwrap();
    (0..s.count())
        .map(|i| {
            let r = s.payload(i);
            let payload = &d.bytes[s.header_len() + r.start..s.header_len() + r.end];
            let mut out = vec![0; s.header_len()];
            s.write_header(i, checksum::sum(payload), &mut out);
            out.extend(payload);
            out
        })
        .collect()
}

/// A frame that came with a partial checksum completes to a good one.
fn completes(d: &Delivered) -> bool {
    let Checksum::Partial { start, .. } = d.offload.checksum else {
        return false;
    };
    let mut bytes = d.bytes.clone();
    let Checksum::Partial { offset, .. } = d.offload.checksum else {
        return false;
    };
    ringway_packet::offload::complete_checksum(&mut bytes, start, offset).unwrap();
    let p = parsed(&bytes, bare(&bytes));
    let ip = &bytes[usize::from(p.l3_off)..usize::from(p.l4_off)];
    let l4 = &bytes[usize::from(p.l4_off)..];
    let mut pseudo = if ip[0] >> 4 == 6 {
        ip[8..40].to_vec()
    } else {
        ip[12..20].to_vec()
    };
    pseudo.extend((l4.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, p.proto]);
    pseudo.extend(l4);
    stream::rfc1071(&pseudo) == 0xffff
}

fn flow() -> impl Strategy<Value = Flow> {
    let kind = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (
        kind,
        any::<u32>(),
        any::<u16>(),
        any::<u8>(),
        any::<u32>(),
        any::<u16>(),
    )
        .prop_map(|((v6, tcp, bare, stamps, df), seq, id, tos, ack, window)| {
            let mut f = Flow {
                seq,
                id,
                tos,
                ack,
                window,
                ..Flow::new(v6, tcp)
            };
            f.ip_flags = if df { 0x4000 } else { 0 };
            if stamps {
                f = f.timestamps(ack ^ 1, seq ^ 2);
            }
            if bare { f.bare() } else { f }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// GSO ∘ GRO is the identity on packets.
    #[test]
    fn segmentation_restores_what_was_coalesced(
        mut flow in flow(), mss in 1usize..1500, count in 1usize..=64, last in 1usize..1500, push: bool,
    ) {
        let payload = noise(mss * (count - 1) + last.min(mss), flow.seq.into());
        let frames = flow.run(&payload, mss, push);
        let (_, delivered) = coalesce(&frames);
        let back: Vec<Vec<u8>> = delivered.iter().flat_map(segment).collect();
        prop_assert_eq!(&back, &frames);
        // And nothing was left alone that need not be: as many superframes as 64 KB demand, and one
        // more for a PSH that came too late to join.
        let most = payload.len().div_ceil(65_000 - mss) + 1;
        let small = flow.tcp && mss < 8;
        prop_assert!(small || delivered.len() <= most, "{} frames for {} bytes", delivered.len(), payload.len());
        for d in delivered.iter().filter(|d| d.packets > 1) {
            prop_assert!(completes(d));
            prop_assert!(d.bytes.len() - flow.l3() <= 65_535);
        }
    }

    /// GRO ∘ GSO is the identity on superframes.
    #[test]
    fn coalescing_restores_what_was_segmented(
        flow in flow(), mss in 8usize..1500, count in 2usize..=64, last in 1usize..1500,
    ) {
        let len = (mss * (count - 1) + last.min(mss)).min(65_000);
        prop_assume!(len > mss);
        let mut superframe = flow.packet(&noise(len, 5));
        let checksum = Checksum::Partial { start: flow.l4() as u16, offset: if flow.tcp { 16 } else { 6 } };
        let gso = match (flow.tcp, flow.v6) {
            (true, false) => Gso::Tcp4,
            (true, true) => Gso::Tcp6,
            (false, _) => Gso::Udp,
        };
        let offload = Offload { checksum, gso, gso_size: mss as u16, ecn: false };
        let whole = Delivered { bytes: superframe.clone(), offload, packets: 0 };
        let (_, delivered) = coalesce(&segment(&whole));
        prop_assert_eq!(delivered.len(), 1);
        prop_assert_eq!(delivered[0].offload, offload);
        // The checksum field differs: partial in one, complete in the other.
        let at = flow.l4() + if flow.tcp { 16 } else { 6 };
        superframe[at..at + 2].copy_from_slice(&delivered[0].bytes[at..at + 2]);
        prop_assert_eq!(&delivered[0].bytes, &superframe);
        prop_assert!(completes(&delivered[0]));
    }

    /// Whatever comes in whatever order: nothing lost, nothing changed, each flow in its order.
    #[test]
    fn no_flow_is_reordered_and_no_packet_changed(
        steps in prop::collection::vec((0usize..24, 0u8..16, 1usize..4), 1..150), bare: bool,
    ) {
        let mut flows: Vec<Flow> = (0..24u16)
            .map(|n| {
                let f = Flow { src_port: 1000 + n, ..Flow::new(n % 2 == 0, n % 3 > 0) };
                if bare { f.bare() } else { f }
            })
            .collect();
        let mut frames = Vec::new();
        for (n, what, len) in steps {
            let f = &mut flows[n];
            let mut frame = f.run(&noise(100 * len, 7 + len as u64), 200, false).remove(0);
            match what {
                0 => f.ttl -= 1,
                1 => f.tos ^= 1,
                2 => f.seq = f.seq.wrapping_add(1),
                3 => f.ack += 1,
                4 => f.flags ^= PSH,
                5 => f.id += 9,
                6 => *frame.last_mut().unwrap() ^= 0xff,
                7 => f.flags ^= 0x40,
                8 => frame = f.packet(&[]),
                _ => {}
            }
            frames.push(frame);
        }
        let (_, delivered) = coalesce(&frames);
        let back: Vec<Vec<u8>> = delivered.iter().flat_map(segment).collect();
        prop_assert_eq!(back.len(), frames.len());
        for f in &flows {
            let own = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                all.iter().filter(|b| parsed(b, bare).src_port == f.src_port).cloned().collect()
            };
            prop_assert_eq!(own(&back), own(&frames));
        }
    }

    #[test]
    fn hostile_bytes_neither_panic_nor_join_wrongly(
        frames in prop::collection::vec((0usize..80, prop::collection::vec(any::<u8>(), 60..100), any::<bool>()), 1..40),
    ) {
        let mut c = Coalescer::new();
        c.begin();
        for (i, (from, mut bytes, v6)) in frames.into_iter().enumerate() {
            let good = Flow::new(v6, true).bare().packet(&noise(20, 3));
            let from = from.min(bytes.len()).min(good.len());
            bytes[..from].copy_from_slice(&good[..from]);
            let Ok(p) = parse_ip(&bytes, bytes.len()) else { continue };
            // Payload as it is, and as a caller in error would give it.
            let end = p.ip_end().min(bytes.len());
            let start = usize::from(p.payload_off).min(end);
            let payload = &bytes[start..(end - usize::from(i % 7 == 0)).max(start)];
            c.offer(i as u32, &bytes, &p, bytes.len(), payload, i % 3 == 0);
            for cut in [0, 1, 20, 40, 60] {
                c.finish(i as u32, &mut bytes.clone()[..cut]);
            }
        }
    }
}

/// Offers `first` and `second`, which would join but for `change`.
fn second_of(flow: &Flow, change: impl Fn(&mut Flow)) -> Offer {
    let mut flow = flow.clone();
    let first = flow.run(&noise(100, 1), 100, false).remove(0);
    change(&mut flow);
    let second = flow.packet(&noise(100, 2));
    let (offers, delivered) = coalesce(&[first.clone(), second.clone()]);
    assert_eq!(offers[0], Offer::First);
    if offers[1] != (Offer::Joined { leader: 0 }) {
        assert_eq!(delivered[0].bytes, first, "untouched");
        assert_eq!(delivered[1].bytes, second, "untouched");
    }
    offers[1]
}

const JOINED: Offer = Offer::Joined { leader: 0 };

#[test]
fn equal_headers_join() {
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        assert_eq!(
            second_of(&Flow::new(v6, tcp), |_| ()),
            JOINED,
            "v6 {v6}, tcp {tcp}"
        );
        assert_eq!(
            second_of(&Flow::new(v6, tcp).bare(), |_| ()),
            JOINED,
            "bare, v6 {v6}, tcp {tcp}"
        );
    }
    assert_eq!(
        second_of(&Flow::new(true, true).timestamps(1, 2), |_| ()),
        JOINED
    );
    // PSH joins, as the last.
    assert_eq!(
        second_of(&Flow::new(true, true), |f| f.flags |= PSH),
        JOINED
    );
}

#[test]
fn any_other_header_opens_a_new_group() {
    type Change = (&'static str, fn(&mut Flow));
    let both: [Change; 6] = [
        ("destination MAC", |f| f.before[5] ^= 1),
        ("source MAC", |f| f.before[11] ^= 1),
        ("TTL", |f| f.ttl -= 1),
        ("DSCP", |f| f.tos ^= 4),
        ("CE", |f| f.tos |= 3),
        ("not ECT", |f| f.tos &= !3),
    ];
    let tcp: [Change; 7] = [
        ("a hole", |f| f.seq += 1),
        ("a repetition", |f| f.seq -= 100),
        ("acknowledgement", |f| f.ack += 1),
        ("window", |f| f.window += 1),
        ("urgent pointer", |f| f.urgent = 1),
        ("options there", |f| f.tcp_options = vec![1, 1, 1, 1]),
        ("ports", |f| f.src_port += 1),
    ];
    let v4: [Change; 4] = [
        ("id goes back", |f| f.id -= 2),
        ("id jumps", |f| f.id += 1),
        ("DF", |f| f.ip_flags ^= 0x4000),
        ("reserved flag", |f| f.ip_flags ^= 0x8000),
    ];
    for v6 in [false, true] {
        for is_tcp in [false, true] {
            let flow = Flow::new(v6, is_tcp);
            let own: &[Change] = if is_tcp {
                &tcp
            } else {
                &[("ports", |f| f.dst_port += 1)]
            };
            let id: &[Change] = if v6 {
                &[("flow label", |f| f.label ^= 1)]
            } else {
                &v4
            };
            for (name, change) in both.iter().chain(own).chain(id) {
                assert_eq!(
                    second_of(&flow, change),
                    Offer::First,
                    "{name}, v6 {v6}, tcp {is_tcp}"
                );
            }
        }
    }
    let stamped = Flow::new(true, true).timestamps(5, 6);
    for (value, echo) in [(6, 6), (5, 7)] {
        assert_eq!(
            second_of(&stamped, |f| *f = f.clone().timestamps(value, echo)),
            Offer::First
        );
    }
}

#[test]
fn frames_that_can_never_join_stay_alone_and_close_the_group() {
    for v6 in [false, true] {
        type Change = (String, Box<dyn Fn(&mut Flow)>);
        let mut changes: Vec<Change> = Vec::new();
        for bit in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
            changes.push((format!("flag {bit:#x}"), Box::new(move |f| f.flags |= bit)));
        }
        changes.push(("no ACK".into(), Box::new(|f| f.flags = PSH)));
        changes.push(("accurate ECN".into(), Box::new(|f| f.reserved = 1)));
        let options = if v6 {
            vec![6, 0, 1, 4, 0, 0, 0, 0]
        } else {
            vec![1, 1, 1, 1]
        };
        changes.push((
            "IP options".into(),
            Box::new(move |f| f.ip_options = options.clone()),
        ));
        changes.push((
            "VLAN".into(),
            Box::new(|f| drop(f.before.splice(12..12, [0x81, 0, 0, 5]))),
        ));
        for (name, change) in changes {
            let mut flow = Flow::new(v6, true);
            let mut frames = flow.run(&noise(200, 1), 100, false);
            let mut odd = flow.clone();
            change(&mut odd);
            frames.push(odd.packet(&noise(100, 2)));
            flow.seq = flow.seq.wrapping_add(100);
            flow.id += 1;
            frames.extend(flow.run(&noise(200, 4), 100, false));
            let (offers, delivered) = coalesce(&frames);
            let expected = [
                Offer::First,
                JOINED,
                Offer::Alone,
                Offer::First,
                Offer::Joined { leader: 3 },
            ];
            assert_eq!(offers, expected, "{name}, v6 {v6}");
            assert_eq!(
                delivered[1],
                Delivered {
                    bytes: frames[2].clone(),
                    offload: Offload::default(),
                    packets: 1
                }
            );
        }
    }
}

#[test]
fn a_segment_without_payload_closes_the_group() {
    let mut flow = Flow::new(false, true);
    let mut frames = flow.run(&noise(100, 1), 100, false);
    frames.push(flow.packet(&[]));
    flow.id += 1;
    frames.extend(flow.run(&noise(100, 1), 100, false));
    assert_eq!(
        coalesce(&frames).0,
        [Offer::First, Offer::Alone, Offer::First]
    );
}

#[test]
fn corrupt_frames_are_delivered_as_they_came() {
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        // In the first, in the second, in a byte of payload and in the checksum itself.
        for bad in [0, 1, 2] {
            let flow = Flow::new(v6, tcp);
            for at in [flow.header_len() + 50, flow.l4() + if tcp { 16 } else { 6 }] {
                let mut frames = flow.clone().run(&noise(300, 1), 100, false);
                frames[bad][at] ^= 0x10;
                let (offers, delivered) = coalesce(&frames);
                assert_eq!(offers[bad], Offer::Alone);
                let back: Vec<Vec<u8>> = delivered.iter().flat_map(segment).collect();
                assert_eq!(back, frames);
                let own = delivered.iter().find(|d| d.bytes == frames[bad]).unwrap();
                assert_eq!(
                    own.offload.checksum,
                    Checksum::Complete,
                    "nobody vouches for it"
                );
            }
        }
    }
}

#[test]
fn a_caller_that_vouches_is_believed() {
    let mut c = Coalescer::new();
    c.begin();
    let mut frames = Flow::new(false, true).run(&noise(200, 1), 100, false);
    frames[0][60] ^= 1;
    let p = parsed(&frames[0], false);
    assert_eq!(
        c.offer(0, &frames[0], &p, frames[0].len(), &frames[0][54..], true),
        Offer::First
    );
    assert_eq!(c.finish(0, &mut frames[0]).checksum, Checksum::Verified);
}

#[test]
fn udp_without_checksum_stays_alone() {
    let mut frames = Flow::new(false, false).run(&noise(200, 1), 100, false);
    for f in &mut frames {
        f[40..42].copy_from_slice(&[0, 0]);
    }
    assert_eq!(coalesce(&frames).0, [Offer::Alone, Offer::Alone]);
}

#[test]
fn udp_with_trailing_bytes_stays_alone() {
    let flow = Flow::new(true, false);
    let mut frames = flow.clone().run(&noise(200, 1), 100, false);
    frames[0][54 + 5] -= 1;
    assert_eq!(coalesce(&frames).0, [Offer::Alone, Offer::First]);
}

#[test]
fn padding_is_left_out() {
    let mut frames = Flow::new(false, true).run(&noise(24, 1), 8, false);
    let clean = frames.clone();
    for f in &mut frames {
        f.extend([0xaa; 4]);
    }
    let (offers, delivered) = coalesce(&frames);
    assert_eq!(offers, [Offer::First, JOINED, JOINED]);
    assert_eq!(segment(&delivered[0]), clean);
}

#[test]
fn segments_too_small_to_be_made_again_stay_alone() {
    let frames = Flow::new(false, true).run(&noise(21, 1), 7, false);
    assert_eq!(coalesce(&frames).0, [Offer::Alone; 3]);
    let frames = Flow::new(false, false).run(&noise(3, 1), 1, false);
    assert_eq!(coalesce(&frames).0, [Offer::First, JOINED, JOINED]);
}

#[test]
fn longer_opens_a_new_group_and_shorter_closes() {
    for tcp in [false, true] {
        let mut flow = Flow::new(true, tcp);
        let mut frames = Vec::new();
        for len in [100, 100, 60, 100, 100, 101, 101] {
            frames.extend(flow.run(&noise(len, 1), len, false));
        }
        let (offers, delivered) = coalesce(&frames);
        let expected = [
            Offer::First,
            JOINED,
            JOINED,
            Offer::First,
            Offer::Joined { leader: 3 },
            Offer::First,
            Offer::Joined { leader: 5 },
        ];
        assert_eq!(offers, expected);
        assert_eq!(
            delivered
                .iter()
                .map(|d| d.offload.gso_size)
                .collect::<Vec<_>>(),
            [100, 100, 101]
        );
    }
}

#[test]
fn push_closes_and_is_kept() {
    let mut flow = Flow::new(false, true);
    let mut frames = flow.run(&noise(300, 1), 100, true);
    frames.extend(flow.run(&noise(300, 1), 100, false));
    let (offers, delivered) = coalesce(&frames);
    assert_eq!(offers[3], Offer::First);
    assert_eq!(delivered[0].bytes[14 + 20 + 13], ACK | PSH);
    assert_eq!(delivered[1].bytes[14 + 20 + 13], ACK);
    // Nothing can follow PSH, so it opens no group.
    let mut flow = Flow {
        flags: ACK | PSH,
        ..Flow::new(false, true)
    };
    assert_eq!(
        coalesce(&flow.run(&noise(200, 1), 100, false)).0,
        [Offer::Alone, Offer::Alone]
    );
}

#[test]
fn ids_of_packets_with_df_may_stay() {
    for (df, id, expected) in [(0x4000, 0, true), (0x4000, 77, true), (0, 77, false)] {
        let mut flow = Flow {
            ip_flags: df,
            id,
            ..Flow::new(false, false)
        };
        let mut frames = Vec::new();
        for i in 0..3 {
            flow.id = id;
            frames.extend(flow.run(&noise(100, 1 + i), 100, false));
        }
        let (offers, _) = coalesce(&frames);
        assert_eq!(
            offers[1] == JOINED && offers[2] == JOINED,
            expected,
            "DF {df:#x}, id {id}"
        );
    }
    // Not one way and then the other.
    let flow = Flow::new(false, false);
    for ids in [[9, 9, 10], [9, 10, 10], [9, 9, 11], [9, 10, 9]] {
        let frames: Vec<_> = ids
            .iter()
            .map(|id| {
                Flow {
                    id: *id,
                    ..flow.clone()
                }
                .packet(&noise(80, 1))
            })
            .collect();
        assert_eq!(
            coalesce(&frames).0,
            [Offer::First, JOINED, Offer::First],
            "{ids:?}"
        );
    }
}

#[test]
fn ids_and_sequence_numbers_wrap() {
    for ip_flags in [0, 0x4000] {
        let mut flow = Flow {
            id: 65_534,
            seq: u32::MAX - 150,
            ip_flags,
            ..Flow::new(false, true)
        };
        let frames = flow.run(&noise(500, 1), 100, false);
        let (_, delivered) = coalesce(&frames);
        assert_eq!(delivered.len(), 1);
        assert_eq!(segment(&delivered[0]), frames);
    }
}

#[test]
fn a_full_group_closes_and_the_next_opens() {
    // By bytes: 46 * 1448 + 20 + 20 is above 65,535.
    let frames = Flow::new(false, true).run(&noise(1448 * 60, 1), 1448, false);
    let (offers, delivered) = coalesce(&frames);
    assert_eq!(offers[44], JOINED);
    assert_eq!(offers[45], Offer::First);
    assert_eq!(
        delivered.iter().map(|d| d.packets).collect::<Vec<_>>(),
        [45, 15]
    );
    // To the byte: 20 + 20 + 45 * 1455 + 20 = 65,535, and one more.
    for (last, groups) in [(20, 1), (21, 2)] {
        let frames = Flow::new(false, true).run(&noise(1455 * 45 + last, 1), 1455, false);
        let (_, delivered) = coalesce(&frames);
        assert_eq!(delivered.len(), groups, "{last}");
        let back: Vec<Vec<u8>> = delivered.iter().flat_map(segment).collect();
        assert_eq!(back, frames);
    }
    // By count.
    let frames = Flow::new(true, false).run(&noise(130 * 10, 1), 10, false);
    let (_, delivered) = coalesce(&frames);
    let most = usize::from(MAX_SEGMENTS);
    assert_eq!(
        delivered.iter().map(|d| d.packets).collect::<Vec<_>>(),
        [most, most, 2]
    );
}

#[test]
fn interleaved_flows_each_make_one_superframe() {
    let runs: Vec<Vec<Vec<u8>>> = (0..FLOWS as u16)
        .map(|n| {
            Flow {
                src_port: 100 + n,
                ..Flow::new(n % 2 == 0, n % 3 > 0)
            }
            .run(&noise(1000, 1), 100, false)
        })
        .collect();
    let frames: Vec<Vec<u8>> = (0..10)
        .flat_map(|i| runs.iter().map(move |r| r[i].clone()))
        .collect();
    let (_, delivered) = coalesce(&frames);
    assert_eq!(delivered.len(), FLOWS);
    for (d, run) in delivered.iter().zip(&runs) {
        assert_eq!(&segment(d), run);
    }
}

#[test]
fn a_full_table_closes_the_oldest_group() {
    let mut flows: Vec<Flow> = (0..=FLOWS as u16)
        .map(|n| Flow {
            src_port: 100 + n,
            ..Flow::new(false, true)
        })
        .collect();
    let mut frames: Vec<Vec<u8>> = flows
        .iter_mut()
        .map(|f| f.run(&noise(100, 1), 100, false).remove(0))
        .collect();
    // The second is still open, the first is not; its next frame puts out the second.
    frames.push(flows[1].run(&noise(100, 1), 100, false).remove(0));
    frames.push(flows[0].run(&noise(100, 1), 100, false).remove(0));
    frames.push(flows[1].run(&noise(100, 1), 100, false).remove(0));
    let (offers, _) = coalesce(&frames);
    let n = FLOWS + 1;
    assert_eq!(offers[..n], vec![Offer::First; n]);
    assert_eq!(
        offers[n..],
        [Offer::Joined { leader: 1 }, Offer::First, Offer::First]
    );
}

#[test]
fn a_fragment_closes_the_flows_between_its_addresses() {
    for ip_flags in [0x2000, 0x0005] {
        let mut flow = Flow::new(false, true);
        let mut other = Flow {
            dst: 9,
            ..Flow::new(false, true)
        };
        let mut frames = flow.run(&noise(100, 1), 100, false);
        frames.extend(other.run(&noise(100, 1), 100, false));
        frames.push(
            Flow {
                ip_flags,
                ..flow.clone()
            }
            .packet(&noise(100, 1)),
        );
        frames.extend(flow.run(&noise(100, 1), 100, false));
        frames.extend(other.run(&noise(100, 1), 100, false));
        let expected = [
            Offer::First,
            Offer::First,
            Offer::Alone,
            Offer::First,
            Offer::Joined { leader: 1 },
        ];
        assert_eq!(coalesce(&frames).0, expected);
    }
}

#[test]
fn batches_do_not_mix() {
    let mut c = Coalescer::new();
    let frames = Flow::new(false, true).run(&noise(300, 1), 100, false);
    assert_eq!(
        coalesce_with(&mut c, &frames[..2]).0,
        [Offer::First, JOINED]
    );
    let group = Group {
        count: 2,
        payload_len: 200,
        gso_size: 100,
    };
    assert_eq!((c.group(0), c.group(1)), (Some(group), None));
    c.begin();
    assert_eq!(c.group(0), None);
    assert_eq!(c.finish(0, &mut frames[0].clone()), Offload::default());
    assert_eq!(coalesce_with(&mut c, &frames[2..]).0, [Offer::First]);
}

#[test]
fn ids_beyond_the_table_stay_alone_in_order() {
    let mut c = Coalescer::new();
    c.begin();
    let frames = Flow::new(false, true).run(&noise(400, 1), 100, false);
    let ids = [0, MAX_IDS, u32::MAX, MAX_IDS - 1];
    let offers: Vec<Offer> = ids
        .iter()
        .zip(&frames)
        .map(|(id, f)| c.offer(*id, f, &parsed(f, false), f.len(), &f[54..], false))
        .collect();
    assert_eq!(
        offers,
        [Offer::First, Offer::Alone, Offer::Alone, Offer::First]
    );
    assert_eq!((c.group(u32::MAX), c.group(MAX_IDS)), (None, None));
}
