//! How large a packet gets through a path.
//!
//! ```text
//!   Unverified ── all of the MTU answered ──────────────────────▶ Verified
//!       │ lost, while small ones come through, three times           ▲
//!       ▼                                                            │ answered
//!   Searching: 1280 first, then between what passes and what fails ──┼──▶ Hole: tried again each minute
//! ```

/// The least that is tried: every link carries IPv6 packets of this size (RFC 8200 section 5).
pub(super) const FLOOR: u16 = 1280;
/// Losses of one size, each between two small probes that are answered, until it is believed that it does not pass.
const TRIES: u8 = 3;
/// A search ends when it is known to so many bytes.
const CLOSE: u16 = 8;

/// What is known of the largest packet that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Nothing yet.
    Unverified,
    /// All of the MTU passes.
    Verified,
    /// Not all of it.
    Searching {
        /// Known to pass; 0: nothing large yet.
        passes: u16,
        /// Known not to.
        fails: u16,
    },
    /// Packets larger than this vanish; 0: not even the least that is tried passes.
    Hole(u16),
}

/// The search of one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mtu {
    pub(super) all: u16,
    pub(super) search: Search,
    lost: u8,
}

impl Mtu {
    pub(super) fn new(all: u16) -> Self {
        Self {
            all,
            search: Search::Unverified,
            lost: 0,
        }
    }

    /// The size to be tried, if one is; `again`: what is known is doubted.
    pub(super) fn tries(&self, again: bool) -> Option<u16> {
        match self.search {
            Search::Unverified => Some(self.all),
            Search::Verified | Search::Hole(_) => again.then_some(self.all),
            Search::Searching { passes: 0, .. } => Some(FLOOR),
            Search::Searching { passes, fails } => Some(passes + (fails - passes) / 2),
        }
    }

    /// A packet of that size was answered. Whether something else is known now.
    pub(super) fn passed(&mut self, size: u16) -> bool {
        let before = self.search;
        self.lost = 0;
        self.search = match self.search {
            _ if size >= self.all => Search::Verified,
            Search::Searching { passes, fails } => between(passes.max(size), fails),
            other => other,
        };
        before != self.search
    }

    /// One was lost, and a small one after it was not.
    pub(super) fn lost(&mut self, size: u16) -> bool {
        let before = self.search;
        self.lost += 1;
        if self.lost < TRIES {
            return false;
        }
        self.lost = 0;
        self.search = match self.search {
            Search::Hole(passes) => Search::Hole(passes),
            Search::Unverified | Search::Verified if size <= FLOOR => Search::Hole(0),
            Search::Unverified | Search::Verified => Search::Searching {
                passes: 0,
                fails: size,
            },
            Search::Searching { passes: 0, .. } => Search::Hole(0),
            Search::Searching { passes, fails } => between(passes, fails.min(size)),
        };
        before != self.search
    }

    /// It is under way, and the next probe is not to wait.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.search, Search::Unverified | Search::Searching { .. }) || self.lost > 0
    }
}

fn between(passes: u16, fails: u16) -> Search {
    match fails.saturating_sub(passes) <= CLOSE {
        true => Search::Hole(passes),
        false => Search::Searching { passes, fails },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a path that carries so much: how many probes it takes, and what is known then.
    fn search(all: u16, carries: u16) -> (u32, Search) {
        let (mut mtu, mut probes) = (Mtu::new(all), 0);
        while let Some(size) = mtu.tries(false) {
            probes += 1;
            match size <= carries {
                true => mtu.passed(size),
                false => mtu.lost(size),
            };
            assert!(probes < 100);
        }
        (probes, mtu.search)
    }

    #[test]
    fn the_largest_that_passes_is_found_within_few_probes() {
        assert_eq!(search(1450, 1450), (1, Search::Verified));
        assert_eq!(search(1450, 1200), (6, Search::Hole(0)));
        for all in [1281, 1450, 8950, u16::MAX] {
            for carries in (1280..all).step_by(7) {
                let (probes, found) = search(all, carries);
                let Search::Hole(passes) = found else {
                    panic!("{all} {carries}: {found:?}");
                };
                assert!(
                    passes <= carries && carries - passes <= CLOSE,
                    "{carries}: {passes}"
                );
                assert!(probes <= 3 * 16 + 4, "{all} {carries}: {probes}");
            }
        }
    }

    #[test]
    fn a_hole_that_closes_is_noticed_and_two_losses_are_none() {
        let mut mtu = Mtu::new(1450);
        assert!(!mtu.lost(1450) && !mtu.lost(1450) && mtu.passed(1450));
        assert_eq!((mtu.search, mtu.tries(false)), (Search::Verified, None));
        mtu.search = Search::Hole(1300);
        assert_eq!(mtu.tries(true), Some(1450));
        assert!(!mtu.lost(1450) && !mtu.lost(1450) && !mtu.lost(1450));
        assert_eq!(mtu.search, Search::Hole(1300));
        assert!(mtu.passed(1450) && mtu.search == Search::Verified);
    }
}
