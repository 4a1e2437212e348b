//! Trace: what the pipeline saw and decided, step by step.
//!
//! A trace is the pipeline itself run with a recording sink on a copy of a frame; there is no
//! second explanation to go stale. With [`Off`] the steps compile to nothing. A step says what was looked at and
//! which entry was found; what the entry is called, whoever shows it reads from the tables of the same moment.
//! Of a flow table that workers share a trace has a copy: [`Returns::copy`](crate::Returns::copy).

use ringway_packet::mac::MacAddr;
use ringway_packet::parse::Parsed;
use ringway_tables::{PeerId, PortId, Target};

use crate::verdict::Verdict;

/// One thing the pipeline found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The frame came in by a local port.
    FromPort(PortId),
    /// The frame came out of a tunnel from a peer.
    FromPeer(PeerId),
    /// The headers were understood.
    Parsed(Parsed),
    /// VLAN tags that name no VLAN, so many.
    Untagged(u8),
    /// Who a frame from a pod says it is from: its source MAC, and its source address, of ARP the sender's
    /// (IPv4 mapped).
    Sender(MacAddr, Option<u128>),
    /// Its destination MAC, as a peer has sent it, against this node's VTEP MAC.
    Vtep(MacAddr, MacAddr),
    /// The way back to an inner source (IPv4 mapped), which has to lead to the peer: length of the prefix, and
    /// whereto.
    Back(u128, Option<(u8, Target)>),
    /// The sender is who it says it is.
    Admitted,
    /// Somebody asks who has an address (IPv4 mapped); what the tables know.
    Neighbour(u128, Option<MacAddr>),
    /// The destination MAC was looked up.
    Mac(MacAddr, Option<PortId>),
    /// A destination address was looked up (IPv4 mapped): length of the longest prefix, and whereto.
    Route(u128, Option<(u8, Target)>),
    /// The TTL or hop limit, before it was decremented.
    Ttl(u8),
    /// The size of the largest packet on the wire against the path's MTU, in bytes.
    Size(usize, u16),
    /// An answer to what the node had translated, of a flow of the pod at this port: back to the node instead.
    Returned(PortId),
    /// The headers were written: destination and source MAC, and the TTL or hop limit.
    Rewritten(MacAddr, MacAddr, u8),
    /// The switch made an answer or an error of its own.
    Originated(&'static str),
    /// The end.
    Verdict(Verdict),
}

/// Where steps go.
pub trait Sink {
    /// Takes one step; `step` is only called by a sink that records.
    fn step(&mut self, step: impl FnOnce() -> Step);

    /// A frame of `len` bytes as it came in, before anything of it is rewritten: the bytes at hand.
    #[inline(always)]
    fn arrived<'a>(&mut self, frame: impl FnOnce() -> (&'a [u8], usize)) {
        let _ = frame;
    }
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
