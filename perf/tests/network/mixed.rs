//! One cluster of Ringway's nodes and of Flannel's, which know each other by the Kubernetes API alone.
//!
//! ```text
//!   n1, n2: agents with [kubernetes]        n3, n4: kernel VXLAN, programmed from the annotations as flanneld does
//!        └───────────────┬─ watch, patch ─────────┴── read ──┐
//!                        ▼                                   ▼
//!                  API server on the host beside them (192.168.77.200)
//! ```

use crate::common::{assert_none, check_traffic};
use crate::harness::{eventually, network_test};
use crate::live::Volley;
use ringway_kubernetes::testing::Fake;
use ringway_perf::lab::{Cluster, Family, Netns, Pod, plan};
use ringway_perf::traffic::ping;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

const PREFIX: &str = "flannel.alpha.coreos.com/";
const SOON: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_millis(500);

/// Nodes, pods, and the API server that they know each other by.
pub(crate) struct Mixed {
    fake: Arc<Mutex<Fake>>,
    flanneld: Vec<Flanneld>,
    pub(crate) pods: BTreeMap<u8, Pod>,
    pub(crate) cluster: Cluster,
}

impl Mixed {
    /// Two Ringway nodes and two of Flannel's, a pod on each.
    pub(crate) fn new() -> Mixed {
        let cluster = Cluster::new().unwrap();
        let at = SocketAddr::from((cluster.host_ip(), 6443));
        let fake = cluster.host().run(|| Fake::start_at(at)).unwrap();
        let networks = r#"{"Network":"10.77.0.0/16","EnableIPv6":true,"IPv6Network":"fd77::/16","Backend":{"Type":"vxlan"}}"#;
        fake.put(
            "configmaps",
            json!({
                "metadata": {"name": "kube-flannel-cfg", "namespace": "kube-flannel"},
                "data": {"net-conf.json": networks},
            }),
        );
        let fake = Arc::new(Mutex::new(fake));
        let mut mixed = Mixed {
            fake,
            flanneld: Vec::new(),
            pods: BTreeMap::new(),
            cluster,
        };
        (1..=2).for_each(|i| mixed.add_ringway(i));
        (3..=4).for_each(|i| mixed.add_flannel(i));
        mixed
    }

    fn put(&self, node: Value) {
        self.fake.lock().unwrap().put("nodes", node);
    }

    pub(crate) fn add_ringway(&mut self, i: u8) {
        self.put(node(i));
        let kubeconfig = self
            .fake
            .lock()
            .unwrap()
            .kubeconfig(&self.cluster.lab.folder());
        let sections = format!("[kubernetes]\nkubeconfig = {:?}\n", kubeconfig.display());
        let node = self.cluster.add_ringway(i, &sections).unwrap();
        // Its networks come from its object.
        let mut pod = None;
        eventually("a pod can be attached", SOON, || {
            pod = pod.take().or_else(|| node.new_pod().ok());
            pod.as_ref().is_some_and(|pod| node.attach(pod).is_ok())
        });
        self.pods.insert(i, pod.unwrap());
    }

    fn add_flannel(&mut self, i: u8) {
        let node = self.cluster.add_kernel(i).unwrap();
        let ns = node.ns.clone();
        self.pods.insert(i, node.add_pod().unwrap());
        self.put(flannels(i, i));
        self.flanneld
            .push(Flanneld::start(i, ns, self.fake.clone()));
    }

    fn remove(&mut self, i: u8) {
        self.flanneld.retain(|flanneld| flanneld.number != i);
        self.fake
            .lock()
            .unwrap()
            .delete("nodes", "", &format!("node{i}"));
        self.pods.remove(&i);
        self.cluster.remove(i).unwrap();
    }

    /// Waits until every pod reaches every other one, and then looks closely.
    fn all_reach_all(&self) {
        let mut failures = Vec::new();
        for (i, from) in &self.pods {
            for (j, to) in self.pods.iter().filter(|(j, _)| *j != i) {
                for family in Family::BOTH {
                    let (what, address) = (format!("n{i} to n{j}"), to.ip(family));
                    eventually(&format!("{what} {family}"), SOON, || {
                        reaches(&from.ns, address)
                    });
                    failures.extend(check_traffic(&what, &from.ns, &to.ns, address));
                }
            }
        }
        assert_none(&failures);
    }

    /// Traffic between two nodes' pods, both ways, of which nothing may be lost.
    fn volleys(&self, i: u8, j: u8) -> Vec<Volley> {
        let (one, other) = (&self.pods[&i], &self.pods[&j]);
        let start = |(from, to, family): (&Pod, &Pod, Family)| {
            // Neighbours are known before.
            eventually("the first packet", SOON, || {
                reaches(&from.ns, to.ip(family))
            });
            Volley::start(
                &format!("n{} to n{} {family}", from.node, to.node),
                &from.ns,
                &to.ns,
                to.ip(family),
            )
        };
        [(one, other, Family::V4), (other, one, Family::V6)]
            .map(start)
            .into()
    }
}

