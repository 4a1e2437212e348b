//! What the switch does with good traffic, and what it leaves in the frame.

mod cast;

use cast::*;
use etherparse::{SlicedPacket, TransportSlice};
use ringway_encap::Encap;
use ringway_encap::outer::pop_outer;
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_switch::trace::{Off, Step};
use ringway_switch::{DropReason, Out, Verdict, encapsulate};
use ringway_tables::{PathId, PeerId, PortId, Target};

const A: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 2];
const B: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 3];

#[test]
fn alice_to_bob_is_switched_untouched() {
    for frame in [
        udp4((A, B), (alice4(), bob4()), 64, 32),
        udp6((A, B), (v6(1, 2), v6(1, 3)), 64, 32),
    ] {
        let o = Stage::vxlan().from_port(ALICE, &frame);
        assert_eq!(o.verdict, Verdict::Deliver(BOB));
        assert_eq!(o.frame, frame);
        o.moved(&[
            ("received", 1),
            ("delivered", 1),
            ("alice rx", 1),
            ("bob tx", 1),
        ]);
    }
}

#[test]
fn alice_to_bob_by_the_gateway_is_routed() {
    let o = Stage::vxlan().from_port(ALICE, &udp4((A, GATEWAY), (alice4(), bob4()), 64, 32));
    assert_eq!(o.verdict, Verdict::Deliver(BOB));
    assert_eq!((&o.frame[..6], &o.frame[6..12]), (&B[..], &GATEWAY[..]));
    assert_eq!(o.frame[22], 63);
    whole_ipv4(&o.frame[14..]);
}

#[test]
fn alice_to_carol_leaves_by_the_tunnel_as_flannel_expects() {
    let mut stage = Stage::vxlan();
    let o = stage.from_port(ALICE, &udp4((A, GATEWAY), (alice4(), carol4()), 64, 32));
    let Verdict::Tunnel(tunnel) = o.verdict else {
        panic!("{:?}", o.verdict)
    };
    assert_eq!(stage.snapshot.path(tunnel.path).unwrap().mtu, 1450);
    assert_eq!((&o.frame[..6], &o.frame[6..12]), (&VTEP2[..], &VTEP1[..]));
    assert_eq!(o.frame[22], 63, "TTL decremented");
    whole_ipv4(&o.frame[14..]);
    o.moved(&[
        ("received", 1),
        ("tunnelled", 1),
        ("alice rx", 1),
        ("node2 tx", 1),
    ]);
    let o = stage.from_port(ALICE, &udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 64, 32));
    let Verdict::Tunnel(tunnel) = o.verdict else {
        panic!("{:?}", o.verdict)
    };
    assert_eq!(
        stage.snapshot.path(tunnel.path).unwrap().mtu,
        1430,
        "the IPv6 underlay's path"
    );
    assert_eq!(o.frame[21], 63, "hop limit decremented");
}

/// What one switch pushes, the other pops: byte for byte, by both encapsulations and families.
#[test]
fn two_switches_carry_a_packet_from_alice_to_carol() {
    for encap in [Encap::Vxlan { vni: VNI }, Encap::Udp] {
        for (sent, l3) in [
            (udp4((A, GATEWAY), (alice4(), carol4()), 64, 32), 14),
            (udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 64, 32), 14),
        ] {
            let mut near = Stage::new(encap);
            let o = near.run(&sent, |s, p| {
                let verdict = s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off);
                let Verdict::Tunnel(tunnel) = verdict else {
                    panic!("{verdict:?}")
                };
                let path = s.snapshot.path(tunnel.path).unwrap();
                encapsulate(path, &tunnel, p, 50_000, 0).unwrap();
                verdict
            });
            // Seen from node2: alice is behind node1, carol is local. The cast's tables are those of
            // node1, so the two ends are swapped in the frame.
            let mirrored = mirror(&o.frame);
            let outer = pop_outer(&mirrored, mirrored.len()).unwrap();
            assert_eq!(outer.src_port, 50_000);
            let mut far = Stage::new(encap);
            let got = far.from_frame(&mirrored);
            assert_eq!(got.verdict, Verdict::Deliver(ALICE), "{encap:?}");
            let (payload, ttl) = (
                &sent[sent.len() - 32..],
                if sent[12] == 8 { l3 + 8 } else { l3 + 7 },
            );
            assert_eq!(&got.frame[got.frame.len() - 32..], payload);
            assert_eq!(got.frame[ttl], 62, "one hop on each node");
            assert_eq!((&got.frame[..6], &got.frame[6..12]), (&A[..], &GATEWAY[..]));
            got.moved(&[
                ("received", 1),
                ("delivered", 1),
                ("node2 rx", 1),
                ("alice tx", 1),
            ]);
        }
    }
}

