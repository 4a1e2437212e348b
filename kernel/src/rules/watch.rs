//! Hears when somebody changes nftables in this network namespace.
//!
//! What has changed does not matter: whoever hears looks at our table. So nothing is read but whether there
//! was a message, and one that got lost for want of room counts as one.

use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `NFNLGRP_NFTABLES`, linux/netfilter/nfnetlink.h.
const NFTABLES: u32 = 7;

#[derive(Debug)]
pub(super) struct Watch {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Watch {
    /// Hears all changes from now on.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // The kernel is the only one to be heard.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        socket.add_membership(NFTABLES)?;
        debug_assert!(socket.as_raw_fd() >= 0);
        Ok(Self {
            socket,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Whether there was a change since the last time.
    pub(super) fn changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok(_) => changed = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: more than there was room for.
                Err(_) if !changed => changed = true,
                Err(_) => return changed,
            }
        }
    }
}
