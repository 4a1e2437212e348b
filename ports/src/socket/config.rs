//! How an underlay socket is to be, what the kernel granted, and what can go wrong at opening.

use std::io;
use std::net::SocketAddr;

/// Whether outer packets may be fragmented. Either way the kernel's own path MTU of a destination, which
/// a forged ICMP error can lower to 552 bytes, holds no datagram back: who sends knows the path.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum PathMtu {
    /// `IP_PMTUDISC_PROBE`: DF is set, a datagram longer than the interface's MTU is refused, and what
    /// ICMP says is reported ([`TxReport::path_mtu`](super::TxReport::path_mtu)).
    #[default]
    Probe,
    /// `IP_PMTUDISC_OMIT`: DF is clear, the kernel fragments what exceeds the interface's MTU, routers
    /// the rest, and no ICMP error about a length is taken. For underlays that lose ICMP.
    Omit,
}

/// The outer UDP checksum on transmit.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum UdpChecksum {
    /// Computed, by the NIC where possible, as long as segmentation offload works; over IPv4, zero once
    /// the egress device turns out to refuse that offload.
    #[default]
    Auto,
    /// Always computed.
    On,
    /// Always zero (RFC 768; RFC 7348 §5 permits it). IPv4 only. Excludes segmentation offload.
    Off,
}

/// How to open an [`UdpUnderlay`](super::UdpUnderlay).
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct SocketConfig {
    /// Address of the node on the underlay, and the UDP port received on. Its family is the family of
    /// the underlay; an IPv6 socket is `IPV6_V6ONLY`.
    pub local: SocketAddr,
    /// Bind to this interface (`SO_BINDTODEVICE`).
    pub device: Option<String>,
    /// Outer source ports in each lane, 1 to 64, which spread flows over paths and queues; each is a socket. A
    /// ring sends from the same ports ([`UdpUnderlay::source_port`](super::UdpUnderlay::source_port)).
    pub tx_ports: usize,
    /// Workers that receive on the port; each opens its sockets, in order.
    pub workers: u32,
    /// Use segmentation offload on transmit (`UDP_SEGMENT`) where the kernel has it.
    pub gso: bool,
    /// Use receive offload (`UDP_GRO`) where the kernel has it.
    pub gro: bool,
    /// Outer checksum on transmit.
    pub checksum: UdpChecksum,
    /// Fragmentation of outer packets.
    pub path_mtu: PathMtu,
    /// Receive buffer wanted, in bytes.
    pub rcvbuf: usize,
    /// Send buffer wanted per transmit socket, in bytes.
    pub sndbuf: usize,
}

impl SocketConfig {
    /// The defaults for a node with address and receive port `local`.
    pub fn new(local: SocketAddr) -> SocketConfig {
        SocketConfig {
            local,
            device: None,
            tx_ports: 8,
            workers: 1,
            gso: true,
            gro: true,
            checksum: UdpChecksum::Auto,
            path_mtu: PathMtu::Probe,
            rcvbuf: 7 << 20,
            sndbuf: 2 << 20,
        }
    }
}

/// What the kernel granted; read back from the sockets, so it holds for adopted ones too.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Granted {
    /// Segmentation offload on transmit. Goes off for good when the egress device refuses it.
    pub gso: bool,
    /// Receive offload.
    pub gro: bool,
    /// The outer checksum is sent as zero.
    pub zero_checksum: bool,
    /// Receive buffer in bytes, as the kernel accounts it (twice what was asked for, or the limit
    /// `net.core.rmem_max` without `CAP_NET_ADMIN`).
    pub rcvbuf: usize,
    /// Send buffer in bytes, likewise.
    pub sndbuf: usize,
}

/// Why an underlay socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The receive port is taken.
    #[error("UDP port {} of address {} is taken: {holder}", .local.port(), .local.ip())]
    PortTaken {
        /// What we wanted to bind.
        local: SocketAddr,
        /// Who holds it, as far as it can be found.
        holder: super::PortHolder,
    },
    /// The address is not on this node (yet).
    #[error("address {} is not on this node; the underlay address must be configured on an interface", .local.ip())]
    NoSuchAddress {
        /// What we wanted to bind.
        local: SocketAddr,
    },
    /// The device is not there.
    #[error("cannot bind to interface {device}: {source}")]
    Device {
        /// Its name.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A number of transmit sockets out of range.
    #[error("{given} transmit ports: must be 1 to {limit}")]
    TxPorts {
        /// As configured.
        given: usize,
        /// The most allowed.
        limit: usize,
    },
    /// No free source port.
    #[error("no pair of source ports from {first} to 65535 is free on {}; end what uses them (ss -uanp), or lower underlay.source_ports", .local.ip(), first = super::lanes::FIRST_PORT)]
    NoSourcePort {
        /// The configured address.
        local: SocketAddr,
    },
    /// Zero checksums over IPv6.
    #[error(
        "udp checksum off on {local}: IPv6 receivers discard a zero UDP checksum (RFC 8200 §8.1)"
    )]
    ZeroChecksumIpv6 {
        /// The configured address.
        local: SocketAddr,
    },
    /// Any other call that failed.
    #[error("{call} for {local} failed: {source}")]
    Call {
        /// The call or option.
        call: &'static str,
        /// The configured address.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}
