//! What the API is told of this node: Flannel's annotations, and that the node has a network.
//!
//! | Call | Verb and object | When |
//! |---|---|---|
//! | annotations, condition | `patch nodes/status`, this node's | what is there differs from what is in force |
//!
//! Nothing is taken back when the agent ends: its peers and pods go on. `NetworkUnavailable=True` is for uninstall
//! and give-back alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, Patch, PatchParams};
use ringway_cluster::EncapKind;
use ringway_cluster::flannel::{Annotations, Backend, Vtep};
use ringway_cluster::source::Local;
use serde_json::{Value, json};
use std::net::IpAddr;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::settings::{Settings, chain};
use crate::slim::{NetworkCondition, Node, Object, VERSION_KEY};

/// Reason of the condition while this node forwards.
pub const UP: &str = "RingwayIsUp";
/// Reason of the condition once Ringway was taken from the node.
pub const GONE: &str = "RingwayIsGone";

/// Reasons that may be replaced: our own, Flannel's, and those of a cloud's controller that waits for somebody to
/// bring a network.
const REPLACED: [&str; 5] = [
    UP,
    GONE,
    "FlannelIsUp",
    "NoRouteCreated",
    "NodeInitialization",
];

/// How long the server may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The least time from one patch to the next.
const PACE: Duration = Duration::from_secs(1);
/// The same once somebody else writes other values again and again.
const FIGHT_PACE: Duration = Duration::from_secs(60);
/// So many patches of the same values in ten minutes are a fight.
const FIGHT: usize = 5;

/// What this node has told, and when.
#[derive(Default)]
pub(crate) struct Publisher {
    last: Option<Instant>,
    /// Patches of the same content.
    repeated: usize,
    patch: Option<Value>,
    /// Somebody else says that there is no network.
    foreign: Option<String>,
    /// The last patch was not taken, or was undone.
    failed: Option<String>,
}

impl Publisher {
    /// When there may be another patch.
    pub(crate) fn due(&self) -> Option<Instant> {
        let pace = if self.repeated >= FIGHT {
            FIGHT_PACE
        } else {
            PACE
        };
        self.last.map(|last| last + pace)
    }

    /// What is to be written so that the Node says what is in force; `None` if it does.
    pub(crate) fn wanted(&mut self, node: &Node, local: &Local) -> Option<Value> {
        let mut metadata = serde_json::Map::new();
        let annotations = difference(node, local);
        if !annotations.is_empty() {
            metadata.insert("annotations".into(), json!(annotations));
        }
        let other = node.network.as_ref().filter(|c| foreign(c).is_some());
        self.foreign = other.filter(|c| local.forwards && c.status != "False").map(|c| {
            let (status, reason) = (&c.status, &c.reason);
            format!(
                "the condition NetworkUnavailable is {status:?} by another's word ({reason:?}) and is left to it; \
                 no pod is scheduled here until that says \"False\""
            )
        });
        let up = NetworkCondition {
            status: "False".into(),
            reason: UP.into(),
        };
        let tell = local.forwards && other.is_none() && node.network.as_ref() != Some(&up);
        if metadata.is_empty() && !tell {
            return None;
        }
        let mut patch = serde_json::Map::new();
        if !metadata.is_empty() {
            patch.insert("metadata".into(), metadata.into());
        }
        if tell {
            let condition = condition(&up, "Ringway forwards this node's pods");
            patch.insert("status".into(), json!({ "conditions": [condition] }));
        }
        Some(patch.into())
    }

    /// It is being written.
    pub(crate) fn begin(&mut self, patch: &Value) {
        let same = |old: &Value| without_times(old) == without_times(patch);
        self.repeated = match &self.patch {
            Some(old) if same(old) => self.repeated + 1,
            _ => 0,
        };
        self.last = Some(Instant::now());
        self.patch = Some(patch.clone());
    }

    /// What has become of it.
    pub(crate) fn done(&mut self, result: Result<(), &str>) {
        self.failed = match result {
            Ok(()) if self.repeated >= FIGHT => Some(
                "somebody else changes this node's annotations or its condition NetworkUnavailable back again and \
                 again; find out who (kubectl get node -o yaml --show-managed-fields). Written once a minute now"
                    .into(),
            ),
            Ok(()) => None,
            Err(why) => Some(format!("this node's annotations cannot be written: {why}")),
        };
    }

    /// What is wrong, for the status.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &String> {
        self.foreign.iter().chain(&self.failed)
    }
}

