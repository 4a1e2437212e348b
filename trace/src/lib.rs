//! Traces: a packet through this node's pipeline, and what comes of it in words.
//!
//! ```text
//!   description ▶ frame, as its sender's kernel makes it ─┐
//!   frame of a capture, or of another node's trace ───────┴▶ Tracer on the tables as they are ▶ steps ▶ words
//!   live: workers' steps ────────────────────────────────────────────────────────────────────▶ words
//! ```
//!
//! Nothing is explained a second time: steps and verdict are the pipeline's, cause and remedy those of
//! `switch/src/reason.rs`; here they get names for numbers.

pub mod answer;
mod error;
mod frame;
mod next;
mod words;

use std::net::IpAddr;

use ringway_control::captures::TraceBasis;
use ringway_packet::mac::MacAddr;
use ringway_switch::Options;
use ringway_worker::epoch;
use ringway_worker::observe::steps::Seen;
use ringway_worker::trace::{Basis, Tracer};

use answer::{Answer, Trace};
pub use error::TraceError;
pub use next::{from_here, hex, on_node};
use words::Words;
pub use words::ends;

/// Frames of one datagram that are shown.
const SHOWN: usize = 8;

/// Where a packet comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// From a pod, by its name.
    Pod(String),
    /// From the node's own stack.
    Node,
    /// From a peer, by its name.
    Peer(String),
    /// From the underlay, outer headers and all.
    Underlay,
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The first packet of a connection to this port.
    Tcp(u16),
    /// A datagram to this port.
    Udp(u16),
    /// An echo request.
    Icmp,
}

/// A packet in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Destination.
    pub to: IpAddr,
    /// What it is.
    pub protocol: Protocol,
    /// Source port.
    pub src_port: u16,
    /// Bytes of the IP packet; none: as few as can be.
    pub size: Option<u16>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// Another source MAC than the sender's own.
    pub mac: Option<MacAddr>,
    /// Another source address.
    pub source: Option<IpAddr>,
    /// IPv4 without DF.
    pub fragmentable: bool,
}

/// What is to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// To be built.
    Described(Described),
    /// As it is.
    Frame {
        /// Its bytes. From a peer: the inner frame.
        bytes: Vec<u8>,
        /// From a peer: they are the payload of the outer packet, from the tunnel's own header on.
        outer: bool,
        /// It is a superframe: payload bytes of each packet.
        segment: Option<u16>,
    },
}

/// A trace that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the packet comes in.
    pub from: From,
    /// The packet.
    pub packet: Packet,
}

/// Runs a trace.
///
/// # Errors
/// What is asked for is not there, or cannot be built.
pub fn run(basis: &TraceBasis, request: &Request) -> Result<Answer, TraceError> {
    let mut tracer = Tracer::default();
    let on = Basis {
        tables: &basis.tables,
        returns: &basis.returns,
        ports: basis.ports,
        options: Options {
            unfinished: basis.unfinished,
            udp_superframes: true,
            coalesce: true,
        },
        now: epoch().elapsed().as_nanos() as u64,
    };
    let words = Words::new(&basis.tables, basis.decider);
    let built = frame::build(&mut tracer, &on, request)?;
    let mut traces = Vec::new();
    for input in &built {
        let given = input.given();
        let traced = tracer.run(&on, &given).map_err(TraceError::TooLong)?;
        for traced in traced {
            traces.push(words.trace(input, &traced));
        }
    }
    let more = traces.len().saturating_sub(SHOWN);
    traces.truncate(SHOWN);
    Ok(Answer { traces, more })
}

/// What a worker has seen of a frame, and the source port of the first outer packet of it.
pub fn seen(basis: &TraceBasis, seen: &Seen, src_port: Option<u16>) -> Trace {
    Words::new(&basis.tables, basis.decider).seen(seen, src_port)
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;
