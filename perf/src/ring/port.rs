//! Memory in the place of TAPs: what frames come from, and where they end.

use std::io;

use ringway_packet::offload::{Offload, VNET_HDR_LEN};
use ringway_ports::memory::{Null, Replay};
use ringway_ports::tap::TapCounters;
use ringway_ports::xsk::Xsk;
use ringway_ports::{Batch, Frame, Pool, Port, TransmitError};
use ringway_worker::{Devices, LocalPort};

/// Memory for local ports, AF_XDP for the underlay.
pub(super) enum Bench {}

impl Devices for Bench {
    type Port = MemoryPort;
    type Ring = Xsk;
}

/// Brings the same frames again and again, if it has any; swallows what goes to it.
#[derive(Default)]
pub(super) struct MemoryPort {
    pub(super) replay: Option<Replay>,
    pub(super) null: Null,
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
