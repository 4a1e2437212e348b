//! Where a capture looks. The control plane adds pods that come while it runs; workers read it without a lock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ringway_switch::Verdict;
use ringway_tables::{MAX_PEERS, MAX_PORTS, PeerId, PortId};

use super::super::{Entry, Observed};
use super::Place;

/// Ports, peers, and what of them.
#[derive(Debug)]
pub struct Selection {
    ports: Box<[AtomicU64]>,
    peers: Box<[AtomicU64]>,
    /// Every port, the node's and those to come.
    pub all_ports: bool,
    /// Every peer, those to come, and what comes from nobody who is known.
    pub all_peers: bool,
    /// Outer packets to these peers, too.
    pub outer: bool,
    /// What is dropped, too, wherever it came in.
    pub drops: bool,
    /// Of all that only what is dropped.
    pub only_dropped: bool,
}

impl Default for Selection {
    fn default() -> Self {
        let words = |bits: u32| (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Selection {
            ports: words(MAX_PORTS),
            peers: words(MAX_PEERS),
            all_ports: false,
            all_peers: false,
            outer: false,
            drops: false,
            only_dropped: false,
        }
    }
}

impl Selection {
    /// Adds a port, or takes it out: its number may be another pod's next.
    pub fn set_port(&self, port: PortId, selected: bool) {
        set(&self.ports, port.0, selected);
    }

    /// Adds a peer, or takes it out.
    pub fn set_peer(&self, peer: PeerId, selected: bool) {
        set(&self.peers, peer.0, selected);
    }

    #[inline]
    fn has_port(&self, port: PortId) -> bool {
        self.all_ports || has(&self.ports, port.0)
    }

    #[inline]
    pub(crate) fn has_peer(&self, peer: PeerId) -> bool {
        self.all_peers || has(&self.peers, peer.0)
    }

    /// Where a frame comes in, unless the switch made it, and where it goes out; whether each is selected.
    #[inline]
    pub(crate) fn ends(&self, seen: &Observed<'_>) -> [Option<(Place, bool)>; 2] {
        let port = |port| (Place::Port(port), self.has_port(port));
        let peer = |peer| (Place::Peer(peer), self.has_peer(peer));
        let comes = match seen.entry {
            Entry::Port(id) => Some(port(id)),
            Entry::Peer(id) => Some(peer(id)),
            Entry::Underlay => Some((Place::Underlay, self.all_peers)),
            Entry::Switch => None,
        };
        let goes = match (seen.verdict, seen.to) {
            (Verdict::Deliver(id), _) => Some(port(id)),
            (_, to) => to.map(peer),
        };
        [comes, goes]
    }

    /// Whether a frame that came in is wanted.
    #[inline]
    pub(crate) fn wants(&self, selected: bool, dropped: bool) -> bool {
        match dropped {
            true => selected || self.drops,
            false => selected && !self.only_dropped,
        }
    }
}

fn set(words: &[AtomicU64], bit: u32, selected: bool) {
    let Some(word) = words.get(bit as usize / 64) else {
        return;
    };
    let mask = 1 << (bit % 64);
    match selected {
        true => word.fetch_or(mask, Relaxed),
        false => word.fetch_and(!mask, Relaxed),
    };
}

#[inline]
fn has(words: &[AtomicU64], bit: u32) -> bool {
    let word = words.get(bit as usize / 64);
    word.is_some_and(|word| word.load(Relaxed) & (1 << (bit % 64)) != 0)
}
