//! The UDP underlay: VXLAN or UDP datagrams over ordinary sockets, with segmentation and receive offload.
//!
//! One [`UdpUnderlay`] serves one address family of one worker:
//!
//! - **Receive.** Two sockets on the tunnel port, one for each [lane](Lane). `recvmmsg` fills 64 KB pool
//!   buffers; with `UDP_GRO` a buffer holds many datagrams of one size. The messages per call follow their size, so that a call
//!   brings about 256 KB, which stays in the L2 cache.
//! - **Transmit.** A pool of sockets on different source ports, chosen by flow hash: the entropy that
//!   spreads tunnels over paths. [`push`](UdpUnderlay::push) gathers a datagram from pieces in the pool
//!   and a header slab; runs of equal datagrams to one destination become one `UDP_SEGMENT` message.
//!   [`flush`](UdpUnderlay::flush) hands everything to the kernel, one `sendmmsg` per socket in use.
//! - **Errors.** ICMP errors are read from the error queue; they make a send fail once for no fault of its
//!   own, so it is tried again. Segmentation refused by the egress device switches it off for good. A
//!   datagram over the interface's MTU is dropped; a path MTU that ICMP tells is reported. A ring sends from
//!   the same source ports, so what ICMP says of its packets is found here, too
//!   ([`drain_errors`](UdpUnderlay::drain_errors)).
//!
//! Opening ([`open_fds`]) and running ([`UdpUnderlay::adopt`]) are separate: descriptors may come from
//! another process.

mod address;
mod cmsg;
mod config;
mod errors;
mod holder;
mod lanes;
mod meminfo;
mod open;
mod queue;
mod receive;
mod report;
mod transmit;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

pub use config::{Granted, PathMtu, SocketConfig, SocketError, UdpChecksum};
pub use holder::PortHolder;
pub use lanes::{FIRST_PORT, Lane};
pub use meminfo::dropped;
pub use open::{MAX_TX_PORTS, open_fds, probe};
pub use queue::{MAX_DATAGRAMS_PER_MESSAGE, MAX_MESSAGE_BYTES, Piece, QueueFull, Src};
pub use receive::{Datagrams, Received, RxCounters};
pub use report::{GsoDisabled, PathMtuNews, TxDrops, TxReport, UnreachableNews, least_mtu};

use crate::pool::Pool;

/// Where a datagram goes, in a form that compares fast.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Dest {
    /// Address in host order, IPv4 as v4-mapped.
    pub addr: u128,
    /// UDP port.
    pub port: u16,
}

impl From<SocketAddr> for Dest {
    fn from(address: SocketAddr) -> Dest {
        Dest {
            addr: ip_bits(address.ip()),
            port: address.port(),
        }
    }
}

fn ip_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The descriptors of an underlay.
#[derive(Debug)]
pub struct SocketFds {
    /// The sockets on the tunnel port, by [`Lane`].
    pub rx: [OwnedFd; 2],
    /// The transmit sockets, each on its own source port; those for bulk behind the others.
    pub tx: Vec<OwnedFd>,
}

/// The UDP underlay of one address family and one worker.
#[derive(Debug)]
pub struct UdpUnderlay {
    rx: [receive::Receiver; 2],
    tx: transmit::Transmitter,
    granted: Granted,
}

impl UdpUnderlay {
    /// Opens the sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`SocketError`]; a taken port names its holder if it can be found.
    pub fn open(config: &SocketConfig) -> Result<UdpUnderlay, SocketError> {
        Self::adopt(config, open_fds(config)?)
    }

    /// Runs on sockets opened before, by [`open_fds`] or by another process with an equal `config`.
    /// Socket options are taken as they are.
    ///
    /// # Errors
    /// [`SocketError::TxPorts`] if there is no transmit socket or there are too many,
    /// [`SocketError::Call`] if one does not say on which port it is.
    pub fn adopt(config: &SocketConfig, fds: SocketFds) -> Result<UdpUnderlay, SocketError> {
        let count = fds.tx.len();
        if !(1..=2 * MAX_TX_PORTS).contains(&count) {
            return Err(SocketError::TxPorts {
                given: count,
                limit: 2 * MAX_TX_PORTS,
            });
        }
        let granted = open::granted(config, &fds);
        let v6 = config.local.is_ipv6();
        let ports = open::source_ports(config, &fds.tx)?;
        Ok(UdpUnderlay {
            rx: fds.rx.map(|rx| receive::Receiver::new(rx, v6)),
            tx: transmit::Transmitter::new(fds.tx, ports, config, granted),
            granted,
        })
    }

