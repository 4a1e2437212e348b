//! A capture as a client gets it: pcapng, for as long as it reads.
//!
//! ```text
//!   workers' rings ▶ read every 20 ms, in order of time ▶ pcapng blocks ▶ body of the answer
//! ```
//!
//! The client sets the pace. While it does not read, the rings fill, and what does not fit is counted as lost: packets
//! wait for nobody. The capture ends with the connection, or with the agent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use ringway_control::Requests;
use ringway_control::captures::{CaptureSession, Number};
use ringway_ports::pcap::ng;
use ringway_requests::Described;
use ringway_tables::PortId;
use ringway_worker::observe::Entry;
use ringway_worker::observe::capture::{End, Kind, Place, Record, Way, unix_now};
use tokio::sync::watch;
use tokio::time::Instant;

use super::streamed::{self, Observation, Pieces};

/// Media type of pcapng.
pub const TYPE: &str = "application/x-pcapng";
/// Between two looks into the rings.
const PERIOD: Duration = Duration::from_millis(20);
/// Looks after which a number without a name is shown as a number.
const PATIENCE: u32 = 10;
/// Between two statistics.
const STATISTICS: Duration = Duration::from_secs(1);
/// Bytes read from the rings at a time.
const AT_A_TIME: usize = 4 << 20;
/// Interfaces that are described before anything was seen.
const DESCRIBED: usize = 64;

/// Answers with the capture.
pub fn answer(
    session: CaptureSession,
    described: Described,
    requests: Requests,
    ending: watch::Receiver<bool>,
) -> Response {
    let observation = Observation {
        id: session.id,
        requests,
        ending,
    };
    streamed::answer(TYPE, Stream::new(session, described, observation))
}

/// A capture on its way to the client.
struct Stream {
    session: CaptureSession,
    described: Described,
    observation: Observation,
    names: Names,
    interfaces: Interfaces,
    /// Read from the rings and not written: some number had no name yet.
    waiting: Vec<(Record, Vec<u8>)>,
    waited: u32,
    out: Vec<u8>,
    began: u64,
    next_statistics: Instant,
    over: bool,
}

impl Pieces for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.out.is_empty() {
                return Some(std::mem::take(&mut self.out).into());
            }
            if self.over {
                return None;
            }
            self.over = self.observation.pause(PERIOD).await;
            self.over |= self.session.readers.iter().all(|reader| reader.is_over());
            self.collect();
            if self.over || Instant::now() >= self.next_statistics {
                self.next_statistics = Instant::now() + STATISTICS;
                self.statistics();
            }
        }
    }
}

impl Stream {
    fn new(session: CaptureSession, described: Described, observation: Observation) -> Stream {
        let mut stream = Stream {
            session,
            described,
            observation,
            names: Names::default(),
            interfaces: Interfaces::default(),
            waiting: Vec::new(),
            waited: 0,
            out: Vec::new(),
            began: unix_now(),
            next_statistics: Instant::now() + STATISTICS,
            over: false,
        };
        stream.begin();
        stream
    }

    /// The header, and interfaces that are known: libpcap wants one before it says that it reads.
    fn begin(&mut self) {
        let program = concat!("ringway ", env!("CARGO_PKG_VERSION"));
        ng::section(&mut self.out, program);
        self.learn();
        let mut places: Vec<Place> = self.session.selected.iter().map(|n| place_of(*n)).collect();
        places.truncate(DESCRIBED);
        if places.is_empty() {
            places.push(Place::Underlay);
        }
        for place in places {
            self.interface(place, u64::MAX);
        }
    }

    fn learn(&mut self) {
        for named in self.session.names.try_iter().flatten() {
            self.names.enter(named.number, named.since, named.name);
        }
    }

