//! Captures and live traces that are running: what each selects, and what the numbers in its records mean.
//!
//! A record names ports and peers by their numbers in the tables, and a number may be another pod's a moment
//! later. So a capture is told of each name before the tables that have it are published, with the time from which
//! it holds; pods and peers that it selects by name are selected by then, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ringway_config::Decider;
use ringway_packet::bpf::Program;
use ringway_switch::{Returns, UdpPorts};
use ringway_tables::{PeerId, PortId, Snapshot};
use ringway_worker::observe::capture::{Capture, RecordReader, Selection, Tally, Wanted, unix_now};
use ringway_worker::observe::steps::{self, StepReader, Steps};
use ringway_worker::{Command, ObserverId, Worker};

use super::{Control, ControlError};

/// Captures and live traces at the same time.
pub const MOST: usize = 4;
/// Bytes of the ring of each worker for each capture, if nothing else is asked for.
pub const RING_BYTES: usize = 4 << 20;
/// Names in a refusal.
const NAMED: usize = 5;

/// Where a capture looks. Nothing at all: everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// Pods by name; one with a `*` at its end stands for all that begin so, those to come included.
    pub pods: Vec<String>,
    /// The node's own port.
    pub node: bool,
    /// Peers by name, likewise: what goes to them and comes from them, without outer headers.
    pub peers: Vec<String>,
    /// Outer packets to these peers, too.
    pub outer: bool,
    /// Every peer.
    pub underlay: bool,
    /// What is dropped, wherever it came in.
    pub drops: bool,
    /// Only what is dropped.
    pub only_dropped: bool,
}

impl Points {
    fn everywhere(&self) -> bool {
        let Points {
            pods,
            node,
            peers,
            underlay,
            drops,
            ..
        } = self;
        pods.is_empty() && peers.is_empty() && !node && !underlay && !drops
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct CaptureRequest {
    /// Where.
    pub points: Points,
    /// Which; none: all.
    pub filter: Option<Program>,
    /// Bytes of each frame.
    pub snap_len: u32,
    /// Bytes of the ring of each worker.
    pub ring_bytes: usize,
}

/// What a number means from some time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Whose number.
    pub number: Number,
    /// Its name; none: it is nobody's.
    pub name: Option<Arc<str>>,
    /// Nanoseconds since 1970.
    pub since: u64,
}

/// A number of the tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Number {
    /// A port's.
    Port(PortId),
    /// A peer's.
    Peer(PeerId),
}

/// A capture that has begun.
pub struct CaptureSession {
    /// Which one it is: it ends with [`Request::EndCapture`](super::Request::EndCapture).
    pub id: ObserverId,
    /// What workers have captured, one for each.
    pub readers: Vec<RecordReader>,
    /// How it stands on each.
    pub tallies: Vec<Arc<Tally>>,
    /// Names, those of the beginning first.
    pub names: Receiver<Vec<Named>>,
    /// Numbers it selects by name now.
    pub selected: Vec<Number>,
}

/// What a live trace is asked for.
#[derive(Clone, Debug, Default)]
pub struct LiveRequest {
    /// Where.
    pub points: Points,
    /// Which; none: all.
    pub filter: Option<Program>,
    /// Of how many frames.
    pub count: u32,
}

/// A live trace that has begun.
pub struct LiveSession {
    /// Which one it is: it ends with [`Request::EndCapture`](super::Request::EndCapture).
    pub id: ObserverId,
    /// What workers have seen, one for each.
    pub readers: Vec<StepReader>,
    /// How many are still to come.
    pub left: Arc<AtomicU32>,
}

/// What a trace runs on, as it is now.
pub struct TraceBasis {
    /// The tables.
    pub tables: Arc<Snapshot>,
    /// Flows whose answers return to the node; workers change them.
    pub returns: Arc<Returns>,
    /// UDP ports of tunnels.
    pub ports: UdpPorts,
    /// Checksums of what comes from the underlay may be unfinished.
    pub unfinished: bool,
    /// Who decides what nodes there are: how another node's agent is reached.
    pub decider: Decider,
}

/// A pod or a peer that is named and not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} named {name} on this node; of {count} there are {some}")]
pub struct NoPoint {
    /// `pod` or `peer`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// How many there are.
    pub count: usize,
    /// Some of them.
    pub some: String,
}

