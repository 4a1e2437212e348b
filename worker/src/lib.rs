//! Workers: one thread each, which owns a set of queues and runs the data path on them.
//!
//! ```text
//!   commands ─▶┌───────────────────── worker thread ─────────────────────┐
//!              │ ready queues ─▶ receive ─▶ (open, coalesce) ─▶ pipeline │─▶ events
//!   snapshot ─▶│      ▲                                          │       │─▶ counters
//!              │      └── epoll, edge-triggered                  ▼       │
//!              │          TAP write at once; underlay queued, flushed    │
//!              └─────────────────────────────────────────────────────────┘
//! ```
//!
//! A worker takes no lock and allocates nothing while packets flow. It visits only queues that epoll
//! reported, each with a budget, so a silent pod costs nothing and a flooding one cannot starve the
//! others; one with a bandwidth limit it visits when that allows (`shaper.rs`). The control plane reaches
//! it by a channel and a waker, the tables by a snapshot that is looked at once a round, the counters by
//! shared cells of which it is the only writer.

#![forbid(unsafe_code)]

mod activity;
mod announce;
mod budget;
mod buffers;
mod devices;
mod engine;
mod identification;
pub mod limits;
mod local_ports;
mod observe;
mod packet;
mod queue_id;
mod queues;
mod ready;
mod receive;
mod ring_set;
mod shaper;
mod sockets;
mod spin;
mod timers;
mod transmit;
mod uplink;
mod visit;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};
use ringway_encap::Encap;
use ringway_packet::mac::MacAddr;
use ringway_ports::socket::UdpUnderlay;
use ringway_ports::xsk::{XskConfig, XskError};
use ringway_switch::{Counters, Returns, UdpPorts};
use ringway_tables::{PortId, Reader};

pub use activity::Activity;
pub use devices::{Devices, Kernel, LocalPort, Ring};
use engine::{Engine, Shared};
pub use observe::{Entry, Observed, Observer, Outer};
pub use packet::{frame_of, packet_of};
pub use queue_id::QueueId;
use queue_id::{MAX_SOCKETS, Watched};
pub use queues::Queues;
use ready::Ready;
pub use receive::frame as frame_of_arrival;
pub use ring_set::{BufferStats, MAX_RINGS, OpenedRing};
pub use visit::{Outcome, Round};

use limits::RateLimits;

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

/// What the control plane tells a worker.
pub enum Command {
    /// A pod or the node port has a queue for this worker.
    AddTap {
        /// The port's number in the tables.
        port: PortId,
        /// Its queue; written by this worker, and read if `read`.
        queue: Arc<OwnedFd>,
        /// Whether this worker is the one that reads it.
        read: bool,
        /// Whether the kernel takes UDP superframes on it.
        uso: bool,
        /// Bandwidth limits, the same for all workers.
        limits: Option<Arc<RateLimits>>,
    },
    /// Have somebody observe every frame from now on, or nobody.
    Observe(Option<Box<dyn Observer>>),
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

/// How busy a worker is; load cannot be told from CPU time when it polls.
#[derive(Debug, Default)]
pub struct Load {
    /// Rounds of the loop; grows at least twice a second while the worker lives.
    pub rounds: AtomicU64,
    /// Rounds that brought at least one frame.
    pub busy_rounds: AtomicU64,
    /// Times the worker slept.
    pub sleeps: AtomicU64,
}

/// Where the clock of all workers begins: they share the buckets of [`RateLimits`].
pub fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

/// A running worker.
pub struct Worker {
    index: usize,
    commands: Sender<Command>,
    waker: Arc<mio::Waker>,
    load: Arc<Load>,
    buffers: Arc<BufferStats>,
    counters: Arc<Counters>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// epoll or the thread cannot be made, or a socket cannot be watched.
    pub fn spawn(
        config: WorkerConfig,
        reader: Reader,
        counters: Arc<Counters>,
        underlays: Vec<UnderlaySocket>,
        events: Sender<Event>,
    ) -> anyhow::Result<Worker> {
        let index = config.index;
        let sockets = underlays.len();
        anyhow::ensure!(
            sockets <= MAX_SOCKETS,
            "{sockets} underlay sockets for worker {index}, at most {MAX_SOCKETS}: use fewer encapsulations"
        );
        let ready = Ready::new().context("cannot make an epoll instance")?;
        let waker = mio::Waker::new(ready.registry(), Watched::Waker.token());
        let waker = Arc::new(waker.context("cannot make an eventfd")?);
        let (commands, inbox): (Sender<Command>, Receiver<Command>) =
            crossbeam_channel::unbounded();
        let load = Arc::new(Load::default());
        let buffers = Arc::new(BufferStats::default());
        let shared = Shared {
            counters: counters.clone(),
            load: load.clone(),
            buffers: buffers.clone(),
            events: events.clone(),
        };
        let engine = Engine::new(config, reader, underlays, ready, inbox, shared);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let outcome =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.run()));
                let reason = match outcome {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(panic) => format!("panic: {}", panic_text(&*panic)),
                };
                let _ = events.send(Event::Failed {
                    worker: index,
                    reason,
                });
            })
            .context("cannot start a worker thread")?;
        Ok(Worker {
            index,
            commands,
            waker,
            load,
            buffers,
            counters,
            thread,
        })
    }

    /// Hands the worker a command; it acts on it at its next round.
    pub fn send(&self, command: Command) {
        // A worker that has ended says so by an event; nobody is left to hear this.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }

    /// Number of the worker.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How busy it is; `rounds` grows at least twice a second while it is alive.
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Where its packet buffers are, and what its rings did; at most half a second old.
    pub fn buffers(&self) -> &BufferStats {
        &self.buffers
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Stops the thread and waits for it.
    pub fn join(self) {
        self.send(Command::Stop);
        let _ = self.thread.join();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
