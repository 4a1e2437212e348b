//! The control plane: one thread that owns everything that changes.
//!
//! ```text
//! API ──Request──▶┌─────────┐── snapshot ──▶ workers (read)
//!                 │ Control │── Command ───▶ workers (queues)
//! workers ─Event─▶└─────────┘── state.json, pods' namespaces, ringway0
//! ```
//!
//! Requests are handled one after the other, so an attach sees all that an
//! earlier one did, and nothing here needs a lock; what waits for the kernel is
//! done beside (`pod_jobs`). A pod becomes reachable by
//! the publication of the snapshot that has it, which comes last; it stops
//! being reachable by the publication of one without it, which comes first.
//! Between requests: namespaces that went away are noticed within a second,
//! learnt path MTUs expire, and a worker that fails or hangs ends the process.

mod acquire;
mod addresses;
mod attach;
mod attaches;
mod bereft;
pub mod captures;
mod change;
mod closing;
mod cni;
pub mod config_file;
mod descriptors;
mod desired;
mod error;
pub mod health;
pub mod losses;
mod neighbours;
mod node_port;
mod outer;
mod path_mtu;
mod paths;
mod pod_jobs;
mod pods;
mod probing;
pub mod processors;
mod reload;
mod relocated;
mod request;
pub mod request_values;
mod rings;
mod saving;
mod sources;
mod start;
pub mod state;
mod subnet_env;
mod tables;
pub mod takeover;
pub mod totals;
pub mod underlay;
mod unreachable;
mod watchdog;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, tick};
use ringway_cluster::source::Local;
use ringway_cluster::{self as cluster, Cluster, Source};
use ringway_cni::api::{Add, Added, Attachment, Check, Collected, Done, Gc};
use ringway_kernel::netlink::{Change, Netlink, Watch};
use ringway_kernel::next_hop::NextHops;
use ringway_kernel::reconcile::{Ledger, PauseTooLong};
use ringway_kernel::rules::Rules;
use ringway_packet::mac::MacAddr;
use ringway_switch::{Counters, Returns};
use ringway_tables::{PeerId, Publisher, Snapshot};

use crate::captures::{
    CaptureRequest, CaptureSession, Captures, LiveRequest, LiveSession, TraceBasis,
};
use crate::health::Health;
use crate::state::{State, StateDir};
use crate::underlay::Underlay;
/// What the API answers.
pub use ringway_view as view;

use crate::view::SocketStatus;
use ringway_config::ipam::AddressPool;
use ringway_config::{Config, ConfigError};
use ringway_worker::dropped::LastDropped;
use ringway_worker::{Event, Load, ObserverId, Worker};

pub use acquire::Acquired;
pub use attaches::{AttachTimes, Attaches};
pub use change::ChangeError;
use closing::Closing;
pub use cni::PENDING;
pub use descriptors::{Descriptors, SocketDescriptors};
pub use error::{ControlError, Kind};
use path_mtu::PathMtus;
use pod_jobs::PodJobs;
pub use reload::Reloaded;
pub use request::{Attach, Detach};
pub use sources::{Notice, Sources, Subject};
use unreachable::Unreachable;

