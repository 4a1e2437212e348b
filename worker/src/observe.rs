//! Where live trace and capture hook: each frame at its verdict, and where its outer frame is made, before
//! its buffer can be used again.
//!
//! A visit asks once whether anybody observes ([`Round`](crate::Round)). If not it runs code in which
//! nothing of this is left: [`Off`] compiles to nothing.

use ringway_ports::{Frame, Pool, Slice};
use ringway_switch::trace::{Off, Sink, Step};
use ringway_switch::{Tunnel, Verdict};
use ringway_tables::{Path, PeerId, PortId};

/// Where a frame came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// By a local port.
    Port(PortId),
    /// By the underlay, from a peer.
    Peer(PeerId),
    /// By the underlay, from whom is not known.
    Underlay,
    /// Nowhere: the switch made it, an answer or an error. That is not counted as a verdict.
    Switch,
}

/// A frame at its verdict, as that leaves it: rewritten if it is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Where it came in.
    pub entry: Entry,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Its length, packets and offloads.
    pub frame: &'a Frame,
    pub(crate) pool: &'a Pool,
    pub(crate) tail: &'a [Slice],
}

impl<'a> Observed<'a> {
    /// Its bytes, from the Ethernet header on, in one piece or more.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let Observed {
            pool, frame, tail, ..
        } = *self;
        let head = pool.slice(frame.buf, frame.start, frame.linear);
        let tail = tail.iter().map(|s| pool.slice(s.buf, s.off, s.len));
        std::iter::once(head).chain(tail).flatten()
    }
}

/// One outer packet that was just made: a datagram, or a frame for a ring.
#[derive(Clone, Copy, Debug)]
pub struct Outer<'a> {
    /// The path it takes; `path.outer` makes the headers in front of a datagram's payload.
    pub path: &'a Path,
    /// Its flow and TOS.
    pub tunnel: &'a Tunnel,
    /// Outer source port.
    pub src_port: u16,
    /// Its bytes are the whole frame from the outer Ethernet header on, as a ring sends it. If not, they are
    /// a datagram's payload, from the tunnel's own header on, and the kernel puts the outer headers on.
    pub whole: bool,
    /// Its bytes, in one piece or two.
    pub pieces: &'a [&'a [u8]],
}

/// Who observes. Called on the worker's thread: what it takes, packets wait for.
pub trait Observer: Send {
    /// The pipeline has found something out about the frame whose verdict comes next.
    fn step(&mut self, step: Step) {
        let _ = step;
    }

    /// A frame has its verdict, which is not carried out yet.
    fn verdict(&mut self, frame: &Observed<'_>);

    /// An outer packet is made, and not sent yet.
    fn outer(&mut self, outer: &Outer<'_>);
}

/// What the data path calls. A type, so that the one that observes nothing costs nothing.
pub(crate) trait Watch: Sink {
    /// Whether anybody observes.
    const ON: bool;

    fn verdict(&mut self, frame: &Observed<'_>);

    fn outer(&mut self, outer: &Outer<'_>);
}

impl Watch for Off {
    const ON: bool = false;

    #[inline(always)]
    fn verdict(&mut self, _: &Observed<'_>) {}

    #[inline(always)]
    fn outer(&mut self, _: &Outer<'_>) {}
}

/// Somebody observes.
pub(crate) struct On<'a>(pub(crate) &'a mut dyn Observer);

impl Sink for On<'_> {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.0.step(step());
    }
}

impl Watch for On<'_> {
    const ON: bool = true;

    fn verdict(&mut self, frame: &Observed<'_>) {
        self.0.verdict(frame);
    }

    fn outer(&mut self, outer: &Outer<'_>) {
        self.0.outer(outer);
    }
}
