//! Symmetric return: answers to what the node has translated go back to the node.

mod cast;

use std::sync::Arc;

use cast::*;
use ringway_packet::kit;
use ringway_packet::mac::MacAddr;
use ringway_switch::trace::{Recorder, Step};
use ringway_switch::{DropReason, Returns, Verdict};

const A: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 2]);
const B: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 3]);
const GW: MacAddr = MacAddr(GATEWAY);

/// Alice's, Bob's and Carol's ends.
const ENDS: [[&str; 3]; 2] = [
    ["10.77.1.2:4000", "10.77.1.3:80", "10.77.2.2:80"],
    ["[fd77:1::2]:4000", "[fd77:1::3]:80", "[fd77:2::2]:80"],
];

#[test]
fn a_neighbours_answer_goes_back_to_the_node() {
    for [alice, bob, _] in ENDS {
        let mut stage = Stage::vxlan();
        let answer = kit::tcp(bob, alice).macs(B, A).frame();
        let direct = [
            ("received", 1),
            ("delivered", 1),
            ("bob rx", 1),
            ("alice tx", 1),
        ];
        stage.from_port(BOB, &answer).moved(&direct);

        // Out of the node's stack, translated: from Alice, to Bob.
        let request = kit::tcp(alice, bob).macs(GW, B).frame();
        let o = stage.from_port(NODE, &request);
        assert_eq!(o.verdict, Verdict::Deliver(BOB));
        assert_eq!(o.frame, request);
        o.moved(&[
            ("received", 1),
            ("delivered", 1),
            ("node rx", 1),
            ("bob tx", 1),
        ]);

        let o = stage.from_port(BOB, &answer);
        assert_eq!(o.verdict, Verdict::Deliver(NODE));
        assert_eq!((&o.frame[..6], &o.frame[6..12]), (&GATEWAY[..], &B.0[..]));
        assert_eq!(
            o.frame[12..],
            answer[12..],
            "nothing but the MAC addresses is changed"
        );
        let back = [
            ("received", 1),
            ("delivered", 1),
            ("returned", 1),
            ("bob rx", 1),
            ("node tx", 1),
        ];
        o.moved(&back);
        // By the gateway as well.
        let routed = kit::tcp(bob, alice).macs(B, GW).frame();
        let o = stage.from_port(BOB, &routed);
        assert_eq!((&o.frame[..6], &o.frame[6..12]), (&GATEWAY[..], &B.0[..]));
        o.moved(&back);

        // Translated back, it comes from the node and goes to Alice.
        let service = if alice.starts_with('[') {
            "[fd96::1]:80"
        } else {
            "10.96.0.1:80"
        };
        let last = kit::tcp(service, alice).macs(GW, A).frame();
        let o = stage.from_port(NODE, &last);
        assert_eq!(o.verdict, Verdict::Deliver(ALICE));
        // Bob's own connections to Alice are his and hers.
        let own = kit::tcp(bob.replace(":80", ":81").as_str(), alice)
            .macs(B, A)
            .frame();
        stage.from_port(BOB, &own).moved(&direct);
    }
}

#[test]
fn an_answer_from_another_node_goes_back_to_the_node() {
    for [alice, _, carol] in ENDS {
        let mut stage = Stage::vxlan();
        let request = kit::udp(alice, carol)
            .macs(MacAddr([2; 6]), GW)
            .payload(b"?")
            .frame();
        let o = stage.from_port(NODE, &request);
        assert!(matches!(o.verdict, Verdict::Tunnel(_)));
        let inner = kit::udp(carol, alice)
            .macs(MacAddr(VTEP2), MacAddr(VTEP1))
            .payload(b"!")
            .frame();
        let o = stage.from_frame(&in_vxlan(&inner));
        assert_eq!(o.verdict, Verdict::Deliver(NODE));
        assert_eq!((&o.frame[..6], &o.frame[6..12]), (&GATEWAY[..], &VTEP1[..]));
        o.moved(&[
            ("received", 1),
            ("delivered", 1),
            ("returned", 1),
            ("node2 rx", 1),
            ("node tx", 1),
        ]);
        stage.now += 200_000_000_000;
        let o = stage.from_frame(&in_vxlan(&inner));
        assert_eq!(
            o.verdict,
            Verdict::Deliver(ALICE),
            "forgotten after three minutes"
        );
    }
}

/// Carol asks for a port of this node that leads to Bob.
#[test]
fn an_answer_to_a_pod_of_another_node_goes_back_to_the_node() {
    for [_, bob, carol] in ENDS {
        for make in [
            |s: &str, d: &str| kit::tcp(s, d),
            |s: &str, d: &str| kit::udp(s, d).payload(b"x"),
        ] {
            let mut stage = Stage::vxlan();
            let answer = make(bob, carol).macs(B, GW).frame();
            let direct = [
                ("received", 1),
                ("tunnelled", 1),
                ("bob rx", 1),
                ("node2 tx", 1),
            ];
            stage.from_port(BOB, &answer).moved(&direct);

            let request = make(carol, bob).macs(GW, B).frame();
            let o = stage.from_port(NODE, &request);
            assert_eq!(o.verdict, Verdict::Deliver(BOB));
            let o = stage.from_port(BOB, &answer);
            assert_eq!(o.verdict, Verdict::Deliver(NODE));
            assert_eq!((&o.frame[..6], &o.frame[6..12]), (&GATEWAY[..], &B.0[..]));
            o.moved(&[
                ("received", 1),
                ("delivered", 1),
                ("returned", 1),
                ("bob rx", 1),
                ("node tx", 1),
            ]);
            // Another of Bob's is his own.
            let own = make(bob.replace(":80", ":81").as_str(), carol);
            stage
                .from_port(BOB, &own.macs(B, GW).frame())
                .moved(&direct);
            // Carol speaks to Bob herself from the same port.
            let inner = make(carol, bob)
                .macs(MacAddr(VTEP2), MacAddr(VTEP1))
                .frame();
            let o = stage.from_frame(&in_vxlan(&inner));
            assert_eq!(o.verdict, Verdict::Deliver(BOB));
            stage.from_port(BOB, &answer).moved(&direct);
        }
    }
}

