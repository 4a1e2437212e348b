//! A worker's side of the underlay: its sockets and rings, and which of them a packet goes by.

use ringway_encap::Encap;
use ringway_ports::socket::TxReport;
use ringway_switch::{Counters, DropReason};

use super::Underlay;
use super::buffers::Buffers;
use super::devices::Ring;
use super::identification::Identifications;
use super::observe::Watch;
use super::rings::Rings;
use super::transmit::{Loss, Outgoing, RingCarrier, SocketCarrier, send};

/// Sockets and rings.
pub(crate) struct Uplink<R> {
    pub(crate) sockets: Vec<Underlay>,
    /// Index in `sockets` by [`place`].
    by_kind: [Option<usize>; 4],
    pub(crate) rings: Rings<R>,
    /// Checksums of what rings bring may be unfinished.
    pub(crate) unfinished: bool,
    ids: Identifications,
    /// What the sockets have to say.
    pub(crate) report: TxReport,
}

impl<R> Uplink<R> {
    pub(crate) fn new(sockets: Vec<Underlay>, ids: Identifications) -> Uplink<R> {
        let mut by_kind = [None; 4];
        for (i, socket) in sockets.iter().enumerate() {
            by_kind[place(socket.encap, socket.v6)] = Some(i);
        }
        Uplink {
            sockets,
            by_kind,
            rings: Rings::new(),
            unfinished: false,
            ids,
            report: TxReport::default(),
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
        let Some(at) = self.by_kind[place(path.encap, path.dst.is_ipv6())] else {
            return Err(Loss::of(out.frame, DropReason::UnderlayUnreachable));
        };
        let socket = &mut self.sockets[at].socket;
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
        for underlay in &mut self.sockets {
            underlay.socket.flush(&buffers.pool, &mut self.report);
        }
        for ring in &mut self.rings.open {
            ring.flush(&mut buffers.pool);
        }
    }
}

/// Place of a socket in `by_kind`.
#[inline]
fn place(encap: Encap, v6: bool) -> usize {
    let encap = match encap {
        Encap::Vxlan { .. } => 0,
        Encap::Udp => 1,
    };
    encap * 2 + usize::from(v6)
}