    /// Takes what is in the rings.
    fn collect(&mut self) {
        let mut bytes = 0;
        let share = AT_A_TIME / self.session.readers.len().max(1);
        for (i, reader) in self.session.readers.iter_mut().enumerate() {
            while bytes < share * (i + 1) {
                let Some((record, frame)) = reader.read() else {
                    break;
                };
                bytes += frame.len() + 64;
                self.waiting.push((record, frame.to_vec()));
            }
        }
        self.learn();
        self.waiting.sort_by_key(|(record, _)| record.time);
        let unknown = self
            .waiting
            .iter()
            .any(|(record, _)| !self.names.has_all(record));
        if unknown && self.waited < PATIENCE && !self.over {
            self.waited += 1;
            return;
        }
        self.waited = 0;
        for (record, frame) in std::mem::take(&mut self.waiting) {
            self.packet(&record, &frame);
        }
    }

    fn packet(&mut self, record: &Record, frame: &[u8]) {
        let interface = self.interface(record.place, record.time);
        let seen = &mut self.interfaces.all[interface as usize];
        let lost = u64::from(record.lost);
        let known = lost.min(self.interfaces.ahead);
        self.interfaces.ahead -= known;
        seen.received += 1 + lost - known;
        seen.lost += lost - known;
        seen.changed = true;
        let comment = self.comment(record);
        ng::packet(
            &mut self.out,
            &ng::Packet {
                interface,
                time: record.time,
                original_len: record.original_len,
                bytes: frame,
                direction: match record.way {
                    Way::In => ng::Direction::In,
                    Way::Out => ng::Direction::Out,
                },
                lost: record.lost.into(),
                comment: &comment,
            },
        );
    }

    /// Number of the interface that stands for a place; describes it if it is new.
    fn interface(&mut self, place: Place, time: u64) -> u32 {
        let name = match place {
            Place::Port(port) => self.names.port(port, time),
            Place::Peer(_) => format!("peer {}", self.names.of(number_of(place), time)),
            Place::Underlay => "underlay".into(),
            Place::Outer => "underlay outer".into(),
        };
        if let Some(known) = self.interfaces.by_name.get(&name) {
            return *known;
        }
        let description = match place {
            Place::Port(PortId::NODE) => "the node's own port",
            Place::Port(_) => "a pod; in: sent by it, out: delivered to it",
            Place::Peer(_) => "a peer, inner frames; in: from it, out: to it",
            Place::Underlay => "datagrams from nobody who is known",
            Place::Outer => "outer packets to peers",
        };
        let filter = &self.described.filter;
        let described = ng::Interface {
            name: &name,
            description,
            filter,
        };
        ng::interface(&mut self.out, &described, self.described.snap_len);
        self.interfaces.add(name)
    }

    /// What is to be known of a frame besides its bytes.
    fn comment(&self, record: &Record) -> String {
        let time = record.time;
        let peer = |peer| self.names.of(Number::Peer(peer), time);
        let mut parts = Vec::new();
        match record.way {
            Way::In => parts.push(match record.end {
                End::Delivered(port) => format!("to {}", self.names.port(port, time)),
                End::Sent(to) => format!("to peer {}", peer(to)),
                End::Fragmented(to) => format!("to peer {}, in fragments", peer(to)),
                End::Answered => "answered by the switch".into(),
                End::Ignored(reason) => format!("ignored: {}: {}", reason.name(), reason.cause()),
                End::Dropped(reason) => format!("dropped: {}: {}", reason.name(), reason.cause()),
            }),
            Way::Out => parts.push(match (record.from, record.end) {
                (Some(Entry::Port(port)), _) => format!("from {}", self.names.port(port, time)),
                (Some(Entry::Peer(from)), _) => format!("from peer {}", peer(from)),
                (Some(Entry::Underlay), _) => "from the underlay".into(),
                (Some(Entry::Switch), _) => "made by the switch".into(),
                (None, End::Sent(to)) => format!("to peer {}", peer(to)),
                (None, _) => "to a peer".into(),
            }),
        }
        if record.packets > 1 {
            let Record {
                packets, segment, ..
            } = record;
            parts.push(format!(
                "superframe of {packets} packets with {segment} bytes each"
            ));
        }
        if record.unfinished {
            parts.push("checksum still to be filled in".into());
        }
        match record.kind {
            Kind::Frame => {}
            Kind::Packet => parts.push("Ethernet header made up: a bare IP packet".into()),
            Kind::Unopened => parts.push(
                "Ethernet header made up: what a datagram carries, from the tunnel header on"
                    .into(),
            ),
            Kind::Datagram => parts.push("outer headers as the kernel makes them".into()),
        }
        parts.join("; ")
    }

