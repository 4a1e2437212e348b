//! Why a frame is refused by the parse.

/// The layer at which a frame went wrong.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Layer {
    /// Ethernet header and VLAN tags.
    Ethernet,
    /// ARP.
    Arp,
    /// IPv4 header and its lengths.
    Ipv4,
    /// IPv4 header checksum.
    Ipv4Checksum,
    /// IPv6 fixed header and its length.
    Ipv6,
    /// IPv6 extension headers.
    Ipv6Extensions,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP of either family.
    Icmp,
}

/// Why a frame is refused. Lengths are in bytes.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum ParseError {
    /// A header reaches past the linear bytes or past the end its packet states.
    #[error("{layer:?} header needs {need} bytes, {have} there")]
    Truncated {
        /// Whose header.
        layer: Layer,
        /// Its length.
        need: u16,
        /// What is there.
        have: u16,
    },
    /// More VLAN tags than [`MAX_VLAN_TAGS`](super::MAX_VLAN_TAGS).
    #[error("more than {limit} VLAN tags")]
    VlanTags {
        /// Most tags allowed.
        limit: u8,
    },
    /// Not ARP for IPv4 over Ethernet (RFC 826).
    #[error(
        "ARP hardware {hardware:#06x}, protocol {protocol:#06x}, lengths {lengths:#06x}; expected 0x0001, 0x0800, 0x0604"
    )]
    ArpFormat {
        /// `ar$hrd`
        hardware: u16,
        /// `ar$pro`
        protocol: u16,
        /// `ar$hln` and `ar$pln`
        lengths: u16,
    },
    /// A bare packet that is neither IPv4 nor IPv6.
    #[error("IP version {version}, expected 4 or 6")]
    IpVersion {
        /// Version nibble.
        version: u8,
    },
    /// Not version 4 under IPv4's EtherType.
    #[error("IP version {version} under the EtherType of IPv4")]
    Ipv4Version {
        /// Version nibble.
        version: u8,
    },
    /// IPv4 header length below 20.
    #[error("IPv4 header length {bytes}, at least 20")]
    Ipv4HeaderLength {
        /// From the IHL field.
        bytes: u16,
    },
    /// IPv4 total length below the header's or above what the frame holds.
    #[error("IPv4 total length {stated}, expected {min}..={max}")]
    Ipv4TotalLength {
        /// The field.
        stated: u16,
        /// Header length.
        min: u16,
        /// Bytes in the frame from the header on.
        max: u32,
    },
    /// IPv4 header checksum is wrong.
    #[error("IPv4 header checksum {found:#06x}, expected {expected:#06x}")]
    Ipv4Checksum {
        /// The field.
        found: u16,
        /// What it should be.
        expected: u16,
    },
    /// Not version 6 under IPv6's EtherType.
    #[error("IP version {version} under the EtherType of IPv6")]
    Ipv6Version {
        /// Version nibble.
        version: u8,
    },
    /// IPv6 payload length above what the frame holds.
    #[error("IPv6 payload length {stated}, the frame holds {max}")]
    Ipv6PayloadLength {
        /// The field.
        stated: u16,
        /// Bytes in the frame behind the fixed header.
        max: u32,
    },
    /// Too many extension headers.
    #[error("more than {limit} IPv6 extension headers")]
    Ipv6ExtensionCount {
        /// Most headers allowed.
        limit: u8,
    },
    /// Extension headers too long.
    #[error("{bytes} bytes of IPv6 extension headers, at most {limit}")]
    Ipv6ExtensionLength {
        /// Up to the header that was too much.
        bytes: u16,
        /// Most bytes allowed.
        limit: u16,
    },
    /// Hop-by-hop options not directly behind the fixed header (RFC 8200 section 4.1).
    #[error("IPv6 hop-by-hop options as extension header {index}, only the first may be")]
    Ipv6HopByHop {
        /// Position, from 0.
        index: u8,
    },
    /// Authentication header length below its fixed part (RFC 4302 section 2.2).
    #[error("authentication header length {bytes}, at least 12")]
    AuthenticationLength {
        /// From the length field.
        bytes: u16,
    },
    /// TCP header length below 20.
    #[error("TCP header length {bytes}, at least 20")]
    TcpDataOffset {
        /// From the data offset field.
        bytes: u16,
    },
    /// UDP length below 8 or above what IP carries.
    #[error("UDP length {stated}, expected 8..={max}")]
    UdpLength {
        /// The field.
        stated: u16,
        /// Bytes IP carries.
        max: u32,
    },
}

impl ParseError {
    /// The layer the error belongs to.
    pub const fn layer(&self) -> Layer {
        match self {
            ParseError::Truncated { layer, .. } => *layer,
            ParseError::VlanTags { .. } => Layer::Ethernet,
            ParseError::ArpFormat { .. } => Layer::Arp,
            ParseError::IpVersion { .. }
            | ParseError::Ipv4Version { .. }
            | ParseError::Ipv4HeaderLength { .. }
            | ParseError::Ipv4TotalLength { .. } => Layer::Ipv4,
            ParseError::Ipv4Checksum { .. } => Layer::Ipv4Checksum,
            ParseError::Ipv6Version { .. } | ParseError::Ipv6PayloadLength { .. } => Layer::Ipv6,
            ParseError::Ipv6ExtensionCount { .. }
            | ParseError::Ipv6ExtensionLength { .. }
            | ParseError::Ipv6HopByHop { .. }
            | ParseError::AuthenticationLength { .. } => Layer::Ipv6Extensions,
            ParseError::TcpDataOffset { .. } => Layer::Tcp,
            ParseError::UdpLength { .. } => Layer::Udp,
        }
    }
}
