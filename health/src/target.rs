//! One path to a peer: what was asked, what came back, and what is known by that.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_switch::probe::LEAST;
use ringway_tables::PeerId;
use ringway_view::{PeerHealth, PeerState};

use super::search::{FLOOR, Mtu, Search};
use super::{Fault, state_of};

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a large one, on a path whose round trip is known to be far less.
const TIMEOUT_LARGE: Duration = Duration::from_millis(300);
/// That much less.
const FAR_LESS: u64 = 30_000_000;
/// Losses one after another until the path is said to be silent.
const DEAD: u32 = 3;
/// A peer that sends nothing for so long while it is sent to is asked at once,
const DOUBT: Duration = Duration::from_secs(2);
/// unless it has answered within this time: traffic may go one way.
const ANSWERED: Duration = Duration::from_secs(5);
/// One that has never answered is asked when it speaks after it was quiet for so long: it may have been started.
const QUIET: Duration = Duration::from_secs(10);
/// What came within this time, and after the first loss, shows that the other direction works: peers ask each minute.
const RECENT: Duration = Duration::from_secs(90);
/// A peer that has never answered is asked so often.
const MUTE: Duration = Duration::from_secs(120);
/// What is known of the largest packet is doubted so often while large ones are sent, and where some vanish.
const AGAIN: Duration = Duration::from_secs(60);

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It was not asked yet.
    New,
    /// It never answered: a Flannel node, or an agent without probes.
    Mute,
    /// It answers.
    Reached,
    /// It answered once, and does not any more; nothing comes from it.
    Silent,
    /// The same, but its own packets come.
    NotHeard,
}

/// A probe that is on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    token: u64,
    size: u16,
    at: Instant,
}

/// When the next probe is due.
#[derive(Clone, Copy, Debug)]
enum Due {
    At(Instant),
    /// An interval after this; which one may change meanwhile.
    After(Instant),
}

/// What workers have counted of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets to it.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets from it.
    pub came: u64,
}

/// What a path is made of: another one has to be looked at anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) mtu: u16,
    /// Bytes around it.
    pub(super) overhead: u16,
}

/// One path.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) peer: PeerId,
    pub(super) name: Arc<str>,
    pub(super) basis: Basis,
    pub(super) mtu: Mtu,
    /// Outer MTU that its path was given, as larger packets vanish.
    pub(super) lowered: Option<u16>,
    pub(super) state: State,
    pub(super) since: Instant,
    /// Smoothed as TCP does it (RFC 6298 section 2), nanoseconds.
    pub(super) round_trip_ns: Option<u64>,
    pub(super) probes: u64,
    pub(super) lost: u64,
    sent: Option<Sent>,
    lost_in_a_row: u32,
    first_lost: Instant,
    /// A large one was lost: was it its size?
    doubted: Option<u16>,
    due: Due,
    seen: Option<Seen>,
    last_came: Option<Instant>,
    last_answer: Option<Instant>,
    /// Since when it is sent to without a word from it.
    unheard: Option<Instant>,
    pub(super) in_use: bool,
    large: bool,
    verified_at: Instant,
}

/// How pressing a probe is; the lower the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    InUseAndDoubted,
    Doubted,
    InUse,
    Other,
}

impl Target {
    pub(super) fn new(peer: PeerId, name: Arc<str>, basis: Basis, now: Instant) -> Self {
        Self {
            peer,
            name,
            basis,
            mtu: Mtu::new(basis.mtu),
            lowered: None,
            state: State::New,
            since: now,
            round_trip_ns: None,
            probes: 0,
            lost: 0,
            sent: None,
            lost_in_a_row: 0,
            first_lost: now,
            doubted: None,
            due: Due::At(now),
            seen: None,
            last_came: None,
            last_answer: None,
            unheard: None,
            in_use: false,
            large: false,
            verified_at: now,
        }
    }

    /// The path is another one now; what is known of the peer stays.
    pub(super) fn moved(&mut self, basis: Basis, now: Instant) {
        let same = (basis.src, basis.dst) == (self.basis.src, self.basis.dst);
        self.basis = basis;
        // Lowered to what passes, or back at all of it: what is known holds.
        let known = match self.mtu.search {
            Search::Hole(passes) => basis.mtu == passes.max(FLOOR) || basis.mtu == self.mtu.all,
            _ => basis.mtu == self.mtu.all,
        };
        if same && known {
            return;
        }
        self.mtu = Mtu::new(basis.mtu);
        (self.sent, self.doubted, self.due) = (None, None, Due::At(now));
    }

