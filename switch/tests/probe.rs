//! Probes: what is asked is answered, what is answered is kept, and nobody can make more of it.

mod cast;

use cast::*;
use ringway_encap::Encap;
use ringway_switch::probe::{self, Answer, LEAST, Request};
use ringway_switch::{DropReason, IgnoreReason, Out, Verdict};
use ringway_tables::PeerId;

const PEER: PeerId = PeerId(0);
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;

fn answers(stage: &mut Stage) -> Vec<Answer> {
    let mut all = Vec::new();
    stage.pipeline.take_probe_answers(|answer| all.push(answer));
    all
}

/// Of both encapsulations: a request of any size, and the answer that it gets.
#[test]
fn a_request_is_answered_with_what_came_and_never_with_more() {
    for size in [LEAST, 1000, 1450] {
        let frame = probe(REQUEST, 0x1122_3344_5566_7788, 9, size.into());
        for encap in [Encap::Vxlan { vni: VNI }, Encap::Udp] {
            let mut stage = Stage::new(encap);
            let o = match encap {
                Encap::Udp => stage.from_datagram("192.168.77.2", encap, 0, &frame[14..]),
                Encap::Vxlan { .. } => stage.from_frame(&in_vxlan(&frame)),
            };
            assert_eq!(o.verdict, Verdict::Answered);
            let [(Out::Tunnel(tunnel), answer)] = &o.originated[..] else {
                panic!("{:?}", o.originated);
            };
            let path = stage.snapshot.path(tunnel.path).unwrap();
            assert_eq!((path.peer, tunnel.hash), (PEER, 0x5566_7788));
            assert_eq!(answer.len(), 14 + usize::from(LEAST));
            // To node2, otherwise as it came, with the size that it really had.
            let mut expected = probe(ANSWER, 0x1122_3344_5566_7788, size, LEAST.into());
            expected[..6].copy_from_slice(&VTEP2);
            expected[6..12].copy_from_slice(&VTEP1);
            assert_eq!(answer, &expected);
        }
    }
}

#[test]
fn what_is_written_is_what_a_peer_answers() {
    let stage = Stage::vxlan();
    let request = Request {
        peer: PEER,
        v6: true,
        size: 1200,
        token: 77,
    };
    let mut out = [0xff; 2000];
    let (tunnel, len) = probe::write(&stage.snapshot, &request, 400_000_000, &mut out).unwrap();
    let mut expected = probe(REQUEST, 77, 1200, 1200);
    expected[..6].copy_from_slice(&VTEP2);
    expected[6..12].copy_from_slice(&VTEP1);
    expected[14 + 40 + 5] = 1;
    assert_eq!(&out[..len], &expected[..]);
    assert_eq!(tunnel.hash, 77);
    // No room, nobody there; too small is as small as can be.
    assert!(probe::write(&stage.snapshot, &request, 0, &mut out[..1213]).is_none());
    let nobody = Request {
        peer: PeerId(99),
        ..request
    };
    assert!(probe::write(&stage.snapshot, &nobody, 0, &mut out).is_none());
    let small = Request { size: 0, ..request };
    let (_, len) = probe::write(&stage.snapshot, &small, 0, &mut out).unwrap();
    assert_eq!(len, 14 + usize::from(LEAST));
}

#[test]
fn an_answer_is_kept_for_whoever_asked() {
    let mut stage = Stage::vxlan();
    let o = stage.from_frame(&in_vxlan(&probe(ANSWER, 77, 1450, 64)));
    assert_eq!(o.verdict, Verdict::Ignore(IgnoreReason::ProbeAnswer));
    assert!(o.originated.is_empty() && stage.pipeline.has_probe_answers());
    let answer = Answer {
        peer: PEER,
        token: 77,
        size: 1450,
        round_trip_ns: 600_000_000,
    };
    assert_eq!(answers(&mut stage), [answer]);
    assert!(!stage.pipeline.has_probe_answers());
    // One of the future.
    stage.now = 1;
    stage.from_frame(&in_vxlan(&probe(ANSWER, 77, 1450, 64)));
    assert_eq!(answers(&mut stage)[0].round_trip_ns, 0);
}

#[test]
fn a_flood_is_limited_and_nothing_grows() {
    let mut stage = Stage::vxlan();
    let flood = in_vxlan(&probe(ANSWER, 1, 64, 64));
    for i in 0..10_000u64 {
        stage.now = 1_000_000_000 + i * 1_000_000;
        stage.from_frame(&flood);
    }
    // Ten at once and ten a second, of which 64 are kept.
    assert_eq!(answers(&mut stage).len(), 64);
    let limited = stage.counters.drops[DropReason::ProbeLimited.index()].get();
    assert!((9_890..=9_940).contains(&limited), "{limited}");
}

/// A node that was taken over from Flannel may have two.
#[test]
fn either_vtep_of_this_node_is_asked_and_no_other() {
    for (to, verdict) in [
        (VTEP1, Verdict::Answered),
        ([2, 0, 0, 0, 0, 6], Verdict::Answered),
        ([2, 0, 0, 0, 0, 7], Verdict::Drop(DropReason::VtepMac)),
    ] {
        let mut stage = Stage::vxlan();
        stage.snapshot.node.vtep_mac6 = ringway_packet::mac::MacAddr([2, 0, 0, 0, 0, 6]);
        let mut frame = probe(REQUEST, 7, 64, 64);
        frame[..6].copy_from_slice(&to);
        assert_eq!(stage.from_frame(&in_vxlan(&frame)).verdict, verdict);
    }
}

#[test]
fn what_others_ask_takes_nothing_of_the_answers() {
    let mut stage = Stage::vxlan();
    let asks = in_vxlan(&probe(REQUEST, 7, 64, 64));
    (0..200).for_each(|_| drop(stage.from_frame(&asks)));
    let o = stage.from_frame(&in_vxlan(&probe(ANSWER, 7, 64, 64)));
    assert_eq!(o.verdict, Verdict::Ignore(IgnoreReason::ProbeAnswer));
}

#[test]
fn what_is_cut_or_unknown_is_dropped_and_pods_send_none() {
    for len in 41..64 {
        let mut frame = probe(REQUEST, 7, 64, 64);
        frame.truncate(14 + len);
        frame[18..20].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        let o = Stage::vxlan().from_frame(&in_vxlan(&frame));
        assert_eq!(
            o.verdict,
            Verdict::Drop(DropReason::MalformedProbe),
            "{len}"
        );
    }
    let mut other = probe(REQUEST, 7, 64, 64);
    other[14 + 40] = b'x';
    let o = Stage::vxlan().from_frame(&in_vxlan(&other));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::MalformedProbe));
    // Another source, or another destination, is no probe.
    for at in [14 + 8 + 15, 14 + 24 + 15] {
        let mut other = probe(REQUEST, 7, 64, 64);
        other[at] ^= 1;
        let o = Stage::vxlan().from_frame(&in_vxlan(&other));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::ForeignInnerSource));
    }
    let mut pod = probe(REQUEST, 7, 64, 64);
    pod[..6].copy_from_slice(&GATEWAY);
    pod[6..12].copy_from_slice(&pod_mac(2));
    let o = Stage::vxlan().from_port(ALICE, &pod);
    assert_eq!(o.verdict, Verdict::Drop(DropReason::SpoofedIpv6));
}
