//! A worker's AF_XDP rings: open, close, and who has which frame meanwhile.
//!
//! The worker opens them itself, because the memory they are to use is its pool. What a closed ring had
//! comes back when the kernel has certainly let go of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ringway_ports::xsk::{Closed, Got, RxFrame, Xsk, XskConfig, XskError};
use ringway_ports::{Batch, Pool};

use super::stats::BufferStats;

/// Rings of a worker, at most.
pub const MAX_RINGS: usize = 64;
/// Frames of one visit to a ring, for each frame of the budget: a TAP's frame may be 64 KB, a ring's is one
/// packet.
const PACKETS_PER_FRAME: usize = 4;
/// Sets of numbers for rings: those open, and those closed in the last second.
const GENERATIONS: usize = 3;
/// How long the kernel may take to let go of a closed ring; it takes some milliseconds.
const RELEASE: Duration = Duration::from_secs(1);

/// A ring as it was opened.
#[derive(Clone, Debug)]
pub struct OpenedRing {
    /// Receive queue of the interface.
    pub queue: u32,
    /// The socket, for the XSKMAP.
    pub fd: Arc<std::os::fd::OwnedFd>,
    /// What was got.
    pub got: Got,
}

/// The rings.
pub(super) struct RingSet<R = Xsk> {
    pub(super) open: Vec<R>,
    closed: Vec<(Closed, Instant)>,
    /// Times rings were opened: rings closed lately must not have the numbers of those open now.
    generation: usize,
    /// Frames just received.
    pub(super) received: Vec<RxFrame>,
    /// Counts of rings closed since.
    past: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    received: u64,
    sent: u64,
    full: u64,
    starved: u64,
    stray: u64,
    rx_ring_full: u64,
    rx_dropped: u64,
    fill_ring_empty: u64,
    tx_invalid: u64,
}

impl Counts {
    fn add(&mut self, xsk: &Xsk) {
        let c = xsk.counters();
        self.received += c.received;
        self.sent += c.sent;
        self.full += c.full;
        self.starved += c.starved;
        self.stray += c.stray;
        if let Ok(s) = xsk.statistics() {
            self.rx_ring_full += s.rx_ring_full;
            self.rx_dropped += s.rx_dropped;
            self.fill_ring_empty += s.fill_ring_empty;
            self.tx_invalid += s.tx_invalid;
        }
    }
}

impl<R> RingSet<R> {
    pub(super) fn new() -> RingSet<R> {
        RingSet {
            open: Vec::new(),
            closed: Vec::new(),
            generation: 0,
            received: Vec::new(),
            past: Counts::default(),
        }
    }

    /// Frames of one visit to a ring.
    pub(super) fn budget(frames: usize) -> usize {
        frames * PACKETS_PER_FRAME
    }

    /// What so many frames are of the budget.
    pub(super) fn of_budget(frames: usize) -> usize {
        frames.div_ceil(PACKETS_PER_FRAME)
    }
}

impl RingSet {
    /// Opens a ring for each configuration, all or none; what was open is closed before.
    pub(super) fn open(
        &mut self,
        pool: &mut Pool,
        configs: &[XskConfig],
    ) -> Result<Vec<OpenedRing>, XskError> {
        self.close();
        self.reclaim(pool);
        if self.closed.len() > MAX_RINGS {
            return Err(XskError::Unreleased {
                rings: self.closed.len(),
            });
        }
        self.generation += 1;
        let numbers = self.generation % GENERATIONS * MAX_RINGS;
        let started = Instant::now();
        let mut opened = Vec::with_capacity(configs.len());
        for (i, config) in configs.iter().take(MAX_RINGS).enumerate() {
            let config = &XskConfig {
                ring: (numbers + i) as u8,
                // For all of them together: nothing else is done meanwhile.
                patience: config.patience.saturating_sub(started.elapsed()),
                ..*config
            };
            let first = self.open.first().map(|xsk| xsk.fd().clone());
            let share = first.as_ref().map(std::os::fd::AsFd::as_fd);
            match Xsk::open(pool, config, share) {
                Ok(xsk) => {
                    opened.push(OpenedRing {
                        queue: xsk.queue(),
                        fd: xsk.fd().clone(),
                        got: xsk.got().clone(),
                    });
                    self.open.push(xsk);
                }
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
        }
        self.received
            .reserve(RingSet::<Xsk>::budget(Batch::MAX_FRAMES));
        Ok(opened)
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        for xsk in self.open.drain(..) {
            self.past.add(&xsk);
            self.closed.push((xsk.close(), Instant::now()));
        }
    }

    /// Takes back the frames of rings closed long enough ago, and looks whether an open one wants to be
    /// filled: its driver may have asked a moment after it was last looked at.
    pub(super) fn reclaim(&mut self, pool: &mut Pool) {
        self.open.iter_mut().for_each(|xsk| xsk.refill(pool));
        while let Some((_, since)) = self.closed.first()
            && since.elapsed() > RELEASE
        {
            let (closed, _) = self.closed.remove(0);
            let frames = closed.reclaim(pool);
            tracing::debug!(frames, "frames of a closed ring are back");
        }
    }

    /// Frames that are being sent, by rings whose link is up.
    pub(super) fn sending(&self) -> u32 {
        let moving = self.open.iter().filter(|xsk| !xsk.is_stalled());
        moving.map(Xsk::sending).sum()
    }

    /// Wakes the drivers of all rings that are sending.
    pub(super) fn nudge(&mut self) {
        for xsk in self.open.iter_mut().filter(|xsk| xsk.sending() > 0) {
            xsk.nudge();
        }
    }

    /// Enters everything into `stats`.
    pub(super) fn publish(&self, pool: &Pool, stats: &BufferStats) {
        let census = pool.census();
        let sum = |of: fn(&Xsk) -> u32| self.open.iter().map(|xsk| u64::from(of(xsk))).sum();
        stats.total.store(census.total as u64, Relaxed);
        stats.free.store(census.free as u64, Relaxed);
        stats.held.store(census.held as u64, Relaxed);
        stats.in_rings.store(census.in_rings as u64, Relaxed);
        stats.filled.store(sum(Xsk::filled), Relaxed);
        stats.sending.store(sum(Xsk::sending), Relaxed);
        let mut c = self.past;
        self.open.iter().for_each(|xsk| c.add(xsk));
        for (cell, value) in [
            (&stats.received, c.received),
            (&stats.sent, c.sent),
            (&stats.full, c.full),
            (&stats.starved, c.starved),
            (&stats.stray, c.stray),
            (&stats.rx_ring_full, c.rx_ring_full),
            (&stats.rx_dropped, c.rx_dropped),
            (&stats.fill_ring_empty, c.fill_ring_empty),
            (&stats.tx_invalid, c.tx_invalid),
        ] {
            cell.store(value, Relaxed);
        }
    }
}
