use super::*;
use proptest::prelude::*;
use ringway_packet::{kit, parse};
use std::collections::HashMap;

const A: PortId = PortId(1);

fn parsed(frame: &[u8]) -> Parsed {
    parse::parse(frame, frame.len()).unwrap()
}

fn from_node(table: &Returns, frame: &[u8], now: u64) {
    table.from_node(A, Role::Client, frame, &parsed(frame), now);
}

fn takes(table: &Returns, frame: &[u8], now: u64) -> bool {
    table.takes(A, Role::Client, frame, &parsed(frame), now)
}

/// Client, backend.
const ENDS: [(&str, &str); 2] = [
    ("10.77.1.2:4000", "10.77.2.2:80"),
    ("[fd77:1::2]:4000", "[fd77:2::2]:80"),
];

fn ip(end: &str) -> &str {
    let end = end.rsplit_once(':').unwrap().0;
    end.trim_matches(['[', ']'])
}

#[test]
fn answers_are_taken_and_nothing_else_is() {
    for (a, b) in ENDS {
        for make in [
            |s: &str, d: &str| kit::tcp(s, d).frame(),
            |s: &str, d: &str| kit::udp(s, d).payload(b"x").frame(),
            |s: &str, d: &str| kit::sctp(s, d).frame(),
        ] {
            let table = Returns::default();
            assert!(!takes(&table, &make(b, a), 0), "an empty table");
            from_node(&table, &make(a, b), 0);
            assert!(takes(&table, &make(b, a), 1));
            assert!(!takes(&table, &make(a, b), 1), "the request's direction");
            let other = b.replace(":80", ":81");
            assert!(!takes(&table, &make(&other, a), 1), "another port");
            assert!(
                !table.takes(
                    PortId(2),
                    Role::Client,
                    &make(b, a),
                    &parsed(&make(b, a)),
                    1
                ),
                "another pod"
            );
        }
    }
}

#[test]
fn an_echo_is_told_by_its_identifier() {
    for (a, b) in ENDS.map(|(a, b)| (ip(a), ip(b))) {
        let reply = |id: u16| {
            let kind = if a.contains(':') { 129 } else { 0 };
            let [hi, lo] = id.to_be_bytes();
            kit::icmp(b, a, kind, 0, [hi, lo, 0, 1]).frame()
        };
        let request = kit::ping(a, b).frame();
        let id = echo(&request, &parsed(&request)).unwrap();
        let table = Returns::default();
        from_node(&table, &request, 0);
        assert!(takes(&table, &reply(id), 1));
        assert!(!takes(&table, &reply(id.wrapping_add(1)), 1));
    }
}

#[test]
fn errors_follow_the_flow_they_quote() {
    for (a, b) in ENDS {
        let table = Returns::default();
        let request = kit::tcp(a, b).payload_len(100);
        from_node(&table, &request.frame(), 0);
        let v6 = a.starts_with('[');
        let error = |quote: &[u8], kind: u8| {
            let router = if v6 { "fd77:9::1" } else { "10.77.9.1" };
            kit::icmp(router, ip(a), kind, 0, [0, 0, 5, 0])
                .payload(quote)
                .frame()
        };
        let packet = request.packet();
        let kind = if v6 { 2 } else { 3 };
        // RFC 792 quotes eight bytes behind the header.
        let short = if v6 { 48 } else { 28 };
        assert!(takes(&table, &error(&packet, kind), 1));
        assert!(takes(&table, &error(&packet[..short], kind), 1));
        for cut in 0..short - 4 {
            assert!(
                !takes(&table, &error(&packet[..cut], kind), 1),
                "{cut} bytes"
            );
        }
        let other = kit::tcp(a, b.replace(":80", ":81").as_str()).packet();
        assert!(!takes(&table, &error(&other, kind), 1));
        // An echo request is no error, whatever it carries.
        let ping = if v6 { 128 } else { 8 };
        assert!(!takes(&table, &error(&packet, ping), 1));
    }
}

#[test]
fn every_fragment_of_an_answer_is_taken() {
    for (a, b) in ENDS {
        let table = Returns::default();
        from_node(&table, &kit::udp(a, b).payload(b"x").frame(), 0);
        let answer = kit::udp(b, a).payload_len(3000);
        for fragment in answer.fragments(1400) {
            assert!(takes(&table, &fragment, 1));
        }
        // The request in fragments, the answer whole.
        let table = Returns::default();
        for fragment in kit::udp(a, b).payload_len(3000).fragments(1400) {
            from_node(&table, &fragment, 0);
        }
        assert!(takes(&table, &kit::udp(b, a).payload(b"x").frame(), 1));
        // Of TCP, which is not fragmented, no fragment is expected.
        let table = Returns::default();
        from_node(&table, &kit::tcp(a, b).frame(), 0);
        for fragment in answer.fragments(1400) {
            assert!(!takes(&table, &fragment, 1));
        }
    }
}

#[test]
fn silent_flows_are_forgotten_and_come_back() {
    let (a, b) = ENDS[0];
    let tcp = |s, d| kit::tcp(s, d).frame();
    let udp = |s, d| kit::udp(s, d).frame();
    let table = Returns::default();
    from_node(&table, &tcp(a, b), 0);
    from_node(&table, &udp(a, b), 0);
    let later = OTHER_LIFE - SECOND;
    assert!(takes(&table, &udp(b, a), later), "answers keep it alive");
    assert!(takes(&table, &udp(b, a), later + OTHER_LIFE - SECOND));
    let end = later + 3 * OTHER_LIFE;
    assert!(!takes(&table, &udp(b, a), end));
    assert!(takes(&table, &tcp(b, a), end));
    assert!(!takes(&table, &tcp(b, a), end + TCP_LIFE + 2 * SECOND));
    from_node(&table, &udp(a, b), end + TCP_LIFE);
    assert!(takes(&table, &udp(b, a), end + TCP_LIFE));
    // A clock that goes backwards does no harm.
    assert!(takes(&table, &udp(b, a), 0));
}