/// What a node answers to a pod that came under its own address, outside the tunnel.
#[test]
fn a_peers_own_address_is_admitted_and_goes_to_the_nodes_stack() {
    let own = [
        ("192.168.77.2:80", "10.77.1.2:4000"),
        ("[fd00:77::2]:80", "[fd77:1::2]:4000"),
    ];
    for (node2, alice) in own {
        let inner = |to: &str| {
            let frame = kit::tcp(node2, to).macs(MacAddr(VTEP2), MacAddr(VTEP1));
            in_vxlan(&frame.frame())
        };
        let mut stage = Stage::vxlan();
        let o = stage.from_frame(&inner(alice));
        assert_eq!(o.verdict, Verdict::Deliver(NODE));
        assert_eq!((&o.frame[..6], &o.frame[6..12]), (&GATEWAY[..], &VTEP1[..]));
        o.moved(&[
            ("received", 1),
            ("delivered", 1),
            ("node2 rx", 1),
            ("node tx", 1),
        ]);
        for (node, host, reason) in [
            (1, 99, DropReason::NoSuchPod),
            (2, 9, DropReason::NotOurs),
            (9, 9, DropReason::NotOurs),
        ] {
            let to = if alice.starts_with('[') {
                format!("[fd77:{node}::{host}]:1")
            } else {
                format!("10.77.{node}.{host}:1")
            };
            let o = stage.from_frame(&inner(&to));
            assert_eq!(o.verdict, Verdict::Drop(reason), "{to}");
        }
    }
    // The address of the other family's mapped form, and of nobody, are still foreign.
    for (from, to) in [
        ("[::ffff:192.168.77.2]:80", "[fd77:1::2]:4000"),
        ("192.168.77.3:80", "10.77.1.2:4000"),
        ("192.168.77.1:80", "10.77.1.2:4000"),
        ("[fd00:77::3]:80", "[fd77:1::2]:4000"),
    ] {
        let frame = kit::tcp(from, to).macs(MacAddr(VTEP2), MacAddr(VTEP1));
        let o = Stage::vxlan().from_frame(&in_vxlan(&frame.frame()));
        assert_eq!(
            o.verdict,
            Verdict::Drop(DropReason::ForeignInnerSource),
            "{from}"
        );
    }
}

#[test]
fn what_the_node_says_itself_is_answered_to_it_as_ever() {
    let mut stage = Stage::vxlan();
    let request = kit::tcp("10.77.1.1:4000", "10.77.1.3:80")
        .macs(GW, B)
        .frame();
    stage.from_port(NODE, &request);
    let outside = kit::tcp("192.0.2.9:4000", "10.77.1.2:80")
        .macs(GW, A)
        .frame();
    stage.from_port(NODE, &outside);
    let answer = kit::tcp("10.77.1.3:80", "10.77.1.1:4000")
        .macs(B, GW)
        .frame();
    stage.from_port(BOB, &answer).moved(&[
        ("received", 1),
        ("delivered", 1),
        ("bob rx", 1),
        ("node tx", 1),
    ]);
    let other = kit::tcp("10.77.1.3:80", "10.77.1.2:4000")
        .macs(B, A)
        .frame();
    assert_eq!(
        stage.from_port(BOB, &other).verdict,
        Verdict::Deliver(ALICE)
    );
}

#[test]
fn a_port_that_alice_uses_again_for_herself_is_hers() {
    for [alice, bob, carol] in ENDS {
        for (other, answers) in [(bob, true), (carol, false)] {
            let mut stage = Stage::vxlan();
            stage.from_port(
                NODE,
                &kit::tcp(alice, other)
                    .macs(GW, if answers { B } else { GW })
                    .frame(),
            );
            let request = kit::tcp(alice, other)
                .macs(A, if answers { B } else { GW })
                .frame();
            stage.from_port(ALICE, &request);
            let verdict = if answers {
                stage
                    .from_port(BOB, &kit::tcp(bob, alice).macs(B, A).frame())
                    .verdict
            } else {
                let inner = kit::tcp(carol, alice)
                    .macs(MacAddr(VTEP2), MacAddr(VTEP1))
                    .frame();
                stage.from_frame(&in_vxlan(&inner)).verdict
            };
            assert_eq!(verdict, Verdict::Deliver(ALICE));
        }
    }
}

#[test]
fn another_workers_flow_is_known() {
    let [alice, bob, _] = ENDS[0];
    let returns = Arc::new(Returns::default());
    let (mut one, mut two) = (Stage::vxlan(), Stage::vxlan());
    for stage in [&mut one, &mut two] {
        let pipeline = ringway_switch::Pipeline::new(stage.counters.clone(), Default::default());
        stage.pipeline = pipeline.sharing(returns.clone());
    }
    one.from_port(NODE, &kit::tcp(alice, bob).macs(GW, B).frame());
    let answer = kit::tcp(bob, alice).macs(B, A).frame();
    assert_eq!(two.from_port(BOB, &answer).verdict, Verdict::Deliver(NODE));
    let mut recorder = Recorder::default();
    two.run(&answer, |s, p| {
        s.pipeline
            .from_port(&s.snapshot, BOB, p, s.now, &mut recorder)
    });
    let returned = |step: &Step| matches!(step, Step::Returned(ALICE));
    assert_eq!(recorder.0.iter().filter(|s| returned(s)).count(), 1);
}
