//! What is to be done later: queues to read again, frames to hand over.
//!
//! Only pods with a bandwidth limit have entries, each three at most; a worker without any compares one
//! number a round.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ringway_tables::PortId;

use super::queue_id::QueueId;

/// What is due, for a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    /// The queue may be read again.
    Read(QueueId),
    /// Frames that wait for it may go.
    Drain(PortId),
}

impl Due {
    fn port(self) -> Option<PortId> {
        match self {
            Due::Read(queue) => queue.port(),
            Due::Drain(port) => Some(port),
        }
    }
}

/// Moments, in nanoseconds, and what is due then.
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Due)>>,
    next: u64,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers {
            heap: BinaryHeap::new(),
            next: u64::MAX,
        }
    }

    /// The earliest moment; far away if nothing is due at all.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn add(&mut self, at: u64, due: Due) {
        self.heap.push(Reverse((at, due)));
        self.next = self.next.min(at);
    }

    /// Takes out one that is due.
    pub(super) fn pop(&mut self, now: u64) -> Option<Due> {
        if self.next > now {
            return None;
        }
        let due = self.heap.pop().map(|Reverse((_, due))| due);
        self.update_next();
        due
    }

    /// Takes out all of a port.
    pub(super) fn forget(&mut self, port: PortId) {
        self.heap
            .retain(|Reverse((_, due))| due.port() != Some(port));
        self.update_next();
    }

    fn update_next(&mut self) {
        self.next = self.heap.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_not_before() {
        let mut timers = Timers::new();
        assert_eq!((timers.next(), timers.pop(u64::MAX - 1)), (u64::MAX, None));
        timers.add(30, Due::Read(QueueId::Tap(PortId(1))));
        timers.add(10, Due::Drain(PortId(2)));
        timers.add(20, Due::Drain(PortId(1)));
        assert_eq!((timers.next(), timers.pop(9)), (10, None));
        assert_eq!(timers.pop(25), Some(Due::Drain(PortId(2))));
        assert_eq!(timers.pop(25), Some(Due::Drain(PortId(1))));
        assert_eq!((timers.pop(25), timers.next()), (None, 30));
        assert_eq!(timers.pop(30), Some(Due::Read(QueueId::Tap(PortId(1)))));
        assert_eq!((timers.pop(u64::MAX), timers.next()), (None, u64::MAX));
    }

    #[test]
    fn a_port_that_goes_takes_its_own_along() {
        let mut timers = Timers::new();
        timers.add(10, Due::Drain(PortId(2)));
        timers.add(20, Due::Read(QueueId::Tap(PortId(3))));
        timers.add(30, Due::Read(QueueId::Bulk(PortId(2))));
        timers.forget(PortId(2));
        assert_eq!(timers.next(), 20);
        assert_eq!(
            (timers.pop(99), timers.pop(99)),
            (Some(Due::Read(QueueId::Tap(PortId(3)))), None)
        );
    }
}
