//! A node is taken over from Flannel and given back, while pods that were there before keep their network.
//!
//! ```text
//!   old  old            new               far  far
//!    │    │              │                 │    │
//!   cni0 (Flannel's)  TAP (Ringway's)     cni0 (Flannel's)
//!    └──── node's stack ──┘                │
//!              node 1 ═══════ VXLAN ═══════ node 2
//! ```
//! Node 2 is told of nothing: what it knows of node 1 is Flannel's MAC address.

use crate::common::{assert_none, check_traffic};
use crate::harness::{eventually, network_test};
use crate::live::Volley;
use ringway_perf::lab::{Family, Mode, NodeKind, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Host-local's books of pods on a bridge, as they lie in `folder`.
fn book(folder: &Path, pod: &Pod) {
    let network = folder.join("cbr0");
    fs::create_dir_all(&network).unwrap();
    for family in Family::BOTH {
        let text = format!("{}\r\neth0", pod.ns.name());
        fs::write(network.join(pod.ip(family).to_string()), text).unwrap();
    }
}

fn all_reach_all(what: &str, pairs: &[(&Pod, &Pod)]) -> Vec<String> {
    let mut failures = Vec::new();
    for family in Family::BOTH {
        for (one, other) in pairs {
            for (from, to) in [(one, other), (other, one)] {
                let what = format!("{what}, {} to {}", from.ns.name(), to.ns.name());
                failures.extend(check_traffic(&what, &from.ns, &to.ns, to.ip(family)));
            }
        }
    }
    failures
}

fn on_bridge(status: &Value) -> Vec<String> {
    let pods = status["left_pods"].as_array().into_iter().flatten();
    let mut all: Vec<String> = pods
        .map(|pod| pod["container_id"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn a_node_is_taken_over_and_given_back_with_two_pods_that_stay() {
    let name = "a_node_is_taken_over_and_given_back_with_two_pods_that_stay";
    network_test(name, Duration::from_secs(170), || {
        let mut topology = Topology::kernel(Mode::Full).unwrap();
        let [old1, old2, far1] = topology.add_three_pods().unwrap();
        let far2 = topology.n2.add_pod().unwrap();
        let others = Family::BOTH
            .map(|family| Volley::start("pods of node 2", &far1.ns, &far2.ns, far2.ip(family)));
        let n1 = topology.n1.ns.clone();
        let (lab, peer) = (&topology.lab, NodeKind::KernelVxlan);
        let options = RingwayOptions::default();
        let made = topology.n1.put_agent(options, lab, &peer, |folder, text| {
            let at = |name: &str| folder.join(name).display().to_string();
            let cni = format!(
                "[cni]\ninstall = true\nbin_dir = {:?}\nconf_dir = {:?}\nbooks = {:?}\n",
                at("bin"),
                at("net.d"),
                at("books")
            );
            text.replace("[node]", "[node]\ntakeover = true") + &cni
        });
        let agent = made.unwrap();
        let (books, conflist) = (
            agent.folder().join("books"),
            agent.folder().join("net.d/05-ringway.conflist"),
        );
        for pod in [&old1, &old2] {
            book(&books, pod);
        }

        agent.start().unwrap();
        let links = n1.ip("-o link show").unwrap();
        assert!(!links.contains("flannel"), "{links}");
        eventually("our conflist is in force", SOON, || conflist.exists());
        let status = agent.json(&["status"]).unwrap();
        let mut both = vec![old1.ns.name().to_owned(), old2.ns.name().to_owned()];
        both.sort();
        assert_eq!(on_bridge(&status), both);
        let shown = agent.cli(&["status"]).unwrap();
        assert!(shown.contains("kubectl"), "{shown}");

        let new = topology.n1.add_pod().unwrap();
        let pairs = [(&old1, &new), (&old1, &far1), (&new, &far1), (&old1, &old2)];
        let mut failures = all_reach_all("taken over", &pairs);
        for family in Family::BOTH {
            failures.extend(check_traffic("node", &n1, &old1.ns, old1.ip(family)));
            failures.extend(check_traffic("node", &n1, &new.ns, new.ip(family)));
        }
        assert_none(&failures);

        // An agent that starts anew finds them again.
        let agent = topology.n1.agent().unwrap();
        assert!(agent.stop());
        agent.start().unwrap();
        assert_none(&all_reach_all(
            "restarted",
            &[(&old2, &far2), (&old2, &new)],
        ));

        // One is made anew: its runtime takes it away, its books go.
        topology
            .n1
            .ns
            .ip(&format!("link del {}", port(&old2)))
            .unwrap();
        for family in Family::BOTH {
            fs::remove_file(books.join("cbr0").join(old2.ip(family).to_string())).unwrap();
        }
        let agent = topology.n1.agent().unwrap();
        eventually("one is left", SOON, || {
            on_bridge(&agent.json(&["status"]).unwrap()) == [old1.ns.name()]
        });

        // With a pod of ours it is not given back by accident.
        let refused = agent.cli(&["give-back"]).unwrap_err().to_string();
        assert!(refused.contains("kubectl drain"), "{refused}");
        let said = agent.cli(&["give-back", "--yes"]).unwrap();
        assert!(
            said.contains("ringway0") && said.contains(&new.name()),
            "{said}"
        );
        assert!(!conflist.exists());
        let links = n1.ip("-o link show").unwrap();
        assert!(!links.contains("ringway0"), "{links}");
        let bridge = n1.ip("-o addr show dev cni0").unwrap();
        assert!(
            bridge.contains("10.77.1.1/24") && bridge.contains("fd77:1::1/64"),
            "{bridge}"
        );
        let idle = |agent: &ringway_perf::lab::Agent| {
            let refused = agent.cli(&["status"]).err().map(|e| e.to_string());
            refused.is_some_and(|text| text.contains("given back"))
        };
        eventually("it is idle", SOON, || idle(agent));
        // It stays so when it is started again.
        assert!(agent.stop());
        agent.launch().unwrap();
        eventually("it is idle again", SOON, || idle(agent));

        topology.n1.put_flannel(&peer).unwrap();
        assert_none(&all_reach_all("given back", &[(&old1, &far1)]));
        let again = topology.n1.add_pod().unwrap();
        assert_none(&all_reach_all(
            "Flannel's again",
            &[(&again, &far2), (&again, &old1)],
        ));
        for volley in others {
            volley.all_arrived();
        }
    });
}

/// The bridge's end of a pod.
fn port(pod: &Pod) -> String {
    let host = pod.ip(Family::V4).to_string();
    format!("veth{}", host.rsplit('.').next().unwrap())
}

#[test]
fn an_agent_waits_for_flannel_and_starts_when_it_has_left() {
    let name = "an_agent_waits_for_flannel_and_starts_when_it_has_left";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::kernel(Mode::Full).unwrap();
        let n1 = topology.n1.ns.clone();
        let (lab, peer) = (&topology.lab, NodeKind::KernelVxlan);
        let made = topology
            .n1
            .put_agent(RingwayOptions::default(), lab, &peer, |_, text| {
                text.replace("[node]", "[node]\ntakeover = true")
            });
        let agent = made.unwrap();
        // What stands in for flanneld is a program of that name.
        let flanneld = agent.folder().join("flanneld");
        fs::copy("/bin/sleep", &flanneld).unwrap();
        let start = || std::process::Command::new(&flanneld).arg("60").spawn();
        let mut process = n1.run(start).unwrap().unwrap();
        agent.launch().unwrap();
        eventually("it says what it waits for", SOON, || {
            let said = agent.cli(&["status"]).err().map(|e| e.to_string());
            said.is_some_and(|text| {
                text.contains("is flanneld") && text.contains("ringway.io/node=true")
            })
        });
        assert!(n1.ip("-o link show").unwrap().contains("flannel.1"));
        process.kill().unwrap();
        process.wait().unwrap();
        topology.n1.agent().unwrap().wait_ready().unwrap();
        assert!(!n1.ip("-o link show").unwrap().contains("flannel.1"));
        let (new, far) = (
            topology.n1.add_pod().unwrap(),
            topology.n2.add_pod().unwrap(),
        );
        for family in Family::BOTH {
            let pinged = ping(&new.ns, far.ip(family), 3, 56, SOON).unwrap();
            assert!(pinged.all(), "{family}: {pinged}");
        }
    });
}
