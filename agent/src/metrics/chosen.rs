//! What of all that could be said is said: which peers, which drop reasons.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_control::totals::traffic;
use ringway_control::view::Traffic;
use ringway_switch::counters::Side;
use ringway_switch::{Counters, DropReason};
use ringway_tables::{PeerId, Snapshot};

/// Peers that have series of their own where there are more than `metrics.peers`.
pub const WORST: usize = 32;
/// Drop reasons of a pod or a peer; what occurs beside them is `other`.
pub const REASONS: usize = 12;
/// The name of that.
const OTHER: &str = "other";

/// What is remembered from scrape to scrape.
#[derive(Debug, Default)]
pub struct Memory {
    pods: Occurred,
    peers: Occurred,
    node: Occurred,
    /// One above the greatest number that a peer ever had: numbers are given again, and sums over all of them
    /// never fall.
    pub(super) peer_numbers: u32,
}

/// Whose reasons are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    Pod,
    Peer,
    Node,
}

impl Memory {
    /// The reasons that occurred to one of a kind, in the order in which they were seen first: one that has a
    /// series keeps it, so that `other` does not fall.
    pub(super) fn drops(&mut self, whose: Whose, name: &str, drops: &Drops) -> Vec<(&str, u64)> {
        let (all, most) = match whose {
            Whose::Pod => (&mut self.pods, REASONS),
            Whose::Peer => (&mut self.peers, REASONS),
            Whose::Node => (&mut self.node, DropReason::COUNT),
        };
        all.of(name, drops, most)
    }

    /// Forgets what is not there any more.
    pub(super) fn keep(&mut self, pods: &BTreeSet<&str>, peers: &BTreeSet<&str>) {
        self.pods.0.retain(|name, _| pods.contains(name.as_str()));
        self.peers.0.retain(|name, _| peers.contains(name.as_str()));
    }
}

/// Reasons by name of a pod or a peer.
#[derive(Debug, Default)]
struct Occurred(BTreeMap<String, Vec<DropReason>>);

impl Occurred {
    fn of(&mut self, name: &str, drops: &Drops, most: usize) -> Vec<(&'static str, u64)> {
        if drops.0.iter().all(|n| *n == 0) {
            return Vec::new();
        }
        let own = self.0.entry(name.to_owned()).or_default();
        // A pod of that name that was attached again has none yet.
        own.retain(|reason| drops.of(*reason) > 0);
        for reason in DropReason::ALL {
            if own.len() < most && drops.of(*reason) > 0 && !own.contains(reason) {
                own.push(*reason);
            }
        }
        let mut all: Vec<_> = own.iter().map(|r| (r.name(), drops.of(*r))).collect();
        let told: u64 = all.iter().map(|(_, n)| n).sum();
        let rest = drops.total() - told;
        if rest > 0 {
            all.push((OTHER, rest));
        }
        all
    }
}

/// Dropped and lost packets by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drops([u64; DropReason::COUNT]);

impl Drops {
    /// The sum of these.
    pub(super) fn over<'a>(sides: impl Iterator<Item = &'a Side>) -> Drops {
        let mut sum = [0; DropReason::COUNT];
        for side in sides {
            for (n, cell) in sum.iter_mut().zip(&side.drops) {
                *n += cell.get();
            }
        }
        Drops(sum)
    }

    fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Of all reasons.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// One peer, all workers together.
pub(super) struct PeerSums<'a> {
    pub(super) number: u32,
    pub(super) name: &'a str,
    pub(super) from: Traffic,
    pub(super) to: Traffic,
    pub(super) drops: Drops,
}

