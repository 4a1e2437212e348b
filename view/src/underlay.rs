//! The way to the other nodes as it is used, in `GET /v1/status`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringway_worker::BufferStats;
use serde::{Deserialize, Serialize};

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
    /// Datagrams whose flow was told that it sends too much, by a mark or by dropping them (CoDel).
    #[serde(default)]
    pub congested: u64,
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
            congested: get(&stats.socket_congested),
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
