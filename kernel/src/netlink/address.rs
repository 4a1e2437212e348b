//! Addresses of a link.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
    AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};
use crate::reconcile::OWNER;

/// One address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// Length of the on-link prefix in bits.
    pub prefix_len: u8,
    /// Scope is global (not link-local or host).
    pub global: bool,
    /// Duplicate address detection is not done yet: it cannot be used.
    pub tentative: bool,
    /// Duplicate address detection found that another station has it: it cannot be used.
    pub duplicate: bool,
    /// Its preferred lifetime is over: not for new connections (RFC 4862 section 5.5.4).
    pub deprecated: bool,
    /// How long it is to last.
    pub lifetime: Lifetime,
    /// The protocol that has set it (`IFA_PROTO`, Linux 5.18), if it said so.
    pub protocol: Option<u8>,
}

/// How long an address lasts; longer ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifetime {
    /// For good, as set by hand.
    Permanent,
    /// As long as a server or a router says, as by DHCP or SLAAC.
    Dynamic,
    /// Changed every day, for privacy (RFC 8981).
    Temporary,
}

impl Netlink {
    /// Adds `ip/prefix_len` to a link, or keeps it if it is there. IPv6
    /// addresses are set without duplicate address detection: the switch
    /// admits each address at one port only, and a pod may use it at once.
    pub fn add_address(
        &mut self,
        index: u32,
        ip: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = prefix_len;
        message.attributes = vec![
            AddressAttribute::Local(ip),
            AddressAttribute::Address(ip),
            // Kernels that do not know it ignore it.
            AddressAttribute::Protocol(AddressProtocol::Other(OWNER)),
        ];
        match ip {
            IpAddr::V4(v4) => {
                message.header.family = AddressFamily::Inet;
                if prefix_len < 31 {
                    let broadcast = u32::from(v4) | (u32::MAX >> prefix_len);
                    message
                        .attributes
                        .push(AddressAttribute::Broadcast(broadcast.into()));
                }
            }
            IpAddr::V6(_) => {
                message.header.family = AddressFamily::Inet6;
                message.header.flags = AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
        }
        let what = || format!("adding address {ip}/{prefix_len} to interface {index}");
        self.request(
            what,
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Removes `ip/prefix_len` from a link; nothing happens when it is not
    /// there.
    pub fn remove_address(
        &mut self,
        index: u32,
        ip: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = prefix_len;
        message.header.family = family(ip);
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        let what = || format!("removing address {ip}/{prefix_len} from interface {index}");
        match self.request(what, RouteNetlinkMessage::DelAddress(message), 0) {
            Err(e) if e.errno() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The addresses of a link, in the kernel's order (primary first).
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request(|| "listing addresses".into(), message, NLM_F_DUMP)?;
        let mut found = Vec::new();
        for answer in answers {
            let RouteNetlinkMessage::NewAddress(m) = answer else {
                continue;
            };
            if m.header.index != index {
                continue;
            }
            // IFA_LOCAL is the own address on IPv4; IPv6 has IFA_ADDRESS only.
            let ip = m
                .attributes
                .iter()
                .find_map(|a| match a {
                    AddressAttribute::Local(ip) => Some(*ip),
                    _ => None,
                })
                .or_else(|| {
                    m.attributes.iter().find_map(|a| match a {
                        AddressAttribute::Address(ip) => Some(*ip),
                        _ => None,
                    })
                });
            // IFA_FLAGS has all of them, the header's field the first eight.
            let flags = m.attributes.iter().find_map(|a| match a {
                AddressAttribute::Flags(flags) => Some(*flags),
                _ => None,
            });
            let flags =
                flags.unwrap_or(AddressFlags::from_bits_retain(m.header.flags.bits().into()));
            found.extend(ip.map(|ip| Address {
                ip,
                prefix_len: m.header.prefix_len,
                global: m.header.scope == AddressScope::Universe,
                tentative: flags.contains(AddressFlags::Tentative),
                duplicate: flags.contains(AddressFlags::Dadfailed),
                deprecated: flags.contains(AddressFlags::Deprecated),
                // For IPv6 the kernel calls a temporary address secondary (linux/if_addr.h).
                lifetime: if ip.is_ipv6() && flags.contains(AddressFlags::Secondary) {
                    Lifetime::Temporary
                } else if flags.contains(AddressFlags::Permanent) {
                    Lifetime::Permanent
                } else {
                    Lifetime::Dynamic
                },
                protocol: m.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Protocol(protocol) => Some((*protocol).into()),
                    _ => None,
                }),
            }));
        }
        Ok(found)
    }
}

/// The netlink family of an address.
pub(super) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