    /// Once a second: what has been counted.
    pub(super) fn see(&mut self, seen: Seen, now: Instant) {
        let Some(before) = self.seen.replace(seen) else {
            return;
        };
        let sent = seen.sent.saturating_sub(before.sent);
        let bytes = seen.sent_bytes.saturating_sub(before.sent_bytes);
        self.in_use = sent > 0;
        self.large |= sent > 0 && bytes / sent > u64::from(self.basis.mtu) / 2;
        let ago = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        if seen.came != before.came {
            let quiet = ago(self.last_came).is_none_or(|ago| ago >= QUIET);
            if self.state == State::Mute && quiet && self.sent.is_none() {
                self.due = Due::At(now);
            }
            (self.last_came, self.unheard) = (Some(now), None);
        } else if self.in_use {
            let since = *self.unheard.get_or_insert(now);
            let answers = self.state == State::Reached;
            let lately = ago(self.last_answer).is_some_and(|ago| ago < ANSWERED);
            if answers && !lately && now.duration_since(since) >= DOUBT {
                self.unheard = Some(now);
                self.due = Due::At(now);
            }
        }
        if matches!(self.state, State::Silent | State::NotHeard) {
            self.judge(now);
        }
    }

    /// Whether a probe is due, and how pressing it is.
    pub(super) fn is_due(
        &self,
        intervals: [Duration; 2],
        now: Instant,
    ) -> Option<(Class, Instant)> {
        let due = match self.due {
            Due::At(at) => at,
            Due::After(at) => at + intervals[usize::from(self.in_use)],
        };
        if self.sent.is_some() || now < due {
            return None;
        }
        let doubted =
            self.lost_in_a_row > 0 && self.state != State::Mute || self.mtu.is_under_way();
        let class = match (self.in_use, doubted) {
            (true, true) => Class::InUseAndDoubted,
            (false, true) => Class::Doubted,
            (true, false) => Class::InUse,
            (false, false) => Class::Other,
        };
        Some((class, due))
    }

    /// Bytes of the next probe's IP packet.
    pub(super) fn next_size(&self, now: Instant) -> u16 {
        let reached = self.state == State::Reached && self.lost_in_a_row == 0;
        let doubtful = matches!(self.mtu.search, Search::Hole(_)) || self.large;
        let again = doubtful && now.duration_since(self.verified_at) >= AGAIN;
        match reached && self.doubted.is_none() {
            true => self.mtu.tries(again).unwrap_or(LEAST).max(LEAST),
            false => LEAST,
        }
    }

    pub(super) fn sent(&mut self, token: u64, size: u16, now: Instant) {
        self.probes += 1;
        self.sent = Some(Sent {
            token,
            size,
            at: now,
        });
    }

    /// An answer; false: it is none to anything that was asked.
    pub(super) fn answered(
        &mut self,
        (token, size): (u64, u16),
        round_trip_ns: u64,
        now: Instant,
    ) -> bool {
        let Some(sent) = self.sent.filter(|s| s.token == token && s.size == size) else {
            return false;
        };
        self.sent = None;
        self.last_answer = Some(now);
        let within = now.saturating_duration_since(sent.at).as_nanos() as u64;
        // What it says of its time cannot be more than has passed.
        let sample = round_trip_ns.min(within.max(1));
        self.round_trip_ns = Some(match self.round_trip_ns {
            None => sample,
            Some(smooth) => smooth - smooth / 8 + sample / 8,
        });
        self.lost_in_a_row = 0;
        self.enter(State::Reached, now);
        if size > LEAST {
            (self.large, self.verified_at) = (false, now);
            self.mtu.passed(size);
        } else if let Some(large) = self.doubted.take() {
            self.mtu.lost(large);
            if !self.mtu.is_under_way() {
                (self.large, self.verified_at) = (false, now);
            }
        }
        self.due = match self.mtu.is_under_way() {
            true => Due::At(now),
            false => Due::After(now),
        };
        true
    }

