//! A bridge as Flannel's plugin makes it, with two pods; one of them goes.

use std::os::fd::AsFd;
use std::process::Command;

use super::*;
use crate::netns::run_in;
use crate::testing::{Pod, in_netns, ip};
use ringway_ports::tap::{self, TapOptions};

fn networks() -> Vec<Network> {
    let network = |cidr: &str, gateway: &str| Network {
        cidr: cidr.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
    };
    vec![
        network("10.77.1.0/24", "10.77.1.1"),
        network("fd77:1::/64", "fd77:1::1"),
    ]
}

fn inside(pod: &Pod, line: &str) {
    run_in(&pod.netns(), || ip(line)).unwrap();
}

/// `cni0` with its addresses, and a pod with host number `host`.
fn pod(netlink: &mut Netlink, host: u8) -> Pod {
    let pod = Pod::new();
    netlink.add_veth(&format!("veth{host}"), pod.netns().as_fd(), "eth0");
    ip(&format!("link set veth{host} master cni0 up"));
    inside(&pod, &format!("addr add 10.77.1.{host}/24 dev eth0"));
    inside(&pod, &format!("addr add fd77:1::{host}/64 dev eth0 nodad"));
    inside(&pod, "link set eth0 up");
    inside(&pod, "route add default via 10.77.1.1");
    pod
}

fn cni0() {
    ip("link add cni0 type bridge");
    ip("addr add 10.77.1.1/24 dev cni0");
    ip("addr add fd77:1::1/64 dev cni0 nodad");
    ip("link set cni0 up");
    sysctl::set("ipv4/ip_forward", "1").unwrap();
    sysctl::set("ipv6/conf/all/forwarding", "1").unwrap();
}

fn pings(pod: Option<&Pod>, to: &str) -> bool {
    let run = || {
        let mut ping = Command::new("ping");
        // Until it is answered.
        ping.args(["-c", "1", "-i", "0.2", "-w", "10", to]);
        ping.output().unwrap().status.success()
    };
    pod.map_or_else(run, |pod| run_in(&pod.netns(), run).unwrap())
}

