//! What happened to the datagrams of a flush.

use std::net::IpAddr;

use super::Dest;
use super::queue::Message;

/// The least path MTU that is believed, in bytes. IPv6 has no less (RFC 8200 §5); of IPv4 every host takes
/// that much (RFC 791 §3.1), and a path below it is a forger's rather than a real one.
pub const fn least_mtu(dest: IpAddr) -> u32 {
    match dest {
        IpAddr::V4(_) => 576,
        IpAddr::V6(_) => 1280,
    }
}

/// A path MTU learnt from the kernel.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct PathMtuNews {
    /// Address of the peer.
    pub dest: IpAddr,
    /// Largest outer IP packet in bytes, as the kernel now believes (from ICMP, a route or the device).
    pub mtu: u32,
}

/// A destination that is said to be unreachable.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct UnreachableNews {
    /// Address of the peer.
    pub dest: IpAddr,
    /// The error number: of ICMP (`ECONNREFUSED`, `EHOSTUNREACH`, …), or of a send for which there is no route.
    pub errno: i32,
}

/// Segmentation offload was switched off.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct GsoDisabled {
    /// The error number the kernel gave: `EIO` = the egress device cannot, `EINVAL` = the socket cannot.
    pub errno: i32,
    /// The outer IPv4 checksum is zero from now on.
    pub zero_checksum: bool,
}

/// Datagrams lost in transmission, by cause.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct TxDrops {
    /// The socket's or the device's queue is full (`EAGAIN`, `ENOBUFS`, `ENOMEM`).
    pub full: u64,
    /// Longer than the path MTU (`EMSGSIZE`); see [`TxReport::path_mtu`].
    pub too_long: u64,
    /// No route, or an ICMP error, and again when tried anew (`ENETUNREACH`, `EHOSTUNREACH`,
    /// `ECONNREFUSED`, `ENETDOWN`, …).
    pub unreachable: u64,
    /// A firewall of the node forbids it (`EPERM`, `EACCES`).
    pub denied: u64,
    /// Pieces that point outside the pool or the slab: a bug of the caller.
    pub invalid: u64,
    /// Any other error; see [`TxReport::last_errno`].
    pub other: u64,
}

impl TxDrops {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.full + self.too_long + self.unreachable + self.denied + self.invalid + self.other
    }
}

/// What happened since the report was cleared. Datagrams pushed = `datagrams` + `drops.total()`.
#[derive(Debug)]
pub struct TxReport {
    /// Messages handed to the kernel (one may stand for 64 datagrams).
    pub messages: u64,
    /// Datagrams handed to the kernel.
    pub datagrams: u64,
    /// UDP payload bytes handed to the kernel.
    pub bytes: u64,
    /// Datagrams lost.
    pub drops: TxDrops,
    /// ICMP errors the node got about what we sent, of any kind.
    pub icmp_errors: u64,
    /// Path MTUs learnt, each destination once; at most 64 are kept.
    pub path_mtu: Vec<PathMtuNews>,
    /// Path MTUs claimed that no path has ([`least_mtu`]), and that were therefore not believed.
    pub path_mtu_ignored: u64,
    /// Destinations that are said to be unreachable, each once; at most 64 are kept.
    pub unreachable: Vec<UnreachableNews>,
    /// Set when segmentation offload was switched off, once in the life of an underlay.
    pub gso_disabled: Option<GsoDisabled>,
    /// The error number of the latest `unreachable` or `other` drop; 0 = none.
    pub last_errno: i32,
}

impl TxReport {
    const MAX_NEWS: usize = 64;

    /// An empty report with all its capacity.
    pub fn new() -> TxReport {
        TxReport {
            messages: 0,
            datagrams: 0,
            bytes: 0,
            drops: TxDrops::default(),
            icmp_errors: 0,
            path_mtu: Vec::with_capacity(Self::MAX_NEWS),
            path_mtu_ignored: 0,
            unreachable: Vec::with_capacity(Self::MAX_NEWS),
            gso_disabled: None,
            last_errno: 0,
        }
    }

    /// Empties the report, keeping its capacity.
    pub fn clear(&mut self) {
        let mut path_mtu = std::mem::take(&mut self.path_mtu);
        path_mtu.clear();
        let mut unreachable = std::mem::take(&mut self.unreachable);
        unreachable.clear();
        *self = TxReport {
            path_mtu,
            path_mtu_ignored: 0,
            unreachable,
            messages: 0,
            datagrams: 0,
            bytes: 0,
            drops: TxDrops::default(),
            icmp_errors: 0,
            gso_disabled: None,
            last_errno: 0,
        };
    }

    /// Counts messages the kernel took.
    pub(super) fn sent(&mut self, messages: &[Message]) {
        self.messages += messages.len() as u64;
        for message in messages {
            self.datagrams += u64::from(message.datagrams);
            self.bytes += u64::from(message.bytes);
        }
    }

    /// Notes a path MTU; the latest per destination counts.
    pub(super) fn learn(&mut self, dest: IpAddr, mtu: u32) {
        if mtu < least_mtu(dest) {
            self.path_mtu_ignored += 1;
        } else if let Some(known) = self.path_mtu.iter_mut().find(|news| news.dest == dest) {
            known.mtu = mtu;
        } else if self.path_mtu.len() < Self::MAX_NEWS {
            self.path_mtu.push(PathMtuNews { dest, mtu });
        }
    }

    /// Notes what an error says of a destination, if it says that it is unreachable.
    pub(super) fn heard(&mut self, dest: IpAddr, errno: i32) {
        let known = self.unreachable.iter().any(|news| news.dest == dest);
        if is_unreachable(errno) && !known && self.unreachable.len() < Self::MAX_NEWS {
            self.unreachable.push(UnreachableNews { dest, errno });
        }
    }

    /// Counts datagrams lost to `errno`.
    pub(super) fn lost(&mut self, errno: i32, datagrams: u64) {
        let count = match errno {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => &mut self.drops.full,
            libc::EMSGSIZE => &mut self.drops.too_long,
            libc::EPERM | libc::EACCES => &mut self.drops.denied,
            libc::EFAULT => &mut self.drops.invalid,
            _ => {
                self.last_errno = errno;
                if is_unreachable(errno) {
                    &mut self.drops.unreachable
                } else {
                    &mut self.drops.other
                }
            }
        };
        *count += datagrams;
    }
}

impl Default for TxReport {
    fn default() -> Self {
        Self::new()
    }
}

fn is_unreachable(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ECONNREFUSED
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EADDRNOTAVAIL
            | libc::ENODEV
            | libc::ENXIO
    )
}

impl From<Dest> for IpAddr {
    fn from(dest: Dest) -> IpAddr {
        let v6 = std::net::Ipv6Addr::from(dest.addr);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }
}
