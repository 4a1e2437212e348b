//! Inputs to start from: good traffic of every kind, in each target's input format.
//!
//! `cargo run -p ringway-fuzz --example write_seeds` writes them to `fuzz/seeds/`; inputs that once
//! crashed a target lie beside them and are kept.

use ringway_packet::kit::{self, Build};
use ringway_packet::offload::VNET_HDR_LEN;

use crate::world::{VTEP1, VTEP2};

/// Target, name and bytes of every seed.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, frame) in frames() {
        seeds.push(("parse", name.to_owned(), [&[0, 0, 0][..], &frame].concat()));
    }
    for (name, frame, header) in superframes() {
        seeds.push(("gso", name.to_owned(), [&[0][..], &header, &frame].concat()));
    }
    for (name, batch) in batches() {
        let mut input = vec![0];
        batch.iter().for_each(|frame| append(&mut input, frame));
        seeds.push(("gro", name.to_owned(), input));
    }
    for (name, mtu, packet) in packets() {
        seeds.push((
            "fragment",
            name.to_owned(),
            [&u16::to_be_bytes(mtu)[..], &packet].concat(),
        ));
    }
    for (name, flags, size, message) in messages() {
        let input = [&[flags][..], &u16::to_be_bytes(size), &message].concat();
        seeds.push(("split", name.to_owned(), input));
    }
    for (name, ops) in journeys() {
        for variant in 0..4u8 {
            let mut input = vec![variant];
            for (side, frame) in &ops {
                input.extend_from_slice(&[*side, 1]);
                append(&mut input, frame);
            }
            seeds.push(("pipeline", format!("{name}-{variant}"), input));
        }
    }
    for (name, flags, messages) in arrivals() {
        for variant in 0..4u8 {
            let mut input = vec![variant, flags];
            for (side, datagrams) in &messages {
                // Over UDP where the tables have it.
                input.extend_from_slice(&[side | variant & 1, 0, datagrams.len() as u8 - 1]);
                datagrams.iter().for_each(|frame| append(&mut input, frame));
            }
            seeds.push(("arrivals", format!("{name}-{variant}"), input));
        }
    }
    for (name, text) in TEXTS {
        let target = if name.starts_with("config") {
            "config"
        } else {
            "api"
        };
        seeds.push((target, (*name).to_owned(), text.as_bytes().to_vec()));
    }
    seeds.push(("pcap", "two-packets".to_owned(), capture()));
    seeds
}