fn reaches(from: &Netns, to: std::net::IpAddr) -> bool {
    ping(from, to, 1, 56, LIMIT).is_ok_and(|report| report.all())
}

/// A Node before anything runs on it.
fn node(i: u8) -> Value {
    let cidrs = Family::BOTH.map(|family| plan::pod_cidr(i, family));
    let addresses = Family::BOTH
        .map(|f| json!({"type": "InternalIP", "address": plan::underlay(i, f).to_string()}));
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": format!("node{i}"), "uid": format!("uid-{i}"), "annotations": {},
                     "creationTimestamp": format!("2026-11-28T10:00:{i:02}Z")},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": addresses, "conditions": []},
    })
}

/// A Node with what flanneld writes there; `at` is its number on the wire.
fn flannels(i: u8, at: u8) -> Value {
    let mut node = node(i);
    let data = |family| {
        format!(
            "{{\"VNI\":1,\"VtepMAC\":\"{}\"}}",
            plan::kernel_vtep_mac(i, family)
        )
    };
    let mut annotations = serde_json::Map::new();
    for (key, value) in [
        ("kube-subnet-manager", "true".to_owned()),
        ("backend-type", "vxlan".to_owned()),
        ("backend-data", data(Family::V4)),
        ("backend-v6-data", data(Family::V6)),
        ("public-ip", plan::underlay(at, Family::V4).to_string()),
        ("public-ipv6", plan::underlay(at, Family::V6).to_string()),
    ] {
        annotations.insert(format!("{PREFIX}{key}"), value.into());
    }
    node["metadata"]["annotations"] = annotations.into();
    node
}

/// What flanneld's vxlan backend does with the others' annotations: three entries for each node and family
/// (pkg/backend/vxlan/vxlan_network.go). It reads them with nothing of ours.
struct Flanneld {
    number: u8,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flanneld {
    fn start(number: u8, ns: Netns, fake: Arc<Mutex<Fake>>) -> Flanneld {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut known: BTreeMap<String, [String; 4]> = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                let nodes = fake.lock().unwrap().state().all("nodes");
                let own = format!("node{number}");
                let others = nodes
                    .iter()
                    .filter(|node| node["metadata"]["name"] != own.as_str());
                let wanted: BTreeMap<String, [String; 4]> = others.flat_map(entries).collect();
                for (key, [device, cidr, via, mac]) in
                    known.iter().filter(|(key, _)| !wanted.contains_key(*key))
                {
                    // Whatever is gone already.
                    let _ = ns.ip(&format!("route del {cidr} dev {device}"));
                    let _ = ns.ip(&format!("neigh del {via} dev {device}"));
                    let _ = ns.command("bridge", &format!("fdb del {mac} dev {device}"));
                    let _ = key;
                }
                for (key, entry) in &wanted {
                    if known.get(key) == Some(entry) {
                        continue;
                    }
                    let [device, cidr, via, mac] = entry;
                    let public = key.rsplit(' ').next().unwrap();
                    ns.command(
                        "bridge",
                        &format!("fdb replace {mac} dev {device} dst {public}"),
                    )
                    .unwrap();
                    ns.ip_batch(&format!(
                        "neigh replace {via} lladdr {mac} dev {device} nud permanent\n\
                         route replace {cidr} via {via} dev {device} onlink\n"
                    ))
                    .unwrap();
                }
                known = wanted;
                sleep(Duration::from_millis(50));
            }
        });
        Flanneld {
            number,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Flanneld {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(ended, Some(Ok(()))),
            "the script of flanneld has failed"
        );
    }
}

/// Device, network, its first address, MAC, by network and outer address.
fn entries(node: &Value) -> Vec<(String, [String; 4])> {
    let get = |key: &str| node["metadata"]["annotations"][format!("{PREFIX}{key}")].as_str();
    if get("kube-subnet-manager") != Some("true") || get("backend-type") != Some("vxlan") {
        return Vec::new();
    }
    let mut all = Vec::new();
    let keys = [
        ("flannel.1", "backend-data", "public-ip"),
        ("flannel-v6.1", "backend-v6-data", "public-ipv6"),
    ];
    for (device, data, public) in keys {
        let (Some(data), Some(public)) = (get(data), get(public)) else {
            continue;
        };
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["VNI"], 1);
        let mac = data["VtepMAC"].as_str().unwrap().to_owned();
        let v6 = device.contains("v6");
        let cidrs = node["spec"]["podCIDRs"].as_array().unwrap();
        let cidr = cidrs
            .iter()
            .filter_map(Value::as_str)
            .find(|cidr| cidr.contains(':') == v6)
            .unwrap();
        let via = cidr.split('/').next().unwrap().to_owned();
        all.push((
            format!("{cidr} {public}"),
            [device.to_owned(), cidr.to_owned(), via, mac],
        ));
    }
    all
}

