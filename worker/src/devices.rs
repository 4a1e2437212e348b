//! What a round works on: the kernel's devices on a node, memory in a measurement.

use ringway_packet::offload::Offload;
use ringway_ports::tap::{Tap, TapCounters};
use ringway_ports::xsk::{RxFrame, Xsk};
use ringway_ports::{Buf, Pool, Port, TransmitError};

/// A local port: a TAP, or what stands for one.
pub trait LocalPort: Port {
    /// What was counted that no frame shows.
    fn counters(&self) -> TapCounters;

    /// Sends a frame that lies in no pool: `room` is the room for a vnet header, and the frame behind it.
    ///
    /// # Errors
    /// As [`Port::transmit`].
    fn send(&mut self, offload: &Offload, room: &mut [u8]) -> Result<(), TransmitError>;
}

impl LocalPort for Tap {
    #[inline]
    fn counters(&self) -> TapCounters {
        Tap::counters(self)
    }

    fn send(&mut self, offload: &Offload, room: &mut [u8]) -> Result<(), TransmitError> {
        Tap::send(self, offload, room)
    }
}

/// A ring of the underlay: takes whole frames by their buffers, and brings such.
pub trait Ring {
    /// Appends at most `budget` frames to `out`; returns how many. Fewer: nothing more waits.
    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<RxFrame>, budget: usize) -> usize;

    /// Queues the `len` bytes from `off` of `buf` as one frame.
    ///
    /// # Errors
    /// There is no room; the buffer comes back.
    fn transmit(&mut self, pool: &mut Pool, buf: Buf, off: u32, len: u32) -> Result<(), Buf>;

    /// Sends what is queued, and takes back what was sent.
    fn flush(&mut self, pool: &mut Pool);

    /// Nothing moves: the link is down, or the device gone.
    fn is_stalled(&self) -> bool;
}

impl Ring for Xsk {
    #[inline]
    fn receive(&mut self, pool: &mut Pool, out: &mut Vec<RxFrame>, budget: usize) -> usize {
        Xsk::receive(self, pool, out, budget)
    }

    #[inline]
    fn transmit(&mut self, pool: &mut Pool, buf: Buf, off: u32, len: u32) -> Result<(), Buf> {
        Xsk::transmit(self, pool, buf, off, len)
    }

    #[inline]
    fn flush(&mut self, pool: &mut Pool) {
        Xsk::flush(self, pool);
    }

    #[inline]
    fn is_stalled(&self) -> bool {
        Xsk::is_stalled(self)
    }
}

/// The types of both.
pub trait Devices {
    /// Local ports.
    type Port: LocalPort;
    /// Rings of the underlay.
    type Ring: Ring;
}

/// TAPs and AF_XDP rings.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {}

impl Devices for Kernel {
    type Port = Tap;
    type Ring = Xsk;
}
