//! The shapes of the answers, and how people read them. Field names carry their units and are in snake_case;
//! the command line reads the same types, so nothing it prints can differ from the API. What the plugin and the
//! agent say to each other below `/v1/cni` is CNI's, and spelled as CNI does.

use std::collections::BTreeMap;
use std::net::IpAddr;

pub mod columns;
mod drops;
pub mod rates;
mod tables;
mod underlay;
pub mod units;

use ringway_cni::api::{Bandwidth, PortMapping};
use serde::{Deserialize, Serialize};

pub use drops::{Drop, DropAt, Drops, Explained, KernelLoss, LastDrop};
pub use tables::{MacRow, NeighbourRow, PathRow, PeerHealth, PeerRow, PeerState, RouteRow};
pub use underlay::{
    Buffers, Choice, NextHopStatus, PassedOver, RingStatus, SocketCounts, SocketStatus,
    UnderlayStatus,
};

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// Seconds since it was ready.
    pub uptime_s: u64,
    /// Name of this node.
    pub node: String,
    /// Pod networks.
    pub pod_cidrs: Vec<String>,
    /// Gateways of the pods, held by the node port.
    pub gateways: Vec<IpAddr>,
    /// Name of the node port.
    pub interface: String,
    /// What others have changed in the node's kernel.
    #[serde(default)]
    pub reconcile: ReconcileStatus,
    /// The configuration file.
    #[serde(default)]
    pub config: ConfigStatus,
    /// What says how the cluster is, beside the file.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// MTU of pods and of the node port, bytes.
    pub pod_mtu: u16,
    /// Underlay.
    pub underlay: UnderlayStatus,
    /// Workers.
    pub workers: Vec<WorkerStatus>,
    /// What the node's firewall was told.
    #[serde(default)]
    pub rules: String,
    /// Why the state is not on disk, if it is not: pods cannot be added then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
    /// What is not as it should be and stays so: in the node's kernel, or of somebody's firewall.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Lines of the agent's log that could not be written.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// Number of pods.
    pub pods: usize,
    /// Of them those without lanes: their small requests wait behind their own bulk, until they are made anew.
    #[serde(default)]
    pub pods_without_lanes: usize,
    /// Pods that are recorded and cannot be served, and why.
    #[serde(default)]
    pub not_served: Vec<NotServed>,
    /// Pods that are still on the bridge of the network before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_pods: Vec<LeftPod>,
    /// Number of peers.
    pub peers: usize,
    /// How many are in which state, by what probes say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peer_states: BTreeMap<PeerState, usize>,
    /// Version of the tables.
    pub snapshot: u64,
    /// Frames and packets since the agent started.
    pub totals: Totals,
}

/// A source beside the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name: `kubernetes` or `etcd`.
    pub name: String,
    /// What its news are worth.
    pub state: ringway_cluster::source::State,
    /// Seconds since the server last confirmed what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_ago_s: Option<u64>,
    /// Why it does not follow, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What of its news is not followed, one line each.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// What others have changed in the node's kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReconcileStatus {
    /// Things that somebody had changed and that were set again, since the start.
    pub restored: u64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restored: Option<String>,
    /// Seconds for which what others change is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_s: Option<u64>,
}

/// Something that is not as it should be, and stays so for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What.
    pub what: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// Why it stays so, and what helps.
    pub why: String,
    /// For how many seconds.
    pub since_s: u64,
}

/// The answer to a pause of reconciliation, and to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Seconds for which it is paused now; 0: it is not.
    pub paused_s: u64,
    /// Whether it was paused before.
    #[serde(default)]
    pub was_paused: bool,
}

/// `GET /v1/log`, and the answer to a change of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// What is logged: a level, or parts of the program with a level each.
    pub level: String,
    /// What is when nobody asks for more.
    pub usual: String,
    /// Seconds until the usual level is in force again, if that has been said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_in_s: Option<u64>,
    /// What lines look like: `text`, `json` or `journald`.
    pub format: String,
    /// Lines that could not be written, since the agent began.
    pub lines_lost: u64,
    /// Lines that were left out because their place in the program logs too often.
    pub lines_left_out: u64,
}

/// A pod that is recorded and cannot be served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotServed {
    /// Its name.
    pub pod: String,
    /// What is in the way.
    pub why: String,
}

/// A pod that has lost its network, and the command that makes it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeAnew {
    /// Its name.
    pub pod: String,
    /// The command.
    pub command: String,
}

/// Answer to `POST /v1/give-back`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBack {
    /// Pods that were attached here.
    pub pods: Vec<MadeAnew>,
    /// Taken away or put back.
    pub done: Vec<String>,
    /// Still there, and why.
    pub left: Vec<String>,
    /// What is to be done now.
    pub next: String,
}

