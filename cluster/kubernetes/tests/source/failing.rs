//! A server that is away, slow, or lies: what was in force stays so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_cluster::source::State;
use serde_json::{Value, json};

use crate::agent::{Agent, local};
use crate::faked::{bare, node, start, two_nodes};
use ringway_kubernetes::testing::Fake;

#[test]
fn watches_that_are_cut_go_on_where_they_were() {
    let fake = Fake::start();
    (1..=3).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.3.9", Some("peer n3"));
    for i in 4..8 {
        fake.cut();
        fake.put("nodes", node(i));
        agent.until_via(&format!("10.128.{i}.9"), Some(&format!("peer n{i}")));
    }
    let lists = fake
        .state()
        .requests
        .iter()
        .filter(|r| r.contains("/nodes?") && r.contains("sendInitialEvents=true"))
        .count();
    assert_eq!(lists, 1);
    assert_eq!(
        agent.status().error,
        None,
        "a watch that ends is no failure"
    );
}

#[test]
fn a_server_that_has_nothing_to_say_is_there_again() {
    let (mut fake, agent) = two_nodes();
    fake.go_away();
    agent.until("it is stale", |a| a.status().state == State::Stale);
    fake.come_back();
    // No object changes, and still it is known.
    agent.until("it is current", |a| a.status().state == State::Current);
    agent.until("no kind fails", |a| a.status().error.is_none());
}

#[test]
fn a_server_that_hangs_is_not_waited_for() {
    let fake = Fake::start();
    (1..=2).for_each(|i| fake.put("nodes", if i == 1 { bare(1) } else { node(i) }));
    let agent = start(&fake);
    agent.until_via("10.128.2.9", Some("peer n2"));
    fake.state().hanging = true;
    // A patch that is never answered.
    agent.local.send_replace(local("n1", &["10.128.1.0/24"]));
    agent.until("the patch", |_| fake.asked("PATCH") == 1);
    assert_eq!(agent.via("10.128.2.9").as_deref(), Some("peer n2"));
    // What others say of this node is still taken in, and it ends at once.
    let begin = Instant::now();
    agent.stop();
    assert!(begin.elapsed() < Duration::from_millis(500));
}

#[test]
fn another_token_under_a_running_agent() {
    let (fake, agent) = two_nodes();
    // The kubelet has written another, and the old one is not taken any more.
    fake.state().token = "other".into();
    fake.cut();
    agent.until("it is stale", |a| a.status().state == State::Stale);
    assert!(agent.status().error.unwrap().contains("Unauthorized"));
    assert_eq!(agent.via("10.128.2.9").as_deref(), Some("peer n2"));
    fake.kubeconfig(agent.settings.state_dir.as_path());
    fake.put("nodes", node(3));
    let begin = Instant::now();
    agent.until_via("10.128.3.9", Some("peer n3"));
    let took = begin.elapsed();
    assert!(
        took < Duration::from_secs(45),
        "the token is read when the old one is refused: {took:?}"
    );
}

#[test]
fn a_node_that_cannot_be_read_any_more_stays_what_it_was() {
    let fake = Fake::start();
    (1..=3).for_each(|i| fake.put("nodes", node(i)));
    let agent = start(&fake);
    agent.until_via("10.128.3.9", Some("peer n3"));
    fake.put(
        "nodes",
        json!({"metadata": {"name": "n2"}, "spec": {"podCIDRs": 7}}),
    );
    agent.until_problem("Node \"n2\" cannot be read");
    // Not by a list either.
    fake.compact();
    fake.put("nodes", node(4));
    agent.until_via("10.128.4.9", Some("peer n4"));
    assert_eq!(agent.via("10.128.2.9").as_deref(), Some("peer n2"));
    agent.until_problem("Node \"n2\" cannot be read");
    // News of another do not take its problem away.
    fake.put("nodes", node(5));
    agent.until_via("10.128.5.9", Some("peer n5"));
    agent.until_problem("Node \"n2\" cannot be read");
    fake.put("nodes", node(2));
    agent.until("no problem is left", |a| a.status().problems.is_empty());
}

#[test]
fn what_no_server_should_say() {
    let (fake, agent) = two_nodes();
    let lies: [(&'static str, Value); 9] = [
        ("ADDED", json!({})),
        ("MODIFIED", json!(null)),
        ("MODIFIED", json!([1, 2])),
        ("DELETED", json!({"metadata": {"name": "nobody"}})),
        ("DELETED", json!({"metadata": 7})),
        ("BOOKMARK", json!({})),
        (
            "BOOKMARK",
            json!({"metadata": {"resourceVersion": "18446744073709551615"}}),
        ),
        (
            "ERROR",
            json!({"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}),
        ),
        ("WHATEVER", json!({"metadata": {"name": "n2"}})),
    ];
    for (i, (kind, lie)) in (3..).zip(lies) {
        fake.say(kind, lie.clone());
        fake.put("nodes", node(i));
        agent.until(&format!("n{i} after {kind} {lie}"), |a| {
            a.via(&format!("10.128.{i}.9")).is_some()
        });
        assert_eq!(
            agent.via("10.128.2.9").as_deref(),
            Some("peer n2"),
            "{kind} {lie}"
        );
    }
}

#[test]
fn no_kubeconfig_yet() {
    let fake = Fake::start();
    (1..=2).for_each(|i| fake.put("nodes", node(i)));
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let agent = Agent::start_in(dir.clone(), "n1", dir.path().join("kubeconfig"));
    agent.until("it says why", |a| {
        a.status().error.is_some_and(|e| e.contains("kubeconfig"))
    });
    assert_eq!(agent.status().state, State::Waiting);
    fake.kubeconfig(dir.path());
    agent.until_via("10.128.2.9", Some("peer n2"));
}