impl NoPoint {
    /// `there`: the names that there are.
    pub fn new<'a>(what: &'static str, name: &str, there: impl Iterator<Item = &'a str>) -> Self {
        let (mut count, mut some) = (0, Vec::new());
        for name in there {
            count += 1;
            if some.len() < NAMED {
                some.push(name);
            }
        }
        Self {
            what,
            name: name.to_owned(),
            count,
            some: some.join(", "),
        }
    }

    /// The name, if it is a pod's.
    pub fn pod(&self) -> Option<&str> {
        (self.what == "pod").then_some(&self.name)
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self.what {
            "pod" => {
                "`ringway pods` lists this node's; of one on another node ask that node's agent"
            }
            _ => "`ringway tables peers` lists them",
        }
    }
}

/// The captures that are running.
#[derive(Default)]
pub(super) struct Captures {
    running: BTreeMap<ObserverId, Running>,
    next: u64,
}

struct Running {
    points: Points,
    selection: Arc<Selection>,
    /// What it was told last.
    names: BTreeMap<Number, Arc<str>>,
    tell: Sender<Vec<Named>>,
}

impl Captures {
    /// Tables will be published: whoever is new in them is known before its packets are seen.
    pub(super) fn follow(&mut self, tables: &Snapshot) {
        for running in self.running.values_mut() {
            running.follow(tables);
        }
    }

    /// Begins to follow the tables for somebody who looks at these points.
    fn begin(&mut self, points: Points, tables: &Snapshot) -> Result<Begun, ControlError> {
        if self.running.len() >= MOST {
            return Err(ControlError::Captures { most: MOST });
        }
        let everywhere = points.everywhere();
        let mut selection = Selection::default();
        selection.all_ports = everywhere;
        selection.all_peers = everywhere || points.underlay;
        selection.outer = points.outer || points.underlay;
        selection.drops = everywhere || points.drops;
        selection.only_dropped = points.only_dropped;
        let selection = Arc::new(selection);
        let (tell, told) = unbounded();
        let mut running = Running {
            points,
            selection: selection.clone(),
            names: BTreeMap::new(),
            tell,
        };
        running.follow(tables);
        known(&running.points, &running.names)?;
        let selected = running.names.iter();
        let selected = selected
            .filter(|(number, name)| running.selects(**number, name))
            .map(|(number, _)| *number)
            .collect();
        self.next += 1;
        let id = ObserverId(self.next);
        self.running.insert(id, running);
        Ok(Begun {
            id,
            selection,
            names: told,
            selected,
        })
    }

    fn capture(
        &mut self,
        request: CaptureRequest,
        tables: &Snapshot,
        workers: &[Worker],
    ) -> Result<CaptureSession, ControlError> {
        let begun = self.begin(request.points, tables)?;
        let wanted = Wanted {
            selection: begun.selection,
            filter: request.filter.map(Arc::new),
            snap_len: request.snap_len,
        };
        let (mut readers, mut tallies) = (Vec::new(), Vec::new());
        for worker in workers {
            let tally = Arc::new(Tally::default());
            let (capture, reader) = Capture::new(wanted.clone(), request.ring_bytes, tally.clone());
            worker.send(Command::Observe(begun.id, Box::new(capture)));
            readers.push(reader);
            tallies.push(tally);
        }
        Ok(CaptureSession {
            id: begun.id,
            readers,
            tallies,
            names: begun.names,
            selected: begun.selected,
        })
    }

    fn live(
        &mut self,
        request: LiveRequest,
        tables: &Snapshot,
        workers: &[Worker],
    ) -> Result<LiveSession, ControlError> {
        let begun = self.begin(request.points, tables)?;
        let left = Arc::new(AtomicU32::new(request.count));
        let wanted = steps::Wanted {
            selection: begun.selection,
            filter: request.filter.map(Arc::new),
            left: left.clone(),
        };
        let readers = workers.iter().map(|worker| {
            let (steps, reader) = Steps::new(wanted.clone(), request.count);
            worker.send(Command::Observe(begun.id, Box::new(steps)));
            reader
        });
        Ok(LiveSession {
            id: begun.id,
            readers: readers.collect(),
            left,
        })
    }
}

/// Somebody who looks, before workers know of it.
struct Begun {
    id: ObserverId,
    selection: Arc<Selection>,
    names: Receiver<Vec<Named>>,
    selected: Vec<Number>,
}

