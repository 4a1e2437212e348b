//! Bandwidth limits of a pod, as a worker keeps them.
//!
//! ```text
//!   from the pod   tokens: read, at most so many bytes; then charge what was read
//!                  else: reserve some; the queue leaves epoll until a timer (`Due::Read`) puts it back
//!   to the pod     nothing waits and there are tokens: written at once, from the pool
//!                  else: copied and queued, written by a timer (`Due::Drain`); full: `rate_limited`
//! ```
//!
//! The first is backpressure: what is not read stays in the TAP's queue, which the pod's own stack sees.
//! A visit runs over by one superframe at most, which is paid for before the next. A queue that waits is
//! out of epoll, not only out of the lists: else every packet that the pod adds would wake the worker.
//!
//! Buckets are shared by all workers, queues are each worker's own: a flow stays on one worker, so its
//! order is kept. Who waits has reserved its tokens: when all workers wait for the next ones, the same
//! would be the first each time, and what the others have would starve. Bytes are counted as on the wire,
//! headers of all segments included.

use std::collections::VecDeque;
use std::sync::Arc;

use ringway_packet::offload::{Offload, VNET_HDR_LEN};
use ringway_ports::Frame;

use super::buffers::Buffers;
use super::limits::RateLimits;

/// Shapes the traffic of a pod whose bandwidth is limited.
pub(super) struct Shaper {
    limits: Arc<RateLimits>,
    /// Tokens it has reserved to be read by, and from when on.
    credit: u64,
    reserved: u64,
    waiting: VecDeque<Waiting>,
    /// Bytes on the wire of all that waits.
    bytes: u64,
    /// How many of those that wait have their tokens reserved.
    paid: usize,
}

/// A frame that waits for tokens.
pub(super) struct Waiting {
    /// Room for the vnet header, then the whole frame.
    pub(super) room: Box<[u8]>,
    pub(super) offload: Offload,
    pub(super) packets: u32,
    wire: u64,
}

/// What is to be done with a frame to the pod.
pub(super) enum Admission {
    /// Write it.
    Pass,
    /// It waits, as a copy; if it is the first, until that moment.
    Waits(Option<u64>),
    /// There was no room.
    Full,
}

impl Shaper {
    /// `None` if nothing is limited.
    pub(super) fn new(limits: Option<Arc<RateLimits>>) -> Option<Box<Shaper>> {
        let limits = limits.filter(|limits| !limits.is_none())?;
        Some(Box::new(Shaper {
            limits,
            credit: 0,
            reserved: 0,
            waiting: VecDeque::new(),
            bytes: 0,
            paid: 0,
        }))
    }

    /// How many bytes may be read from the pod now, or else when to come back.
    pub(super) fn may_read(&mut self, now: u64) -> Result<usize, u64> {
        let Some(limit) = &self.limits.egress else {
            return Ok(usize::MAX);
        };
        // One lane has reserved, and the other comes meanwhile.
        if self.reserved > now {
            return Err(self.reserved);
        }
        let level = u64::try_from(limit.bucket.level(now)).unwrap_or(0);
        match level + self.credit {
            0 => {
                self.credit = limit.quantum;
                self.reserved = limit.bucket.reserve(now, limit.quantum).max(now + 1);
                Err(self.reserved)
            }
            bytes => Ok(usize::try_from(bytes).unwrap_or(usize::MAX)),
        }
    }

    /// Takes the tokens for what was read.
    pub(super) fn charge(&mut self, now: u64, wire: u64) {
        let Some(limit) = &self.limits.egress else {
            return;
        };
        let credit = std::mem::take(&mut self.credit);
        if wire > credit {
            limit.bucket.charge(now, wire - credit);
        } else {
            limit.bucket.give_back(credit - wire);
        }
    }

    /// Whether a frame to the pod is to be written now, or waits.
    pub(super) fn admit(&mut self, buffers: &Buffers, frame: &Frame, now: u64) -> Admission {
        let Some(limit) = &self.limits.ingress else {
            return Admission::Pass;
        };
        let pool = &buffers.pool;
        let head = pool.slice(frame.buf, frame.start, frame.linear);
        let wire = frame.wire_len(head.unwrap_or(&[]));
        let first = self.waiting.is_empty();
        if first && limit.bucket.try_take(now, wire) {
            return Admission::Pass;
        }
        if !first && self.bytes + wire > limit.room {
            return Admission::Full;
        }
        let Some(room) = copy(buffers, frame) else {
            // What is no frame is for the port to refuse.
            return Admission::Pass;
        };
        self.bytes += wire;
        self.waiting.push_back(Waiting {
            room,
            offload: frame.offload,
            packets: u32::from(frame.packets),
            wire,
        });
        Admission::Waits(if first { self.reserve(now) } else { None })
    }

    /// Reserves the tokens for a quantum of what waits, one frame at least. When those may go; `None` if
    /// nothing waits.
    pub(super) fn reserve(&mut self, now: u64) -> Option<u64> {
        self.paid = 0;
        let limit = self.limits.ingress.as_ref()?;
        let mut wire = 0;
        for frame in &self.waiting {
            wire += frame.wire;
            self.paid += 1;
            if wire >= limit.quantum {
                break;
            }
        }
        // A frame that is alone waits for others, or a flood of small ones would need a timer each.
        let pause = limit.pause;
        (self.paid > 0).then(|| limit.bucket.reserve(now, wire).max(now + pause))
    }

    /// The next frame that has its tokens, or gets them.
    pub(super) fn next(&mut self, now: u64) -> Option<Waiting> {
        let wire = self.waiting.front()?.wire;
        if self.paid > 0 {
            self.paid -= 1;
        } else if let Some(limit) = &self.limits.ingress
            && !limit.bucket.try_take(now, wire)
        {
            return None;
        }
        let frame = self.waiting.pop_front()?;
        self.bytes -= frame.wire;
        Some(frame)
    }

    /// The wire packets of each frame that waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().map(|frame| frame.packets)
    }
}

/// The frame in one piece, behind room for a vnet header. `None` if it is not what it says.
fn copy(buffers: &Buffers, frame: &Frame) -> Option<Box<[u8]>> {
    let Buffers { pool, batch, .. } = buffers;
    let mut room = Vec::with_capacity(VNET_HDR_LEN + frame.len as usize);
    room.resize(VNET_HDR_LEN, 0);
    room.extend_from_slice(pool.slice(frame.buf, frame.start, frame.linear)?);
    for slice in batch.tail(frame) {
        room.extend_from_slice(pool.slice(slice.buf, slice.off, slice.len)?);
    }
    (room.len() == VNET_HDR_LEN + frame.len as usize).then_some(room.into_boxed_slice())
}