/// Writes a patch; the Node as it is by it.
pub(crate) async fn write(
    connection: &Connection,
    name: &str,
    patch: &Value,
) -> Result<Object<Node>, String> {
    let (client, made) = connection.client().await.map_err(|e| e.to_string())?;
    let api: Api<Object<Node>> = Api::all(client);
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    let written = match timeout(ANSWER, api.patch_status(name, &params, &patch)).await {
        Ok(written) => written.map_err(|e| chain(&e)),
        Err(_) => Err(format!("no answer for {} s", ANSWER.as_secs())),
    };
    if written.is_err() {
        connection.doubt(made).await;
    }
    written
}

/// Says that this node's pods have no network, for uninstall and give-back alone: the scheduler sends no pod here any
/// more. A condition that somebody else keeps is left. A running source does not say the contrary once
/// [`Local::forwards`] is `false`.
///
/// # Errors
/// The API server does not answer, or refuses; the reason in words.
pub async fn set_unavailable(settings: &Settings) -> Result<(), String> {
    let connection = Connection::new(settings.clone());
    let (client, _) = connection.client().await.map_err(|e| e.to_string())?;
    let api: Api<Object<Node>> = Api::all(client);
    // A list of one: the role grants no other way to read it.
    let one = ListParams::default().fields(&format!("metadata.name={}", settings.node));
    let list = timeout(ANSWER, api.list(&one))
        .await
        .map_err(|_| format!("no answer for {} s", ANSWER.as_secs()))?;
    let node = list.map_err(|e| chain(&e))?.items.pop();
    let node = node.ok_or_else(|| format!("there is no Node {}", settings.node))?;
    let node = node.value.map_err(|e| e.to_string())?;
    // What another keeps is right, be it Flannel's: it may serve the node already.
    let ours = |c: &NetworkCondition| [UP, GONE].contains(&c.reason.as_str());
    let other = node.network.as_ref().filter(|c| !ours(c));
    let mut patch = json!({});
    if node.annotations.contains_key(VERSION_KEY) {
        // The others look for an agent there.
        patch["metadata"] = json!({ "annotations": { VERSION_KEY: null } });
    }
    if other.is_none() {
        let gone = NetworkCondition {
            status: "True".into(),
            reason: GONE.into(),
        };
        let condition = condition(&gone, "Ringway was taken from this node");
        patch["status"] = json!({ "conditions": [condition] });
    }
    if patch != json!({}) {
        write(&connection, &settings.node, &patch).await?;
    }
    match other {
        None => Ok(()),
        Some(other) => Err(format!(
            "the condition is {:?} by the word of {:?}, and is left to it",
            other.status, other.reason
        )),
    }
}

/// Whose the condition is, if it may not be replaced.
fn foreign(condition: &NetworkCondition) -> Option<&str> {
    (!REPLACED.contains(&condition.reason.as_str())).then_some(&condition.reason)
}

/// Annotations with other values than there are; `None` takes one away. There are none of a node that is not in the
/// network yet.
fn difference(node: &Node, local: &Local) -> BTreeMap<String, Option<String>> {
    let mut all = annotations(local);
    if all.is_empty() {
        return all;
    }
    all.insert(VERSION_KEY.into(), Some(env!("CARGO_PKG_VERSION").into()));
    all.retain(|key, value| node.annotations.get(key) != value.as_ref());
    all
}

/// Flannel's, of what is in force; none before there is an address to be reached at.
fn annotations(local: &Local) -> BTreeMap<String, Option<String>> {
    let v4 = local.addresses.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let v6 = local.addresses.iter().find_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    });
    if local.node.cidrs.is_empty() || local.addresses.is_empty() {
        return BTreeMap::new();
    }
    let vtep = |is_v6: bool, mac| {
        let vni = local.vni;
        local.node.main_cidr(is_v6).map(|_| Vtep { vni, mac })
    };
    let said = Annotations {
        backend: match local.encap {
            EncapKind::Vxlan => Backend::Vxlan {
                v4: vtep(false, local.node.vtep_mac),
                v6: vtep(true, local.node.vtep_mac_v6),
            },
            EncapKind::Udp => Backend::Udp,
        },
        public_ip: v4,
        public_ipv6: v6,
        overwrite_ip: None,
        overwrite_ipv6: None,
    };
    said.write()
}

fn condition(network: &NetworkCondition, message: &str) -> Value {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "type": "NetworkUnavailable",
        "status": network.status,
        "reason": network.reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    })
}

