//! What a multicast message is about: the fixed fields at its beginning, and of a neighbour its
//! address. Nothing else is decoded, so an attribute of a newer kernel cannot be in the way.

use std::net::IpAddr;

use netlink_packet_core::NlasIterator;

use crate::reconcile::OWNER;

/// Length of `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// Length of `struct ndmsg`, linux/neighbour.h.
const NDMSG: usize = 12;
const NDA_DST: u16 = 1;
/// `linux/rtnetlink.h`; libc has no name for them.
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// Something to look at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Changes were lost: look at everything.
    Overrun,
    /// A link came, went or changed.
    Link {
        /// Its interface index.
        index: u32,
    },
    /// Addresses of some link.
    Addresses,
    /// Routes, policy rules or next-hop objects.
    Routes,
    /// Routes that bear our mark: they lead to pods, and to no outer address.
    OwnRoutes,
    /// A neighbour entry came, went or changed.
    Neighbour {
        /// Interface index of its link.
        index: u32,
        /// Its address.
        ip: IpAddr,
    },
}

/// Calls `changed` for every message in the datagram.
pub(super) fn read(datagram: &[u8], mut changed: impl FnMut(Change)) {
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = word(rest, 0).map_or(0, |n| n as usize);
        let Some(message) = rest.get(..length).filter(|m| m.len() >= HEADER) else {
            return changed(Change::Overrun);
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        match change(message) {
            Ok(Some(change)) => changed(change),
            Ok(None) => {}
            Err(Unreadable) => changed(Change::Overrun),
        }
    }
}

struct Unreadable;

fn change(message: &[u8]) -> Result<Option<Change>, Unreadable> {
    let body = &message[HEADER..];
    match u16::from_ne_bytes([message[4], message[5]]) {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            // struct ifinfomsg: family, pad, type, index; the family is AF_BRIDGE in what a
            // bridge says of its ports.
            match body.first().ok_or(Unreadable)? {
                0 => {
                    let index = word(body, 4).ok_or(Unreadable)?;
                    Ok(Some(Change::Link { index }))
                }
                _ => Ok(None),
            }
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Ok(Some(Change::Addresses)),
        // struct rtmsg: family, lengths of destination and source, tos, table, protocol.
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE if body.get(5) == Some(&OWNER) => {
            Ok(Some(Change::OwnRoutes))
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Ok(Some(Change::Routes)),
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Ok(Some(Change::Routes)),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Ok(Some(Change::Routes)),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => neighbour(body),
        _ => Ok(None),
    }
}

/// struct ndmsg: family, pad, ifindex, state, flags, type; then attributes. The family is
/// AF_BRIDGE for entries of forwarding databases, which are none of ours.
fn neighbour(body: &[u8]) -> Result<Option<Change>, Unreadable> {
    let family = i32::from(*body.first().ok_or(Unreadable)?);
    if family != libc::AF_INET && family != libc::AF_INET6 {
        return Ok(None);
    }
    let index = word(body, 4).ok_or(Unreadable)?;
    let attributes = body.get(NDMSG..).ok_or(Unreadable)?;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| Unreadable)?;
        if attribute.kind() == NDA_DST {
            let ip = address(attribute.value()).ok_or(Unreadable)?;
            return Ok(Some(Change::Neighbour { index, ip }));
        }
    }
    Err(Unreadable)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}
