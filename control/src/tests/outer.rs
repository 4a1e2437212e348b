//! Another outer address than the one in use.

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
