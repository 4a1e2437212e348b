//! Pod, Namespace, ConfigMap.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Serialize};

use super::{Kind, Meta};

/// Which pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name in it.
    pub name: String,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Which one.
    pub id: PodRef,
    /// Tells a pod from a later one of the same name.
    pub uid: String,
    /// Labels, for policies.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Ports that have a name, for policies.
    pub ports: BTreeMap<String, NamedPort>,
    /// Whether it has the node's own network.
    pub host_network: bool,
    /// Whether it has ended: its addresses may be another's.
    pub ended: bool,
}

/// A port of a container that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPort {
    /// Number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

#[doc(hidden)]
#[derive(Deserialize)]
pub struct RawPod {
    #[serde(default)]
    metadata: Meta,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Container {
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    container_port: u16,
    protocol: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Ip>>,
}

#[derive(Deserialize)]
struct Ip {
    ip: Option<String>,
}

impl Kind for Pod {
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    type Scope = NamespaceResourceScope;
    type Raw = RawPod;

    fn name(&self) -> &str {
        &self.id.name
    }

    fn of(raw: RawPod) -> Result<Self, String> {
        let name = raw.metadata.checked_name()?;
        let spec = raw.spec.unwrap_or_default();
        let status = raw.status.unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let containers = spec.containers.unwrap_or_default();
        let ports = init.into_iter().chain(containers);
        let ports = ports.flat_map(|c| c.ports.unwrap_or_default());
        let named = ports.filter_map(|p| {
            let protocol = p.protocol.unwrap_or_else(|| "TCP".into());
            let port = p.container_port;
            Some((
                p.name.filter(|n| !n.is_empty())?,
                NamedPort { port, protocol },
            ))
        });
        let ips = status.pod_ips.unwrap_or_default();
        Ok(Pod {
            id: PodRef {
                namespace: raw.metadata.namespace.unwrap_or_default(),
                name,
            },
            uid: raw.metadata.uid.unwrap_or_default(),
            labels: raw.metadata.labels.unwrap_or_default(),
            ips: ips
                .iter()
                .filter_map(|ip| ip.ip.as_ref()?.parse().ok())
                .collect(),
            ports: named.collect(),
            host_network: spec.host_network.unwrap_or_default(),
            ended: has_ended(status.phase.as_deref()),
        })
    }
}

/// Where a Pod is: of others' pods no more is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    name: String,
    /// The node that it is scheduled to, if it is.
    pub node: Option<String>,
    /// Whether it has the node's own network.
    pub host_network: bool,
    /// Whether it has ended.
    pub ended: bool,
}

impl Kind for Placed {
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    type Scope = NamespaceResourceScope;
    type Raw = RawPod;

    fn name(&self) -> &str {
        &self.name
    }

    fn of(raw: RawPod) -> Result<Self, String> {
        let spec = raw.spec.unwrap_or_default();
        Ok(Placed {
            name: raw.metadata.checked_name()?,
            node: spec.node_name.filter(|name| !name.is_empty()),
            host_network: spec.host_network.unwrap_or_default(),
            ended: has_ended(raw.status.unwrap_or_default().phase.as_deref()),
        })
    }
}

fn has_ended(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// Labels, for policies.
    pub labels: BTreeMap<String, String>,
}

#[doc(hidden)]
#[derive(Deserialize)]
pub struct RawNamespace {
    #[serde(default)]
    metadata: Meta,
}

impl Kind for Namespace {
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
    type Scope = ClusterResourceScope;
    type Raw = RawNamespace;

    fn name(&self) -> &str {
        &self.name
    }

    fn of(raw: RawNamespace) -> Result<Self, String> {
        Ok(Namespace {
            name: raw.metadata.checked_name()?,
            labels: raw.metadata.labels.unwrap_or_default(),
        })
    }
}

/// A ConfigMap: Flannel's, `kube-flannel-cfg`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMap {
    /// Name.
    pub name: String,
    /// Its `net-conf.json`, if it has one.
    pub net_conf: Option<String>,
}

#[doc(hidden)]
#[derive(Deserialize)]
pub struct RawConfigMap {
    #[serde(default)]
    metadata: Meta,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "net-conf.json")]
    net_conf: Option<String>,
}

impl Kind for ConfigMap {
    const KIND: &'static str = "ConfigMap";
    const PLURAL: &'static str = "configmaps";
    type Scope = NamespaceResourceScope;
    type Raw = RawConfigMap;

    fn name(&self) -> &str {
        &self.name
    }

    fn of(raw: RawConfigMap) -> Result<Self, String> {
        Ok(ConfigMap {
            name: raw.metadata.checked_name()?,
            net_conf: raw.data.and_then(|data| data.net_conf),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::slim::Object;

    use super::*;

    fn read<T: Kind>(text: &str) -> T {
        serde_json::from_str::<Object<T>>(text)
            .unwrap()
            .value
            .unwrap()
    }

    #[test]
    fn what_is_used_of_a_pod() {
        let pod: Pod = read(
            r#"{"metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}},
              "spec": {"nodeName": "n1", "volumes": [{"name": "x"}],
                "initContainers": [{"name": "i"}],
                "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080},
                  {"containerPort": 9}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
              "status": {"phase": "Running", "podIP": "10.244.1.2",
                "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd77::2"}, {}]}}"#,
        );
        assert_eq!(
            (pod.id.namespace.as_str(), pod.id.name.as_str()),
            ("shop", "web-0")
        );
        assert_eq!(
            (pod.ips.len(), pod.ended, pod.host_network),
            (2, false, false)
        );
        assert_eq!(
            pod.ports["dns"],
            NamedPort {
                port: 53,
                protocol: "UDP".into()
            }
        );
        assert_eq!(pod.ports["http"].protocol, "TCP");
        assert_eq!(pod.ports.len(), 2);
    }

    #[test]
    fn a_pod_that_has_ended_lets_go_of_its_addresses() {
        for (phase, ended) in [("Running", false), ("Succeeded", true), ("Failed", true)] {
            let text = format!(r#"{{"metadata":{{"name":"p"}},"status":{{"phase":"{phase}"}}}}"#);
            assert_eq!(read::<Pod>(&text).ended, ended);
        }
    }

    #[test]
    fn flannels_configuration() {
        let text = r#"{"metadata":{"name":"kube-flannel-cfg"},"data":{"cni-conf.json":"{}","net-conf.json":"{\"Network\":\"10.244.0.0/16\"}"}}"#;
        let map: ConfigMap = read(text);
        assert_eq!(
            map.net_conf.as_deref(),
            Some(r#"{"Network":"10.244.0.0/16"}"#)
        );
        assert_eq!(
            read::<ConfigMap>(r#"{"metadata":{"name":"x"}}"#).net_conf,
            None
        );
    }
}
