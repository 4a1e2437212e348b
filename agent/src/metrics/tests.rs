//! Scrapes of a made-up node, by the collector of every node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ringway_control::Attaches;
use ringway_control::view::{PeerHealth, PeerState, SourceStatus, Status};
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::mac::MacAddr;
use ringway_switch::{Counters, DropReason};
use ringway_tables::{Path, Peer, PeerId, PeerPaths, PortId, Snapshot};
use ringway_worker::Load;
use serde_json::json;

use super::*;

/// A node with so many pods, peers and workers that nothing has happened to.
pub(crate) fn view(pods: u32, peers: u32, workers: usize) -> View {
    let mut snapshot = Snapshot::default();
    for n in 0..peers {
        let path = |v6| Some(path(n, v6));
        let paths = PeerPaths {
            v4: path(false),
            v6: path(true),
        };
        let peer = Peer {
            name: format!("ip-10-0-{}-{}.compute.internal", n / 256, n % 256).into(),
            addresses: [outer(n, false), outer(n, true)].into(),
            cidrs: [].into(),
        };
        snapshot.add_peer(peer, paths).unwrap();
    }
    let worker =
        |index| json!({ "index": index, "cpu": null, "rounds": 9, "busy_rounds": 3, "sleeps": 2 });
    let status = json!({
        "version": "0.1.0", "pid": 1, "uptime_s": 5, "node": "node1", "pod_cidrs": [], "gateways": [],
        "interface": "ringway0", "pod_mtu": 1450, "pods": pods, "peers": peers, "snapshot": 1,
        "underlay": { "interface": "eth0", "addresses": [], "mtu": 1500, "io": "socket", "sockets": [] },
        "workers": (0..workers).map(worker).collect::<Vec<_>>(), "totals": ringway_control::view::Totals::default(),
    });
    let mut status: Status = serde_json::from_value(status).unwrap();
    status.sources.push(SourceStatus {
        name: "kubernetes".into(),
        confirmed_ago_s: Some(7),
        ..SourceStatus::default()
    });
    View {
        snapshot: Arc::new(snapshot),
        snapshot_age: Duration::from_secs(3),
        counters: (0..workers).map(|_| Arc::<Counters>::default()).collect(),
        loads: (0..workers).map(|_| Arc::<Load>::default()).collect(),
        attaches: Arc::<Attaches>::default(),
        dropped: Vec::new(),
        sockets: Vec::new(),
        pods: (1..=pods).map(pod).collect(),
        peers: (0..peers).map(|n| (PeerId(n), health(n))).collect(),
        status,
    }
}

fn health(n: u32) -> PeerHealth {
    PeerHealth {
        state: PeerState::Reached,
        since_s: 1,
        address: outer(n, false),
        round_trip_us: Some(u64::from(n)),
        probes: 10,
        lost: 1,
        verified_mtu: Some(1450),
    }
}

fn pod(port: u32) -> ringway_control::view::Pod {
    let traffic = json!({ "frames": port, "packets": 2 * port, "bytes": 100 * port });
    let pod = json!({
        "name": format!("production/checkout-frontend-7d9c6b5f4d-{port}"), "port": port, "netns": "/run/netns/x",
        "ifname": "eth0", "mac": "", "ips": [], "gateways": [], "mtu": 1450, "queues": 1,
        "container_id": "f00d", "from_pod": traffic, "to_pod": traffic, "drops": [],
    });
    serde_json::from_value(pod).unwrap()
}

fn outer(n: u32, v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::from(0x0a00_0001 + n).into(),
        true => Ipv6Addr::from((0xfd << 120) + 1 + u128::from(n)).into(),
    }
}

fn path(n: u32, v6: bool) -> Path {
    let encap = Encap::Vxlan { vni: 1 };
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let (src, dst) = (outer(5000, v6), outer(n, v6));
    let spec = OuterSpec {
        src_mac: mac,
        dst_mac: mac,
        src,
        dst,
        encap,
        transport: TransportSpec::usual(encap, UdpChecksum::Full),
        ttl: 64,
        dont_fragment: true,
    };
    Path {
        peer: PeerId(0),
        encap,
        src,
        dst,
        src_mac: mac,
        dst_mac: mac,
        mtu: 1400 + (n % 50) as u16,
        outer: OuterHeader::new(&spec).unwrap(),
    }
}

