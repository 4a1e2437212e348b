//! The flows of a port that are bulk.

use ringway_packet::steer::SLOTS;
use ringway_ports::tap::Slots;

/// How long a flow is looked at, in nanoseconds, if it is one of few; one of many gets its turn as much later.
const WINDOW: u64 = 8_000_000;
const FEW: u64 = 8;
/// How long nothing of a flow comes whose frames were lost in the lane's queue, until those that were counted
/// and never read are taken for lost. A core may be taken away from whoever has a frame in hand that was
/// counted and is not in the queue yet, but not for so long.
const SILENCE: u64 = 1_000_000_000;
/// Of a quiet flow no more is in the lane at once: a request, or the packets of one.
const LIGHT: u32 = 8 * 1024;
/// How often in a row, between two looks, a flow sends something and no more than [`LIGHT`], until it is quiet
/// although its turn has not come: one of two hundred that has its data out and asks.
const CALM: u8 = 2;
/// Flows at most; more stay quiet. What passes a core in a window is some four hundred superframes.
const MOST: usize = 1024;
/// What is counted is told anew after so many frames; the kernel's count has 31 bits.
const SETTLED: u32 = 1 << 20;
/// More frames than a lane's queue holds: what is more than that behind was lost there.
const QUEUE: u32 = 1 << 12;

/// One of them.
pub(super) struct Entry {
    slot: u16,
    /// Frames read that the kernel has counted.
    read: u32,
    /// Cost of what was read since nothing of it was in the lane.
    burst: u32,
    /// The largest of those in this window.
    largest: u32,
    /// The same since the last look, and what was read since.
    recent: (u32, u32),
    /// Looks in a row before which it sent something, and not much.
    calm: u8,
    /// The kernel's count when the window began.
    counted: u32,
    /// Something was read in this window.
    active: bool,
    /// When a window ended in which something of it was sent or read.
    last: u64,
    /// More was read than was counted, for the kernel cut a superframe on its way to the queue.
    inexact: bool,
    /// Its first frame has not been sent there when that was last looked at.
    new: bool,
    /// When the window began.
    since: u64,
}

impl Entry {
    /// So many frames were read, of this cost in all; `count`: how many were sent there.
    #[inline]
    pub(super) fn read(&mut self, frames: u32, cost: u32, count: Option<u32>) {
        self.active = true;
        self.read = self.read.wrapping_add(frames);
        self.burst = self.burst.saturating_add(cost);
        self.largest = self.largest.max(self.burst);
        let (largest, sum) = self.recent;
        self.recent = (largest.max(self.burst), sum.saturating_add(cost));
        match count {
            Some(count) if count == self.read => self.burst = 0,
            Some(count) => self.inexact |= self.read > count,
            None => {}
        }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Bulk {
    entries: Vec<Entry>,
    /// Where the entry of a slot is, plus one. Empty before there was one: most pods never have any.
    places: Box<[u16]>,
    /// Entries that are new.
    new: usize,
    /// When is looked next.
    next: u64,
    /// When the lane was last found empty.
    emptied: u64,
}

impl Bulk {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a slot that is not in yet; false if there are too many.
    pub(super) fn enter(&mut self, slot: u16, now: u64) -> bool {
        if self.places.is_empty() {
            self.places = vec![0; SLOTS].into();
        }
        if self.entries.len() >= MOST {
            return false;
        }
        if self.entries.is_empty() {
            self.next = now + WINDOW / 2;
        }
        self.entries.push(Entry {
            slot,
            read: 0,
            burst: 0,
            largest: 0,
            recent: (0, 0),
            calm: 0,
            counted: 0,
            active: false,
            last: now,
            inexact: false,
            new: true,
            since: now,
        });
        self.places[usize::from(slot)] = self.entries.len() as u16;
        self.new += 1;
        true
    }

    /// The entry of a slot.
    #[inline]
    pub(super) fn of(&mut self, slot: u16) -> Option<&mut Entry> {
        let place = *self.places.get(usize::from(slot))?;
        self.entries.get_mut(usize::from(place).wrapping_sub(1))
    }

    pub(super) fn found_empty(&mut self, now: u64) {
        self.emptied = now;
    }

    #[inline]
    pub(super) fn has_new(&self) -> bool {
        self.new > 0
    }

    /// Whether the first frame of a new one was sent to the lane; then it is new no more.
    pub(super) fn has_begun(&mut self, slots: &Slots) -> bool {
        let before = self.new;
        for entry in self.entries.iter_mut().filter(|entry| entry.new) {
            entry.new = slots.count(entry.slot) == Some(0);
            self.new -= usize::from(!entry.new);
        }
        self.new < before
    }

    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        now >= self.next && !self.entries.is_empty()
    }

    /// Takes out those that are bulk no more.
    pub(super) fn look(&mut self, slots: &Slots, now: u64) {
        self.next = now + WINDOW / 2;
        let window = WINDOW * (self.entries.len() as u64).div_ceil(FEW);
        let mut at = 0;
        while at < self.entries.len() {
            let emptied = self.emptied;
            match self.entries[at].is_over(slots, (window, emptied), now) {
                true => self.remove(at),
                false => at += 1,
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let gone = self.entries.swap_remove(at);
        self.new -= usize::from(gone.new);
        self.places[usize::from(gone.slot)] = 0;
        if let Some(moved) = self.entries.get(at) {
            self.places[usize::from(moved.slot)] = at as u16 + 1;
        }
    }
}

impl Entry {
    /// Takes off both counts what is of no meaning any more, before they get too large. No more than was counted:
    /// the bit beside it says that the slot is bulk.
    fn settle(&mut self, slots: &Slots, count: u32) {
        let both = self.read.min(count);
        let lost = (count - both).saturating_sub(QUEUE);
        if both > SETTLED || lost > SETTLED {
            slots.settle(self.slot, both + lost);
            self.read -= both;
        }
    }

    /// Whether the flow is quiet from now on; else, if a window has ended, the next one begins.
    fn is_over(&mut self, slots: &Slots, (window, emptied): (u64, u64), now: u64) -> bool {
        let (largest, sum) = std::mem::replace(&mut self.recent, (self.burst, 0));
        self.calm = match sum {
            0 => self.calm,
            _ if largest.max(sum) < LIGHT => self.calm.saturating_add(1),
            _ => 0,
        };
        if self.calm >= CALM && !self.inexact && slots.set_quiet(self.slot, self.read) {
            return true;
        }
        if now.saturating_sub(self.since) < window {
            return false;
        }
        let exact = !self.inexact && self.largest < LIGHT;
        if exact && slots.set_quiet(self.slot, self.read) {
            return true;
        }
        let count = slots.count(self.slot).unwrap_or(0);
        if count != self.counted || self.active {
            self.last = now;
        }
        let silent = now - self.last >= SILENCE && emptied > self.last;
        if silent && slots.set_quiet(self.slot, count) {
            return true;
        }
        self.settle(slots, count);
        self.counted = slots.count(self.slot).unwrap_or(0);
        self.largest = self.burst;
        self.active = false;
        self.since = now;
        false
    }
}
