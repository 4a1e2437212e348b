//! What stands in a quiet lane, and whose it is.

/// What a lane brings without being found empty, from where on it has a backlog: a superframe.
const BACKLOG: u32 = 64 * 1024;
/// It is told anew after so much: those who ask and wait have asked twice at most.
const MOST: u32 = 16 * BACKLOG;
/// Flows that are told apart. Two that share an entry take from each other.
const ENTRIES: usize = 1024;

/// What came since the lane was last found empty.
pub(super) struct Backlog {
    /// The part of it that makes a flow bulk.
    part: u32,
    total: u32,
    /// Which of the entries are of this backlog and not of one before.
    epoch: u32,
    /// None before there was any: most pods never have one.
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    epoch: u32,
    slot: u16,
    cost: u32,
}

impl Backlog {
    pub(super) fn new(part: u32) -> Backlog {
        Backlog {
            part,
            total: 0,
            epoch: 0,
            entries: Box::default(),
        }
    }

    /// Something came, and the lane was not found empty yet.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.total > 0
    }

    /// The lane was found empty.
    #[inline]
    pub(super) fn close(&mut self) {
        self.total = 0;
    }

    /// Adds a frame; whether its flow is bulk.
    pub(super) fn charge(&mut self, slot: u16, cost: u32) -> bool {
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); ENTRIES].into();
        }
        if self.total == 0 || self.total > MOST {
            self.epoch = self.epoch.wrapping_add(1);
            self.total = 0;
        }
        self.total = self.total.saturating_add(cost);
        let (epoch, new) = (
            self.epoch,
            Entry {
                epoch: self.epoch,
                slot,
                cost: 0,
            },
        );
        let entry = &mut self.entries[usize::from(slot) % ENTRIES];
        if entry.epoch != epoch {
            *entry = new;
        }
        if entry.slot != slot {
            // The one with more stays, less what the other has (Misra and Gries).
            match entry.cost.checked_sub(cost) {
                Some(left) => {
                    entry.cost = left;
                    return false;
                }
                None => *entry = new,
            }
        }
        entry.cost = entry.cost.saturating_add(cost);
        self.total >= BACKLOG && entry.cost >= self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 64 bytes, of a request, and a superframe.
    const SMALL: u32 = 600;
    const REQUEST: u32 = 2000;
    const SUPER: u32 = 65_000;

    #[test]
    fn who_has_no_part_in_a_backlog_is_quiet() {
        let mut backlog = Backlog::new(4096);
        // Many with a request or two each, however long the lane is not found empty.
        for slot in 0..5000 {
            assert!(!backlog.charge(slot % 600, REQUEST), "{slot}");
        }
        backlog.close();
        // A superframe and a half is one.
        assert!(!backlog.charge(1, SUPER));
        assert!(!backlog.charge(2, SMALL));
        assert!(backlog.charge(1, SUPER));
        assert!(!backlog.charge(2, SMALL));
        // Two hundred streams are too; who comes first when it is told anew is next time.
        backlog.close();
        let quiet = (0..200)
            .filter(|slot| !backlog.charge(*slot, SUPER))
            .count();
        assert!(quiet <= 20, "{quiet}");
    }

    #[test]
    fn a_flood_of_small_packets_is_bulk() {
        let mut backlog = Backlog::new(4096);
        let count = (0..1000).position(|_| backlog.charge(7, SMALL)).unwrap();
        assert_eq!(count as u32, BACKLOG / SMALL);
        // What was found empty in between never gets there.
        backlog.close();
        for _ in 0..1000 {
            assert!(!backlog.charge(7, SMALL));
            backlog.close();
        }
    }

    #[test]
    fn two_that_share_an_entry_take_from_each_other() {
        let mut backlog = Backlog::new(4096);
        let other = ENTRIES as u16 + 7;
        assert!(!backlog.charge(7, SUPER));
        assert!(!backlog.charge(other, SMALL));
        assert!(backlog.charge(7, SUPER));
        assert!(!backlog.charge(other, SUPER));
        assert!(backlog.charge(other, 2 * SUPER));
    }
}
