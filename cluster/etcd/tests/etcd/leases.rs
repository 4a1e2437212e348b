//! The own record: which subnet, under which lease, and until when.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringway_cluster::source::State;

use super::eventually;
use super::node::Node;
use super::server::{Etcd, flannel};

const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
/// Three subnets.
const SMALL: &str = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.3.0","Backend":{"Type":"vxlan"}}"#;

#[test]
fn a_node_leases_a_subnet_for_a_day_and_writes_what_flanneld_would() {
    let Some(etcd) = Etcd::start() else { return };
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_problem("there is no /coreos.com/network/config yet");
    etcd.put("config", VXLAN);
    let subnet = node.wait_for_subnet();
    let entry = etcd.subnet_of("10.77.0.1").unwrap();
    assert_eq!(entry.key.replace('-', "/"), subnet);
    let [_, _, third, _] = subnet
        .split_once('/')
        .unwrap()
        .0
        .split('.')
        .collect::<Vec<_>>()[..]
    else {
        panic!("{subnet}");
    };
    let third: u8 = third.parse().unwrap();
    assert!(
        (1..=100).contains(&third),
        "one of the first hundred: {subnet}"
    );
    assert_eq!(
        entry.value,
        flannel("10.77.0.1", &format!("0a:58:0a:05:{third:02x}:00"))
    );
    let (left, granted) = etcd.time_to_live(entry.lease);
    assert_eq!(granted, 24 * 3600);
    assert!(left > granted - 120, "{left}");
    assert_eq!(node.via(&format!("10.5.{third}.9")), "this node");
    node.wait_for_state(State::Current);
    assert_eq!(node.status().problems, [""; 0]);
    assert!(node.status().confirmed_s.is_some());
}

#[test]
fn both_families_where_the_net_conf_has_both() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put(
        "config",
        r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.1.0","EnableIPv6":true,
            "IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:22::","IPv6SubnetMax":"fc00:0:0:22::",
            "Backend":{"Type":"vxlan"}}"#,
    );
    let node = Node::with(&etcd, &["10.77.0.1", "fd00:77::1"], |_| {});
    assert_eq!(node.wait_for_subnet(), "10.5.1.0/24 fc00:0:0:22::/64");
    let entry = etcd.subnet_of("10.77.0.1").unwrap();
    assert_eq!(entry.key, "10.5.1.0-24&fc00:0:0:22::-64");
    assert_eq!(
        entry.value,
        r#"{"PublicIP":"10.77.0.1","PublicIPv6":"fd00:77::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:58:0a:05:01:00"},"BackendV6Data":{"VNI":1,"VtepMAC":"0a:58:0a:05:01:00"}}"#
    );
}

#[test]
fn a_lease_is_renewed_in_time_and_ends_with_the_node() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let mut node = Node::with(&etcd, &["10.77.0.1"], |settings| {
        settings.lease = Duration::from_secs(6);
        settings.renew_before = Duration::from_secs(4);
    });
    node.wait_for_subnet();
    let entry = etcd.subnet_of("10.77.0.1").unwrap();
    std::thread::sleep(Duration::from_secs(14));
    // The same record: peers had nothing to do.
    assert_eq!(etcd.subnet_of("10.77.0.1"), Some(entry.clone()));
    node.stop();
    // Not taken away: pods of a stopped agent go on.
    assert_eq!(etcd.subnet_of("10.77.0.1"), Some(entry));
    eventually("the lease ends", || etcd.subnet_of("10.77.0.1").is_none());
}

#[test]
fn a_record_that_is_gone_is_made_again_with_the_same_subnet() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let node = Node::start(&etcd, "10.77.0.1");
    let subnet = node.wait_for_subnet();
    let before = etcd.subnet_of("10.77.0.1").unwrap();
    etcd.delete(&format!("subnets/{}", before.key));
    eventually("it is there again", || {
        etcd.subnet_of("10.77.0.1").is_some()
    });
    let after = etcd.subnet_of("10.77.0.1").unwrap();
    assert_eq!((&after.key, &after.value), (&before.key, &before.value));
    assert_ne!(after.lease, 0);
    assert_eq!(node.cidrs().join(" "), subnet);
}

