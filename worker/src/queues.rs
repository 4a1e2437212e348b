//! All that a worker reads and writes, and the buffers between.

use std::sync::Arc;

use ringway_packet::steer;
use ringway_ports::tap::Slots;
use ringway_ports::{Batch, Pool};
use ringway_tables::PortId;

use super::buffers::Buffers;
use super::config::UnderlaySocket;
use super::devices::{Devices, Kernel};
use super::dropped::{DropKeeper, LastDropped};
use super::identification::Identifications;
use super::lanes::{Lane, Seen};
use super::local_ports::{LocalPorts, LocalQueue};
use super::receive::Scratch;
use super::uplink::Uplink;

/// Longest packet of a usual MTU, Ethernet header and two VLAN tags included.
const USUAL_PACKET: usize = 1522;

/// Queues and buffers of a worker: on a node TAPs, sockets and AF_XDP rings.
pub struct Queues<D: Devices = Kernel> {
    pub(crate) buffers: Buffers,
    pub(crate) ports: LocalPorts<D::Port>,
    pub(crate) uplink: Uplink<D::Ring>,
    pub(crate) scratch: Box<Scratch>,
    /// For what goes before that in `scratch`.
    side: Box<Scratch>,
    pub(crate) dropped: DropKeeper,
    /// Frames, or messages, that the visit has read.
    pub(crate) read: usize,
    /// What was read before what the visit was for: somebody may wait for an answer to it.
    pub(crate) waited_for: bool,
}

impl<D: Devices> Queues<D> {
    /// With these underlay sockets, for worker `index` of `count`. `largest`: bytes of the longest packet,
    /// Ethernet header included, that is to be sent by a ring from the buffer it was read into.
    pub fn new(
        sockets: Vec<UnderlaySocket>,
        (index, count): (usize, usize),
        largest: usize,
    ) -> Self {
        let ids = Identifications::new(index, count);
        Queues {
            buffers: Buffers::new(largest.max(USUAL_PACKET)),
            ports: LocalPorts::new(),
            uplink: Uplink::new(sockets, ids),
            scratch: Box::new(Scratch::new()),
            side: Box::new(Scratch::new()),
            dropped: DropKeeper::new(),
            read: 0,
            waited_for: false,
        }
    }

    /// Adds a local port without a bandwidth limit, which takes UDP superframes.
    pub fn add_port(&mut self, id: PortId, port: D::Port) {
        let queue = LocalQueue {
            port,
            lane: None,
            read: true,
            uso: true,
            shaper: None,
        };
        self.ports.add(id, queue);
    }

    /// Has what a local port sends come by a lane for bulk, read as [`QueueId::Bulk`](crate::QueueId::Bulk): of
    /// frames as `samples`, from their MAC addresses on, as many flows as a worker tells apart.
    ///
    /// # Errors
    /// No memory.
    pub fn add_lane<'a>(
        &mut self,
        id: PortId,
        lane: D::Port,
        samples: impl Iterator<Item = &'a [u8]>,
    ) -> std::io::Result<()> {
        let slots = Arc::new(Slots::unshared()?);
        let mut lane = Lane::new(lane, slots.clone());
        for sample in samples {
            let seen = Seen::of(sample, Batch::MAX_BYTES as u32);
            lane.enter_quiet([seen; 2].into_iter(), true, 0);
            // The first is on its way.
            slots.choose(steer::slot(sample));
        }
        if let Some(queue) = self.ports.get_mut(id) {
            queue.lane = Some(Box::new(lane));
        }
        Ok(())
    }

    /// A local port.
    pub fn port(&mut self, id: PortId) -> Option<&mut D::Port> {
        Some(&mut self.ports.get_mut(id)?.port)
    }

    /// Adds a ring, which `open` makes on the buffers. `unfinished`: checksums of what rings bring may be.
    ///
    /// # Errors
    /// That of `open`.
    pub fn add_ring<E>(
        &mut self,
        unfinished: bool,
        open: impl FnOnce(&mut Pool) -> Result<D::Ring, E>,
    ) -> Result<(), E> {
        let ring = open(&mut self.buffers.pool)?;
        self.uplink.unfinished = unfinished;
        self.uplink.rings.open.push(ring);
        Ok(())
    }

    /// Takes out the ring added last, for the caller to close.
    pub fn remove_ring(&mut self) -> Option<D::Ring> {
        self.uplink.rings.open.pop()
    }

    /// Whether runs of a flow from peers become superframes, as they do on a node unless a measurement wants
    /// a verdict for each frame.
    pub fn coalesce(&mut self, on: bool) {
        self.uplink.coalesce = on;
    }

    /// The buffers and the ring added as number `at`.
    pub fn ring(&mut self, at: usize) -> (&mut Pool, Option<&mut D::Ring>) {
        let rings = &mut self.uplink.rings.open;
        (&mut self.buffers.pool, rings.get_mut(at))
    }

    /// The last frames that were dropped.
    pub fn dropped(&self) -> &Arc<LastDropped> {
        self.dropped.kept()
    }

    /// Puts what was received aside for what goes before it, or back in its place, which must be empty.
    #[inline]
    pub(crate) fn swap_scratch(&mut self) {
        std::mem::swap(&mut self.scratch, &mut self.side);
    }

    /// Hands everything queued to the underlay.
    pub(crate) fn send(&mut self) {
        self.uplink.flush(&mut self.buffers);
    }

    /// The same, and gives the buffers in use back.
    pub fn flush(&mut self) {
        self.send();
        self.buffers.recycle();
    }
}
