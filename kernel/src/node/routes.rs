//! Routes by the node port: to the own pods on the link, to peers' pods by a next hop that stands for all.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use ringway_tables::Cidr;

use super::{Network, Spec, is_next_hop, next_hop};
use crate::netlink::Route;
use crate::reconcile::{Actual, Kernel, Kind, OWNER, Refused, Wanted};

/// A destination; the more specific come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    len: Reverse<u8>,
    network: IpAddr,
}

impl Destination {
    /// A network.
    pub(super) fn to(cidr: Cidr) -> Self {
        Self::of(cidr.network(), cidr.prefix_len())
    }

    /// Family (true: IPv6) and prefix length.
    pub(super) fn length(&self) -> (bool, u8) {
        (self.network.is_ipv6(), self.len.0)
    }

    fn of(network: IpAddr, len: u8) -> Self {
        Self {
            len: Reverse(len),
            network,
        }
    }
}

/// How a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lead {
    /// Next hop; none: on the link.
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    /// By another interface, with this index.
    elsewhere: Option<u32>,
}

impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gateway {
            Some(gateway) => write!(f, "via {gateway}")?,
            None => f.write_str("on the link")?,
        }
        if let Some(index) = self.elsewhere {
            write!(f, " by interface {index}")?;
        }
        match self.source {
            Some(source) => write!(f, " from {source}"),
            None => Ok(()),
        }
    }
}

/// Routes by one interface.
#[derive(Debug)]
pub(super) struct Routes;

/// Those of a node: own pod networks, and peers' of the same families.
pub(super) fn wanted(spec: &Spec) -> impl Iterator<Item = (Destination, Lead)> {
    let leads = Leads::of(spec);
    let own = spec.own.iter().filter_map(move |own| leads.own(own));
    own.chain(spec.peers.iter().filter_map(move |cidr| leads.remote(cidr)))
}

/// What is wanted of one prefix.
pub(super) fn wanted_of(spec: &Spec, prefix: Cidr) -> (Destination, Option<Lead>) {
    let leads = Leads::of(spec);
    let own = spec.own.iter().find(|own| own.cidr == prefix);
    let remote = || spec.peers.get(&prefix).and_then(|cidr| leads.remote(cidr));
    let wanted = own.and_then(|own| leads.own(own)).or_else(remote);
    let to = Destination::to(prefix);
    (to, wanted.map(|(_, lead)| lead))
}

/// How destinations are reached, by the main gateway of each family.
#[derive(Clone, Copy)]
struct Leads {
    first: [Option<IpAddr>; 2],
}

impl Leads {
    fn of(spec: &Spec) -> Self {
        let first = [false, true].map(|v6| spec.first(v6).map(|(_, gateway)| gateway));
        Self { first }
    }

    fn own(self, own: &Network) -> Option<(Destination, Lead)> {
        let cidr = &own.cidr;
        let main = self.first[usize::from(cidr.is_ipv6())]?;
        let lead = Lead {
            gateway: None,
            // The kernel makes it with the address, for IPv6 without a source.
            source: (!cidr.is_ipv6()).then(|| own.gateway.unwrap_or(main)),
            elsewhere: None,
        };
        Some((Destination::to(*cidr), lead))
    }

    fn remote(self, cidr: &Cidr) -> Option<(Destination, Lead)> {
        let v6 = cidr.is_ipv6();
        let lead = Lead {
            gateway: Some(next_hop(v6)),
            source: Some(self.first[usize::from(v6)]?),
            elsewhere: None,
        };
        Some((Destination::to(*cidr), lead))
    }
}

impl Kind for Routes {
    const NAME: &'static str = "routes";
    type Key = Destination;
    type Value = Lead;

    fn thing(&self, to: &Destination) -> String {
        format!("route {}/{}", to.network, to.len.0)
    }

    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        wanted: &Wanted<Destination, Lead>,
        _: bool,
        each: &mut dyn FnMut(Destination, Actual<Lead>),
    ) -> Result<(), Refused> {
        Ok(kernel.netlink.each_route(kernel.index, |route| {
            let to = Destination::of(route.destination, route.prefix_len);
            let value = Lead {
                gateway: route.gateway,
                source: route.source,
                elsewhere: None,
            };
            // An earlier version's have no mark; nobody else has a reason to take our next hop.
            let ours = route.protocol == OWNER || route.gateway.is_some_and(is_next_hop);
            if ours || wanted.get(&to).is_some() {
                let protocol = Some(route.protocol);
                each(to, Actual { value, protocol });
            }
        })?)
    }

    fn instead(&mut self, kernel: &mut Kernel<'_>, to: &Destination) -> Option<Actual<Lead>> {
        let route = kernel.netlink.route_of(to.network, to.len.0).ok()??;
        let value = Lead {
            gateway: route.gateway,
            source: route.source,
            elsewhere: Some(route.interface).filter(|index| *index != kernel.index),
        };
        let protocol = Some(route.protocol);
        Some(Actual { value, protocol })
    }

    /// In place of one to the same destination with the same metric, whoever's it is.
    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        to: &Destination,
        value: &Lead,
        _: Option<&Lead>,
    ) -> Result<(), Refused> {
        Ok(kernel.netlink.set_route(&route(kernel.index, to, value))?)
    }

    fn remove(
        &mut self,
        kernel: &mut Kernel<'_>,
        to: &Destination,
        actual: &Lead,
    ) -> Result<(), Refused> {
        let any = Route {
            protocol: 0,
            ..route(kernel.index, to, actual)
        };
        Ok(kernel.netlink.remove_route(&any)?)
    }
}

fn route(interface: u32, to: &Destination, lead: &Lead) -> Route {
    Route {
        destination: to.network,
        prefix_len: to.len.0,
        gateway: lead.gateway,
        onlink: lead.gateway.is_some(),
        source: lead.source,
        interface,
        protocol: OWNER,
    }
}