#[test]
fn reserved_subnets_are_left_and_one_for_this_node_is_taken_without_a_lease() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", SMALL);
    etcd.put("subnets/10.5.1.0-24", r#"{"PublicIP": "10.77.0.9"}"#);
    etcd.put("subnets/10.5.3.0-24", r#"{"PublicIP": "10.77.0.2"}"#);
    let first = Node::start(&etcd, "10.77.0.1");
    assert_eq!(first.wait_for_subnet(), "10.5.2.0/24");
    let second = Node::start(&etcd, "10.77.0.2");
    assert_eq!(second.wait_for_subnet(), "10.5.3.0/24");
    let entry = etcd.subnet_of("10.77.0.2").unwrap();
    assert_eq!(
        (entry.lease, entry.value),
        (0, flannel("10.77.0.2", "0a:58:0a:05:03:00"))
    );
    // A reserved subnet leads nowhere as long as its node is not there.
    first.wait_for_route("10.5.3.9", "peer 10.77.0.2");
    assert_eq!(first.via("10.5.1.9"), "nowhere");
}

#[test]
fn when_no_subnet_is_left_that_is_said_and_the_next_free_one_is_taken() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", SMALL);
    for third in 1..=3 {
        etcd.put(
            &format!("subnets/10.5.{third}.0-24"),
            &flannel(&format!("10.77.0.1{third}"), "12:c6:65:89:b4:e3"),
        );
    }
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_problem("no free /24 is left for this node: all 3 from 10.5.1.0 to 10.5.3.0");
    // It follows its peers all the same.
    node.wait_for_route("10.5.1.9", "peer 10.77.0.11");
    etcd.delete("subnets/10.5.2.0-24");
    assert_eq!(node.wait_for_subnet(), "10.5.2.0/24");
    eventually("nothing is wrong", || node.status().problems.is_empty());
}

#[test]
fn nodes_that_come_at_once_get_a_subnet_each() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", SMALL);
    let ips = ["10.77.0.1", "10.77.0.2", "10.77.0.3"];
    let nodes = ips.map(|ip| Node::start(&etcd, ip));
    let mut all: Vec<String> = nodes.iter().map(Node::wait_for_subnet).collect();
    all.sort();
    assert_eq!(all, ["10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"]);
    for node in &nodes {
        eventually("it knows the others", || node.peers() == 2);
    }
}

#[test]
fn flanneld_s_subnet_and_mac_are_taken_over_without_a_write() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let lease = etcd.grant(24 * 3600);
    let value = flannel("10.77.0.1", "12:c6:65:89:b4:e3");
    let revision = etcd.put_leased("subnets/10.5.34.0-24", &value, lease);
    let node = Node::start(&etcd, "10.77.0.1");
    assert_eq!(node.wait_for_subnet(), "10.5.34.0/24");
    assert_eq!(node.mac(), "12:c6:65:89:b4:e3");
    let entry = etcd.subnet_of("10.77.0.1").unwrap();
    assert_eq!((entry.modified, entry.lease), (revision, lease));
}

#[test]
fn the_subnet_that_flanneld_left_in_subnet_env_is_taken_if_it_is_free() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let path = etcd.folder().join("subnet.env");
    std::fs::write(
        &path,
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.77.1/24\n",
    )
    .unwrap();
    let with = |settings: &mut ringway_etcd::Settings| settings.subnet_env = Some(path.clone());
    let node = Node::with(&etcd, &["10.77.0.1"], with);
    assert_eq!(node.wait_for_subnet(), "10.5.77.0/24");
}