/// Swaps node 1 and node 2 in every address of an encapsulated frame. Swapping leaves all checksums
/// right: the sums are over the same words.
fn mirror(frame: &[u8]) -> Vec<u8> {
    let mut f = frame.to_vec();
    let swap = |f: &mut Vec<u8>, a: usize, b: usize, n: usize| {
        for i in 0..n {
            f.swap(a + i, b + i);
        }
    };
    swap(&mut f, 0, 6, 6);
    let v6 = f[12] == 0x86;
    let l4 = if v6 { 54 } else { 34 };
    if v6 {
        swap(&mut f, 22, 38, 16)
    } else {
        swap(&mut f, 26, 30, 4)
    }
    let vxlan = f[l4 + 2..l4 + 4] == 8472u16.to_be_bytes();
    let inner = l4 + 8 + if vxlan { 8 } else { 0 };
    let ip = if vxlan { inner + 14 } else { inner };
    if vxlan {
        swap(&mut f, inner, inner + 6, 6);
    }
    if f[ip] >> 4 == 6 {
        swap(&mut f, ip + 8, ip + 24, 16)
    } else {
        swap(&mut f, ip + 12, ip + 16, 4)
    }
    f
}

#[test]
fn carol_to_alice_arrives() {
    let o = Stage::vxlan().from_frame(&in_vxlan(&carol_to_alice(32)));
    assert_eq!(o.verdict, Verdict::Deliver(ALICE));
    assert_eq!((&o.frame[..6], &o.frame[6..12]), (&A[..], &GATEWAY[..]));
    assert_eq!(o.frame[22], 62);
    whole_ipv4(&o.frame[14..]);
    o.moved(&[
        ("received", 1),
        ("delivered", 1),
        ("node2 rx", 1),
        ("alice tx", 1),
    ]);
}

#[test]
fn pods_and_node_reach_each_other() {
    let mut stage = Stage::vxlan();
    let o = stage.from_port(
        ALICE,
        &udp4((A, GATEWAY), (alice4(), [10, 77, 1, 1]), 64, 8),
    );
    assert_eq!(o.verdict, Verdict::Deliver(NODE));
    assert_eq!(o.frame[22], 64, "no hop to the gateway itself");
    let o = stage.from_port(ALICE, &udp4((A, GATEWAY), (alice4(), [8, 8, 8, 8]), 64, 8));
    assert_eq!(
        o.verdict,
        Verdict::Deliver(NODE),
        "the world outside goes by the node's stack"
    );
    assert_eq!(o.frame[22], 64, "which counts the hop itself");
    let o = stage.from_port(NODE, &udp4((GATEWAY, A), ([10, 77, 1, 1], alice4()), 64, 8));
    assert_eq!(o.verdict, Verdict::Deliver(ALICE));
    let o = stage.from_port(
        NODE,
        &udp4((GATEWAY, GATEWAY), ([10, 77, 1, 1], carol4()), 64, 8),
    );
    assert!(matches!(o.verdict, Verdict::Tunnel(_)));
    assert_eq!(o.frame[22], 64, "the node's stack has counted the hop");
    let o = stage.from_frame(&in_vxlan(&udp4(
        (VTEP2, VTEP1),
        (carol4(), [10, 77, 1, 1]),
        63,
        8,
    )));
    assert_eq!(o.verdict, Verdict::Deliver(NODE));
    assert_eq!(&o.frame[..6], &GATEWAY);
    // After the node's DNAT a packet carries a pod's address and comes from the node's port.
    let o = stage.from_port(NODE, &udp4((GATEWAY, GATEWAY), (alice4(), bob4()), 63, 8));
    assert_eq!(o.verdict, Verdict::Deliver(BOB));
}

