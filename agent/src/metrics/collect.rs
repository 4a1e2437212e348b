//! From cells to samples, family by family in the order of the table.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::PoisonError;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use ringway_cluster::source::State;
use ringway_control::view::{Count, PeerHealth, PeerState, Pod, Status, Traffic, WorkerStatus};
use ringway_switch::counters::Cell;
use ringway_switch::{Counters, DropReason, IgnoreReason};
use ringway_tables::{PathId, PeerId, PortId};
use ringway_worker::Histogram;

use super::chosen::{Drops, Memory, PeerSums, Whose, chosen, sums};
use super::family::{Family, Value};
use super::{Scrape, families as f};

/// Bounds of `peers_by_bytes`.
const BYTES: [(&str, u64); 6] = [
    ("0", 0),
    ("1000", 1_000),
    ("1000000", 1_000_000),
    ("1000000000", 1_000_000_000),
    ("1000000000000", 1_000_000_000_000),
    ("+Inf", u64::MAX),
];
/// Bounds of `peers_by_dropped_packets`.
const DROPPED: [(&str, u64); 6] = [
    ("0", 0),
    ("10", 10),
    ("100", 100),
    ("1000", 1_000),
    ("100000", 100_000),
    ("+Inf", u64::MAX),
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(&mut encoder);
        self.agent(&mut out)?;
        self.tables(&mut out)?;
        self.frames(&mut out)?;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        self.ports(&mut out, &mut memory)?;
        self.peers(&mut out, &mut memory)?;
        drop(memory);
        self.workers(&mut out)?;
        self.underlay(&mut out)
    }
}

/// Where samples go.
struct Out<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    /// A family of one sample without labels.
    fn one(&mut self, family: &'static Family, value: impl Into<Value>) -> fmt::Result {
        family.begin(self.0)?.sample(&[], value)
    }

    /// One sample for each value of the label.
    fn each<'v, V: Into<Value>>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = (&'v str, V)>,
    ) -> fmt::Result {
        let mut out = family.begin(self.0)?;
        let mut samples = samples.into_iter();
        samples.try_for_each(|(label, value)| out.sample(&[label], value))
    }

    /// A histogram of several workers; so many of a value are one of the unit.
    fn histogram<'h, const LEAST: u32, const N: usize>(
        &mut self,
        family: &'static Family,
        all: impl Iterator<Item = &'h Histogram<LEAST, N>>,
        of_unit: f64,
    ) -> fmt::Result {
        let (mut buckets, mut sum) = (Vec::new(), 0.0);
        for one in all {
            sum += one.sum() as f64 / of_unit;
            for (i, (bound, n)) in one.buckets().enumerate() {
                if buckets.len() <= i {
                    let bound = bound.map_or(f64::INFINITY, |b| b as f64 / of_unit);
                    buckets.push((bound, 0));
                }
                buckets[i].1 += n;
            }
        }
        family.begin(self.0)?.histogram(sum, &buckets)
    }
}

/// Each state of a peer by its name.
const PEER_STATES: [(PeerState, &str); 6] = [
    (PeerState::Unknown, "unknown"),
    (PeerState::Mute, "mute"),
    (PeerState::Reached, "reached"),
    (PeerState::BlackHole, "black_hole"),
    (PeerState::NotHeard, "not_heard"),
    (PeerState::Silent, "silent"),
];

impl Scrape {
    fn status(&self) -> &Status {
        &self.view.status
    }

    /// All workers together.
    fn sum(&self, cell: impl Fn(&Counters) -> &Cell) -> u64 {
        self.view.counters.iter().map(|c| cell(c).get()).sum()
    }

    fn agent(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let s = self.status();
        f::BUILD.begin(out.0)?.info(&[&s.version])?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.one(&f::START_TIME, started.as_secs_f64())?;
        out.one(&f::READY, self.ready)?;
        out.one(&f::CONDITIONS, s.conditions.len())?;
        out.one(&f::LOG_LINES_LOST, s.log_lines_lost)?;
        out.one(&f::STATE_SAVED, s.state_error.is_none())?;
        out.one(&f::CONFIG_ERROR, s.config.error.is_some())?;
        out.one(&f::CONFIG_RESTART_KEYS, s.config.needs_restart.len())?;
        out.one(&f::CONFIG_CHANGES, s.config.changes)?;
        out.one(&f::RECONCILE_RESTORED, s.reconcile.restored)?;
        out.one(&f::RECONCILE_PAUSED, s.reconcile.paused_s.unwrap_or(0))?;
        let mut states = f::SOURCE_STATE.begin(out.0)?;
        for source in &s.sources {
            for (state, name) in [
                (State::Waiting, "waiting"),
                (State::Stale, "stale"),
                (State::Current, "current"),
            ] {
                states.sample(&[&source.name, name], source.state == state)?;
            }
        }
        let confirmed = |s: &ringway_control::view::SourceStatus| s.confirmed_ago_s;
        let ages = s.sources.iter();
        let ages = ages.filter_map(|s| Some((s.name.as_str(), confirmed(s)?)));
        out.each(&f::SOURCE_CONFIRMED_AGE, ages)?;
        let problems = s.sources.iter();
        let problems = problems.map(|s| (s.name.as_str(), s.problems.len()));
        out.each(&f::SOURCE_PROBLEMS, problems)
    }

