//! Identifications of outer IPv4 packets that may be fragmented (RFC 6864 section 4.2).
//!
//! Fragments are put together by source, destination, protocol and identification. Within the time they
//! may be under way no two packets should have all four the same, so each destination has a sequence of its
//! own (two whose hashes fall together share one, which is as unique and wraps sooner). Workers send from
//! the same address: of every eight numbers, say, each of eight workers has one.
//!
//! Sixteen bits are few: at 100,000 packets a second to one node they come round in two thirds of a
//! second, and fragments of two packets with one number may be mixed up (RFC 4963). The outer UDP checksum,
//! which the configuration does not let off then, finds that out in all but one of 65,536 cases.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Sequences of a worker.
const SEQUENCES: usize = 256;

pub(super) struct Identifications {
    next: [u16; SEQUENCES],
    /// Workers, rounded up so that the numbers come round to this worker's own.
    step: u16,
}

impl Identifications {
    /// For worker `index` of `count`.
    pub(super) fn new(index: usize, count: usize) -> Identifications {
        let step = count.max(1).next_power_of_two();
        // Where a sequence starts, nobody is to know (RFC 7739).
        let random = RandomState::new();
        let start = |i: usize| random.hash_one(i) as usize / step * step + index % step;
        Identifications {
            next: std::array::from_fn(|i| start(i) as u16),
            step: step as u16,
        }
    }

    /// The next one towards an outer destination.
    pub(super) fn next(&mut self, dst: IpAddr) -> u16 {
        let IpAddr::V4(dst) = dst else {
            return 0;
        };
        // Fibonacci hashing: the high bits of the product depend on all of the address.
        let hash = u32::from(dst).wrapping_mul(0x9e37_79b1) >> 24;
        let next = &mut self.next[hash as usize];
        let id = *next;
        *next = id.wrapping_add(self.step);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_packets_to_a_destination_have_the_same_until_the_numbers_are_used_up() {
        let dst = "192.0.2.1".parse().unwrap();
        for count in [1, 2, 3, 8] {
            let mut workers: Vec<_> = (0..count).map(|i| Identifications::new(i, count)).collect();
            let each = 65_536 / count.next_power_of_two();
            let seen: HashSet<u16> = workers
                .iter_mut()
                .flat_map(|worker| (0..each).map(|_| worker.next(dst)).collect::<Vec<_>>())
                .collect();
            assert_eq!(seen.len(), each * count, "{count} workers");
            // And then from the start.
            assert!(seen.contains(&workers[0].next(dst)));
        }
    }

    #[test]
    fn destinations_do_not_use_up_each_others_numbers() {
        let mut ids = Identifications::new(0, 1);
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|dst| dst.parse().unwrap());
        let first = ids.next(a);
        for _ in 0..100 {
            ids.next(b);
        }
        assert_eq!(ids.next(a), first.wrapping_add(1));
        assert_eq!(ids.next("fd00::1".parse().unwrap()), 0);
    }
}
