//! Neighbours: which MAC address an IP address on the link has.
//!
//! The kernel resolves an address when somebody sends to it, and validates what it knows only
//! while somebody sends. [`Netlink::probe_neighbour`] is how a process says "I send to it" when its
//! packets do not pass the kernel: `NTF_USE` has the effect of one packet and leaves an ordinary
//! entry behind, which the kernel ages and collects as ever. An entry of another kind
//! (`NTF_EXT_MANAGED`, permanent) would outlive a process that is killed.
//!
//! ```text
//!            probe                  answer                 30 s           probe
//! (nothing) ──────▶ INCOMPLETE ──────────────▶ REACHABLE ──────▶ STALE ─────────▶ DELAY
//!                      │ 3 s                       ▲                                │ 5 s
//!                      ▼            probe          │ answer                         ▼
//!                   FAILED ──────▶ INCOMPLETE      └──────────────────────────── PROBE ─3 s─▶ FAILED
//! ```
//!
//! The times are the defaults of ip-sysctl(7): `base_reachable_time`, `delay_first_probe_time`,
//! and `ucast_solicit` or `mcast_solicit` times `retrans_time`.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use ringway_packet::mac::MacAddr;

use super::address::family;
use super::{Netlink, NetlinkError};
use crate::reconcile::OWNER;

/// State of an entry (`NUD_*`, linux/neighbour.h).
pub use netlink_packet_route::neighbour::NeighbourState;

/// An entry of the kernel's neighbour tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Address on the link.
    pub ip: IpAddr,
    /// Its MAC address, if the entry has one: a failed entry may still have its last.
    pub mac: Option<MacAddr>,
    /// How far it is to be believed.
    pub state: NeighbourState,
    /// The protocol that has set it (`NDA_PROTOCOL`, Linux 5.0), if it said so.
    pub protocol: Option<u8>,
}

impl Neighbour {
    fn from_message(m: &NeighbourMessage) -> Option<Self> {
        let mut ip = None;
        let mut mac = None;
        let mut protocol = None;
        for attribute in &m.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                    ip = Some(IpAddr::V4(*a));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                    ip = Some(IpAddr::V6(*a));
                }
                NeighbourAttribute::Protocol(number) => protocol = Some((*number).into()),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
                }
                _ => {}
            }
        }
        Some(Self {
            ip: ip?,
            mac,
            state: m.header.state,
            protocol,
        })
    }
}

fn message(index: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    message
}

impl Netlink {
    /// Sets a permanent neighbour entry: `ip` is at `mac` on this link.
    pub fn set_neighbour(
        &mut self,
        index: u32,
        ip: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NetlinkError> {
        let mut message = message(index, ip);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        message
            .attributes
            .push(NeighbourAttribute::Protocol(OWNER.into()));
        let what = || format!("setting neighbour {ip} = {mac} on interface {index}");
        self.request(
            what,
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Removes a neighbour entry of any kind; nothing happens when it is not there.
    pub fn remove_neighbour(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let what = || format!("removing neighbour {ip} from interface {index}");
        let message = RouteNetlinkMessage::DelNeighbour(message(index, ip));
        match self.request(what, message, 0) {
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The entry of one address; `None` when there is none, or no such link.
    /// Linux 5.0 or newer answers this without a dump of the table.
    pub fn neighbour(&mut self, index: u32, ip: IpAddr) -> Result<Option<Neighbour>, NetlinkError> {
        let what = || format!("looking up neighbour {ip} on interface {index}");
        let message = RouteNetlinkMessage::GetNeighbour(message(index, ip));
        match self.request(what, message, 0) {
            Ok(answers) => Ok(answers.iter().find_map(|m| match m {
                RouteNetlinkMessage::NewNeighbour(n) => Neighbour::from_message(n),
                _ => None,
            })),
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every entry of a link, IPv4 and IPv6.
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        // The kernel then leaves other links out of the dump.
        message.attributes = vec![NeighbourAttribute::IfIndex(index)];
        let message = RouteNetlinkMessage::GetNeighbour(message);
        let answers = self.request(|| "listing neighbours".into(), message, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewNeighbour(n) if n.header.ifindex == index => {
                    Neighbour::from_message(n)
                }
                _ => None,
            })
            .collect())
    }

    /// Makes the kernel resolve the address, or validate what it knows of it, as if a packet had
    /// been sent to it. Returns at once; a listening socket hears of the outcome. Not to be used
    /// on a permanent entry: since Linux 5.16 `NTF_USE` makes an ordinary one of it
    /// (`__neigh_update`, net/core/neighbour.c).
    pub fn probe_neighbour(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let mut message = message(index, ip);
        message.header.flags = NeighbourFlags::Use;
        let what = || format!("probing neighbour {ip} on interface {index}");
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.request(what, message, NLM_F_CREATE).map(drop)
    }

    /// IPv6 addresses for which a link answers neighbour discovery although it does not have them, where its
    /// `proxy_ndp` is on.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn proxies(&mut self, index: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet6;
        // Has the kernel list these instead of neighbours (`neigh_dump_info`, net/core/neighbour.c).
        message.header.flags = NeighbourFlags::Proxy;
        let message = RouteNetlinkMessage::GetNeighbour(message);
        let answers = self.request(|| "listing proxied addresses".into(), message, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewNeighbour(n) if n.header.ifindex == index => {
                    Neighbour::from_message(n).map(|n| n.ip)
                }
                _ => None,
            })
            .collect())
    }

    /// Has a link answer for one more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_proxy(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let mut message = message(index, ip);
        message.header.flags = NeighbourFlags::Proxy;
        let what = || format!("answering for {ip} on interface {index}");
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.request(what, message, NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
    }

    /// Has it no longer do so; nothing happens when it did not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_proxy(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let mut message = message(index, ip);
        message.header.flags = NeighbourFlags::Proxy;
        let what = || format!("no longer answering for {ip} on interface {index}");
        let message = RouteNetlinkMessage::DelNeighbour(message);
        match self.request(what, message, 0) {
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }
}
