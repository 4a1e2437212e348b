//! Links: find, change, move to another namespace, delete.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use ringway_packet::mac::MacAddr;

use super::{Netlink, NetlinkError};

/// What is known of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique within its namespace.
    pub index: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Hardware address, if it is an Ethernet one.
    pub mac: Option<MacAddr>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Largest superframe in bytes the stack hands over.
    pub gso_max_size: Option<u32>,
    /// Largest number of segments in one superframe.
    pub gso_max_segs: Option<u32>,
    /// Queue length in packets.
    pub tx_queue_len: Option<u32>,
    /// One end of a veth pair.
    pub veth: bool,
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Link::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::GsoMaxSize(n) => link.gso_max_size = Some(n),
                LinkAttribute::GsoMaxSegs(n) => link.gso_max_segs = Some(n),
                LinkAttribute::TxQueueLen(n) => link.tx_queue_len = Some(n),
                LinkAttribute::LinkInfo(infos) => {
                    link.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                _ => {}
            }
        }
        link
    }
}

/// Settings to change on a link; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// New name.
    pub name: Option<&'a str>,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
    /// `IFLA_GSO_MAX_SIZE`, bytes; the kernel applies it to IPv4 and IPv6.
    pub gso_max_size: Option<u32>,
    /// `IFLA_GSO_MAX_SEGS`.
    pub gso_max_segs: Option<u32>,
    /// Queue length in packets.
    pub tx_queue_len: Option<u32>,
}

impl Netlink {
    /// The link called `name`, or [`NetlinkError::NoLink`].
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let what = || format!("looking up interface {name}");
        match self.ask(what, RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => answers
                .into_iter()
                .find_map(|m| match m {
                    RouteNetlinkMessage::NewLink(link) => Some(Link::from_message(link)),
                    _ => None,
                })
                .ok_or_else(|| NetlinkError::NoLink {
                    name: name.to_owned(),
                }),
            Err(e) if e.errno() == Some(libc::ENODEV) => Err(NetlinkError::NoLink {
                name: name.to_owned(),
            }),
            Err(e) => Err(e),
        }
    }

    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask(|| "listing interfaces".into(), message, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(link) => Some(Link::from_message(link)),
                _ => None,
            })
            .collect())
    }

    /// Applies `change` to the link with this index, in one request.
    pub fn change_link(&mut self, index: u32, change: &LinkChange) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = change.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up {
                LinkFlags::Up
            } else {
                LinkFlags::empty()
            };
        }
        let a = &mut message.attributes;
        a.extend(change.name.map(|n| LinkAttribute::IfName(n.to_owned())));
        a.extend(change.mac.map(|m| LinkAttribute::Address(m.0.to_vec())));
        a.extend(change.mtu.map(LinkAttribute::Mtu));
        a.extend(change.gso_max_size.map(LinkAttribute::GsoMaxSize));
        a.extend(change.gso_max_segs.map(LinkAttribute::GsoMaxSegs));
        a.extend(change.tx_queue_len.map(LinkAttribute::TxQueueLen));
        let what = || format!("changing interface {index}: {change:?}");
        self.ask(what, RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }

    /// Moves a link into the namespace behind `netns`, where it is called
    /// `name`. EEXIST when that name is taken there; the link may then already
    /// have arrived under its old name, see [`crate::pod::interface`].
    pub fn move_link(
        &mut self,
        index: u32,
        netns: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
            LinkAttribute::IfName(name.to_owned()),
        ];
        let what = || format!("moving interface {index} into the pod's namespace as {name}");
        self.ask(what, RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }

    /// Deletes the link called `name`; false when there is none.
    pub fn delete_link(&mut self, name: &str) -> Result<bool, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let what = || format!("deleting interface {name}");
        match self.ask(what, RouteNetlinkMessage::DelLink(message), 0) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
