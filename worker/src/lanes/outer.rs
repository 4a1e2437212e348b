//! In which lane of the underlay a flow is.
//!
//! To bulk it goes with its lane in the TAP, and also when this worker is fast enough but the receiver may not
//! be: of what the pod's quiet flows send within a [`WINDOW`] it has a large part. No harm is done by that: what
//! is bulk waits for bulk alone, and for nothing where nothing stands. The receiver empties the lane for quiet
//! flows before it goes on with what it read of the other.
//!
//! Back it goes later than in the TAP. What it sent may stand in the receiver's socket, which nobody here can
//! see, so it goes back when nothing of it came for [`HOLD`]. A socket's 14 MB are read within that at
//! 130 Mbit/s.

use ringway_packet::steer::SLOTS;

use super::backlog::Backlog;

/// Ticks of 2²⁷ ns, 134 ms: seven whole ones at least.
const HOLD: u32 = 8;
const TICK: u32 = 27;

/// Over what time is looked at what quiet flows send, in nanoseconds: a backlog's worth in it is 64 Mbit/s.
const WINDOW: u64 = 8_000_000;
/// The part of it that makes a flow bulk.
const PART: u32 = 16 * 1024;

/// When flows were last sent in the lane for bulk.
pub(super) struct Outer {
    /// What quiet flows of the TAP have sent in this window.
    sent: Backlog,
    /// When it ends.
    end: u64,
    /// Until when each slot stays there, in ticks. None before there was any: most pods never have one.
    until: Box<[u32]>,
    /// Until when any does.
    last: u32,
}

fn tick(now: u64) -> u32 {
    (now >> TICK) as u32
}

impl Default for Outer {
    fn default() -> Outer {
        Outer {
            sent: Backlog::new(PART),
            end: 0,
            until: Box::default(),
            last: 0,
        }
    }
}

impl Outer {
    /// A frame of the slot came by the quiet lane of the TAP.
    #[inline]
    pub(super) fn quiet(&mut self, slot: u16, cost: u32, now: u64) {
        if now >= self.end {
            self.sent.close();
            self.end = now + WINDOW;
        }
        if self.sent.charge(slot, cost) {
            self.bulk(slot, now);
        }
    }

    /// Frames go by the lane for bulk now; of which slots, [`is_bulk`](Self::is_bulk) is told.
    #[inline]
    pub(super) fn begin(&mut self, now: u64) {
        if self.until.is_empty() {
            self.until = vec![0; SLOTS].into();
        }
        self.last = tick(now) + HOLD;
    }

    /// A frame of the slot does.
    #[inline]
    pub(super) fn is_bulk(&mut self, slot: u16) {
        if let Some(until) = self.until.get_mut(usize::from(slot)) {
            *until = self.last;
        }
    }

    fn bulk(&mut self, slot: u16, now: u64) {
        self.begin(now);
        self.is_bulk(slot);
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

    #[test]
    fn who_sends_most_of_what_quiet_flows_send_is_bulk() {
        let (superframe, request) = (65_000, 2000);
        // A superframe in each window is no more than that.
        let mut outer = Outer::default();
        for window in 0..100 {
            outer.quiet(7, superframe, window * WINDOW);
        }
        assert!(!outer.holds(7, SECOND));
        // Two hundred streams send more, each seldom; those who ask beside them are quiet.
        let mut outer = Outer::default();
        for i in 0..2000 {
            outer.quiet(100 + i % 200, superframe, u64::from(i) * WINDOW / 20);
            outer.quiet(i % 50, request, u64::from(i) * WINDOW / 20);
        }
        let bulk = |range: std::ops::Range<u16>, outer: &mut Outer| {
            range.filter(|slot| outer.holds(*slot, SECOND)).count()
        };
        assert_eq!(bulk(0..50, &mut outer), 0);
        assert!(bulk(100..300, &mut outer) >= 190);
    }
}
