//! Destinations that are no pod's: what can never be right is refused, all else is the node's to decide.

mod cast;

use cast::*;
use ringway_switch::{DropReason, IgnoreReason, Out, Verdict};
use ringway_tables::{PeerId, RouteChange};

const A: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 2];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const GATEWAY_LINK_LOCAL: [u8; 16] = [
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x52, 0x57, 0xff, 0xfe, 0, 0, 1,
];

fn stage() -> Stage {
    let mut stage = Stage::vxlan();
    let mut node = stage.snapshot.node.clone();
    node.gateway_link_local = Some(u128::from_be_bytes(GATEWAY_LINK_LOCAL));
    stage.snapshot.set_node(node).unwrap();
    stage
}

fn v6_of(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

const TO_THE_NODE: [(&str, u64); 4] = [
    ("received", 1),
    ("alice rx", 1),
    ("delivered", 1),
    ("node tx", 1),
];

fn refused(reason: &str) -> Vec<(String, u64)> {
    let names = ["received", "alice rx", "dropped", "alice drops"].map(String::from);
    let reason = format!("drop {reason}");
    names.into_iter().chain([reason]).map(|n| (n, 1)).collect()
}

#[track_caller]
fn moved(outcome: &Outcome, expected: &[(String, u64)]) {
    let expected: Vec<(&str, u64)> = expected.iter().map(|(n, k)| (&**n, *k)).collect();
    outcome.moved(&expected);
}

#[test]
fn the_node_decides_about_what_may_be_its_own_or_behind_it() {
    for to in [
        [169, 254, 20, 10],
        [169, 254, 169, 254],
        [240, 0, 0, 1],
        [255, 255, 255, 254],
        [192, 0, 2, 1],
    ] {
        let frame = udp4((A, GATEWAY), (alice4(), to), 64, 32);
        let o = stage().from_port(ALICE, &frame);
        assert_eq!(o.verdict, Verdict::Deliver(NODE), "{to:?}");
        o.moved(&TO_THE_NODE);
        assert_eq!(o.frame, frame, "untouched: the node routes it");
    }
    for to in ["fe80::52:57ff:fe00:1", "fe80::20:10", "2001:db8::1"] {
        let own = [v6(1, 2), LINK_LOCAL];
        for from in own
            .into_iter()
            .take(if to.starts_with("fe") { 2 } else { 1 })
        {
            let frame = udp6((A, GATEWAY), (from, v6_of(to)), 64, 32);
            let o = stage().from_port(ALICE, &frame);
            assert_eq!(o.verdict, Verdict::Deliver(NODE), "{to}");
            o.moved(&TO_THE_NODE);
            assert_eq!(o.frame, frame);
        }
    }
}

#[test]
fn what_can_never_be_right_is_refused() {
    let martians4 = [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 255, 255, 255],
        [255, 255, 255, 255],
    ];
    let martian = refused("martian_destination");
    for to in martians4 {
        let o = stage().from_port(ALICE, &udp4((A, GATEWAY), (alice4(), to), 64, 32));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::MartianDestination));
        moved(&o, &martian);
    }
    for to in ["::", "::1", "ff02::1", "ff0e::9"] {
        let frame = udp6((A, GATEWAY), (v6(1, 2), v6_of(to)), 64, 32);
        let o = stage().from_port(ALICE, &frame);
        assert_eq!(
            o.verdict,
            Verdict::Drop(DropReason::MartianDestination),
            "{to}"
        );
        moved(&o, &martian);
    }
}

#[test]
fn from_a_peer_nothing_goes_beyond_the_pods() {
    for to in [[169, 254, 20, 10], [240, 0, 0, 1], [127, 0, 0, 1]] {
        let frame = udp4((VTEP2, VTEP1), (carol4(), to), 63, 8);
        let o = stage().from_frame(&in_vxlan(&frame));
        assert!(matches!(o.verdict, Verdict::Drop(_)), "{to:?}");
    }
    let frame = udp6(
        (VTEP2, VTEP1),
        (v6(2, 2), v6_of("fe80::52:57ff:fe00:2")),
        63,
        8,
    );
    let o = stage().from_frame(&in_vxlan(&frame));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::NotOurs));
}

/// Answers of the node come under such a source.
#[test]
fn the_node_answers_under_a_link_local_address() {
    let frame = udp4(
        (GATEWAY, pod_mac(2)),
        ([169, 254, 20, 10], alice4()),
        64,
        32,
    );
    let o = stage().from_port(NODE, &frame);
    assert_eq!(o.verdict, Verdict::Deliver(ALICE));
    o.moved(&[
        ("received", 1),
        ("node rx", 1),
        ("delivered", 1),
        ("alice tx", 1),
    ]);
    let frame = udp6(
        (GATEWAY, pod_mac(2)),
        (GATEWAY_LINK_LOCAL, LINK_LOCAL),
        64,
        32,
    );
    let o = stage().from_port(NODE, &frame);
    assert_eq!(o.verdict, Verdict::Deliver(ALICE));
}

