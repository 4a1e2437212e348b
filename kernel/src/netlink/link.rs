//! Links: find, change, delete.

#[cfg(any(test, feature = "testing"))]
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use ringway_packet::mac::MacAddr;

use super::{Netlink, NetlinkError};

/// RFC 2863 state of a link (`IF_OPER_*`, linux/if.h).
pub use netlink_packet_route::link::State as OperState;

/// What is known of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique within its namespace.
    pub index: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// `ip link set … alias`.
    pub alias: Option<String>,
    /// Hardware address, if it is an Ethernet one.
    pub mac: Option<MacAddr>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// It neither asks nor answers by ARP and neighbour discovery (`IFF_NOARP`).
    pub no_arp: bool,
    /// Index of the bridge, bond or VRF it is part of.
    pub master: Option<u32>,
    /// Largest superframe in bytes the stack hands over.
    pub gso_max_size: Option<u32>,
    /// Largest number of segments in one superframe.
    pub gso_max_segs: Option<u32>,
    /// Queue length in packets.
    pub tx_queue_len: Option<u32>,
    /// One end of a veth pair.
    pub veth: bool,
    /// There is a signal on the line (`IFLA_CARRIER`), whether or not the link is up.
    pub carrier: bool,
    /// What the kernel makes of `up`, the carrier and, on a stacked link, the link below.
    /// `Unknown` is what drivers say that do not care, TAPs and lo among them.
    pub oper_state: Option<OperState>,
    /// Receive queues the device was made with; how many are in use is for ethtool to say, see
    /// [`ringway_ports::ethtool::channels`].
    pub rx_queues: Option<u32>,
    /// Transmit queues the device was made with.
    pub tx_queues: Option<u32>,
    /// Id of the XDP program attached: of the one in the driver if there are several.
    pub xdp_program: Option<u32>,
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            no_arp: message.header.flags.contains(LinkFlags::Noarp),
            ..Link::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(n) => link.master = Some(n).filter(|n| *n != 0),
                LinkAttribute::GsoMaxSize(n) => link.gso_max_size = Some(n),
                LinkAttribute::GsoMaxSegs(n) => link.gso_max_segs = Some(n),
                LinkAttribute::TxQueueLen(n) => link.tx_queue_len = Some(n),
                LinkAttribute::LinkInfo(infos) => {
                    link.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                LinkAttribute::Carrier(n) => link.carrier = n != 0,
                LinkAttribute::OperState(state) => link.oper_state = Some(state),
                LinkAttribute::NumRxQueues(n) => link.rx_queues = Some(n),
                LinkAttribute::NumTxQueues(n) => link.tx_queues = Some(n),
                LinkAttribute::Xdp(xdp) => link.xdp_program = xdp_program(&xdp),
                _ => {}
            }
        }
        link
    }

    /// Frames can leave: up, and something is at the other end of the line.
    pub fn usable(&self) -> bool {
        self.up && self.carrier
    }
}

/// `IFLA_XDP_PROG_ID` is there when one program is attached; with one per mode
/// (`XDP_ATTACHED_MULTI`) each has an attribute of its own instead.
fn xdp_program(attributes: &[LinkXdp]) -> Option<u32> {
    let rank = |a: &LinkXdp| match a {
        LinkXdp::ProgId(id) => Some((0, *id)),
        LinkXdp::DrvProgId(id) => Some((1, *id)),
        LinkXdp::SkbProgId(id) => Some((2, *id)),
        LinkXdp::HwProgId(id) => Some((3, *id)),
        _ => None,
    };
    attributes.iter().filter_map(rank).min().map(|(_, id)| id)
}

