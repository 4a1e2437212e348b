//! Routes of the main table.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};

use super::address::family;
use super::{Netlink, NetlinkError};

/// A unicast route in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination network (all zero and length 0: the default route).
    pub destination: IpAddr,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Next hop is reachable through the link though no prefix covers it.
    pub onlink: bool,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Outgoing interface index.
    pub interface: u32,
    /// The protocol that has set it (`RTPROT_*`, linux/rtnetlink.h); 0 in a removal: whichever.
    pub protocol: u8,
}

/// A route of the main table that does not leave by a certain interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Destination network.
    pub destination: IpAddr,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// `blackhole`, `unreachable`, `prohibit` or `throw`, if it is one of these.
    pub refuses: Option<&'static str>,
    /// Outgoing interface index; 0: none, or several.
    pub interface: u32,
    /// The protocol that has set it.
    pub protocol: u8,
    /// Metric (`RTA_PRIORITY`); the lower goes first.
    pub metric: u32,
    /// Type of service it is for; 0: every.
    pub tos: u8,
}

impl Foreign {
    fn from_message(m: &RouteMessage) -> Option<Self> {
        let refuses = match m.header.kind {
            RouteType::Unicast => None,
            RouteType::BlackHole => Some("blackhole"),
            RouteType::Unreachable => Some("unreachable"),
            RouteType::Prohibit => Some("prohibit"),
            RouteType::Throw => Some("throw"),
            _ => return None,
        };
        let route = Route::from_message(m)?;
        let metric = m.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
        Some(Self {
            destination: route.destination,
            prefix_len: route.prefix_len,
            refuses,
            interface: route.interface,
            protocol: route.protocol,
            metric: metric.unwrap_or(0),
            tos: m.header.tos,
        })
    }
}