impl Running {
    fn follow(&mut self, tables: &Snapshot) {
        let next = names(tables);
        let since = unix_now();
        let mut changed = Vec::new();
        let gone = self
            .names
            .keys()
            .filter(|number| !next.contains_key(number));
        for number in gone.copied() {
            changed.push((number, None));
        }
        for (number, name) in &next {
            if self.names.get(number) != Some(name) {
                changed.push((*number, Some(name.clone())));
            }
        }
        if changed.is_empty() {
            return;
        }
        for (number, name) in &changed {
            let selected = name
                .as_ref()
                .is_some_and(|name| self.selects(*number, name));
            match number {
                Number::Port(port) => self.selection.set_port(*port, selected),
                Number::Peer(peer) => self.selection.set_peer(*peer, selected),
            }
        }
        let named = changed.into_iter().map(|(number, name)| Named {
            number,
            name,
            since,
        });
        // Whoever reads may have gone: the end of the capture is on its way.
        let _ = self.tell.send(named.collect());
        self.names = next;
    }

    fn selects(&self, number: Number, name: &str) -> bool {
        match number {
            Number::Port(PortId::NODE) => self.points.node,
            Number::Port(_) => self
                .points
                .pods
                .iter()
                .any(|pattern| matches(pattern, name)),
            Number::Peer(_) => self
                .points
                .peers
                .iter()
                .any(|pattern| matches(pattern, name)),
        }
    }
}

impl Control {
    /// Publishes tables.
    pub(super) fn publish(&mut self, tables: Snapshot) {
        self.captures.follow(&tables);
        self.publisher.publish(tables);
    }

    pub(super) fn begin_capture(
        &mut self,
        request: CaptureRequest,
    ) -> Result<CaptureSession, ControlError> {
        let tables = self.publisher.current();
        let points = request.points.clone();
        let session = self.captures.capture(request, &tables, &self.workers)?;
        tracing::info!(capture = session.id.0, ?points, "a capture begins");
        Ok(session)
    }

    pub(super) fn begin_live(&mut self, request: LiveRequest) -> Result<LiveSession, ControlError> {
        let tables = self.publisher.current();
        let points = request.points.clone();
        let session = self.captures.live(request, &tables, &self.workers)?;
        tracing::info!(trace = session.id.0, ?points, "a live trace begins");
        Ok(session)
    }

    /// What a trace runs on.
    pub(super) fn trace_basis(&self) -> TraceBasis {
        TraceBasis {
            tables: self.publisher.current(),
            returns: self.returns.clone(),
            ports: super::start::tunnel_ports(&self.config),
            unfinished: super::rings::unfinished(&self.config, &self.underlay),
            decider: self.config.decider(),
        }
    }

    pub(super) fn end_capture(&mut self, id: ObserverId) {
        if self.captures.running.remove(&id).is_some() {
            tracing::info!(capture = id.0, "a capture or live trace ends");
        }
        for worker in &self.workers {
            worker.send(Command::Unobserve(id));
        }
    }
}

/// `default/web-*` stands for `default/web-1`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Whoever is named without a `*` has to be there.
fn known(points: &Points, names: &BTreeMap<Number, Arc<str>>) -> Result<(), NoPoint> {
    let is_pod = |number: &Number| matches!(number, Number::Port(port) if *port != PortId::NODE);
    let is_peer = |number: &Number| matches!(number, Number::Peer(_));
    let check = |patterns: &[String], what: &'static str, is: &dyn Fn(&Number) -> bool| {
        let there = || {
            names
                .iter()
                .filter(|(number, _)| is(number))
                .map(|(_, name)| &**name)
        };
        for pattern in patterns {
            if !pattern.ends_with('*') && !there().any(|name| name == pattern) {
                return Err(NoPoint::new(what, pattern, there()));
            }
        }
        Ok(())
    };
    check(&points.pods, "pod", &is_pod)?;
    check(&points.peers, "peer", &is_peer)
}

fn names(tables: &Snapshot) -> BTreeMap<Number, Arc<str>> {
    let ports = tables.ports.iter();
    let ports = ports.map(|(id, port)| (Number::Port(PortId(id)), port.name.clone()));
    let peers = tables.peers.iter();
    let peers = peers.map(|(id, peer)| (Number::Peer(PeerId(id)), peer.name.clone()));
    ports.chain(peers).collect()
}
