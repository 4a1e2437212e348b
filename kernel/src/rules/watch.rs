//! Hears when somebody changes nftables in this network namespace, and whether it was our table.
//!
//! What has changed does not matter: whoever hears looks. So of a message nothing is read but the table it is
//! about, and one that got lost for want of room counts as one of each.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::NlasIterator;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::TABLE;

/// `NFNLGRP_NFTABLES`, linux/netfilter/nfnetlink.h.
const NFTABLES: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`, the same; in the upper half of the message's type.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`, linux/netfilter/nf_tables.h: it ends each transaction and is about no table.
const NEWGEN: u16 = 15;
/// Name of the table in every message but that: `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`,
/// `NFTA_SET_TABLE`, …
const TABLE_NAME: u16 = 1;
/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const NFGENMSG: usize = 4;

/// Whose tables have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Ours.
    pub(super) ours: bool,
    /// Others'.
    pub(super) others: bool,
}

impl Changed {
    const ALL: Self = Self {
        ours: true,
        others: true,
    };
}

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

    /// What has changed since the last time.
    pub(super) fn changed(&mut self) -> Changed {
        let mut changed = Changed::default();
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok(n) if n > self.buffer.len() => changed = Changed::ALL,
                Ok(n) => read(&self.buffer[..n], &mut changed),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: more than there was room for.
                Err(_) if changed != Changed::ALL => changed = Changed::ALL,
                Err(_) => return changed,
            }
        }
    }
}

/// Reads the messages in a datagram; what cannot be read counts as a change of everything.
fn read(datagram: &[u8], changed: &mut Changed) {
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = rest.get(..4).and_then(|four| four.try_into().ok());
        let length = length.map_or(0, u32::from_ne_bytes) as usize;
        let Some(message) = rest.get(..length).filter(|m| m.len() >= HEADER) else {
            *changed = Changed::ALL;
            return;
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if kind == (SUBSYSTEM << 8 | NEWGEN) {
            continue;
        }
        match table(message) {
            Some(name) if name == our_name() => changed.ours = true,
            Some(_) => changed.others = true,
            None => *changed = Changed::ALL,
        }
    }
}

/// Name of the table a message is about.
fn table(message: &[u8]) -> Option<&[u8]> {
    let attributes = message.get(HEADER + NFGENMSG..)?;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        if attribute.kind() == TABLE_NAME {
            let length = attribute.value_length();
            let at = attribute.into_inner();
            return at.get(4..4 + length)?.strip_suffix(b"\0");
        }
    }
    None
}

/// Ours, without its family; a table of another family with that name is looked at for nothing.
fn our_name() -> &'static [u8] {
    TABLE.rsplit(' ').next().unwrap_or(TABLE).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::nft;
    use crate::testing::in_netns;

    #[test]
    fn whose_table_has_changed() {
        if nft::output(&["--version"]).is_none() {
            println!("SKIPPED whose_table_has_changed: nft is not installed");
            return;
        }
        in_netns(|| {
            let mut watch = Watch::open().unwrap();
            assert_eq!(watch.changed(), Changed::default());
            let (ours, others) = (true, true);
            nft::run("add table inet ringway\nadd chain inet ringway c\n").unwrap();
            assert_eq!(
                watch.changed(),
                Changed {
                    ours,
                    ..Changed::default()
                }
            );
            nft::run("add table ip filter\nadd chain ip filter FORWARD\n").unwrap();
            assert_eq!(
                watch.changed(),
                Changed {
                    others,
                    ..Changed::default()
                }
            );
            nft::run("add rule inet ringway c accept\nadd rule ip filter FORWARD accept\n")
                .unwrap();
            assert_eq!(watch.changed(), Changed::ALL);
            nft::run("flush ruleset\n").unwrap();
            assert_eq!(watch.changed(), Changed::ALL);
            assert_eq!(watch.changed(), Changed::default());
        });
    }

    #[test]
    fn what_cannot_be_read_is_a_change_of_everything() {
        for bytes in [&[7u8; 3][..], &[0; 16], &[0xff; 40]] {
            let mut changed = Changed::default();
            read(bytes, &mut changed);
            assert_eq!(changed, Changed::ALL, "{bytes:?}");
        }
        // A header that names a length, and no attribute.
        let mut message = [0u8; 20];
        message[0] = 20;
        let mut changed = Changed::default();
        read(&message, &mut changed);
        assert_eq!(changed, Changed::ALL);
    }
}
