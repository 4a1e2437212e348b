//! What comes in from the underlay: where it lies, and what its port knows of it.

use ringway_encap::Encap;

/// A message of a datagram socket: one datagram, or several of one size (`UDP_GRO`). The outer headers are
/// off, the kernel has verified their checksums.
#[derive(Clone, Copy, Debug)]
pub struct Message<I> {
    /// Buffer that it lies in.
    pub buf: I,
    /// Offset in the buffer, of the first datagram's tunnel header.
    pub start: u32,
    /// Bytes of all datagrams.
    pub len: u32,
    /// Bytes of each datagram but the last; [`len`](Self::len) if the socket named no size.
    pub segment: u32,
    /// Outer source address, IPv4 mapped.
    pub source: u128,
    /// Outer TOS octet or traffic class.
    pub tos: u8,
    /// What the socket's port carries.
    pub encap: Encap,
    /// The first datagram's flow is to be told that it sends too much: what came there stood too long.
    pub congested: bool,
}

/// A whole outer frame, of a port that carries frames (AF_XDP, memory).
#[derive(Clone, Copy, Debug)]
pub struct OuterFrame<I> {
    /// Buffer that it lies in.
    pub buf: I,
    /// Offset in the buffer, of the Ethernet header.
    pub start: u32,
    /// Bytes.
    pub len: u32,
}

/// What is known of the link that a batch came by and of the ports it goes to.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The link may deliver checksums that its other end left to a NIC (veth). A field that is the bare sum
    /// of the pseudo-header then counts as unfinished.
    pub unfinished: bool,
    /// Every port takes UDP superframes.
    pub udp_superframes: bool,
    /// Runs of a flow become superframes. Else each frame gets a verdict of its own.
    pub coalesce: bool,
}
