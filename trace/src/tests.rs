//! Traces on the node of `testing.rs`.

use ringway_config::Decider;
use ringway_packet::kit;

use super::answer::{Answer, Trace};
use super::testing::*;
use super::*;

fn asked(from: From, packet: Packet) -> Result<Answer, TraceError> {
    run(&basis_of(1, Decider::File), &Request { from, packet })
}

fn web() -> From {
    From::Pod("default/web".into())
}

fn one(from: From, described: Described) -> Trace {
    let mut answer = asked(from, Packet::Described(described)).unwrap();
    assert_eq!((answer.traces.len(), answer.more), (1, 0), "{answer:?}");
    answer.traces.pop().unwrap()
}

fn reason(trace: &Trace) -> &str {
    trace.verdict.reason.as_deref().unwrap_or("")
}

fn says<'a>(trace: &'a Trace, step: &str) -> &'a str {
    let all = trace.steps.iter().chain(&trace.after);
    let mut found = all.filter(|line| line.step == step);
    found.next().map_or("", |line| &line.says)
}

#[test]
fn a_packet_to_a_pod_here_is_sent_as_its_sender_would() {
    for (db, gateway, group) in [
        ("10.77.1.3", "10.77.1.1", "10.77.1.3"),
        ("fd77:1::3", "fd77:1::1", "fd77:1::3"),
    ] {
        // On the same link: to the pod's own MAC, which a question has told.
        let trace = one(web(), described(db));
        assert_eq!(trace.verdict.verdict, "delivered");
        assert_eq!(trace.verdict.to.as_deref(), Some("pod default/db"));
        assert_eq!(says(&trace, "MAC"), "0a:58:0a:4d:01:03 is pod default/db");
        let [next] = &trace.next[..] else {
            panic!("{:?}", trace.next);
        };
        assert!(
            next.command
                .starts_with("ringway capture --pod default/db host ")
        );
        // To the gateway itself, and to the node.
        let trace = one(web(), described(gateway));
        assert_eq!(trace.verdict.to.as_deref(), Some("the node"));
        // From the node, too.
        let trace = one(From::Node, described(db));
        assert_eq!(trace.verdict.to.as_deref(), Some("pod default/db"));
        // An address that nobody has is asked for in vain.
        let nobody = group.replace('3', "99");
        let trace = one(web(), described(&nobody));
        assert_eq!(reason(&trace), "no_neighbour");
        assert!(trace.input.contains("asks who has"), "{}", trace.input);
        assert!(says(&trace, "neighbour").contains("nobody has it here"));
    }
}

