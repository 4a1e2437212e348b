//! The source, its role and its admission policy against a real kube-apiserver.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::agent::{Agent, local};
use crate::api::Api;
use ringway_cluster::source::State;
use ringway_kubernetes::{About, Report};
use serde_json::{Value, json};

/// The manifest that users apply.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/ringway.yaml");

/// A node as its kubelet makes it, and with it a pod of ours.
fn node(api: &Api, i: u16) {
    let name = format!("n{i}");
    let images: Vec<Value> = (0..50).map(|n| json!({"names": [format!("registry.example/team/image-{n}:v1.2.3@sha256:{n:064}")], "sizeBytes": 7_000_000})).collect();
    api.apply(&json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        "spec": {"podCIDR": format!("10.244.{i}.0/24"), "podCIDRs": [format!("10.244.{i}.0/24")]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.77.0.{i}")}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
                            "lastHeartbeatTime": "2026-11-28T10:00:00Z", "lastTransitionTime": "2026-11-28T10:00:00Z"}],
            "images": images,
        },
    }));
    api.apply(&json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": format!("ringway-{name}"), "namespace": "ringway"},
        "spec": {"nodeName": name, "serviceAccountName": "ringway", "hostNetwork": true,
                 "containers": [{"name": "agent", "image": "localhost/ringway:0.1.0"}]},
    }));
}

fn cluster(flags: &[&str], nodes: u16) -> Option<Api> {
    let api = Api::start(flags)?;
    // The namespace is there a moment before it can be used.
    for _ in 0..20 {
        let (done, text) = api.kubectl(&["apply", "--server-side", "-f", MANIFEST], None);
        if done {
            break;
        }
        println!("{text}");
        std::thread::sleep(Duration::from_millis(500));
    }
    (1..=nodes).for_each(|i| node(&api, i));
    Some(api)
}

fn start(api: &Api, i: u16) -> Agent {
    let agent = Agent::start(
        &format!("n{i}"),
        api.service_account(Some(&format!("ringway-n{i}"))),
    );
    let cidr = format!("10.244.{i}.0/24");
    agent.until_via(&format!("10.244.{i}.7"), Some("this node"));
    let mut now = local(&format!("n{i}"), &[&cidr]);
    now.addresses = vec![format!("10.77.0.{i}").parse().unwrap()];
    agent.local.send_replace(now);
    agent
}

#[test]
fn authority_and_token_are_replaced_under_a_running_agent() {
    let Some(mut api) = cluster(&[], 1) else {
        return;
    };
    let agent = start(&api, 1);
    let current = |a: &Agent| a.status().state == State::Current && a.status().error.is_none();
    agent.until("it is current", current);
    api.kill();
    agent.until("the server is missed", |a| a.status().error.is_some());
    api.renew_certificates();
    api.serve();
    // The agent has the old authority and the old token until the files say otherwise, as the kubelet writes them.
    api.service_account(Some("ringway-n1"));
    // A token that is refused is read again after a minute at the latest.
    agent.until_within(Duration::from_secs(120), "it is current again", current);
    assert_eq!(agent.via("10.244.1.7").as_deref(), Some("this node"));
}