#[test]
fn in_a_full_bucket_the_silent_one_makes_room() {
    let table = Returns::new(1, [1, 2]);
    let flow = |n: u32| {
        let (a, b) = (format!("10.77.1.2:{}", 1000 + n), "10.77.2.2:80".to_owned());
        (
            kit::tcp(a.as_str(), b.as_str()).frame(),
            kit::tcp(b.as_str(), a.as_str()).frame(),
        )
    };
    for n in 0..4 {
        from_node(&table, &flow(n).0, u64::from(n) * 10 * SECOND);
    }
    assert!(takes(&table, &flow(0).1, 50 * SECOND), "refreshed");
    from_node(&table, &flow(4).0, 60 * SECOND);
    let there = |n: u32| takes(&table, &flow(n).1, 61 * SECOND);
    assert_eq!([0, 1, 2, 3, 4].map(there), [true, false, true, true, true]);
}

#[test]
fn many_short_exchanges_do_not_push_a_silent_connection_out() {
    let table = Returns::new(1, [3, 4]);
    let (a, b) = ENDS[0];
    from_node(&table, &kit::tcp(a, b).frame(), 0);
    for n in 0..1000u64 {
        let client = format!("10.77.1.2:{}", 5000 + n);
        let now = 3600 * SECOND + n * SECOND / 10;
        from_node(&table, &kit::udp(client.as_str(), b).frame(), now);
    }
    assert!(takes(&table, &kit::tcp(b, a).frame(), 3800 * SECOND));
}

#[test]
fn every_bit_of_a_tuple_counts() {
    let table = Returns::new(16, [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]);
    let key = FlowKey {
        src: 0xfd77_0000_0000_0002_0000_0000_0000_0002,
        dst: 0xfd77_0000_0000_0001_0000_0000_0000_0002,
        src_port: 80,
        dst_port: 4000,
        proto: 6,
    };
    let (tag, _) = table.place(key);
    let counts = |what: &str, bits: u32, flip: &dyn Fn(&mut FlowKey, u32)| {
        for bit in 0..bits {
            let mut other = key;
            flip(&mut other, bit);
            assert_ne!(table.place(other).0, tag, "{what}, bit {bit}");
        }
    };
    counts("source", 128, &|key, bit| key.src ^= 1 << bit);
    counts("destination", 128, &|key, bit| key.dst ^= 1 << bit);
    counts("source port", 16, &|key, bit| key.src_port ^= 1 << bit);
    counts("destination port", 16, &|key, bit| key.dst_port ^= 1 << bit);
    let turned = key.reversed();
    assert_ne!(table.place(turned).0, tag);
}

proptest! {
    /// As long as nothing has to make room, the table is a map.
    #[test]
    fn it_agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0u16..24, 0u64..400), 1..200)) {
        let table = Returns::new(256, [7, 9]);
        let mut model: HashMap<u16, u64> = HashMap::new();
        let mut now = 0;
        for (enter, flow, pause) in steps {
            now += pause * SECOND / 4;
            let a = format!("10.77.1.2:{}", 1000 + flow);
            let (request, answer) = (kit::sctp(a.as_str(), "10.77.2.2:80").frame(), kit::sctp("10.77.2.2:80", a.as_str()).frame());
            if enter {
                from_node(&table, &request, now);
                model.insert(flow, now);
            } else {
                let expected = model.get(&flow).is_some_and(|seen| now - seen <= OTHER_LIFE);
                let surely = model.get(&flow).is_some_and(|seen| now - seen <= OTHER_LIFE - FRESH);
                let found = takes(&table, &answer, now);
                // What was seen within the last second is not written again.
                prop_assert!(found == expected || (expected && !surely));
                if found {
                    model.insert(flow, now);
                } else {
                    model.remove(&flow);
                }
            }
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let table = Returns::default();
        from_node(&table, &kit::tcp(ENDS[0].0, ENDS[0].1).frame(), 0);
        let quote = kit::icmp("10.77.9.1", "10.77.1.2", 3, 4, [0; 4]).payload(&bytes).frame();
        takes(&table, &quote, 1);
        let quote = kit::icmp("fd77:9::1", "fd77:1::2", 2, 0, [0; 4]).payload(&bytes).frame();
        takes(&table, &quote, 1);
        if let Ok(parsed) = parse::parse(&bytes, bytes.len()) {
            table.from_node(A, Role::Client, &bytes, &parsed, 0);
            table.takes(A, Role::Client, &bytes, &parsed, 0);
        }
    }
}

#[test]
fn a_copy_knows_the_same_and_changes_nothing() {
    let (a, b) = ENDS[0];
    let table = Returns::default();
    from_node(&table, &kit::tcp(a, b).frame(), 0);
    let copy = table.copy();
    assert!(takes(&copy, &kit::tcp(b, a).frame(), 1));
    // What ends it there, or begins there, does not here.
    let direct = kit::tcp(a, b).frame();
    copy.direct(A, Role::Client, &direct, &parsed(&direct));
    from_node(&copy, &kit::udp(a, b).frame(), 1);
    assert!(!takes(&copy, &kit::tcp(b, a).frame(), 1));
    assert!(takes(&table, &kit::tcp(b, a).frame(), 1));
    assert!(!takes(&table, &kit::udp(b, a).frame(), 1));
    assert!(!Returns::default().copy().in_use());
}
