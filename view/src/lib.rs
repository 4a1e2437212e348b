//! The shapes of the answers, and how people read them. Field names carry their units and are in snake_case;
//! the command line reads the same types, so nothing it prints can differ from the API. What the plugin and the
//! agent say to each other below `/v1/cni` is CNI's, and spelled as CNI does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub mod columns;
mod drops;
pub mod rates;
pub mod units;

use ringway_cni::api::{Bandwidth, PortMapping};
use ringway_worker::BufferStats;
use serde::{Deserialize, Serialize};

pub use drops::{Drop, DropAt, Drops, Explained, KernelLoss, LastDrop};

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

/// The outer address of a family, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The address.
    pub address: IpAddr,
    /// What spoke for it.
    pub why: String,
    /// The interface's other addresses of the family.
    pub passed_over: Vec<PassedOver>,
}

/// An address that was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// The address.
    pub address: IpAddr,
    /// What spoke against it.
    pub why: String,
}

/// The underlay as it is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnderlayStatus {
    /// Interface.
    pub interface: String,
    /// Outer addresses.
    pub addresses: Vec<IpAddr>,
    /// Why each was chosen, and which were passed over.
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// MTU in bytes.
    pub mtu: u32,
    /// `xdp` or `socket`, and why.
    pub io: String,
    /// AF_XDP rings, if there are any.
    #[serde(default)]
    pub rings: Vec<RingStatus>,
    /// Times that AF_XDP was wanted and did not work, so that packets went by sockets.
    #[serde(default)]
    pub xdp_fallbacks: u64,
    /// ICMP errors that claimed a path MTU below 576 (IPv4) or 1,280 (IPv6) bytes.
    #[serde(default)]
    pub path_mtu_ignored: u64,
    /// How each peer's outer address is reached.
    #[serde(default)]
    pub next_hops: Vec<NextHopStatus>,
    /// Sockets of one worker.
    pub sockets: Vec<SocketStatus>,
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

/// One AF_XDP ring: what was got, and why not better.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingStatus {
    /// Receive queue of the interface.
    pub queue: u32,
    /// The worker that has it.
    pub worker: usize,
    /// Where the XDP program runs: `native` (in the driver) or `generic`.
    pub mode: String,
    /// Why not native, if it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode_refused: Option<String>,
    /// No copy between driver and us.
    pub zero_copy: bool,
    /// Why not, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zero_copy_refused: Option<String>,
    /// The device is polled in system calls instead of interrupting.
    pub busy_poll: bool,
}

/// How an outer address is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NextHopStatus {
    /// Outer address of a peer.
    pub dst: IpAddr,
    /// `ring` or `socket`: how packets to it go.
    pub by: String,
    /// Gateway, or the address itself, and its MAC address; or why it is not known.
    pub next_hop: String,
}

/// Where a worker's packet buffers are, and what its rings counted. total = free + in_flight + in_rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffers {
    /// Buffers and frames there are.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// Between a receive and a transmit.
    pub in_flight: u64,
    /// In rings of the kernel.
    pub in_rings: u64,
    /// Of those, to be received into.
    pub to_receive: u64,
    /// Of those, to be sent, or sent and not given back yet.
    pub to_send: u64,
    /// Frames received from rings.
    pub received: u64,
    /// Frames sent by rings.
    pub sent: u64,
    /// Frames that found a transmit ring full.
    pub tx_full: u64,
    /// Times frames were missing to top up a fill ring.
    pub fill_starved: u64,
    /// Times the kernel found a fill ring empty.
    pub fill_empty: u64,
    /// Frames the kernel dropped because a receive ring was full.
    pub rx_full: u64,
    /// Frames the kernel dropped otherwise, such as too long ones.
    pub rx_dropped: u64,
    /// Descriptors that the kernel refused, or that made no sense to us: a bug.
    pub invalid: u64,
}

