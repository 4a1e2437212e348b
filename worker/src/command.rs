//! What the control plane and a worker tell each other while it runs.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::Sender;
use ringway_encap::Encap;
use ringway_packet::mac::MacAddr;
use ringway_ports::tap::Slots;
use ringway_ports::xsk::{XskConfig, XskError};
use ringway_switch::probe;
use ringway_tables::PortId;

use super::config::UnderlaySocket;
use super::limits::RateLimits;
use super::observe::{Observer, ObserverId};
use super::ring_set::OpenedRing;

/// The queue of a TAP that has the bulk of its flows.
#[derive(Clone, Debug)]
pub struct LaneQueue {
    /// The queue.
    pub queue: Arc<OwnedFd>,
    /// Which flows that are.
    pub slots: Arc<Slots>,
}

/// What the control plane tells a worker.
pub enum Command {
    /// A pod or the node port has a queue for this worker.
    AddTap {
        /// The port's number in the tables.
        port: PortId,
        /// Its queue; written by this worker, and read if `read`.
        queue: Arc<OwnedFd>,
        /// Its second one, for bulk, read likewise.
        lane: Option<LaneQueue>,
        /// Whether this worker is the one that reads it.
        read: bool,
        /// Whether the kernel takes UDP superframes on it.
        uso: bool,
        /// Bandwidth limits, the same for all workers.
        limits: Option<Arc<RateLimits>>,
    },
    /// Have somebody observe every frame from now on, beside those who do.
    Observe(ObserverId, Box<dyn Observer>),
    /// Let that one go.
    Unobserve(ObserverId),
    /// Send these probes.
    Probe(Vec<probe::Request>),
    /// Tell all other local ports that a pod's addresses are at its MAC address from now on.
    Announce {
        /// The pod's port.
        port: PortId,
        /// Its addresses.
        ips: Vec<IpAddr>,
        /// Its MAC address.
        mac: MacAddr,
    },
    /// Close the port's queue; `done` is told when no descriptor of it is held any more.
    RemoveTap {
        /// The port's number.
        port: PortId,
        /// Told when it is closed.
        done: Sender<()>,
    },
    /// A socket in place of that of the same family and encapsulation, or for one that had none.
    SetSocket(Box<UnderlaySocket>),
    /// One more to receive by, of a family and encapsulation that have one to send by: it is at an outer address
    /// that was in use before. In place of another of that sort; none: no longer.
    SetFormerSocket {
        /// What it carries.
        encap: Encap,
        /// Its family.
        v6: bool,
        /// The socket.
        socket: Option<Box<UnderlaySocket>>,
    },
    /// Open rings on queues of the underlay interface, in place of those that are open. The worker does
    /// it, for the memory they use is its own.
    OpenRings {
        /// One for each queue; `ring` is ignored.
        configs: Vec<XskConfig>,
        /// Checksums of what they bring may be unfinished.
        unfinished: bool,
        /// Told what was opened: all of them, or why none.
        done: Sender<Result<Vec<OpenedRing>, XskError>>,
    },
    /// Close all rings.
    CloseRings {
        /// Told when no descriptor of them is held any more.
        done: Sender<()>,
    },
    /// Begin to read the underlay: every pod that was there before is in the tables.
    Listen,
    /// End the thread.
    Stop,
}

/// What a worker tells the control plane.
#[derive(Clone, Debug)]
pub enum Event {
    /// The kernel knows a smaller path MTU towards an underlay address.
    PathMtu {
        /// The underlay address.
        dest: IpAddr,
        /// The MTU of the outer packet, in bytes.
        mtu: u16,
    },
    /// Path MTUs were claimed that no path has; the kernel says so of each packet of a forger.
    PathMtuIgnored {
        /// How many times.
        claims: u64,
    },
    /// A peer's underlay address is said to be unreachable; the same once a second for as long as it is.
    Unreachable {
        /// The underlay address.
        dest: IpAddr,
        /// The error number.
        errno: i32,
    },
    /// A peer has answered a probe, or somebody says so.
    Probed(probe::Answer),
    /// Segmentation offload was refused and is off for an underlay socket from now on.
    GsoOff {
        /// The error number.
        errno: i32,
        /// The outer IPv4 checksum is zero from now on.
        zero_checksum: bool,
    },
    /// A port cannot be read any more.
    PortGone {
        /// Its number.
        port: PortId,
        /// The queue: the number may belong to another port by now.
        queue: Arc<OwnedFd>,
        /// Why.
        reason: String,
    },
    /// The worker ended and cannot go on.
    Failed {
        /// Its number.
        worker: usize,
        /// Why.
        reason: String,
    },
}