    fn tables(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let (s, snapshot) = (self.status(), &self.view.snapshot);
        let attaches = &self.view.attaches;
        out.one(&f::PODS, s.pods)?;
        out.one(&f::PODS_WITHOUT_LANES, s.pods_without_lanes)?;
        out.one(&f::PODS_NOT_SERVED, s.not_served.len())?;
        out.one(&f::PODS_LEFT, s.left_pods.len())?;
        let times = std::iter::once(&attaches.times_ns);
        out.histogram(&f::ATTACH_DURATION, times, SECOND)?;
        out.one(&f::ATTACHES_REFUSED, attaches.refused.get())?;
        out.one(&f::PEERS, s.peers)?;
        let sizes = [
            ("mac", snapshot.macs.len()),
            ("routes_ipv4", snapshot.routes4.len()),
            ("routes_ipv6", snapshot.routes6.len()),
            ("neighbours", snapshot.neighbours.len()),
            ("ports", snapshot.ports.iter().count()),
            ("peers", snapshot.peers.iter().count()),
            ("paths", snapshot.paths.iter().count()),
        ];
        out.each(&f::TABLE_ENTRIES, sizes)?;
        out.one(&f::SNAPSHOT_VERSION, snapshot.version)?;
        out.one(&f::SNAPSHOT_AGE, self.view.snapshot_age.as_secs_f64())?;
        out.one(&f::POD_MTU, u64::from(s.pod_mtu))?;
        out.one(&f::UNDERLAY_MTU, u64::from(s.underlay.mtu))?;
        let mut least = f::PATH_MTU_LEAST.begin(out.0)?;
        if let Some(mtu) = snapshot.paths.iter().map(|(_, path)| path.mtu).min() {
            least.sample(&[], u64::from(mtu))?;
        }
        out.one(&f::PATH_MTU_IGNORED, s.underlay.path_mtu_ignored)
    }

    fn frames(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let totals = &self.status().totals;
        out.one(&f::RECEIVED_FRAMES, totals.received.frames)?;
        out.one(&f::RECEIVED_PACKETS, totals.received.packets)?;
        let verdicts = [
            ("delivered", totals.delivered),
            ("tunnelled", totals.tunnelled),
            ("answered", totals.answered),
            ("ignored", totals.ignored),
            ("dropped", totals.dropped),
        ];
        let counted = |n: fn(Count) -> u64| verdicts.map(|(verdict, count)| (verdict, n(count)));
        out.each(&f::FRAMES, counted(|count| count.frames))?;
        out.each(&f::PACKETS, counted(|count| count.packets))?;
        out.one(&f::ORIGINATED_PACKETS, totals.originated.packets)?;
        out.one(&f::RETURNED_PACKETS, totals.returned.packets)?;
        let reasons = DropReason::ALL.iter();
        let dropped = reasons.map(|r| (r.name(), self.sum(|c| &c.drops[r.index()])));
        out.each(&f::DROPPED_FRAMES, dropped)?;
        let reasons = DropReason::ALL.iter();
        let lost = reasons.map(|r| (r.name(), self.sum(|c| &c.lost[r.index()])));
        out.each(&f::LOST_PACKETS, lost)?;
        let reasons = IgnoreReason::ALL.iter();
        let ignored = reasons.map(|r| (r.name(), self.sum(|c| &c.ignores[r.index()])));
        out.each(&f::IGNORED_FRAMES, ignored)?;
        out.one(&f::ICMP_SUPPRESSED, self.sum(|c| &c.icmp_suppressed))?;
        out.one(&f::COPIED, totals.copied_bytes)
    }

