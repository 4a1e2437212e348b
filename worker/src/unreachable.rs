//! Peers' addresses that were reported as unreachable: each packet to one is an error.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long the same destination is not reported as unreachable again.
const REPEAT: Duration = Duration::from_secs(1);
/// Destinations that are reported so in that time.
const MOST: usize = 64;

/// Destinations that were reported as unreachable, and when.
#[derive(Default)]
pub(super) struct Unreachable(Vec<(IpAddr, Instant)>);

impl Unreachable {
    /// Whether it is to be said now.
    pub(super) fn may(&mut self, dest: IpAddr, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.duration_since(*at) < REPEAT);
        let known = self.0.iter().any(|(said, _)| *said == dest);
        if known || self.0.len() == MOST {
            return false;
        }
        self.0.push((dest, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_reported_once_a_second_and_a_bounded_number_of_them() {
        let (mut said, begin) = (Unreachable::default(), Instant::now());
        let at = |n: u8| IpAddr::from([192, 0, 2, n]);
        assert!(said.may(at(1), begin) && said.may(at(2), begin));
        assert!(!said.may(at(1), begin + REPEAT / 2));
        assert!(said.may(at(1), begin + REPEAT));
        let all = (0..=255).filter(|n| said.may(at(*n), begin + 4 * REPEAT));
        assert_eq!(all.count(), MOST);
    }
}