    /// Receives up to `budget` messages of a lane into buffers of `pool`, which `out` then holds. Returns the
    /// messages added; 0 = nothing waits, or the pool or `out` has no room.
    ///
    /// # Errors
    /// Only what makes the socket unusable; ICMP errors are read and counted.
    pub fn receive(
        &mut self,
        lane: Lane,
        pool: &mut Pool,
        out: &mut Received,
        budget: usize,
    ) -> std::io::Result<usize> {
        self.rx[lane as usize].receive(pool, out, budget)
    }

    /// Reserves `n` bytes of header memory that live until the next flush: their offset (for
    /// [`Src::Slab`]) and the bytes. `None` when the slab is used up: flush, and try again.
    #[inline]
    pub fn slab(&mut self, n: usize) -> Option<(u32, &mut [u8])> {
        self.tx.slab(n)
    }

    /// Whether [`slab`](Self::slab) has room for `n` bytes.
    #[inline]
    pub fn has_slab(&self, n: usize) -> bool {
        self.tx.has_slab(n)
    }

    /// Whether [`push`](Self::push) has room for so many datagrams of a flow, of so many pieces in all.
    #[inline]
    pub fn has_room(&self, hash: u32, datagrams: usize, pieces: usize) -> bool {
        self.tx.has_room(hash, datagrams, pieces)
    }

    /// Queues one datagram made of `pieces` (their bytes must stay as they are until the flush). `hash`
    /// chooses the source port, its highest bit the lane ([`Lane::of_hash`]); `tos` is DSCP and ECN of the outer
    /// header.
    ///
    /// # Errors
    /// [`QueueFull`], and nothing queued: flush, and push again.
    #[inline]
    pub fn push(
        &mut self,
        dest: Dest,
        hash: u32,
        tos: u8,
        pieces: &[Piece],
    ) -> Result<(), QueueFull> {
        self.tx.push(dest, hash, tos, pieces)
    }

    /// The outer source port of a flow, whoever sends it.
    #[inline]
    pub fn source_port(&self, hash: u32) -> u16 {
        self.tx.source_port(hash)
    }

    /// Reads what ICMP said of packets from the source port of transmit socket `index`, 64 errors at most;
    /// whether there may be more.
    pub fn drain_errors(&mut self, index: usize, report: &mut TxReport) -> bool {
        self.tx.drain_errors(index, report)
    }

    /// Hands all queued datagrams to the kernel and adds what became of them to `report`. Afterwards
    /// the queue and the slab are empty and the buffers may be recycled.
    pub fn flush(&mut self, pool: &Pool, report: &mut TxReport) {
        self.tx.flush(pool, report);
        self.granted.gso = self.tx.gso();
        self.granted.zero_checksum |= report
            .gso_disabled
            .is_some_and(|disabled| disabled.zero_checksum);
    }

    /// Whether anything is queued.
    pub fn is_queued(&self) -> bool {
        self.tx.is_queued()
    }

    /// The receive sockets, by [`Lane`], for polling.
    pub fn rx_fds(&self) -> [&OwnedFd; 2] {
        self.rx.each_ref().map(receive::Receiver::fd)
    }

    /// The transmit sockets.
    pub fn tx_fds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.tx.fds()
    }

    /// Gives the descriptors away, for another structure or process to adopt.
    pub fn into_fds(self) -> SocketFds {
        SocketFds {
            rx: self.rx.map(receive::Receiver::into_fd),
            tx: self.tx.into_fds(),
        }
    }

    /// What the kernel granted, as of now.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// What a receive socket counted.
    pub fn rx_counters(&self, lane: Lane) -> RxCounters {
        self.rx[lane as usize].counters()
    }
}