    /// The node's own port, and pods.
    fn ports(&self, out: &mut Out<'_, '_>, memory: &mut Memory) -> fmt::Result {
        let counters = &self.view.counters;
        let drops = |port: u32| Drops::over(counters.iter().map(|c| c.port(PortId(port))));
        let (from, to, _) = ringway_control::totals::port_totals(counters, PortId::NODE);
        let node = [("from_node", from), ("to_node", to)];
        let counted = |n: fn(Traffic) -> u64| node.map(|(way, count)| (way, n(count)));
        out.each(&f::NODE_PORT_BYTES, counted(|t| t.bytes))?;
        out.each(&f::NODE_PORT_PACKETS, counted(|t| t.packets))?;
        let node_drops = memory.drops(Whose::Node, "", &drops(PortId::NODE.0));
        out.each(&f::NODE_PORT_DROPPED, node_drops)?;

        let pods = &self.view.pods;
        let ways = |pod: &Pod| [("from_pod", pod.from_pod), ("to_pod", pod.to_pod)];
        for (family, counted) in [
            (&f::POD_BYTES, (|t| t.bytes) as fn(Traffic) -> u64),
            (&f::POD_PACKETS, |t| t.packets),
        ] {
            let mut samples = family.begin(out.0)?;
            for pod in pods {
                let (namespace, name) = names(pod);
                for (way, traffic) in ways(pod) {
                    samples.sample(&[namespace, name, way], counted(traffic))?;
                }
            }
        }
        let mut samples = f::POD_DROPPED.begin(out.0)?;
        for pod in pods {
            let (namespace, name) = names(pod);
            let drops = drops(pod.port);
            for (reason, n) in memory.drops(Whose::Pod, &pod.name, &drops) {
                samples.sample(&[namespace, name, reason], n)?;
            }
        }
        Ok(())
    }