/// Messages of a socket: flags of the target, the size that came with it, and the bytes.
fn messages() -> Vec<(&'static str, u8, u16, Vec<u8>)> {
    let vxlan = |frame: Vec<u8>| [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat();
    let udp4 = |len| kit::udp("10.77.2.2:1", "10.77.1.2:2").payload_len(len);
    let udp6 = |len| kit::udp("[fd77:2::2]:1", "[fd77:1::2]:2").payload_len(len);
    let run = |one: Vec<u8>| [&one[..], &one, &one[..one.len() / 2]].concat();
    vec![
        ("superframe4", 2, 200, vxlan(udp4(450).frame())),
        ("superframe6", 2, 200, vxlan(udp6(450).frame())),
        (
            "superframe-tagged",
            2,
            200,
            vxlan(udp4(450).vlan(0).frame()),
        ),
        ("superframe-bare", 1, 200, udp6(450).packet()),
        ("run4", 2, 150, run(vxlan(udp4(100).frame()))),
        ("run6", 2, 170, run(vxlan(udp6(100).frame()))),
        ("run-bare", 1, 128, run(udp4(100).packet())),
        (
            "tcp4",
            2,
            1000,
            vxlan(
                kit::tcp("10.77.2.2:1", "10.77.1.2:2")
                    .payload_len(2500)
                    .frame(),
            ),
        ),
        (
            "arp",
            0,
            60,
            run(vxlan(kit::arp_request("10.77.2.2", "10.77.1.2"))),
        ),
    ]
}

fn append(input: &mut Vec<u8>, frame: &[u8]) {
    input.extend_from_slice(&(frame.len() as u16).to_be_bytes());
    input.extend_from_slice(frame);
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let udp4 = || kit::udp("10.77.1.2:4000", "10.77.2.2:53").payload(b"query");
    let tcp6 = || kit::tcp("[fd77:1::2]:4000", "[fd77:2::2]:80").payload(b"get");
    vec![
        ("udp4", udp4().frame()),
        ("tcp6", tcp6().frame()),
        (
            "tcp4-options",
            kit::tcp("10.77.1.2:1", "10.77.2.2:2")
                .tcp_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
                .frame(),
        ),
        ("udp4-two-tags", udp4().vlan(1).vlan(2).frame()),
        (
            "udp6-hop-by-hop",
            kit::udp("[fd77:1::2]:1", "[fd77:2::2]:2")
                .extension(0, &[1, 4, 0, 0, 0, 0])
                .frame(),
        ),
        (
            "udp4-fragment",
            udp4().payload(&[7; 64]).fragments(60).swap_remove(1),
        ),
        (
            "tcp6-fragment",
            tcp6().payload(&[7; 64]).fragments(100).swap_remove(0),
        ),
        ("ping4", kit::ping("10.77.1.2", "10.77.2.2").frame()),
        ("sctp", kit::sctp("10.77.1.2:1", "10.77.2.2:2").frame()),
        ("arp", kit::arp_request("10.77.1.2", "10.77.1.1")),
        ("solicitation", kit::solicitation("fd77:1::2", "fd77:1::3")),
    ]
}

fn superframes() -> Vec<(&'static str, Vec<u8>, [u8; VNET_HDR_LEN])> {
    let bytes: Vec<u8> = (0..400u16).map(|i| i as u8).collect();
    let made = |build: Build, size| {
        let (frame, offload) = build.payload(&bytes).offloaded(Some(size));
        let mut header = [0; VNET_HDR_LEN];
        offload.write(0, &mut header);
        (frame, header)
    };
    [
        (
            "tcp4",
            kit::tcp("10.77.1.2:1", "10.77.2.2:2").flags(kit::ACK | kit::PSH),
            100,
        ),
        (
            "tcp6",
            kit::tcp("[fd77:1::2]:1", "[fd77:2::2]:2").flags(kit::ACK | kit::FIN),
            150,
        ),
        ("udp4", kit::udp("10.77.1.2:1", "10.77.2.2:2"), 80),
        ("udp6", kit::udp("[fd77:1::2]:1", "[fd77:2::2]:2"), 399),
    ]
    .map(|(name, build, size)| {
        let (frame, header) = made(build, size);
        (name, frame, header)
    })
    .into()
}

fn batches() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    // Four frames that coalesce; `build` is given the number of payload bytes before.
    let stream = |build: fn(u32) -> Build| {
        (0..4u32).map(move |i| {
            let len = if i == 3 { 10 } else { 32 };
            let payload = &[i as u8; 32][..len];
            build(i * 32).id(i as u16).payload(payload).frame()
        })
    };
    let tcp4 = |seq| kit::tcp("10.77.1.2:1", "10.77.2.2:2").seq(seq);
    let tcp6 = |seq| kit::tcp("[fd77:1::2]:1", "[fd77:2::2]:2").seq(seq);
    let udp4 = |_| kit::udp("10.77.1.2:1", "10.77.2.2:2");
    let mixed = stream(tcp4).zip(stream(tcp6)).flat_map(|(a, b)| [a, b]);
    vec![
        ("tcp4", stream(tcp4).collect()),
        ("udp4", stream(udp4).collect()),
        ("mixed", mixed.collect()),
    ]
}

fn packets() -> Vec<(&'static str, u16, Vec<u8>)> {
    let build = || kit::udp("10.77.1.2:1", "10.77.2.2:2").payload(&[9; 300]);
    vec![
        ("plain", 100, build().packet()),
        (
            "options",
            120,
            build().options(&[0x94, 4, 0, 0, 7, 3, 4, 1]).packet(),
        ),
        ("fits", 1500, build().packet()),
    ]
}