#[test]
fn what_goes_to_a_peer_arrives_there_by_the_command_that_is_named() {
    for (here, there) in [(1, 2), (1, 3)] {
        for (dst, size) in [
            (format!("10.77.{there}.3"), None),
            (format!("fd77:{there}::3"), Some(1400)),
        ] {
            let mut described = described(&dst);
            described.size = size;
            let trace = one(web(), described);
            assert_eq!(trace.verdict.verdict, "tunnelled");
            let to = format!("peer node{there}");
            assert_eq!(trace.verdict.to.as_ref(), Some(&to));
            let encap = if there == 3 { "udp" } else { "vxlan, VNI 1" };
            let outer = says(&trace, "outer");
            assert!(outer.contains(encap), "{outer}");
            assert!(says(&trace, "route").ends_with(&to));
            assert!(says(&trace, "packets").starts_with("1 of "));
            // The second half.
            let command = &trace.next[0].command;
            assert_eq!(trace.next[0].what, format!("on node{there}"));
            let words: Vec<&str> = command.split(' ').collect();
            let ["ringway", "trace", "--from-peer", "node1", "--frame", hex] = words[..] else {
                panic!("{command}");
            };
            let bytes =
                (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
            let request = Request {
                from: From::Peer(format!("node{here}")),
                packet: Packet::Frame {
                    bytes: bytes.collect(),
                    outer: false,
                    segment: None,
                },
            };
            let answer = run(&basis_of(there, Decider::File), &request).unwrap();
            let [arrived] = &answer.traces[..] else {
                panic!("{answer:?}");
            };
            assert_eq!(arrived.verdict.to.as_deref(), Some("pod default/db"));
            assert!(says(arrived, "headers").contains("TTL 63"));
        }
    }
}

#[test]
fn in_kubernetes_the_other_half_is_asked_through_its_pod() {
    let request = Request {
        from: web(),
        packet: Packet::Described(described("10.77.2.3")),
    };
    let answer = run(&basis_of(1, Decider::Kubernetes), &request).unwrap();
    let command = &answer.traces[0].next[0].command;
    assert!(
        command.starts_with(
            "kubectl -n ringway exec $(kubectl -n ringway get pod -l app.kubernetes.io/name=ringway \
             --field-selector spec.nodeName=node2 -o name) -c agent -- ringway trace --from-peer node1 --frame "
        ),
        "{command}"
    );
}

#[test]
fn what_to_do_on_the_other_node_is_done_from_here() {
    let next = |command: &str| answer::Next {
        what: "whether pod default/db gets such, and answers".into(),
        command: command.into(),
    };
    let capture = next("ringway capture --pod default/db");
    let there = from_here(Decider::Kubernetes, "node2", &capture);
    assert!(there.what.starts_with("on node2, whether pod"), "{there:?}");
    assert!(
        there.command.starts_with("kubectl ")
            && there.command.contains("spec.nodeName=node2 ")
            && there
                .command
                .ends_with(" -- ringway capture --pod default/db"),
        "{there:?}"
    );
    let there = from_here(Decider::File, "node2", &capture);
    assert_eq!(there.command, capture.command);
    // A program of the node, which the agent's image has not.
    let route = next("ip route get 10.77.2.3");
    let there = from_here(Decider::Kubernetes, "node2", &route);
    assert_eq!(there.command, route.command);
}

#[test]
fn each_way_to_be_dropped_says_what_was_expected() {
    let mac = Some(MacAddr([2, 0, 0, 0, 0xbe, 0xef]));
    let spoofed = one(
        web(),
        Described {
            mac,
            ..described("10.77.2.3")
        },
    );
    assert_eq!(reason(&spoofed), "spoofed_mac");
    assert_eq!(
        says(&spoofed, "sender"),
        "says 02:00:00:00:be:ef, 10.77.1.2; the pod is 0a:58:0a:4d:01:02, 10.77.1.2, fd77:1::2"
    );
    for (target, source, expected) in [
        ("10.77.2.3", "10.77.1.3", "spoofed_ipv4"),
        ("fd77:2::3", "fd77:1::3", "spoofed_ipv6"),
    ] {
        let source = Some(source.parse().unwrap());
        let spoofed = one(
            web(),
            Described {
                source,
                ..described(target)
            },
        );
        assert_eq!(reason(&spoofed), expected);
        let verdict = &spoofed.verdict;
        assert!(verdict.cause.is_some() && verdict.remedy.is_some());
        let commands: Vec<&str> = spoofed.next.iter().map(|next| &*next.command).collect();
        let capture = "ringway capture --pod default/web --only-dropped";
        assert_eq!(commands, ["ringway drops", capture]);
    }
    // Somewhere that is no pod network: by the node's stack; from the node itself, nowhere.
    let outside = one(web(), described("192.0.2.7"));
    assert_eq!(outside.verdict.to.as_deref(), Some("the node"));
    assert!(
        outside.next[0]
            .command
            .starts_with("ip route get 192.0.2.7 from 10.77.1.2")
    );
    assert_eq!(reason(&one(From::Node, described("192.0.2.7"))), "no_route");
    let late = one(
        web(),
        Described {
            ttl: Some(1),
            ..described("fd77:2::3")
        },
    );
    assert_eq!(reason(&late), "ttl_exceeded");
    assert!(says(&late, "TTL").contains("runs out"));
    assert!(
        late.after[0].says.starts_with("ICMP fd77:1::1 > fd77:1::2"),
        "{:?}",
        late.after
    );
    let large = Described {
        size: Some(1500),
        ..described("10.77.2.3")
    };
    let refused = one(web(), large.clone());
    assert_eq!(reason(&refused), "too_big");
    assert_eq!(
        says(&refused, "size"),
        "1500 bytes are above the path's MTU of 1450"
    );
    let cut = one(
        web(),
        Described {
            fragmentable: true,
            ..large
        },
    );
    assert_eq!(
        says(&cut, "packets"),
        "2 of 98 to 1466 bytes behind their UDP headers"
    );
}

#[test]
fn what_a_peer_sends_is_checked_against_its_networks() {
    let node2 = || From::Peer("node2".into());
    let good = one(node2(), described("10.77.1.2"));
    assert_eq!(good.verdict.to.as_deref(), Some("pod default/web"));
    assert_eq!(
        says(&good, "sender"),
        "10.77.2.2 is in 10.77.2.0/24: peer node2"
    );
    let source = Some("10.77.3.2".parse().unwrap());
    let foreign = one(
        node2(),
        Described {
            source,
            ..described("10.77.1.2")
        },
    );
    assert_eq!(reason(&foreign), "foreign_inner_source");
    assert_eq!(
        says(&foreign, "sender"),
        "10.77.3.2 is in 10.77.3.0/24: peer node3"
    );
    // A datagram with another VNI.
    let frame = kit::tcp("10.77.2.2:1", "10.77.1.2:2").frame();
    let bytes = [&[8, 0, 0, 0, 0, 0, 77, 0][..], &frame].concat();
    let packet = |outer| Packet::Frame {
        bytes: bytes.clone(),
        outer,
        segment: None,
    };
    let answer = asked(node2(), packet(true)).unwrap();
    assert_eq!(reason(&answer.traces[0]), "unknown_vni");
    // Outer headers that are none.
    let answer = asked(From::Underlay, packet(false)).unwrap();
    assert_eq!(reason(&answer.traces[0]), "malformed_outer");
}

#[test]
fn a_superframe_is_cut_for_its_path() {
    let (bytes, _) = kit::tcp("10.77.1.2:1", "10.77.2.2:2")
        .payload_len(3000)
        .offloaded(Some(1000));
    let frame = |segment| Packet::Frame {
        bytes: bytes.clone(),
        outer: false,
        segment,
    };
    let answer = asked(web(), frame(Some(1000))).unwrap();
    let trace = &answer.traces[0];
    assert_eq!(
        says(trace, "packets"),
        "3 of 1062 bytes behind their UDP headers"
    );
    assert!(
        trace
            .input
            .contains("superframe of 3 packets with 1000 bytes each")
    );
    assert!(matches!(
        asked(web(), frame(Some(0))),
        Err(TraceError::NoSuperframe { .. })
    ));
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let refused = |from, described| {
        let error = asked(from, Packet::Described(described)).unwrap_err();
        assert!(!error.remedy().is_empty());
        error.to_string()
    };
    let text = refused(From::Pod("default/x".into()), described("10.77.1.3"));
    assert_eq!(
        text,
        "there is no pod named default/x on this node; of 2 there are default/web, default/db"
    );
    let text = refused(From::Peer("x".into()), described("10.77.1.3"));
    assert!(text.contains("of 2 there are node2, node3"), "{text}");
    let source = Some("fd77:1::9".parse().unwrap());
    refused(
        web(),
        Described {
            source,
            ..described("10.77.1.3")
        },
    );
    let small = Described {
        size: Some(39),
        ..described("10.77.1.3")
    };
    assert!(refused(web(), small).contains("at least 40 bytes"));
    refused(From::Underlay, described("10.77.1.3"));
}

#[test]
fn any_bytes_are_answered() {
    let mut state = 7u64;
    for len in 0..400 {
        let bytes = (0..len).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        });
        let bytes: Vec<u8> = bytes.collect();
        for from in [
            web(),
            From::Node,
            From::Peer("node3".into()),
            From::Underlay,
        ] {
            for (outer, segment) in [(false, None), (true, None), (false, Some(9))] {
                let packet = Packet::Frame {
                    bytes: bytes.clone(),
                    outer,
                    segment,
                };
                let _ = asked(from.clone(), packet);
            }
        }
    }
}
