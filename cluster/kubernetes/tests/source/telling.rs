//! What the API is told, and who says otherwise.

use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{Agent, local};
use crate::faked::{bare, node, start};
use ringway_kubernetes::testing::Fake;

/// The condition as the server has it.
fn condition(fake: &Fake) -> Value {
    let node = fake.node("n1");
    let all = node["status"]["conditions"].as_array().unwrap();
    let network = all.iter().find(|c| c["type"] == "NetworkUnavailable");
    network.cloned().unwrap_or_default()
}

fn with_condition(status: &str, reason: &str) -> Value {
    let mut node = bare(1);
    node["status"]["conditions"] =
        json!([{"type": "NetworkUnavailable", "status": status, "reason": reason}]);
    node
}

#[test]
fn a_condition_of_somebody_else_is_named_and_left() {
    let fake = Fake::start();
    fake.put("nodes", with_condition("True", "CalicoIsDown"));
    let agent = start(&fake);
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    agent.until_problem("\"CalicoIsDown\") and is left to it");
    agent.until("the annotations", |_| fake.state().patches.len() == 1);
    assert_eq!(condition(&fake)["reason"], "CalicoIsDown");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(ringway_kubernetes::set_unavailable(&agent.settings));
    assert!(refused.unwrap_err().contains("CalicoIsDown"));
    // Who left it there has gone.
    fake.put("nodes", with_condition("True", "NoRouteCreated"));
    agent.until("ours", |_| condition(&fake)["reason"] == "RingwayIsUp");
    agent.until("no problem is left", |a| a.status().problems.is_empty());
}

#[test]
fn unavailable_is_for_give_back_alone() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    let agent = start(&fake);
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    agent.until("up", |_| condition(&fake)["status"] == "False");
    let mut idle = local("n1", &["10.128.1.0/24"]);
    idle.forwards = false;
    agent.local.send_replace(idle);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(condition(&fake)["status"], "False", "nobody has said so");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(ringway_kubernetes::set_unavailable(&agent.settings))
        .unwrap();
    assert_eq!(condition(&fake)["status"], "True");
    assert_eq!(condition(&fake)["reason"], "RingwayIsGone");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        condition(&fake)["status"],
        "True",
        "the source agrees while it does not forward"
    );
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    agent.until("up again", |_| condition(&fake)["reason"] == "RingwayIsUp");
}

#[test]
fn who_writes_against_us_is_named_and_not_outrun() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    let agent = start(&fake);
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    for i in 1..=6 {
        agent.until("a patch", |_| fake.state().patches.len() >= i);
        fake.put("nodes", bare(1));
    }
    agent.until_problem("somebody else changes this node's annotations");
    let before = fake.state().patches.len();
    std::thread::sleep(Duration::from_secs(3));
    assert!(fake.state().patches.len() <= before + 1, "once a minute");
}

/// The watch has said it before the answer to the own patch is there, which says what was before that.
#[test]
fn what_somebody_writes_before_our_own_is_answered_is_seen() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    fake.state().pause_patches = Duration::from_millis(500);
    let agent = start(&fake);
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    agent.until("a patch", |_| fake.state().patches.len() == 1);
    fake.put("nodes", bare(1));
    agent.until("another patch", |_| fake.state().patches.len() == 2);
}

#[test]
fn a_patch_that_is_refused_is_named() {
    let fake = Fake::start();
    fake.put("nodes", bare(1));
    fake.state().refuse_patches = Some(403);
    let agent = start(&fake);
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    agent.until_problem("this node's annotations cannot be written: ");
    fake.state().refuse_patches = None;
    agent.until("no problem is left", |a| a.status().problems.is_empty());
    assert_eq!(condition(&fake)["reason"], "RingwayIsUp");
}

/// Reason, Node and writer of each Event, in order.
fn events(fake: &Fake) -> Vec<[String; 3]> {
    let written = fake.state().events_written.clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |e: &Value| {
        [
            text(&e["reason"]),
            text(&e["regarding"]["name"]),
            text(&e["reportingInstance"]),
        ]
    };
    let mut all: Vec<_> = written.iter().map(of).collect();
    all.sort();
    all
}

#[test]
fn what_is_wrong_with_nodes_is_an_event_by_one_of_them() {
    let fake = Fake::start();
    (1..=3).for_each(|i| fake.put("nodes", bare(i)));
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let third = Agent::start_in(dir.clone(), "n3", fake.kubeconfig(dir.path()));
    let first = start(&fake);
    let version = |name: &str| {
        let annotations = fake.node(name)["metadata"]["annotations"].clone();
        annotations["ringway.io/version"].is_string()
    };
    let mut three = local("n3", &["10.128.3.0/24"]);
    three.addresses = vec!["10.77.0.3".parse().unwrap()];
    third.local.send_replace(three);
    first.local.send_replace(local("n1", &["10.128.1.0/24"]));
    first.until("both have said who they are", |_| {
        version("n1") && version("n3")
    });
    third.until_via("10.128.1.9", Some("peer n1"));
    first.until_via("10.128.3.9", Some("peer n3"));
    // A node without an agent: the oldest that has one speaks.
    let mut other = node(2);
    let data = "flannel.alpha.coreos.com/backend-data";
    other["metadata"]["annotations"][data] = json!("{\"VNI\":7,\"VtepMAC\":\"12:c6:65:89:00:02\"}");
    fake.put("nodes", other.clone());
    let mut same = node(5);
    same["spec"] = bare(3)["spec"].clone();
    fake.put("nodes", same);
    let event = |reason: &str, about: &str, by: &str| [reason, about, by].map(str::to_owned);
    let mut wanted = vec![
        event("EncapsulationMismatch", "n2", "n1"),
        event("NetworkConflict", "n5", "n1"),
    ];
    first.until("two Events", |_| events(&fake) == wanted);
    // A node with an agent says itself what is wrong with it, but for what its peers see alone.
    let mut third_node = fake.node("n3");
    third_node["spec"] = bare(1)["spec"].clone();
    fake.put("nodes", third_node);
    wanted.push(event("NetworkConflict", "n3", "n3"));
    wanted.sort();
    first.until("three Events", |_| events(&fake) == wanted);
    // Its own agent would have it right again at once.
    fake.state().refuse_patches = Some(403);
    let mut third_node = fake.node("n3");
    third_node["metadata"]["annotations"][data] = other["metadata"]["annotations"][data].clone();
    fake.put("nodes", third_node);
    wanted.push(event("EncapsulationMismatch", "n3", "n1"));
    wanted.sort();
    first.until("four Events", |_| events(&fake) == wanted);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(events(&fake), wanted);
}