#[test]
fn arp_is_answered_and_never_flooded() {
    let mut stage = Stage::vxlan();
    let o = stage.from_port(ALICE, &arp(1, A, alice4(), [10, 77, 1, 1]));
    assert_eq!(o.verdict, Verdict::Answered);
    o.moved(&[("received", 1), ("alice rx", 1), ("answered", 1)]);
    let (out, reply) = &o.originated[0];
    assert_eq!(*out, Out::Port(ALICE));
    assert_eq!(
        (&reply[..6], &reply[6..12], &reply[12..14]),
        (&A[..], &GATEWAY[..], &[8, 6][..])
    );
    assert_eq!(&reply[20..22], &[0, 2], "a reply");
    assert_eq!(
        (&reply[22..28], &reply[28..32]),
        (&GATEWAY[..], &[10, 77, 1, 1][..])
    );
    assert_eq!((&reply[32..38], &reply[38..42]), (&A[..], &alice4()[..]));
    let o = stage.from_port(ALICE, &arp(1, A, alice4(), bob4()));
    assert_eq!(&o.originated[0].1[22..28], &B, "bob's own MAC");
    let o = stage.from_port(NODE, &arp(1, GATEWAY, [10, 77, 1, 1], bob4()));
    assert_eq!(&o.originated[0].1[22..28], &B);
    // A flood of requests: every one answered, nothing grows, nothing is dropped.
    for _ in 0..10_000 {
        stage.from_port(ALICE, &arp(1, A, alice4(), bob4()));
    }
    assert_eq!(stage.counters.answered.frames.get(), 10_003);
    assert_eq!(stage.counters.dropped.frames.get(), 0);
}

#[test]
fn neighbour_solicitations_are_answered_but_not_probes_for_oneself() {
    let mut stage = Stage::vxlan();
    let o = stage.from_port(ALICE, &solicitation(A, v6(1, 2), v6(1, 1)));
    assert_eq!(o.verdict, Verdict::Answered);
    let reply = &o.originated[0].1;
    let parsed = SlicedPacket::from_ethernet(reply).unwrap();
    let Some(TransportSlice::Icmpv6(icmp)) = parsed.transport else {
        panic!("not ICMPv6")
    };
    assert_eq!(icmp.slice()[0], 136);
    assert!(icmp.is_checksum_valid(v6(1, 1), v6(1, 2)), "checksum");
    assert_eq!(icmp.slice()[4] & 0xc0, 0xc0, "a router's, solicited");
    assert_eq!(&icmp.slice()[8..24], &v6(1, 1));
    assert_eq!(&icmp.slice()[24..32], &[&[2, 1][..], &GATEWAY].concat());
    assert_eq!(reply[21], 255);
    assert!(
        stage
            .from_port(ALICE, &solicitation(A, [0; 16], v6(1, 2)))
            .originated
            .is_empty()
    );
    // A probe for somebody else's address is a conflict, and says so.
    let o = stage.from_port(ALICE, &solicitation(A, [0; 16], v6(1, 3)));
    assert_eq!(o.verdict, Verdict::Answered);
    assert_eq!(
        &o.originated[0].1[38..54],
        &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    );
}

