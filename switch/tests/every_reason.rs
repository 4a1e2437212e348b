//! A test packet for every drop reason and every ignore reason, and the whole delta of each.

mod cast;

use std::collections::BTreeSet;

use cast::*;
use ringway_encap::Encap;
use ringway_encap::outer::pop_outer;
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_switch::trace::Off;
use ringway_switch::{DropReason, IgnoreReason, Message, Verdict};
use ringway_tables::{PortId, Target};

const A: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 2];
const B: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 3];

fn good() -> Vec<u8> {
    udp4((A, B), (alice4(), bob4()), 64, 32)
}

fn good6() -> Vec<u8> {
    udp6((A, B), (v6(1, 2), v6(1, 3)), 64, 32)
}

fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// As `patched`, the IPv4 header checksum mended.
fn patched4(frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut f = patched(frame, at, bytes);
    f[24..26].copy_from_slice(&[0, 0]);
    let mut sum: u32 = f[14..34]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    f[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    f
}

/// From alice's port, dropped for this reason: these counters move and no others.
#[track_caller]
fn alice_drops(frame: &[u8], reason: DropReason) -> DropReason {
    let o = Stage::vxlan().from_port(ALICE, frame);
    assert_eq!(o.verdict, Verdict::Drop(reason));
    o.moved(&[
        ("received", 1),
        ("alice rx", 1),
        ("dropped", 1),
        (&format!("drop {reason}"), 1),
        ("alice drops", 1),
    ]);
    assert!(o.originated.is_empty());
    reason
}

/// From the underlay, dropped before the peer is known.
#[track_caller]
fn stranger_drops(frame: &[u8], reason: DropReason) -> DropReason {
    let o = Stage::vxlan().from_frame(frame);
    assert_eq!(o.verdict, Verdict::Drop(reason));
    o.moved(&[
        ("received", 1),
        ("dropped", 1),
        (&format!("drop {reason}"), 1),
    ]);
    reason
}

/// From node2, dropped once its tunnel header is understood.
#[track_caller]
fn node2_drops(inner: &[u8], reason: DropReason) -> DropReason {
    let o = Stage::vxlan().from_frame(&in_vxlan(inner));
    assert_eq!(o.verdict, Verdict::Drop(reason));
    o.moved(&[
        ("received", 1),
        ("node2 rx", 1),
        ("dropped", 1),
        (&format!("drop {reason}"), 1),
        ("node2 drops", 1),
    ]);
    reason
}

#[test]
fn every_drop_reason_has_a_packet() {
    use DropReason as R;
    let to_gateway = |dst: [u8; 4]| udp4((A, GATEWAY), (alice4(), dst), 64, 32);
    // The others have their case in the worker's test of this name.
    let workers = R::ALL.iter().copied().filter(|r| r.is_workers());
    let mut seen: BTreeSet<DropReason> = workers.collect();
    let mut saw = |r: DropReason| assert!(seen.insert(r), "{r} twice");

    // Parse
    saw(alice_drops(&good()[..13], R::MalformedEthernet));
    saw(alice_drops(
        &arp(1, A, alice4(), [10, 77, 1, 1])[..30],
        R::MalformedArp,
    ));
    saw(alice_drops(&patched(good(), 14, &[0x44]), R::MalformedIpv4));
    saw(alice_drops(&patched(good(), 24, &[0, 0]), R::Ipv4Checksum));
    saw(alice_drops(
        &patched(good6(), 18, &[0xff, 0xff]),
        R::MalformedIpv6,
    ));
    // Hop-by-hop options whose length reaches past the packet.
    saw(alice_drops(
        &patched(patched(good6(), 20, &[0]), 54, &[17, 200]),
        R::Ipv6Extensions,
    ));
    let mut tcp = patched4(good(), 23, &[6]);
    tcp[34 + 12] = 0x10;
    saw(alice_drops(&tcp, R::MalformedTcp));
    saw(alice_drops(&patched(good(), 38, &[0, 7]), R::MalformedUdp));
    let sctp = patched4(udp4((A, B), (alice4(), bob4()), 64, 0), 23, &[132]);
    saw(alice_drops(&sctp, R::MalformedSctp));
    saw(alice_drops(
        &solicitation(A, v6(1, 2), [0xff; 16]),
        R::MalformedIcmp,
    ));

    // Admission at a pod's port
    let o = Stage::vxlan().from_port(PortId(77), &good());
    assert_eq!(o.verdict, Verdict::Drop(R::UnknownPort));
    o.moved(&[("received", 1), ("dropped", 1), ("drop unknown_port", 1)]);
    saw(R::UnknownPort);
    let mut tagged = good();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    saw(alice_drops(&tagged, R::VlanTagged));
    saw(alice_drops(&patched(good(), 6, &B), R::SpoofedMac));
    saw(alice_drops(
        &udp4((A, B), (bob4(), bob4()), 64, 32),
        R::SpoofedIpv4,
    ));
    saw(alice_drops(
        &udp6((A, B), (v6(1, 3), v6(1, 3)), 64, 32),
        R::SpoofedIpv6,
    ));

    // Admission at the underlay
    saw(stranger_drops(
        &in_vxlan(&carol_to_alice(32))[..40],
        R::MalformedOuter,
    ));
    let wrong_sum = patched(in_vxlan(&carol_to_alice(32)), 40, &[1, 2]);
    let o = Stage::vxlan().from_frame(&wrong_sum);
    assert_eq!(o.verdict, Verdict::Drop(R::OuterChecksum));
    o.moved(&[
        ("received", 1),
        ("dropped", 1),
        ("drop outer_checksum", 1),
        ("node2 drops", 1),
    ]);
    saw(R::OuterChecksum);
    saw(stranger_drops(
        &in_outer([192, 168, 77, 2], 4789, VNI, &carol_to_alice(32)),
        R::NotOurPort,
    ));
    saw(stranger_drops(
        &in_outer([192, 168, 77, 9], 8472, VNI, &carol_to_alice(32)),
        R::UnknownPeer,
    ));
    for (reason, frame) in [
        (R::MalformedVxlan, in_udp([192, 168, 77, 2], 8472, &[0; 40])),
        (
            R::UnknownVni,
            in_outer([192, 168, 77, 2], 8472, 2, &carol_to_alice(32)),
        ),
        (
            R::MalformedUdpEncap,
            in_udp([192, 168, 77, 2], 8285, &[0x99; 40]),
        ),
    ] {
        let o = Stage::vxlan().from_frame(&frame);
        assert_eq!(o.verdict, Verdict::Drop(reason));
        let name = format!("drop {reason}");
        o.moved(&[
            ("received", 1),
            ("dropped", 1),
            (&name, 1),
            ("node2 drops", 1),
        ]);
        saw(reason);
    }
    let bare = in_udp([192, 168, 77, 2], 8285, &carol_to_alice(32)[14..]);
    let o = Stage::vxlan().from_frame(&bare);
    assert_eq!(o.verdict, Verdict::Drop(R::EncapMismatch));
    // The two ends of a path change at different moments: what the node receives by is taken.
    let mut both = Stage::vxlan();
    both.snapshot.accepted = [ringway_encap::Encap::Udp].into();
    assert_eq!(both.from_frame(&bare).verdict, Verdict::Deliver(ALICE));
    saw(R::EncapMismatch);
    saw(node2_drops(
        &udp4((VTEP2, B), (carol4(), alice4()), 63, 32),
        R::VtepMac,
    ));
    saw(node2_drops(
        &udp4((VTEP2, VTEP1), ([10, 77, 3, 2], alice4()), 63, 32),
        R::ForeignInnerSource,
    ));
    let ce = patched4(in_vxlan(&carol_to_alice(32)), 15, &[3]);
    let o = Stage::vxlan().from_frame(&ce);
    assert_eq!(o.verdict, Verdict::Drop(R::EcnNotCapable));
    saw(R::EcnNotCapable);
    saw(node2_drops(
        &arp(1, VTEP2, carol4(), alice4()),
        R::NotForwardedInner,
    ));

    // Lookup
    saw(alice_drops(
        &patched(good(), 12, &[0x88, 0xcc]),
        R::UnknownEthertype,
    ));
    saw(alice_drops(&patched(good(), 5, &[99]), R::UnknownMac));
    saw(alice_drops(
        &arp(1, A, alice4(), [10, 77, 1, 99]),
        R::NoNeighbour,
    ));
    let o = Stage::vxlan().from_port(ALICE, &to_gateway([10, 77, 1, 99]));
    assert_eq!(o.verdict, Verdict::Drop(R::NoSuchPod));
    saw(R::NoSuchPod);
    let o = Stage::vxlan().from_port(
        NODE,
        &udp4((GATEWAY, GATEWAY), ([10, 77, 1, 1], [10, 99, 0, 1]), 64, 8),
    );
    assert_eq!(o.verdict, Verdict::Drop(R::NoRoute));
    o.moved(&[
        ("received", 1),
        ("node rx", 1),
        ("dropped", 1),
        ("drop no_route", 1),
        ("node drops", 1),
    ]);
    saw(R::NoRoute);
    saw(node2_drops(
        &udp4((VTEP2, VTEP1), (carol4(), carol4()), 63, 8),
        R::NotOurs,
    ));
    saw(alice_drops(&to_gateway(alice4()), R::Hairpin));
    saw(alice_drops(
        &to_gateway([127, 0, 0, 1]),
        R::MartianDestination,
    ));
    let multicast = udp4(
        (A, [1, 0, 0x5e, 1, 2, 3]),
        (alice4(), [239, 1, 2, 3]),
        64,
        8,
    );
    saw(alice_drops(&multicast, R::Multicast));

    // Decide
    let o = Stage::vxlan().from_port(ALICE, &udp4((A, GATEWAY), (alice4(), carol4()), 1, 32));
    assert_eq!(o.verdict, Verdict::Drop(R::TtlExceeded));
    o.moved(&[
        ("received", 1),
        ("alice rx", 1),
        ("dropped", 1),
        ("drop ttl_exceeded", 1),
        ("alice drops", 1),
    ]);
    assert_eq!(o.originated.len(), 1, "an ICMP error for alice");
    saw(R::TtlExceeded);
    let o = Stage::vxlan().from_port(ALICE, &udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 64, 1400));
    assert_eq!(o.verdict, Verdict::Drop(R::TooBig));
    assert_eq!(o.originated.len(), 1, "a packet-too-big for alice");
    saw(R::TooBig);
    let mut stage = Stage::vxlan();
    stage
        .snapshot
        .routes4
        .insert(0x0a4d_0200, 24, Target::Path(ringway_tables::PathId(99)));
    assert_eq!(
        stage.from_port(ALICE, &to_gateway(carol4())).verdict,
        Verdict::Drop(R::NoPath)
    );
    saw(R::NoPath);
    let mut stage = Stage::vxlan();
    let bad = Offload {
        checksum: Checksum::Partial {
            start: 60,
            offset: 60,
        },
        gso: Gso::None,
        ..Offload::default()
    };
    let o = stage.run(&to_gateway(carol4()), |s, p| {
        p.offload = bad;
        s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
    });
    assert_eq!(o.verdict, Verdict::Drop(R::BadOffload));
    saw(R::BadOffload);
    let mut stage = Stage::vxlan();
    while stage
        .pipeline
        .outbox()
        .put(ringway_switch::Out::Port(ALICE), |_| Some(60))
    {}
    let o = stage.from_port(ALICE, &arp(1, A, alice4(), [10, 77, 1, 1]));
    assert_eq!(o.verdict, Verdict::Drop(R::AnswerQueueFull));
    saw(R::AnswerQueueFull);

    // A kind of probe that is not known, and one after too many.
    saw(node2_drops(&probe(3, 7, 64, 64), R::MalformedProbe));
    let mut stage = Stage::vxlan();
    let flood = in_vxlan(&probe(1, 7, 64, 64));
    let verdicts = (0..100).map(|_| stage.from_frame(&flood).verdict);
    let limited = verdicts.filter(|v| *v == Verdict::Drop(R::ProbeLimited));
    assert_eq!(limited.count(), 90);
    saw(R::ProbeLimited);

    // It stood too long and its flow does not know ECN; no room for the Ethernet header that a bare packet needs.
    for (start, reason) in [(14, R::Aqm), (0, R::NoBuffer)] {
        let mut stage = Stage::new(Encap::Udp);
        let mut buffers = vec![carol_to_alice(32).split_off(14 - start)];
        let len = (buffers[0].len() - start) as u32;
        let message = Message {
            buf: 0,
            start: start as u32,
            len,
            segment: len,
            source: ringway_packet::addr::from_ip("192.168.77.2".parse().unwrap()),
            tos: 0,
            encap: Encap::Udp,
            congested: reason == R::Aqm,
        };
        let Stage {
            pipeline,
            arrivals,
            snapshot,
            options,
            ..
        } = &mut stage;
        pipeline.from_datagrams(snapshot, arrivals, &mut buffers, *options, [message]);
        let arrival = pipeline.next(snapshot, arrivals, &mut buffers, 0, &mut Off);
        assert_eq!(arrival.unwrap().verdict, Verdict::Drop(reason));
        assert_eq!(stage.counters.drops[reason.index()].get(), 1);
        assert_eq!(stage.counters.balance(), (0, 0));
        saw(reason);
    }

    let missing: Vec<_> = R::ALL.iter().filter(|r| !seen.contains(r)).collect();
    assert!(missing.is_empty(), "no test packet for {missing:?}");
}

