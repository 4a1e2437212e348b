//! Peers' health: each path is asked in band whether it carries packets, how long they take, and how large they may be.
//!
//! ```text
//!   ten times a second: whoever is due ▶ budget ▶ worker: probe through the tunnel ▶ peer answers
//!   answer ▶ does it know the token? ▶ round trip, loss, largest packet ▶ status, conditions, metrics
//! ```
//!
//! Paths in use go first, and what is doubted before them: one that was sent to and says nothing, one that has lost a
//! probe, one whose MTU nobody has tried. The budget holds whatever the number of peers: half of 100 packets a second and of
//! 1 Mbit/s, for the answers to what others ask have the other half.
//!
//! A probe is hostile input. Whoever does not know the token of one that is on its way changes nothing; whoever knows it
//! can say that packets are lost, and with `underlay.lower_mtu` bring the path's MTU down to 1280 bytes, no further.

#![forbid(unsafe_code)]

mod search;
mod target;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_encap::mtu;
use ringway_switch::probe::{Answer, Request};
use ringway_tables::{PeerId, Snapshot};
use ringway_view::{PeerHealth, PeerState};
use search::{FLOOR, Search};
use target::{Basis, Class, Target};

use target::State;

pub use target::Seen;

/// Between two looks at who is due.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Bits, outer headers included, for each packet.
const BITS: u32 = 10_000;
/// Periods in a second.
const PERIODS: u32 = 10;
/// What may be saved up, in periods: one large packet is more than a period has.
const SAVED: u32 = 3;
/// Faults that are told; a switch that fails takes hundreds of peers away.
const TOLD: usize = 32;
/// A path in use is asked so often, if the budget allows.
const IN_USE: Duration = Duration::from_secs(5);
/// Another one.
const OTHERWISE: Duration = Duration::from_secs(60);
/// Of all probes those for paths in use, and for others; what is doubted has the rest. Per cent.
const SHARES: (u32, u32) = (60, 30);

/// What is wrong with a path, and lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the peer.
    pub peer: String,
    /// Its outer address.
    pub address: IpAddr,
    /// What should be so.
    pub wanted: String,
    /// What is.
    pub found: String,
    /// Why it stays so, and what helps.
    pub why: String,
    /// Since when.
    pub since: Instant,
    /// Which it is.
    pub state: PeerState,
}

/// What became of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is not well.
    Worse(Fault),
    /// It is well again; the largest packet that passes.
    Well(String, IpAddr, u16),
    /// It answers no probes, and never has.
    Mute(String, IpAddr),
}

/// An outer MTU that a path should have, or, `None`, need not have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The peer's outer address.
    pub address: IpAddr,
    /// What was given to it before.
    pub was: Option<u16>,
    /// What it should have.
    pub is: Option<u16>,
}

/// A peer, and which family of pods' path to it.
type Key = (PeerId, bool);
/// What is known of a path.
type Known = (State, Search);

/// Peers and what is known of them.
#[derive(Debug, Default)]
pub struct Probing {
    targets: BTreeMap<Key, Target>,
    secret: RandomState,
    asked: u64,
    /// Packets a second.
    rate: u32,
    /// What may be sent now: packets in tenths, of those kept for paths that nobody uses or doubts, bits.
    packets: u32,
    kept: u32,
    bits: u32,
    /// Version of the tables that were looked at.
    version: Option<u64>,
    /// Paths in use.
    in_use: u32,
    /// Answers that nobody had asked for.
    unasked: u64,
}

