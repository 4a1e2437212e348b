//! Lanes: which flows of a port are bulk, and how none of their frames passes another.
//!
//! A flow is quiet until it is found to make up what stands before the others. Nothing else counts: not
//! its protocol, its ports, its DSCP or the size of its packets.
//!
//! ```text
//!   quiet ──▶ bulk    the quiet lane was not found empty while it brought BACKLOG, and the flow had its
//!                     part in that (`backlog.rs`)
//!   bulk ──▶ quiet    nothing of it is in the lane, and in the time of a WINDOW no more of it was there
//!                     at once than LIGHT, or it sends again and again, and no more than that (`bulk.rs`)
//! ```
//!
//! Order is kept on both ways. To bulk: what the flow sent before is in the quiet lane, all of it by the
//! moment the kernel has sent the first frame to the other, for a flow sends one frame after the other.
//! So when that moment has come ([`Lane::must_drain`]) the quiet lane is read until it was found empty
//! once, before anything goes on that was read from the other. To quiet: only when all that was sent to
//! the lane was read, which the kernel's count says, in one step with the change
//! ([`Slots::set_quiet`]).
//!
//! In the underlay a flow has a lane as well, by its outer source port (`ports/src/socket/lanes.rs`): that of the TAP,
//! and back from bulk later (`outer.rs`).
//!
//! Costs are in bytes, a frame as so many more, for a small one costs time as well.

mod backlog;
mod bulk;
mod outer;

use std::sync::Arc;

use ringway_packet::steer;
use ringway_ports::tap::Slots;

use backlog::Backlog;
use bulk::Bulk;
use outer::Outer;

/// What a frame costs beside its bytes: what a small one takes of a core, in bytes of a large one.
const FRAME: u32 = 512;

/// The part in a backlog that makes a flow bulk: of two hundred streams none has a large one, and together they
/// are all of it.
const PART: u32 = 4 * 1024;

/// No frame is longer.
const MOST: u32 = 1 << 17;

/// More bytes than those who wait for answers bring at once.
const MANY: u32 = 8 * 1024;

/// A frame's slot and cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    slot: u16,
    cost: u32,
}

impl Seen {
    /// Of a frame that begins with `head` and is `len` bytes long.
    #[inline]
    pub(crate) fn of(head: &[u8], len: u32) -> Seen {
        Seen {
            slot: steer::slot(head),
            cost: len.min(MOST) + FRAME,
        }
    }
}

/// A port's second queue, which has its bulk, and what is known of its flows.
pub(crate) struct Lane<P> {
    /// The queue.
    pub(crate) port: P,
    slots: Arc<Slots>,
    backlog: Backlog,
    bulk: Bulk,
    outer: Outer,
}

impl<P> Lane<P> {
    pub(crate) fn new(port: P, slots: Arc<Slots>) -> Lane<P> {
        Lane {
            port,
            slots,
            backlog: Backlog::new(PART),
            bulk: Bulk::default(),
            outer: Outer::default(),
        }
    }

    /// Whether a visit to the quiet lane that brought so many frames and bytes has to be entered: there was more
    /// than those who wait for answers bring.
    #[inline]
    pub(crate) fn is_backlog(&self, frames: usize, bytes: u32, more: bool) -> bool {
        more || frames > 2 || bytes > MANY || self.backlog.is_open()
    }

    /// Enters what a visit to the quiet lane brought. `more`: the lane was not found empty.
    pub(crate) fn enter_quiet(&mut self, seen: impl Iterator<Item = Seen>, more: bool, now: u64) {
        for Seen { slot, cost } in seen {
            self.outer.quiet(slot, cost, now);
            if self.backlog.charge(slot, cost)
                && self.slots.count(slot).is_none()
                && self.bulk.enter(slot, now)
            {
                self.slots.set_bulk(slot);
            }
        }
        if !more {
            self.backlog.close();
        }
    }

    /// Enters what a visit to the lane for bulk brought. `more`: it was not found empty.
    pub(crate) fn enter_bulk(&mut self, seen: impl Iterator<Item = Seen>, more: bool, now: u64) {
        let mut seen = seen.peekable();
        if seen.peek().is_some() {
            self.outer.begin(now);
        }
        // Frames of a flow come one after the other as a rule.
        let (mut run, mut frames) = (Seen { slot: 0, cost: 0 }, 0);
        seen.for_each(|Seen { slot, cost }| {
            if slot != run.slot {
                self.enter_run(run, frames);
                (run, frames) = (Seen { slot, cost: 0 }, 0);
            }
            run.cost += cost;
            frames += 1;
        });
        self.enter_run(run, frames);
        if !more {
            self.bulk.found_empty(now);
        }
    }

    #[inline]
    fn enter_run(&mut self, Seen { slot, cost }: Seen, frames: u32) {
        if frames == 0 {
            return;
        }
        self.outer.is_bulk(slot);
        if let Some(entry) = self.bulk.of(slot) {
            entry.read(frames, cost, self.slots.count(slot));
        }
    }

    /// Whether what the quiet lane brings may have to go to peers by the lane for bulk.
    #[inline]
    pub(crate) fn holds_any(&self, now: u64) -> bool {
        self.outer.holds_any(now)
    }

    /// Whether a frame of the quiet lane that begins with `head` has to.
    #[inline]
    pub(crate) fn holds(&mut self, head: &[u8], now: u64) -> bool {
        self.outer.holds(steer::slot(head), now)
    }

    /// Lets those go back that are bulk no more, if it is time to look.
    #[inline]
    pub(crate) fn look(&mut self, now: u64) {
        if self.bulk.is_due(now) {
            self.bulk.look(&self.slots, now);
        }
    }

    /// Whether a flow that became bulk has begun to come by the lane: before what was read from it goes on,
    /// the quiet lane must be found empty once. To be asked after the lane was read; whoever asks does it.
    #[inline]
    pub(crate) fn must_drain(&mut self) -> bool {
        self.bulk.has_new() && self.bulk.has_begun(&self.slots)
    }

    /// Flows that are bulk now.
    #[cfg(test)]
    pub(crate) fn flows(&self) -> usize {
        self.bulk.len()
    }
}

#[cfg(test)]
mod tests;
