//! Where live trace and capture hook: each frame at its verdict, and where its outer frame is made, before
//! its buffer can be used again.
//!
//! A visit asks once whether anybody observes ([`Round`](crate::Round)). If not it runs code in which
//! nothing of this is left: [`Off`] compiles to nothing. Several may observe, each by itself: a capture
//! ([`capture`]), a live trace ([`steps`]).

pub mod capture;
mod saved;
pub mod steps;

use ringway_ports::{Frame, Pool, Slice};
use ringway_switch::trace::{Off, Sink, Step};
use ringway_switch::{Contents, Tunnel, Verdict};
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
    /// Whom it is sent to, if it is sent to a peer.
    pub to: Option<PeerId>,
    /// What its bytes are.
    pub contents: Contents,
    /// Its length, packets and offloads.
    pub frame: &'a Frame,
    pub(crate) pool: &'a Pool,
    pub(crate) tail: &'a [Slice],
}

impl<'a> Observed<'a> {
    /// Its bytes, from the Ethernet header on, in one piece or more.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        self.pool.pieces(self.frame, self.tail).flatten()
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

/// Names an observer among those of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObserverId(pub u64);

/// Who observes. Called on the worker's thread: what it takes, packets wait for.
pub trait Observer: Send {
    /// A frame of `len` bytes, as it came in: those of its bytes that anything might rewrite.
    fn arrived(&mut self, head: &[u8], len: usize) {
        let _ = (head, len);
    }

    /// The pipeline has found something out about the frame whose verdict comes next.
    fn step(&mut self, step: &Step) {
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

/// Those who observe a worker.
#[derive(Default)]
pub(crate) struct Observers(Vec<(ObserverId, Box<dyn Observer>)>);

impl Observers {
    pub(crate) fn add(&mut self, id: ObserverId, observer: Box<dyn Observer>) {
        self.remove(id);
        self.0.push((id, observer));
    }

    pub(crate) fn remove(&mut self, id: ObserverId) {
        self.0.retain(|(known, _)| *known != id);
    }

    /// None, if nobody does.
    #[inline]
    pub(crate) fn some(&mut self) -> Option<&mut (dyn Observer + 'static)> {
        match self.0.is_empty() {
            true => None,
            false => Some(self),
        }
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Box<dyn Observer>> {
        self.0.iter_mut().map(|(_, observer)| observer)
    }
}

impl Observer for Observers {
    fn arrived(&mut self, head: &[u8], len: usize) {
        self.each().for_each(|observer| observer.arrived(head, len));
    }

    fn step(&mut self, step: &Step) {
        self.each().for_each(|observer| observer.step(step));
    }

    fn verdict(&mut self, frame: &Observed<'_>) {
        self.each().for_each(|observer| observer.verdict(frame));
    }

    fn outer(&mut self, outer: &Outer<'_>) {
        self.each().for_each(|observer| observer.outer(outer));
    }
}

/// Somebody observes.
pub(crate) struct On<'a>(pub(crate) &'a mut dyn Observer);

impl Sink for On<'_> {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.0.step(&step());
    }

    fn arrived<'a>(&mut self, frame: impl FnOnce() -> (&'a [u8], usize)) {
        let (head, len) = frame();
        self.0.arrived(head, len);
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