#[test]
fn a_restart_and_another_address_keep_the_subnet() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let mut node = Node::start(&etcd, "10.77.0.1");
    let subnet = node.wait_for_subnet();
    let key = etcd.subnet_of("10.77.0.1").unwrap().key;
    node.set_addresses(&["10.77.0.8"]);
    eventually("the record names the new address", || {
        etcd.subnet_of("10.77.0.8").is_some()
    });
    node.stop();
    // DHCP has given it another one while it was down.
    node.set_addresses(&["10.77.0.7"]);
    node.launch();
    assert_eq!(node.cidrs().join(" "), subnet, "before anything was read");
    eventually("the record names the new address", || {
        etcd.subnet_of("10.77.0.7").is_some()
    });
    assert_eq!(etcd.subnet_of("10.77.0.7").unwrap().key, key);
    assert_eq!((etcd.subnets().len(), node.cidrs().join(" ")), (1, subnet));
}

#[test]
fn another_program_that_writes_the_own_record_is_named_and_not_fought() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_subnet();
    let ours = etcd.subnet_of("10.77.0.1").unwrap();
    let key = format!("subnets/{}", ours.key);
    let theirs = flannel("10.77.0.1", "12:c6:65:89:b4:e3");
    let begin = ours.modified;
    for _ in 0..10 {
        etcd.put_leased(&key, &theirs, ours.lease);
        std::thread::sleep(Duration::from_millis(100));
    }
    node.wait_for_problem("another program writes this node's record");
    // Ten writes of theirs, and few of ours.
    let now = etcd.subnet_of("10.77.0.1").unwrap();
    assert!(
        now.modified - begin <= 12,
        "{} writes",
        now.modified - begin
    );
    eventually("ours stands in the end", || {
        etcd.subnet_of("10.77.0.1").unwrap().value == ours.value
    });
}

#[test]
fn a_subnet_that_this_node_cannot_use_is_given_back() {
    let Some(etcd) = Etcd::start() else { return };
    let node = Node::start(&etcd, "10.77.0.1");
    node.refuses.store(true, Ordering::Relaxed);
    etcd.put("config", VXLAN);
    node.wait_for_problem("it was given back: pods have addresses of 10.9.9.0/24");
    eventually("the record is gone", || etcd.subnets().is_empty());
    assert!(node.cidrs().is_empty());
    // Nor is it asked for again at once.
    let before = etcd.put("subnets/x", "");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(etcd.put("subnets/x", ""), before + 1);
}

#[test]
fn a_node_that_has_nothing_to_do_costs_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", SMALL);
    // Reserved: no lease to renew; exhausted: something to wait for; no net-conf: nothing to have.
    etcd.put("subnets/10.5.1.0-24", r#"{"PublicIP": "10.77.0.1"}"#);
    etcd.put("subnets/10.5.2.0-23", r#"{"PublicIP": "10.77.0.9"}"#);
    let reserved = Node::start(&etcd, "10.77.0.1");
    reserved.wait_for_subnet();
    let exhausted = Node::start(&etcd, "10.77.0.2");
    exhausted.wait_for_problem("no free /24 is left");
    let alone = Node::with(&etcd, &["10.77.0.3"], |settings| {
        settings.prefix = "/nothing".into()
    });
    alone.wait_for_problem("there is no /nothing/config yet");
    let homeless = Node::with(&etcd, &["fd00::4"], |_| {});
    homeless.wait_for_problem("no outer IPv4 address yet");
    // Past the first writes to disk.
    std::thread::sleep(Duration::from_secs(6));
    for node in [reserved, exhausted, alone, homeless] {
        assert!(node.wakes_within(Duration::from_secs(1)) <= 1);
    }
}

#[test]
fn a_net_conf_without_room_or_of_another_backend_is_named() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", r#"{"Network":"10.5.0.0/30"}"#);
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_problem("10.5.0.0/30 has no room");
    etcd.put("config", "{");
    node.wait_for_problem("/coreos.com/network/config: net-conf.json is no JSON object");
    etcd.put(
        "config",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#,
    );
    node.wait_for_problem(
        "the net-conf's backend is vxlan, VNI 7, port 8472, this node's vxlan, VNI 1, port 8472",
    );
    node.wait_for_subnet();
}
