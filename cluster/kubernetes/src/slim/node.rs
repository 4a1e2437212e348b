//! Node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::core::ClusterResourceScope;
use ringway_cluster::flannel::PREFIX;
use serde::{Deserialize, Serialize};

use super::{Kind, Meta};

/// Prefix of our own annotations.
const OWN_PREFIX: &str = "ringway.io";
/// Annotation of a node that runs Ringway: its version.
pub const VERSION_KEY: &str = "ringway.io/version";

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Tells a node from a later one of the same name.
    pub uid: String,
    /// When it was made: RFC 3339 in UTC, so that texts compare as times do.
    pub created: String,
    /// Networks of its pods, as they are written.
    pub pod_cidrs: Vec<String>,
    /// Its own addresses, `InternalIP`.
    pub addresses: Vec<IpAddr>,
    /// Annotations of Flannel and of Ringway.
    pub annotations: BTreeMap<String, String>,
    /// The condition `NetworkUnavailable`, if there is one.
    pub network: Option<NetworkCondition>,
}

/// The condition `NetworkUnavailable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCondition {
    /// `"True"`, `"False"` or `"Unknown"`.
    pub status: String,
    /// Who says so, in a word: `RingwayIsUp`.
    pub reason: String,
}

#[doc(hidden)]
#[derive(Deserialize)]
pub struct RawNode {
    #[serde(default)]
    metadata: Meta,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Status {
    addresses: Option<Vec<Address>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
}

impl Kind for Node {
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    type Scope = ClusterResourceScope;
    type Raw = RawNode;

    fn name(&self) -> &str {
        &self.name
    }

    fn of(raw: RawNode) -> Result<Self, String> {
        let name = raw.metadata.checked_name()?;
        let spec = raw.spec.unwrap_or_default();
        let status = raw.status.unwrap_or_default();
        let one = || spec.pod_cidr.filter(|c| !c.is_empty());
        let pod_cidrs = match spec.pod_cidrs {
            Some(all) if !all.is_empty() => all,
            _ => one().into_iter().collect(),
        };
        let addresses = status.addresses.unwrap_or_default();
        let internal = addresses.iter().filter(|a| a.kind == "InternalIP");
        let mut annotations = raw.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| {
            let prefix = key.split_once('/').map(|(prefix, _)| prefix);
            prefix == Some(PREFIX) || prefix == Some(OWN_PREFIX)
        });
        let conditions = status.conditions.unwrap_or_default();
        let network = |c: &Condition| c.kind == "NetworkUnavailable";
        let network = conditions.into_iter().find(network);
        Ok(Node {
            name,
            uid: raw.metadata.uid.unwrap_or_default(),
            created: raw.metadata.creation_timestamp.unwrap_or_default(),
            pod_cidrs,
            addresses: internal.filter_map(|a| a.address.parse().ok()).collect(),
            annotations,
            network: network.map(|c| NetworkCondition {
                status: c.status,
                reason: c.reason.unwrap_or_default(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::slim::{Invalid, Object};

    use super::*;

    /// As kubectl shows one, shortened; what is not used is there in many shapes.
    const TEXT: &str = r#"{
      "kind": "Node", "apiVersion": "v1",
      "metadata": {"name": "n1", "uid": "7a1c", "resourceVersion": "812", "creationTimestamp": "2026-11-28T10:00:00Z",
        "labels": {"kubernetes.io/os": "linux"},
        "annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan", "node.alpha.kubernetes.io/ttl": "0",
                        "ringway.io/version": "0.1.0"},
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"k:{\"type\":\"Ready\"}": {".": {}}}}}]},
      "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd77:0:0:1::/64"], "taints": null},
      "status": {"addresses": [{"type": "InternalIP", "address": "10.77.0.11"}, {"type": "Hostname", "address": "n1"},
                               {"type": "InternalIP", "address": "fd00:77::11"}, {"type": "InternalIP", "address": "x"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"},
                       {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"}],
        "images": [{"names": ["a", "b"], "sizeBytes": 1}]}}"#;

    fn read(text: &str) -> Result<Node, Invalid> {
        serde_json::from_str::<Object<Node>>(text).unwrap().value
    }

    #[test]
    fn what_is_used_of_it() {
        let node = read(TEXT).unwrap();
        assert_eq!((node.name.as_str(), node.uid.as_str()), ("n1", "7a1c"));
        assert_eq!(node.created, "2026-11-28T10:00:00Z");
        assert_eq!(node.pod_cidrs, ["10.244.1.0/24", "fd77:0:0:1::/64"]);
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.77.0.11", "fd00:77::11"]);
        assert_eq!(node.annotations.len(), 2);
        assert_eq!(node.network.unwrap().reason, "FlannelIsUp");
    }

    #[test]
    fn one_of_an_older_server_has_a_single_network() {
        let text = TEXT.replace(r#", "podCIDRs": ["10.244.1.0/24", "fd77:0:0:1::/64"]"#, "");
        assert_eq!(read(&text).unwrap().pod_cidrs, ["10.244.1.0/24"]);
    }

    #[test]
    fn one_that_lacks_everything_is_a_node_all_the_same() {
        let node = read(r#"{"metadata":{"name":"n9"}}"#).unwrap();
        assert_eq!(
            node,
            Node {
                name: "n9".into(),
                ..Node::default()
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, wanted) in [
            (
                r#"{"metadata":{"name":"n1"},"spec":{"podCIDRs":"10.244.1.0/24"}}"#,
                "expected a sequence",
            ),
            (
                r#"{"metadata":{"name":"n1"},"status":{"addresses":[{"type":"InternalIP"}]}}"#,
                "missing field `address`",
            ),
            (r#"{"metadata":{"name":"n1\n\u001b[31m"}}"#, "no name"),
            (r#"{"metadata":{"name":"../n1"}}"#, "no name"),
            (r#"{"metadata":{"name":7}}"#, "invalid type"),
            (
                r#"{"metadata":{"name":"n1","annotations":[]}}"#,
                "invalid type",
            ),
            (r#"{"metadata":{}}"#, "no name"),
            (r#"{"spec":{}}"#, "no name"),
            (
                &format!(r#"{{"metadata":{{"name":"{}"}}}}"#, "a".repeat(254)),
                "no name",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
            assert!(!error.contains('\u{1b}') && error.len() < 500, "{error}");
        }
    }

    #[test]
    fn a_watch_goes_on_behind_one_that_cannot_be_read() {
        let text = r#"{"metadata":{"name":"n1","resourceVersion":"9","annotations":[]}}"#;
        let object: Object<Node> = serde_json::from_str(text).unwrap();
        assert_eq!(
            kube::ResourceExt::resource_version(&object).as_deref(),
            Some("9")
        );
        assert_eq!(object.value.unwrap_err().name, "n1");
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let node = read(TEXT).unwrap();
        let saved = serde_json::to_string(&node).unwrap();
        assert_eq!(serde_json::from_str::<Node>(&saved).unwrap(), node);
    }
}