/// How often the pods' namespaces are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// Where an answer goes.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What the API asks of the control thread.
pub enum Request {
    /// Attach a pod.
    Attach(Attach, Reply<Result<view::Pod, ControlError>>),
    /// Detach a pod.
    Detach(Detach, Reply<Result<view::Detached, ControlError>>),
    /// Attach what a container runtime asks for.
    CniAdd(Add, Reply<Result<Added, ControlError>>),
    /// Detach it.
    CniDel(Attachment, Reply<Done>),
    /// Compare it with what an ADD has answered.
    CniCheck(Check, Reply<Result<Done, ControlError>>),
    /// Forget what is gone.
    CniGc(Gc, Reply<Collected>),
    /// Leave what others change in the node's kernel as it is, for so long.
    PauseReconciling(Duration, Reply<Result<Duration, PauseTooLong>>),
    /// End that; was there a pause?
    ResumeReconciling(Reply<bool>),
    /// Can an ADD be served?
    CniStatus(Reply<Result<Done, ControlError>>),
    /// The configuration file was read again.
    Configure(Result<Box<Config>, ConfigError>, Reply<Reloaded>),
    /// A source has news of the cluster.
    Change(Source, Box<cluster::Change>, Reply<Result<(), ChangeError>>),
    /// Give the node back to the network before, pods or not.
    GiveBack(bool, Reply<Result<Vec<view::MadeAnew>, ControlError>>),
    /// All there is to see.
    View(Reply<View>),
    /// Begin to capture.
    BeginCapture(
        Box<CaptureRequest>,
        Reply<Result<CaptureSession, ControlError>>,
    ),
    /// What a trace runs on.
    TraceBasis(Reply<TraceBasis>),
    /// Begin a live trace.
    BeginLive(Box<LiveRequest>, Reply<Result<LiveSession, ControlError>>),
    /// End a capture or a live trace.
    EndCapture(ObserverId),
    /// End, leaving pods and the node port in place.
    Stop,
}

/// All there is to see at one moment; formatting it is the caller's work.
pub struct View {
    /// The tables.
    pub snapshot: Arc<Snapshot>,
    /// How long ago they were seen to change, within a second.
    pub snapshot_age: Duration,
    /// Counters of every worker.
    pub counters: Vec<Arc<Counters>>,
    /// How busy each worker is.
    pub loads: Vec<Arc<Load>>,
    /// How attaching went.
    pub attaches: Arc<Attaches>,
    /// The last frames that each worker has dropped.
    pub dropped: Vec<Arc<LastDropped>>,
    /// What the kernel dropped at the receive sockets of the underlay.
    pub sockets: Vec<SocketDrops>,
    /// Pods, by name.
    pub pods: Vec<view::Pod>,
    /// What probes say of peers.
    pub peers: BTreeMap<PeerId, view::PeerHealth>,
    /// Everything else.
    pub status: view::Status,
}

/// What the kernel dropped at a worker's receive sockets, those of both lanes.
#[derive(Clone, Debug)]
pub struct SocketDrops {
    /// Number of its worker.
    pub worker: usize,
    /// Where it receives.
    pub local: SocketAddr,
    /// Datagrams, or why that is not known.
    pub dropped: Result<u32, String>,
}

/// The control plane.
pub struct Control {
    config: Config,
    /// What all sources say of the cluster.
    cluster: Cluster,
    reload: reload::Reload,
    underlay: Underlay,
    netlink: Netlink,
    publisher: Publisher,
    descriptors: Descriptors,
    workers: Vec<Worker>,
    counters: Vec<Arc<Counters>>,
    events: Receiver<Event>,
    closing: Closing,
    pod_jobs: PodJobs,
    /// Attached pods by name.
    pods: BTreeMap<String, pods::Attached>,
    /// Pods that are recorded and cannot be served, and why.
    dormant: BTreeMap<String, String>,
    state: State,
    state_dir: StateDir,
    /// Why the state is not on disk, if it is not.
    unsaved: Option<String>,
    /// Addresses to give out, by family.
    pools: Vec<AddressPool>,
    rules: Rules,
    /// Addresses of pods that went, and the MAC addresses that others may still know for them.
    former_macs: HashMap<IpAddr, MacAddr>,
    /// What was said of the plugin.
    cni: cni::Said,
    /// Pods of the network that was here before.
    left: takeover::Left,
    /// Flows whose answers return to the node, shared with the workers.
    returns: Arc<Returns>,
    path_mtus: PathMtus,
    unreachable: Unreachable,
    bereft: bereft::Bereft,
    probing: probing::Probing,
    node: node_port::Node,
    /// What others have changed in the kernel, and what cannot be had.
    ledger: Ledger,
    outer: outer::Outer,
    sources: Sources,
    /// What they were told last.
    told: Option<Local>,
    health: Arc<Health>,
    subnet_env: subnet_env::Said,
    captures: Captures,
    /// Index of the underlay interface.
    interface: u32,
    changes: Watch,
    next_hops: NextHops,
    rings: rings::Rings,
    sockets: Vec<SocketStatus>,
    attaches: Arc<Attaches>,
    /// The version of the tables that was seen last, and since when.
    seen: (u64, Instant),
    started: Instant,
}

