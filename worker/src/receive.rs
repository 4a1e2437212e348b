//! From a peer: what sockets and rings bring, as the pipeline takes it.
//!
//! ```text
//!   recvmmsg ▶ buffers, each with datagrams of one size ▶ Pipeline::from_datagrams ─┐
//!   ring ▶ frames ▶ Pipeline::from_frames ──────────────────────────────────────────┴▶ Pipeline::next ▶ frames
//! ```
//!
//! The buffers stay here until everything in them has been delivered or dropped. A frame's tail is entered in
//! the batch, for a port to gather.

use ringway_encap::Encap;
use ringway_packet::parse::Parsed;
use ringway_ports::socket::{Datagrams, Received};
use ringway_ports::xsk::RxFrame;
use ringway_ports::{Batch, BufId, Frame, Pool, SHARED, Slice, Tail};
use ringway_switch::arrivals::Run;
use ringway_switch::{Arrival, Arrivals, Message, Options, OuterFrame, Pipeline};
use ringway_tables::Snapshot;

/// Scratch of the receive side, reused.
pub(crate) struct Scratch {
    pub(crate) received: Received,
    pub(crate) arrivals: Arrivals<BufId>,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch {
            received: Received::new(),
            arrivals: Arrivals::new(),
        }
    }

    /// Enters what a socket of this encapsulation received.
    pub(crate) fn datagrams(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        pool: &mut Pool,
        encap: Encap,
        options: Options,
    ) {
        let messages = self.received.datagrams.iter();
        let messages = messages.map(|datagrams| message(datagrams, encap));
        pipeline.from_datagrams(snapshot, &mut self.arrivals, pool, options, messages);
    }

    /// Enters whole frames from a ring. Their buffers join those of `received`.
    pub(crate) fn frames(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        pool: &mut Pool,
        frames: &mut Vec<RxFrame>,
        options: Options,
    ) {
        let outer = frames.iter().map(|frame| OuterFrame {
            buf: frame.buf.id(),
            start: frame.off,
            len: frame.len,
        });
        pipeline.from_frames(snapshot, &mut self.arrivals, pool, options, outer);
        let buffers = frames.drain(..).map(|frame| frame.buf);
        self.received.buffers.extend(buffers);
    }

    /// Frames that were entered.
    pub(crate) fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Bytes and headers of each.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (u32, Option<Parsed>)> {
        self.arrivals.headers()
    }
}

/// A frame as ports take it, its tail entered in `batch`.
#[inline]
pub(crate) fn frame(arrival: &Arrival<BufId>, tail: &[Run<BufId>], batch: &mut Batch) -> Frame {
    let mut frame = Frame {
        buf: arrival.buf,
        start: arrival.start,
        linear: arrival.linear,
        len: arrival.len,
        tail: Tail::default(),
        offload: arrival.offload,
        packets: arrival.packets as u16,
        port: 0,
        slot: SHARED,
    };
    if !tail.is_empty() {
        // A batch has a slice for every inner frame.
        debug_assert!(batch.slices.len() + tail.len() <= batch.slices.capacity());
        let slices = tail.iter().map(|run| Slice {
            buf: run.buf,
            off: run.off,
            len: run.len,
        });
        frame.tail.first = batch.slices.len() as u32;
        frame.tail.count = tail.len() as u32;
        batch.slices.extend(slices);
    }
    frame
}

fn message(datagrams: &Datagrams, encap: Encap) -> Message<BufId> {
    Message {
        buf: datagrams.buf,
        start: datagrams.start,
        len: datagrams.len,
        segment: datagrams.segment,
        source: datagrams.source,
        tos: datagrams.tos,
        encap,
        congested: datagrams.congested,
    }
}
