//! The way of one packet, by the kernel's own lookup.
//!
//! `RTM_GETROUTE` without a dump is what `ip route get` asks: policy rules, all tables, metrics and
//! exceptions learnt from ICMP are in the answer, and of several equal next hops it names the one
//! for these two addresses. A refusal is an answer, too: the lookup's error comes back as errno.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteLwEnCapType, RouteMessage, RouteMetric, RouteType, RouteVia,
};

use super::address::family;
use super::route::ip;
use super::{Netlink, NetlinkError};

/// Where a packet to an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTo {
    /// Out of an interface.
    Link {
        /// Index of the interface.
        interface: u32,
        /// Next hop; without one the destination itself is on the link. May be IPv6 for an IPv4
        /// destination (RFC 9229), and link-local.
        gateway: Option<IpAddr>,
        /// Source address the kernel would choose.
        source: Option<IpAddr>,
        /// MTU of the route in bytes, where it differs from the interface's: configured, or learnt.
        mtu: Option<u32>,
    },
    /// Nowhere, or not as a packet on a wire.
    Nowhere(Unroutable),
}

/// Why a packet leaves by no interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// Type `local`.
    #[error("the address is this node's own")]
    Local,
    /// Type `broadcast`, `multicast` or `anycast`: more than one station has it.
    #[error("the address is not one station's")]
    NotUnicast,
    /// ENETUNREACH, or type `throw`.
    #[error("there is no route to it")]
    NoRoute,
    /// EHOSTUNREACH, or type `unreachable`.
    #[error("its route says unreachable")]
    Unreachable,
    /// EACCES, or type `prohibit`.
    #[error("its route says prohibited")]
    Prohibited,
    /// EINVAL, or type `blackhole`.
    #[error("its route is a blackhole")]
    Blackhole,
    /// The kernel wraps what takes this route once more.
    #[error("its route has an encapsulation of its own")]
    Encapsulated,
}

impl Netlink {
    /// Where the kernel would send a packet to `dst`, from `src` if that is given. A source that is
    /// not this node's is refused for IPv4, with ENETUNREACH or EINVAL by version, and not looked at
    /// for IPv6.
    pub fn route_to(&mut self, dst: IpAddr, src: Option<IpAddr>) -> Result<RouteTo, NetlinkError> {
        let bits = if dst.is_ipv4() { 32 } else { 128 };
        let mut message = RouteMessage::default();
        message.header.address_family = family(dst);
        message.header.destination_prefix_length = bits;
        message
            .attributes
            .push(RouteAttribute::Destination(dst.into()));
        if let Some(src) = src {
            message.header.source_prefix_length = bits;
            message.attributes.push(RouteAttribute::Source(src.into()));
        }
        let what = || match src {
            Some(src) => format!("looking up the route from {src} to {dst}"),
            None => format!("looking up the route to {dst}"),
        };
        match self.request(what, RouteNetlinkMessage::GetRoute(message), 0) {
            Ok(answers) => answers
                .iter()
                .find_map(|m| match m {
                    RouteNetlinkMessage::NewRoute(route) => Some(RouteTo::from_message(route)),
                    _ => None,
                })
                .ok_or_else(|| NetlinkError::Answer {
                    what: what(),
                    detail: "no route in it".into(),
                }),
            Err(e) => match e.errno() {
                Some(libc::ENETUNREACH) => Ok(RouteTo::Nowhere(Unroutable::NoRoute)),
                Some(libc::EHOSTUNREACH) => Ok(RouteTo::Nowhere(Unroutable::Unreachable)),
                Some(libc::EACCES) => Ok(RouteTo::Nowhere(Unroutable::Prohibited)),
                Some(libc::EINVAL) => Ok(RouteTo::Nowhere(Unroutable::Blackhole)),
                _ => Err(e),
            },
        }
    }
}

impl RouteTo {
    fn from_message(m: &RouteMessage) -> Self {
        let why = match m.header.kind {
            RouteType::Unicast => None,
            RouteType::Local => Some(Unroutable::Local),
            RouteType::Unreachable => Some(Unroutable::Unreachable),
            RouteType::Prohibit => Some(Unroutable::Prohibited),
            RouteType::BlackHole => Some(Unroutable::Blackhole),
            RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
                Some(Unroutable::NotUnicast)
            }
            _ => Some(Unroutable::NoRoute),
        };
        if let Some(why) = why {
            return Self::Nowhere(why);
        }
        let (mut out, mut via, mut from, mut bytes) = (None, None, None, None);
        for attribute in &m.attributes {
            match attribute {
                RouteAttribute::Oif(index) => out = Some(*index),
                RouteAttribute::Gateway(a) => via = ip(a),
                RouteAttribute::Via(RouteVia::Inet(a)) => via = Some((*a).into()),
                RouteAttribute::Via(RouteVia::Inet6(a)) => via = Some((*a).into()),
                RouteAttribute::PrefSource(a) => from = ip(a),
                RouteAttribute::Metrics(metrics) => {
                    bytes = metrics.iter().find_map(|m| match m {
                        RouteMetric::Mtu(n) => Some(*n),
                        _ => None,
                    });
                }
                RouteAttribute::EncapType(kind) if *kind != RouteLwEnCapType::None => {
                    return Self::Nowhere(Unroutable::Encapsulated);
                }
                _ => {}
            }
        }
        match out {
            Some(interface) => Self::Link {
                interface,
                gateway: via,
                source: from,
                mtu: bytes,
            },
            None => Self::Nowhere(Unroutable::NoRoute),
        }
    }
}
