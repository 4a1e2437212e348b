//! Peers that packets do not reach, as ICMP or the node's routes say of what was sent.
//!
//! An agent that is replaced refuses packets for a second, so what lasts is told, in the log and to the sources;
//! `ringway status` has the rest as well. Nothing is done about it: packets to that peer are sent as before, and
//! whoever forges an ICMP error gains a line in a log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringway_kernel::reconcile::Condition;
use ringway_switch::DropReason;

use super::Control;
use super::sources::{Notice, Subject};

/// So long it is for `ringway status` alone.
const LASTS: Duration = Duration::from_secs(10);
/// An error after so long without one is the first again.
const GAP: Duration = Duration::from_secs(3);
/// Without an error for so long it is forgotten: the worker reports it each second while anything is sent.
pub(super) const QUIET: Duration = Duration::from_secs(15);
/// Addresses that are kept.
const MOST: usize = 256;

/// Those that are known.
#[derive(Debug, Default)]
pub(super) struct Unreachable(BTreeMap<IpAddr, Known>);

#[derive(Debug)]
struct Known {
    peer: Arc<str>,
    errno: i32,
    since: Instant,
    last: Instant,
    told: bool,
}

impl Known {
    fn what(&self) -> &'static str {
        Errno::from_raw(self.errno).desc()
    }
}

/// What helps.
fn remedy(dest: IpAddr) -> String {
    format!(
        "see the way there (ip route get {dest}) and whether the agent of that node runs; what is lost counts as {}",
        DropReason::UnderlayUnreachable.name()
    )
}

impl Unreachable {
    /// Whether an error says it of this address.
    pub(super) fn knows(&self, dst: IpAddr) -> bool {
        self.0.contains_key(&dst)
    }

    /// Each as a condition.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> + '_ {
        self.0.iter().map(|(dest, known)| Condition {
            what: format!("peer {}", known.peer),
            wanted: format!("reached at {dest}"),
            found: known.what().to_owned(),
            why: remedy(*dest),
            since: known.since,
        })
    }
}

impl Control {
    /// Takes in that nothing comes through to an outer address.
    pub(super) fn note_unreachable(&mut self, dest: IpAddr, errno: i32, now: Instant) {
        let all = &mut self.unreachable.0;
        if !all.contains_key(&dest) {
            let mut peers = self.cluster.state().peers.values();
            let peer = peers.find(|p| p.addresses.contains(&dest));
            // It may be a peer no more.
            let Some(peer) = peer.filter(|_| all.len() < MOST) else {
                return;
            };
            let peer = peer.name.clone();
            all.insert(
                dest,
                Known {
                    peer,
                    errno,
                    since: now,
                    last: now,
                    told: false,
                },
            );
        }
        let Some(known) = all.get_mut(&dest) else {
            return;
        };
        if now.saturating_duration_since(known.last) > GAP {
            known.since = now;
        }
        (known.errno, known.last) = (errno, now);
        if known.told || now.saturating_duration_since(known.since) < LASTS {
            return;
        }
        known.told = true;
        let (peer, what) = (&known.peer, known.what());
        let note = format!(
            "peer {peer} is not reached at {dest}: {what}; {}",
            remedy(dest)
        );
        tracing::warn!("{note}");
        (self.sources.notice)(Notice {
            about: Subject::Node,
            reason: "PeerUnreachable",
            note,
        });
    }

    /// Once a second: forgets those of which nothing was heard for a while, and those that are no peers any more.
    pub(super) fn forget_unreachable(&mut self, now: Instant) {
        let peers = &self.cluster.state().peers;
        self.unreachable.0.retain(|dest, known| {
            let peer = peers.get(&known.peer);
            if !peer.is_some_and(|peer| peer.addresses.contains(dest)) {
                return false;
            }
            let quiet = now.saturating_duration_since(known.last) >= QUIET;
            if quiet && known.told {
                let (peer, seconds) = (&known.peer, QUIET.as_secs());
                tracing::info!(%peer, %dest, "no error for {seconds} s: the peer is taken for reached");
            }
            !quiet
        });
    }
}
