//! Clusters of real size.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faked::{bare, node, start, thread_cpu};
use ringway_kubernetes::testing::Fake;

/// Nodes of a whole cluster at once, each of the size that kubelets make them.
fn a_cluster_joins(count: u16) {
    let fake = Fake::start();
    let padding: Vec<Value> = (0..50)
        .map(|i| json!({"names": [format!("registry.example/image-{i}@sha256:{:064}", i), "x".repeat(80)], "sizeBytes": i}))
        .collect();
    fake.put("nodes", bare(1));
    for i in 2..=count {
        let mut node = node(i);
        node["status"]["images"] = json!(padding);
        fake.put("nodes", node);
    }
    let size = fake.node(&format!("n{count}")).to_string().len();
    let cpu = thread_cpu("kubernetes");
    let begin = Instant::now();
    let agent = start(&fake);
    let last = format!("10.{}.{}.9", 128 + (count >> 8), count & 255);
    agent.until_via(&last, Some(&format!("peer n{count}")));
    let (took, cpu) = (begin.elapsed(), thread_cpu("kubernetes") - cpu);
    let peers = agent.cluster.lock().unwrap().state().peers.len();
    println!("{count} nodes of {size} bytes: {peers} peers in {took:?}, {cpu:.2} s of a core");
    assert_eq!(peers, usize::from(count) - 1);
    assert_eq!(
        *agent.applied.lock().unwrap(),
        2,
        "one change of this node, one of all others"
    );
    assert!(took < Duration::from_secs(60));
    let file = agent.settings.saved();
    let _dir = agent.stop();
    println!(
        "the record has {} bytes",
        std::fs::metadata(file).unwrap().len()
    );
}

#[test]
fn a_thousand_nodes_join() {
    a_cluster_joins(1000);
}

#[test]
fn five_thousand_nodes_join() {
    a_cluster_joins(5000);
}