/// Batches of messages from peers (see `arrivals`): flags, and of each message its sender and datagrams.
#[allow(clippy::type_complexity)]
fn arrivals() -> Vec<(&'static str, u8, Vec<(u8, Vec<Vec<u8>>)>)> {
    const NODE2: u8 = 0;
    const NODE3: u8 = 2;
    let run = |v6: bool, from: u32| {
        let (src, dst) = match v6 {
            false => ("10.77.2.2:1", "10.77.1.2:2"),
            true => ("[fd77:2::2]:1", "[fd77:1::2]:2"),
        };
        let build = kit::tcp(src, dst).macs(VTEP2, VTEP1).dont_fragment();
        let segment = |i: u32| build.clone().seq(from + 100 * i).payload_len(100).frame();
        (0..3).map(segment).collect::<Vec<_>>()
    };
    let udp = |len: usize| {
        let build = kit::udp("10.77.2.2:7", "10.77.1.3:8").macs(VTEP2, VTEP1);
        build.payload_len(len)
    };
    vec![
        (
            "run",
            0,
            vec![(NODE2, run(false, 1)), (NODE2, run(true, 1))],
        ),
        (
            "run-goes-on",
            4,
            vec![(NODE2, run(false, 1)), (NODE2, run(false, 301))],
        ),
        (
            "of-another",
            0,
            vec![(NODE2, run(false, 1)), (NODE3, run(false, 301))],
        ),
        (
            "datagrams",
            1,
            vec![(
                NODE2,
                vec![udp(60).frame(), udp(60).frame(), udp(9).frame()],
            )],
        ),
        (
            "no-superframes",
            2,
            vec![(NODE2, vec![udp(60).frame(), udp(60).frame()])],
        ),
        (
            "in-frames",
            8,
            vec![
                (NODE2, vec![udp(60).frame()]),
                (NODE2, vec![run(true, 1).remove(0)]),
            ],
        ),
        (
            "unfinished",
            4,
            vec![(NODE2, vec![udp(60).offloaded(None).0])],
        ),
    ]
}

