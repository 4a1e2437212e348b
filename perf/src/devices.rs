//! Memory in the place of TAPs and rings: what frames come from, and where they end.

use std::io;

use ringway_packet::offload::{Offload, VNET_HDR_LEN};
use ringway_ports::memory::{Null, Replay};
use ringway_ports::tap::TapCounters;
use ringway_ports::xsk::{RxFrame, Xsk};
use ringway_ports::{Batch, Buf, Frame, HEADROOM, Pool, Port, TransmitError};
use ringway_worker::{Devices, LocalPort, Ring};

/// Memory for local ports, AF_XDP for the underlay.
pub(crate) enum OnRings {}

impl Devices for OnRings {
    type Port = MemoryPort;
    type Ring = Xsk;
}

/// Memory for both.
pub(crate) enum InMemory {}

impl Devices for InMemory {
    type Port = MemoryPort;
    type Ring = MemoryRing;
}

/// Brings the same frames again and again, if it has any; swallows what goes to it.
#[derive(Default)]
pub(crate) struct MemoryPort {
    pub(crate) replay: Option<Replay>,
    pub(crate) null: Null,
}

impl Port for MemoryPort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        match &mut self.replay {
            Some(replay) => replay.receive(pool, batch, budget),
            None => Ok(0),
        }
    }

    #[inline]
    fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &Batch,
        frame: &Frame,
    ) -> Result<(), TransmitError> {
        self.null.transmit(pool, batch, frame)
    }

    fn flush(&mut self, _: &Pool) -> Result<(), TransmitError> {
        Ok(())
    }
}

impl LocalPort for MemoryPort {
    #[inline]
    fn counters(&self) -> TapCounters {
        TapCounters::default()
    }

    fn send(&mut self, _: &Offload, room: &mut [u8]) -> Result<(), TransmitError> {
        self.null.frames += 1;
        self.null.packets += 1;
        self.null.bytes += room.len().saturating_sub(VNET_HDR_LEN) as u64;
        Ok(())
    }
}

/// Brings the same outer frames again and again, if it has any; swallows what is sent.
#[derive(Default)]
pub(crate) struct MemoryRing {
    /// Of frames each of which fits a buffer of a worker's.
    pub(crate) replay: Option<Replay>,
    pub(crate) null: Null,
}

impl Ring for MemoryRing {
    #[inline]
    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<RxFrame>, budget: usize) -> usize {
        let Some(replay) = &mut self.replay else {
            return 0;
        };
        for added in 0..budget {
            let Some(source) = replay.peek() else {
                return added;
            };
            let Some(buf) = pool.alloc_frame() else {
                return added;
            };
            let len = source.bytes.len();
            let room = pool.bytes_mut(buf.id()).get_mut(HEADROOM..HEADROOM + len);
            let Some(room) = room else {
                pool.free(buf);
                return added;
            };
            room.copy_from_slice(&source.bytes);
            let (off, len) = (HEADROOM as u32, len as u32);
            out.push(RxFrame { buf, off, len });
            replay.advance();
        }
        budget
    }

    #[inline]
    fn transmit(&mut self, pool: &mut Pool, buf: Buf, _: u32, len: u32) -> Result<(), Buf> {
        self.null.frames += 1;
        self.null.packets += 1;
        self.null.bytes += u64::from(len);
        pool.free(buf);
        Ok(())
    }

    #[inline]
    fn flush(&mut self, _: &mut Pool) {}

    #[inline]
    fn is_stalled(&self) -> bool {
        false
    }
}
