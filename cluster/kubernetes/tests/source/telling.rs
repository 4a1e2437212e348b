//! What the API is told, and who says otherwise.

use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::local;
use crate::faked::{bare, start};
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