impl<'a> PeerSums<'a> {
    /// Every peer that is there.
    pub(super) fn all(snapshot: &'a Snapshot, counters: &[Arc<Counters>]) -> Vec<PeerSums<'a>> {
        let one = |(number, peer): (u32, &'a ringway_tables::Peer)| {
            let (from, to, drops) = sums(number, counters);
            PeerSums {
                number,
                name: &peer.name,
                from,
                to,
                drops,
            }
        };
        snapshot.peers.iter().map(one).collect()
    }
}

/// What the cells of a peer's number have.
pub(super) fn sums(number: u32, counters: &[Arc<Counters>]) -> (Traffic, Traffic, Drops) {
    let sides = || counters.iter().map(|c| c.peer(PeerId(number)));
    (
        traffic(sides().map(|s| &s.rx)),
        traffic(sides().map(|s| &s.tx)),
        Drops::over(sides()),
    )
}

/// Those that have series of their own: all of them up to `most`, else the worst, most drops first and then most
/// bytes.
pub(super) fn chosen<'p, 'a>(peers: &'p [PeerSums<'a>], most: usize) -> Vec<&'p PeerSums<'a>> {
    let mut all: Vec<&PeerSums<'_>> = peers.iter().collect();
    if all.len() > most {
        let badness = |p: &&PeerSums<'_>| {
            let bytes = p.from.bytes + p.to.bytes;
            (Reverse((p.drops.total(), bytes)), p.number)
        };
        all.sort_by_cached_key(badness);
        all.truncate(WORST.min(most));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(of: &[(DropReason, u64)]) -> Drops {
        let mut all = [0; DropReason::COUNT];
        for (reason, n) in of {
            all[reason.index()] = *n;
        }
        Drops(all)
    }

    #[test]
    fn a_reason_keeps_its_series_and_other_never_falls() {
        let mut memory = Memory::default();
        let late: Vec<_> = DropReason::ALL.iter().rev().take(REASONS).collect();
        let mut counts: Vec<_> = late.iter().map(|r| (**r, 5)).collect();
        let told = memory.drops(Whose::Pod, "a", &drops(&counts));
        assert_eq!(told.len(), REASONS);
        assert!(told.iter().all(|(name, n)| *name != OTHER && *n == 5));
        // Those that come later, and are more, are `other`.
        counts.push((DropReason::MalformedEthernet, 70));
        counts.push((DropReason::MalformedArp, 7));
        let told = memory.drops(Whose::Pod, "a", &drops(&counts));
        assert_eq!(told.len(), REASONS + 1);
        assert_eq!(told.last(), Some(&(OTHER, 77)));
        // The node has all of them, and each pod its own.
        assert_eq!(memory.drops(Whose::Node, "", &drops(&counts)).len(), 14);
        let other = drops(&[(DropReason::Hairpin, 1)]);
        assert_eq!(memory.drops(Whose::Pod, "b", &other), [("hairpin", 1)]);
        // Attached again, it begins again.
        assert_eq!(memory.drops(Whose::Pod, "a", &other), [("hairpin", 1)]);
        assert!(memory.drops(Whose::Pod, "a", &drops(&[])).is_empty());
        memory.keep(&BTreeSet::from(["b"]), &BTreeSet::new());
        assert_eq!(memory.pods.0.len(), 1);
    }

    #[test]
    fn the_worst_have_series_where_not_all_can() {
        let peer = |number: u32, dropped, bytes| PeerSums {
            number,
            name: "n",
            from: Traffic::default(),
            to: Traffic {
                bytes,
                ..Traffic::default()
            },
            drops: drops(&[(DropReason::Hairpin, dropped)]),
        };
        let mut all: Vec<_> = (0..100).map(|n| peer(n, 0, 0)).collect();
        let numbers = |all: &[PeerSums<'_>], most| -> Vec<u32> {
            chosen(all, most).iter().map(|p| p.number).collect()
        };
        assert_eq!(numbers(&all, 100).len(), 100);
        assert_eq!(numbers(&all, 99), (0..32).collect::<Vec<_>>());
        all[90] = peer(90, 1, 0);
        all[80] = peer(80, 0, 1000);
        all[70] = peer(70, 2, 0);
        assert_eq!(numbers(&all, 64)[..4], [70, 90, 80, 0]);
        assert_eq!(numbers(&all, 3), [70, 90, 80]);
        assert!(numbers(&all, 0).is_empty());
    }
}
