//! Two ports joined back to back, as by a cable with a bounded queue in each direction.
//!
//! A frame is copied into the queue when transmitted and out of it when received, so the two ends may use
//! different pools and run on different threads. The memory of a queue slot is kept and used again.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway_packet::offload::Offload;

use crate::frame::{Batch, Frame};
use crate::pool::{HEADROOM, Pool};
use crate::port::{Port, TransmitError};

/// Memory of a new slot: any frame of a usual MTU. A superframe makes its slot grow once.
const SLOT: usize = 2048;

/// One end of a [`pair`].
#[derive(Debug)]
pub struct Memory {
    out: Arc<Mutex<Queue>>,
    incoming: Arc<Mutex<Queue>>,
    port: u32,
    /// Frames received that no pool buffer could hold.
    malformed: u64,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Stored>,
    spare: Vec<Vec<u8>>,
    capacity: usize,
    overflow: u64,
}

#[derive(Debug)]
struct Stored {
    bytes: Vec<u8>,
    offload: Offload,
    packets: u16,
}

/// Two joined ports with queues of `capacity` frames in each direction, which mark the frames they receive
/// with `port_a` and `port_b`.
pub fn pair(capacity: usize, port_a: u32, port_b: u32) -> (Memory, Memory) {
    let queue = || {
        let frames = VecDeque::with_capacity(capacity);
        let spare = (0..capacity).map(|_| Vec::with_capacity(SLOT)).collect();
        Arc::new(Mutex::new(Queue {
            frames,
            spare,
            capacity,
            overflow: 0,
        }))
    };
    let (ab, ba) = (queue(), queue());
    let a = Memory {
        out: ab.clone(),
        incoming: ba.clone(),
        port: port_a,
        malformed: 0,
    };
    let b = Memory {
        out: ba,
        incoming: ab,
        port: port_b,
        malformed: 0,
    };
    (a, b)
}

impl Memory {
    /// Frames this end could not transmit because the queue was full.
    pub fn overflow(&self) -> u64 {
        lock(&self.out).overflow
    }

    /// Frames waiting to be received at this end.
    pub fn waiting(&self) -> usize {
        lock(&self.incoming).frames.len()
    }

