//! What others write.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ringway_cluster::source::State;

use super::eventually;
use super::node::Node;
use super::server::{Etcd, flannel};

const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

#[test]
fn nodes_of_flannel_come_change_and_go() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let first = etcd.grant(3600);
    etcd.put_leased(
        "subnets/10.5.201.0-24",
        &flannel("10.77.0.2", "12:c6:65:89:b4:02"),
        first,
    );
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");

    let second = etcd.grant(3);
    etcd.put_leased(
        "subnets/10.5.202.0-24",
        &flannel("10.77.0.3", "12:c6:65:89:b4:03"),
        second,
    );
    node.wait_for_route("10.5.202.9", "peer 10.77.0.3");

    // flanneld picks another MAC when it starts again.
    etcd.put_leased(
        "subnets/10.5.201.0-24",
        &flannel("10.77.0.2", "16:c6:65:89:b4:02"),
        first,
    );
    eventually("its new MAC is known", || {
        node.peer_mac("10.77.0.2").as_deref() == Some("16:c6:65:89:b4:02")
    });
    // The machine gets another address.
    etcd.put_leased(
        "subnets/10.5.201.0-24",
        &flannel("10.77.0.22", "16:c6:65:89:b4:02"),
        first,
    );
    node.wait_for_route("10.5.201.9", "peer 10.77.0.22");
    assert_eq!(node.peer_mac("10.77.0.2"), None);

    // A node that dies is gone with its lease, one that leaves at once.
    node.wait_for_route("10.5.202.9", "nowhere");
    etcd.delete("subnets/10.5.201.0-24");
    node.wait_for_route("10.5.201.9", "nowhere");
    eventually("it has no peer", || node.peers() == 0);
}

#[test]
fn a_renewal_of_flanneld_s_is_no_change() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_subnet();
    let value = flannel("10.77.0.2", "12:c6:65:89:b4:02");
    etcd.put_leased("subnets/10.5.201.0-24", &value, etcd.grant(3600));
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");
    let before = node.changes.load(Ordering::Relaxed);
    // It writes the record anew under another lease.
    etcd.put_leased("subnets/10.5.201.0-24", &value, etcd.grant(3600));
    etcd.put_leased(
        "subnets/10.5.202.0-24",
        &flannel("10.77.0.3", "12:c6:65:89:b4:03"),
        etcd.grant(3600),
    );
    node.wait_for_route("10.5.202.9", "peer 10.77.0.3");
    assert_eq!(node.changes.load(Ordering::Relaxed), before + 1);
}

#[test]
fn hostile_records_are_named_and_cost_the_others_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    let node = Node::start(&etcd, "10.77.0.1");
    node.wait_for_subnet();
    etcd.put(
        "subnets/0.0.0.0-0",
        &flannel("10.77.0.66", "12:c6:65:89:b4:66"),
    );
    etcd.put("subnets/10.5.203.0-24", "{\u{1b}[2J");
    etcd.put("subnets/\u{1b}[2J", "x");
    etcd.put(
        "subnets/10.5.204.0-24",
        &flannel("10.77.0.1", "12:c6:65:89:b4:66"),
    );
    etcd.put("subnets/10.5.205.0-24", &"x".repeat(100_000));
    etcd.put(
        "subnets/10.5.202.0-24",
        &flannel("10.77.0.3", "12:c6:65:89:b4:03"),
    );
    node.wait_for_route("10.5.202.9", "peer 10.77.0.3");
    for part in [
        "0.0.0.0/0 is refused",
        "is not Flannel's JSON",
        "names no subnets",
        "it names this node's address",
    ] {
        node.wait_for_problem(part);
    }
    let problems = node.status().problems;
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(
        problems
            .iter()
            .all(|p| p.len() < 400 && !p.contains('\u{1b}')),
        "{problems:#?}"
    );
    assert_eq!(node.peers(), 1);
}

/// Passes bytes on. What the client says waits once the server has said a lot.
struct Proxy {
    address: SocketAddr,
    holds: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
}

const A_LOT: usize = 100_000;

impl Proxy {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, said) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicUsize::new(0)),
        );
        let proxy = Self {
            address,
            holds: holds.clone(),
            said: said.clone(),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(there) = TcpStream::connect(server) else {
                    continue;
                };
                let (from, to) = (client.try_clone().unwrap(), there.try_clone().unwrap());
                let (holds, counted, said) = (holds.clone(), said.clone(), said.clone());
                let wait = move |_| {
                    while holds.load(Ordering::Relaxed) && said.load(Ordering::Relaxed) > A_LOT {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                };
                std::thread::spawn(move || pass(from, to, wait));
                let count = move |n| {
                    counted.fetch_add(n, Ordering::Relaxed);
                };
                std::thread::spawn(move || pass(there, client, count));
            }
        });
        proxy
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(usize)) {
    let mut bytes = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        before(n);
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_watch_whose_history_is_compacted_leads_to_a_new_read() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.put("config", VXLAN);
    // What the node reads is a lot.
    etcd.put("subnets/10.5.250.0-24", &"x".repeat(2 * A_LOT));
    let proxy = Proxy::to(etcd.address);
    let through = format!("http://{}", proxy.address);
    let node = Node::with(&etcd, &["10.77.0.1"], |settings| {
        settings.endpoints = vec![through]
    });
    eventually("it has read", || proxy.said.load(Ordering::Relaxed) > A_LOT);
    // Its wish to watch from there is on the way.
    std::thread::sleep(Duration::from_millis(300));
    etcd.put(
        "subnets/10.5.201.0-24",
        &flannel("10.77.0.2", "12:c6:65:89:b4:02"),
    );
    let last = etcd.put(
        "subnets/10.5.202.0-24",
        &flannel("10.77.0.3", "12:c6:65:89:b4:03"),
    );
    etcd.compact(last);
    assert_eq!(node.via("10.5.201.9"), "nowhere");
    proxy.holds.store(false, Ordering::Relaxed);
    node.wait_for_route("10.5.201.9", "peer 10.77.0.2");
    node.wait_for_route("10.5.202.9", "peer 10.77.0.3");
    // Once before, and once after it had heard.
    assert!(proxy.said.load(Ordering::Relaxed) > 4 * A_LOT);
    node.wait_for_state(State::Current);
    etcd.delete("subnets/10.5.201.0-24");
    node.wait_for_route("10.5.201.9", "nowhere");
}
