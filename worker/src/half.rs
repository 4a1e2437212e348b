//! Either half of a worker's way between a ring and its ports, for whoever measures it alone.
//!
//! The same code as in a worker (`Io::serve_ring` and `Io::tunnel`), without the worker: the ring is the
//! caller's, and in the place of TAPs there is any port.

use ringway_encap::Encap;
use ringway_ports::xsk::{RxFrame, Xsk};
use ringway_ports::{Batch, Pool, Port};
use ringway_switch::trace::Off;
use ringway_switch::{DropReason, Pipeline, Verdict};
use ringway_tables::{PortId, Snapshot};

use super::identification::Identifications;
use super::receive::{Kind, Opener};
use super::ring;
use super::view::{frame_of, packet_of};

/// Outer source port.
const SRC_PORT: u16 = 49_152;

/// Scratch of both halves, reused.
pub struct RingHalf {
    opener: Opener,
    received: Vec<RxFrame>,
    ids: Identifications,
}

impl Default for RingHalf {
    fn default() -> RingHalf {
        RingHalf {
            opener: Opener::new(),
            received: Vec::new(),
            ids: Identifications::new(0, 1),
        }
    }
}

impl RingHalf {
    /// Receives at most `budget` frames from the ring, opens and coalesces them, and gives `port` what the
    /// pipeline delivers. Returns the frames received. `unfinished`: their checksums may be.
    #[allow(clippy::too_many_arguments)]
    pub fn receive(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        xsk: &mut Xsk,
        pool: &mut Pool,
        batch: &mut Batch,
        port: &mut impl Port,
        budget: usize,
        unfinished: bool,
    ) -> usize {
        let got = xsk.receive(pool, &mut self.received, budget);
        let kind = Kind {
            encap: Encap::Udp,
            uso: true,
            unfinished,
        };
        let opener = &mut self.opener;
        opener.open_frames(snapshot, pipeline, pool, &mut self.received, kind);
        for i in 0..opener.len() {
            let Some(opened) = opener.take(i, snapshot, pool, batch) else {
                continue;
            };
            let mut packet = packet_of(pool, &opened.frame);
            let verdict = pipeline.from_peer(
                snapshot,
                opened.peer,
                opened.encap,
                opened.tos,
                &mut packet,
                opened.parsed,
                0,
                &mut Off,
            );
            let frame = frame_of(&packet, &opened.frame);
            if let Verdict::Deliver(at) = verdict
                && port.transmit(pool, batch, &frame).is_err()
            {
                let counters = pipeline.counters();
                let side = Some(counters.port(at));
                counters.lose(DropReason::PortRefused, u32::from(frame.packets), side);
            }
            pipeline.outbox().clear();
        }
        opener.received.recycle(pool);
        batch.slices.clear();
        got
    }

    /// Takes the frames of `batch` through the pipeline and sends those for a peer by the ring. The batch
    /// is empty afterwards.
    pub fn transmit(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        xsk: &mut Xsk,
        pool: &mut Pool,
        batch: &mut Batch,
    ) {
        for i in 0..batch.frames.len() {
            let mut frame = batch.frames[i];
            let mut packet = packet_of(pool, &frame);
            let from = PortId(frame.port);
            let verdict = pipeline.from_port(snapshot, from, &mut packet, 0, &mut Off);
            frame = frame_of(&packet, &frame);
            batch.frames[i] = frame;
            pipeline.outbox().clear();
            let (tunnel, fragment) = match verdict {
                Verdict::Tunnel(tunnel) => (tunnel, false),
                Verdict::Fragment(tunnel) => (tunnel, true),
                _ => continue,
            };
            let counters = pipeline.counters();
            let sent = match snapshot.path(tunnel.path) {
                Some(path) => ring::Sender {
                    may_lend: true,
                    ids: &mut self.ids,
                    src_port: SRC_PORT,
                    xsk,
                    pool,
                    batch,
                    counters,
                }
                .send(snapshot, path, &tunnel, &frame, fragment),
                None => Err(ring::Lost {
                    reason: DropReason::NoPath,
                    packets: u32::from(frame.packets),
                }),
            };
            if let Err(lost) = sent {
                counters.lose(lost.reason, lost.packets, None);
            }
        }
        xsk.flush(pool);
        batch.recycle(pool);
    }
}
