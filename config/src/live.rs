//! A file that has changed while the agent runs: what takes effect at once, and what at the next start.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::{Config, KEYS, Log, Node, UnderlayConfig, When, show};

/// Keys of which who decides what the node is has the say.
const DECIDED: [&str; 3] = ["node.pod_cidrs", "node.vtep_mac", "node.vtep_mac_v6"];

/// A key with another value than what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path: `underlay.vni`, `peers.node2.mtu`.
    pub key: String,
    /// Both values, in words.
    pub what: String,
    /// When it takes effect.
    pub when: When,
}

/// The configuration that is in force once `new` was read while `running` was: live keys as they are now, all
/// others as they were.
///
/// Who decides what the node is stays the same until the next start, and with it what the file says of that.
pub fn in_force(running: &Config, new: &Config) -> Config {
    let node = match running.decider() == new.decider() {
        true => &new.node,
        false => &running.node,
    };
    Config {
        file: running.file.clone(),
        node: Node {
            pod_cidrs: node.pod_cidrs.clone(),
            cluster_cidrs: new.node.cluster_cidrs.clone(),
            vtep_mac: node.vtep_mac,
            vtep_mac_v6: node.vtep_mac_v6,
            ..running.node.clone()
        },
        underlay: UnderlayConfig {
            addresses: new.underlay.addresses.clone(),
            encap: new.underlay.encap,
            ..running.underlay.clone()
        },
        workers: running.workers.clone(),
        ipam: new.ipam.clone(),
        cni: running.cni.clone(),
        egress: new.egress.clone(),
        metrics: running.metrics.clone(),
        agents: running.agents.clone(),
        log: Log {
            level: new.log.level.clone(),
            ..running.log
        },
        peers: new.peers.clone(),
        kubernetes: running.kubernetes.clone(),
        etcd: running.etcd.clone(),
    }
}

/// Every key that differs, those of peers behind all others.
pub fn differences(running: &Config, new: &Config) -> Vec<Difference> {
    let (old, now) = (values(running), values(new));
    let keys: BTreeSet<&String> = old.keys().chain(now.keys()).collect();
    let mut all = Vec::new();
    for key in keys {
        let what = match (old.get(key), now.get(key)) {
            (Some(was), Some(is)) if was == is => continue,
            (Some(was), Some(is)) => format!("{key} is {is}, was {was}"),
            (Some(was), None) => format!("{key} is gone, was {was}"),
            (None, Some(is)) => format!("{key} is {is}, and was not there"),
            (None, None) => continue,
        };
        let doc = KEYS.iter().find(|doc| doc.key == *key);
        let waits = running.decider() != new.decider() && DECIDED.contains(&key.as_str());
        let when = match doc {
            Some(doc) if !waits => doc.when,
            _ => When::Restart,
        };
        let key = key.clone();
        all.push(Difference { key, what, when });
    }
    all.extend(peers(running, new));
    all
}

fn peers(running: &Config, new: &Config) -> Vec<Difference> {
    fn named(config: &Config) -> BTreeMap<&str, &super::Peer> {
        let peers = config.peers.iter();
        peers.map(|peer| (peer.name.as_str(), peer)).collect()
    }
    let live = |key: String, what: String| Difference {
        key,
        what,
        when: When::Live,
    };
    let (old, now) = (named(running), named(new));
    let mut all = Vec::new();
    for (name, peer) in &now {
        let key = format!("peers.{name}");
        match old.get(name) {
            None => all.push(live(key.clone(), format!("{key} is new"))),
            Some(was) if *was == *peer => {}
            Some(was) => {
                let (was, is) = (of_peer(was), of_peer(peer));
                for (field, is) in is {
                    let was = was.get(field).map_or("not there", String::as_str);
                    if is != was {
                        let key = format!("{key}.{field}");
                        all.push(live(key.clone(), format!("{key} is {is}, was {was}")));
                    }
                }
            }
        }
    }
    let gone = old.keys().filter(|name| !now.contains_key(**name));
    all.extend(gone.map(|name| live(format!("peers.{name}"), format!("peers.{name} is gone"))));
    all
}

fn of_peer(peer: &super::Peer) -> BTreeMap<&'static str, String> {
    let mtu = peer
        .mtu
        .map_or("not there".to_owned(), |mtu| mtu.to_string());
    BTreeMap::from([
        ("addresses", format!("{:?}", peer.addresses)),
        ("pod_cidrs", format!("{:?}", peer.pod_cidrs)),
        ("encap", format!("{:?}", peer.encap).to_lowercase()),
        ("mtu", mtu),
        ("vtep_mac", peer.vtep_mac.to_string()),
        ("vtep_mac_v6", peer.vtep_mac_v6.to_string()),
    ])
}

/// Every key but those of peers, with its value.
fn values(config: &Config) -> BTreeMap<String, String> {
    // Of a thousand peers a copy would cost more than all the rest.
    let without_peers = Config {
        file: config.file.clone(),
        node: config.node.clone(),
        underlay: config.underlay.clone(),
        workers: config.workers.clone(),
        ipam: config.ipam.clone(),
        cni: config.cni.clone(),
        egress: config.egress.clone(),
        metrics: config.metrics.clone(),
        agents: config.agents.clone(),
        log: config.log.clone(),
        peers: Vec::new(),
        kubernetes: config.kubernetes.clone(),
        etcd: config.etcd.clone(),
    };
    let mut all = BTreeMap::new();
    // What `config show` prints can always be read back.
    if let Ok(Value::Table(sections)) = toml::from_str(&show(&without_peers)) {
        for (section, keys) in sections {
            for (key, value) in keys.as_table().into_iter().flatten() {
                all.insert(format!("{section}.{key}"), value.to_string());
            }
        }
    }
    all
}
