//! Another outer address than the one in use.

use ringway_kernel::testing::ip;

use super::*;

fn index() -> (Netlink, u32) {
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link("eth0").unwrap().index;
    (netlink, index)
}

/// What is said to be wrong with the addresses in use.
fn outdated(control: &Control) -> Option<String> {
    let mut conditions = control.view().status.conditions.into_iter();
    conditions
        .find(|c| c.what == "outer addresses")
        .map(|c| c.why)
}

/// What the agent does in some seconds after addresses have changed.
fn look(control: &mut Control) {
    for _ in 0..3 {
        control.handle_changes(vec![Change::Addresses]);
        control.tick();
        std::thread::sleep(Duration::from_millis(1010));
    }
}

#[test]
fn another_outer_address_is_taken() {
    in_netns(|| {
        for workers in [1, 2] {
            let node = Node::new();
            let mut control = node.start(workers);
            let (mut netlink, index) = index();
            for (old, len, new, path) in [
                ("192.168.77.1", 24, "192.168.77.11", 0),
                ("fd00:77::1", 64, "fd00:77::11", 1),
            ] {
                let (old, new): (std::net::IpAddr, std::net::IpAddr) =
                    (old.parse().unwrap(), new.parse().unwrap());
                netlink.remove_address(index, old, len).unwrap();
                netlink.add_address(index, new, len).unwrap();
                look(&mut control);
                let snapshot = control.publisher.current();
                assert_eq!(snapshot.path(PathId(path)).unwrap().src, new);
                assert!(snapshot.node.addresses.contains(&new));
                assert!(!snapshot.node.addresses.contains(&old));
                let status = control.view().status.underlay;
                assert!(outdated(&control).is_none());
                assert!(status.addresses.contains(&new) && !status.addresses.contains(&old));
                assert_eq!(status.sockets.len(), 2);
                let bound = std::net::SocketAddr::new(new, 8472).to_string();
                assert!(
                    status.sockets.iter().any(|s| s.local == bound),
                    "{status:?}"
                );
                assert_eq!(control.descriptors.sockets.len(), 2 * workers);
                assert_eq!(mtu(&control, path), if new.is_ipv6() { 1430 } else { 1450 });
                // The old socket is closed: the port is free there.
                netlink.add_address(index, old, len).unwrap();
                std::net::UdpSocket::bind((old, 8472)).unwrap();
                netlink.remove_address(index, old, len).unwrap();
            }
            control.stop();
            netlink.delete_link("eth0").unwrap();
        }
    });
}

fn add(n: u8) {
    ip(&format!("addr add fd00:77::{n}/64 dev eth0 nodad"));
}

fn delete(n: u8) {
    ip(&format!("addr del fd00:77::{n}/64 dev eth0"));
}

/// The kernel sends from it only when there is no other.
fn deprecate(n: u8) {
    ip(&format!(
        "addr change fd00:77::{n}/64 dev eth0 preferred_lft 0"
    ));
}

/// Who binds there without SO_REUSEPORT finds out whether anybody has it.
fn taken(n: u8) -> bool {
    std::net::UdpSocket::bind(format!("[fd00:77::{n}]:8472")).is_err()
}

#[test]
fn a_former_address_receives_while_it_is_there() {
    in_netns(|| {
        for workers in [1, 2] {
            let node = Node::new();
            let mut control = node.start(workers);
            let mut now_is = |sends: u8, receives: &[u8]| {
                look(&mut control);
                let snapshot = control.publisher.current();
                let address: std::net::IpAddr = format!("fd00:77::{sends}").parse().unwrap();
                assert_eq!(snapshot.path(PathId(1)).unwrap().src, address);
                let all = (
                    control.descriptors.sockets.len(),
                    control.descriptors.former.len(),
                );
                assert_eq!(all, (2 * workers, receives.len() * workers));
                let status = control.view().status.underlay;
                assert_eq!(status.sockets.len(), 2 + receives.len(), "{status:?}");
                assert!(taken(sends) && receives.iter().all(|n| taken(*n)));
            };
            now_is(1, &[]);
            deprecate(1);
            add(12);
            now_is(12, &[1]);
            // The last one before it only.
            deprecate(12);
            add(13);
            now_is(13, &[12]);
            assert!(!taken(1));
            // Back, with the same sockets.
            delete(1);
            delete(13);
            now_is(12, &[]);
            add(14);
            now_is(14, &[12]);
            delete(12);
            now_is(14, &[]);
            add(12);
            assert!(!taken(12));
            control.stop();
            ip("link del eth0");
        }
    });
}

#[test]
fn a_route_that_takes_packets_for_pods_away_is_shown_and_fails_nothing() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        ip("route add 10.77.2.128/25 dev eth0");
        control.handle_changes(vec![Change::Routes]);
        std::thread::sleep(Duration::from_millis(200));
        control.reconcile();
        let shown = |control: &Control| {
            let conditions = control.view().status.conditions;
            let names: Vec<String> = conditions.into_iter().map(|c| c.what).collect();
            names
        };
        assert_eq!(shown(&control), ["route 10.77.2.128/25"]);
        // Pods reach each other all the same; the runtime shall not take the node out of service.
        control.cni_status().unwrap();
        ip("route del 10.77.2.128/25");
        control.handle_changes(vec![Change::Routes]);
        std::thread::sleep(Duration::from_millis(200));
        control.reconcile();
        assert_eq!(shown(&control), [""; 0]);
        control.stop();
    });
}

fn mtu(control: &Control, path: u32) -> u16 {
    control.publisher.current().path(PathId(path)).unwrap().mtu
}

#[test]
fn an_address_without_another_stays_in_use_and_is_named() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let (mut netlink, index) = index();
        for (ip, len) in [("192.168.77.1", 24), ("fd00:77::1", 64)] {
            let ip = ip.parse().unwrap();
            netlink.remove_address(index, ip, len).unwrap();
            look(&mut control);
            let why = outdated(&control);
            assert!(why.is_some_and(|text| text.contains(&ip.to_string())));
            assert!(control.underlay.addresses().contains(&ip));
            netlink.add_address(index, ip, len).unwrap();
            look(&mut control);
            assert!(outdated(&control).is_none());
        }
        control.stop();
    });
}
