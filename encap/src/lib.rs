//! Encapsulations: what goes in front of a pod's packet on its way to a peer node, and how it
//! comes off again.
//!
//! ```text
//! vxlan over IPv4   | Ethernet 14 | IPv4 20 | UDP 8 | VXLAN 8 | inner Ethernet 14 | inner IP …
//! vxlan over IPv6   | Ethernet 14 | IPv6 40 | UDP 8 | VXLAN 8 | inner Ethernet 14 | inner IP …
//! udp   over IPv4   | Ethernet 14 | IPv4 20 | UDP 8 | inner IP …
//! udp   over IPv6   | Ethernet 14 | IPv6 40 | UDP 8 | inner IP …
//! ```
//!
//! A UDP socket needs only the [`vxlan`] header; ports that carry whole frames (memory, AF_XDP)
//! use [`outer`] to push and pop everything in front of it. The crate is pure: no I/O, no clock,
//! no unsafe code. Every byte it reads is hostile.
#![forbid(unsafe_code)]

pub mod ecn;
pub mod mtu;
pub mod outer;
pub mod split;
pub mod udp;
pub mod vxlan;

/// How packets travel to a peer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Encap {
    /// RFC 7348: the inner Ethernet frame behind a VXLAN header.
    Vxlan {
        /// VXLAN network identifier, 24 bits.
        vni: u32,
    },
    /// Flannel's udp backend: the bare inner IP packet is the UDP payload.
    Udp,
}

impl Encap {
    /// Bytes between the outer UDP header and what is carried: 8 for VXLAN, 0 for UDP.
    #[inline]
    pub const fn shim_len(self) -> usize {
        match self {
            Encap::Vxlan { .. } => vxlan::HEADER_LEN,
            Encap::Udp => 0,
        }
    }
}

impl std::fmt::Display for Encap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Encap::Vxlan { vni } => write!(f, "vxlan(vni {vni})"),
            Encap::Udp => f.write_str("udp"),
        }
    }
}
