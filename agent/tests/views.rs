//! Every verb that shows something, against an answer such as a large node gives: 80 columns, nothing lost,
//! one style of JSON.

mod common;

use common::{Files, answering, output, ringway};
use ringway_control::underlay::{Choice, PassedOver};
use ringway_control::view::{
    BandwidthLimits, Buffers, Condition, Count, Detached, Drop, DropAt, DropCount, Drops, HostPort,
    KernelLoss, LastDrop, LeftPod, MacRow, NeighbourRow, NextHopStatus, NotServed, PathRow,
    PeerHealth, PeerRow, PeerState, Pod, ReconcileStatus, RingStatus, RouteRow, SocketCounts,
    SocketStatus, SourceStatus, Status, Totals, Traffic, UnderlayStatus, WorkerStatus,
};
use ringway_requests::ApiError;
use serde_json::{Value, json};

const MANY: u64 = 18_446_744_073_709;
const LONG: &str = "production-payments/checkout-frontend-canary-7d9c6b5f4d-x2x9k/eth0";

fn v6(n: usize) -> String {
    format!("2001:db8:1234:5678:9abc:def0:1234:{n:x}")
}

fn traffic() -> Traffic {
    Traffic {
        frames: MANY,
        packets: MANY * 40,
        bytes: MANY * 60_000,
    }
}

fn pods() -> Vec<Pod> {
    let pod = |n: usize| Pod {
        name: if n == 0 {
            "web/eth0".into()
        } else {
            format!("{LONG}{n}")
        },
        port: n as u32 + 1,
        netns: format!("/var/run/netns/cni-0d7c5b1e-3f6a-4a58-9d0e-7b6d2f1a0c9{n}"),
        ifname: "eth0".into(),
        mac: format!("0a:58:0a:4d:01:{n:02x}"),
        ips: vec![format!("10.77.1.{n}/24"), format!("{}/64", v6(n))],
        gateways: vec!["10.77.1.1".parse().unwrap(), v6(1).parse().unwrap()],
        mtu: 1450,
        queues: 8,
        container_id: Some("f".repeat(64)),
        bandwidth: Some(BandwidthLimits {
            ingress_rate: 1,
            ingress_burst: 2,
            egress_rate: 3,
            egress_burst: 4,
        }),
        port_mappings: vec![HostPort {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: "192.168.77.1".into(),
        }],
        from_pod: traffic(),
        to_pod: traffic(),
        drops: vec![DropCount {
            reason: "rate_limited".into(),
            count: 7,
        }],
    };
    (0..12).map(pod).collect()
}