impl Control {
    /// Calls `hangs` with the reason if a worker ever does; from a thread of its own.
    ///
    /// # Errors
    /// That thread cannot be made.
    pub fn watch(&self, hangs: impl FnOnce(String) + Send + 'static) -> std::io::Result<()> {
        let loads = self.workers.iter().map(|w| w.load().clone()).collect();
        watchdog::spawn(loads, self.health.clone(), hangs)
    }

    /// What tells whether the agent is well.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Serves requests until told to stop (`Ok`), or until the data path fails
    /// (`Err` with the reason).
    pub fn run(mut self, requests: &Receiver<Request>) -> Result<(), String> {
        let watch = tick(WATCH_PERIOD);
        let probes = match self.config.underlay.probes {
            0 => never(),
            _ => tick(probing::PERIOD),
        };
        let events = self.events.clone();
        let outcomes = self.pod_jobs.outcomes().clone();
        let mut changes = self.changes.changes().clone();
        loop {
            let deferred = self
                .next_hops
                .bulk_due()
                .map_or_else(never, crossbeam_channel::at);
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Stop) | Err(_) => break,
                    Ok(request) => self.serve(request),
                },
                recv(outcomes) -> outcome => {
                    // Ours is the other end.
                    if let Ok(outcome) = outcome {
                        self.finish(outcome);
                    }
                },
                recv(events) -> event => match event {
                    Ok(event) => self.handle_event(event)?,
                    Err(_) => return Err("all workers have ended".into()),
                },
                recv(changes) -> change => match change {
                    Ok(change) => {
                        let all: Vec<Change> = std::iter::once(change).chain(changes.try_iter()).collect();
                        self.handle_changes(all);
                    }
                    Err(_) => {
                        tracing::error!("kernel notifications have stopped; checking once a second instead");
                        changes = never();
                    }
                },
                recv(deferred) -> _ => self.handle_changes(Vec::new()),
                recv(watch) -> _ => self.tick(),
                recv(probes) -> _ => self.probe(Instant::now()),
            }
            self.serve_deferred();
        }
        self.await_all_jobs();
        self.stop();
        Ok(())
    }

    fn serve(&mut self, request: Request) {
        let Some(request) = self.defer(request) else {
            return;
        };
        match request {
            Request::Attach(attach, reply) => {
                let (started, name) = (Instant::now(), attach.name.clone());
                let attaches = self.attaches.clone();
                let answer: Reply<Result<view::Pod, ControlError>> = Box::new(move |outcome| {
                    let elapsed_us = attaches.enter(started, outcome.is_ok());
                    match &outcome {
                        Ok(pod) => {
                            tracing::info!(pod = pod.name, ips = ?pod.ips, elapsed_us, "attached");
                        }
                        Err(e) => tracing::warn!(pod = name, elapsed_us, "not attached: {e}"),
                    }
                    reply(outcome);
                });
                self.begin_attach(&attach, answer);
            }
            Request::Detach(detach, reply) => self.begin_detach(&detach, reply),
            Request::CniAdd(add, reply) => {
                let started = Instant::now();
                let Attachment {
                    container_id,
                    ifname,
                } = add.attachment.clone();
                let (pod, notice) = (add.pod.clone(), self.sources.notice.clone());
                let attaches = self.attaches.clone();
                let answer: Reply<Result<Added, ControlError>> = Box::new(move |outcome| {
                    let elapsed_us = attaches.enter(started, outcome.is_ok());
                    match &outcome {
                        Ok(added) => {
                            let ips: Vec<&str> =
                                added.ips.iter().map(|ip| ip.address.as_str()).collect();
                            tracing::info!(container_id, ifname, ?ips, elapsed_us, "ADD");
                        }
                        Err(e) => {
                            tracing::warn!(container_id, ifname, elapsed_us, "ADD refused: {e}");
                            if let Some(pod) = pod {
                                notice(Notice::not_attached(pod, e));
                            }
                        }
                    }
                    reply(outcome);
                });
                self.cni_attach(add, answer);
            }
            Request::CniDel(attachment, reply) => self.cni_detach(&attachment, reply),
            Request::CniCheck(check, reply) => reply(self.cni_check(&check)),
            Request::CniGc(gc, reply) => reply(self.cni_gc(&gc)),
            Request::CniStatus(reply) => reply(self.cni_status()),
            Request::PauseReconciling(duration, reply) => reply(self.pause_reconciling(duration)),
            Request::ResumeReconciling(reply) => reply(self.resume_reconciling()),
            Request::Configure(read, reply) => reply(self.configure(read)),
            Request::Change(source, change, reply) => reply(self.change(&source, *change)),
            Request::GiveBack(pods_too, reply) => reply(self.give_back(pods_too)),
            Request::View(reply) => reply(self.view()),
            Request::BeginCapture(wanted, reply) => reply(self.begin_capture(*wanted)),
            Request::TraceBasis(reply) => reply(self.trace_basis()),
            Request::BeginLive(wanted, reply) => reply(self.begin_live(*wanted)),
            Request::EndCapture(id) => self.end_capture(id),
            Request::Stop => {}
        }
    }

    fn handle_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::PathMtu { dest, mtu } => {
                self.warn_of_tiny_mtu(dest, mtu);
                if let Some(mtu) = self.path_mtus.report(dest, mtu, Instant::now()) {
                    tracing::info!(%dest, mtu, "path MTU learnt");
                    self.refresh_paths();
                }
            }
            Event::PathMtuIgnored { claims } => self.path_mtus.ignore(claims),
            Event::Unreachable { dest, errno } => {
                self.note_unreachable(dest, errno, Instant::now());
            }
            Event::Probed(answer) => self.probed(&answer, Instant::now()),
            Event::GsoOff {
                errno,
                zero_checksum,
            } => {
                let source = std::io::Error::from_raw_os_error(errno);
                tracing::warn!(
                    zero_checksum,
                    "segmentation offload is off on an underlay socket: {source}"
                );
            }
            Event::PortGone {
                port,
                queue,
                reason,
            } => self.port_gone(port, &queue, &reason),
            Event::Failed { worker, reason } => {
                return Err(format!("worker {worker} failed: {reason}"));
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.apply_pending();
        self.drop_vanished();
        self.keep_state();
        for dest in self.path_mtus.expire(Instant::now()) {
            tracing::info!(%dest, "learnt path MTU expired");
            self.refresh_paths();
        }
        self.forget_unreachable(Instant::now());
        self.forget_bereft();
        self.see_peers(Instant::now());
        self.look_at_underlay();
        self.look_at_outer_addresses();
        self.look_at_left(Instant::now());
        self.reconcile();
        self.tell_sources();
        self.publisher.reclaim();
        self.see_snapshot();
    }

    /// Notes when the tables have changed.
    fn see_snapshot(&mut self) {
        let version = self.publisher.current().version;
        if self.seen.0 != version {
            self.seen = (version, Instant::now());
        }
    }

    fn view(&self) -> View {
        let snapshot = self.publisher.current();
        let (version, since) = self.seen;
        let peers = self.probing.view(Instant::now());
        View {
            snapshot_age: match snapshot.version == version {
                true => since.elapsed(),
                false => Duration::ZERO,
            },
            counters: self.counters.clone(),
            loads: self.workers.iter().map(|w| w.load().clone()).collect(),
            attaches: self.attaches.clone(),
            dropped: self.workers.iter().map(|w| w.dropped().clone()).collect(),
            sockets: self.descriptors.socket_drops(),
            pods: self.pods.iter().map(|(n, p)| self.pod_view(n, p)).collect(),
            status: self.status(&snapshot, &peers),
            peers,
            snapshot,
        }
    }

    fn status(
        &self,
        snapshot: &Snapshot,
        peers: &BTreeMap<PeerId, view::PeerHealth>,
    ) -> view::Status {
        let (c, cluster) = (&self.config, self.cluster.state());
        let own = &cluster.node;
        view::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            node: c.node_name().into(),
            pod_cidrs: own.cidrs.iter().map(ToString::to_string).collect(),
            gateways: own.gateways().collect(),
            config: self.reload.status(),
            sources: self.source_status(),
            interface: c.node.interface.clone(),
            reconcile: self.reconcile_status(),
            pod_mtu: self.underlay.pod_mtu(c, cluster),
            underlay: view::UnderlayStatus {
                interface: self.underlay.interface.clone(),
                addresses: self.underlay.addresses(),
                choices: self.underlay.choices.clone(),
                mtu: self.underlay.mtu,
                io: self.rings.describe(),
                rings: rings::Rings::status(&self.descriptors),
                xdp_fallbacks: self.rings.fallbacks(),
                path_mtu_ignored: self.path_mtus.ignored(),
                next_hops: self.next_hop_status(),
                sockets: self.sockets.clone(),
            },
            workers: self.workers.iter().map(|w| self.worker_status(w)).collect(),
            rules: self.rules.describe(),
            state_error: self.unsaved.clone(),
            conditions: self.conditions(),
            // The log is not ours; the API adds it.
            log_lines_lost: 0,
            pods: self.pods.len(),
            pods_without_lanes: self.without_lanes(),
            not_served: self.not_served(),
            left_pods: self.left.view(),
            peers: cluster.peers.len(),
            peer_states: probing::states(peers),
            snapshot: snapshot.version,
            totals: crate::totals::totals(&self.counters),
        }
    }

    fn without_lanes(&self) -> usize {
        let taps = &self.descriptors.taps;
        let without = |port| taps.get(&port).is_some_and(|tap| tap.lanes.is_none());
        self.pods.values().filter(|pod| without(pod.port)).count()
    }

    fn not_served(&self) -> Vec<view::NotServed> {
        let one = |(pod, why): (&String, &String)| view::NotServed {
            pod: pod.clone(),
            why: why.clone(),
        };
        self.dormant.iter().map(one).collect()
    }

    fn worker_status(&self, worker: &Worker) -> view::WorkerStatus {
        use std::sync::atomic::Ordering::Relaxed;
        let load = worker.load();
        view::WorkerStatus {
            index: worker.index(),
            cpu: self.config.workers.cpus.get(worker.index()).copied(),
            rounds: load.rounds.load(Relaxed),
            busy_rounds: load.busy_rounds.load(Relaxed),
            busy_us: load.busy_ns.get() / 1000,
            sleeps: load.sleeps.load(Relaxed),
            buffers: view::Buffers::of(worker.buffers()),
            sockets: view::SocketCounts::of(worker.buffers()),
        }
    }

    /// Ends the workers. Interfaces stay: they are persistent, and the state
    /// says how to open them again.
    fn stop(mut self) {
        self.rings.close(&self.workers, &mut self.descriptors);
        for worker in self.workers {
            worker.join();
        }
    }
}

/// Sends requests to the control thread.
pub type Requests = Sender<Request>;

#[cfg(test)]
mod tests;