fn scrape(view: View, memory: &Arc<Mutex<Memory>>) -> String {
    let scrape = Scrape {
        view,
        ready: true,
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        peers: 64,
        memory: memory.clone(),
    };
    scrape.text()
}

/// The same once more.
fn again(view: &View) -> View {
    View {
        snapshot: view.snapshot.clone(),
        counters: view.counters.clone(),
        loads: view.loads.clone(),
        attaches: view.attaches.clone(),
        dropped: Vec::new(),
        sockets: Vec::new(),
        pods: view.pods.clone(),
        peers: view.peers.clone(),
        status: view.status.clone(),
        ..*view
    }
}

/// The worst there can be: everything happened to everybody.
fn happen(view: &View) {
    for (i, counters) in view.counters.iter().enumerate() {
        for reason in DropReason::ALL {
            for port in 0..=view.pods.len() as u32 {
                counters.port(PortId(port)).drops[reason.index()].add(1 + i as u64);
            }
            for (peer, _) in view.snapshot.peers.iter() {
                counters.peer(PeerId(peer)).drops[reason.index()].add(u64::from(peer));
            }
        }
        for (peer, _) in view.snapshot.peers.iter() {
            let side = counters.peer(PeerId(peer));
            side.rx.add(1, 1000);
            side.tx.add(2, 5_000_000);
        }
    }
    for load in &view.loads {
        load.visit_ns.add(1500);
        load.visit_frames.add(3);
        load.busy_ns.add(2_500_000_000);
    }
}

/// Samples: name and labels, and the value.
fn samples(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut all = BTreeMap::new();
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert_eq!(all.insert(series, value), None, "{series} twice");
    }
    all
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap()
}

#[test]
fn a_large_node_has_a_bounded_number_of_series_in_little_time() {
    let (memory, view) = (Arc::default(), view(110, 1000, 8));
    happen(&view);
    let mut best = Duration::MAX;
    let mut text = String::new();
    for _ in 0..5 {
        let same = again(&view);
        let begun = Instant::now();
        text = scrape(same, &memory);
        best = best.min(begun.elapsed());
    }
    let all = samples(&text);
    println!(
        "{} series, {} bytes, {best:?} a scrape",
        all.len(),
        text.len()
    );
    assert!(all.len() <= 5000, "{} series", all.len());
    // Of a release; the profile of tests is slower, and the machine may be busy.
    assert!(best < Duration::from_millis(250), "{best:?}");
    let of = |name_: &str| all.keys().filter(|series| name(series) == name_).count();
    assert_eq!(of("ringway_pod_bytes_total"), 220);
    assert_eq!(of("ringway_pod_dropped_packets_total"), 110 * 13);
    assert_eq!(of("ringway_peer_bytes_total"), 2 * WORST);
    assert_eq!(of("ringway_peer_path_mtu_bytes"), 2 * WORST);
    // The worst are those with most drops.
    assert!(text.contains("ringway_peer_bytes_total{peer=\"ip-10-0-3-231.compute.internal\""));
    assert!(!text.contains("ip-10-0-0-1.compute.internal"));
    for (series, value) in [
        ("ringway_peers_by_dropped_packets{up_to=\"0\"}", "1"),
        ("ringway_peers_by_dropped_packets{up_to=\"+Inf\"}", "1000"),
        (
            "ringway_peers_by_bytes{direction=\"to_peer\",up_to=\"1000000\"}",
            "0",
        ),
        (
            "ringway_tunnel_bytes_total{direction=\"from_peer\"}",
            "8000000",
        ),
        (
            "ringway_tunnel_packets_total{direction=\"to_peer\"}",
            "16000",
        ),
        ("ringway_path_mtu_least_bytes", "1400"),
        (
            "ringway_visit_duration_seconds_bucket{le=\"0.000001024\"}",
            "0",
        ),
        (
            "ringway_visit_duration_seconds_bucket{le=\"0.000002048\"}",
            "8",
        ),
        ("ringway_visit_frames_bucket{le=\"4.0\"}", "8"),
        ("ringway_worker_busy_seconds_total{worker=\"7\"}", "2.5"),
    ] {
        assert_eq!(all.get(series), Some(&value), "{series}");
    }
}

