//! What an outer header is made of, and which combinations are refused.

use std::net::IpAddr;

use ringway_packet::mac::MacAddr;

use crate::{Encap, Transport, udp, vxlan};

/// What to put into the outer UDP checksum field.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum UdpChecksum {
    /// 0, "not computed" (RFC 768). IPv4 only: over IPv6 receivers, Linux among them, drop it
    /// unless told otherwise (RFC 6935, RFC 6936), so it is refused there.
    Zero,
    /// Computed over the pseudo-header and everything carried.
    Full,
}

/// What the header of a [`Transport`] states.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TransportSpec {
    /// UDP.
    Udp {
        /// Port the peer receives on.
        dst_port: u16,
        /// What goes into the checksum field.
        checksum: UdpChecksum,
    },
}

impl TransportSpec {
    /// That of an encapsulation as Flannel has it: VXLAN to UDP port [8472](vxlan::LINUX_PORT), UDP to
    /// [8285](udp::DEFAULT_PORT).
    pub const fn usual(encap: Encap, checksum: UdpChecksum) -> Self {
        let dst_port = match encap {
            Encap::Vxlan { .. } => vxlan::LINUX_PORT,
            Encap::Udp => udp::DEFAULT_PORT,
        };
        TransportSpec::Udp { dst_port, checksum }
    }

    /// Which transport.
    pub const fn transport(self) -> Transport {
        match self {
            TransportSpec::Udp { .. } => Transport::Udp,
        }
    }
}

/// Everything an outer header states that does not differ from packet to packet.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct OuterSpec {
    /// MAC of the underlay port.
    pub src_mac: MacAddr,
    /// MAC of the next hop on the underlay. May be zero while unknown (socket ports fill in
    /// Ethernet themselves).
    pub dst_mac: MacAddr,
    /// Our underlay address.
    pub src: IpAddr,
    /// The peer's underlay address, of the same family.
    pub dst: IpAddr,
    /// Encapsulation.
    pub encap: Encap,
    /// The header between IP and that of the encapsulation; of the transport that this goes over.
    pub transport: TransportSpec,
    /// TTL or hop limit, at least 1.
    pub ttl: u8,
    /// IPv4's "don't fragment". IPv6 knows no other way.
    pub dont_fragment: bool,
}

/// Why no header can be made from an [`OuterSpec`].
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum SpecError {
    /// Source and destination are of different families.
    #[error("underlay source {src} and destination {dst} are of different families")]
    Family {
        /// Source given.
        src: IpAddr,
        /// Destination given.
        dst: IpAddr,
    },
    /// Unspecified, multicast, or IPv4 in IPv6 clothes.
    #[error("underlay address {address} is not a unicast address of its own family")]
    Address {
        /// Address given.
        address: IpAddr,
    },
    /// An outer MAC has the group bit.
    #[error("underlay MAC {mac} is a group address")]
    Mac {
        /// MAC given.
        mac: MacAddr,
    },
    /// VNI above 24 bits.
    #[error("VNI {vni} is above {}", vxlan::VNI_MAX)]
    Vni {
        /// VNI given.
        vni: u32,
    },
    /// Destination port 0.
    #[error("outer destination port is 0, expected 1..=65535")]
    Port,
    /// TTL 0.
    #[error("outer TTL is 0, expected 1..=255")]
    Ttl,
    /// Zero UDP checksum over IPv6.
    #[error("zero UDP checksum asked for over IPv6 (RFC 8200 section 8.1 forbids it); use Full")]
    ZeroChecksumIpv6,
    /// Zero UDP checksum where packets may be fragmented.
    #[error(
        "zero UDP checksum asked for where packets may be fragmented: fragments of different packets \
         would be put together unnoticed (RFC 4963); use Full"
    )]
    ZeroChecksumFragments,
}

impl OuterSpec {
    /// Refuses what no valid frame could be made from.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.src.is_ipv4() != self.dst.is_ipv4() {
            return Err(SpecError::Family {
                src: self.src,
                dst: self.dst,
            });
        }
        for address in [self.src, self.dst] {
            let mapped = matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
            let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
            if address.is_unspecified() || address.is_multicast() || mapped || broadcast {
                return Err(SpecError::Address { address });
            }
        }
        for mac in [self.src_mac, self.dst_mac] {
            if mac.is_multicast() {
                return Err(SpecError::Mac { mac });
            }
        }
        if let Encap::Vxlan { vni } = self.encap
            && vni > vxlan::VNI_MAX
        {
            return Err(SpecError::Vni { vni });
        }
        if self.ttl == 0 {
            return Err(SpecError::Ttl);
        }
        match self.transport {
            TransportSpec::Udp { dst_port: 0, .. } => Err(SpecError::Port),
            TransportSpec::Udp {
                checksum: UdpChecksum::Zero,
                ..
            } if self.dst.is_ipv6() => Err(SpecError::ZeroChecksumIpv6),
            TransportSpec::Udp {
                checksum: UdpChecksum::Zero,
                ..
            } if !self.dont_fragment => Err(SpecError::ZeroChecksumFragments),
            TransportSpec::Udp { .. } => Ok(()),
        }
    }
}
