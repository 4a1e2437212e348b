//! Priority tags (VLAN 0): the frame is an untagged one, as to a Linux bridge.

mod cast;

use cast::*;
use ringway_packet::kit;
use ringway_packet::offload::{Checksum, Offload};
use ringway_packet::parse::parse;
use ringway_switch::trace::Off;
use ringway_switch::{DropReason, Verdict};

const A: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 2];
const B: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 3];
/// Priority 5; the same by 802.1ad; one in the other.
const TAGS: [&[u8]; 3] = [
    &[0x81, 0, 0xa0, 0],
    &[0x88, 0xa8, 0xa0, 0],
    &[0x88, 0xa8, 0, 0, 0x81, 0, 0x60, 0],
];

fn tagged(frame: &[u8], tag: &[u8]) -> Vec<u8> {
    [&frame[..12], tag, &frame[12..]].concat()
}

/// To `mac`, as alice sends it.
fn from_alice(mac: [u8; 6], to4: [u8; 4], to6: [u8; 16]) -> [Vec<u8>; 2] {
    [
        udp4((A, mac), (alice4(), to4), 64, 32),
        udp6((A, mac), (v6(1, 2), to6), 64, 32),
    ]
}

#[test]
fn switched_it_keeps_its_tags() {
    for frame in from_alice(B, bob4(), v6(1, 3)) {
        for tag in TAGS {
            let frame = tagged(&frame, tag);
            let o = Stage::vxlan().from_port(ALICE, &frame);
            assert_eq!(o.verdict, Verdict::Deliver(BOB));
            o.moved(&[
                ("received", 1),
                ("alice rx", 1),
                ("delivered", 1),
                ("bob tx", 1),
            ]);
            assert_eq!(o.frame, frame);
        }
    }
}

#[test]
fn routed_it_goes_on_without_them() {
    let ways = [
        (bob4(), v6(1, 3), "bob tx"),
        ([10, 77, 1, 1], v6(1, 1), "node tx"),
        ([169, 254, 20, 10], v6(9, 9), "node tx"),
        (carol4(), v6(2, 2), "node2 tx"),
    ];
    for (to4, to6, side) in ways {
        for frame in from_alice(GATEWAY, to4, to6) {
            let plain = Stage::vxlan().from_port(ALICE, &frame);
            for tag in TAGS {
                let o = Stage::vxlan().from_port(ALICE, &tagged(&frame, tag));
                assert_eq!(o.verdict, plain.verdict);
                assert_eq!(o.frame, plain.frame, "as if it had none");
                assert_eq!(o.delta, plain.delta);
                assert_eq!(o.delta.get(side), Some(&1));
            }
        }
    }
}

#[test]
fn neighbours_are_told_without_a_tag() {
    for (question, at) in [
        (arp(1, A, alice4(), [10, 77, 1, 1]), 0),
        (solicitation(A, v6(1, 2), v6(1, 1)), 0),
    ] {
        let plain = Stage::vxlan().from_port(ALICE, &question);
        for tag in TAGS {
            let o = Stage::vxlan().from_port(ALICE, &tagged(&question, tag));
            assert_eq!(o.verdict, Verdict::Answered);
            o.moved(&[("received", 1), ("alice rx", 1), ("answered", 1)]);
            assert_eq!(o.originated[at], plain.originated[at]);
        }
    }
}

#[test]
fn from_the_node_and_from_a_peer_alike() {
    let gateway = [10, 77, 1, 1];
    for tag in TAGS {
        let frame = udp4((GATEWAY, pod_mac(2)), (gateway, alice4()), 64, 8);
        let o = Stage::vxlan().from_port(NODE, &tagged(&frame, tag));
        assert_eq!(o.verdict, Verdict::Deliver(ALICE));
        let plain = Stage::vxlan().from_frame(&in_vxlan(&carol_to_alice(32)));
        let o = Stage::vxlan().from_frame(&in_vxlan(&tagged(&carol_to_alice(32), tag)));
        assert_eq!((o.verdict, &o.frame), (plain.verdict, &plain.frame));
        o.moved(&[
            ("received", 1),
            ("node2 rx", 1),
            ("delivered", 1),
            ("alice tx", 1),
        ]);
    }
}

#[test]
fn any_other_vlan_is_refused() {
    for tag in [
        &[0x81, 0, 0xa0, 1][..],
        &[0x88, 0xa8, 0x0f, 0xff],
        &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 7],
        &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 0],
    ] {
        for mac in [B, GATEWAY] {
            for frame in from_alice(mac, bob4(), v6(1, 3)) {
                let frame = tagged(&frame, tag);
                let o = Stage::vxlan().from_port(ALICE, &frame);
                assert_eq!(o.verdict, Verdict::Drop(DropReason::VlanTagged));
                o.moved(&[
                    ("received", 1),
                    ("alice rx", 1),
                    ("dropped", 1),
                    ("drop vlan_tagged", 1),
                    ("alice drops", 1),
                ]);
                assert_eq!(o.frame, frame);
            }
        }
        let o = Stage::vxlan().from_frame(&in_vxlan(&tagged(&carol_to_alice(32), tag)));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::VlanTagged));
    }
}

/// What is still to be done moves along with the header it is for.
#[test]
fn an_unfinished_checksum_is_finished_in_its_place() {
    let build = kit::udp("10.77.1.2:1000", "10.77.2.2:53").payload_len(99);
    let build = build.macs(
        ringway_packet::mac::MacAddr(A),
        ringway_packet::mac::MacAddr(GATEWAY),
    );
    let run = |frame: &[u8], offload: Offload| {
        Stage::vxlan().run(frame, |s, p| {
            p.offload = offload;
            s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
        })
    };
    let (frame, offload) = build.offloaded(None);
    let plain = run(&frame, offload);
    let (frame, offload) = build.vlan(0).offloaded(None);
    assert!(matches!(
        offload.checksum,
        Checksum::Partial { start: 38, .. }
    ));
    let o = run(&frame, offload);
    assert_eq!((o.verdict, &o.frame), (plain.verdict, &plain.frame));
    assert_eq!(
        parse(&o.frame, o.frame.len()).map(|p| p.vlan_tags),
        Ok(0),
        "it fits the tunnel"
    );
    // Before the packet: of a raw socket.
    let nowhere = Checksum::Partial {
        start: 2,
        offset: 2,
    };
    let o = run(
        &frame,
        Offload {
            checksum: nowhere,
            ..Offload::default()
        },
    );
    assert_eq!(o.verdict, Verdict::Drop(DropReason::BadOffload));
}