/// A pod of the network before: it keeps its network until it is made anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPod {
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its container.
    pub container_id: String,
    /// Namespace and name, where the cluster tells them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The command that makes it anew.
    pub remedy: String,
}

/// The configuration file and what is in force of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its path.
    pub file: String,
    /// Why the file is not in force as it is now; what was before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What of the file takes effect when the agent is started again.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Times that something else came into force since the start.
    #[serde(default)]
    pub changes: u64,
}

/// Answer to `POST /v1/config/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What came into force.
    pub changed: Vec<String>,
    /// What takes effect when the agent is started again.
    pub needs_restart: Vec<String>,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Number.
    pub index: usize,
    /// Processor it is pinned to.
    pub cpu: Option<usize>,
    /// Rounds of its loop.
    pub rounds: u64,
    /// Rounds that brought frames.
    pub busy_rounds: u64,
    /// Microseconds in those rounds: load, which processor time does not tell of a worker that polls.
    #[serde(default)]
    pub busy_us: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Its packet buffers; at most half a second old.
    #[serde(default)]
    pub buffers: Buffers,
    /// What its sockets have received; as old.
    #[serde(default)]
    pub sockets: SocketCounts,
}

/// A count of frames and of the wire packets they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Frames; a superframe is one.
    pub frames: u64,
    /// Packets on the wire.
    pub packets: u64,
}

/// Sums over all workers; received = delivered + tunnelled + answered + ignored
/// + dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Every frame that a verdict was asked for.
    pub received: Count,
    /// To a local port.
    pub delivered: Count,
    /// To a peer.
    pub tunnelled: Count,
    /// Answered by the switch (ARP, neighbour discovery).
    pub answered: Count,
    /// What a healthy idle pod sends and nobody needs.
    pub ignored: Count,
    /// Dropped.
    pub dropped: Count,
    /// Made by the switch.
    pub originated: Count,
    /// Of those delivered to the node: answers for a pod, which the node has to translate back.
    #[serde(default)]
    pub returned: Count,
    /// Lost at the transmitting port after their verdict, packets.
    pub lost_packets: u64,
    /// Payload bytes copied in user space: segments cut for a ring, and what did not fit a frame of one.
    #[serde(default)]
    pub copied_bytes: u64,
}

/// One direction of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Packets on the wire.
    pub packets: u64,
    /// Bytes of frames.
    pub bytes: u64,
}

/// A pod, as in `GET /v1/pods` and in the answer to an attach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Port number in the tables.
    pub port: u32,
    /// Path of its network namespace.
    pub netns: String,
    /// Interface inside.
    pub ifname: String,
    /// MAC address.
    pub mac: String,
    /// Addresses with their prefix length.
    pub ips: Vec<String>,
    /// Gateways.
    pub gateways: Vec<IpAddr>,
    /// MTU in bytes.
    pub mtu: u16,
    /// Queues of the TAP.
    pub queues: usize,
    /// Container that a runtime attached it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Limits, bit/s and bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthLimits>,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<HostPort>,
    /// Sent by the pod.
    pub from_pod: Traffic,
    /// Delivered to the pod.
    pub to_pod: Traffic,
    /// What the pod sent and was dropped, and what was lost on its way to the pod, by reason, in packets on
    /// the wire; zero ones are left out.
    pub drops: Vec<DropCount>,
}

/// Limits of a pod as CNI gives them: rates in bit/s, bursts in bits, from the pod's view; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthLimits {
    /// To the pod.
    pub ingress_rate: u64,
    /// To the pod.
    pub ingress_burst: u64,
    /// From the pod.
    pub egress_rate: u64,
    /// From the pod.
    pub egress_burst: u64,
}

impl From<Bandwidth> for BandwidthLimits {
    fn from(given: Bandwidth) -> Self {
        Self {
            ingress_rate: given.ingress_rate,
            ingress_burst: given.ingress_burst,
            egress_rate: given.egress_rate,
            egress_burst: given.egress_burst,
        }
    }
}

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Of the node.
    pub host_port: u16,
    /// Of the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address of the node; empty: every one.
    #[serde(default)]
    pub host_ip: String,
}

impl From<&PortMapping> for HostPort {
    fn from(given: &PortMapping) -> Self {
        Self {
            host_port: given.host_port,
            container_port: given.container_port,
            protocol: given.protocol.clone(),
            host_ip: given.host_ip.clone(),
        }
    }
}

/// How often a reason applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Name of the reason.
    pub reason: String,
    /// How many; the list says of what.
    pub count: u64,
}

/// Answer to a detach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detached {
    /// Name of the pod.
    pub name: String,
    /// False when there was no such pod.
    pub existed: bool,
    /// Something worth knowing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}