    fn peers(&self, out: &mut Out<'_, '_>, memory: &mut Memory) -> fmt::Result {
        let (snapshot, counters) = (&self.view.snapshot, &self.view.counters);
        let peers = PeerSums::all(snapshot, counters);
        let numbers = peers.iter().map(|p| p.number + 1).max().unwrap_or(0);
        memory.peer_numbers = memory.peer_numbers.max(numbers);
        let (mut from, mut to, mut dropped) = (Traffic::default(), Traffic::default(), 0);
        for number in 0..memory.peer_numbers {
            let (rx, tx, drops) = sums(number, counters);
            for (sum, one) in [(&mut from, rx), (&mut to, tx)] {
                sum.bytes += one.bytes;
                sum.packets += one.packets;
            }
            dropped += drops.total();
        }
        let ways = [("from_peer", from), ("to_peer", to)];
        out.each(&f::TUNNEL_BYTES, ways.map(|(way, t)| (way, t.bytes)))?;
        out.each(&f::TUNNEL_PACKETS, ways.map(|(way, t)| (way, t.packets)))?;
        out.one(&f::TUNNEL_DROPPED, dropped)?;

        let shown = chosen(&peers, self.peers);
        for (family, counted) in [
            (&f::PEER_BYTES, (|t| t.bytes) as fn(Traffic) -> u64),
            (&f::PEER_PACKETS, |t| t.packets),
        ] {
            let mut samples = family.begin(out.0)?;
            for peer in &shown {
                samples.sample(&[peer.name, "from_peer"], counted(peer.from))?;
                samples.sample(&[peer.name, "to_peer"], counted(peer.to))?;
            }
        }
        let mut samples = f::PEER_DROPPED.begin(out.0)?;
        for peer in &shown {
            for (reason, n) in memory.drops(Whose::Peer, peer.name, &peer.drops) {
                samples.sample(&[peer.name, reason], n)?;
            }
        }
        let mut samples = f::PEER_PATH_MTU.begin(out.0)?;
        for peer in &shown {
            for (v6, carries) in [(false, "ipv4"), (true, "ipv6")] {
                let path = snapshot.path_of(PeerId(peer.number), v6);
                let path = path.and_then(|PathId(number)| snapshot.path(PathId(number)));
                if let Some(path) = path {
                    samples.sample(&[peer.name, carries], u64::from(path.mtu))?;
                }
            }
        }
        let health = |peer: &PeerSums<'_>| self.view.peers.get(&PeerId(peer.number));
        let mut samples = f::PEER_ROUND_TRIP.begin(out.0)?;
        for peer in &shown {
            if let Some(us) = health(peer).and_then(|health| health.round_trip_us) {
                samples.sample(&[peer.name], us as f64 / 1e6)?;
            }
        }
        for (family, counted) in [
            (&f::PEER_PROBES, (|h| h.probes) as fn(&PeerHealth) -> u64),
            (&f::PEER_PROBES_LOST, |h| h.lost),
        ] {
            let mut samples = family.begin(out.0)?;
            for peer in &shown {
                if let Some(health) = health(peer) {
                    samples.sample(&[peer.name], counted(health))?;
                }
            }
        }
        let states = &self.status().peer_states;
        let counted =
            PEER_STATES.map(|(state, name)| (name, states.get(&state).copied().unwrap_or(0)));
        out.each(&f::PEERS_BY_STATE, counted)?;
        let mut samples = f::PEERS_BY_BYTES.begin(out.0)?;
        for (way, bytes) in [
            ("from_peer", (|p| p.from.bytes) as fn(&PeerSums<'_>) -> u64),
            ("to_peer", |p| p.to.bytes),
        ] {
            for (up_to, bound) in BYTES {
                let within = peers.iter().filter(|p| bytes(p) <= bound).count();
                samples.sample(&[way, up_to], within)?;
            }
        }
        let within = |bound| peers.iter().filter(|p| p.drops.total() <= bound).count();
        let spread = DROPPED.map(|(up_to, bound)| (up_to, within(bound)));
        out.each(&f::PEERS_BY_DROPPED, spread)?;

        let pods = self.view.pods.iter().map(|pod| pod.name.as_str());
        let shown: BTreeSet<&str> = shown.iter().map(|peer| peer.name).collect();
        memory.keep(&pods.collect(), &shown);
        Ok(())
    }

    fn workers(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let workers = &self.status().workers;
        let numbers: Vec<String> = workers.iter().map(|w| w.index.to_string()).collect();
        let of = |counted: fn(&WorkerStatus) -> u64| {
            let numbers = numbers.iter().map(String::as_str);
            numbers.zip(workers.iter().map(counted))
        };
        out.each(&f::WORKER_ROUNDS, of(|w| w.rounds))?;
        out.each(&f::WORKER_BUSY_ROUNDS, of(|w| w.busy_rounds))?;
        out.each(&f::WORKER_SLEEPS, of(|w| w.sleeps))?;
        let loads = &self.view.loads;
        let busy = loads.iter().map(|l| l.busy_ns.get());
        let busy = busy.map(|ns| Duration::from_nanos(ns).as_secs_f64());
        let busy = numbers.iter().map(String::as_str).zip(busy);
        out.each(&f::WORKER_BUSY, busy)?;
        let mut samples = f::WORKER_BUFFERS.begin(out.0)?;
        for (number, worker) in numbers.iter().zip(workers) {
            let b = &worker.buffers;
            for (state, n) in [
                ("free", b.free),
                ("in_flight", b.in_flight),
                ("to_receive", b.to_receive),
                ("to_send", b.to_send),
            ] {
                samples.sample(&[number, state], n)?;
            }
        }
        let times = loads.iter().map(|l| &l.visit_ns);
        out.histogram(&f::VISIT_DURATION, times, SECOND)?;
        let frames = loads.iter().map(|l| &l.visit_frames);
        out.histogram(&f::VISIT_FRAMES, frames, 1.0)
    }

    fn underlay(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let s = self.status();
        let of = |counted: fn(&WorkerStatus) -> u64| s.workers.iter().map(counted).sum::<u64>();
        out.one(&f::SOCKET_MESSAGES, of(|w| w.sockets.messages))?;
        out.one(&f::SOCKET_DATAGRAMS, of(|w| w.sockets.datagrams))?;
        out.one(&f::SOCKET_CONGESTED, of(|w| w.sockets.congested))?;
        out.one(&f::RINGS, s.underlay.rings.len())?;
        out.one(&f::XDP_FALLBACKS, s.underlay.xdp_fallbacks)?;
        let ways = [
            ("received", of(|w| w.buffers.received)),
            ("sent", of(|w| w.buffers.sent)),
        ];
        out.each(&f::RING_FRAMES, ways)?;
        let causes = [
            ("rx_full", of(|w| w.buffers.rx_full)),
            ("rx_dropped", of(|w| w.buffers.rx_dropped)),
            ("tx_full", of(|w| w.buffers.tx_full)),
            ("invalid", of(|w| w.buffers.invalid)),
        ];
        out.each(&f::RING_LOST_FRAMES, causes)?;
        out.one(&f::RING_FILL_EMPTY, of(|w| w.buffers.fill_empty))?;
        out.one(&f::RING_FILL_STARVED, of(|w| w.buffers.fill_starved))
    }
}

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;

/// Kubernetes' namespace and name of a pod that a runtime attached with them; else its whole name, in no namespace.
fn names(pod: &Pod) -> (&str, &str) {
    let container = pod.container_id.as_deref();
    match pod.name.split_once('/') {
        Some((namespace, name)) if container.is_some_and(|id| id != namespace) => (namespace, name),
        _ => ("", &pod.name),
    }
}
