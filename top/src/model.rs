//! Two looks and the time between them: how fast each counter grows.
//!
//! A rate is known where the same thing was there in the look before, in the same run of the agent, and counts
//! no less than it did. Otherwise it is unknown: what began again has no rate yet, and never a huge one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ringway_view::{Drops, Pod, Status, Traffic, WorkerStatus, rates};

use crate::Look;

/// Shortest time that anything is divided by.
const LEAST: f64 = 1e-3;
/// Longest that an answer is waited for before it is said.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much goes one way a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Bits of frames a second.
    pub bits: Option<f64>,
    /// Packets on the wire a second.
    pub packets: Option<f64>,
}

/// How much goes from and to a pod or peer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// From a pod; to a peer.
    pub sent: Flow,
    /// To a pod; from a peer.
    pub received: Flow,
    /// Packets dropped or lost a second.
    pub drops: Option<f64>,
    /// Packets dropped or lost since the agent started.
    pub dropped: u64,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WorkerPace {
    /// Per cent of the time that went into rounds with frames: its load.
    pub busy: Option<f64>,
    /// Rounds a second.
    pub rounds: Option<f64>,
    /// Per cent of the rounds that brought frames.
    pub with_frames: Option<f64>,
    /// Sleeps a second.
    pub sleeps: Option<f64>,
    /// Datagrams received a second.
    pub datagrams: Option<f64>,
    /// Datagrams the kernel dropped a second, since a receive buffer was full.
    pub overflow: Option<f64>,
}

/// A look with its rates.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The answers; the rates of drops are entered.
    pub look: Look,
    /// When it was.
    pub at: Duration,
    /// Of each pod, in the order of the answer.
    pub pods: Vec<Pace>,
    /// Of each peer, in the order of the answer.
    pub peers: Vec<Pace>,
    /// Of each worker, in the order of the answer.
    pub workers: Vec<WorkerPace>,
    /// Frames dropped and packets lost a second, all in all.
    pub drops: Option<f64>,
}

/// What is known of the node.
#[derive(Clone, Debug, Default)]
pub struct Model {
    shown: Option<Shown>,
    away: Option<(String, Duration)>,
    asked: Option<Duration>,
}

impl Model {
    /// The last look, if there was one.
    pub fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    /// Why the agent does not answer at that time, and since when; none: it does.
    pub fn away(&self, now: Duration) -> Option<(&str, Duration)> {
        if let Some((why, since)) = &self.away {
            return Some((why, *since));
        }
        let late = self
            .asked
            .filter(|asked| now.saturating_sub(*asked) >= PATIENCE);
        late.map(|asked| ("it was asked and is waited for", asked))
    }

    /// The agent is asked at that time.
    pub fn asked(&mut self, at: Duration) {
        self.asked = Some(at);
    }

    /// The agent answered at that time.
    pub fn answered(&mut self, mut look: Look, at: Duration) {
        (self.away, self.asked) = (None, None);
        let before = self.shown.take();
        if look.paths.is_none() {
            look.paths = before.as_ref().and_then(|shown| shown.look.paths.clone());
        }
        let before = before.filter(|shown| same_run(&shown.look.status, &look.status));
        self.shown = Some(Shown::of(look, at, before.as_ref()));
    }

    /// The agent did not answer at that time.
    pub fn failed(&mut self, why: &str, at: Duration) {
        let since = self.away.as_ref().map_or(at, |(_, since)| *since);
        (self.away, self.asked) = (Some((why.into(), since)), None);
    }
}

/// Whether both are of one process.
fn same_run(before: &Status, now: &Status) -> bool {
    before.pid == now.pid && before.uptime_s <= now.uptime_s
}

/// By how much it grew a second.
fn grown(now: u64, before: u64, seconds: f64) -> Option<f64> {
    now.checked_sub(before).map(|grown| grown as f64 / seconds)
}

fn flow(now: &Traffic, before: &Traffic, seconds: f64) -> Flow {
    // One counter that has become less: they began again.
    if now.frames < before.frames {
        return Flow::default();
    }
    Flow {
        bits: grown(now.bytes, before.bytes, seconds).map(|bytes| bytes * 8.0),
        packets: grown(now.packets, before.packets, seconds),
    }
}

fn dropped(pod: &Pod) -> u64 {
    pod.drops.iter().map(|drop| drop.count).sum()
}

/// Frames and packets that came to nothing, of all the agent.
fn lost(status: &Status) -> u64 {
    status.totals.dropped.frames + status.totals.lost_packets
}

