//! A worker's side of the underlay: its sockets and rings, and which of them a packet goes by.
//!
//! A socket's place says what it is for: its encapsulation, its outer family, and whether it sends. One that does
//! not is at an outer address that was in use before: peers may send there as long as they know no better.

use std::time::{SystemTime, UNIX_EPOCH};

use ringway_encap::Encap;
use ringway_ports::socket::{Lane, Received, RxCounters, TxReport};
use ringway_switch::{Counters, DropReason};

use super::buffers::Buffers;
use super::codel::Codel;
use super::config::UnderlaySocket;
use super::devices::Ring;
use super::identification::Identifications;
use super::observe::Watch;
use super::queue_id::MAX_SOCKETS;
use super::ring_set::RingSet;
use super::stats::SocketCounts;
use super::transmit::{Loss, Outgoing, RingCarrier, SocketCarrier, send};

/// Sockets and rings.
pub(crate) struct Uplink<R> {
    /// By [`place`].
    pub(crate) sockets: [Option<UnderlaySocket>; MAX_SOCKETS],
    /// What each socket had counted when that was last entered.
    entered: [[RxCounters; 2]; MAX_SOCKETS],
    /// Of what stands in the sockets for bulk.
    codel: [Codel; MAX_SOCKETS],
    /// What all of them have counted.
    pub(crate) received: SocketCounts,
    pub(crate) rings: RingSet<R>,
    /// Checksums of what rings bring may be unfinished.
    pub(crate) unfinished: bool,
    /// Runs of a flow from peers become superframes.
    pub(crate) coalesce: bool,
    ids: Identifications,
    /// What the sockets have to say.
    pub(crate) report: TxReport,
}

impl<R> Uplink<R> {
    pub(crate) fn new(sockets: Vec<UnderlaySocket>, ids: Identifications) -> Uplink<R> {
        let mut uplink = Uplink {
            sockets: Default::default(),
            entered: Default::default(),
            codel: Default::default(),
            received: SocketCounts::default(),
            rings: RingSet::new(),
            unfinished: false,
            coalesce: true,
            ids,
            report: TxReport::default(),
        };
        for socket in sockets {
            uplink.set(place(socket.encap, socket.v6), Some(socket));
        }
        uplink
    }

    /// Puts another socket, or none, into a place.
    pub(crate) fn set(&mut self, at: usize, new: Option<UnderlaySocket>) {
        self.sockets[at] = new;
        (self.entered[at], self.codel[at]) = Default::default();
    }

    /// Enters what a receive socket has counted since the last time, and what of it was lost.
    #[inline]
    pub(crate) fn enter_received(&mut self, (at, lane): (usize, Lane), counters: &Counters) {
        let Some(underlay) = &self.sockets[at] else {
            return;
        };
        let now = underlay.socket.rx_counters(lane);
        let before = std::mem::replace(&mut self.entered[at][lane as usize], now);
        let new = SocketCounts {
            messages: now.messages.wrapping_sub(before.messages),
            datagrams: now.datagrams.wrapping_sub(before.datagrams),
            overflow: now.overflow.wrapping_sub(before.overflow).into(),
            truncated: now.truncated.wrapping_sub(before.truncated),
            congested: 0,
        };
        self.received.add(new);
        if new.overflow > 0 {
            counters.miss(DropReason::SocketOverflow, new.overflow);
        }
        if new.truncated > 0 {
            counters.miss(DropReason::DatagramTruncated, new.truncated);
        }
    }

    /// Finds which flows are to be told that what was read of the socket for bulk at `at` stood there too long.
    pub(crate) fn judge(&mut self, at: usize, read: &mut Received, now: u64) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.map_or(0, |since| since.as_nanos() as u64);
        let (codel, count) = (&mut self.codel[at], read.datagrams.len());
        for (i, datagrams) in read.datagrams.iter_mut().enumerate() {
            let stood = match datagrams.stamp {
                0 => 0,
                stamp => wall.saturating_sub(stamp),
            };
            let last = read.drained && i + 1 == count;
            datagrams.congested = codel.is_congested(stood, last, now);
            self.received.congested += u64::from(datagrams.congested);
        }
    }
}

impl<R: Ring> Uplink<R> {
    /// Queues a frame. By a ring, if there is one that moves and the next hop is known; the kernel's stack
    /// finds it out otherwise.
    #[inline]
    pub(crate) fn send<W: Watch>(
        &mut self,
        buffers: &mut Buffers,
        counters: &Counters,
        out: &Outgoing<'_>,
        watch: &mut W,
    ) -> Result<(), Loss> {
        let (path, hash) = (out.path, out.tunnel.hash);
        let Some(underlay) = &mut self.sockets[place(path.encap, path.dst.is_ipv6())] else {
            return Err(Loss::of(out.frame, DropReason::UnderlayUnreachable));
        };
        let socket = &mut underlay.socket;
        let rings = self.rings.open.len();
        // Segments that are to be fragmented are rare, and a socket copies them less.
        if rings > 0 && path.outer.has_next_hop() && !out.is_fragmented_superframe() {
            let ring = &mut self.rings.open[hash as usize % rings];
            if !ring.is_stalled() {
                let mut carrier = RingCarrier {
                    ring,
                    may_lend: buffers.may_lend(),
                    buffers,
                    counters,
                    ids: &mut self.ids,
                    src_port: socket.source_port(hash),
                    watch,
                };
                return send(&mut carrier, out);
            }
        }
        let mut carrier = SocketCarrier {
            socket,
            pool: &mut buffers.pool,
            report: &mut self.report,
            counters,
            watch,
        };
        send(&mut carrier, out)
    }

    /// Hands everything queued to the kernel.
    pub(crate) fn flush(&mut self, buffers: &mut Buffers) {
        for underlay in self.sockets.iter_mut().flatten() {
            underlay.socket.flush(&buffers.pool, &mut self.report);
        }
        for ring in &mut self.rings.open {
            ring.flush(&mut buffers.pool);
        }
    }
}

/// Place of the socket that sends.
#[inline]
pub(crate) fn place(encap: Encap, v6: bool) -> usize {
    let encap = match encap {
        Encap::Vxlan { .. } => 0,
        Encap::Udp => 1,
    };
    encap * 2 + usize::from(v6)
}

/// Place of the one at a former address.
pub(crate) fn former_place(encap: Encap, v6: bool) -> usize {
    MAX_SOCKETS / 2 + place(encap, v6)
}