    /// How it stands, of each interface that has news.
    fn statistics(&mut self) {
        let tallies = self.session.tallies.iter();
        let lost: u64 = tallies.map(|tally| tally.lost.load(Relaxed)).sum();
        let told: u64 = self.interfaces.all.iter().map(|seen| seen.lost).sum();
        // No packet has come since to say so.
        let untold = lost.saturating_sub(told);
        if untold > 0
            && let Some(seen) = self.interfaces.all.first_mut()
        {
            seen.lost += untold;
            seen.received += untold;
            seen.changed = true;
            self.interfaces.ahead += untold;
        }
        for (interface, seen) in self.interfaces.all.iter_mut().enumerate() {
            if !std::mem::take(&mut seen.changed) && !self.over {
                continue;
            }
            ng::statistics(
                &mut self.out,
                &ng::Statistics {
                    interface: interface as u32,
                    time: unix_now(),
                    began: self.began,
                    received: seen.received,
                    lost: seen.lost,
                },
            );
        }
    }
}

/// Interfaces that were described.
#[derive(Default)]
struct Interfaces {
    by_name: HashMap<String, u32>,
    all: Vec<Seen>,
    /// Losses that were entered before the packet after them said so.
    ahead: u64,
}

#[derive(Default)]
struct Seen {
    received: u64,
    lost: u64,
    changed: bool,
}

impl Interfaces {
    fn add(&mut self, name: String) -> u32 {
        let number = self.all.len() as u32;
        self.by_name.insert(name, number);
        self.all.push(Seen::default());
        number
    }
}

/// A name, or that there is none, from a time on.
type Meaning = (u64, Option<Arc<str>>);

/// What numbers meant, and when.
#[derive(Default)]
struct Names(BTreeMap<Number, Vec<Meaning>>);

impl Names {
    /// Meanings of a number that are kept.
    const KEPT: usize = 4;

    fn enter(&mut self, number: Number, since: u64, name: Option<Arc<str>>) {
        let meanings = self.0.entry(number).or_default();
        meanings.push((since, name));
        if meanings.len() > Self::KEPT {
            meanings.remove(0);
        }
    }

    /// What it meant at that time. Frames that are on their way when a pod goes are still its own.
    fn at(&self, number: Number, time: u64) -> Option<&Arc<str>> {
        let meanings = self.0.get(&number)?;
        let until = meanings.partition_point(|(since, _)| *since <= time);
        let (before, after) = meanings.split_at(until);
        let last = before.iter().rev().find_map(|(_, name)| name.as_ref());
        last.or_else(|| after.iter().find_map(|(_, name)| name.as_ref()))
    }

    fn of(&self, number: Number, time: u64) -> String {
        match (self.at(number, time), number) {
            (Some(name), _) => name.to_string(),
            (None, Number::Port(port)) => format!("port {}", port.0),
            (None, Number::Peer(peer)) => format!("number {}", peer.0),
        }
    }

    fn port(&self, port: PortId, time: u64) -> String {
        self.of(Number::Port(port), time)
    }

    fn has_all(&self, record: &Record) -> bool {
        match record.place {
            Place::Port(_) | Place::Peer(_) => {
                self.at(number_of(record.place), record.time).is_some()
            }
            Place::Underlay | Place::Outer => true,
        }
    }
}

fn number_of(place: Place) -> Number {
    match place {
        Place::Peer(peer) => Number::Peer(peer),
        Place::Port(port) => Number::Port(port),
        Place::Underlay | Place::Outer => Number::Port(PortId(u32::MAX)),
    }
}

fn place_of(number: Number) -> Place {
    match number {
        Number::Port(port) => Place::Port(port),
        Number::Peer(peer) => Place::Peer(peer),
    }
}
