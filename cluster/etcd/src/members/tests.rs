use super::*;
use proptest::prelude::*;
use ringway_cluster::{Change, Cluster, EncapKind, State};
use ringway_packet::mac::MacAddr;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn node() -> Node {
    Node {
        name: "n1".into(),
        cidrs: vec![cidr("10.5.1.0/24")].into(),
        vtep_mac: MacAddr([0x0a, 0x58, 10, 5, 1, 0]),
        vtep_mac_v6: MacAddr([0x0a, 0x58, 10, 5, 1, 0]),
    }
}

fn rules(node: &Node) -> Rules<'_> {
    Rules {
        own: Some("10.5.1.0-24"),
        node: Some(node),
        vni: 1,
        backend: EncapKind::Vxlan,
        networks: vec![cidr("10.5.0.0/16"), cidr("fc00::/48")],
        reserved: vec!["10.77.0.1".parse().unwrap()],
    }
}

/// A record as flanneld on 10.77.0.`i` writes it.
fn vxlan(i: u8) -> String {
    format!(
        r#"{{"PublicIP":"10.77.0.{i}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"12:c6:65:89:b4:{i:02x}"}}}}"#
    )
}

/// Keys and values in the order of their creation, each under a lease of its own.
fn records(all: &[(&str, &str)]) -> Records {
    let record = |(at, (key, value)): (i64, &(&str, &str))| {
        let record = Record {
            value: (*value).to_owned(),
            created: at,
            modified: at,
            lease: at,
        };
        ((*key).to_owned(), record)
    };
    (10..).zip(all).map(record).collect()
}

fn state(members: &Members) -> State {
    let mut cluster = Cluster::default();
    let all = Change::Replace(members.clone().contents());
    cluster
        .update(&source(), all)
        .expect("it contradicts nothing");
    cluster.state().clone()
}

fn of(records: &Records) -> Members {
    Members::of(records, &rules(&node()))
}

fn via(members: &Members, ip: &str) -> Option<String> {
    let state = state(members);
    state.route(ip.parse().unwrap()).map(|r| r.via.to_string())
}

#[test]
fn nodes_are_peers_by_their_address_and_the_own_record_is_this_node() {
    let members = of(&records(&[
        ("10.5.1.0-24", &vxlan(1)),
        ("10.5.2.0-24", &vxlan(2)),
    ]));
    assert_eq!(members.problems, [""; 0]);
    assert_eq!(via(&members, "10.5.1.9").as_deref(), Some("this node"));
    assert_eq!(via(&members, "10.5.2.9").as_deref(), Some("peer 10.77.0.2"));
    let peer = &members.peers["10.77.0.2"];
    let mac = peer.v4.as_ref().unwrap().vtep_mac.to_string();
    assert_eq!((mac.as_str(), &peer.v6), ("12:c6:65:89:b4:02", &None));
}

#[test]
fn both_families_where_the_node_has_both() {
    let both = r#"{"PublicIP":"10.77.0.2","PublicIPv6":"fd00:77::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"},"BackendV6Data":{"VNI":1,"VtepMAC":"2e:41:0b:1c:9a:07"}}"#;
    let members = of(&records(&[
        ("10.5.2.0-24&fc00:0:0:2::-64", both),
        ("10.5.3.0-24&fc00:0:0:3::-64", &vxlan(3)),
    ]));
    assert_eq!(
        via(&members, "fc00:0:0:2::9").as_deref(),
        Some("peer 10.77.0.2")
    );
    assert_eq!(members.peers["10.77.0.2"].addresses.len(), 2);
    assert_eq!(via(&members, "fc00:0:0:3::9"), None);
    assert_eq!(via(&members, "10.5.3.9").as_deref(), Some("peer 10.77.0.3"));
}

