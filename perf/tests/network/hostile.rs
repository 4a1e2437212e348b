//! Bad packets at a running agent: the right counter moves, and everything goes on.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Family, Mode, Node, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::{Pattern, ping};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

const VNI: u32 = 1;
/// Node 1's VTEP MAC by the address plan, then node 2's as the sender.
const INNER_MACS: [u8; 12] = [0x0a, 0x58, 0x0a, 0x4d, 1, 0, 0x0a, 0x58, 0x0a, 0x4d, 2, 0];

#[test]
fn bad_packets_from_the_underlay_are_counted_by_reason() {
    network_test(
        "bad_packets_from_the_underlay_are_counted_by_reason",
        Duration::from_secs(60),
        || bad_packets(&RingwayOptions::default()),
    );
}

pub(crate) fn bad_packets(options: &RingwayOptions) {
    let mut topology = Topology::ringway(Mode::Cloud, options).unwrap();
    let [p1, _, p3] = topology.add_three_pods().unwrap();
    topology
        .n2
        .ns
        .ip("addr add 192.168.77.99/24 dev eth0")
        .unwrap();
    let (peer, stranger) = ("192.168.77.2:0", "192.168.77.99:0");
    let (good, foreign) = (inner([10, 77, 2, 2], &p1), inner([10, 99, 0, 1], &p1));
    let no_flag = [&[0; 8], &good[..]].concat();
    let cases: [(&str, &str, Vec<u8>); 7] = [
        ("unknown_peer", stranger, vxlan(VNI, &good)),
        ("foreign_inner_source", peer, vxlan(VNI, &foreign)),
        ("unknown_vni", peer, vxlan(77, &good)),
        ("malformed_vxlan", peer, vec![8, 0, 0]),
        ("malformed_vxlan", peer, no_flag),
        ("malformed_ethernet", peer, vxlan(VNI, &good[..9])),
        ("malformed_ipv4", peer, vxlan(VNI, &good[..20])),
    ];
    for (reason, from, datagram) in cases {
        let sender = topology
            .n2
            .ns
            .run(|| UdpSocket::bind(from))
            .unwrap()
            .unwrap();
        let before = topology.n1.drops().unwrap();
        for _ in 0..10 {
            sender.send_to(&datagram, "192.168.77.1:8472").unwrap();
        }
        moved(&mut topology.n1, &before, reason, 10);
    }
    lives(&mut topology.n1, &p1, &p3);
}

#[test]
fn a_pod_that_lies_about_itself_is_not_forwarded() {
    network_test(
        "a_pod_that_lies_about_itself_is_not_forwarded",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
            let [p1, p2, p3] = topology.add_three_pods().unwrap();
            for (family, length, reason) in [
                (Family::V4, "32", "spoofed_ipv4"),
                (Family::V6, "128 nodad", "spoofed_ipv6"),
            ] {
                let stolen = p2.ip(family);
                // Neighbours are known then: what follows is the packet, not a question.
                assert!(ping(&p1.ns, p3.ip(family), 1, 56, LIMIT).unwrap().all());
                let (length, flags) = length.split_once(' ').unwrap_or((length, ""));
                p1.ns
                    .ip(&format!("addr add {stolen}/{length} dev eth0 {flags}"))
                    .unwrap();
                let before = topology.n1.drops().unwrap();
                let target = p3.ip(family);
                let receiver = p3
                    .ns
                    .run(|| UdpSocket::bind((target, 7777)))
                    .unwrap()
                    .unwrap();
                receiver.set_nonblocking(true).unwrap();
                let sender = p1.ns.run(|| UdpSocket::bind((stolen, 0))).unwrap().unwrap();
                for _ in 0..10 {
                    sender.send_to(b"stolen", (target, 7777)).unwrap();
                }
                moved(&mut topology.n1, &before, reason, 10);
                assert!(
                    receiver.recv(&mut [0; 16]).is_err(),
                    "{family}: it was delivered"
                );
                drop(sender);
                p1.ns
                    .ip(&format!("addr del {stolen}/{length} dev eth0"))
                    .unwrap();
            }
            let link = p1.ns.ip("-j link show eth0").unwrap();
            let link: serde_json::Value = serde_json::from_str(&link).unwrap();
            let own_mac = link[0]["address"].as_str().unwrap().to_owned();
            let before = topology.n1.drops().unwrap();
            p1.ns.ip("link set eth0 address 02:00:00:00:be:ef").unwrap();
            // Changing the MAC of an interface that is up flushes nothing in the switch.
            assert!(
                !ping(&p1.ns, p3.ip(Family::V4), 2, 56, Duration::from_millis(200))
                    .unwrap()
                    .all()
            );
            moved(&mut topology.n1, &before, "spoofed_mac", 1);
            p1.ns
                .ip(&format!("link set eth0 address {own_mac}"))
                .unwrap();
            lives(&mut topology.n1, &p1, &p3);
        },
    );
}

