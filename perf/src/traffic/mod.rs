//! Real traffic between namespaces, made by threads of this process.
//!
//! Each function starts threads inside the namespaces it is given ([`crate::lab::Netns::run`]),
//! ends within a bounded time, and checks what arrives byte for byte against what was sent.

mod cpu;
mod echo;
mod flood;
mod iperf;
mod localhost;
mod memory;
mod outage;
mod pattern;
mod ping;
mod probe;
mod rtt;
mod seen;
mod stats;
mod stream;
mod tcp;
mod transfer;
mod udp_pair;

pub use cpu::{cpu_time, machine_cpu_time, measure_cpu};
pub use echo::{DNS_SIZES, UdpEcho, echo_sizes};
pub use flood::{Flood, udp_flood, udp_flood_during};
pub use iperf::{Throughput, throughput};
pub use localhost::{answer_once, shared_localhost};
pub use memory::{Memory, memory};
pub use outage::{Outage, OutageProbe};
pub use pattern::{Mismatch, Pattern};
pub use ping::{PingReport, paced_ping, ping};
pub use probe::{Placed, Probe, Question, pin};
pub use rtt::tcp_round_trips;
pub use seen::{Seen, tcp_seen, udp_seen};
pub use stats::{Latency, median, spread};
pub use stream::{Stream, StreamReport};
pub use transfer::{Transfer, transfer};

use crate::lab::LabError;
use std::io;

/// Why traffic did not get through, or not unharmed.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A socket call failed or timed out.
    #[error("{what}: {source}")]
    Io {
        /// Which step of which exchange.
        what: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Something else arrived than was sent.
    #[error("{what}: {mismatch}")]
    Corrupt {
        /// Which exchange.
        what: String,
        /// Where it differs first.
        mismatch: Mismatch,
    },
    /// Fewer bytes arrived than were sent, and then the end.
    #[error("{what}: ended after {got} of {wanted} bytes")]
    Short {
        /// Which exchange.
        what: String,
        /// Bytes received.
        got: u64,
        /// Bytes sent.
        wanted: u64,
    },
    /// A measuring program printed something unexpected.
    #[error("{program}: {found}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it said.
        found: String,
    },
}

impl TrafficError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> TrafficError {
        let what = what.into();
        move |source| TrafficError::Io { what, source }
    }
}

/// Result of traffic.
pub type Result<T> = std::result::Result<T, TrafficError>;