fn status() -> Status {
    let count = Count {
        frames: MANY,
        packets: MANY * 40,
    };
    let ring = |queue| RingStatus {
        queue,
        worker: queue as usize,
        mode: "generic".into(),
        mode_refused: Some("the driver of eth0 (veth) has no native mode with this MTU".into()),
        zero_copy: false,
        zero_copy_refused: Some("Operation not supported (os error 95)".into()),
        busy_poll: true,
    };
    let hop = |n| NextHopStatus {
        dst: v6(n).parse().unwrap(),
        by: "socket".into(),
        next_hop: format!("{} is not answered by any neighbour of eth0 yet", v6(n + 1)),
    };
    let worker = |index| WorkerStatus {
        index,
        cpu: Some(index),
        rounds: MANY,
        busy_rounds: MANY / 3,
        busy_us: MANY,
        sleeps: MANY,
        buffers: Buffers {
            total: 16_384,
            tx_full: MANY,
            rx_full: MANY,
            fill_empty: MANY,
            fill_starved: MANY,
            rx_dropped: MANY,
            invalid: MANY,
            ..Buffers::default()
        },
        sockets: SocketCounts {
            overflow: MANY,
            truncated: MANY,
            ..SocketCounts::default()
        },
    };
    Status {
        config: ringway_control::view::ConfigStatus {
            file: "/etc/ringway/ringway.toml".into(),
            ..Default::default()
        },
        sources: vec![SourceStatus {
            name: "kubernetes".into(),
            state: ringway_cluster::source::State::Stale,
            confirmed_ago_s: Some(7260),
            error: Some("connecting to https://10.96.0.1:443: Connection refused (os error 111)".into()),
            problems: vec![
                "node ip-10-0-12-35.eu-central-1.compute.internal has 10.77.1.0/24, which is node2's: it was first".into(),
            ],
        }],
        version: "0.1.0".into(),
        pid: 4_194_303,
        uptime_s: 90_061,
        node: "ip-10-0-12-34.eu-central-1.compute.internal.example.com".into(),
        pod_cidrs: vec!["10.77.1.0/24".into(), "2001:db8:1234:5678::/64".into()],
        gateways: vec!["10.77.1.1".parse().unwrap(), v6(1).parse().unwrap()],
        interface: "ringway0".into(),
        pod_mtu: 1430,
        underlay: UnderlayStatus {
            interface: "enp129s0f0np0".into(),
            addresses: vec!["192.168.77.1".parse().unwrap(), v6(1).parse().unwrap()],
            mtu: 1500,
            io: "socket, because the driver of enp129s0f0np0 does AF_XDP only with a copy".into(),
            rings: vec![ring(0), ring(1)],
            xdp_fallbacks: 3,
            path_mtu_ignored: MANY,
            next_hops: (10..30).map(hop).collect(),
            sockets: vec![SocketStatus {
                local: format!("[{}]:8472", v6(1)),
                encap: "vxlan, VNI 16777215".into(),
                gso: true,
                gro: true,
                receive_buffer_bytes: 8_388_608,
            }],
            choices: vec![Choice {
                address: v6(1).parse().unwrap(),
                why: "the kernel sends from it towards ip-10-0-12-35.eu-central-1.compute.internal".into(),
                passed_over: vec![PassedOver {
                    address: v6(0xdead).parse().unwrap(),
                    why: "deprecated; temporary; of a single host (/128)".into(),
                }],
            }],
        },
        reconcile: ReconcileStatus {
            restored: MANY,
            last_restored: Some(format!("route {}/64 is via {} again, was not there", v6(3), v6(4))),
            paused_s: Some(86_400),
        },
        state_error: Some("/var/lib/ringway/state.json: No space left on device (os error 28)".into()),
        conditions: vec![Condition {
            what: "chain inet firewalld filter_FORWARD".into(),
            wanted: "open for pods' packets".into(),
            found: "closed, as far as can be seen".into(),
            why: "firewall-cmd --permanent --zone=trusted --add-interface=ringway0".into(),
            since_s: 90_061,
        }],
        left_pods: vec![LeftPod {
            ips: vec!["10.77.1.7".parse().unwrap(), v6(7).parse().unwrap()],
            container_id: "9f2c".repeat(16),
            pod: Some("kube-system/coredns-5d78c9869d-x2x9p".into()),
            remedy: "kubectl -n kube-system delete pod coredns-5d78c9869d-x2x9p".into(),
        }],
        not_served: vec![NotServed {
            pod: LONG.into(),
            why: "its interface is in use by another process".into(),
        }],
        workers: (0..12).map(worker).collect(),
        rules: "masquerade, 12 host ports; let through in inet firewalld filter_FORWARD, ip filter FORWARD".into(),
        log_lines_lost: 12,
        pods: 110,
        pods_without_lanes: 7,
        peers: 1000,
        peer_states: [(PeerState::Reached, 1), (PeerState::Mute, 1)].into(),
        snapshot: 77,
        totals: Totals {
            received: count,
            delivered: count,
            tunnelled: count,
            answered: count,
            ignored: count,
            dropped: count,
            originated: count,
            returned: count,
            lost_packets: MANY,
            copied_bytes: MANY,
        },
    }
}

fn drops() -> Drops {
    let at = |kind: &str, name: String, direction: &str| DropAt {
        kind: kind.into(),
        name,
        direction: direction.into(),
        packets: MANY,
        rate: None,
    };
    let drop = |reason: &str| {
        let pods = (0..110).map(|n| at("pod", format!("{LONG}{n}"), "from"));
        let peer = at("peer", "node-0002.example.com".into(), "to");
        Drop {
            reason: reason.into(),
            frames: MANY,
            lost_packets: MANY,
            rate: None,
            last_ago_ms: Some(MANY),
            cause: "a frame came from a pod with a source address that is not the pod's own, which is what a \
                    misconfigured or malicious container sends"
                .into(),
            remedy: "see the addresses of the pod (ip addr) and those it was attached with (ringway pods)".into(),
            at: pods.chain([peer, at("node", "ringway0".into(), "from")]).collect(),
        }
    };
    let ignored = [
        "router_solicitation",
        "listener_report",
        "duplicate_address_detection",
        "lldp",
    ];
    let kernel = |counter: &str, at: String| KernelLoss {
        counter: counter.into(),
        at,
        count: MANY,
        rate: None,
        cause: "a pod sent, and the queue of its interface was full: nobody read it fast enough"
            .into(),
        remedy: "give the workers processors of their own, or raise `workers.count`".into(),
    };
    let taps = (0..110).map(|n| kernel("tap_tx_dropped", format!("pod {LONG}{n}")));
    let socket = kernel("socket_dropped", format!("[{}]:8472, worker 11", v6(1)));
    let nowhere = Drop {
        reason: "not_forwarded_inner".into(),
        frames: 1,
        ..Drop::default()
    };
    Drops {
        drops: vec![drop("foreign_inner_source"), drop("unknown_vni"), nowhere],
        ignored: ignored
            .map(|reason| DropCount {
                reason: reason.into(),
                count: MANY,
            })
            .to_vec(),
        kernel: taps.chain([socket]).collect(),
        unread: vec![format!(
            "pod {LONG}: network namespace /run/netns/gone: No such file or directory (os error 2)"
        )],
    }
}