fn without_times(patch: &Value) -> Value {
    let mut patch = patch.clone();
    let conditions = patch.pointer_mut("/status/conditions/0");
    if let Some(condition) = conditions.and_then(Value::as_object_mut) {
        condition.retain(|key, _| !key.ends_with("Time"));
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local {
        Local {
            node: ringway_cluster::Node {
                name: "n1".into(),
                cidrs: vec!["10.244.1.0/24".parse().unwrap()].into(),
                vtep_mac: "12:c6:65:89:b4:e3".parse().unwrap(),
                vtep_mac_v6: "12:c6:65:89:b4:e4".parse().unwrap(),
            },
            addresses: vec!["10.77.0.11".parse().unwrap()],
            encap: EncapKind::Vxlan,
            vni: 1,
            port: 8472,
            pod_mtu: 1450,
            forwards: true,
        }
    }

    /// What a server makes of a patch.
    fn patched(mut node: Node, patch: &Value) -> Node {
        let annotations = patch
            .pointer("/metadata/annotations")
            .and_then(Value::as_object);
        for (key, value) in annotations.into_iter().flatten() {
            match value.as_str() {
                Some(text) => node.annotations.insert(key.clone(), text.into()),
                None => node.annotations.remove(key),
            };
        }
        if let Some(condition) = patch.pointer("/status/conditions/0") {
            node.network = Some(NetworkCondition {
                status: condition["status"].as_str().unwrap().into(),
                reason: condition["reason"].as_str().unwrap().into(),
            });
        }
        node
    }

    #[test]
    fn annotations_and_condition_are_written_once() {
        let mut publisher = Publisher::default();
        let patch = publisher.wanted(&Node::default(), &local()).unwrap();
        let annotations = &patch["metadata"]["annotations"];
        assert_eq!(
            annotations["flannel.alpha.coreos.com/backend-data"],
            r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#
        );
        assert_eq!(
            annotations["flannel.alpha.coreos.com/public-ip"],
            "10.77.0.11"
        );
        assert!(
            annotations
                .get("flannel.alpha.coreos.com/backend-v6-data")
                .is_none()
        );
        assert_eq!(patch["status"]["conditions"][0]["reason"], UP);
        let node = patched(Node::default(), &patch);
        assert_eq!(publisher.wanted(&node, &local()), None);
    }

    #[test]
    fn before_it_forwards_nobody_is_told_that_there_is_a_network() {
        let mut waits = local();
        waits.forwards = false;
        let patch = Publisher::default()
            .wanted(&Node::default(), &waits)
            .unwrap();
        assert!(patch.get("status").is_none());
        waits.node.cidrs = [].into();
        let patch = Publisher::default().wanted(&Node::default(), &waits);
        assert_eq!(patch, None);
    }

    #[test]
    fn an_address_that_goes_takes_its_annotation_with_it() {
        let mut publisher = Publisher::default();
        let mut both = local();
        both.addresses.push("fd00:77::11".parse().unwrap());
        let node = patched(
            Node::default(),
            &publisher.wanted(&Node::default(), &both).unwrap(),
        );
        assert_eq!(
            node.annotations["flannel.alpha.coreos.com/public-ipv6"],
            "fd00:77::11"
        );
        let patch = publisher.wanted(&node, &local()).unwrap();
        assert_eq!(
            patch["metadata"]["annotations"],
            json!({ "flannel.alpha.coreos.com/public-ipv6": null })
        );
        assert_eq!(publisher.wanted(&patched(node, &patch), &local()), None);
    }

    #[test]
    fn a_condition_of_somebody_else_is_named_and_left() {
        let with = |status: &str, reason: &str| Node {
            network: Some(NetworkCondition {
                status: status.into(),
                reason: reason.into(),
            }),
            ..patched(
                Node::default(),
                &Publisher::default()
                    .wanted(&Node::default(), &local())
                    .unwrap(),
            )
        };
        for reason in ["FlannelIsUp", "NoRouteCreated", GONE] {
            let patch = Publisher::default().wanted(&with("True", reason), &local());
            assert_eq!(
                patch.unwrap()["status"]["conditions"][0]["status"],
                "False",
                "{reason}"
            );
        }
        let mut publisher = Publisher::default();
        assert_eq!(
            publisher.wanted(&with("True", "CalicoIsDown"), &local()),
            None
        );
        assert!(publisher.foreign.unwrap().contains("CalicoIsDown"));
        let mut publisher = Publisher::default();
        assert_eq!(
            publisher.wanted(&with("False", "CalicoIsUp"), &local()),
            None
        );
        assert_eq!(publisher.foreign, None);
    }
}