/// `RTPROT_STATIC`: of what stays as it was set.
pub const STATIC: u8 = 4;
/// `RTM_F_FIB_MATCH`, linux/rtnetlink.h: the entry of the table, not what follows from it for an address.
const FIB_MATCH: u32 = 0x2000;

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.destination);
        header.destination_prefix_length = self.prefix_len;
        header.table = RouteHeader::RT_TABLE_MAIN;
        header.protocol = RouteProtocol::from(self.protocol);
        header.kind = RouteType::Unicast;
        header.scope = match self.gateway {
            None if self.destination.is_ipv4() => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        if self.onlink {
            header.flags = RouteFlags::Onlink;
        }
        let a = &mut message.attributes;
        if self.prefix_len > 0 {
            a.push(RouteAttribute::Destination(self.destination.into()));
        }
        a.extend(self.gateway.map(|g| RouteAttribute::Gateway(g.into())));
        a.extend(self.source.map(|s| RouteAttribute::PrefSource(s.into())));
        a.push(RouteAttribute::Oif(self.interface));
        message
    }

    fn from_message(m: &RouteMessage) -> Option<Self> {
        let mut route = Route {
            destination: match m.header.address_family {
                netlink_packet_route::AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
                _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
            },
            prefix_len: m.header.destination_prefix_length,
            gateway: None,
            onlink: m.header.flags.contains(RouteFlags::Onlink),
            source: None,
            interface: 0,
            protocol: m.header.protocol.into(),
        };
        for attribute in &m.attributes {
            match attribute {
                RouteAttribute::Destination(a) => route.destination = ip(a)?,
                RouteAttribute::Gateway(a) => route.gateway = ip(a),
                RouteAttribute::PrefSource(a) => route.source = ip(a),
                RouteAttribute::Oif(index) => route.interface = *index,
                _ => {}
            }
        }
        Some(route)
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

impl Netlink {
    /// Adds a route, or replaces the one to the same destination.
    pub fn set_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let what = || {
            format!(
                "adding route {}/{} to interface {}",
                route.destination, route.prefix_len, route.interface
            )
        };
        self.request(
            what,
            RouteNetlinkMessage::NewRoute(route.message()),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Adds a route; false when there is one to the same destination.
    pub fn add_route(&mut self, route: &Route) -> Result<bool, NetlinkError> {
        let what = || {
            format!(
                "adding route {}/{} to interface {}",
                route.destination, route.prefix_len, route.interface
            )
        };
        match self.request(
            what,
            RouteNetlinkMessage::NewRoute(route.message()),
            NLM_F_CREATE | NLM_F_EXCL,
        ) {
            Err(e) if e.errno() == Some(libc::EEXIST) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Removes a route; nothing happens when it is not there.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let what = || format!("removing route {}/{}", route.destination, route.prefix_len);
        match self.request(what, RouteNetlinkMessage::DelRoute(route.message()), 0) {
            Err(e) if e.errno() == Some(libc::ESRCH) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Unicast routes of the main table that leave through a link.
    pub fn routes(&mut self, index: u32) -> Result<Vec<Route>, NetlinkError> {
        let mut all = Vec::new();
        self.each_route(index, |route| all.push(route))?;
        Ok(all)
    }

    /// The one that stands in the main table for exactly this destination, if there is one.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn route_of(
        &mut self,
        destination: IpAddr,
        prefix_len: u8,
    ) -> Result<Option<Route>, NetlinkError> {
        let found = self.fib_match(destination)?;
        Ok(found.filter(|r| (r.destination, r.prefix_len) == (destination, prefix_len)))
    }

    /// The entry of the main table by which packets to an address go, if there is one.
    ///
    /// # Errors
    /// The kernel cannot be asked, or refuses such packets.
    pub fn fib_match(&mut self, destination: IpAddr) -> Result<Option<Route>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.header.flags = RouteFlags::from_bits_retain(FIB_MATCH);
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        let what = || format!("looking up the route to {destination}");
        let answers = match self.request(what, RouteNetlinkMessage::GetRoute(message), 0) {
            Err(e) if matches!(e.errno(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                return Ok(None);
            }
            other => other?,
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(r) if r.header.table == RouteHeader::RT_TABLE_MAIN => {
                Route::from_message(r)
            }
            _ => None,
        }))
    }

    /// Routes of the main table that do not leave by this link, those that refuse among them, one by one.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn each_foreign(
        &mut self,
        index: u32,
        mut each: impl FnMut(Foreign),
    ) -> Result<(), NetlinkError> {
        self.each_of_main(None, |message| {
            let route = Foreign::from_message(message);
            route.filter(|r| r.interface != index).map(&mut each);
        })
    }

    /// What [`routes`](Self::routes) lists, one by one: the table may have a hundred thousand. Of a socket that is
    /// [strict](Netlink::strict) the kernel leaves other links' out.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn each_route(
        &mut self,
        index: u32,
        mut each: impl FnMut(Route),
    ) -> Result<(), NetlinkError> {
        self.each_of_main(Some(index), |message| {
            if message.header.kind == RouteType::Unicast {
                let route = Route::from_message(message);
                route.filter(|r| r.interface == index).map(&mut each);
            }
        })
    }

    /// Every entry of the main table; a strict socket has the kernel leave out what is not of `link`.
    fn each_of_main(
        &mut self,
        link: Option<u32>,
        mut each: impl FnMut(&RouteMessage),
    ) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        if self.strict {
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.attributes.extend(link.map(RouteAttribute::Oif));
        }
        let message = RouteNetlinkMessage::GetRoute(message);
        let what = || "listing routes".into();
        self.exchange
            .request_each(what, message, NLM_F_DUMP, |answer| {
                if let RouteNetlinkMessage::NewRoute(r) = answer
                    && r.header.table == RouteHeader::RT_TABLE_MAIN
                {
                    each(&r);
                }
            })
    }
}

#[cfg(test)]
impl Netlink {
    /// Sets a route that refuses: `unreachable`, `prohibit`, `blackhole` or `throw`.
    pub(crate) fn set_refusing_route(&mut self, kind: &str, destination: &str) {
        let (network, prefix_len) = destination.split_once('/').unwrap();
        let mut message = Route {
            destination: network.parse().unwrap(),
            prefix_len: prefix_len.parse().unwrap(),
            gateway: None,
            onlink: false,
            source: None,
            interface: 0,
            protocol: STATIC,
        }
        .message();
        message.header.kind = match kind {
            "unreachable" => RouteType::Unreachable,
            "prohibit" => RouteType::Prohibit,
            "blackhole" => RouteType::BlackHole,
            "throw" => RouteType::Throw,
            other => panic!("{other} refuses nothing"),
        };
        message.header.scope = RouteScope::Universe;
        message
            .attributes
            .retain(|a| !matches!(a, RouteAttribute::Oif(_)));
        let what = || format!("adding a route {kind} {destination}");
        let message = RouteNetlinkMessage::NewRoute(message);
        self.request(what, message, NLM_F_CREATE | NLM_F_REPLACE)
            .unwrap();
    }
}