#[test]
fn the_gateway_answers_arp_for_what_is_in_no_pod_network() {
    for target in [[169, 254, 20, 10], [169, 254, 169, 254], [192, 168, 77, 1]] {
        let o = stage().from_port(ALICE, &arp(1, A, alice4(), target));
        assert_eq!(o.verdict, Verdict::Answered, "{target:?}");
        o.moved(&[("received", 1), ("alice rx", 1), ("answered", 1)]);
        let (out, reply) = &o.originated[0];
        assert_eq!(*out, Out::Port(ALICE));
        assert_eq!(
            (&reply[22..28], &reply[28..32]),
            (&GATEWAY[..], &target[..])
        );
    }
    let none = refused("no_neighbour");
    let unanswered = [
        ([0; 4], [169, 254, 20, 10], "a probe"),
        (alice4(), [10, 77, 1, 99], "no pod here has it"),
        (alice4(), [10, 77, 2, 2], "a pod of another node"),
        (alice4(), [127, 0, 0, 1], "nobody's"),
        (alice4(), [255, 255, 255, 255], "nobody's"),
    ];
    for (sender, target, why) in unanswered {
        let o = stage().from_port(ALICE, &arp(1, A, sender, target));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::NoNeighbour), "{why}");
        moved(&o, &none);
        assert!(o.originated.is_empty());
    }
    // Its own, and that of the node's stack for what lies behind the gateway.
    let o = stage().from_port(ALICE, &arp(1, A, alice4(), alice4()));
    assert_eq!(
        o.verdict,
        Verdict::Ignore(IgnoreReason::DuplicateAddressProbe)
    );
    let o = stage().from_port(NODE, &arp(1, GATEWAY, [10, 77, 1, 1], [169, 254, 20, 10]));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::NoNeighbour));
}

#[test]
fn the_gateway_answers_solicitations_for_what_is_in_no_pod_network() {
    for (target, from) in [
        ("fd00:ec2::254", v6(1, 2)),
        ("2001:db8::1", LINK_LOCAL),
        ("fe80::52:57ff:fe00:1", v6(1, 2)),
    ] {
        let o = stage().from_port(ALICE, &solicitation(A, from, v6_of(target)));
        assert_eq!(o.verdict, Verdict::Answered, "{target}");
        o.moved(&[("received", 1), ("alice rx", 1), ("answered", 1)]);
        let (out, reply) = &o.originated[0];
        assert_eq!(*out, Out::Port(ALICE));
        assert_eq!(&reply[reply.len() - 6..], GATEWAY);
    }
    let none = refused("no_neighbour");
    for (target, why) in [
        ("fd77:1::99", "no pod here has it"),
        ("fd77:2::2", "a pod of another node"),
        ("::1", "nobody's"),
    ] {
        let o = stage().from_port(ALICE, &solicitation(A, v6(1, 2), v6_of(target)));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::NoNeighbour), "{why}");
        moved(&o, &none);
    }
    for (from, target) in [
        ([0; 16], v6_of("fd00:ec2::254")),
        (v6(1, 2), v6_of("fe80::9")),
    ] {
        let o = stage().from_port(ALICE, &solicitation(A, from, target));
        let probe = IgnoreReason::DuplicateAddressProbe;
        assert_eq!(o.verdict, Verdict::Ignore(probe));
    }
}

/// An address of our own network that another node has borrowed: a pod takes it for its neighbour.
#[test]
fn the_gateway_answers_for_what_another_node_has_borrowed() {
    let mut stage = stage();
    let borrowed = ["10.77.1.50/32", "fd77:1::32/128"].map(|prefix| RouteChange {
        prefix: prefix.parse().unwrap(),
        peer: Some(PeerId(0)),
    });
    stage.snapshot.change_routes(&borrowed).unwrap();
    let asked = arp(1, A, alice4(), [10, 77, 1, 50]);
    let o = stage.from_port(ALICE, &asked);
    assert_eq!(o.verdict, Verdict::Answered);
    assert_eq!(&o.originated[0].1[22..28], &GATEWAY[..]);
    let o = stage.from_port(ALICE, &solicitation(A, v6(1, 2), v6_of("fd77:1::32")));
    assert_eq!(o.verdict, Verdict::Answered);
    let reply = &o.originated[0].1;
    assert_eq!(&reply[reply.len() - 6..], GATEWAY);
    // The one beside it is nobody's.
    let o = stage.from_port(ALICE, &arp(1, A, alice4(), [10, 77, 1, 51]));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::NoNeighbour));
}
