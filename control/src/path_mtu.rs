//! What was learnt about the MTU towards a peer, and for how long it holds.
//!
//! The kernel reports a smaller path MTU when an outer packet was too long. The
//! path's inner MTU is lowered, so that senders are told, and raised again when
//! the knowledge is ten minutes old (RFC 1191 section 6.3, and Linux'
//! `mtu_expires`): if the path still has it, the next large packet finds out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long it holds.
const EXPIRY: Duration = Duration::from_secs(600);

/// Learnt outer MTUs by outer destination.
#[derive(Debug, Default)]
pub(super) struct PathMtus {
    learnt: BTreeMap<IpAddr, (u16, Instant)>,
    /// Claims of an MTU that no path has (`ringway_ports::socket::least_mtu`): whoever forges an ICMP
    /// error would slow a peer down to a crawl.
    ignored: u64,
}

impl PathMtus {
    /// Takes in a report; the outer MTU to use from now on, if it changed.
    pub(super) fn report(&mut self, dest: IpAddr, mtu: u16, now: Instant) -> Option<u16> {
        let old = self.learnt.insert(dest, (mtu, now + EXPIRY));
        (old.map(|(m, _)| m) != Some(mtu)).then_some(mtu)
    }

    /// Counts claims that were not believed.
    pub(super) fn ignore(&mut self, claims: u64) {
        if self.ignored == 0 {
            tracing::warn!(
                "an ICMP error claims a path MTU that no path has: ignored; somebody may have forged it \
                 (further ones are counted, see `ringway status`)"
            );
        }
        self.ignored += claims;
    }

    /// Claims that were not believed.
    pub(super) fn ignored(&self) -> u64 {
        self.ignored
    }

    /// What is known of a destination.
    pub(super) fn get(&self, dest: IpAddr) -> Option<u16> {
        self.learnt.get(&dest).map(|(mtu, _)| *mtu)
    }

    /// What was learnt of a destination does not hold any more.
    pub(super) fn forget(&mut self, dest: IpAddr) {
        self.learnt.remove(&dest);
    }

    /// The link is another: whatever is on the way says so again.
    pub(super) fn forget_all(&mut self) {
        self.learnt.clear();
    }

    /// Destinations whose knowledge is too old now; they are forgotten.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let old: Vec<IpAddr> = self
            .learnt
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(dest, _)| *dest)
            .collect();
        for dest in &old {
            self.learnt.remove(dest);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_ten_minutes_from_the_last_report() {
        let mut mtus = PathMtus::default();
        let (start, dest) = (Instant::now(), "192.0.2.1".parse().unwrap());
        assert_eq!(mtus.report(dest, 1400, start), Some(1400));
        let later = start + Duration::from_secs(300);
        assert_eq!(mtus.report(dest, 1400, later), None);
        assert!(mtus.expire(start + Duration::from_secs(600)).is_empty());
        assert_eq!(mtus.expire(later + EXPIRY), [dest]);
        assert!(mtus.expire(later + EXPIRY).is_empty());
        assert_eq!(mtus.report(dest, 1400, later), Some(1400));
        mtus.forget(dest);
        assert_eq!(
            (mtus.get(dest), mtus.report(dest, 1400, later)),
            (None, Some(1400))
        );
        mtus.forget_all();
        assert_eq!(mtus.get(dest), None);
    }

    #[test]
    fn what_was_ignored_is_counted_and_teaches_nothing() {
        let mut mtus = PathMtus::default();
        assert_eq!(mtus.ignored(), 0);
        mtus.ignore(1);
        mtus.ignore(3);
        assert_eq!(mtus.ignored(), 4);
        assert_eq!(mtus.get("192.0.2.1".parse().unwrap()), None);
    }
}