#[test]
fn ttl_exceeded_is_told_to_the_sender_on_both_sides() {
    let mut stage = Stage::vxlan();
    let sent = udp4((A, GATEWAY), (alice4(), carol4()), 1, 600);
    let o = stage.from_port(ALICE, &sent);
    let (out, error) = &o.originated[0];
    assert_eq!(*out, Out::Port(ALICE));
    assert_eq!((&error[..6], &error[6..12]), (&A[..], &GATEWAY[..]));
    whole_ipv4(&error[14..]);
    assert_eq!(
        &error[26..34],
        &[10, 77, 1, 1, 10, 77, 1, 2],
        "from the gateway to alice"
    );
    assert_eq!(&error[34..36], &[11, 0]);
    assert_eq!(&error[42..62], &sent[14..34], "quotes the packet");
    assert!(error.len() <= 14 + 576);
    let o = stage.from_frame(&in_vxlan(&udp4(
        (VTEP2, VTEP1),
        (carol4(), alice4()),
        1,
        32,
    )));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::TtlExceeded));
    let (out, error) = &o.originated[0];
    assert!(matches!(out, Out::Tunnel(t) if stage.snapshot.path(t.path).unwrap().peer.0 == 0));
    assert_eq!((&error[..6], &error[6..12]), (&VTEP2[..], &VTEP1[..]));
    assert_eq!(&error[30..34], &carol4());
    // IPv6
    let o = stage.from_port(ALICE, &udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 1, 32));
    assert_eq!(&o.originated[0].1[54..56], &[3, 0]);
}

#[test]
fn too_big_is_judged_by_the_segment() {
    let mut stage = Stage::vxlan();
    let mut big = udp4((A, GATEWAY), (alice4(), carol4()), 64, 4000);
    // Without DF: to be fragmented.
    big[20] = 0;
    mend4(&mut big);
    assert!(matches!(
        stage.from_port(ALICE, &big).verdict,
        Verdict::Fragment(_)
    ));
    // With DF: an error that carries the MTU.
    big[20] = 0x40;
    mend4(&mut big);
    let o = stage.from_port(ALICE, &big);
    assert_eq!(o.verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(
        &o.originated[0].1[34..42],
        &[
            &[3, 4],
            &o.originated[0].1[36..38],
            &[0, 0],
            &1450u16.to_be_bytes()[..]
        ]
        .concat()[..]
    );
    // The same bytes as a superframe of small segments go whole.
    let gso = |size| Offload {
        checksum: Checksum::Partial {
            start: 34,
            offset: 6,
        },
        gso: Gso::Udp,
        gso_size: size,
        ecn: false,
    };
    let run = |stage: &mut Stage, size| {
        stage
            .run(&big, |s, p| {
                p.offload = gso(size);
                p.packets = 4;
                s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
            })
            .verdict
    };
    assert!(
        matches!(run(&mut stage, 1422), Verdict::Tunnel(_)),
        "1422 + 28 = 1450"
    );
    assert_eq!(run(&mut stage, 1423), Verdict::Drop(DropReason::TooBig));
    let o = stage.from_port(ALICE, &udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 64, 1383));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(
        &o.originated[0].1[54..62],
        &[
            &[2, 0],
            &o.originated[0].1[56..58],
            &1430u32.to_be_bytes()[..]
        ]
        .concat()[..]
    );
}

