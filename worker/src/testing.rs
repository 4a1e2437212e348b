//! A ring in memory, for tests here and in `worker/tests`.

use std::collections::VecDeque;

use ringway_ports::xsk::RxFrame;
use ringway_ports::{Buf, HEADROOM, Pool};

use crate::Ring;

/// A ring that brings what was put in, and keeps what it is given.
#[derive(Default, Debug)]
pub struct MemoryRing {
    /// Frames to come, oldest first.
    pub incoming: VecDeque<Vec<u8>>,
    /// Frames it was given, oldest first.
    pub sent: Vec<Vec<u8>>,
    /// Most that it keeps; none: no limit.
    pub room: Option<usize>,
}

impl Ring for MemoryRing {
    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<RxFrame>, budget: usize) -> usize {
        let count = budget.min(self.incoming.len());
        for bytes in self.incoming.drain(..count) {
            let buf = pool.alloc_frame().unwrap();
            pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(&bytes);
            let (off, len) = (HEADROOM as u32, bytes.len() as u32);
            out.push(RxFrame { buf, off, len });
        }
        count
    }

    fn transmit(&mut self, pool: &mut Pool, buf: Buf, off: u32, len: u32) -> Result<(), Buf> {
        if self.room == Some(self.sent.len()) {
            return Err(buf);
        }
        let bytes = pool.slice(buf.id(), off, len).unwrap();
        self.sent.push(bytes.to_vec());
        pool.free(buf);
        Ok(())
    }

    fn flush(&mut self, _: &mut Pool) {}

    fn is_stalled(&self) -> bool {
        false
    }
}