impl Buffers {
    /// As a worker has it.
    pub fn of(stats: &BufferStats) -> Buffers {
        let get = |cell: &AtomicU64| cell.load(Relaxed);
        Buffers {
            total: get(&stats.total),
            free: get(&stats.free),
            in_flight: get(&stats.held),
            in_rings: get(&stats.in_rings),
            to_receive: get(&stats.filled),
            to_send: get(&stats.sending),
            received: get(&stats.received),
            sent: get(&stats.sent),
            tx_full: get(&stats.full),
            fill_starved: get(&stats.starved),
            fill_empty: get(&stats.fill_ring_empty),
            rx_full: get(&stats.rx_ring_full),
            rx_dropped: get(&stats.rx_dropped),
            invalid: get(&stats.stray) + get(&stats.tx_invalid),
        }
    }
}

/// What the receive sockets of a worker have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCounts {
    /// Messages; one may stand for many datagrams (`UDP_GRO`).
    pub messages: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// Datagrams the kernel dropped because a receive buffer was full; known when a later one arrives.
    pub overflow: u64,
    /// Datagrams dropped because they were longer than a packet buffer.
    pub truncated: u64,
}

impl SocketCounts {
    /// As a worker has it.
    pub fn of(stats: &BufferStats) -> SocketCounts {
        let get = |cell: &AtomicU64| cell.load(Relaxed);
        SocketCounts {
            messages: get(&stats.socket_messages),
            datagrams: get(&stats.socket_datagrams),
            overflow: get(&stats.socket_overflow),
            truncated: get(&stats.socket_truncated),
        }
    }
}

/// One receiving socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketStatus {
    /// Address and port.
    pub local: String,
    /// What it carries.
    pub encap: String,
    /// Segmentation offload.
    pub gso: bool,
    /// Receive offload.
    pub gro: bool,
    /// Receive buffer, bytes.
    pub receive_buffer_bytes: usize,
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

/// A row of `GET /v1/tables/mac`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MacRow {
    /// MAC address.
    pub mac: String,
    /// Port number.
    pub port: u32,
    /// Name of the port.
    pub name: String,
}

/// A row of `GET /v1/tables/routes`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteRow {
    /// Destination.
    pub prefix: String,
    /// `port 3`, `path 0` or `unreachable`.
    pub target: String,
    /// Name of the pod or peer.
    pub name: String,
}

/// A row of `GET /v1/tables/peers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerRow {
    /// Number in the tables.
    pub peer: u32,
    /// Name.
    pub name: String,
    /// Outer addresses.
    pub addresses: Vec<IpAddr>,
    /// Pod networks.
    pub pod_cidrs: Vec<String>,
    /// Received from it.
    pub from_peer: Traffic,
    /// Sent to it.
    pub to_peer: Traffic,
    /// What probes of the path to it say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<PeerHealth>,
}

/// Whether a peer is reached; the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers no probes, and never has: a Flannel node, or an agent without them.
    Mute,
    /// It answers.
    Reached,
    /// It answers, but large packets to it vanish.
    BlackHole,
    /// What is sent there is lost, though its own packets come.
    NotHeard,
    /// It answers no more, and nothing comes from it.
    Silent,
}

/// What probes of the path to a peer say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHealth {
    /// Whether it is reached.
    pub state: PeerState,
    /// For how many seconds.
    pub since_s: u64,
    /// The outer address that was asked.
    pub address: IpAddr,
    /// Round trip, smoothed, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Probes sent.
    pub probes: u64,
    /// Of those, not answered within a second.
    pub lost: u64,
    /// Largest IP packet of a pod that has been seen to pass, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_mtu: Option<u16>,
}

/// A row of `GET /v1/tables/neighbours`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// Address.
    pub ip: IpAddr,
    /// What the switch answers.
    pub mac: String,
}

/// A row of `GET /v1/tables/paths`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PathRow {
    /// Number in the tables.
    pub path: u32,
    /// Name of the peer.
    pub peer: String,
    /// `IPv4` or `IPv6`: pods it carries.
    pub carries: String,
    /// Encapsulation.
    pub encap: String,
    /// Our outer address.
    pub src: IpAddr,
    /// The peer's outer address.
    pub dst: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Inner destination MAC.
    pub dst_mac: String,
}
