//! What the plugin asks of the agent, and what it is answered: JSON over HTTP on the agent's socket.
//!
//! | Request | Body | Answer |
//! |---|---|---|
//! | `POST /v1/cni/add` | [`Add`] | [`Added`] |
//! | `POST /v1/cni/del` | [`Attachment`] | [`Done`] |
//! | `POST /v1/cni/check` | [`Check`] | [`Done`] |
//! | `POST /v1/cni/gc` | [`Gc`] | [`Collected`] |
//! | `GET /v1/cni/status` | | [`Done`] |
//!
//! A refusal has another status than 2xx and a [`Refusal`]. Either side may be one version older than the
//! other: unknown fields are ignored here, and fields that came later have a default.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which attachment is meant: the key of everything the agent remembers for the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// Attach an interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Which one.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// `CNI_NETNS`: path of the network namespace.
    pub netns: String,
    /// `name` of the network configuration.
    #[serde(default)]
    pub network: String,
    /// Addresses asked for, one of each family at most, a prefix length allowed: capability `ips`,
    /// `CNI_ARGS` `IP`, or the pod's annotation. A family that none is of gets an address of its own.
    #[serde(default)]
    pub ips: Vec<String>,
    /// Addresses that another IPAM plugin has given out. If there are any, the agent gives none.
    #[serde(default)]
    pub delegated: Vec<Delegated>,
    /// Routes that it wants in the pod, besides the default routes that follow from the gateways.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// MAC address asked for.
    #[serde(default)]
    pub mac: Option<String>,
    /// MTU in bytes asked for; at most what the underlay leaves.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Limits.
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
    /// Ports of the node that lead to the pod.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
    /// Who it is to people.
    #[serde(default)]
    pub pod: Option<PodIdentity>,
    /// Keys of the network configuration that the plugin does not know, for the agent's log.
    #[serde(default)]
    pub ignored: Vec<String>,
}

/// An address of another IPAM plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delegated {
    /// With prefix length.
    pub address: String,
    /// Next hop of the default route; must be the node's gateway of that family if given.
    #[serde(default)]
    pub gateway: Option<String>,
}

/// A route in the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination with prefix length.
    pub dst: String,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

/// Limits in bit/s and bits, as the capability `bandwidth` has them; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// To the pod, bit/s.
    pub ingress_rate: u64,
    /// To the pod, bits.
    pub ingress_burst: u64,
    /// From the pod, bit/s.
    pub egress_rate: u64,
    /// From the pod, bits.
    pub egress_burst: u64,
}

/// A port of the node that leads to the pod, as the capability `portMappings` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port of the node; 0 asks for none.
    #[serde(default)]
    pub host_port: u16,
    /// Port of the pod.
    #[serde(default)]
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`, in any case.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// Address of the node; empty or unspecified for all of the family.
    #[serde(default, rename = "hostIP")]
    pub host_ip: String,
}

fn tcp() -> String {
    "tcp".into()
}

/// Kubernetes' names of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// The interface as it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Added {
    /// MAC address.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// Addresses.
    pub ips: Vec<AddedIp>,
    /// Routes in the pod, all of them.
    pub routes: Vec<Route>,
}

/// An address as it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddedIp {
    /// With prefix length.
    pub address: String,
    /// Gateway.
    pub gateway: IpAddr,
}

/// Compare with what an ADD answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Which one.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// `CNI_NETNS`.
    pub netns: String,
    /// Addresses with prefix length that `prevResult` has for the interface.
    #[serde(default)]
    pub ips: Vec<String>,
    /// MAC address that it has.
    #[serde(default)]
    pub mac: Option<String>,
    /// Routes that it has.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// As in the ADD.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

/// Forget what is not in `keep`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gc {
    /// `name` of the network configuration: attachments of others are left alone.
    pub network: String,
    /// What exists.
    pub keep: Vec<Attachment>,
}

/// What a GC released.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Attachments.
    pub released: Vec<Attachment>,
}

/// Done, with something to say perhaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What a person would want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An answer that says no.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was tried and what was found.
    pub error: String,
    /// What to do.
    #[serde(default)]
    pub remedy: String,
    /// Error code of the CNI specification, or one of ours from 100 on; 0 if the agent has none.
    #[serde(default)]
    pub code: u32,
}

/// [`Refusal::code`]: there is no such container or interface (the specification's "container unknown").
pub const CODE_UNKNOWN: u32 = 3;
/// A value of the request makes no sense (the specification's "invalid network config").
pub const CODE_INVALID: u32 = 7;
/// The network namespace is gone, or is the node's own (as the reference plugins have it).
pub const CODE_NO_NETNS: u32 = 8;
/// The agent is not there or not ready; later it will be (the specification's "try again later").
pub const CODE_LATER: u32 = 11;
/// No address is left.
pub const CODE_FULL: u32 = 100;
/// A name, an address or a port that was asked for is somebody else's, or the attachment exists already.
pub const CODE_TAKEN: u32 = 101;
/// Something on the node failed.
pub const CODE_FAILED: u32 = 102;
