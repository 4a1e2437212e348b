//! A healthy node, which tests make ill.

use std::time::Duration;

use ringway_control::view::{Drops, PeerRow, Pod, Status, Traffic};
use serde_json::json;

use crate::{Asked, Asking, Machine, Observed, PodInside, Way};

fn status() -> Status {
    serde_json::from_value(json!({
        "version": "0", "pid": 7, "uptime_s": 60, "node": "node1", "pod_cidrs": ["10.77.1.0/24"],
        "gateways": ["10.77.1.1"], "interface": "ringway0", "pod_mtu": 1450,
        "underlay": {
            "interface": "eth0", "addresses": ["192.168.77.1"], "mtu": 1500, "io": "socket",
            "sockets": [{
                "local": "192.168.77.1:8472", "encap": "vxlan 1", "gso": true, "gro": true,
                "receive_buffer_bytes": 1000,
            }],
        },
        "workers": [], "pods": 1, "peers": 1, "snapshot": 1,
        "totals": {
            "received": {"frames": 0, "packets": 0}, "delivered": {"frames": 0, "packets": 0},
            "tunnelled": {"frames": 0, "packets": 0}, "answered": {"frames": 0, "packets": 0},
            "ignored": {"frames": 0, "packets": 0}, "dropped": {"frames": 0, "packets": 0},
            "originated": {"frames": 0, "packets": 0}, "lost_packets": 0,
        },
    }))
    .unwrap()
}

/// A peer that has been sent so many packets, and has sent so many.
pub(crate) fn peer(sent: u64, came: u64) -> PeerRow {
    let traffic = |packets| Traffic {
        frames: packets,
        packets,
        bytes: 100 * packets,
    };
    PeerRow {
        peer: 0,
        name: "node2".into(),
        addresses: vec!["192.168.77.2".parse().unwrap()],
        pod_cidrs: vec!["10.77.2.0/24".into()],
        from_peer: traffic(came),
        to_peer: traffic(sent),
        health: None,
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "name": "default/web", "port": 1, "netns": "/run/netns/web", "ifname": "eth0",
        "mac": "0a:58:0a:4d:01:02", "ips": ["10.77.1.2/24"], "gateways": ["10.77.1.1"], "mtu": 1450,
        "queues": 1, "from_pod": {"frames": 0, "packets": 0, "bytes": 0},
        "to_pod": {"frames": 0, "packets": 0, "bytes": 0}, "drops": [],
    }))
    .unwrap()
}

/// A node of two, with one pod, on which nothing is wrong.
pub(crate) fn healthy() -> Observed {
    Observed {
        agent: Asking::Answered(Box::new(Asked {
            status: status(),
            before: Drops::default(),
            drops: Drops::default(),
            between: Duration::from_secs(2),
            last: Vec::new(),
            peers: vec![peer(100, 100)],
            peers_later: vec![peer(200, 200)],
            pods: vec![pod()],
        })),
        machine: Machine {
            ports: vec![8472],
            ways: vec![Way {
                peer: "node2".into(),
                address: "192.168.77.2".parse().unwrap(),
                by: Ok("eth0".into()),
            }],
            underlay: Some("eth0".into()),
            state_dir: Some(("/var/lib/ringway".into(), Ok(1 << 30))),
            clock_s: 1_800_000_000,
            ..Machine::default()
        },
        pods: vec![PodInside {
            pod: "default/web".into(),
            interface: true,
            up: true,
            addresses: vec!["10.77.1.2".parse().unwrap()],
            default_v4: true,
            ..PodInside::default()
        }],
        pair: None,
        unseen: Vec::new(),
    }
}
