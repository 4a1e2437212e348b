//! The loops that are measured against each other, one visit or batch at a time.

use std::hint::black_box;
use std::sync::Arc;

use ringway_ports::Batch;
use ringway_ports::memory::Replay;
use ringway_ports::xsk::{Carousel, RxFrame};
use ringway_switch::{Counters, DropReason, Pipeline, UdpPorts};
use ringway_tables::{PortId, Publisher, Reader};
use ringway_worker::{Outcome, QueueId, Round};

use super::Direction;
use super::frames;
use super::stage::End;
use super::xsk_rs::XskRs;
use crate::devices::MemoryPort;

/// Frames of one visit to a ring: a worker's.
pub(super) const VISIT: usize = 256;

/// Which loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Addresses from ring to ring.
    Rings,
    /// The ring type and its pool.
    Xsk,
    /// All of it.
    Ringway,
    /// The crate of that name, if it is compiled in.
    XskRs,
}

impl Who {
    /// How many there may be.
    pub(super) const COUNT: usize = 4;

    /// Those there are.
    pub(super) fn all() -> &'static [Who] {
        const ALL: [Who; Who::COUNT] = [Who::Rings, Who::Xsk, Who::Ringway, Who::XskRs];
        &ALL[..Who::COUNT - usize::from(!XskRs::COMPILED)]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Rings => "bare rings",
            Who::Xsk => "bare Xsk",
            Who::Ringway => "ringway",
            Who::XskRs => "xsk-rs",
        }
    }
}

/// What the loops work with.
pub(super) struct Loops {
    who: Who,
    direction: Direction,
    reader: Reader,
    _publisher: Publisher,
    counters: Arc<Counters>,
    pipeline: Pipeline,
    /// What a visit of ours is to.
    queue: QueueId,
    ports: Vec<PortId>,
    received: Vec<RxFrame>,
    carousel: Option<Carousel>,
    /// What bare transmit loops send.
    contents: Vec<Vec<u8>>,
}

impl Loops {
    pub(super) fn new(
        end: &mut End,
        direction: Direction,
        flows: u16,
        size: usize,
    ) -> anyhow::Result<Loops> {
        let plan = frames::plan(direction, flows, size)?;
        let counters = Arc::new(Counters::default());
        let ports: Vec<_> = plan.snapshot.ports.iter().map(|(n, _)| PortId(n)).collect();
        for port in &ports {
            end.queues.add_port(*port, MemoryPort::default());
        }
        let queue = match direction {
            Direction::Receive => QueueId::Ring(0),
            Direction::Transmit => {
                let from = PortId(plan.frames.first().map_or(0, |frame| frame.port));
                let frames = plan.frames.clone();
                let source = MemoryPort {
                    replay: Some(Replay::new(plan.frames)),
                    ..MemoryPort::default()
                };
                end.queues.add_port(from, MemoryPort::default());
                let samples = frames.iter().map(|frame| frame.bytes.as_slice());
                end.queues.add_lane(from, source, samples)?;
                QueueId::Bulk(from)
            }
        };
        let publisher = Publisher::new(plan.snapshot);
        Ok(Loops {
            who: Who::Rings,
            direction,
            reader: publisher.reader(),
            _publisher: publisher,
            pipeline: Pipeline::new(
                counters.clone(),
                UdpPorts {
                    vxlan: plan.vxlan_port,
                    udp: plan.udp_port,
                },
            ),
            counters,
            queue,
            ports,
            received: Vec::with_capacity(VISIT),
            carousel: None,
            contents: frames::on_the_wire(flows, size, (frames::OURS, frames::THEIRS), end.mac)?,
        })
    }