#[test]
fn icmp_errors_are_limited_and_never_answer_errors() {
    let mut stage = Stage::vxlan();
    let frame = udp4((A, GATEWAY), (alice4(), carol4()), 1, 32);
    let sent: usize = (0..200)
        .map(|_| stage.from_port(ALICE, &frame).originated.len())
        .sum();
    assert_eq!(sent, 50);
    assert_eq!(stage.counters.icmp_suppressed.get(), 150);
    stage.now += 1_000_000_000;
    // A later fragment gets none.
    let mut fragment = frame.clone();
    fragment[20..22].copy_from_slice(&[0, 100]);
    mend4(&mut fragment);
    assert!(stage.from_port(ALICE, &fragment).originated.is_empty());
    // Nor does an ICMP error.
    let mut error = frame;
    error[23] = 1;
    error[34] = 3;
    mend4(&mut error);
    let o = stage.from_port(ALICE, &error);
    assert_eq!(o.verdict, Verdict::Drop(DropReason::TtlExceeded));
    assert!(o.originated.is_empty());
}

#[test]
fn a_partial_checksum_is_completed_before_the_tunnel() {
    let good = udp4((A, GATEWAY), (alice4(), carol4()), 64, 33);
    let mut partial = good.clone();
    // What the kernel leaves there: the pseudo-header's sum, not complemented.
    let mut sum: u32 = 17 + 41;
    sum += good[26..34]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum::<u32>();
    sum = (sum & 0xffff) + (sum >> 16);
    partial[40..42].copy_from_slice(&(sum as u16).to_be_bytes());
    let o = Stage::vxlan().run(&partial, |s, p| {
        p.offload.checksum = Checksum::Partial {
            start: 34,
            offset: 6,
        };
        s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
    });
    assert!(matches!(o.verdict, Verdict::Tunnel(_)));
    assert_eq!(o.frame[40..42], good[40..42]);
    // To bob it goes as it came: the checksum is his kernel's to complete.
    let mut local = partial;
    local[..6].copy_from_slice(&B);
    local[30..34].copy_from_slice(&bob4());
    mend4(&mut local);
    let o = Stage::vxlan().run(&local, |s, p| {
        p.offload.checksum = Checksum::Partial {
            start: 34,
            offset: 6,
        };
        s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
    });
    assert_eq!((o.verdict, &o.frame), (Verdict::Deliver(BOB), &local));
}

#[test]
fn congestion_marks_travel_inwards() {
    let mut inner = carol_to_alice(32);
    inner[15] = 2;
    mend4(&mut inner);
    let mut outer = in_vxlan(&inner);
    outer[15] = 3;
    mend4(&mut outer);
    let o = Stage::vxlan().from_frame(&outer);
    assert_eq!(o.verdict, Verdict::Deliver(ALICE));
    assert_eq!(o.frame[15] & 3, 3);
    whole_ipv4(&o.frame[14..]);
}

#[test]
fn a_trace_is_the_pipeline_itself() {
    let steps = Stage::vxlan()
        .record(ALICE, &udp4((A, GATEWAY), (alice4(), carol4()), 64, 32))
        .0;
    let kinds: Vec<_> = steps
        .iter()
        .map(|s| match s {
            Step::FromPort(PortId(1)) => "from alice",
            Step::Parsed(p) if p.ttl == 64 => "parsed",
            Step::Admitted => "admitted",
            Step::Sender(..) => "sender",
            Step::Route(_, Some((24, _))) => "route",
            Step::Rewritten(_, _, 63) => "rewritten",
            Step::Size(60, 1450) => "size",
            Step::Ttl(64) => "ttl",
            Step::Verdict(Verdict::Tunnel(t)) if t.path == PathId(0) => "tunnel",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "from alice",
            "parsed",
            "sender",
            "admitted",
            "route",
            "size",
            "ttl",
            "rewritten",
            "tunnel"
        ]
    );
}