#[test]
fn a_reservation_is_no_peer_unless_the_cluster_speaks_udp() {
    let reserved = ("10.5.2.0-24", r#"{"PublicIP":"10.77.0.2"}"#);
    let mut all = records(&[reserved, ("10.5.3.0-24", "")]);
    all.values_mut().for_each(|r| r.lease = 0);
    let node = node();
    let members = Members::of(&all, &rules(&node));
    assert_eq!((members.peers.len(), members.problems.len()), (0, 0));
    let udp = Rules {
        backend: EncapKind::Udp,
        ..rules(&node)
    };
    let members = Members::of(&all, &udp);
    let path = members.peers["10.77.0.2"].v4.as_ref().unwrap();
    assert_eq!(path.encap, EncapKind::Udp);
}

#[test]
fn who_was_there_first_keeps_what_two_claim() {
    let members = of(&records(&[
        ("10.5.2.0-24", &vxlan(2)),
        ("10.5.2.0-25", &vxlan(3)),
        ("10.5.2.0-24&fc00:0:0:4::-64", &vxlan(4)),
        ("10.5.0.0-22", &vxlan(5)),
    ]));
    assert_eq!(via(&members, "10.5.2.9").as_deref(), Some("peer 10.77.0.2"));
    assert_eq!(members.peers.len(), 1);
    let all = members.problems.join("\n");
    for wanted in [
        "subnets/10.5.2.0-25: 10.5.2.0/25 overlaps 10.5.2.0/24 of node 10.77.0.2",
        "subnets/10.5.2.0-24&fc00:0:0:4::-64: 10.5.2.0/24 overlaps",
        "subnets/10.5.0.0-22: 10.5.0.0/22 overlaps",
    ] {
        assert!(all.contains(wanted), "{all}");
    }
}

#[test]
fn two_records_of_one_address_are_one_node_reached_as_the_last_says() {
    let newer = vxlan(2).replace("12:c6", "16:c6");
    let both = [("10.5.2.0-24", vxlan(2)), ("10.5.3.0-24", newer)];
    let both = both.each_ref().map(|(key, value)| (*key, value.as_str()));
    let members = of(&records(&both));
    assert_eq!(members.peers.len(), 1);
    assert_eq!(via(&members, "10.5.3.9"), via(&members, "10.5.2.9"));
    let mac = members.peers["10.77.0.2"].v4.as_ref().unwrap().vtep_mac;
    assert_eq!(mac.to_string(), "16:c6:65:89:b4:02");
}

#[test]
fn what_cannot_be_followed_is_named_and_costs_nobody_else_anything() {
    let at = |ip: &str| vxlan(3).replace("10.77.0.3", ip);
    for (key, value, wanted) in [
        (
            "10.5.3.0-24",
            vxlan(3).replace("\"VNI\":1", "\"VNI\":2"),
            "its VNI is 2 and ours 1",
        ),
        (
            "10.5.3.0-24",
            vxlan(3).replace("vxlan", "host-gw"),
            "its backend is \"host-gw\"",
        ),
        ("10.5.3.0-24", "{".into(), "is not Flannel's JSON"),
        (
            "10.5.3.0-24",
            vxlan(1),
            "it names this node's address 10.77.0.1",
        ),
        (
            "10.5.3.0-24",
            at("10.5.2.7"),
            "its address 10.5.2.7 is in 10.5.2.0/24 of node 10.77.0.2",
        ),
        (
            "10.5.3.0-24",
            at("10.5.3.7"),
            "10.5.3.7, an address of a node, is in it",
        ),
        ("10.5.3.0-24", at("0.0.0.0"), "it names no address"),
        (
            "10.5.3.0-24",
            at("127.0.0.1"),
            "127.0.0.1 is no address of a node",
        ),
        ("0.0.0.0-0", vxlan(3), "0.0.0.0/0 is refused: it is outside"),
        (
            "10.6.0.0-24",
            vxlan(3),
            "outside of the net-conf's networks (10.5.0.0/16, fc00::/48)",
        ),
        ("../config\u{1b}[2J", vxlan(3), "names no subnets"),
    ] {
        let (two, four) = (vxlan(2), vxlan(4));
        let members = of(&records(&[
            ("10.5.2.0-24", &two),
            (key, &value),
            ("10.5.4.0-24", &four),
        ]));
        let all = members.problems.join("\n");
        assert!(
            all.contains(wanted) && !all.contains('\u{1b}'),
            "{wanted} is not in {all}"
        );
        let names: Vec<&str> = members.peers.keys().map(|name| &**name).collect();
        assert_eq!(names, ["10.77.0.2", "10.77.0.4"], "{key}");
        state(&members);
    }
}

#[test]
fn a_network_around_an_outer_address_is_refused() {
    let open = Rules {
        own: None,
        node: None,
        networks: vec![cidr("10.0.0.0/8")],
        ..rules(&Node::default())
    }
    .networks;
    let all = records(&[("10.99.2.0-24", &vxlan(2)), ("10.77.0.0-24", &vxlan(3))]);
    for (reserved, wanted) in [
        (
            vec!["10.77.0.1".parse().unwrap()],
            "10.77.0.1, this node's outer address, is in it",
        ),
        (vec![], "10.77.0.2, an address of a node, is in it"),
    ] {
        let rules = Rules {
            own: None,
            node: None,
            vni: 1,
            backend: EncapKind::Vxlan,
            networks: open.clone(),
            reserved,
        };
        let members = Members::of(&all, &rules);
        assert_eq!(members.peers.len(), 1);
        assert!(
            members.problems[0].contains(wanted),
            "{:?}",
            members.problems
        );
    }
}

#[test]
fn a_thousand_hostile_keys_do_not_fill_the_status() {
    let keys: Vec<String> = (0..1000).map(|i| format!("x{i}")).collect();
    let all: Vec<(&str, &str)> = keys.iter().map(|k| (k.as_str(), "{}")).collect();
    let problems = of(&records(&all)).problems;
    assert_eq!(problems.len(), MOST_PROBLEMS + 1);
    assert_eq!(problems[MOST_PROBLEMS], "and 900 more");
}

#[test]
fn five_thousand_records_take_milliseconds() {
    let one = |i: u32| {
        let [_, _, b, c] = (i + 256).to_be_bytes();
        let value = vxlan(2).replace("10.77.0.2", &format!("10.78.{b}.{c}"));
        let (third, fourth) = ((i >> 4) & 255, (i & 15) << 4);
        (format!("10.{}.{third}.{fourth}-28", 128 + (i >> 12)), value)
    };
    let keys: Vec<(String, String)> = (0..5000).map(one).collect();
    let all: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let all = records(&all);
    let node = node();
    let rules = Rules {
        networks: vec![cidr("10.128.0.0/9")],
        ..rules(&node)
    };
    let begin = std::time::Instant::now();
    let members = Members::of(&all, &rules);
    println!("5,000 records: {:?}", begin.elapsed());
    assert_eq!(members.peers.len(), 5000, "{:?}", members.problems);
}

/// What leads from one to the other, a part at a time, as often as it takes.
fn in_parts(from: &Members, to: &Members) -> State {
    let mut cluster = Cluster::default();
    let all = Change::Replace(from.clone().contents());
    cluster.update(&source(), all).unwrap();
    let (mut said, to) = (Said::from(from.clone()), Said::from(to.clone()));
    for _ in 0..20 {
        for (_, part) in one_by_one(said.changes(&to), &said) {
            if cluster.update(&source(), part.clone()).is_ok() {
                said.enter(&part);
            }
        }
    }
    cluster.state().clone()
}

#[test]
fn of_two_that_exchange_an_address_for_a_network_neither_waits_for_the_other() {
    let both = |ip: u8| {
        let v6 = ",\"BackendV6Data\":{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}}";
        let v4 = vxlan(ip).replace("null", "\"fd00::2\"");
        format!("{}{v6}", &v4[..v4.len() - 1])
    };
    let before = of(&records(&[("10.5.4.0-22&fc00:0:0:3::-64", &both(4))]));
    let after = of(&records(&[
        ("10.5.4.0-22&fc00:0:0:3::-64", &both(2)),
        ("10.5.8.0-23", &vxlan(4)),
    ]));
    assert_eq!(
        via(&after, "fc00:0:0:3::9").as_deref(),
        Some("peer 10.77.0.2")
    );
    assert_eq!(in_parts(&before, &after), state(&after));
}

/// Keys, addresses and kinds that collide often.
fn any_records() -> impl Strategy<Value = Records> {
    let key = (1u8..5, 22u8..27, prop::option::of(1u8..4));
    let one = (key, 1u8..6, 0u8..6, 1i64..9, 1i64..9);
    let record = |((third, len, v6), ip, kind, created, modified): (
        (u8, u8, Option<u8>),
        u8,
        u8,
        i64,
        i64,
    )| {
        let v4 = Cidr::containing([10, 5, third, 0].into(), len).unwrap();
        let v6 = v6.map(|i| cidr(&format!("fc00:0:0:{i}::/64")));
        let key = crate::layout::Subnets { v4, v6 }.to_string();
        let both = ",\"BackendV6Data\":{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}}";
        let value = match kind {
            0 => vxlan(ip).replace("\"VNI\":1", "\"VNI\":2"),
            1 => vxlan(ip).replace("10.77.0.", "10.5.2."),
            2 => vxlan(ip)
                .replace("null", "\"fd00::2\"")
                .replacen("}}", &format!("}}{both}"), 1),
            3 => format!(r#"{{"PublicIP":"10.77.0.{ip}","PublicIPv6":"fd00::{ip}"}}"#),
            _ => vxlan(ip),
        };
        let lease = i64::from(kind);
        let record = Record {
            value,
            created,
            modified,
            lease,
        };
        (key, record)
    };
    prop::collection::vec(one, 0..12).prop_map(move |all| all.into_iter().map(record).collect())
}

proptest! {
    #[test]
    fn whatever_the_records_are_they_come_to_something_that_holds(all in any_records()) {
        state(&of(&all));
    }

    #[test]
    fn the_difference_leads_there_at_once_and_in_parts(a in any_records(), b in any_records()) {
        let (from, to) = (of(&a), of(&b));
        let wanted = state(&to);
        let mut at_once = Cluster::default();
        at_once.update(&source(), Change::Replace(from.clone().contents())).unwrap();
        let changes = Said::from(from.clone()).changes(&to.clone().into());
        at_once.update(&source(), Change::Several(changes)).unwrap();
        prop_assert_eq!(at_once.state(), &wanted);
        prop_assert_eq!(in_parts(&from, &to), wanted);
    }
}
