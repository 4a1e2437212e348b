//! A worker's queues of local ports: what is read from pods and the node, and what goes to them.

use ringway_ports::{Frame, TransmitError};
use ringway_switch::{Counters, DropReason};
use ringway_tables::PortId;

use super::buffers::Buffers;
use super::devices::LocalPort;
use super::lanes::Lane;
use super::queue_id::QueueId;
use super::shaper::{Admission, Shaper};
use super::timers::{Due, Timers};

/// The queues of one port.
pub(crate) struct LocalQueue<P> {
    /// All is written here; with lanes, quiet flows are read.
    pub(crate) port: P,
    /// Where bulk is read. None: a pod from before there were lanes, or the kernel has none.
    pub(crate) lane: Option<Box<Lane<P>>>,
    /// This worker is the one that reads it.
    pub(crate) read: bool,
    /// It takes UDP superframes.
    pub(crate) uso: bool,
    pub(crate) shaper: Option<Box<Shaper>>,
}

/// The queues, by port.
pub(crate) struct LocalPorts<P> {
    queues: Vec<Option<LocalQueue<P>>>,
    /// Those that take no UDP superframes.
    without_uso: usize,
    /// When limited pods may be served again.
    pub(crate) timers: Timers,
}

impl<P> LocalPorts<P> {
    pub(crate) fn new() -> LocalPorts<P> {
        LocalPorts {
            queues: Vec::new(),
            without_uso: 0,
            timers: Timers::new(),
        }
    }

    /// Adds the queue of a port that has none.
    pub(crate) fn add(&mut self, id: PortId, queue: LocalQueue<P>) {
        let index = id.0 as usize;
        if self.queues.len() <= index {
            self.queues.resize_with(index + 1, || None);
        }
        self.without_uso += usize::from(!queue.uso);
        self.queues[index] = Some(queue);
    }

    /// Takes the queue of a port out. What waits for the port is lost.
    pub(crate) fn remove(&mut self, id: PortId, counters: &Counters) -> Option<LocalQueue<P>> {
        let queue = self.queues.get_mut(id.0 as usize)?.take()?;
        self.without_uso -= usize::from(!queue.uso);
        if let Some(shaper) = &queue.shaper {
            self.timers.forget(id);
            for packets in shaper.waiting() {
                counters.lose(DropReason::PortGone, packets, Some(counters.port(id)));
            }
        }
        Some(queue)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: PortId) -> Option<&mut LocalQueue<P>> {
        self.queues.get_mut(id.0 as usize)?.as_mut()
    }

    /// A queue to read.
    pub(crate) fn queue(&mut self, id: QueueId) -> Option<&mut P> {
        let queue = self.get_mut(id.port()?)?;
        match id {
            QueueId::Bulk(_) => Some(&mut queue.lane.as_mut()?.port),
            _ => Some(&mut queue.port),
        }
    }

    /// The lane for bulk of a port.
    #[inline]
    pub(crate) fn lane(&mut self, id: PortId) -> Option<&mut Lane<P>> {
        self.get_mut(id)?.lane.as_deref_mut()
    }

    /// Whether every port takes UDP superframes.
    #[inline]
    pub(crate) fn take_uso(&self) -> bool {
        self.without_uso == 0
    }
}

impl<P: LocalPort> LocalPorts<P> {
    /// Writes a frame to a port, or has it wait for the port's limit. One that is not taken is counted.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        buffers: &mut Buffers,
        counters: &Counters,
        (to, frame): (PortId, &Frame),
        now: u64,
    ) {
        let lose = |reason| {
            let packets = u32::from(frame.packets);
            counters.lose(reason, packets, Some(counters.port(to)));
        };
        let Some(Some(queue)) = self.queues.get_mut(to.0 as usize) else {
            return lose(DropReason::PortGone);
        };
        if let Some(shaper) = &mut queue.shaper {
            match shaper.admit(buffers, frame, now) {
                Admission::Pass => {}
                Admission::Waits(first) => {
                    counters.copied_bytes.add(u64::from(frame.len));
                    if let Some(at) = first {
                        self.timers.add(at, Due::Drain(to));
                    }
                    return;
                }
                Admission::Full => return lose(DropReason::RateLimited),
            }
        }
        let Buffers { pool, batch, .. } = buffers;
        if let Err(error) = queue.port.transmit(pool, batch, frame) {
            lose(reason_of(error));
        }
    }

    /// Writes what waits for a port, as far as there are tokens, and sets a timer for the rest.
    pub(crate) fn drain(&mut self, counters: &Counters, id: PortId, now: u64) {
        let Some(LocalQueue { port, shaper, .. }) = self.get_mut(id) else {
            return;
        };
        let Some(shaper) = shaper else { return };
        while let Some(mut frame) = shaper.next(now) {
            if let Err(error) = port.send(&frame.offload, &mut frame.room) {
                counters.lose(reason_of(error), frame.packets, Some(counters.port(id)));
            }
        }
        if let Some(at) = shaper.reserve(now) {
            self.timers.add(at, Due::Drain(id));
        }
    }
}

/// The reason that a failed transmit counts as.
fn reason_of(error: TransmitError) -> DropReason {
    match error {
        TransmitError::Full => DropReason::PortFull,
        TransmitError::Down => DropReason::PortDown,
        TransmitError::Gone => DropReason::PortGone,
        TransmitError::Refused { .. }
        | TransmitError::Malformed { .. }
        | TransmitError::Other(_) => DropReason::PortRefused,
    }
}