/// A probe of a path (`ringway_switch::probe`), as a peer puts it into the tunnel.
fn probe(kind: u8, payload: u16) -> Vec<u8> {
    let mut frame = [&VTEP1.0[..], &VTEP2.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend_from_slice(&payload.to_be_bytes());
    frame.extend_from_slice(&[253, 1]);
    frame.extend_from_slice(&[0; 16]);
    frame.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(b"rwprobe\x01rwp1");
    frame.extend_from_slice(&[kind, 0, 0, 64, 1, 2, 3, 4, 5, 6, 7, 8]);
    frame.resize(54 + usize::from(payload), 0);
    frame
}

/// Frames on their way through the pipeline, each with the side it enters by (see `pipeline`).
#[allow(clippy::type_complexity)]
fn journeys() -> Vec<(&'static str, Vec<(u8, Vec<u8>)>)> {
    const ALICE: u8 = 1;
    const UNDERLAY: u8 = 4;
    let carol4 = || {
        kit::udp("10.77.2.2:1", "10.77.1.2:2")
            .macs(VTEP2, VTEP1)
            .payload(b"hello")
    };
    let carol6 = || kit::tcp("[fd77:2::2]:1", "[fd77:1::2]:2").macs(VTEP2, VTEP1);
    let node4 = || kit::tcp("192.168.77.2:1", "10.77.1.2:2").macs(VTEP2, VTEP1);
    let node6 = || kit::tcp("[fd00:77::2]:1", "[fd77:1::2]:2").macs(VTEP2, VTEP1);
    let in_vxlan = |inner: &[u8]| {
        let body = [&[8, 0, 0, 0, 0, 0, 1, 0][..], inner].concat();
        kit::udp("192.168.77.2:50000", "192.168.77.1:8472")
            .payload(&body)
            .frame()
    };
    let in_udp = |packet: &[u8]| {
        kit::udp("[fd00:77::2]:50000", "[fd00:77::1]:8285")
            .payload(packet)
            .frame()
    };
    vec![
        (
            "from-a-pod",
            vec![
                (
                    ALICE,
                    kit::udp("10.77.1.2:1", "10.77.2.2:2").payload(b"a").frame(),
                ),
                (
                    ALICE,
                    kit::tcp("[fd77:1::2]:1", "[fd77:2::2]:2")
                        .payload(b"b")
                        .frame(),
                ),
                (
                    ALICE,
                    kit::udp("10.77.1.2:1", "10.77.3.2:2")
                        .payload(&[3; 600])
                        .frame(),
                ),
            ],
        ),
        (
            "same-node",
            vec![
                (ALICE, kit::udp("10.77.1.2:1", "10.77.1.3:2").frame()),
                (ALICE, kit::ping("fd77:1::2", "fd77:1::1").frame()),
                (0, kit::udp("[fd77:1::1]:1", "[fd77:1::3]:2").frame()),
            ],
        ),
        (
            "errors",
            vec![
                (ALICE, kit::udp("10.77.1.2:1", "10.77.2.2:2").ttl(1).frame()),
                (ALICE, kit::udp("[fd77:1::2]:1", "[fd77:1::99]:2").frame()),
                (
                    ALICE,
                    kit::udp("[fd77:1::2]:1", "[fd77:2::2]:2")
                        .payload(&[4; 1500])
                        .frame(),
                ),
            ],
        ),
        (
            "neighbours",
            vec![
                (ALICE, kit::arp_request("10.77.1.2", "10.77.1.1")),
                (ALICE, kit::solicitation("fd77:1::2", "fd77:1::3")),
                (ALICE, kit::solicitation("::", "fd77:1::2")),
            ],
        ),
        (
            "from-the-underlay",
            vec![
                (UNDERLAY, in_vxlan(&carol4().frame())),
                (UNDERLAY, in_vxlan(&carol6().frame())),
                (UNDERLAY, in_udp(&carol6().packet())),
            ],
        ),
        (
            "from-a-peer",
            vec![
                (6, carol4().frame()),
                (7, carol4().packet()),
                (6, carol6().frame()),
                (7, carol6().packet()),
            ],
        ),
        (
            "from-a-peers-node",
            vec![
                (6, node4().frame()),
                (7, node4().packet()),
                (6, node6().frame()),
                (7, node6().packet()),
            ],
        ),
        (
            "probes",
            vec![
                (6, probe(1, 1000)),
                (7, probe(1, 24)[14..].to_vec()),
                (6, probe(2, 24)),
                (UNDERLAY, in_vxlan(&probe(3, 24))),
            ],
        ),
        // Carol asks the node for a port that leads to Alice, whose answers the node gets.
        (
            "translated-for-a-peers-pod",
            vec![
                (0, kit::udp("10.77.2.2:1", "10.77.1.2:2").frame()),
                (ALICE, kit::udp("10.77.1.2:2", "10.77.2.2:1").frame()),
                (0, kit::tcp("[fd77:2::2]:1", "[fd77:1::2]:2").frame()),
                (ALICE, kit::tcp("[fd77:1::2]:2", "[fd77:2::2]:1").frame()),
            ],
        ),
    ]
}

const TEXTS: &[(&str, &str)] = &[
    (
        "attach",
        r#"{"netns":"blue","ifname":"eth0","ips":["10.77.1.2","fd77:1::2"],"mac":"0a:58:0a:4d:01:02","name":"blue","mtu":1450}"#,
    ),
    (
        "attach-by-path",
        r#"{"netns":"/proc/12/ns/net","ifname":"eth0","ips":["10.77.1.2"]}"#,
    ),
    ("detach-by-name", r#"{"name":"blue/eth0"}"#),
    ("detach-by-interface", r#"{"netns":"blue","ifname":"eth0"}"#),
    (
        "config-least",
        "[node]\npod_cidrs = [\"10.77.1.0/24\"]\n[underlay]\ninterface = \"eth0\"\n",
    ),
    (
        "config-kubernetes",
        r#"[node]
cluster_cidrs = ["10.244.0.0/16"]
subnet_env = "/run/flannel/subnet.env"
[underlay]
[kubernetes]
node = "node1"
kubeconfig = "/etc/ringway/kubeconfig"
api_server = "https://192.168.77.9:6443"
"#,
    ),
    (
        "config-etcd",
        r#"[node]
name = "node1"
[underlay]
interface = "eth0"
[etcd]
endpoints = ["https://192.168.77.9:2379"]
prefix = "/coreos.com/network"
ca_file = "/etc/etcd/ca.pem"
cert_file = "/etc/etcd/node1.pem"
key_file = "/etc/etcd/node1.key"
username = "ringway"
password_file = "/etc/etcd/password"
"#,
    ),
    (
        "config-most",
        r#"[node]
name = "node1"
pod_cidrs = ["10.77.1.0/24", "fd77:1::/64"]
cluster_cidrs = ["10.77.0.0/16", "fd77::/32"]
interface = "ringway0"
[underlay]
interface = "eth0"
addresses = ["192.168.77.1", "fd00:77::1"]
encap = "vxlan"
vni = 1
vxlan_port = 8472
udp_port = 8285
io = "auto"
family = "match"
udp_checksum = "auto"
[workers]
count = 1
cpus = [0]
polling = "adaptive"
idle_spin_us = 50
[[peers]]
name = "node2"
addresses = ["192.168.77.2", "fd00:77::2"]
pod_cidrs = ["10.77.2.0/24", "fd77:2::/64"]
encap = "udp"
vtep_mac = "0e:00:00:00:00:02"
"#,
    ),
];

fn capture() -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (_, frame) in frames().into_iter().take(2) {
        for word in [1, 2, frame.len() as u32, frame.len() as u32] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&frame);
    }
    file
}
