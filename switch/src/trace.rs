//! Trace: what the pipeline saw and decided, step by step.
//!
//! A trace is the pipeline itself run with a recording sink on a copy of a frame; there is no
//! second explanation to go stale. With [`Off`] the steps compile to nothing.

use ringway_packet::mac::MacAddr;
use ringway_packet::parse::Parsed;
use ringway_tables::{PeerId, PortId, Target};

use crate::verdict::Verdict;

/// One thing the pipeline found out.
#[derive(Clone, Debug)]
pub enum Step {
    /// The frame came in by a local port.
    FromPort(PortId),
    /// The frame came out of a tunnel from a peer.
    FromPeer(PeerId),
    /// The headers were understood.
    Parsed(Parsed),
    /// Source MAC and address are the port's own.
    Admitted,
    /// The destination MAC was looked up.
    Mac(MacAddr, Option<PortId>),
    /// A destination address was looked up (IPv4 mapped).
    Route(u128, Option<Target>),
    /// The TTL or hop limit, before it was decremented.
    Ttl(u8),
    /// The size of the largest packet on the wire against the path's MTU, in bytes.
    Size(usize, u16),
    /// An answer to what the node had translated, of a flow of the pod at this port: back to the node instead.
    Returned(PortId),
    /// The switch made an answer or an error of its own.
    Originated(&'static str),
    /// The end.
    Verdict(Verdict),
}

/// Where steps go.
pub trait Sink {
    /// Takes one step; `step` is only called by a sink that records.
    fn step(&mut self, step: impl FnOnce() -> Step);
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

impl Sink for Off {
    #[inline(always)]
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

/// Keeps every step.
#[derive(Clone, Debug, Default)]
pub struct Recorder(pub Vec<Step>);

impl Sink for Recorder {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.0.push(step());
    }
}
