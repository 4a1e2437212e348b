use std::time::Instant;

use proptest::prelude::*;
use ringway_cluster::{Cluster, EncapKind, State};

use super::*;

const OWN: &str = "n1";

fn source() -> Source {
    Source::new("kubernetes")
}

fn rules() -> Rules {
    Rules {
        own: OWN.into(),
        vni: 1,
        networks: vec![cidr("10.244.0.0/16"), cidr("fd77::/48")],
        reserved: vec!["10.96.0.1".parse().unwrap(), "10.77.0.1".parse().unwrap()],
    }
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// A Flannel node: number `i` was made in second `i`.
fn flannel(i: u16) -> Node {
    let mut node = bare(i);
    let mac = format!("12:c6:65:89:{:02x}:{:02x}", i >> 8, i & 0xff);
    for (key, value) in [
        ("kube-subnet-manager", "true".to_owned()),
        ("backend-type", "vxlan".to_owned()),
        ("backend-data", format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)),
        ("public-ip", format!("10.77.{}.{}", i >> 8, i & 0xff)),
    ] {
        node.annotations
            .insert(format!("flannel.alpha.coreos.com/{key}"), value);
    }
    node
}

/// The same before Flannel is there.
fn bare(i: u16) -> Node {
    Node {
        name: format!("n{i}"),
        uid: format!("uid-{i:05}"),
        created: format!(
            "2026-11-28T{:02}:{:02}:{:02}Z",
            i / 3600,
            i / 60 % 60,
            i % 60
        ),
        pod_cidrs: vec![format!("10.244.{i}.0/24")],
        ..Node::default()
    }
}

fn annotate(mut node: Node, key: &str, value: &str) -> Node {
    node.annotations
        .insert(format!("flannel.alpha.coreos.com/{key}"), value.into());
    node
}

/// Members, and a cluster that follows them.
struct Two {
    members: Members,
    cluster: Cluster,
}

impl Two {
    fn new(rules: Rules) -> Self {
        Self {
            members: Members::new(source(), rules, |_| MacAddr([0x0a, 0x58, 0, 0, 0, 1])),
            cluster: Cluster::default(),
        }
    }

    fn of(nodes: Vec<Node>) -> Self {
        let mut two = Self::new(rules());
        two.members.replace(nodes);
        two.follow();
        two
    }

    /// Applies what is pending as one; how many changes that was.
    fn follow(&mut self) -> usize {
        let pending = self.members.pending();
        let all: Vec<Change> = pending
            .iter()
            .flat_map(|c| c.changes.iter().cloned())
            .collect();
        let count = all.len();
        self.cluster
            .update(&source(), Change::Several(all))
            .expect("it contradicts nothing");
        for change in pending {
            self.members.done(change);
        }
        assert_eq!(self.members.pending(), []);
        count
    }

    fn state(&self) -> &State {
        self.cluster.state()
    }

    fn via(&self, ip: &str) -> Option<String> {
        self.state()
            .route(ip.parse().unwrap())
            .map(|route| route.via.to_string())
    }

    fn problem(&self, wanted: &str) {
        let all: Vec<&str> = self
            .members
            .problems()
            .map(|(_, p)| p.text.as_str())
            .collect();
        assert!(
            all.iter().any(|p| p.contains(wanted)),
            "{wanted} is not in {all:#?}"
        );
    }

    /// The same as from nothing.
    fn check(&self) {
        let mut fresh = Cluster::default();
        let contents = self.members.contents();
        fresh
            .update(&source(), Change::Replace(contents))
            .expect("it contradicts nothing");
        assert_eq!(fresh.state(), self.state());
    }
}

