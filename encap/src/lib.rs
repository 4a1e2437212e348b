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

use outer::ETHERNET_LEN;
use ringway_packet::parse::{self, ParseError, Parsed};

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

/// What an encapsulation carries.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Carries {
    /// Ethernet frames.
    Frames,
    /// IP packets: a frame's Ethernet header stays behind, and is made anew at the other end.
    Packets,
}

/// What an encapsulation goes over: the header in front of its own.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Transport {
    /// UDP datagrams.
    Udp,
}

impl Encap {
    /// What it carries.
    #[inline]
    pub const fn carries(self) -> Carries {
        match self {
            Encap::Vxlan { .. } => Carries::Frames,
            Encap::Udp => Carries::Packets,
        }
    }

    /// What it goes over.
    #[inline]
    pub const fn over(self) -> Transport {
        match self {
            Encap::Vxlan { .. } | Encap::Udp => Transport::Udp,
        }
    }

    /// Bytes of its own header, between that of its [transport](Self::over) and what is carried: 8 for
    /// VXLAN, 0 for UDP.
    #[inline]
    pub const fn header_len(self) -> usize {
        match self {
            Encap::Vxlan { .. } => vxlan::HEADER_LEN,
            Encap::Udp => 0,
        }
    }

    /// Writes its own header to the first [`header_len`](Self::header_len) bytes of `out`; nothing if there
    /// are fewer.
    #[inline]
    pub fn write_header(self, out: &mut [u8]) {
        match self {
            Encap::Vxlan { vni } => {
                if let Some(header) = out.first_chunk_mut() {
                    vxlan::write(vni, header);
                }
            }
            Encap::Udp => {}
        }
    }
}

impl Carries {
    /// Bytes of a frame's untagged Ethernet header that are not carried.
    #[inline]
    pub const fn left_behind(self) -> usize {
        match self {
            Carries::Frames => 0,
            Carries::Packets => ETHERNET_LEN,
        }
    }

    /// [`parse`](Self::parse), written where the caller keeps it.
    ///
    /// # Errors
    /// As [`parse::parse_into`].
    #[inline(always)]
    pub fn parse_into(
        self,
        head: &[u8],
        len: usize,
        parsed: &mut Parsed,
    ) -> Result<(), ParseError> {
        match self {
            Carries::Frames => parse::parse_into(head, len, parsed),
            Carries::Packets => parse::parse_ip_into(head, len, parsed),
        }
    }

    /// Parses what is carried; offsets are from its first byte.
    ///
    /// # Errors
    /// As [`parse::parse`].
    #[inline(always)]
    pub fn parse(self, head: &[u8], len: usize) -> Result<Parsed, ParseError> {
        let mut parsed = Parsed::default();
        self.parse_into(head, len, &mut parsed)?;
        Ok(parsed)
    }
}

impl Transport {
    /// Length of its header in bytes.
    #[inline]
    pub const fn header_len(self) -> usize {
        match self {
            Transport::Udp => outer::UDP_LEN,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_carries_over_what_behind_which_header() {
        let vxlan = Encap::Vxlan { vni: 0x0a_0b0c };
        for (encap, carries, header, left) in [
            (
                vxlan,
                Carries::Frames,
                &[8, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0][..],
                0,
            ),
            (Encap::Udp, Carries::Packets, &[][..], 14),
        ] {
            assert_eq!(encap.carries(), carries);
            assert_eq!(encap.carries().left_behind(), left);
            assert_eq!(
                (encap.over(), encap.over().header_len()),
                (Transport::Udp, 8)
            );
            assert_eq!(encap.header_len(), header.len());
            let mut out = [0xff; 12];
            encap.write_header(&mut out);
            assert_eq!(&out[..header.len()], header);
            assert!(out[header.len()..].iter().all(|byte| *byte == 0xff));
            encap.write_header(&mut []);
        }
    }
}