/// What a link has lost, in packets (`IFLA_STATS64`, linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkLosses {
    /// Received, and dropped for want of room or of anybody who wants it.
    pub rx_dropped: u64,
    /// Received by the device, for which its host had no buffer.
    pub rx_missed: u64,
    /// Lost in the device's receive queue.
    pub rx_fifo: u64,
    /// Received broken: checksum, length, line.
    pub rx_errors: u64,
    /// To be sent, and dropped for want of room.
    pub tx_dropped: u64,
    /// Not sent for an error of the device.
    pub tx_errors: u64,
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
    /// ARP and neighbour discovery on or off.
    pub arp: Option<bool>,
    /// Index of a bridge, bond or VRF to be part of; 0: of none.
    pub master: Option<u32>,
    /// A signal on the line, of devices without one.
    pub carrier: Option<bool>,
    /// `IFLA_GSO_MAX_SIZE`, bytes; the kernel applies it to IPv4 and IPv6.
    pub gso_max_size: Option<u32>,
    /// `IFLA_GSO_MAX_SEGS`.
    pub gso_max_segs: Option<u32>,
    /// Queue length in packets.
    pub tx_queue_len: Option<u32>,
    /// `ip link set … alias`, at most 255 bytes.
    pub alias: Option<&'a str>,
}

impl Netlink {
    /// The link called `name`, or [`NetlinkError::NoLink`].
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let what = || format!("looking up interface {name}");
        match self.request(what, RouteNetlinkMessage::GetLink(message), 0) {
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

    /// The link with this index; `None` when there is none.
    pub fn link_at(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let what = || format!("looking up interface {index}");
        match self.request(what, RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(|m| match m {
                RouteNetlinkMessage::NewLink(link) => Some(Link::from_message(link)),
                _ => None,
            })),
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the link called `name` has lost, or [`NetlinkError::NoLink`].
    pub fn link_losses(&mut self, name: &str) -> Result<LinkLosses, NetlinkError> {
        let no_link = || NetlinkError::NoLink {
            name: name.to_owned(),
        };
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let what = || format!("reading the statistics of interface {name}");
        let answers = match self.request(what, RouteNetlinkMessage::GetLink(message), 0) {
            Err(e) if e.errno() == Some(libc::ENODEV) => return Err(no_link()),
            answers => answers?,
        };
        let mut attributes = answers.into_iter().flat_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => link.attributes,
            _ => Vec::new(),
        });
        let losses = attributes.find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(LinkLosses {
                rx_dropped: stats.rx_dropped,
                rx_missed: stats.rx_missed_errors,
                rx_fifo: stats.rx_fifo_errors,
                rx_errors: stats.rx_errors,
                tx_dropped: stats.tx_dropped,
                tx_errors: stats.tx_errors,
            }),
            _ => None,
        });
        losses.ok_or_else(no_link)
    }

    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request(|| "listing interfaces".into(), message, NLM_F_DUMP)?;
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
        let flags = [
            (LinkFlags::Up, change.up),
            (LinkFlags::Noarp, change.arp.map(|arp| !arp)),
        ];
        for (flag, set) in flags {
            if let Some(set) = set {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, set);
            }
        }
        let a = &mut message.attributes;
        a.extend(change.name.map(|n| LinkAttribute::IfName(n.to_owned())));
        a.extend(change.alias.map(|n| LinkAttribute::IfAlias(n.to_owned())));
        a.extend(change.mac.map(|m| LinkAttribute::Address(m.0.to_vec())));
        a.extend(change.mtu.map(LinkAttribute::Mtu));
        a.extend(change.master.map(LinkAttribute::Controller));
        a.extend(change.carrier.map(|on| LinkAttribute::Carrier(on.into())));
        a.extend(change.gso_max_size.map(LinkAttribute::GsoMaxSize));
        a.extend(change.gso_max_segs.map(LinkAttribute::GsoMaxSegs));
        a.extend(change.tx_queue_len.map(LinkAttribute::TxQueueLen));
        let what = || format!("changing interface {index}: {change:?}");
        self.request(what, RouteNetlinkMessage::SetLink(message), 0)
            .map(drop)
    }

    /// Deletes the link called `name`; false when there is none.
    pub fn delete_link(&mut self, name: &str) -> Result<bool, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let what = || format!("deleting interface {name}");
        match self.request(what, RouteNetlinkMessage::DelLink(message), 0) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Netlink {
    /// A veth pair: one end here, the other in the namespace behind `netns`.
    pub fn add_veth(&mut self, name: &str, netns: BorrowedFd<'_>, peer: &str) {
        use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
        use netlink_packet_route::link::{InfoData, InfoVeth};
        let mut other = LinkMessage::default();
        other.attributes = vec![
            LinkAttribute::IfName(peer.to_owned()),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
            ]),
        ];
        self.request(
            || "adding a veth pair".into(),
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .unwrap();
    }
}