/// A kernel that finished it would write over what was admitted.
#[test]
fn a_checksum_to_be_finished_is_that_of_the_transport_header() {
    for (start, offset) in [(14, 12), (14, 10), (34, 0), (26, 0), (0, 6)] {
        let mut stage = Stage::vxlan();
        let o = stage.run(&good(), |s, p| {
            p.offload.checksum = Checksum::Partial { start, offset };
            s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
        });
        assert_eq!(o.verdict, Verdict::Drop(DropReason::BadOffload), "{start}");
        o.moved(&[
            ("received", 1),
            ("alice rx", 1),
            ("dropped", 1),
            ("drop bad_offload", 1),
            ("alice drops", 1),
        ]);
    }
}

#[test]
fn what_a_peer_sends_is_parsed_as_what_a_pod_sends() {
    let good = carol_to_alice(32);
    node2_drops(&good[..13], DropReason::MalformedEthernet);
    node2_drops(
        &patched(good.clone(), 14, &[0x44]),
        DropReason::MalformedIpv4,
    );
    node2_drops(
        &patched(good.clone(), 24, &[0, 0]),
        DropReason::Ipv4Checksum,
    );
    node2_drops(&patched(good, 38, &[0, 7]), DropReason::MalformedUdp);
    let good = udp6((VTEP2, VTEP1), (v6(2, 2), v6(1, 2)), 63, 32);
    node2_drops(&patched(good, 18, &[0xff, 0xff]), DropReason::MalformedIpv6);
}

