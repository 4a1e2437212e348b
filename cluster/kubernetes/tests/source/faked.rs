//! The source against an API server that does as it is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::{Agent, local};
use ringway_cluster::source::State;
use ringway_kubernetes::testing::Fake;
use ringway_kubernetes::{About, Report};
use serde_json::{Value, json};

/// The agent of node n1.
pub(crate) fn start(fake: &Fake) -> Agent {
    start_in(fake, Arc::new(tempfile::tempdir().unwrap()))
}

/// Nodes n1 and n2, and the agent of n1 once it knows n2.
pub(crate) fn two_nodes() -> (Fake, Agent) {
    let fake = Fake::start();
    (1..=2).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    (fake, agent)
}

pub(crate) fn start_in(fake: &Fake, dir: Arc<tempfile::TempDir>) -> Agent {
    let kubeconfig = fake.kubeconfig(dir.path());
    Agent::start_in(dir, "n1", kubeconfig)
}

pub(crate) fn node(i: u16) -> Value {
    let mut node = bare(i);
    node["metadata"]["annotations"] = json!({
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": format!("{{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:{:02x}:{:02x}\"}}", i >> 8, i & 255),
        "flannel.alpha.coreos.com/public-ip": format!("10.77.{}.{}", i >> 8, i & 255),
    });
    node
}

pub(crate) fn bare(i: u16) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": format!("n{i}"), "uid": format!("uid-{i}"), "creationTimestamp": "2026-11-28T10:00:00Z",
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}], "annotations": {},
        },
        "spec": {"podCIDRs": [format!("10.{}.{}.0/24", 128 + (i >> 8), i & 255)]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("10.77.{}.{}", i >> 8, i & 255)}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[test]
fn nodes_that_come_change_and_go() {
    let fake = Fake::start();
    (1..=3).for_each(|i| fake.put("nodes", if i == 1 { bare(i) } else { node(i) }));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    agent.until_via("10.128.1.9", Some("this node"));
    agent.until("it is current", |a| a.status().state == State::Current);
    fake.put("nodes", node(4));
    agent.until_via("10.128.4.9", Some("peer n4"));
    let mut moved = node(3);
    moved["spec"]["podCIDRs"] = json!(["10.128.33.0/24"]);
    fake.put("nodes", moved);
    agent.until_via("10.128.33.9", Some("peer n3"));
    agent.until_via("10.128.3.9", None);
    fake.delete("nodes", "", "n2");
    agent.until_via("10.128.2.9", None);
    assert_eq!(agent.status().problems, Vec::<String>::new());
    agent.stop();
}

#[test]
fn lists_in_pages_where_the_server_streams_none() {
    let fake = Fake::start();
    fake.state().streaming = false;
    (1..=1200).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.132.176.9", Some("peer n1200"));
    let pages = fake
        .state()
        .requests
        .iter()
        .filter(|r| r.contains("/nodes?") && r.contains("limit=500"))
        .count();
    assert_eq!(pages, 3);
    fake.put("nodes", node(1201));
    agent.until_via("10.132.177.9", Some("peer n1201"));
}

#[test]
fn what_was_too_long_ago_is_listed_anew() {
    let fake = Fake::start();
    (1..=3).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.3.9", Some("peer n3"));
    let applied = *agent.applied.lock().unwrap();
    fake.compact();
    fake.put("nodes", node(4));
    agent.until_via("10.128.4.9", Some("peer n4"));
    fake.delete("nodes", "", "n3");
    agent.until_via("10.128.3.9", None);
    assert!(
        *agent.applied.lock().unwrap() - applied <= 3,
        "what is the same is no change"
    );
}

#[test]
fn the_server_goes_and_what_it_said_stays() {
    let (mut fake, agent) = two_nodes();
    fake.go_away();
    agent.until("it is stale", |a| a.status().state == State::Stale);
    let status = agent.status();
    assert!(
        status.error.is_some() && status.confirmed_s.is_some(),
        "{status:?}"
    );
    assert_eq!(agent.via("10.128.2.9").as_deref(), Some("peer n2"));
    fake.put("nodes", node(3));
    fake.come_back();
    agent.until_via("10.128.3.9", Some("peer n3"));
    agent.until("it is current", |a| a.status().state == State::Current);
    agent.until("every kind is followed", |a| a.status().error.is_none());
}