    /// Looks whether what was asked has been answered in time.
    pub(super) fn expire(&mut self, now: Instant) {
        let quick = self.round_trip_ns.is_some_and(|ns| ns < FAR_LESS);
        let limit = |sent: &Sent| match quick && sent.size > LEAST {
            true => TIMEOUT_LARGE,
            false => TIMEOUT,
        };
        let late = |sent: &Sent| now.duration_since(sent.at) >= limit(sent);
        let Some(sent) = self.sent.filter(late) else {
            return;
        };
        self.sent = None;
        self.lost += 1;
        self.due = Due::At(now);
        if sent.size > LEAST {
            self.doubted = Some(sent.size);
            return;
        }
        self.doubted = None;
        if self.lost_in_a_row == 0 {
            self.first_lost = now;
        }
        self.lost_in_a_row = self.lost_in_a_row.saturating_add(1);
        if self.lost_in_a_row >= DEAD {
            self.judge(now);
            let never = self.state == State::Mute;
            self.due = Due::At(now + if never { MUTE } else { 2 * TIMEOUT });
        }
    }

    /// What is known.
    pub(super) fn known(&self) -> (State, Search) {
        (self.state, self.mtu.search)
    }

    /// What is wrong with it, if something is.
    pub(super) fn fault(&self) -> Option<Fault> {
        let state = state_of(self.known());
        let dst = self.basis.dst;
        let (wanted, found, why) = match (state, self.mtu.search) {
            (PeerState::Silent, _) => (
                format!("reached at {dst}"),
                "it answers no probe, and nothing comes from it".to_owned(),
                format!(
                    "see whether that node and its agent run, and the way there (ping {dst}); something on the way \
                     may drop the tunnel's packets"
                ),
            ),
            (PeerState::NotHeard, _) => (
                format!("reached at {dst}"),
                "what is sent there is lost, though its own packets come".to_owned(),
                format!(
                    "one direction is broken: look for what drops UDP from {} to {dst} on the way and on that \
                     node, such as a firewall (there: ringway doctor)",
                    self.basis.src
                ),
            ),
            (PeerState::BlackHole, Search::Hole(passes)) => {
                let (all, outer) = (self.mtu.all, self.basis.overhead);
                let lowered = match self.basis.mtu < all {
                    true => format!("; its MTU is lowered to {}", self.basis.mtu),
                    false => String::new(),
                };
                let found = match passes {
                    0 => format!("packets of {FLOOR} bytes vanish (MTU black hole)"),
                    n => format!("packets of more than {n} bytes vanish (MTU black hole)"),
                };
                let most = passes.max(FLOOR);
                (
                    format!("reached at {dst} by packets of {all} bytes"),
                    format!("{found}{lowered}"),
                    format!(
                        "a link on the way to {dst} carries less than {} bytes and no ICMP error says so: find it \
                         (ping -M do -s {} {dst}) and raise its MTU, set peers.mtu = {}, or underlay.lower_mtu",
                        all + outer,
                        all + outer - icmp(dst),
                        most + outer
                    ),
                )
            }
            _ => return None,
        };
        Some(Fault {
            peer: self.name.to_string(),
            address: dst,
            wanted,
            found,
            why,
            since: self.since,
            state,
        })
    }

    /// What is shown of it.
    pub(super) fn health(&self, now: Instant) -> PeerHealth {
        PeerHealth {
            state: state_of(self.known()),
            since_s: now.saturating_duration_since(self.since).as_secs(),
            address: self.basis.dst,
            round_trip_us: self.round_trip_ns.map(|ns| ns.div_ceil(1000)),
            probes: self.probes,
            lost: self.lost,
            verified_mtu: match self.mtu.search {
                Search::Verified => Some(self.mtu.all),
                Search::Hole(passes) => Some(passes.max(LEAST)),
                Search::Unverified | Search::Searching { .. } => None,
            },
        }
    }

    /// It does not answer.
    fn judge(&mut self, now: Instant) {
        let came = self
            .last_came
            .is_some_and(|at| at > self.first_lost && now.duration_since(at) < RECENT);
        let state = match (self.state, came) {
            (State::New | State::Mute, _) => State::Mute,
            (_, true) => State::NotHeard,
            (_, false) => State::Silent,
        };
        self.enter(state, now);
    }

    fn enter(&mut self, state: State, now: Instant) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }
}

/// Bytes of headers around what `ping -s` sends: IP and ICMP (RFC 792, RFC 4443).
fn icmp(dst: IpAddr) -> u16 {
    8 + if dst.is_ipv4() { 20 } else { 40 }
}
