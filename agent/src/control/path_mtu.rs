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
/// Outer MTUs below these are not believed: an attacker who can forge an ICMP
/// error would slow a peer down to a crawl. IPv4's is `min_pmtu` of Linux
/// rounded up to RFC 1191's first plateau of interest, IPv6's RFC 8200.
const FLOOR_V4: u16 = 576;
const FLOOR_V6: u16 = 1280;

/// Learnt outer MTUs by outer destination.
#[derive(Debug, Default)]
pub(super) struct PathMtus {
    learnt: BTreeMap<IpAddr, (u16, Instant)>,
}

impl PathMtus {
    /// Takes in a report; the outer MTU to use from now on, if it changed.
    pub(super) fn report(&mut self, dest: IpAddr, mtu: u16, now: Instant) -> Option<u16> {
        let floor = if dest.is_ipv6() { FLOOR_V6 } else { FLOOR_V4 };
        let mtu = mtu.max(floor);
        let old = self.learnt.insert(dest, (mtu, now + EXPIRY));
        (old.map(|(m, _)| m) != Some(mtu)).then_some(mtu)
    }

    /// What is known of a destination.
    pub(super) fn get(&self, dest: IpAddr) -> Option<u16> {
        self.learnt.get(&dest).map(|(mtu, _)| *mtu)
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
    }

    #[test]
    fn absurd_reports_are_not_believed() {
        let mut mtus = PathMtus::default();
        let now = Instant::now();
        assert_eq!(
            mtus.report("192.0.2.1".parse().unwrap(), 68, now),
            Some(576)
        );
        assert_eq!(mtus.report("fd00::1".parse().unwrap(), 0, now), Some(1280));
    }
}
