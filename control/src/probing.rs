//! Peers' health, put to work: `ringway_health` says whom to ask and what the answers mean.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ringway_health::{Fault, News, Seen};
use ringway_kernel::reconcile::Condition;
use ringway_switch::probe::Answer;
use ringway_tables::PeerId;
use ringway_worker::Command;

use super::Control;
use super::sources::{Notice, Subject};
use crate::view::{PeerHealth, PeerState};

pub(super) use ringway_health::{PERIOD, Probing};

impl Control {
    /// Ten times a second: asks whoever is due.
    pub(super) fn probe(&mut self, now: Instant) {
        let tables = self.publisher.current();
        self.probing.follow(&tables, now);
        let (requests, news) = self.probing.due(now);
        self.tell_of_peers(&news);
        let at = self.probing.asked() as usize % self.workers.len().max(1);
        if let (false, Some(worker)) = (requests.is_empty(), self.workers.get(at)) {
            worker.send(Command::Probe(requests));
        }
    }

    /// Once a second: who is in use.
    pub(super) fn see_peers(&mut self, now: Instant) {
        let counters = &self.counters;
        let news = self.probing.see(now, |peer| {
            let mut seen = Seen::default();
            for side in counters.iter().map(|c| c.peer(peer)) {
                seen.sent += side.tx.count.packets.get();
                seen.sent_bytes += side.tx.bytes.get();
                seen.came += side.rx.count.packets.get();
            }
            seen
        });
        self.tell_of_peers(&news);
        if self.config.underlay.lower_mtu {
            self.lower_mtus(now);
        }
    }

    /// A worker has got an answer.
    pub(super) fn probed(&mut self, answer: &Answer, now: Instant) {
        let news = self.probing.answered(answer, now);
        self.tell_of_peers(&news);
    }

    /// What lasts, for `ringway status`; what ICMP says of an address is said already.
    pub(super) fn peer_conditions(&self) -> Vec<Condition> {
        let known = |dst: IpAddr| self.unreachable.knows(dst);
        let faults = self.probing.conditions(known).into_iter();
        let condition = |fault: Fault| Condition {
            what: format!("peer {}", fault.peer),
            wanted: fault.wanted,
            found: fault.found,
            why: fault.why,
            since: fault.since,
        };
        faults.map(condition).collect()
    }

    fn tell_of_peers(&self, news: &[News]) {
        for news in news {
            match news {
                News::Worse(fault) => {
                    let Fault {
                        peer,
                        address,
                        found,
                        why,
                        state,
                        ..
                    } = fault;
                    let note = format!("peer {peer} at {address}: {found}; {why}");
                    tracing::warn!("{note}");
                    (self.sources.notice)(Notice {
                        about: Subject::Node,
                        reason: match state {
                            PeerState::BlackHole => "MTUBlackHole",
                            _ => "PeerUnreachable",
                        },
                        note,
                    });
                }
                News::Well(peer, dst, mtu) => {
                    tracing::info!(%peer, %dst, mtu, "the peer is reached again");
                }
                News::Mute(peer, dst) => {
                    tracing::info!(%peer, %dst, "answers no probes: a Flannel node, or an agent without them");
                }
            }
        }
    }

    /// By `underlay.lower_mtu`: a path has the MTU that passes for as long as larger packets vanish.
    fn lower_mtus(&mut self, now: Instant) {
        let mut changed = false;
        for path in self.probing.lowered() {
            let (dst, known) = (path.address, self.path_mtus.get(path.address));
            match path.is {
                // Each second, so that it does not expire.
                Some(mtu)
                    if known.is_none_or(|known| known >= mtu)
                        && self.path_mtus.report(dst, mtu, now).is_some() =>
                {
                    tracing::warn!(%dst, mtu, "path MTU lowered, as larger packets vanish (underlay.lower_mtu)");
                    changed = true;
                }
                None if known == path.was => {
                    tracing::info!(%dst, "path MTU raised again: large packets pass");
                    self.path_mtus.forget(dst);
                    changed = true;
                }
                _ => {}
            }
        }
        if changed {
            self.refresh_paths();
        }
    }
}

/// How many peers are in which state.
pub(super) fn states(peers: &BTreeMap<PeerId, PeerHealth>) -> BTreeMap<PeerState, usize> {
    let mut states = BTreeMap::new();
    for health in peers.values() {
        *states.entry(health.state).or_default() += 1;
    }
    states
}
