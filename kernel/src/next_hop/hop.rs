//! One address on the link, and when to have the kernel probe it.
//!
//! | The kernel's entry | Its MAC is | Probe |
//! |---|---|---|
//! | REACHABLE, DELAY, PROBE | used | no: confirmed, or being validated |
//! | PERMANENT, NOARP | used | never: it needs none, and would not survive it |
//! | STALE | used | every [`STALE_PERIOD`] at most: the kernel then validates it, unused or not |
//! | INCOMPLETE | not used | no: being resolved |
//! | FAILED, NONE, missing | not used | after 1 s, 2 s, 4 s, … [`BACKOFF_MAX`] |
//!
//! So an entry never expires for want of traffic, a peer that answers again is found within half a
//! minute if it keeps silent, and at once if it does not: what it sends makes the entry STALE.
//!
//! The kernel's tables have limits (`net.ipv4.neigh.default.gc_thresh2` and `3`: 512 and 1024, for
//! all namespaces together). With more peers on the link than that, entries are evicted and their
//! peers keep changing between frames and the socket: raise the limits.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_packet::mac::MacAddr;

use super::Kernel;
use crate::mac::is_station;
use crate::netlink::{Neighbour, NeighbourState, NetlinkError};

/// Least time between two validations of a stale entry.
pub(super) const STALE_PERIOD: Duration = Duration::from_secs(5);
/// First time between two attempts to resolve; each is twice the one before.
pub(super) const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest time between two attempts to resolve.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What is known of one address on the link.
pub(super) struct Hop {
    entry: Option<Neighbour>,
    look: bool,
    /// Not to be probed before.
    probe_from: Option<Instant>,
    backoff: Duration,
}

impl Default for Hop {
    fn default() -> Self {
        Self {
            entry: None,
            look: true,
            probe_from: None,
            backoff: BACKOFF_MIN,
        }
    }
}

/// What an entry is good for.
enum Worth {
    Good,
    Stale,
    Coming,
    Nothing,
}

impl Hop {
    /// The MAC address to send to.
    pub(super) fn mac(&self) -> Option<MacAddr> {
        match self.worth() {
            Worth::Good | Worth::Stale => self.entry.and_then(|e| e.mac),
            Worth::Coming | Worth::Nothing => None,
        }
    }

    fn worth(&self) -> Worth {
        let Some(entry) = &self.entry else {
            return Worth::Nothing;
        };
        let known = entry.mac.is_some_and(is_station);
        match entry.state {
            NeighbourState::Incomplete => Worth::Coming,
            NeighbourState::Stale if known => Worth::Stale,
            NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
                if known =>
            {
                Worth::Good
            }
            _ => Worth::Nothing,
        }
    }

    /// Something happened to the entry.
    pub(super) fn look_again(&mut self) {
        self.look = true;
    }

    /// Whether to ask the kernel now; on a tick, about everything that is not settled.
    pub(super) fn wants_look(&self, tick: bool) -> bool {
        self.look || tick && !matches!(self.worth(), Worth::Good)
    }

    /// Asks for the entry and has it probed if that is due.
    pub(super) fn look(
        &mut self,
        interface: u32,
        ip: IpAddr,
        kernel: &mut impl Kernel,
        now: Instant,
    ) -> Result<(), NetlinkError> {
        self.entry = kernel.find_neighbour(interface, ip)?;
        self.look = false;
        let worth = self.worth();
        if matches!(worth, Worth::Good | Worth::Stale) {
            self.backoff = BACKOFF_MIN;
        }
        let early = self.probe_from.is_some_and(|from| now < from);
        let wait = match worth {
            Worth::Stale if !early => STALE_PERIOD,
            Worth::Nothing if !early && !self.is_fixed() => {
                let wait = self.backoff;
                self.backoff = (wait * 2).min(BACKOFF_MAX);
                wait
            }
            _ => return Ok(()),
        };
        self.probe_from = Some(now + wait);
        kernel.probe(interface, ip)
    }

    /// Somebody's own entry, whatever it says.
    fn is_fixed(&self) -> bool {
        let state = self.entry.map(|e| e.state);
        matches!(
            state,
            Some(NeighbourState::Permanent | NeighbourState::Noarp)
        )
    }
}