#[test]
fn every_ignore_reason_has_a_packet() {
    use IgnoreReason as I;
    let all_nodes = [0x33, 0x33, 0, 0, 0, 2];
    let link_local: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let group = |last: u8| {
        let mut a = [0; 16];
        (a[0], a[1], a[15]) = (0xff, 2, last);
        a
    };
    let igmp = {
        // IGMPv3 report with the router alert option, as Linux sends it.
        let mut f = vec![1, 0, 0x5e, 0, 0, 0x16];
        f.extend_from_slice(&A);
        f.extend_from_slice(&[8, 0]);
        f.extend_from_slice(&[0x46, 0xc0, 0, 40, 0, 0, 0x40, 0, 1, 2, 0, 0]);
        f.extend_from_slice(&alice4());
        f.extend_from_slice(&[224, 0, 0, 22, 0x94, 4, 0, 0]);
        let mut sum: u32 = f[14..38]
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        sum = (sum & 0xffff) + (sum >> 16);
        f[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        f.extend_from_slice(&[0x22, 0, 0xf9, 2, 0, 0, 0, 1, 4, 0, 0, 0, 224, 0, 0, 251]);
        f
    };
    let cases = [
        (I::DuplicateAddressProbe, solicitation(A, [0; 16], v6(1, 2))),
        (I::ArpReply, arp(2, A, alice4(), bob4())),
        (
            I::NeighbourAdvertisement,
            icmp6((A, all_nodes), (v6(1, 2), group(1)), 255, 136, &[0; 20]),
        ),
        (
            I::RouterSolicitation,
            icmp6((A, all_nodes), (link_local, group(2)), 255, 133, &[0; 4]),
        ),
        (
            I::MulticastListener,
            icmp6(
                (A, [0x33, 0x33, 0, 0, 0, 22]),
                (link_local, group(22)),
                1,
                143,
                &[0; 4],
            ),
        ),
        (I::Igmp, igmp),
        (
            I::Mdns,
            udp4_ports(
                (A, [1, 0, 0x5e, 0, 0, 251]),
                (alice4(), [224, 0, 0, 251]),
                255,
                (5353, 5353),
                20,
            ),
        ),
        (
            I::Dhcp,
            udp4_ports((A, [0xff; 6]), ([0; 4], [255; 4]), 64, (68, 67), 240),
        ),
    ];
    let mut seen = BTreeSet::new();
    for (reason, frame) in cases {
        let o = Stage::vxlan().from_port(ALICE, &frame);
        assert_eq!(o.verdict, Verdict::Ignore(reason));
        o.moved(&[
            ("received", 1),
            ("alice rx", 1),
            ("ignored", 1),
            (&format!("ignore {reason}"), 1),
        ]);
        seen.insert(reason);
    }
    let o = Stage::vxlan().from_frame(&in_vxlan(&probe(2, 7, 64, 64)));
    assert_eq!(o.verdict, Verdict::Ignore(I::ProbeAnswer));
    seen.insert(I::ProbeAnswer);
    assert_eq!(seen.len(), I::COUNT, "every reason has a packet");
    // Link-local probes, gratuitous ARP and mDNS over IPv6 are as harmless.
    for frame in [
        solicitation(A, [0; 16], link_local),
        arp(1, A, [0; 4], alice4()),
        arp(1, A, alice4(), alice4()),
        udp6_ports(
            (A, [0x33, 0x33, 0, 0, 0, 0xfb]),
            (link_local, group(0xfb)),
            255,
            (5353, 5353),
            20,
        ),
        udp6_ports(
            (A, [0x33, 0x33, 0, 1, 0, 2]),
            (link_local, group(2)),
            1,
            (546, 547),
            20,
        ),
    ] {
        let verdict = Stage::vxlan().from_port(ALICE, &frame).verdict;
        assert!(matches!(verdict, Verdict::Ignore(_)), "{verdict:?}");
    }
}

/// Routed or switched, what would leave by its own port does not.
#[test]
fn a_frame_to_its_senders_own_mac_is_a_hairpin() {
    alice_drops(
        &udp4((A, A), (alice4(), alice4()), 64, 32),
        DropReason::Hairpin,
    );
    alice_drops(
        &udp6((A, A), (v6(1, 2), v6(1, 2)), 64, 32),
        DropReason::Hairpin,
    );
}

/// Whether a socket or a ring brings it.
#[test]
fn a_datagram_and_the_frame_it_came_in_have_one_fate() {
    let node2 = [192, 168, 77, 2];
    let mut marked = patched4(in_vxlan(&carol_to_alice(32)), 15, &[3]);
    marked.push(0);
    for (what, frame) in [
        ("good", in_vxlan(&carol_to_alice(32))),
        (
            "good, IPv6",
            in_vxlan(&udp6((VTEP2, VTEP1), (v6(2, 2), v6(1, 2)), 63, 32)),
        ),
        (
            "stranger",
            in_outer([192, 168, 77, 9], 8472, VNI, &carol_to_alice(32)),
        ),
        ("no VXLAN", in_udp(node2, 8472, &[0; 40])),
        ("other VNI", in_outer(node2, 8472, 2, &carol_to_alice(32))),
        ("no packet", in_udp(node2, 8285, &[0x99; 40])),
        ("empty", in_udp(node2, 8285, &[])),
        ("mismatch", in_udp(node2, 8285, &carol_to_alice(32)[14..])),
        ("malformed", in_vxlan(&carol_to_alice(32)[..30])),
        (
            "MAC",
            in_vxlan(&udp4((VTEP2, B), (carol4(), alice4()), 63, 32)),
        ),
        (
            "foreign",
            in_vxlan(&udp4((VTEP2, VTEP1), ([10, 77, 3, 2], alice4()), 63, 32)),
        ),
        ("ARP", in_vxlan(&arp(1, VTEP2, carol4(), alice4()))),
        (
            "not ours",
            in_vxlan(&udp4((VTEP2, VTEP1), (carol4(), carol4()), 63, 8)),
        ),
        (
            "TTL",
            in_vxlan(&udp4((VTEP2, VTEP1), (carol4(), alice4()), 1, 8)),
        ),
        ("marked", marked),
    ] {
        let by_ring = Stage::vxlan().from_frame(&frame);
        let outer = pop_outer(&frame, frame.len()).unwrap();
        let payload = &frame[outer.payload_off..][..outer.payload_len];
        let encap = match outer.dst_port {
            8472 => Encap::Vxlan { vni: VNI },
            _ => Encap::Udp,
        };
        let source = ringway_packet::addr::to_ip(outer.src).to_string();
        let by_socket = Stage::vxlan().from_datagram(&source, encap, outer.tos, payload);
        assert_eq!(by_ring.verdict, by_socket.verdict, "{what}");
        assert_eq!(by_ring.delta, by_socket.delta, "{what}");
        assert_eq!(by_ring.originated, by_socket.originated, "{what}");
        if let Verdict::Deliver(_) = by_ring.verdict {
            assert_eq!(by_ring.frame, by_socket.frame, "{what}");
        }
    }
}

/// Nothing but an outer header that is whole gets anywhere, at any length.
#[test]
fn truncated_outer_frames_are_dropped_and_counted() {
    let whole = in_vxlan(&carol_to_alice(32));
    for len in 0..whole.len() {
        let o = Stage::new(Encap::Vxlan { vni: VNI }).from_frame(&whole[..len]);
        assert!(
            matches!(o.verdict, Verdict::Drop(_)),
            "{len} bytes: {:?}",
            o.verdict
        );
        assert_eq!(o.delta["dropped"], 1);
    }
}