fn last_drops() -> Vec<LastDrop> {
    let frame = |n: usize| LastDrop {
        reason: "duplicate_address_detection".into(),
        time_ns: MANY * 1000 + n as u64,
        kind: "pod".into(),
        name: format!("{LONG}{n}"),
        length: 65_000,
        packets: 44,
        contents: "datagram".into(),
        summary: format!(
            "[{}]:65535 > [{}]:65535 TCP [SFRPU.] 65000 bytes",
            v6(1),
            v6(n)
        ),
        bytes: "0a580a4d0102ffee".repeat(16),
    };
    (0..20).map(frame).collect()
}

/// Every answer there is, by path.
fn answers() -> Vec<(&'static str, Value)> {
    let peer = |n: usize| PeerRow {
        peer: n as u32,
        name: format!("ip-10-0-12-{n}.eu-central-1.compute.internal"),
        addresses: vec![
            format!("192.168.77.{n}").parse().unwrap(),
            v6(n).parse().unwrap(),
        ],
        pod_cidrs: vec![format!("10.77.{n}.0/24"), format!("2001:db8:1:{n:x}::/64")],
        from_peer: traffic(),
        to_peer: traffic(),
        health: Some(PeerHealth {
            state: [PeerState::Mute, PeerState::BlackHole][n % 2],
            since_s: 86_400,
            address: v6(n).parse().unwrap(),
            round_trip_us: Some(12_345),
            probes: 123_456,
            lost: 789,
            verified_mtu: Some(1430),
        }),
    };
    let path = |n: usize| PathRow {
        path: n as u32,
        peer: format!("ip-10-0-12-{n}.eu-central-1.compute.internal"),
        carries: "IPv6".into(),
        encap: "vxlan, VNI 16777215".into(),
        src: v6(1).parse().unwrap(),
        dst: v6(n).parse().unwrap(),
        port: 8472,
        mtu: 1430,
        dst_mac: "0a:58:0a:4d:02:00".into(),
    };
    let route = |n: usize| RouteRow {
        prefix: format!("{}/128", v6(n)),
        target: format!("port {n}"),
        name: LONG.into(),
    };
    vec![
        ("/v1/status", json!(status())),
        ("/v1/pods", json!(pods())),
        ("/v1/drops", json!(drops())),
        ("/v1/drops?all=true", json!(drops())),
        ("/v1/drops/last", json!(last_drops())),
        ("/v1/drops/last?reason=no_route", json!(last_drops())),
        (
            "/v1/tables/mac",
            json!([MacRow { mac: "0a:58:0a:4d:01:02".into(), port: 1, name: LONG.into() }]),
        ),
        ("/v1/tables/routes", json!((1..9).map(route).collect::<Vec<_>>())),
        ("/v1/tables/peers", json!((2..200).map(peer).collect::<Vec<_>>())),
        (
            "/v1/tables/neighbours",
            json!([NeighbourRow { ip: v6(2).parse().unwrap(), mac: "0a:58:0a:4d:01:02".into() }]),
        ),
        ("/v1/tables/paths", json!((2..9).map(path).collect::<Vec<_>>())),
        ("/v1/attach", json!(pods()[1])),
        (
            "/v1/detach",
            json!(Detached {
                name: LONG.into(),
                existed: true,
                note: Some("the agent is away; the pod is taken away when it is back, and until then its addresses stay in use".into()),
            }),
        ),
        ("/error", json!(ApiError::conflict("x", "y"))),
    ]
}