#[test]
fn pods_on_the_bridge_are_reached_and_the_network_is_free_for_the_node_port() {
    in_netns(|| {
        cni0();
        let mut netlink = Netlink::open().unwrap();
        let (old, other) = (pod(&mut netlink, 7), pod(&mut netlink, 8));
        let found = find(&mut netlink, "ringway0", &networks(), None).unwrap();
        let bridge = found.unwrap();
        assert_eq!((bridge.name.as_str(), bridge.ports.len()), ("cni0", 2));
        let pods: Vec<IpAddr> = ["10.77.1.7", "fd77:1::7", "10.77.1.8", "fd77:1::8"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
        assert!(narrow(&mut netlink, &bridge, &networks(), &pods).unwrap());
        assert!(!narrow(&mut netlink, &bridge, &networks(), &pods).unwrap());
        // The node port comes, and has what the bridge had.
        let _port = tap::create_persistent("ringway0", &TapOptions::default()).unwrap();
        ip("link set ringway0 up");
        ip("addr add 10.77.1.1/24 dev ringway0");
        ip("addr add fd77:1::1/64 dev ringway0 nodad");
        let mut by = |to: &str| netlink.fib_match(to.parse().unwrap()).unwrap().unwrap();
        let port = interface("ringway0");
        assert_eq!(by("10.77.1.9").interface, port);
        assert_eq!(by("fd77:1::9").interface, port);
        for to in &pods {
            assert_eq!(by(&to.to_string()).interface, bridge.index, "{to}");
        }
        assert!(pings(None, "10.77.1.7") && pings(None, "fd77:1::7"));
        assert!(pings(Some(&old), "10.77.1.8") && pings(Some(&old), "fd77:1::8"));
        assert!(pings(Some(&old), "10.77.1.1") && pings(Some(&old), "fd77:1::1"));
        // The bridge is still found by what it has, and keeps its MAC address, which was that of a pod's port; a
        // pod that is gone has no route any more.
        let mut mac = || netlink.link("cni0").unwrap().mac;
        let before = mac();
        ip("link del veth8");
        ip("link set veth7 down");
        ip("link set veth7 address 0e:ff:ff:ff:ff:ff");
        ip("link set veth7 up");
        assert_eq!(mac(), before);
        drop(other);
        let left = &pods[..2];
        let again = find(&mut netlink, "ringway0", &networks(), None)
            .unwrap()
            .unwrap();
        assert_eq!(again.index, bridge.index);
        assert!(narrow(&mut netlink, &bridge, &networks(), left).unwrap());
        let mut by = |to: &str| netlink.fib_match(to.parse().unwrap()).unwrap().unwrap();
        assert_eq!(by("10.77.1.8").interface, port);
        assert_eq!(by("10.77.1.7").interface, bridge.index);
    });
}

#[test]
fn pods_on_the_bridge_hear_of_a_new_pod_that_has_the_address_of_another() {
    in_netns(|| {
        cni0();
        // As one that was narrowed has it: else it is that of one of its ports, and changes with them.
        ip("link set cni0 address 0a:58:0a:4d:01:01");
        let mut netlink = Netlink::open().unwrap();
        let (old, gone) = (pod(&mut netlink, 7), pod(&mut netlink, 8));
        assert!(pings(Some(&old), "10.77.1.8") && pings(Some(&old), "fd77:1::8"));
        let known = |to: &str| {
            let ask = || {
                Command::new("ip")
                    .args(["neigh", "show", to])
                    .output()
                    .unwrap()
            };
            let shown = run_in(&old.netns(), ask).unwrap().stdout;
            String::from_utf8(shown).unwrap()
        };
        let mac = netlink.link("cni0").unwrap().mac.unwrap().to_string();
        assert!(known("10.77.1.8").contains("lladdr") && !known("10.77.1.8").contains(&mac));
        ip("link del veth8");
        drop(gone);
        let both = ["10.77.1.8", "fd77:1::8"];
        announce(&mut netlink, "cni0", &both.map(|ip| ip.parse().unwrap())).unwrap();
        for to in both {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(3);
            while !known(to).contains(&mac) {
                assert!(std::time::Instant::now() < deadline, "{}", known(to));
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert!(announce(&mut netlink, "none0", &[]).is_err());
    });
}

/// The bridge with one pod on it, found.
fn with_a_pod() -> (Netlink, Pod, Bridge) {
    cni0();
    let mut netlink = Netlink::open().unwrap();
    let old = pod(&mut netlink, 7);
    let bridge = find(&mut netlink, "ringway0", &networks(), None);
    let bridge = bridge.unwrap().unwrap();
    (netlink, old, bridge)
}

#[test]
fn given_back_the_bridge_is_as_its_plugin_made_it() {
    in_netns(|| {
        let (mut netlink, old, bridge) = with_a_pod();
        let before = addresses(&mut netlink, bridge.index);
        let pods = ["10.77.1.7", "fd77:1::7"].map(|ip| ip.parse().unwrap());
        narrow(&mut netlink, &bridge, &networks(), &pods).unwrap();
        answer_for(
            &mut netlink,
            &bridge,
            &["fd77:1::20".parse().unwrap()].into(),
        )
        .unwrap();
        assert!(widen(&mut netlink, "cni0", &networks()).unwrap());
        assert!(widen(&mut netlink, "cni0", &networks()).unwrap());
        assert_eq!(addresses(&mut netlink, bridge.index), before);
        let ours = netlink.routes(bridge.index).unwrap();
        assert!(ours.iter().all(|route| route.protocol != OWNER), "{ours:?}");
        assert!(netlink.proxies(bridge.index).unwrap().is_empty());
        assert_eq!(sysctl::get("ipv4/conf/cni0/proxy_arp").unwrap(), "0");
        assert!(pings(Some(&old), "10.77.1.1") && pings(None, "fd77:1::7"));
        assert!(!widen(&mut netlink, "gone0", &networks()).unwrap());
    });
}

fn addresses(netlink: &mut Netlink, index: u32) -> Vec<(IpAddr, u8)> {
    let all = netlink.addresses(index).unwrap();
    let global = all.iter().filter(|a| a.global);
    let mut all: Vec<_> = global.map(|a| (a.ip, a.prefix_len)).collect();
    all.sort();
    all
}

fn interface(name: &str) -> u32 {
    Netlink::open().unwrap().link(name).unwrap().index
}

#[test]
fn the_bridge_answers_for_pods_that_are_not_on_it() {
    in_netns(|| {
        let (mut netlink, old, bridge) = with_a_pod();
        let pods = ["10.77.1.7", "fd77:1::7"].map(|ip| ip.parse().unwrap());
        narrow(&mut netlink, &bridge, &networks(), &pods).unwrap();
        let new: BTreeSet<IpAddr> = ["10.77.1.20", "fd77:1::20"]
            .map(|ip| ip.parse().unwrap())
            .into();
        // In place of the node port and the pod behind it.
        let behind = Pod::new();
        netlink.add_veth("ringway0", behind.netns().as_fd(), "eth0");
        ip("link set ringway0 up");
        ip("addr add 10.77.1.1/24 dev ringway0");
        ip("addr add fd77:1::1/64 dev ringway0 nodad");
        inside(&behind, "addr add 10.77.1.20/24 dev eth0");
        inside(&behind, "addr add fd77:1::20/64 dev eth0 nodad");
        inside(&behind, "link set eth0 up");
        inside(&behind, "route add 10.77.1.7 via 10.77.1.1");
        inside(&behind, "route add fd77:1::7 via fd77:1::1");
        assert!(netlink.proxies(bridge.index).unwrap().is_empty());
        answer_for(&mut netlink, &bridge, &new).unwrap();
        answer_for(&mut netlink, &bridge, &new).unwrap();
        assert!(pings(Some(&old), "10.77.1.20"));
        assert!(pings(Some(&old), "fd77:1::20"));
        answer_for(&mut netlink, &bridge, &BTreeSet::new()).unwrap();
        assert!(netlink.proxies(bridge.index).unwrap().is_empty());
    });
}

#[test]
fn a_bridge_without_a_gateway_of_ours_is_somebody_elses() {
    in_netns(|| {
        ip("link add cni0 type bridge");
        ip("addr add 10.99.0.1/24 dev cni0");
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(
            find(&mut netlink, "ringway0", &networks(), None).unwrap(),
            None
        );
    });
}