    /// Prepares for a slice of `who`'s.
    ///
    /// # Errors
    /// The queue cannot be handed over, or frames were lost.
    pub(super) fn begin(&mut self, end: &mut End, who: Who) -> anyhow::Result<()> {
        self.end(end)?;
        self.who = who;
        end.hand_queue(who == Who::XskRs)?;
        if let Some(theirs) = end.theirs() {
            if self.direction == Direction::Transmit {
                theirs.write(&self.contents)?;
            }
            return Ok(());
        }
        let (pool, xsk) = end.ring();
        match (self.direction, who) {
            (Direction::Transmit, Who::Rings) => {
                let some = &self.contents[..self.contents.len().min(VISIT)];
                self.carousel = Some(xsk.carousel(pool, some));
            }
            (Direction::Transmit, Who::Xsk) => {
                // What comes from the pool next has the contents already, as in the bare loop.
                let all: Vec<_> = std::iter::from_fn(|| pool.alloc_frame()).collect();
                for (buf, bytes) in all.into_iter().zip(self.contents.iter().cycle()) {
                    pool.bytes_mut(buf.id())[..bytes.len()].copy_from_slice(bytes);
                    pool.free(buf);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends a slice: every frame is where it was before.
    fn end(&mut self, end: &mut End) -> anyhow::Result<()> {
        if let Some(theirs) = end.theirs() {
            return theirs.settle();
        }
        let (pool, xsk) = end.ring();
        if let Some(carousel) = self.carousel.take() {
            xsk.end_carousel(pool, carousel);
        }
        xsk.flush(pool);
        Ok(())
    }

    /// Ends the last slice; the queue is ours again.
    ///
    /// # Errors
    /// As of [`begin`](Self::begin).
    pub(super) fn finish(&mut self, end: &mut End) -> anyhow::Result<()> {
        self.end(end)?;
        end.hand_queue(false)
    }

    /// One visit or batch; returns the packets.
    #[inline]
    pub(super) fn visit(&mut self, end: &mut End) -> anyhow::Result<usize> {
        match self.who {
            Who::Ringway => return self.round(end),
            Who::XskRs => return self.visit_theirs(end),
            Who::Rings | Who::Xsk => {}
        }
        let (pool, xsk) = end.ring();
        Ok(match (self.direction, self.who) {
            (Direction::Receive, Who::Rings) => {
                let (count, sum) = xsk.bare_receive(pool, VISIT);
                black_box(sum);
                count
            }
            (Direction::Receive, Who::Xsk) => {
                let count = xsk.receive(pool, &mut self.received, VISIT);
                let mut sum = 0u64;
                for RxFrame { buf, off, .. } in self.received.drain(..) {
                    let bytes = pool.slice(buf.id(), off + 8, 8).unwrap_or(&[]);
                    let bytes = bytes.try_into().unwrap_or_default();
                    sum = sum.wrapping_add(u64::from_le_bytes(bytes));
                    pool.free(buf);
                }
                black_box(sum);
                count
            }
            (Direction::Transmit, Who::Rings) => match &mut self.carousel {
                Some(carousel) => xsk.bare_transmit(carousel, Batch::MAX_FRAMES),
                None => 0,
            },
            (Direction::Transmit, Who::Xsk) => {
                let len = self.contents[0].len() as u32;
                let mut count = 0;
                while count < Batch::MAX_FRAMES
                    && let Some(buf) = pool.alloc_frame()
                {
                    if let Err(buf) = xsk.transmit(pool, buf, 0, len) {
                        pool.free(buf);
                        break;
                    }
                    count += 1;
                }
                xsk.flush(pool);
                count
            }
            (_, Who::Ringway | Who::XskRs) => 0,
        })
    }

    #[inline]
    fn visit_theirs(&mut self, end: &mut End) -> anyhow::Result<usize> {
        let Some(theirs) = end.theirs() else {
            return Ok(0);
        };
        match self.direction {
            Direction::Receive => {
                let (count, sum) = theirs.receive(VISIT)?;
                black_box(sum);
                Ok(count)
            }
            Direction::Transmit => theirs.transmit(Batch::MAX_FRAMES, self.contents[0].len()),
        }
    }

    /// A worker's round, with one queue to visit.
    #[inline]
    fn round(&mut self, end: &mut End) -> anyhow::Result<usize> {
        let before = self.counters.received.packets.get();
        let mut round = Round {
            snapshot: self.reader.load(),
            pipeline: &mut self.pipeline,
            queues: &mut end.queues,
            observer: None,
            now: 0,
        };
        let outcome = round.visit(self.queue, Batch::MAX_FRAMES);
        anyhow::ensure!(outcome != Outcome::Gone, "frames cannot be replayed");
        end.queues.flush();
        Ok((self.counters.received.packets.get() - before) as usize)
    }

    /// That ours did all its work: every frame was delivered or tunnelled; and that no loop lost a buffer.
    ///
    /// # Errors
    /// What was dropped or lost.
    pub(super) fn check(&self, end: &mut End) -> anyhow::Result<()> {
        let stray = end.stray();
        let (pool, xsk) = end.ring();
        let (census, counters) = (pool.census(), xsk.counters());
        anyhow::ensure!(
            census.held == 0 && stray == 0 && pool.refused_frees() == 0,
            "{}: buffers are lost: {census:?}, {stray} stray, {counters:?}",
            self.direction
        );
        let dropped: Vec<String> = DropReason::ALL
            .iter()
            .map(|r| (r.name(), self.counters.drops[r.index()].get()))
            .filter(|(_, n)| *n > 0)
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        let received = self.counters.received.packets.get();
        anyhow::ensure!(
            dropped.is_empty(),
            "{}: of {received} packets dropped: {}",
            self.direction,
            dropped.join(", ")
        );
        let ports = self.ports.iter();
        let delivered: u64 = ports
            .map(|port| end.queues.port(*port).map_or(0, |port| port.null.packets))
            .sum();
        anyhow::ensure!(
            self.direction == Direction::Transmit || delivered == received,
            "receive: {received} packets, {delivered} delivered"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loop_stands_at_its_number_and_xsk_rs_where_it_is_compiled_in() {
        for (i, who) in Who::all().iter().enumerate() {
            assert_eq!(*who as usize, i, "{}", who.name());
        }
        assert_eq!(Who::all().contains(&Who::XskRs), cfg!(feature = "xsk-rs"));
    }
}