#[test]
fn a_server_that_fails_and_one_that_refuses_change_nothing() {
    let (fake, agent) = two_nodes();
    fake.state().failing = true;
    fake.compact();
    agent.until("it is stale", |a| a.status().state == State::Stale);
    assert_eq!(agent.via("10.128.2.9").as_deref(), Some("peer n2"));
    fake.state().failing = false;
    agent.until("it is current", |a| a.status().state == State::Current);
}

#[test]
fn a_start_without_the_server_knows_what_was_last() {
    let mut fake = Fake::start();
    (1..=2).for_each(|i| fake.put("nodes", if i == 1 { bare(1) } else { node(i) }));
    fake.put(
        "pods",
        json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n1"}}),
    );
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    let dir = agent.stop();
    fake.go_away();

    let agent = start_in(&fake, dir);
    assert_eq!(agent.via("10.128.2.9").as_deref(), Some("peer n2"));
    assert_eq!(agent.via("10.128.1.9").as_deref(), Some("this node"));
    agent.until("it is stale", |a| a.status().state == State::Stale);
    // What has happened meanwhile is heard, and what is gone is gone.
    fake.delete("nodes", "", "n2");
    fake.put("nodes", node(3));
    fake.come_back();
    agent.until_via("10.128.3.9", Some("peer n3"));
    agent.until_via("10.128.2.9", None);
    assert_eq!(agent.via("10.128.1.9").as_deref(), Some("this node"));
}

#[test]
fn this_nodes_network_is_waited_for() {
    let fake = Fake::start();
    let agent = start(&fake);
    agent.until_problem("there is no Node n1");
    let mut own = bare(1);
    own["spec"] = json!({});
    fake.put("nodes", own);
    agent.until_problem("node n1: it has no pod network yet");
    fake.put("nodes", bare(1));
    agent.until_via("10.128.1.9", Some("this node"));
    agent.until("no problem is left", |a| a.status().problems.is_empty());
}

#[test]
fn the_node_is_told_what_is_in_force() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    let agent = start(&fake);
    agent.until_via("10.128.1.9", Some("this node"));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(fake.state().patches.len(), 0, "nothing is in force yet");
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    let data = "/metadata/annotations/flannel.alpha.coreos.com~1backend-data";
    agent.until("the annotation", |_| {
        fake.node("n1").pointer(data).is_some()
    });
    let told = fake.node("n1");
    assert_eq!(
        told.pointer(data).unwrap(),
        r#"{"VNI":1,"VtepMAC":"0a:58:0a:80:01:00"}"#
    );
    let condition = &told["status"]["conditions"][1];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("RingwayIsUp"))
    );
    assert_eq!(
        told["status"]["conditions"][0]["type"], "Ready",
        "the others are left"
    );
    // Told once.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(fake.state().patches.len(), 1);
    // Somebody takes it away.
    fake.put("nodes", bare(1));
    agent.until("the annotation is back", |_| {
        fake.node("n1").pointer(data).is_some()
    });
}

#[test]
fn a_node_that_control_refuses_costs_no_other_its_network() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    let agent = start(&fake);
    agent.until_via("10.128.1.9", Some("this node"));
    agent.refuse.lock().unwrap().push("n3");
    (2..=5).for_each(|i| fake.put("nodes", node(i)));
    agent.until_via("10.128.5.9", Some("peer n5"));
    agent.until_via("10.128.2.9", Some("peer n2"));
    assert_eq!(agent.via("10.128.3.9"), None);
    agent.until_problem("node n3: n3 does not suit the underlay");
    agent.refuse.lock().unwrap().clear();
    fake.put("nodes", node(6));
    agent.until_via("10.128.3.9", Some("peer n3"));
    agent.until("no problem is left", |a| a.status().problems.is_empty());
}