const VERBS: [(&str, &str); 16] = [
    ("/v1/status", "status"),
    ("/v1/pods", "pods"),
    ("/v1/drops", "drops"),
    ("/v1/drops", "drops --by pod"),
    ("/v1/drops?all=true", "drops --by peer --all"),
    ("/v1/drops/last", "drops --last"),
    ("/v1/drops/last", "drops --last --hex"),
    ("/v1/drops/last?reason=no_route", "drops --last no_route"),
    ("", "drops --explain socket_dropped"),
    ("/v1/tables/mac", "tables mac"),
    ("/v1/tables/routes", "tables routes"),
    ("/v1/tables/peers", "tables peers"),
    ("/v1/tables/neighbours", "tables neighbours"),
    ("/v1/tables/paths", "tables paths"),
    ("/v1/attach", "attach --netns a --ip 10.77.1.9"),
    ("/v1/detach", "detach --netns a"),
];

/// Answers each path.
fn agent(files: &Files) {
    answering(files, answers());
}

fn without_space(text: &str) -> String {
    text.split_whitespace().collect()
}

fn narrow_enough(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what}");
    for line in text.lines() {
        let columns = line.chars().count();
        assert!(columns <= 80, "{what}: {columns} columns: {line}");
    }
}

#[test]
fn every_verb_fits_80_columns_and_loses_nothing() {
    // A configuration with long lists, too.
    let files = Files::new(|text| {
        let all: Vec<String> = (0..20).map(|n| format!("\"10.{n}.0.0/16\"")).collect();
        format!(
            "{text}\n[egress]\nmasquerade_exclude = [{}]\n",
            all.join(", ")
        )
    });
    agent(&files);
    let (socket, config) = (files.socket(), files.config());
    let verbs = VERBS.iter().map(|(_, verb)| *verb);
    for verb in verbs.chain(["config keys", "config show", "--help", "attach --help"]) {
        let mut words = vec!["--socket", &socket, "--config", &config];
        words.extend(verb.split(' '));
        let print = |columns: Option<&str>| {
            let mut command = ringway(&words);
            if let Some(columns) = columns {
                command.env("COLUMNS", columns);
            }
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{verb}: {}",
                common::stderr(&output)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let (unset, narrow, wide) = (print(None), print(Some("80")), print(Some("2000")));
        assert_eq!(unset, narrow, "{verb}");
        narrow_enough(verb, &narrow);
        let packed = without_space(&narrow);
        for word in wide.split_whitespace() {
            assert!(packed.contains(word), "{verb}: {word:?} is lost:\n{narrow}");
        }
    }
}

#[test]
fn the_values_of_every_pod_and_peer_are_shown() {
    let files = Files::new(|text| text);
    agent(&files);
    let socket = files.socket();
    let text = without_space(&output(&["--socket", &socket, "pods"]));
    for pod in pods() {
        for value in [&pod.name, &pod.netns, &pod.mac, &pod.ips[0], &pod.ips[1]] {
            assert!(text.contains(value.as_str()), "{value}");
        }
    }
    let text = without_space(&output(&["--socket", &socket, "status"]));
    let status = status();
    let underlay = &status.underlay;
    let mut values = vec![
        status.node,
        status.rules,
        underlay.io.clone(),
        "12lineslost".into(),
    ];
    values.extend(underlay.next_hops.iter().map(|hop| hop.next_hop.clone()));
    values.extend(underlay.rings.iter().flat_map(|r| r.mode_refused.clone()));
    values.extend(underlay.sockets.iter().map(|socket| socket.local.clone()));
    for value in values {
        assert!(text.contains(&without_space(&value)), "{value}");
    }
}

/// Keys of every object in it.
fn keys(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                all.push(key.clone());
                keys(value, all);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, all)),
        _ => {}
    }
}

#[test]
fn json_is_snake_case_throughout() {
    let files = Files::new(|text| text);
    agent(&files);
    let (socket, config) = (files.socket(), files.config());
    let mut all = Vec::new();
    for verb in VERBS.iter().map(|(_, verb)| *verb).chain(["config show"]) {
        let mut words = vec!["--socket", &socket, "--config", &config];
        words.extend(verb.split(' '));
        words.push("--json");
        keys(&serde_json::from_str(&output(&words)).unwrap(), &mut all);
    }
    answers()
        .iter()
        .for_each(|(_, answer)| keys(answer, &mut all));
    for key in [
        "host_port",
        "ingress_rate",
        "log_lines_lost",
        "mode_refused",
        "remedy",
    ] {
        assert!(all.iter().any(|known| known == key), "{key}");
    }
    for key in all {
        let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(key.chars().all(snake), "{key}");
    }
}
