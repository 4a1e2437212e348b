//! Looks as an agent would answer, and a screen of any size.
#![allow(dead_code, reason = "each test program uses a part")]

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ringway_top::{App, Key, Look, Palette, draw};
use ringway_view::{
    Condition, ConfigStatus, Drop, DropAt, DropCount, Drops, Explained, KernelLoss, PathRow,
    PeerHealth, PeerRow, PeerState, Pod, ReconcileStatus, Status, Totals, Traffic, UnderlayStatus,
    WorkerStatus,
};

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many packets, of 1,000 bytes each.
pub(crate) fn traffic(packets: u64) -> Traffic {
    Traffic {
        frames: packets,
        packets,
        bytes: packets * 1000,
    }
}

pub(crate) fn pod(name: &str, port: u32, sent: u64, received: u64) -> Pod {
    Pod {
        name: name.into(),
        port,
        netns: format!("/run/netns/{port}"),
        ifname: "eth0".into(),
        mac: "0a:58:0a:4d:01:02".into(),
        ips: vec![format!("10.77.1.{port}/24"), format!("fd77:1::{port}/64")],
        gateways: vec![],
        mtu: 1450,
        queues: 1,
        container_id: None,
        bandwidth: None,
        port_mappings: vec![],
        from_pod: traffic(sent),
        to_pod: traffic(received),
        drops: vec![],
    }
}

pub(crate) fn peer(name: &str, number: u32, sent: u64, received: u64) -> PeerRow {
    PeerRow {
        peer: number,
        name: name.into(),
        addresses: vec![
            format!("192.168.{}.{}", number / 250, 1 + number % 250)
                .parse()
                .unwrap(),
        ],
        pod_cidrs: vec![format!("10.77.{}.0/24", number % 250)],
        from_peer: traffic(received),
        to_peer: traffic(sent),
        health: Some(PeerHealth {
            state: PeerState::Reached,
            since_s: 60,
            address: "192.168.0.1".parse().unwrap(),
            round_trip_us: Some(420),
            probes: 200,
            lost: 1,
            verified_mtu: Some(1450),
        }),
    }
}

pub(crate) fn worker(index: usize, busy_us: u64, rounds: u64) -> WorkerStatus {
    WorkerStatus {
        index,
        cpu: Some(index),
        rounds,
        busy_rounds: rounds / 2,
        busy_us,
        sleeps: rounds / 10,
        buffers: Default::default(),
        sockets: Default::default(),
    }
}

pub(crate) fn drop(reason: &str, frames: u64, at: &[(&str, &str, u64)]) -> Drop {
    let place = |(kind, name, packets): &(&str, &str, u64)| DropAt {
        kind: (*kind).into(),
        name: (*name).into(),
        direction: "from".into(),
        packets: *packets,
        rate: None,
    };
    Drop {
        reason: reason.into(),
        frames,
        last_ago_ms: Some(3000),
        cause: format!("{reason} was seen"),
        remedy: format!("look after {reason}"),
        at: at.iter().map(place).collect(),
        ..Drop::default()
    }
}

pub(crate) fn loss(counter: &str, at: &str, count: u64) -> KernelLoss {
    KernelLoss {
        counter: counter.into(),
        at: at.into(),
        count,
        rate: None,
        cause: format!("{counter} overflowed"),
        remedy: format!("make room for {counter}"),
    }
}

pub(crate) fn condition(what: &str, since_s: u64) -> Condition {
    Condition {
        what: what.into(),
        wanted: "there".into(),
        found: "missing".into(),
        why: "put it back".into(),
        since_s,
    }
}

/// A node with nobody on it.
pub(crate) fn nobody() -> Look {
    Look {
        status: Status {
            version: "0.1.0".into(),
            pid: 77,
            uptime_s: 3660,
            node: "node1".into(),
            pod_cidrs: vec!["10.77.1.0/24".into()],
            gateways: vec![],
            interface: "ringway0".into(),
            reconcile: ReconcileStatus::default(),
            config: ConfigStatus::default(),
            sources: vec![],
            pod_mtu: 1450,
            underlay: UnderlayStatus {
                interface: "eth0".into(),
                addresses: vec![],
                choices: vec![],
                mtu: 1500,
                io: "socket".into(),
                rings: vec![],
                xdp_fallbacks: 0,
                path_mtu_ignored: 0,
                next_hops: vec![],
                sockets: vec![],
            },
            workers: vec![],
            rules: String::new(),
            state_error: None,
            conditions: vec![],
            log_lines_lost: 0,
            pods: 0,
            pods_without_lanes: 0,
            not_served: vec![],
            left_pods: vec![],
            peers: 0,
            peer_states: Default::default(),
            snapshot: 1,
            totals: Totals::default(),
        },
        pods: vec![],
        peers: vec![],
        drops: Drops::default(),
        paths: None,
    }
}