#[test]
fn pods_of_both_kinds_of_nodes_reach_each_other() {
    let name = "pods_of_both_kinds_of_nodes_reach_each_other";
    network_test(name, Duration::from_secs(120), || {
        let mut mixed = Mixed::new();
        mixed.all_reach_all();
        let told = mixed.fake.lock().unwrap().node("node1");
        let annotations = &told["metadata"]["annotations"];
        assert_eq!(annotations[format!("{PREFIX}public-ip")], "192.168.77.1");
        let data = format!(
            "{{\"VNI\":1,\"VtepMAC\":\"{}\"}}",
            plan::ringway_vtep_mac(1)
        );
        assert_eq!(annotations[format!("{PREFIX}backend-data")], data);
        assert_eq!(told["status"]["conditions"][0]["reason"], "RingwayIsUp");
        // Whatever pings were sent before a node was known.
        for i in 1..=2 {
            let drops = mixed.cluster.node(i).unwrap().drops().unwrap();
            println!("dropped at n{i}: {drops:?}");
        }
    });
}

#[test]
fn nodes_join_leave_restart_and_move_under_traffic() {
    let name = "nodes_join_leave_restart_and_move_under_traffic";
    network_test(name, Duration::from_secs(180), || {
        let mut mixed = Mixed::new();
        mixed.all_reach_all();
        let mut volleys = mixed.volleys(1, 3);
        volleys.extend(mixed.volleys(1, 2));
        mixed.add_flannel(5);
        mixed.add_ringway(6);
        let (five, six) = (mixed.pods[&5].clone(), mixed.pods[&6].clone());
        for family in Family::BOTH {
            eventually("the new ones talk", SOON, || {
                reaches(&five.ns, six.ip(family))
            });
        }
        // One gets another address.
        let node4 = mixed.cluster.node(4).unwrap().ns.clone();
        node4
            .ip_batch(
                "addr add 192.168.77.44/24 dev eth0\naddr add fd00:77::2c/64 dev eth0 nodad\n",
            )
            .unwrap();
        for (device, local) in [
            ("flannel.1", "192.168.77.44"),
            ("flannel-v6.1", "fd00:77::2c"),
        ] {
            node4
                .ip(&format!("link set {device} type vxlan local {local}"))
                .unwrap();
        }
        mixed.put(flannels(4, 44));
        let (one, four) = (mixed.pods[&1].clone(), mixed.pods[&4].clone());
        for family in Family::BOTH {
            eventually("node 4 is reached where it is now", SOON, || {
                reaches(&one.ns, four.ip(family))
            });
            eventually("and reaches", SOON, || reaches(&four.ns, one.ip(family)));
        }
        mixed.remove(5);
        mixed.remove(6);
        eventually("nobody is where node 5 was", SOON, || {
            let routes = mixed
                .cluster
                .node(1)
                .unwrap()
                .agent()
                .unwrap()
                .cli(&["tables", "routes"])
                .unwrap();
            !routes.contains("10.77.5.0") && !routes.contains("10.77.6.0")
        });
        volleys.into_iter().for_each(Volley::all_arrived);

        // One of ours restarts; the others do not notice.
        let volleys = mixed.volleys(1, 3);
        let agent = mixed.cluster.node(2).unwrap().agent().unwrap();
        assert!(agent.stop());
        agent.start().unwrap();
        mixed.all_reach_all();
        volleys.into_iter().for_each(Volley::all_arrived);
    });
}

#[test]
fn a_node_starts_while_the_api_server_is_away() {
    let name = "a_node_starts_while_the_api_server_is_away";
    network_test(name, Duration::from_secs(120), || {
        let mut mixed = Mixed::new();
        mixed.all_reach_all();
        // Every five seconds it is recorded.
        sleep(Duration::from_secs(6));
        mixed.fake.lock().unwrap().go_away();
        let agent = mixed.cluster.node(1).unwrap().agent().unwrap();
        agent.kill();
        agent.start().unwrap();
        let (one, three) = (&mixed.pods[&1], &mixed.pods[&3]);
        for family in Family::BOTH {
            assert!(reaches(&one.ns, three.ip(family)), "at once, {family}");
        }
        let agent = mixed.cluster.node(1).unwrap().agent().unwrap();
        eventually("it says so", SOON, || {
            agent.json(&["status"]).unwrap()["sources"][0]["state"] == "stale"
        });
        mixed.all_reach_all();
        let host = mixed.cluster.host().clone();
        host.run(|| mixed.fake.lock().unwrap().come_back()).unwrap();
        mixed.add_flannel(5);
        mixed.all_reach_all();
    });
}
