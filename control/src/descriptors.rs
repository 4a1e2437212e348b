//! Every descriptor the data path runs on, in one structure.
//!
//! Workers hold duplicates or shares of these. Whoever has this structure, this
//! process or another that was handed the descriptors over a unix socket, can
//! run the data path: `ringway_ports::socket::UdpUnderlay::adopt` and
//! `ringway_ports::tap::Tap::new` take them as they are. The link of the XDP
//! program can be adopted, too (`ringway_ports::xdp::Attachment::adopt`); rings
//! cannot, for the memory they use is this process's: another opens its own and
//! puts them into the map.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use ringway_kernel::pod::interface::Queues;
use ringway_ports::socket::{SocketFds, UdpUnderlay, dropped};
use ringway_ports::xdp::{Attachment, XskMap};
use ringway_tables::PortId;

use crate::SocketDrops;
use ringway_config::EncapKind;
use ringway_worker::OpenedRing;

/// All descriptors.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// Queues of the node port (0) and of each pod.
    pub taps: BTreeMap<PortId, Queues>,
    /// Underlay sockets.
    pub sockets: Vec<SocketDescriptors>,
    /// Those at outer addresses that were in use before, by which is only received.
    pub former: Vec<SocketDescriptors>,
    /// AF_XDP, where it is in use.
    pub rings: Option<RingDescriptors>,
}

/// The XDP program and the rings it feeds.
#[derive(Debug)]
pub struct RingDescriptors {
    /// The program's link to the interface.
    pub attachment: Attachment,
    /// The program's map of rings by receive queue.
    pub map: XskMap,
    /// The worker of each ring, and the ring.
    pub rings: Vec<(usize, OpenedRing)>,
}

/// The sockets of one worker for one encapsulation and outer family.
#[derive(Debug)]
pub struct SocketDescriptors {
    /// Number of the worker.
    pub worker: usize,
    /// What they carry.
    pub encap: EncapKind,
    /// Outer address, and the port that is received on.
    pub local: SocketAddr,
    /// Receive sockets and transmit pool.
    pub fds: SocketFds,
}

impl SocketDescriptors {
    /// Whether one may take the other's place at a worker.
    pub fn same_place(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.worker, one.encap, one.local.is_ipv6());
        place(self) == place(other)
    }

    /// The same sockets by other descriptors.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self {
            fds: duplicates(self.fds.rx.each_ref(), self.fds.tx.iter())?,
            ..*self
        })
    }
}

fn duplicates<'a>(
    [quiet, bulk]: [&OwnedFd; 2],
    tx: impl Iterator<Item = &'a OwnedFd>,
) -> io::Result<SocketFds> {
    Ok(SocketFds {
        rx: [quiet.try_clone()?, bulk.try_clone()?],
        tx: tx.map(OwnedFd::try_clone).collect::<io::Result<_>>()?,
    })
}

fn both_lanes(fds: &SocketFds) -> io::Result<u32> {
    let [quiet, bulk] = &fds.rx;
    Ok(dropped(quiet.as_fd())?.wrapping_add(dropped(bulk.as_fd())?))
}

impl Descriptors {
    /// Encapsulations that have sockets.
    pub fn encaps(&self) -> impl Iterator<Item = EncapKind> {
        let mut kinds: Vec<EncapKind> = Vec::new();
        for socket in &self.sockets {
            if !kinds.contains(&socket.encap) {
                kinds.push(socket.encap);
            }
        }
        kinds.into_iter()
    }

    /// What the kernel dropped at the receive sockets of each worker.
    pub fn socket_drops(&self) -> Vec<SocketDrops> {
        let all = self.sockets.iter().chain(&self.former);
        let one = |socket: &SocketDescriptors| SocketDrops {
            worker: socket.worker,
            local: socket.local,
            dropped: both_lanes(&socket.fds).map_err(|e| e.to_string()),
        };
        all.map(one).collect()
    }

    /// Keeps duplicates of a worker's sockets.
    pub fn add_sockets(
        &mut self,
        worker: usize,
        encap: EncapKind,
        local: SocketAddr,
        socket: &UdpUnderlay,
    ) -> io::Result<()> {
        self.sockets.push(SocketDescriptors {
            worker,
            encap,
            local,
            fds: duplicates(socket.rx_fds(), socket.tx_fds())?,
        });
        Ok(())
    }
}
