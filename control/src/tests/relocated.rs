//! Pods whose interface, or whose network, is not what it was when they were attached.

use ringway_kernel::netns::run_in;

use super::*;
use crate::view::NotServed;
use std::process::Command;

/// `ip ARGS` inside a pod.
fn ip(pod: &Pod, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let run = || Command::new("ip").args(&words).output().unwrap();
    let output = run_in(&pod.netns(), run).unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}

#[test]
fn an_interface_that_was_renamed_or_moved_is_found_again() {
    in_netns(|| {
        let (node, renamed, moved, inner) = (Node::new(), Pod::new(), Pod::new(), Pod::new());
        for workers in [1, 2] {
            let mut control = node.start(workers);
            control
                .attach(&request(&renamed, "renamed", &["10.77.1.2", "fd77:1::2"]))
                .unwrap();
            control
                .attach(&request(&moved, "moved", &["10.77.1.3", "fd77:1::3"]))
                .unwrap();
            control.stop();
            for line in [
                "link set eth0 down",
                "link set eth0 name vpn0",
                "link set vpn0 up",
            ] {
                ip(&renamed, line);
            }
            // A namespace that a process of the pod has made, as VPN containers do.
            let sleep = || Command::new("sleep").arg("60").spawn().unwrap();
            let mut process = run_in(&inner.netns(), sleep).unwrap();
            ip(&moved, &format!("link set eth0 netns {}", process.id()));

            let mut control = node.start(workers);
            assert_eq!(node.saved(), ["moved", "renamed"]);
            for at in ["10.77.1.2", "fd77:1::2", "10.77.1.3", "fd77:1::3"] {
                let found = target(&control, at);
                assert!(matches!(found, Some(Target::Port(_))), "{at}: {found:?}");
            }
            assert_eq!(control.pods.len(), 2);
            // What is taken away is the interface itself, wherever it is.
            for name in ["renamed", "moved"] {
                assert!(detach(&mut control, name).existed);
            }
            settle(&mut control);
            for pod in [&renamed, &moved, &inner] {
                assert_gone(pod);
            }
            control.stop();
            process.kill().unwrap();
            process.wait().unwrap();
            Netlink::open().unwrap().delete_link("ringway0").unwrap();
        }
    });
}

#[test]
fn pods_of_another_pod_network_are_kept_and_named() {
    in_netns(|| {
        let (node, pod, other) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        let ips = ["10.77.1.2", "fd77:1::2"];
        control.attach(&request(&pod, "old", &ips)).unwrap();
        control.stop();
        let text = include_str!("../../../config/ringway.toml")
            .replace("10.77.1.0/24", "10.79.1.0/24")
            .replace("fd77:1::/64", "fd79:1::/64");
        let mut config = Config::parse(Path::new("t"), &text).unwrap();
        config.node.state_dir = node.config(1).node.state_dir;
        let mut control = Control::start(config).unwrap();
        assert_eq!(node.saved(), ["old"]);
        let status = control.view().status;
        assert_eq!(status.pods, 0);
        let [NotServed { pod: name, why }] = &status.not_served[..] else {
            panic!("{:?}", status.not_served);
        };
        assert_eq!(name, "old");
        assert!(
            why.contains("10.77.1.2") && why.contains("10.79.1.0/24"),
            "{why}"
        );
        // The node itself has moved on, whole: nothing of the old network is left.
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link("ringway0").unwrap().index;
        let addresses = netlink.addresses(index).unwrap();
        let mut addresses: Vec<String> = addresses.iter().map(|a| a.ip.to_string()).collect();
        addresses.sort();
        assert_eq!(addresses, ["10.79.1.0", "10.79.1.1", "fd79:1::1"]);
        let new = ["10.79.1.2", "fd79:1::2"];
        control.attach(&request(&other, "new", &new)).unwrap();
        assert!(detach(&mut control, "old").existed);
        assert_gone(&pod);
        assert!(control.view().status.not_served.is_empty());
        control.stop();
    });
}

/// Two nodes on one machine, in namespaces of their own and with the same addresses.
#[test]
fn another_nodes_interface_with_the_same_address_is_left_alone() {
    in_netns(|| {
        let (node, pod, foreign) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        let ips = ["10.77.1.2", "fd77:1::2"];
        let mac = control.attach(&request(&pod, "gone", &ips)).unwrap().mac;
        control.stop();
        pod.netlink().delete_link("eth0").unwrap();
        let sleep = || {
            tap::create_persistent("eth0", &TapOptions::default()).unwrap();
            Command::new("sleep").arg("60").spawn().unwrap()
        };
        let mut process = run_in(&foreign.netns(), sleep).unwrap();
        ip(&foreign, &format!("link set eth0 address {mac}"));
        ip(&foreign, "link set eth0 alias ringway-of-somebody-else");
        let control = node.start(1);
        assert!(control.pods.is_empty());
        assert_eq!(node.saved(), [""; 0]);
        assert_eq!(links(&foreign), ["lo", "eth0"]);
        control.stop();
        process.kill().unwrap();
        process.wait().unwrap();
    });
}