impl Shown {
    fn of(mut look: Look, at: Duration, before: Option<&Shown>) -> Shown {
        let seconds = before.map_or(1.0, |shown| (at.saturating_sub(shown.at)).as_secs_f64());
        let seconds = seconds.max(LEAST);
        if let Some(before) = before {
            let elapsed = Duration::from_secs_f64(seconds);
            rates::enter(&mut look.drops, &before.look.drops, elapsed);
            forget_unread(&mut look.drops, &before.look.drops);
        }
        let drops = before.and_then(|shown| {
            let status = &shown.look.status;
            grown(lost(&look.status), lost(status), seconds)
        });
        Shown {
            pods: pods(&look, before, seconds),
            peers: peers(&look, before, seconds),
            workers: workers(&look, before, seconds),
            drops,
            at,
            look,
        }
    }
}

/// A counter of the kernel that is missing in a look was zero then, unless something could not be read: then it is
/// not known what it was.
fn forget_unread(now: &mut Drops, before: &Drops) {
    if before.unread.is_empty() {
        return;
    }
    let known: HashSet<(&str, &str)> = before
        .kernel
        .iter()
        .map(|loss| (loss.counter.as_str(), loss.at.as_str()))
        .collect();
    for loss in &mut now.kernel {
        if !known.contains(&(loss.counter.as_str(), loss.at.as_str())) {
            loss.rate = None;
        }
    }
}

fn pods(look: &Look, before: Option<&Shown>, seconds: f64) -> Vec<Pace> {
    let known: HashMap<(&str, u32), &Pod> = before
        .map(|shown| &shown.look.pods)
        .into_iter()
        .flatten()
        .map(|pod| ((pod.name.as_str(), pod.port), pod))
        .collect();
    let pace = |pod: &Pod| {
        let total = dropped(pod);
        let mut pace = Pace {
            dropped: total,
            ..Pace::default()
        };
        if let Some(before) = known.get(&(pod.name.as_str(), pod.port)) {
            pace.sent = flow(&pod.from_pod, &before.from_pod, seconds);
            pace.received = flow(&pod.to_pod, &before.to_pod, seconds);
            pace.drops = grown(total, dropped(before), seconds);
        }
        pace
    };
    look.pods.iter().map(pace).collect()
}

fn peers(look: &Look, before: Option<&Shown>, seconds: f64) -> Vec<Pace> {
    let known: HashMap<(&str, u32), _> = before
        .map(|shown| &shown.look.peers)
        .into_iter()
        .flatten()
        .map(|peer| ((peer.name.as_str(), peer.peer), peer))
        .collect();
    // What was dropped at each peer, whatever the reason.
    let mut at: HashMap<&str, (Option<f64>, u64)> = HashMap::new();
    let places = look.drops.drops.iter().flat_map(|drop| &drop.at);
    for place in places.filter(|place| place.kind == "peer") {
        let (rate, count) = at.entry(place.name.as_str()).or_default();
        *count += place.packets;
        *rate = place.rate.map(|more| rate.unwrap_or(0.0) + more);
    }
    let nothing = before.map(|_| 0.0);
    let pace = |peer: &ringway_view::PeerRow| {
        let (drops, dropped) = at.get(peer.name.as_str()).copied().unwrap_or((nothing, 0));
        let mut pace = Pace {
            drops,
            dropped,
            ..Pace::default()
        };
        if let Some(before) = known.get(&(peer.name.as_str(), peer.peer)) {
            pace.sent = flow(&peer.to_peer, &before.to_peer, seconds);
            pace.received = flow(&peer.from_peer, &before.from_peer, seconds);
        }
        pace
    };
    look.peers.iter().map(pace).collect()
}

fn workers(look: &Look, before: Option<&Shown>, seconds: f64) -> Vec<WorkerPace> {
    let known: HashMap<usize, &WorkerStatus> = before
        .map(|shown| &shown.look.status.workers)
        .into_iter()
        .flatten()
        .map(|worker| (worker.index, worker))
        .collect();
    let pace = |now: &WorkerStatus| {
        let Some(before) = known.get(&now.index) else {
            return WorkerPace::default();
        };
        let rounds = grown(now.rounds, before.rounds, seconds);
        let with_frames = grown(now.busy_rounds, before.busy_rounds, seconds);
        let busy = grown(now.busy_us, before.busy_us, seconds);
        let of = |part: Option<f64>, whole: f64| part.map(|part| (part * 100.0 / whole).min(100.0));
        WorkerPace {
            busy: of(busy, 1e6),
            rounds,
            with_frames: of(with_frames, rounds.unwrap_or(0.0).max(1.0 / seconds)),
            sleeps: grown(now.sleeps, before.sleeps, seconds),
            datagrams: grown(now.sockets.datagrams, before.sockets.datagrams, seconds),
            overflow: grown(now.sockets.overflow, before.sockets.overflow, seconds),
        }
    };
    look.status.workers.iter().map(pace).collect()
}