#[test]
fn three_nodes_find_each_other_and_ask_for_no_more_than_they_are_granted() {
    let Some(api) = cluster(&[], 3) else { return };
    let agents: Vec<Agent> = (1..=3).map(|i| start(&api, i)).collect();
    for (i, agent) in (1..).zip(&agents) {
        for j in (1..=3).filter(|j| *j != i) {
            agent.until_via(&format!("10.244.{j}.7"), Some(&format!("peer n{j}")));
        }
        agent.until("it is current", |a| a.status().state == State::Current);
        agent.until("every kind is followed", |a| a.status().error.is_none());
        assert_eq!(agent.status().problems, Vec::<String>::new());
    }
    let told = api.get("node", "n1");
    let annotations = &told["metadata"]["annotations"];
    assert_eq!(
        annotations["flannel.alpha.coreos.com/public-ip"],
        "10.77.0.1"
    );
    let conditions = told["status"]["conditions"].as_array().unwrap();
    let of = |kind: &str| conditions.iter().find(|c| c["type"] == kind).unwrap();
    assert_eq!(of("NetworkUnavailable")["reason"], "RingwayIsUp");
    assert_eq!(of("Ready")["status"], "True");
    // A node that goes, and an Event.
    api.kubectl(&["delete", "node", "n3"], None);
    agents[0].until_via("10.244.3.7", None);
    let report = Report {
        about: About::Node("n1".into()),
        warning: true,
        reason: "RangeFull",
        action: "Attaching",
        note: "no address is left in 10.244.1.0/24".into(),
    };
    assert!(agents[0].handle.as_ref().unwrap().reporter().report(report));
    let events = || api.kubectl(&["get", "events", "-A"], None).1;
    agents[0].until("the Event", |_| events().contains("RangeFull"));
    drop(agents);

    let mut used = BTreeSet::new();
    for (verb, what, allowed) in api.audit() {
        assert!(allowed, "{verb} {what} is not granted");
        used.insert(format!("{verb} {what}"));
    }
    // A list that streams is a watch; `list` is for servers that do not stream, and for a look after a failure.
    let streamed = [
        "create events",
        "patch nodes/status",
        "watch configmaps",
        "watch namespaces",
        "watch nodes",
        "watch pods",
    ];
    assert_eq!(
        used.iter().map(String::as_str).collect::<Vec<_>>(),
        streamed
    );
}

#[test]
fn without_streaming_lists_and_over_a_restart_of_the_server() {
    let Some(mut api) = cluster(&["--feature-gates=WatchList=false"], 2) else {
        return;
    };
    let agents: Vec<Agent> = (1..=2).map(|i| start(&api, i)).collect();
    agents[0].until_via("10.244.2.7", Some("peer n2"));
    api.kill();
    agents[0].until("it is stale", |a| a.status().state == State::Stale);
    assert_eq!(agents[0].via("10.244.2.7").as_deref(), Some("peer n2"));
    api.serve();
    // The versions of before are too old for this one.
    api.kubectl(&["delete", "node", "n2"], None);
    node(&api, 3);
    agents[0].until_via("10.244.2.7", None);
    agents[0].until("it is current", |a| a.status().state == State::Current);
    agents[0].until("every kind is followed", |a| a.status().error.is_none());
    let listed = api
        .audit()
        .iter()
        .any(|(verb, what, allowed)| verb == "list" && what == "nodes" && *allowed);
    assert!(listed);
}

#[test]
fn an_agent_may_write_its_own_annotations_and_nothing_else() {
    let Some(api) = cluster(&[], 2) else { return };
    let agents: Vec<Agent> = (1..=2).map(|i| start(&api, i)).collect();
    agents[0].until_via("10.244.2.7", Some("peer n2"));
    api.service_account(None);
    let own = r#"{"metadata":{"annotations":{"flannel.alpha.coreos.com/public-ip":"10.77.0.9"}}}"#;
    let raw = |who: &str, node: &str, body: &str| {
        let path = format!("/api/v1/nodes/{node}/status");
        api.patch(who, &path, body)
    };
    assert_eq!(raw("ringway-n1", "n1", own), 200);
    for (who, node, body) in [
        ("ringway-n1", "n2", own),
        ("ringway-n2", "n1", own),
        ("unbound", "n1", own),
        ("ringway-n1", "n1", r#"{"metadata":{"labels":{"x":"y"}}}"#),
        (
            "ringway-n1",
            "n1",
            r#"{"metadata":{"annotations":{"x":"y"}}}"#,
        ),
        (
            "ringway-n1",
            "n1",
            r#"{"status":{"addresses":[{"type":"InternalIP","address":"10.77.0.9"}]}}"#,
        ),
        (
            "ringway-n1",
            "n1",
            r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#,
        ),
        (
            "ringway-n1",
            "n1",
            r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n2","uid":"x"}]}}"#,
        ),
    ] {
        assert_eq!(raw(who, node, body), 403, "{who} {node} {body}");
    }
}
