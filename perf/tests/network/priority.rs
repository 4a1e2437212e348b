//! Frames with a priority tag (VLAN 0): to a pod, to another node's, to the node, as if they had none.

use crate::common::{LIMIT, assert_none};
use crate::harness::network_test;
use nix::net::if_::if_nametoindex;
use ringway_packet::{kit, mac::MacAddr};
use ringway_perf::lab::{Family, Mode, Netns, RingwayOptions, Topology};
use ringway_ports::raw::RawSender;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

fn mac_of(ns: &Netns) -> MacAddr {
    let link = ns.ip("-j link show eth0").unwrap();
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    let octets = link[0]["address"].as_str().unwrap().split(':');
    let octets: Vec<u8> = octets
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    MacAddr(octets.try_into().unwrap())
}

#[test]
fn priority_tagged_frames_arrive() {
    let name = "priority_tagged_frames_arrive";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [p1, p2, p3] = topology.add_three_pods().unwrap();
        let sender = p1
            .ns
            .run(|| RawSender::open(if_nametoindex("eth0").unwrap()))
            .unwrap()
            .unwrap();
        let (own, node) = (mac_of(&p1.ns), topology.n1.ns.clone());
        let before = topology.n1.drops().unwrap();
        let mut failures = Vec::new();
        for family in Family::BOTH {
            let source = SocketAddr::new(p1.ip(family), 5000);
            let gateway = topology.n1.gateway(family);
            for (what, to, address, mac) in [
                ("switched", &p2.ns, p2.ip(family), mac_of(&p2.ns)),
                ("routed", &p2.ns, p2.ip(family), kit::GATEWAY_MAC),
                ("tunnelled", &p3.ns, p3.ip(family), kit::GATEWAY_MAC),
                ("to the node", &node, gateway, kit::GATEWAY_MAC),
            ] {
                let target = SocketAddr::new(address, 7777);
                let receiver = to.run(|| UdpSocket::bind(target)).unwrap().unwrap();
                receiver.set_read_timeout(Some(LIMIT)).unwrap();
                let build = kit::udp(&*source.to_string(), &*target.to_string());
                let build = build.macs(own, mac).vlan(5 << 13).payload(what.as_bytes());
                assert_eq!(sender.send(&[&build.frame()]).unwrap(), 1);
                let mut bytes = [0; 100];
                match receiver.recv_from(&mut bytes) {
                    Ok((len, from)) if from == source && &bytes[..len] == what.as_bytes() => {}
                    other => failures.push(format!("{what}, {family}: {other:?}")),
                }
            }
        }
        let drops = topology.n1.drops().unwrap().since(&before);
        if drops.get("vlan_tagged") > 0 {
            failures.push(format!("drops: {drops}"));
        }
        assert_none(&failures);
    });
}