impl Probing {
    /// At most so many probes a second; 0: none.
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            ..Self::default()
        }
    }

    /// Follows the tables: whoever is new is asked soon.
    pub fn follow(&mut self, tables: &Snapshot, now: Instant) {
        if self.version == Some(tables.version) || self.rate == 0 {
            return;
        }
        self.version = Some(tables.version);
        let mut gone: Vec<Key> = Vec::new();
        let mut there = BTreeMap::new();
        for (number, peer) in tables.peers.iter() {
            let id = PeerId(number);
            let path = |v6| tables.path(tables.path_of(id, v6)?);
            for v6 in [false, true] {
                let Some(path) = path(v6) else { continue };
                // Both families of pods by one pair of addresses are one path.
                let basis = Basis {
                    src: path.src,
                    dst: path.dst,
                    mtu: path.mtu,
                    overhead: mtu::overhead(path.encap, path.dst.is_ipv6()),
                };
                let other = there
                    .get(&(id, false))
                    .map(|(_, b): &(_, Basis)| (b.src, b.dst));
                if other != Some((path.src, path.dst)) {
                    there.insert((id, v6), (peer.name.clone(), basis));
                }
            }
        }
        for (key, target) in &mut self.targets {
            match there.remove(key) {
                Some((name, basis)) if name == target.name => {
                    if basis != target.basis {
                        target.moved(basis, now);
                    }
                }
                Some(other) => {
                    gone.push(*key);
                    there.insert(*key, other);
                }
                None => gone.push(*key),
            }
        }
        for key in gone {
            self.targets.remove(&key);
        }
        for ((peer, v6), (name, basis)) in there {
            let target = Target::new(peer, name, basis, now);
            self.targets.insert((peer, v6), target);
        }
    }

    /// Once a second: what workers have counted.
    pub fn see(&mut self, now: Instant, seen: impl Fn(PeerId) -> Seen) -> Vec<News> {
        let mut before = Vec::new();
        for (key, target) in &mut self.targets {
            let was = target.known();
            target.see(seen(target.peer), now);
            note(&mut before, *key, was, target);
        }
        self.in_use = self.targets.values().filter(|t| t.in_use).count() as u32;
        self.news(&before)
    }

    /// How long until a path is asked again.
    fn interval(&self, in_use: bool) -> Duration {
        let others = self.targets.len() as u32 - self.in_use.min(self.targets.len() as u32);
        match in_use {
            true => IN_USE.max(self.all_of(self.in_use, SHARES.0)),
            false => OTHERWISE.max(self.all_of(others, SHARES.1)),
        }
    }

    /// How long so many paths take with that share of the probes.
    fn all_of(&self, paths: u32, share: u32) -> Duration {
        Duration::from_secs(100) * paths / (share * self.rate).max(1)
    }

    /// Whom to ask now.
    pub fn due(&mut self, now: Instant) -> (Vec<Request>, Vec<News>) {
        // One a period can be saved up even where there are fewer a second.
        self.packets = (self.packets + self.rate).min(SAVED * self.rate.max(PERIODS));
        self.kept = (self.kept + self.rate * SHARES.1 / 100).min(SAVED * self.rate.max(PERIODS));
        let most = SAVED * (self.rate * BITS / PERIODS).max(BITS);
        self.bits = (self.bits + self.rate * BITS / PERIODS).min(most);
        let intervals = [false, true].map(|in_use| self.interval(in_use));
        let mut due: Vec<(Class, Instant, Key)> = Vec::new();
        let mut before = Vec::new();
        for (key, target) in &mut self.targets {
            let was = target.known();
            target.expire(now);
            note(&mut before, *key, was, target);
            due.extend(
                target
                    .is_due(intervals, now)
                    .map(|(class, at)| (class, at, *key)),
            );
        }
        due.sort_unstable();
        // Those that are not pressing have a share, so that they do not wait for ever.
        let pressing = due.partition_point(|(class, ..)| *class < Class::Other);
        let share = (self.kept / PERIODS) as usize;
        let (pressing, others) = due.split_at(pressing);
        let first = others.iter().take(share);
        let all = first.chain(pressing).chain(others.iter().skip(share));
        let mut requests = Vec::new();
        for (class, _, key) in all {
            let Some(target) = self.targets.get_mut(key) else {
                continue;
            };
            let size = target.next_size(now);
            let bits = 8 * (u32::from(size) + u32::from(target.basis.overhead));
            // One that is more than can be saved up goes when all is there.
            let room = self.bits >= bits.min(most);
            if self.packets < PERIODS || !room {
                break;
            }
            self.packets -= PERIODS;
            if *class == Class::Other {
                self.kept = self.kept.saturating_sub(PERIODS);
            }
            self.bits = self.bits.saturating_sub(bits);
            self.asked += 1;
            let token = self.secret.hash_one(self.asked);
            target.sent(token, size, now);
            requests.push(Request {
                peer: key.0,
                v6: key.1,
                size,
                token,
            });
        }
        (requests, self.news(&before))
    }

    /// Takes in what says it is an answer.
    pub fn answered(&mut self, answer: &Answer, now: Instant) -> Vec<News> {
        let mut before = Vec::new();
        let of_peer = (answer.peer, false)..=(answer.peer, true);
        let known = self.targets.range_mut(of_peer).any(|(key, target)| {
            let (was, said) = (target.known(), (answer.token, answer.size));
            let known = target.answered(said, answer.round_trip_ns, now);
            note(&mut before, *key, was, target);
            known
        });
        if !known {
            self.unasked += 1;
        }
        self.news(&before)
    }

    /// For `ringway status` and the table of peers: the worse of a peer's paths.
    pub fn view(&self, now: Instant) -> BTreeMap<PeerId, PeerHealth> {
        let mut all: BTreeMap<PeerId, PeerHealth> = BTreeMap::new();
        for target in self.targets.values() {
            let health = target.health(now);
            match all.get_mut(&target.peer) {
                Some(other) if other.state >= health.state => {}
                _ => {
                    all.insert(target.peer, health);
                }
            }
        }
        all
    }

    /// What lasts and is a fault; not of addresses that `known` says more of. What is too much is summed up.
    pub fn conditions(&self, known: impl Fn(IpAddr) -> bool) -> Vec<Fault> {
        let mut all = self.faults().filter(|fault| !known(fault.address));
        let mut told: Vec<Fault> = all.by_ref().take(TOLD).collect();
        let more = all.count();
        if let (1.., Some(last)) = (more, told.last_mut()) {
            last.found += &format!("; and {more} more are not well (ringway tables peers)");
        }
        told
    }

    /// Each of them.
    fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        self.targets.values().filter_map(Target::fault)
    }

    /// What has become of paths that were so.
    fn news(&self, before: &[(Key, Known)]) -> Vec<News> {
        let mut news = Vec::new();
        for (key, was) in before {
            let Some(target) = self.targets.get(key) else {
                continue;
            };
            let (is, name, dst) = (target.known(), target.name.to_string(), target.basis.dst);
            if is == *was {
                continue;
            } else if let Some(fault) = target.fault() {
                news.push(News::Worse(fault));
            } else if is_fault(state_of(*was)) && is.0 == State::Reached {
                news.push(News::Well(name, dst, target.mtu.all));
            } else if is.0 == State::Mute {
                news.push(News::Mute(name, dst));
            }
        }
        news
    }

    /// The MTUs that paths should have for as long as larger packets vanish, and those that need them no more.
    pub fn lowered(&mut self) -> Vec<Lowered> {
        let mut all = Vec::new();
        for target in self.targets.values_mut() {
            let (address, was) = (target.basis.dst, target.lowered);
            let is = match target.mtu.search {
                Search::Hole(passes) if target.state == State::Reached => {
                    Some(passes.max(FLOOR) + target.basis.overhead)
                }
                Search::Verified => None,
                _ => was,
            };
            target.lowered = is;
            if was.is_some() || is.is_some() {
                all.push(Lowered { address, was, is });
            }
        }
        all
    }

    /// Probes that were sent.
    pub fn asked(&self) -> u64 {
        self.asked
    }
}

/// Notes what a path was, if it is something else now.
fn note(before: &mut Vec<(Key, Known)>, key: Key, was: Known, target: &Target) {
    if target.known() != was {
        before.push((key, was));
    }
}

/// What a path is by what is known of it.
fn state_of((state, search): Known) -> PeerState {
    match (state, search) {
        (State::New, _) => PeerState::Unknown,
        (State::Mute, _) => PeerState::Mute,
        (State::Silent, _) => PeerState::Silent,
        (State::NotHeard, _) => PeerState::NotHeard,
        (State::Reached, Search::Hole(_)) => PeerState::BlackHole,
        (State::Reached, _) => PeerState::Reached,
    }
}

fn is_fault(state: PeerState) -> bool {
    state > PeerState::Reached
}

#[cfg(test)]
mod tests;