#[test]
fn a_node_to_which_nothing_happened_says_so() {
    let text = scrape(view(0, 0, 1), &Arc::default());
    assert!(text.ends_with("\n# EOF\n"));
    let all = samples(&text);
    for reason in DropReason::ALL {
        for family in ["dropped_frames", "lost_packets"] {
            let series = format!("ringway_{family}_total{{reason=\"{}\"}}", reason.name());
            assert_eq!(all.get(series.as_str()), Some(&"0"), "{series}");
        }
    }
    assert!(
        all.keys()
            .all(|series| !series.contains("pod=") && !series.contains("peer="))
    );
    assert!(text.contains("ringway_source_state{source=\"kubernetes\",state=\"waiting\"} 1\n"));
    assert!(text.contains("ringway_source_state{source=\"kubernetes\",state=\"current\"} 0\n"));
    assert!(text.contains("ringway_build_info{version=\"0.1.0\"} 1\n"));
    assert!(text.contains("# UNIT ringway_start_time_seconds seconds\n"));
    assert!(text.contains("ringway_start_time_seconds 1700000000.0\n"));
}

/// What is said is in the table, with these labels and no other; what is in the table is said.
#[test]
fn names_types_and_labels_are_those_of_the_table() {
    let view = view(3, 5, 2);
    happen(&view);
    let text = scrape(view, &Arc::default());
    let mut said = BTreeSet::new();
    for series in samples(&text).keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let mut all = families::ALL.iter();
        let family = all.find(|f| f.sample_names().iter().any(|n| n == name));
        let family = family.unwrap_or_else(|| panic!("{name} is not in the table"));
        let labels = labels.trim_end_matches('}').split("\",");
        let labels: Vec<&str> = labels.filter_map(|l| l.split('=').next()).collect();
        let labels: Vec<&str> = labels.into_iter().filter(|l| !l.is_empty()).collect();
        match family.kind {
            Kind::Histogram => assert!(labels.is_empty() || labels == ["le"]),
            _ => assert_eq!(labels, family.labels, "{series}"),
        }
        assert!(!(labels.contains(&"pod") && labels.contains(&"peer")));
        said.insert(name.to_owned());
    }
    for family in families::ALL {
        for name in family.sample_names() {
            assert!(said.contains(&name), "{name} is never said");
        }
        let typed = format!("# TYPE {} {}\n", family.full_name(), family.kind.name());
        assert_eq!(text.matches(&typed).count(), 1, "{typed}");
        assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\', '|']));
    }
    let mut names: Vec<_> = families::ALL.iter().map(|f| f.full_name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), families::ALL.len(), "a name is there twice");
}

#[test]
fn the_series_of_a_pod_that_has_gone_end_and_sums_do_not_fall() {
    let memory = Arc::default();
    let mut view = view(2, 2, 1);
    happen(&view);
    let two = scrape(again(&view), &memory);
    assert!(two.contains("4d-1\"") && two.contains("4d-2\""));
    view.pods.remove(0);
    let mut snapshot = (*view.snapshot).clone();
    snapshot.remove_peer(PeerId(1));
    view.snapshot = Arc::new(snapshot);
    let one = scrape(view, &memory);
    assert!(!one.contains("4d-1\"") && one.contains("4d-2\""));
    assert!(!one.contains("ip-10-0-0-1") && one.contains("ip-10-0-0-0"));
    let sums = |text: &str| {
        let lines = text.lines().filter(|l| l.starts_with("ringway_tunnel"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sums(&one), sums(&two));
}

/// Labels are what pods are called, whoever called them so.
#[test]
fn a_pod_is_named_as_kubernetes_does_where_it_has_named_it() {
    let mut view = view(3, 0, 1);
    view.pods[0].name = "default/web".into();
    view.pods[1].name = "0123abcd/eth0".into();
    view.pods[1].container_id = Some("0123abcd".into());
    view.pods[2].name = "blue/eth0".into();
    view.pods[2].container_id = None;
    let text = scrape(view, &Arc::default());
    for labels in [
        "{namespace=\"default\",pod=\"web\",",
        "{namespace=\"\",pod=\"0123abcd/eth0\",",
        "{namespace=\"\",pod=\"blue/eth0\",",
    ] {
        assert!(
            text.contains(&format!("ringway_pod_bytes_total{labels}")),
            "{labels}"
        );
    }
}