#[test]
fn an_arp_flood_is_counted_and_harms_nobody() {
    network_test(
        "an_arp_flood_is_counted_and_harms_nobody",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
            let [p1, p2, p3] = topology.add_three_pods().unwrap();
            // Each address nobody has is asked for twenty times, ten milliseconds apart.
            p1.ns
                .sysctl("ipv4.neigh.eth0.retrans_time_ms", "10")
                .unwrap();
            p1.ns.sysctl("ipv4.neigh.eth0.mcast_solicit", "20").unwrap();
            let before = topology.n1.drops().unwrap();
            let sender = p1.ns.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
            for host in 100..250 {
                // A later send reports the earlier one's failure.
                let _ = sender.send_to(b"anybody?", (Ipv4Addr::new(10, 77, 1, host), 9));
            }
            moved(&mut topology.n1, &before, "no_neighbour", 1000);
            assert!(
                ping(&p2.ns, p3.ip(Family::V4), 5, 56, LIMIT).unwrap().all(),
                "another pod goes on meanwhile"
            );
            lives(&mut topology.n1, &p1, &p3);
        },
    );
}

#[test]
fn random_bytes_from_a_peer_are_survived() {
    network_test(
        "random_bytes_from_a_peer_are_survived",
        Duration::from_secs(60),
        || random_bytes(&RingwayOptions::default()),
    );
}

pub(crate) fn random_bytes(options: &RingwayOptions) {
    let mut topology = Topology::ringway(Mode::Cloud, options).unwrap();
    let [p1, _, p3] = topology.add_three_pods().unwrap();
    let sender = topology
        .n2
        .ns
        .run(|| UdpSocket::bind("192.168.77.2:0"))
        .unwrap()
        .unwrap();
    let before = topology.n1.drops().unwrap();
    let good = vxlan(VNI, &inner([10, 77, 2, 2], &p1));
    let mut random = Pattern::new(99);
    let mut bytes = [0; 256];
    for round in 0..20_000 {
        random.fill(&mut bytes);
        // Half of it noise behind a good VXLAN header, half a good packet with bytes changed.
        let mut datagram = good.clone();
        if round % 2 == 0 {
            datagram.truncate(8);
            datagram.extend(&bytes[..usize::from(bytes[0])]);
        } else {
            for pair in bytes[..8].chunks(2) {
                let at = 8 + usize::from(pair[0]) % (datagram.len() - 8);
                datagram[at] = pair[1];
            }
        }
        sender.send_to(&datagram, "192.168.77.1:8472").unwrap();
        // Faster than the agent reads would only fill its socket.
        if round % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    eventually("most of it is counted", LIMIT, || {
        topology.n1.drops().unwrap().since(&before).total() > 10_000
    });
    lives(&mut topology.n1, &p1, &p3);
}

/// `reason` grows by at least `least`, and nothing else by as much.
#[track_caller]
fn moved(node: &mut Node, before: &ringway_perf::lab::Drops, reason: &str, least: u64) {
    let mut since = ringway_perf::lab::Drops::default();
    for _ in 0..200 {
        since = node.drops().unwrap().since(before);
        if since.get(reason) >= least {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        since.get(reason) >= least,
        "{reason} did not grow by {least}; what grew: {since}"
    );
    assert!(
        since.total() - since.get(reason) < least.max(2),
        "only {reason} was due; what grew: {since}"
    );
}

#[track_caller]
fn lives(node: &mut Node, from: &Pod, to: &Pod) {
    let agent = node.agent().unwrap();
    assert!(
        agent.ended().is_none(),
        "the agent ended: {:?}\n{}",
        agent.ended(),
        agent.log()
    );
    for family in Family::BOTH {
        let report = ping(&from.ns, to.ip(family), 3, 56, LIMIT).unwrap();
        assert!(
            report.all(),
            "{family} afterwards: {report}\n{}",
            agent.log()
        );
    }
}

/// VXLAN header with the I flag (RFC 7348 section 5) before `inner`.
fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0], &(vni << 8).to_be_bytes()[..], inner].concat()
}

/// Ethernet, IPv4 and UDP from `source` to the pod, all checksums good.
fn inner(source: [u8; 4], to: &Pod) -> Vec<u8> {
    let IpAddr::V4(to) = to.ip(Family::V4) else {
        unreachable!("V4 was asked for")
    };
    let mut ip = vec![0x45, 0, 0, 36, 0, 1, 0x40, 0, 64, 17, 0, 0];
    ip.extend(source);
    ip.extend(to.octets());
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    // UDP checksum 0: none (RFC 768).
    let udp = [0x30, 0x39, 0x1e, 0x61, 0, 16, 0, 0];
    [&INNER_MACS[..], &[8, 0], &ip, &udp, b"8 bytes!"].concat()
}