#[test]
fn a_trace_of_what_a_peer_sent() {
    let kinds = |frame: &[u8]| {
        let steps = Stage::vxlan().record_frame(frame).0;
        let kinds = steps.iter().map(|s| match s {
            Step::FromPeer(PeerId(0)) => "from node2",
            Step::Parsed(p) if p.ttl == 63 => "parsed",
            Step::Admitted => "admitted",
            Step::Vtep(found, own) if found == own => "to our VTEP",
            Step::Back(_, Some((24, Target::Path(_)))) => "back",
            Step::Back(_, None) => "from nowhere",
            Step::Route(_, Some((32, Target::Port(ALICE)))) => "route",
            Step::Rewritten(_, _, 62) => "rewritten",
            Step::Ttl(63) => "ttl",
            Step::Verdict(Verdict::Deliver(ALICE)) => "to alice",
            Step::Verdict(Verdict::Drop(reason)) => reason.name(),
            other => panic!("{other:?}"),
        });
        kinds.collect::<Vec<_>>()
    };
    let good = in_vxlan(&carol_to_alice(32));
    let way = [
        "from node2",
        "parsed",
        "to our VTEP",
        "back",
        "admitted",
        "route",
        "ttl",
        "rewritten",
        "to alice",
    ];
    assert_eq!(kinds(&good), way);
    let foreign = udp4((VTEP2, VTEP1), ([10, 77, 3, 2], alice4()), 63, 32);
    let refused = [
        "from node2",
        "parsed",
        "to our VTEP",
        "from nowhere",
        "foreign_inner_source",
    ];
    assert_eq!(kinds(&in_vxlan(&foreign)), refused);
    let other_vni = in_outer([192, 168, 77, 2], 8472, 2, &carol_to_alice(32));
    assert_eq!(kinds(&other_vni), ["from node2", "unknown_vni"]);
    assert_eq!(kinds(&good[..40]), ["malformed_outer"]);
}

#[track_caller]
fn whole_ipv4(packet: &[u8]) {
    let header = etherparse::Ipv4HeaderSlice::from_slice(packet)
        .unwrap()
        .to_header();
    assert_eq!(
        header.calc_header_checksum(),
        header.header_checksum,
        "IPv4 header checksum"
    );
}

fn mend4(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let mut sum: u32 = frame[14..34]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn an_announcement_is_one_frame_in_the_outbox_and_no_verdict() {
    let mut stage = Stage::vxlan();
    let mac = ringway_packet::mac::MacAddr([2, 0, 0, 0, 0, 0x22]);
    let v4 = ringway_packet::addr::mapped(0x0a4d_0102);
    let v6 = u128::from_be_bytes(v6(1, 2));
    assert!(stage.pipeline.announce(BOB, v4, mac));
    assert!(stage.pipeline.announce(BOB, v6, mac));
    let frames: Vec<(Out, Vec<u8>)> = stage
        .pipeline
        .outbox()
        .frames()
        .map(|(out, frame)| (out, frame.to_vec()))
        .collect();
    assert!(frames.iter().all(|(out, _)| *out == Out::Port(BOB)));
    let (arp, nd) = (&frames[0].1, &frames[1].1);
    assert_eq!((&arp[..6], &arp[6..12]), (&[0xff; 6][..], &mac.0[..]));
    // Operation, sender, and as target the address itself.
    assert_eq!(arp[20..22], [0, 1]);
    assert_eq!(
        (&arp[22..28], &arp[28..32]),
        (&mac.0[..], &[10, 77, 1, 2][..])
    );
    assert_eq!(arp[38..42], [10, 77, 1, 2]);
    assert_eq!(
        (&nd[..6], &nd[6..12]),
        (&[0x33, 0x33, 0, 0, 0, 1][..], &mac.0[..])
    );
    // Advertisement, override and nothing else, target, and the MAC address as option.
    assert_eq!((nd[54], nd[58]), (136, 0x20));
    assert_eq!(nd[62..78], v6.to_be_bytes());
    assert_eq!((&nd[78..80], &nd[80..86]), (&[2, 1][..], &mac.0[..]));
    let parsed = ringway_packet::parse::parse(nd, nd.len());
    assert!(parsed.is_ok(), "{parsed:?}");
    while stage.pipeline.announce(BOB, v4, mac) {}
    assert!(stage.pipeline.outbox().frames().count() < 100);
}
