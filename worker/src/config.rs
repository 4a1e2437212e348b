//! What a worker is started with.

use std::sync::Arc;

use ringway_encap::Encap;
use ringway_ports::socket::UdpUnderlay;
use ringway_switch::{Returns, UdpPorts};

/// How a worker waits for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Polling {
    /// Never sleeps: lowest latency, one whole core.
    Spin,
    /// Polls for a moment after the last packet, then sleeps until the kernel reports one.
    Adaptive,
    /// Sleeps whenever nothing is ready.
    Interrupt,
}

/// Settings of one worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Number of the worker, from 0.
    pub index: usize,
    /// Workers there are.
    pub count: usize,
    /// The CPU it is pinned to, if any.
    pub cpu: Option<usize>,
    /// How it waits.
    pub polling: Polling,
    /// With [`Polling::Adaptive`]: microseconds it polls at most after the last packet.
    pub idle_spin_us: u32,
    /// UDP ports by which encapsulations are told.
    pub ports: UdpPorts,
    /// Flows whose answers return to the node, the same for all workers.
    pub returns: Arc<Returns>,
    /// Bytes of the longest packet, Ethernet header included, that is to be sent by a ring from the
    /// buffer it was read into.
    pub largest: usize,
}

/// One underlay socket pair of a worker.
pub struct UnderlaySocket {
    /// The receive socket and its transmit pool.
    pub socket: UdpUnderlay,
    /// What its datagrams carry.
    pub encap: Encap,
    /// Whether its addresses are IPv6.
    pub v6: bool,
    /// The underlay is a veth: inner checksums may arrive unfinished, the kernel at the other end
    /// having left them to a NIC that is not there.
    pub unfinished: bool,
}