    /// Frames received that no pool buffer could hold.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// A panic elsewhere leaves the queue as it was: every change to it is complete or not begun.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Port for Memory {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        let mut queue = lock(&self.incoming);
        let mut added = 0;
        for _ in 0..budget {
            if batch.is_full() || queue.frames.is_empty() {
                break;
            }
            let Some(buf) = pool.alloc() else { break };
            let Some(stored) = queue.frames.pop_front() else {
                pool.free(buf);
                break;
            };
            let len = stored.bytes.len();
            let (offload, packets) = (stored.offload, stored.packets);
            let room = pool.bytes_mut(buf.id()).get_mut(HEADROOM..HEADROOM + len);
            let fits = room
                .map(|room| room.copy_from_slice(&stored.bytes))
                .is_some();
            queue.spare.push(stored.bytes);
            let len = len as u32;
            let frame = Frame {
                offload,
                packets,
                port: self.port,
                ..Frame::whole(buf.id(), len)
            };
            let left = if fits {
                batch.push(frame, buf).err()
            } else {
                Some(buf)
            };
            if let Some(buf) = left {
                self.malformed += 1;
                pool.free(buf);
                continue;
            }
            added += 1;
        }
        Ok(added)
    }

    fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &Batch,
        frame: &Frame,
    ) -> Result<(), TransmitError> {
        let malformed = TransmitError::Malformed {
            len: frame.len,
            limit: pool.buf_size() as u32,
        };
        let mut queue = lock(&self.out);
        if queue.frames.len() >= queue.capacity {
            queue.overflow += 1;
            return Err(TransmitError::Full);
        }
        let mut bytes = queue.spare.pop().unwrap_or_default();
        bytes.clear();
        for part in pool.pieces(frame, batch.tail(frame)) {
            let Some(part) = part else {
                queue.spare.push(bytes);
                return Err(malformed);
            };
            bytes.extend_from_slice(part);
        }
        if bytes.len() != frame.len as usize {
            queue.spare.push(bytes);
            return Err(malformed);
        }
        queue.frames.push_back(Stored {
            bytes,
            offload: frame.offload,
            packets: frame.packets,
        });
        Ok(())
    }

    fn flush(&mut self, _: &Pool) -> Result<(), TransmitError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Slice;

    fn received(port: &mut Memory, pool: &mut Pool) -> Vec<(Vec<u8>, u32, u16)> {
        let mut batch = Batch::new();
        port.receive(pool, &mut batch, 64).unwrap();
        let bytes = |f: &Frame| pool.bytes(f.buf)[f.start as usize..][..f.len as usize].to_vec();
        let seen = batch
            .frames
            .iter()
            .map(|f| (bytes(f), f.port, f.packets))
            .collect();
        batch.recycle(pool);
        seen
    }

    #[test]
    fn carries_a_frame_with_its_tail_between_pools() {
        let (mut a, mut b) = pair(4, 10, 20);
        let (mut near, mut far) = (Pool::heap(4, 512), Pool::heap(2, 1024));
        let mut batch = Batch::new();
        let (head, tail) = (near.alloc().unwrap().id(), near.alloc().unwrap().id());
        near.bytes_mut(head)[200..204].copy_from_slice(b"head");
        near.bytes_mut(tail)[..8].copy_from_slice(b"onetwo!!");
        let slices = [
            Slice {
                buf: tail,
                off: 0,
                len: 3,
            },
            Slice {
                buf: tail,
                off: 3,
                len: 3,
            },
        ];
        let tail = batch.push_tail(&slices).unwrap();
        let frame = Frame {
            start: 200,
            linear: 4,
            tail,
            packets: 3,
            ..Frame::whole(head, 10)
        };
        a.transmit(&mut near, &batch, &frame).unwrap();
        assert_eq!(b.waiting(), 1);
        assert_eq!(
            received(&mut b, &mut far),
            [(b"headonetwo".to_vec(), 20, 3)]
        );
        assert_eq!((received(&mut a, &mut near), far.available()), (vec![], 2));
        // A frame whose length is not that of its parts, or whose parts are nowhere, is not taken.
        for bad in [
            Frame { len: 11, ..frame },
            Frame {
                start: 510,
                ..frame
            },
            Frame {
                linear: u32::MAX,
                ..frame
            },
        ] {
            assert!(matches!(
                a.transmit(&mut near, &batch, &bad),
                Err(TransmitError::Malformed { .. })
            ));
        }
        assert_eq!(b.waiting(), 0);
    }

    #[test]
    fn overflow_is_refused_and_counted() {
        let (mut a, mut b) = pair(2, 0, 0);
        let (mut pool, batch) = (Pool::heap(4, 512), Batch::new());
        let buf = pool.alloc().unwrap().id();
        let frame = Frame::whole(buf, 60);
        let results: Vec<_> = (0..3)
            .map(|_| a.transmit(&mut pool, &batch, &frame))
            .collect();
        assert_eq!(results, [Ok(()), Ok(()), Err(TransmitError::Full)]);
        assert_eq!((a.overflow(), b.overflow(), b.waiting()), (1, 0, 2));
        assert_eq!(received(&mut b, &mut pool).len(), 2);
    }

    #[test]
    fn a_frame_no_buffer_can_hold_is_counted() {
        let (mut a, mut b) = pair(2, 0, 0);
        let (mut pool, mut small, batch) = (Pool::heap(1, 1024), Pool::heap(1, 256), Batch::new());
        let buf = pool.alloc().unwrap().id();
        let frame = Frame::whole(buf, 600);
        a.transmit(&mut pool, &batch, &frame).unwrap();
        assert_eq!(
            (
                received(&mut b, &mut small),
                b.malformed(),
                small.available()
            ),
            (vec![], 1, 1)
        );
    }
}
