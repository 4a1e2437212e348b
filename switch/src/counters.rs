//! Counters: what came in, what became of it, at which port, to and from which peer.
//!
//! Each worker has one [`Counters`] and is its only writer; anybody may read at any time. A cell is
//! written with a plain load and store (no locked instruction), so it costs what a field costs.
//! The law that every test asserts: `received = delivered + tunnelled + answered + ignored +
//! dropped`, in frames and in packets; what is lost after its verdict, at the transmitting port,
//! is counted in `lost` by the same reasons.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringway_tables::{MAX_PEERS, MAX_PORTS, PeerId, PortId};

use crate::reason::{DropReason, IgnoreReason};
use crate::verdict::Verdict;

/// One counter with a single writer.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`; only the worker that owns the counters may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Starts again at zero; only the worker that owns the counters may call it.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Frames as handled, and the packets on the wire they stand for.
#[derive(Debug, Default)]
pub struct Pair {
    /// Frames; a superframe is one.
    pub frames: Cell,
    /// Wire packets; a superframe is as many as it has segments.
    pub packets: Cell,
}

impl Pair {
    /// Adds one frame of `packets` wire packets.
    #[inline]
    pub fn add(&self, packets: u32) {
        self.frames.add(1);
        self.packets.add(u64::from(packets));
    }
}

/// One direction of a port or a peer.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frames and packets.
    pub count: Pair,
    /// Bytes of frames, Ethernet header included, superframes with one header.
    pub bytes: Cell,
}

impl Traffic {
    /// Adds one frame.
    #[inline]
    pub fn add(&self, packets: u32, bytes: usize) {
        self.count.add(packets);
        self.bytes.add(bytes as u64);
    }

    fn reset(&self) {
        self.count.frames.reset();
        self.count.packets.reset();
        self.bytes.reset();
    }
}

/// Counters of one port or one peer.
#[derive(Debug)]
pub struct Side {
    /// Received from it.
    pub rx: Traffic,
    /// Handed to it.
    pub tx: Traffic,
    /// What it sent and was dropped, and what was lost on its way to it, by reason; in wire packets.
    pub drops: [Cell; DropReason::COUNT],
}

impl Default for Side {
    fn default() -> Self {
        Side {
            rx: Traffic::default(),
            tx: Traffic::default(),
            drops: std::array::from_fn(|_| Cell::default()),
        }
    }
}

impl Side {
    /// Starts again at zero, when a port number is given to another pod; only the worker that owns the
    /// counters may call it.
    pub fn reset(&self) {
        self.rx.reset();
        self.tx.reset();
        self.drops.iter().for_each(Cell::reset);
    }
}

/// Counters of one worker.
#[derive(Debug)]
pub struct Counters {
    /// Every frame that a verdict was asked for.
    pub received: Pair,
    /// Verdict: deliver to a local port.
    pub delivered: Pair,
    /// Verdict: to a peer, fragmented or not.
    pub tunnelled: Pair,
    /// Verdict: the switch answered.
    pub answered: Pair,
    /// Verdict: ignored.
    pub ignored: Pair,
    /// Verdict: dropped.
    pub dropped: Pair,
    /// Replies and errors that the switch made itself.
    pub originated: Pair,
    /// Dropped frames by reason.
    pub drops: [Cell; DropReason::COUNT],
    /// Ignored frames by reason.
    pub ignores: [Cell; IgnoreReason::COUNT],
    /// Lost after their verdict, in wire packets, by reason.
    pub lost: [Cell; DropReason::COUNT],
    /// Of what was delivered to the node: answers for a pod that go back to where their flow was translated.
    pub returned: Pair,
    /// ICMP errors not sent because of the rate limit.
    pub icmp_suppressed: Cell,
    /// Payload bytes copied in user space.
    pub copied_bytes: Cell,
    /// As many as the tables take.
    ports: Box<[Side]>,
    peers: Box<[Side]>,
    /// Of numbers that the tables do not give: nobody's, and not shown.
    nobody: Side,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            received: Pair::default(),
            delivered: Pair::default(),
            tunnelled: Pair::default(),
            answered: Pair::default(),
            ignored: Pair::default(),
            dropped: Pair::default(),
            originated: Pair::default(),
            drops: std::array::from_fn(|_| Cell::default()),
            ignores: std::array::from_fn(|_| Cell::default()),
            lost: std::array::from_fn(|_| Cell::default()),
            returned: Pair::default(),
            icmp_suppressed: Cell::default(),
            copied_bytes: Cell::default(),
            ports: (0..MAX_PORTS).map(|_| Side::default()).collect(),
            peers: (0..MAX_PEERS).map(|_| Side::default()).collect(),
            nobody: Side::default(),
        }
    }
}

impl Counters {
    /// Counters of a port.
    #[inline]
    pub fn port(&self, port: PortId) -> &Side {
        self.ports.get(port.0 as usize).unwrap_or(&self.nobody)
    }

    /// Counters of a peer.
    #[inline]
    pub fn peer(&self, peer: PeerId) -> &Side {
        self.peers.get(peer.0 as usize).unwrap_or(&self.nobody)
    }

    /// Enters a frame's verdict. `side` is where the frame came from, if that is known.
    #[inline]
    pub fn account(&self, verdict: &Verdict, packets: u32, side: Option<&Side>) {
        match *verdict {
            Verdict::Deliver(_) => self.delivered.add(packets),
            Verdict::Tunnel(_) | Verdict::Fragment(_) => self.tunnelled.add(packets),
            Verdict::Answered => self.answered.add(packets),
            Verdict::Ignore(reason) => {
                self.ignored.add(packets);
                self.ignores[reason.index()].add(1);
            }
            Verdict::Drop(reason) => {
                self.dropped.add(packets);
                self.drops[reason.index()].add(1);
                if let Some(side) = side {
                    side.drops[reason.index()].add(u64::from(packets));
                }
            }
        }
    }

    /// Enters datagrams that were lost before anything of them was read: each is a frame of one packet,
    /// received and dropped.
    #[cold]
    pub fn miss(&self, reason: DropReason, datagrams: u64) {
        for pair in [&self.received, &self.dropped] {
            pair.frames.add(datagrams);
            pair.packets.add(datagrams);
        }
        self.drops[reason.index()].add(datagrams);
    }

    /// Enters packets lost after their verdict.
    pub fn lose(&self, reason: DropReason, packets: u32, side: Option<&Side>) {
        self.lost[reason.index()].add(u64::from(packets));
        if let Some(side) = side {
            side.drops[reason.index()].add(u64::from(packets));
        }
    }

    /// `received - Σ verdicts`, in frames and in packets: (0, 0) whenever the worker is between
    /// two frames.
    pub fn balance(&self) -> (i64, i64) {
        let verdicts = [
            &self.delivered,
            &self.tunnelled,
            &self.answered,
            &self.ignored,
            &self.dropped,
        ];
        let frames: u64 = verdicts.iter().map(|p| p.frames.get()).sum();
        let packets: u64 = verdicts.iter().map(|p| p.packets.get()).sum();
        (
            self.received.frames.get().wrapping_sub(frames) as i64,
            self.received.packets.get().wrapping_sub(packets) as i64,
        )
    }
}