/// A node of three pods and two peers, `n` seconds after its start: pod `k` sends `k` hundred packets a second and
/// gets half of that; peers, likewise. The first pod sends from a wrong address four times a second.
pub(crate) fn node(n: u64) -> Look {
    let mut look = nobody();
    let names = ["default/web-1", "default/web-2", "kube-system/dns"];
    for (k, name) in (1..).zip(names) {
        look.pods
            .push(pod(name, k, n * u64::from(k) * 100, n * u64::from(k) * 50));
    }
    for (k, name) in (1..).zip(["node2", "node3"]) {
        look.peers
            .push(peer(name, k, n * u64::from(k) * 10, n * u64::from(k) * 20));
    }
    look.status.uptime_s = n;
    look.status.pods = 3;
    look.status.peers = 2;
    look.status.workers = vec![
        worker(0, n * 125_000, n * 2000),
        worker(1, n * 500_000, n * 4000),
    ];
    look.status.totals.dropped.frames = n * 4;
    if n > 0 {
        look.pods[0].drops = vec![DropCount {
            reason: "spoofed_ipv4".into(),
            count: n * 4,
        }];
        let at = [("pod", "default/web-1", n * 4)];
        look.drops.drops = vec![drop("spoofed_ipv4", n * 4, &at)];
        look.drops.kernel = vec![
            loss("tap_tx_dropped", "pod default/web-1", n * 2),
            loss("tap_tx_dropped", "pod default/web-2", n),
        ];
    }
    look
}

/// 110 pods and 1,000 peers.
pub(crate) fn many(n: u64) -> Look {
    let mut look = node(n);
    look.pods = (1..=110)
        .map(|k| {
            let name = format!("production/checkout-{k:03}-7d9c6b5f4d-x2x9k/eth0");
            pod(&name, k, n * u64::from(k), n)
        })
        .collect();
    look.peers = (1..=1000)
        .map(|k| peer(&format!("ip-10-0-{k:04}.internal"), k, n * u64::from(k), n))
        .collect();
    look.status.pods = 110;
    look.status.peers = 1000;
    look
}

pub(crate) fn path(peer: &str) -> PathRow {
    PathRow {
        path: 0,
        peer: peer.into(),
        carries: "IPv4".into(),
        encap: "vxlan, VNI 1".into(),
        src: "192.168.0.1".parse().unwrap(),
        dst: "192.168.0.2".parse().unwrap(),
        port: 8472,
        mtu: 1450,
        dst_mac: "0a:58:0a:4d:02:00".into(),
    }
}

pub(crate) fn explain(name: &str) -> Option<Explained> {
    (name == "spoofed_ipv4").then(|| Explained {
        reason: name.into(),
        cause: "a cause".into(),
        remedy: "a remedy".into(),
        stage: "at admission".into(),
        counted: "in frames".into(),
        example: "a container that spoofs".into(),
    })
}

/// After a look at 10 s and one at 12 s.
pub(crate) fn app_of(look: fn(u64) -> Look) -> App {
    let mut app = App::new(explain);
    app.answered(look(10), seconds(10));
    app.answered(look(12), seconds(12));
    app
}

pub(crate) fn type_in(app: &mut App, text: &str) {
    text.chars().for_each(|c| app.press(Key::Char(c)));
}

pub(crate) fn keys(app: &App) -> Vec<&str> {
    app.rows().iter().map(|row| row.key.as_str()).collect()
}

/// The cells of a screen.
pub(crate) fn buffer(app: &mut App, width: u16, height: u16, at: u64) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let palette = Palette { colours: true };
    terminal
        .draw(|frame| draw(frame, app, palette, seconds(at)))
        .unwrap();
    terminal.backend().buffer().clone()
}

/// Its lines.
pub(crate) fn screen(app: &mut App, width: u16, height: u16, at: u64) -> Vec<String> {
    let buffer = buffer(app, width, height, at);
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    let lines = (0..height).map(line);
    lines.map(|line| line.trim_end().to_owned()).collect()
}
