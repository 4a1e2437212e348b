//! Servers that are away, hang, or are not there at all.

use std::time::Duration;

use ringway_cluster::source::State;

use super::eventually;
use super::node::Node;
use super::server::{Etcd, flannel, free_address};

const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// etcd with one peer in it.
fn etcd() -> Option<Etcd> {
    let etcd = Etcd::start()?;
    etcd.put("config", VXLAN);
    etcd.put(
        "subnets/10.5.201.0-24",
        &flannel("10.77.0.2", "12:c6:65:89:b4:02"),
    );
    Some(etcd)
}

#[test]
fn while_etcd_is_away_everything_stays_also_through_a_restart() {
    let Some(mut etcd) = etcd() else { return };
    let mut node = Node::start(&etcd, "10.77.0.1");
    let subnet = node.wait_for_subnet();
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");
    etcd.kill();
    node.wait_for_state(State::Stale);
    node.wait_for_error("onnection refused");
    let confirmed = node.status().confirmed_s;
    assert!(confirmed.is_some());
    assert_eq!(node.via("10.5.201.9"), "peer 10.77.0.2");

    // The agent is killed meanwhile.
    assert!(node.stop() < Duration::from_millis(150));
    node.launch();
    assert_eq!(node.status().state, State::Stale);
    assert_eq!(
        (node.cidrs().join(" "), node.via("10.5.201.9").as_str()),
        (subnet.clone(), "peer 10.77.0.2")
    );
    node.wait_for_error("onnection refused");

    etcd.launch();
    etcd.put(
        "subnets/10.5.202.0-24",
        &flannel("10.77.0.3", "12:c6:65:89:b4:03"),
    );
    etcd.delete("subnets/10.5.201.0-24");
    node.wait_for_route("10.5.202.9", "peer 10.77.0.3");
    node.wait_for_route("10.5.201.9", "nowhere");
    node.wait_for_state(State::Current);
    assert_eq!(node.status().error, None);
    assert_eq!(node.cidrs().join(" "), subnet);
}

#[test]
fn a_node_that_has_never_heard_of_etcd_waits_and_says_so() {
    let Some(mut etcd) = etcd() else { return };
    etcd.kill();
    let mut node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_error("onnection refused");
    assert_eq!(node.status().state, State::Waiting);
    assert!(node.stop() < Duration::from_millis(150));
    node.launch();
    etcd.launch();
    node.wait_for_subnet();
}

#[test]
fn a_server_that_hangs_is_noticed_and_does_not_hold_up_a_stop() {
    let Some(etcd) = etcd() else { return };
    let mut node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");
    etcd.signal("-STOP");
    node.wait_for_state(State::Stale);
    assert_eq!(node.via("10.5.201.9"), "peer 10.77.0.2");
    let stop = node.stop();
    assert!(stop < Duration::from_millis(150), "{stop:?}");
    etcd.signal("-CONT");
    node.launch();
    node.wait_for_state(State::Current);
}

#[test]
fn of_several_servers_one_that_answers_is_enough() {
    let Some(etcd) = etcd() else { return };
    let dead = format!("http://{}", free_address());
    let node = Node::with(&etcd, &["10.77.0.1"], |settings| {
        settings.endpoints.insert(0, dead)
    });
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");
    node.wait_for_state(State::Current);
}

#[test]
fn what_is_no_etcd_is_named() {
    let Some(etcd) = etcd() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let node = Node::with(&etcd, &["10.77.0.1"], |settings| {
        settings.endpoints = vec![format!("http://{address}")]
    });
    eventually("it is said", || {
        node.status()
            .error
            .is_some_and(|e| e.contains(&address.to_string()))
    });
    assert_eq!(node.status().state, State::Waiting);
}

#[test]
fn a_disk_that_cannot_be_written_is_named_and_nothing_stops() {
    let Some(etcd) = etcd() else { return };
    let nowhere = etcd.folder().join("none/etcd.json");
    let node = Node::with(&etcd, &["10.77.0.1"], |settings| settings.saved = nowhere);
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");
    node.wait_for_problem("cannot write");
}