#[test]
fn objects_that_nobody_can_read_are_named_and_left_out() {
    let fake = Fake::start();
    fake.put("nodes", json!({"metadata": {"name": "bad1"}, "spec": 7}));
    fake.put(
        "nodes",
        json!({"metadata": {"name": "bad2", "annotations": []}}),
    );
    fake.put("nodes", json!({"metadata": {"name": "Bad\u{1b}[2J"}}));
    (1..=2).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    for name in ["bad1", "bad2", "Bad?[2J"] {
        agent.until_problem(&format!("Node \"{name}\" cannot be read"));
    }
    // The same under a watch.
    fake.put(
        "nodes",
        json!({"metadata": {"name": "bad3"}, "status": {"conditions": [7]}}),
    );
    fake.put(
        "nodes",
        json!({"metadata": {"name": "n3"}, "spec": {"podCIDRs": ["0.0.0.0/0"]}}),
    );
    fake.put("nodes", node(4));
    agent.until_via("10.128.4.9", Some("peer n4"));
    agent.until_problem("Node \"bad3\" cannot be read");
    let lists = fake
        .state()
        .requests
        .iter()
        .filter(|r| r.contains("/nodes?"))
        .count();
    assert_eq!(lists, 1, "and the watch goes on");
    fake.delete("nodes", "", "bad3");
    agent.until("it is not named any more", |a| {
        !a.status().problems.iter().any(|p| p.contains("bad3"))
    });
}

#[test]
fn flannels_configuration_in_either_namespace() {
    let map = |namespace: &str, conf: &str| json!({"metadata": {"name": "kube-flannel-cfg", "namespace": namespace}, "data": {"net-conf.json": conf}});
    for namespace in ["kube-flannel", "kube-system"] {
        let fake = Fake::start();
        (1..=2).for_each(|i| fake.put("nodes", node(i)));
        fake.put(
            "configmaps",
            map(
                namespace,
                r#"{"Network":"10.128.0.0/16","Backend":{"Type":"vxlan"}}"#,
            ),
        );
        let agent = start(&fake);
        agent.until_via("10.128.2.9", Some("peer n2"));
        fake.put(
            "configmaps",
            map(
                namespace,
                r#"{"Network":"10.128.1.0/24","Backend":{"Type":"vxlan","VNI":7}}"#,
            ),
        );
        agent.until_via("10.128.2.9", None);
        agent.until_problem("outside of the cluster's pod networks (10.128.1.0/24)");
        agent.until_problem("Flannel's network has VNI 7 on port 8472, this node VNI 1");
        fake.put("configmaps", map(namespace, "{"));
        agent.until_problem("net-conf.json is no JSON object");
        let asked = ringway_kubernetes::net_conf(&agent.settings, Duration::from_secs(5));
        assert_eq!(asked.unwrap().as_deref(), Some("{"));
        fake.delete("configmaps", namespace, "kube-flannel-cfg");
        agent.until_via("10.128.2.9", Some("peer n2"));
    }
}

#[test]
fn where_there_is_no_flannel_its_namespace_is_not_asked_for() {
    let fake = Fake::start();
    (1..=2).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    let asked = || fake.asked("/namespaces/kube-flannel/configmaps");
    let old = || fake.asked("/namespaces/kube-system/configmaps");
    agent.until("the other is", |_| old() > 0);
    let text = ringway_kubernetes::net_conf(&agent.settings, Duration::from_secs(5));
    assert_eq!(text, Ok(None));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(asked(), 0);
    let space = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-flannel", "uid": "u"}});
    fake.put("namespaces", space);
    agent.until("it is followed", |_| asked() > 0);
    fake.delete("namespaces", "", "kube-flannel");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(agent.status().error, None);
}

#[test]
fn a_kind_that_the_server_lacks_is_no_failure() {
    let fake = Fake::start();
    fake.state().missing = vec!["configmaps", "namespaces"];
    (1..=2).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    agent.until("it is current", |a| a.status().state == State::Current);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.status().error, None);
    let asked = fake
        .state()
        .requests
        .iter()
        .filter(|r| r.contains("/namespaces?"))
        .count();
    assert_eq!(asked, 1, "it is asked again in a minute");
}

#[test]
fn what_may_not_be_read_is_named_where_it_is_needed() {
    let fake = Fake::start();
    fake.state().forbidden = vec!["configmaps"];
    (1..=2).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    std::thread::sleep(Duration::from_millis(500));
    // Where there is no Flannel nobody grants that.
    assert_eq!(agent.status().error, None);
    fake.state().forbidden = vec!["nodes"];
    let other = start(&fake);
    other.until("it is named", |a| {
        a.status()
            .error
            .is_some_and(|e| e.contains("nodes") && e.contains("Forbidden"))
    });
    assert_eq!(other.status().state, State::Waiting);
}

