//! Every metric family there is: one table says all about each.
//!
//! Names and labels are stable: dashboards and alerts of others depend on them. `docs/metrics.md` is made of this
//! table (`table.rs`); a test compares the two, and another what a scrape says with the table.

use prometheus_client::registry::Unit;

use super::family::{Family, Kind};

macro_rules! unit {
    () => {
        None
    };
    ($unit:ident) => {
        Some(Unit::$unit)
    };
}

macro_rules! families {
    ($($name:ident = $text:literal, $kind:ident $(in $unit:ident)?, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $name: Family = Family {
                name: $text,
                kind: Kind::$kind,
                unit: unit!($($unit)?),
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// Every family, in the order of a scrape.
        pub static ALL: &[&Family] = &[$(&$name),*];
    };
}

families! {
    // The agent
    BUILD = "build", Info, ["version"], "The version of the agent.";
    START_TIME = "start_time", Gauge in Seconds, [], "When the agent began to serve the node, in seconds since 1970.";
    READY = "ready", Gauge, [], "1: packets of pods are forwarded; 0: ringway health ready says why not.";
    CONDITIONS = "conditions", Gauge, [], "What is not as it should be and stays so: ringway status lists it.";
    LOG_LINES_LOST = "log_lines_lost", Counter, [], "Lines of the log that could not be written.";
    STATE_SAVED = "state_saved", Gauge, [], "0: the state is not on disk, and pods cannot be added; ringway status says why.";
    CONFIG_ERROR = "config_error", Gauge, [], "1: the configuration file is wrong, and what was before stays in force.";
    CONFIG_RESTART_KEYS = "config_restart_keys", Gauge, [], "Keys of the configuration whose new value waits for a restart.";
    CONFIG_CHANGES = "config_changes", Counter, [], "Times that something else of the configuration came into force.";
    RECONCILE_RESTORED = "reconcile_restored", Counter, [], "Things in the node's kernel that somebody changed and that were set again.";
    RECONCILE_PAUSED = "reconcile_paused", Gauge in Seconds, [], "For how long what others change in the kernel is left as it is.";
    SOURCE_STATE = "source_state", Gauge, ["source", "state"], "1 for the state of the source: waiting, stale or current.";
    SOURCE_CONFIRMED_AGE = "source_confirmed_age", Gauge in Seconds, ["source"], "Since the source's server last confirmed what is in force; absent if it never did.";
    SOURCE_PROBLEMS = "source_problems", Gauge, ["source"], "News of the source that are not followed; ringway status lists them.";
    // Pods and tables
    PODS = "pods", Gauge, [], "Pods that are attached.";
    PODS_WITHOUT_LANES = "pods_without_lanes", Gauge, [], "Pods whose small flows wait behind their own bulk: made before there were lanes, or on a kernel before Linux 5.12.";
    PODS_NOT_SERVED = "pods_not_served", Gauge, [], "Pods that are recorded and cannot be served.";
    PODS_LEFT = "pods_left", Gauge, [], "Pods that are still on the bridge of the network before.";
    ATTACH_DURATION = "attach_duration", Histogram in Seconds, [], "From the request to attach a pod to its answer.";
    ATTACHES_REFUSED = "attaches_refused", Counter, [], "Requests to attach a pod that were refused.";
    PEERS = "peers", Gauge, [], "Other nodes that are known.";
    TABLE_ENTRIES = "table_entries", Gauge, ["table"], "Entries of a table of the switch.";
    SNAPSHOT_VERSION = "snapshot_version", Gauge, [], "Version of the tables; counts from 0 when the agent starts.";
    SNAPSHOT_AGE = "snapshot_age", Gauge in Seconds, [], "Since when the tables have not changed, within a second.";
    POD_MTU = "pod_mtu", Gauge in Bytes, [], "MTU of pods and of the node port.";
    UNDERLAY_MTU = "underlay_mtu", Gauge in Bytes, [], "MTU of the underlay's interface.";
    PATH_MTU_LEAST = "path_mtu_least", Gauge in Bytes, [], "Largest inner packet of the narrowest path; absent without peers.";
    PATH_MTU_IGNORED = "path_mtu_ignored", Counter, [], "ICMP errors that claimed a path MTU too small to be true.";
    // Every frame, all workers together
    RECEIVED_FRAMES = "received_frames", Counter, [], "Frames received from pods, node and peers; a superframe is one.";
    RECEIVED_PACKETS = "received_packets", Counter, [], "The packets on the wire that these stand for.";
    FRAMES = "frames", Counter, ["verdict"], "Frames by what became of them; their sum is what was received.";
    PACKETS = "packets", Counter, ["verdict"], "The packets on the wire that these stand for.";
    ORIGINATED_PACKETS = "originated_packets", Counter, [], "Answers and errors that the switch made itself.";
    RETURNED_PACKETS = "returned_packets", Counter, [], "Answers for pods that went to the node because it translated their flow.";
    DROPPED_FRAMES = "dropped_frames", Counter, ["reason"], "Frames dropped by their verdict; ringway drops has cause and remedy of each reason.";
    LOST_PACKETS = "lost_packets", Counter, ["reason"], "Packets lost after their verdict, at the port that sends.";
    IGNORED_FRAMES = "ignored_frames", Counter, ["reason"], "Frames that a healthy idle pod sends and nobody needs.";
    ICMP_SUPPRESSED = "icmp_suppressed", Counter, [], "ICMP errors not sent because of their rate limit.";
    COPIED = "copied", Counter in Bytes, [], "Payload copied in user space.";
    // The node's own port, and pods
    NODE_PORT_BYTES = "node_port", Counter in Bytes, ["direction"], "Bytes of frames at the node port: from_node, to_node.";
    NODE_PORT_PACKETS = "node_port_packets", Counter, ["direction"], "Packets on the wire at the node port.";
    NODE_PORT_DROPPED = "node_port_dropped_packets", Counter, ["reason"], "What the node sent and was dropped, and what was lost on its way to it; reasons that occurred.";
    POD_BYTES = "pod", Counter in Bytes, ["namespace", "pod", "direction"], "Bytes of frames at a pod's port: from_pod, to_pod.";
    POD_PACKETS = "pod_packets", Counter, ["namespace", "pod", "direction"], "Packets on the wire at a pod's port.";
    POD_DROPPED = "pod_dropped_packets", Counter, ["namespace", "pod", "reason"], "What the pod sent and was dropped, and what was lost on its way to it; reasons that occurred, after the twelfth as other.";
    // Peers
    TUNNEL_BYTES = "tunnel", Counter in Bytes, ["direction"], "Bytes of inner frames of all peers together: from_peer, to_peer.";
    TUNNEL_PACKETS = "tunnel_packets", Counter, ["direction"], "Inner packets of all peers together.";
    TUNNEL_DROPPED = "tunnel_dropped_packets", Counter, [], "Packets dropped or lost of all peers together.";
    PEER_BYTES = "peer", Counter in Bytes, ["peer", "direction"], "Bytes of inner frames of a peer: from_peer, to_peer; of all peers up to metrics.peers, else of the 32 with most drops.";
    PEER_PACKETS = "peer_packets", Counter, ["peer", "direction"], "Inner packets of such a peer.";
    PEER_DROPPED = "peer_dropped_packets", Counter, ["peer", "reason"], "What such a peer sent and was dropped, and what was lost on its way to it; reasons that occurred, after the twelfth as other.";
    PEER_PATH_MTU = "peer_path_mtu", Gauge in Bytes, ["peer", "carries"], "Largest inner packet to such a peer, of pods' IPv4 or IPv6.";
    PEER_ROUND_TRIP = "peer_round_trip", Gauge in Seconds, ["peer"], "Round trip to such a peer and back, smoothed, as probes of the path say.";
    PEER_PROBES = "peer_probes", Counter, ["peer"], "Probes of the path to such a peer.";
    PEER_PROBES_LOST = "peer_probes_lost", Counter, ["peer"], "Of those, not answered within a second.";
    PEERS_BY_STATE = "peers_by_state", Gauge, ["state"], "Peers by what probes say: unknown, mute (answers none, as a Flannel node), reached, black_hole, not_heard, silent.";
    PEERS_BY_BYTES = "peers_by_bytes", Gauge, ["direction", "up_to"], "Peers with so many bytes or fewer since the agent started.";
    PEERS_BY_DROPPED = "peers_by_dropped_packets", Gauge, ["up_to"], "Peers with so many dropped or lost packets or fewer.";
    // Workers
    WORKER_ROUNDS = "worker_rounds", Counter, ["worker"], "Rounds of a worker's loop; grows twice a second at least.";
    WORKER_BUSY_ROUNDS = "worker_busy_rounds", Counter, ["worker"], "Rounds that brought frames.";
    WORKER_SLEEPS = "worker_sleeps", Counter, ["worker"], "Times the worker slept.";
    WORKER_BUSY = "worker_busy", Counter in Seconds, ["worker"], "Time in rounds that brought frames: load, which CPU time does not tell of a worker that polls.";
    WORKER_BUFFERS = "worker_buffers", Gauge, ["worker", "state"], "Packet buffers of a worker: free, in_flight, to_receive (in rings), to_send (in rings).";
    VISIT_DURATION = "visit_duration", Histogram in Seconds, [], "Time of a visit to a queue that brought something, from the end of the visit before.";
    VISIT_FRAMES = "visit_frames", Histogram, [], "Frames that a visit to a queue brought: the batch.";
    // The underlay
    SOCKET_MESSAGES = "socket_messages", Counter, [], "Messages received from underlay sockets; one may stand for many datagrams.";
    SOCKET_DATAGRAMS = "socket_datagrams", Counter, [], "Datagrams received from underlay sockets.";
    SOCKET_CONGESTED = "socket_congested", Counter, [], "Datagrams that stood too long in underlay sockets and whose flow was told so, by a congestion mark or, where it does not know ECN, by dropping them (CoDel, RFC 8289).";
    RINGS = "rings", Gauge, [], "AF_XDP rings in use; 0: packets go by sockets.";
    XDP_FALLBACKS = "xdp_fallbacks", Counter, [], "Times that AF_XDP was wanted and did not work.";
    RING_FRAMES = "ring_frames", Counter, ["direction"], "Frames of AF_XDP rings: received, sent.";
    RING_LOST_FRAMES = "ring_lost_frames", Counter, ["cause"], "Frames that a full ring (rx_full, tx_full) or the kernel (rx_dropped) cost, and invalid descriptors.";
    RING_FILL_EMPTY = "ring_fill_empty", Counter, [], "Times the kernel found a fill ring empty.";
    RING_FILL_STARVED = "ring_fill_starved", Counter, [], "Times that buffers were missing to top up a fill ring.";
}
