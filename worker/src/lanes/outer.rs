//! In which lane of the underlay a flow is.
//!
//! To bulk it goes with its lane in the TAP: the receiver empties the lane for quiet flows before it goes on with
//! what it read of the other. Back it goes later than there. What it sent may stand in the receiver's socket,
//! which nobody here can see, so it goes back when nothing of it came for [`HOLD`]. A socket's 14 MB are read
//! within that at 130 Mbit/s.

use ringway_packet::steer::SLOTS;

/// Ticks of 2²⁷ ns, 134 ms: seven whole ones at least.
const HOLD: u32 = 8;
const TICK: u32 = 27;

/// When flows were last sent in the lane for bulk.
#[derive(Default)]
pub(super) struct Outer {
    /// Until when each slot stays there, in ticks. None before there was any: most pods never have one.
    until: Box<[u32]>,
    /// Until when any does.
    last: u32,
}

fn tick(now: u64) -> u32 {
    (now >> TICK) as u32
}

impl Outer {
    /// A frame of the slot goes by the lane for bulk.
    #[inline]
    pub(super) fn bulk(&mut self, slot: u16, now: u64) {
        if self.until.is_empty() {
            self.until = vec![0; SLOTS].into();
        }
        self.last = tick(now) + HOLD;
        self.until[usize::from(slot)] = self.last;
    }

    /// Whether quiet flows of the TAP may have to stay there.
    #[inline]
    pub(super) fn holds_any(&self, now: u64) -> bool {
        self.last > tick(now)
    }

    /// Whether a frame that came by the quiet lane of the TAP goes by that for bulk all the same.
    #[inline]
    pub(super) fn holds(&mut self, slot: u16, now: u64) -> bool {
        let until = self.until.get(usize::from(slot)).copied().unwrap_or(0);
        let holds = until > tick(now);
        if holds {
            self.bulk(slot, now);
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_flow_goes_back_after_a_silence() {
        let mut outer = Outer::default();
        assert!(!outer.holds_any(0) && !outer.holds(7, 0));
        outer.bulk(7, 5 * SECOND);
        for (now, holds) in [
            (5 * SECOND, true),
            (5 * SECOND + SECOND * 9 / 10, true),
            // It was not silent meanwhile.
            (6 * SECOND + SECOND * 8 / 10, true),
            (8 * SECOND, false),
        ] {
            assert_eq!(outer.holds_any(now), holds, "{now}");
            assert!(!outer.holds(8, now));
            assert_eq!(outer.holds(7, now), holds, "{now}");
        }
    }
}