#[test]
fn nodes_of_flannel_are_peers_and_this_one_is_itself() {
    let mut two = Two::of(vec![bare(1), flannel(2), bare(3)]);
    assert_eq!(two.state().node.cidrs[..], [cidr("10.244.1.0/24")]);
    assert_eq!(two.via("10.244.1.7").as_deref(), Some("this node"));
    assert_eq!(two.via("10.244.2.7").as_deref(), Some("peer n2"));
    // Nothing runs there yet.
    assert_eq!(two.via("10.244.3.7"), None);
    let peer = &two.state().peers["n2"];
    assert_eq!(peer.addresses[..], ["10.77.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        peer.v4.as_ref().unwrap().vtep_mac.to_string(),
        "12:c6:65:89:00:02"
    );
    assert_eq!(peer.v6, None);
    assert_eq!(two.members.problems().count(), 0);
    two.check();

    two.members.set(flannel(3));
    two.follow();
    assert_eq!(two.via("10.244.3.7").as_deref(), Some("peer n3"));
    two.members.remove("n2");
    two.follow();
    assert_eq!(two.via("10.244.2.7"), None);
    assert_eq!(two.state().peers.len(), 1);
    two.check();
}

#[test]
fn a_heartbeat_is_no_change() {
    let mut two = Two::of(vec![bare(1), flannel(2)]);
    assert!(!two.members.set(flannel(2)));
    assert_eq!(two.follow(), 0);
}

#[test]
fn this_node_waits_for_its_network_and_keeps_its_mac() {
    let mut own = bare(1);
    own.pod_cidrs.clear();
    let mut two = Two::of(vec![own]);
    assert!(two.state().node.cidrs.is_empty());
    two.problem("node n1: it has no pod network yet: spec.podCIDRs is empty");
    let taken_over = annotate(
        bare(1),
        "backend-data",
        r#"{"VNI":1,"VtepMAC":"2e:41:0b:1c:9a:07"}"#,
    );
    two.members.set(taken_over);
    two.follow();
    assert_eq!(two.state().node.cidrs[..], [cidr("10.244.1.0/24")]);
    assert_eq!(two.state().node.vtep_mac.to_string(), "2e:41:0b:1c:9a:07");
    assert_eq!(
        two.state().node.vtep_mac_v6.to_string(),
        "0a:58:00:00:00:01"
    );
    assert_eq!(two.members.problems().count(), 0);
    two.check();
}

#[test]
fn ipv6_pods_have_a_path_only_where_the_node_has_a_vtep_for_them() {
    let mut node = flannel(2);
    node.pod_cidrs.push("fd77:0:0:2::/64".into());
    let mut two = Two::of(vec![bare(1), node.clone()]);
    assert_eq!(two.via("fd77:0:0:2::7"), None);
    let node = annotate(
        node,
        "backend-v6-data",
        r#"{"VNI":1,"VtepMAC":"2e:41:0b:1c:9a:07"}"#,
    );
    two.members.set(annotate(node, "public-ipv6", "fd00:77::2"));
    two.follow();
    assert_eq!(two.via("fd77:0:0:2::7").as_deref(), Some("peer n2"));
    assert_eq!(two.state().peers["n2"].addresses.len(), 2);
    two.check();
}

#[test]
fn a_node_with_the_udp_backend_and_one_of_ours_with_it() {
    let flannels = annotate(
        annotate(flannel(2), "backend-type", ""),
        "backend-data",
        "null",
    );
    let mut ours = Node {
        name: "n3".into(),
        uid: "uid-3".into(),
        ..flannels.clone()
    };
    ours.pod_cidrs = vec!["10.244.3.0/24".into(), "fd77:0:0:3::/64".into()];
    ours.annotations
        .insert(crate::slim::VERSION_KEY.into(), "0.1.0".into());
    let ours = annotate(ours, "public-ip", "10.77.0.3");
    let two = Two::of(vec![bare(1), flannels, ours]);
    let peers = &two.state().peers;
    assert_eq!(peers["n2"].v4.as_ref().unwrap().encap, EncapKind::Udp);
    assert!(peers["n2"].v6.is_none() && peers["n3"].v6.is_some());
    two.check();
}

#[test]
fn of_two_that_claim_one_network_the_older_keeps_it_whoever_came_first() {
    let mut younger = flannel(5);
    younger.pod_cidrs = vec!["10.244.2.0/24".into(), "10.244.5.0/24".into()];
    for both in [[flannel(2), younger.clone()], [younger, flannel(2)]] {
        let mut two = Two::of(vec![bare(1)]);
        for node in both {
            two.members.set(node);
            two.follow();
        }
        assert_eq!(two.via("10.244.2.7").as_deref(), Some("peer n2"));
        assert_eq!(two.via("10.244.5.7").as_deref(), Some("peer n5"));
        two.problem("node n5: its pod network 10.244.2.0/24 overlaps 10.244.2.0/24 of node n2, which is older");
        two.check();
        // The older one goes, the younger gets it, in one step.
        two.members.remove("n2");
        two.follow();
        assert_eq!(two.via("10.244.2.7").as_deref(), Some("peer n5"));
        assert_eq!(two.members.problems().count(), 0);
        two.check();
    }
}

#[test]
fn of_the_same_second_the_lower_uid_keeps_it() {
    let (mut a, mut b) = (flannel(2), flannel(3));
    b.pod_cidrs = a.pod_cidrs.clone();
    b.created = a.created.clone();
    (a.uid, b.uid) = ("f".into(), "e".into());
    let two = Two::of(vec![bare(1), a, b]);
    assert_eq!(two.via("10.244.2.7").as_deref(), Some("peer n3"));
}

#[test]
fn a_node_that_does_not_say_when_it_was_made_is_the_youngest() {
    for created in ["", "0", "0001-01-01", "aaaaaaaaaaaaaaaaaaaZ"] {
        let mut liar = flannel(5);
        (liar.created, liar.uid) = (created.into(), String::new());
        liar.pod_cidrs = vec!["10.244.2.0/24".into()];
        let two = Two::of(vec![bare(1), flannel(2), liar]);
        assert_eq!(
            two.via("10.244.2.7").as_deref(),
            Some("peer n2"),
            "{created:?}"
        );
    }
}

#[test]
fn an_address_belongs_to_the_older_node_and_an_older_network_goes_before_it() {
    let stolen = annotate(flannel(5), "public-ip", "10.77.0.2");
    let two = Two::of(vec![bare(1), flannel(2), stolen]);
    assert_eq!(two.state().peers["n2"].addresses.len(), 1);
    assert!(!two.state().peers.contains_key("n5"));
    two.problem("node n5: its address 10.77.0.2 overlaps");
    two.problem("node n5: no outer address of its own is left");
    two.check();

    // A younger node's address in an older one's pods, and a younger one's pods around an older node.
    let mut around = flannel(6);
    around.pod_cidrs = vec!["10.77.0.0/24".into()];
    let inside = annotate(flannel(5), "public-ip", "10.244.2.9");
    let mut wide = rules();
    wide.networks.clear();
    wide.reserved.clear();
    let mut two = Two::new(wide);
    two.members
        .replace(vec![bare(1), flannel(2), inside, around]);
    two.follow();
    two.problem("node n5: its address 10.244.2.9 overlaps 10.244.2.0/24 of node n2");
    two.problem("node n6: its pod network 10.77.0.0/24 is refused: its own address");
    two.check();
}

#[test]
fn an_address_that_is_two_nodes_internal_one_costs_the_younger_just_that() {
    let (mut a, mut b) = (flannel(2), flannel(3));
    a.addresses = vec!["192.168.0.1".parse().unwrap()];
    b.addresses = a.addresses.clone();
    let two = Two::of(vec![bare(1), a, b]);
    assert_eq!(two.state().peers["n2"].addresses.len(), 2);
    assert_eq!(two.state().peers["n3"].addresses.len(), 1);
    two.check();
}

#[test]
fn networks_that_no_node_may_have_are_refused_and_named() {
    for (text, wanted) in [
        ("0.0.0.0/0", "no node's pods have more than a /8"),
        ("::/0", "no node's pods have more than a /16"),
        (
            "10.96.0.0/16",
            "outside of the cluster's pod networks (10.244.0.0/16)",
        ),
        ("192.168.0.0/24", "outside of the cluster's"),
        (
            "fd78::/64",
            "outside of the cluster's pod networks (fd77::/48)",
        ),
        ("10.244.2.0/33", "33"),
        ("10.244.2.0", "wanted a network"),
        ("x/24", "the address is none"),
        ("10.244.2.0/x", "the length is no number"),
        ("::ffff:10.244.2.0/120", "IPv4 address in IPv6 notation"),
        ("\u{1b}[31m/24", "the address is none"),
    ] {
        let mut node = flannel(2);
        node.pod_cidrs = vec![text.into(), "10.244.2.0/24".into()];
        let two = Two::of(vec![bare(1), node]);
        two.problem(wanted);
        assert!(
            two.members
                .problems()
                .all(|(_, p)| !p.text.contains('\u{1b}'))
        );
        // What is right of it holds.
        assert_eq!(two.via("10.244.2.7").as_deref(), Some("peer n2"));
        two.check();
    }
    // Where nobody says which networks are the cluster's, that of the services is still none.
    let mut node = flannel(2);
    node.pod_cidrs = vec!["10.96.0.0/16".into()];
    let mut open = rules();
    open.networks.clear();
    let mut two = Two::new(open);
    two.members.replace(vec![bare(1), node]);
    two.follow();
    two.problem("10.96.0.1, which is this node's or the API server's, is in it");
}

#[test]
fn nodes_that_cannot_be_talked_to_are_named() {
    for (key, value, wanted) in [
        (
            "backend-data",
            r#"{"VNI":2,"VtepMAC":"12:c6:65:89:b4:e3"}"#,
            "its VNI is 2 and ours 1",
        ),
        (
            "backend-data",
            "{",
            "annotation flannel.alpha.coreos.com/backend-data is \"{\"",
        ),
        ("backend-type", "wireguard", "its backend is \"wireguard\""),
        (
            "public-ip",
            "10.77.0.1",
            "its address 10.77.0.1 is this node's or the API server's",
        ),
        ("public-ip", "127.0.0.1", "no address of a node"),
    ] {
        let two = Two::of(vec![bare(1), annotate(flannel(2), key, value), flannel(3)]);
        two.problem(wanted);
        assert_eq!(two.via("10.244.2.7"), None, "{key}");
        assert_eq!(two.via("10.244.3.7").as_deref(), Some("peer n3"));
        two.check();
    }
}

#[test]
fn other_rules_are_held_against_every_node() {
    let mut two = Two::of(vec![bare(1), flannel(2)]);
    let mut narrow = rules();
    narrow.networks = vec![cidr("10.244.0.0/23")];
    assert!(two.members.set_rules(narrow.clone()));
    assert!(!two.members.set_rules(narrow));
    two.follow();
    assert_eq!(two.via("10.244.2.7"), None);
    two.check();
    two.members.set_rules(rules());
    two.follow();
    assert_eq!(two.via("10.244.2.7").as_deref(), Some("peer n2"));
    two.check();
}

#[test]
fn a_change_that_was_refused_is_offered_again() {
    let mut two = Two::of(vec![bare(1)]);
    two.members.set(flannel(2));
    assert_eq!(two.members.pending().len(), 1);
    assert_eq!(two.members.pending().len(), 1);
    two.follow();
}

#[test]
fn one_among_five_thousand_costs_what_one_among_fifty_does() {
    let cost = |count: u16| {
        let mut rules = rules();
        rules.networks = vec![cidr("10.0.0.0/8"), cidr("fd77::/48")];
        let mut two = Two::new(rules);
        let node = |i: u16| {
            let mut node = flannel(i);
            node.pod_cidrs = vec![format!("10.{}.{}.0/24", 128 + (i >> 8), i & 0xff)];
            node
        };
        two.members.replace((1..=count).map(node).collect());
        two.follow();
        let begin = Instant::now();
        for i in 0..1000 {
            let mac = format!(
                r#"{{"VNI":1,"VtepMAC":"12:c6:65:00:{:02x}:{:02x}"}}"#,
                i >> 8,
                i & 0xff
            );
            two.members.set(annotate(node(2), "backend-data", &mac));
            let pending = two.members.pending();
            assert_eq!((pending.len(), pending[0].changes.len()), (1, 1));
            pending.into_iter().for_each(|c| two.members.done(c));
        }
        begin.elapsed() / 1000
    };
    let (few, many) = (cost(50), cost(5000));
    println!("a Node's change: {few:?} among 50, {many:?} among 5,000");
    assert!(
        many < few * 10 + std::time::Duration::from_micros(200),
        "{many:?} after {few:?}"
    );
}

/// A few names, networks and addresses, so that they collide.
fn any_node() -> impl Strategy<Value = Node> {
    (
        1u16..6,
        1u16..6,
        prop::collection::vec(1u16..6, 0..3),
        0u8..4,
    )
        .prop_map(|(name, ip, nets, kind)| {
            let mut node = flannel(name);
            node.annotations.insert(
                "flannel.alpha.coreos.com/public-ip".into(),
                format!("10.77.9.{ip}"),
            );
            let wide = |n: u16| {
                if n == 5 {
                    "10.244.0.0/21".to_owned()
                } else {
                    format!("10.244.{n}.0/24")
                }
            };
            node.pod_cidrs = nets.into_iter().map(wide).collect();
            match kind {
                0 => node.annotations.clear(),
                1 => node.addresses = vec![format!("10.77.9.{}", ip % 5 + 1).parse().unwrap()],
                _ => {}
            }
            node
        })
}

proptest! {
    #[test]
    fn the_way_there_makes_no_difference(
        events in prop::collection::vec((any::<bool>(), any_node(), any::<bool>()), 1..40)
    ) {
        let mut two = Two::of(Vec::new());
        for (gone, node, follow) in events {
            if gone { two.members.remove(&node.name) } else { two.members.set(node); }
            if follow { two.follow(); }
        }
        two.follow();
        two.check();
        let mut other = Two::new(rules());
        let mut nodes: Vec<Node> = two.members.nodes().cloned().collect();
        nodes.reverse();
        other.members.replace(nodes);
        other.follow();
        prop_assert_eq!(other.state(), two.state());
    }
}
