//! Our own packet generator and sink, for machines without the kernel's pktgen.
//!
//! ```text
//!   generate:  Pace ─▶ Frames (size mix, flows, stamp) ─▶ Outlet ══ AF_XDP ring | AF_PACKET socket ══▶
//!   sink:      ══ AF_XDP ring | AF_PACKET socket ══▶ Inlet ─▶ Tally (lost, duplicated, reordered, latency)
//! ```
//!
//! Every datagram carries a [`Stamp`]: run, sequence number, time of sending. The clock is CLOCK_MONOTONIC,
//! one for all network namespaces of a machine; between machines latencies mean nothing, and the sink says
//! how many it left out. The stamp is written when a burst is made, so a latency includes the making and
//! sending of the burst it is part of, and ends when the sink's thread has the packet.
//!
//! A frame's size is counted from its Ethernet header to the end of its payload, without the 4 bytes of
//! frame check sequence that RFC 2544 section 9 counts in.

mod between;
mod clock;
mod error;
mod frames;
mod generate;
mod inlet;
mod latency;
mod mix;
mod outlet;
mod pace;
mod queue;
mod route;
mod send;
mod sink;
mod stamp;
mod tally;
mod window;

pub use between::{Between, Load, Outcome};
pub use error::LoadError;
pub use frames::{Flow, Frames};
pub use generate::{Args as GenerateArgs, run as generate};
pub use inlet::{Inlet, count_until};
pub use latency::Quantiles;
pub use mix::Mix;
pub use outlet::Outlet;
pub use pace::{Pace, Step};
pub use route::{NextHop, next_hop};
pub use send::{Plan, Sent, send};
pub use sink::{Args as SinkArgs, run as sink};
pub use stamp::{Kind, STAMP, Stamp};
pub use tally::{Counts, Tally};

/// UDP port that packets go to unless told otherwise: discard (RFC 863).
pub const PORT: u16 = 9;

/// How frames leave and arrive.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Io {
    /// AF_XDP on an interface with one queue whose driver has it, else AF_PACKET
    #[default]
    Auto,
    /// A ring of queue 0
    Xdp,
    /// A packet socket
    Packet,
}

impl std::fmt::Display for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Io::Auto => "auto",
            Io::Xdp => "xdp",
            Io::Packet => "packet",
        })
    }
}

impl Io {
    /// What `auto` comes to on an interface of the calling thread's namespace. A TAP can do XDP, but its
    /// program would be at the wrong end: what is written to it from the other side.
    fn resolve(self, interface: &str) -> Io {
        match self {
            Io::Auto => {
                let driver = ringway_ports::ethtool::driver(interface).ok().flatten();
                let channels = ringway_ports::ethtool::channels(interface).ok().flatten();
                let queues = channels.map_or(1, |channels| channels.rx_queues().max(1));
                match driver.as_deref() {
                    None | Some("tun" | "bridge" | "bonding" | "vxlan") => Io::Packet,
                    Some(_) if queues > 1 => Io::Packet,
                    Some(_) => Io::Xdp,
                }
            }
            told => told,
        }
    }
}