#[test]
fn events_are_written() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    let agent = start(&fake);
    agent.until_via("10.128.1.9", Some("this node"));
    let report = Report {
        about: About::Node("n1".into()),
        warning: true,
        reason: "RangeFull",
        action: "Attaching",
        note: "no address is left in 10.128.1.0/24".into(),
    };
    let reporter = agent.handle.as_ref().unwrap().reporter();
    assert_eq!(
        (0..50).filter(|_| reporter.report(report.clone())).count(),
        50
    );
    let posts = || {
        fake.state()
            .requests
            .iter()
            .filter(|r| r.starts_with("POST"))
            .count()
    };
    agent.until("the Event", |_| posts() == 1);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(posts(), 1);
}

#[test]
fn a_thousand_events_a_second() {
    let fake = Fake::start();
    (1..=1000).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.131.232.9", Some("peer n1000"));
    let before = *agent.applied.lock().unwrap();
    let cpu = thread_cpu("kubernetes");
    let begin = Instant::now();
    // Heartbeats of kubelets: nothing that is used is another. Objects of real size.
    let padding = "x".repeat(10_000);
    for i in 0..3000u32 {
        let mut beat = node(u16::try_from(i % 1000 + 1).unwrap());
        beat["status"]["images"] = json!([{"names": [padding], "sizeBytes": i}]);
        fake.put("nodes", beat);
        let due = begin + Duration::from_millis(u64::from(i));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    fake.put("nodes", node(1001));
    agent.until_via("10.131.233.9", Some("peer n1001"));
    let took = begin.elapsed().as_secs_f64();
    let share = (thread_cpu("kubernetes") - cpu) / took;
    println!(
        "{:.0} events of 10 KB a second: {:.1} % of a core",
        3001.0 / took,
        share * 100.0
    );
    assert_eq!(*agent.applied.lock().unwrap() - before, 1);
    assert!(
        share < 0.25,
        "{share:.3} of a core, in a build that is not optimised"
    );
}

/// Seconds of processor time of the threads of this process that have a name.
pub(crate) fn thread_cpu(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let ticks = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        (comm.trim() == name).then_some(ticks)
    });
    ticks.sum::<u64>() as f64 / 100.0
}

#[test]
fn the_pods_of_a_node_are_asked_for_once() {
    let fake = Fake::start();
    let pod = |name: &str, on: &str, phase: &str| {
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"namespace": "kube-flannel", "name": name, "uid": name, "labels": {"app": "flannel"}},
            "spec": {"nodeName": on, "hostNetwork": true, "containers": []},
            "status": {"phase": phase, "podIPs": [{"ip": "10.77.0.1"}]},
        })
    };
    fake.put("pods", pod("kube-flannel-ds-a", "n1", "Running"));
    fake.put("pods", pod("kube-flannel-ds-b", "n2", "Running"));
    fake.put("pods", pod("kube-flannel-ds-c", "n1", "Succeeded"));
    let agent = start(&fake);
    let patience = Duration::from_secs(5);
    let pods = ringway_kubernetes::own_pods(&agent.settings, patience).unwrap();
    let names: Vec<&str> = pods.iter().map(|pod| pod.id.name.as_str()).collect();
    assert_eq!(names, ["kube-flannel-ds-a"]);
    assert_eq!(pods[0].labels["app"], "flannel");
    let placed = |namespace: &str, name: &str| {
        let pod = ringway_kubernetes::slim::PodRef {
            namespace: namespace.into(),
            name: name.into(),
        };
        ringway_kubernetes::placed(&agent.settings, &pod, patience)
    };
    let found = placed("kube-flannel", "kube-flannel-ds-b")
        .unwrap()
        .unwrap();
    assert_eq!(found.node.as_deref(), Some("n2"));
    assert!(found.host_network && !found.ended);
    let ended = placed("kube-flannel", "kube-flannel-ds-c")
        .unwrap()
        .unwrap();
    assert!(ended.ended);
    assert_eq!(placed("kube-flannel", "kube-flannel-ds-d"), Ok(None));
    assert_eq!(placed("default", "kube-flannel-ds-b"), Ok(None));
    fake.state().forbidden = vec!["pods"];
    assert!(placed("kube-flannel", "kube-flannel-ds-b").is_err());
    assert!(ringway_kubernetes::own_pods(&agent.settings, patience).is_err());
}
