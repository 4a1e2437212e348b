//! What can go wrong with a generator or a sink.

use crate::lab::LabError;
use ringway_ports::raw::RawError;
use ringway_ports::xdp::{AttachError, BpfError};
use ringway_ports::xsk::XskError;
use std::io;
use std::net::IpAddr;

/// An error of generator or sink.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A helper program or a namespace.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The interface is not there.
    #[error("no interface {interface} in this network namespace: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It has no MAC: a tunnel, a loopback.
    #[error("{interface} has no Ethernet address: name an Ethernet interface, a veth or a TAP")]
    NoMac {
        /// Its name.
        interface: String,
    },
    /// No packet socket.
    #[error("{interface}: {source}")]
    Packet {
        /// The interface.
        interface: String,
        /// Why.
        source: RawError,
    },
    /// No ring.
    #[error("{interface}: {source}; --io packet works on any interface")]
    Ring {
        /// The interface.
        interface: String,
        /// Why.
        source: XskError,
    },
    /// No program that brings a ring its frames.
    #[error("{interface}: {source}; --io packet needs no program")]
    Bpf {
        /// The interface.
        interface: String,
        /// Why.
        source: BpfError,
    },
    /// That program cannot be attached.
    #[error("{interface}: {source}; --io packet needs no program")]
    Attach {
        /// The interface.
        interface: String,
        /// Why.
        source: AttachError,
    },
    /// There is no way to the target.
    #[error("no route from here to {to}: {found}; name --interface, --from and --to-mac")]
    NoRoute {
        /// The target.
        to: IpAddr,
        /// What was found instead.
        found: String,
    },
    /// The next hop does not answer ARP or neighbour discovery.
    #[error(
        "{hop} on {interface}, the next hop to {to}, has no MAC after 2 s; name it by --to-mac"
    )]
    NoNeighbour {
        /// The target.
        to: IpAddr,
        /// The next hop.
        hop: IpAddr,
        /// On this interface.
        interface: String,
    },
    /// Addresses of two families.
    #[error("--from {from} and --to {to} are of two families")]
    Families {
        /// Source.
        from: IpAddr,
        /// Destination.
        to: IpAddr,
    },
    /// A size that cannot be.
    #[error("a frame of {size} bytes: {least} to {most} are possible")]
    Size {
        /// Its size.
        size: usize,
        /// Smallest.
        least: usize,
        /// Largest.
        most: usize,
    },
    /// More flows than there are source ports for them.
    #[error("{flows} flows from {addresses} addresses: at most {most} a source address")]
    Flows {
        /// Flows asked for.
        flows: u32,
        /// Source addresses.
        addresses: u32,
        /// Source ports in use.
        most: u32,
    },
    /// A frame could not be sent, and not for want of room.
    #[error("send by {interface} after {sent} packets: {source}")]
    Send {
        /// The interface.
        interface: String,
        /// Packets before that.
        sent: u64,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Frames can no longer be received.
    #[error("receive from {interface}: {source}; is it still there and up?")]
    Receive {
        /// The interface.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl LoadError {
    pub(super) fn interface(name: &str) -> impl FnOnce(nix::errno::Errno) -> LoadError {
        move |errno| LoadError::Interface {
            interface: name.to_owned(),
            source: errno.into(),
        }
    }
}
