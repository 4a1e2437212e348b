use std::path::{Path, PathBuf};

use ringway_cluster::source::record;
use ringway_packet::mac::MacAddr;

use super::*;
use crate::slim::PodRef;

fn settings(dir: &Path) -> Settings {
    Settings {
        node: "n1".into(),
        kubeconfig: None,
        api_server: None,
        state_dir: dir.into(),
        vni: 1,
        vxlan_port: 8472,
        cluster_cidrs: Vec::new(),
        vtep_default: |_| MacAddr([2, 0, 0, 0, 0, 1]),
    }
}

fn nodes(count: usize) -> Vec<Node> {
    let node = |i: usize| Node {
        name: format!(
            "ip-10-77-{}-{}.eu-central-1.compute.internal",
            i >> 8,
            i & 0xff
        ),
        uid: format!("7a1c2f30-0000-4000-8000-{i:012}"),
        created: "2026-11-28T10:00:00Z".into(),
        pod_cidrs: vec![format!("10.{}.{}.0/24", 128 + (i >> 8), i & 0xff)],
        addresses: vec![format!("10.77.{}.{}", i >> 8, i & 0xff).parse().unwrap()],
        annotations: [
            ("kube-subnet-manager", "true".to_owned()),
            ("backend-type", "vxlan".into()),
            (
                "backend-data",
                r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#.into(),
            ),
            ("public-ip", format!("10.77.{}.{}", i >> 8, i & 0xff)),
        ]
        .into_iter()
        .map(|(key, value)| (format!("flannel.alpha.coreos.com/{key}"), value))
        .collect(),
        network: None,
    };
    (0..count).map(node).collect()
}

fn pods(count: usize) -> Vec<Pod> {
    let pod = |i: usize| Pod {
        id: PodRef {
            namespace: format!("team-{}", i % 40),
            name: format!("payments-api-7f9c6d5b8-{i:05}"),
        },
        uid: format!("0b1c2f30-0000-4000-8000-{i:012}"),
        labels: [("app", "payments-api"), ("pod-template-hash", "7f9c6d5b8")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ips: vec!["10.244.1.7".parse().unwrap()],
        ..Pod::default()
    };
    (0..count).map(pod).collect()
}

fn file(dir: &Path) -> PathBuf {
    dir.join("kubernetes.json")
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    assert_eq!(Saved::load(&settings).unwrap(), None);
    let mut saved = Saved::new("n1", 1_795_000_000);
    saved.nodes = nodes(3);
    saved.pods = pods(3);
    saved.net_conf = Some(r#"{"Network":"10.128.0.0/9"}"#.into());
    record::write(&settings.saved(), &saved).unwrap();
    assert_eq!(Saved::load(&settings).unwrap(), Some(saved.clone()));
    let contents = saved.contents(&settings);
    assert_eq!((contents.peers.len(), contents.routes.len()), (3, 3));
}

#[test]
fn what_cannot_be_used_is_set_aside_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut newer = Saved::new("n1", 0);
    newer.version = 2;
    let texts = [
        "{".to_owned(),
        String::new(),
        "[]".into(),
        serde_json::to_string(&newer).unwrap(),
        serde_json::to_string(&Saved::new("n2", 0)).unwrap(),
    ];
    for text in texts {
        fs::write(file(dir.path()), &text).unwrap();
        assert_eq!(Saved::load(&settings).unwrap(), None, "{text}");
        let aside = dir.path().join("kubernetes.json.refused");
        assert_eq!(fs::read_to_string(aside).unwrap(), text);
        assert!(!file(dir.path()).exists());
    }
    fs::create_dir(file(dir.path())).unwrap();
    assert!(Saved::load(&settings).is_err());
}

#[test]
fn its_size() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut saved = Saved::new("n1", 0);
    saved.nodes = nodes(5000);
    saved.pods = pods(110);
    record::write(&settings.saved(), &saved).unwrap();
    let node_bytes = fs::metadata(settings.saved()).unwrap().len();
    saved.pods = pods(10_000);
    let begin = std::time::Instant::now();
    record::write(&settings.saved(), &saved).unwrap();
    let took = begin.elapsed();
    let bytes = fs::metadata(settings.saved()).unwrap().len();
    println!(
        "5,000 nodes and 110 pods: {node_bytes} bytes; 10,000 pods: {bytes} bytes, written in {took:?}"
    );
    assert!(bytes < 8_000_000, "{bytes} bytes");
}
