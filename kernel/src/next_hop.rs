//! The next hop of every outer address: which MAC address a frame to it must carry.
//!
//! ```text
//! destination ──route──▶ via (the gateway, or itself) ──neighbour──▶ MAC
//!      │ leaves elsewhere, unreachable, …                 │ not known
//!      ▼                                                  ▼
//!  Elsewhere                                           Resolving       both: through the kernel
//! ```
//!
//! A port that sends whole frames does the kernel's work here, with the kernel's knowledge: routes
//! and neighbours are its own, asked for over netlink. What is not `Resolved` goes through a socket,
//! so nothing is lost while an answer is missing, only slower.
//!
//! Three things keep the answers true. A [`Change`] makes what it names be asked for again: a link
//! or a neighbour at once; routes, addresses and overruns, which concern every destination, at most
//! once per [`BULK_PERIOD`], oftener when there are few. The tick looks at neighbours that are not settled, and has them probed:
//! the kernel sees no packets to them and would let them expire (see `hop.rs`). And it asks for
//! a few destinations anew each time, all of them within [`ROUND`]: an ICMP redirect changes a route
//! without a notification.
//!
//! Nothing here reads a clock or opens a socket; a query that fails leaves the last answer in place
//! and is repeated.

mod answer;
mod due;
mod hop;
mod kernel;
mod query;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_ports::socket::least_mtu;

use crate::mac::is_station;
use crate::netlink::{Change, Link, RouteTo};
use due::{Bulk, Round};
use hop::Hop;

pub use answer::{Changed, Elsewhere, NextHop, Resolved};
pub use kernel::{Endpoints, Kernel};

/// How often [`NextHops::tick`] wants to be called.
pub const TICK: Duration = Duration::from_secs(1);
/// How often every destination may be asked for because of changes, when there are many.
pub const BULK_PERIOD: Duration = Duration::from_secs(1);
/// The same when there are few, and for each when there are more: asking takes some 50 µs.
const FEW_PERIOD: Duration = Duration::from_millis(50);
const BULK_SHARE: Duration = Duration::from_millis(1);
/// Within what time every destination is asked for without any change.
pub const ROUND: Duration = Duration::from_secs(30);

struct Destination {
    src: IpAddr,
    /// `None` before the first answer.
    route: Option<RouteTo>,
    /// The route is to be asked for again.
    look: bool,
    next_hop: NextHop,
    mtu: Option<u32>,
}

impl Destination {
    /// The route's MTU, if it has one that a path may have. The kernel enters what a forged ICMP error
    /// claims, too.
    fn mtu(&self, dst: IpAddr) -> Option<u32> {
        match self.route {
            Some(RouteTo::Link { mtu, .. }) => mtu.filter(|mtu| *mtu >= least_mtu(dst)),
            _ => None,
        }
    }

    /// The address to resolve, if the route leaves by our interface.
    fn via(&self, dst: IpAddr, ours: u32) -> Option<IpAddr> {
        match self.route {
            Some(RouteTo::Link {
                interface, gateway, ..
            }) if interface == ours => Some(gateway.unwrap_or(dst)),
            _ => None,
        }
    }
}

/// The next hops out of one interface.
pub struct NextHops {
    interface: u32,
    link: Option<Link>,
    addresses: Vec<IpAddr>,
    destinations: BTreeMap<IpAddr, Destination>,
    /// By address: destinations behind one gateway share it.
    hops: BTreeMap<IpAddr, Hop>,
    look_at_link: bool,
    look_at_addresses: bool,
    bulk: Bulk,
    bulk_at: Option<Instant>,
    round: Round,
    failing: bool,
}

impl NextHops {
    /// Next hops out of the interface with this index. An interface that is deleted and made again
    /// has another index, and needs another `NextHops`.
    pub fn new(interface: u32) -> Self {
        Self {
            interface,
            link: None,
            addresses: Vec::new(),
            destinations: BTreeMap::new(),
            hops: BTreeMap::new(),
            look_at_link: true,
            look_at_addresses: true,
            bulk: Bulk::default(),
            bulk_at: None,
            round: Round::default(),
            failing: false,
        }
    }

    /// Sets what is in use; one source address per destination, the last one given. Those that
    /// were in use before keep their answers.
    pub fn set_endpoints(
        &mut self,
        endpoints: impl IntoIterator<Item = Endpoints>,
        kernel: &mut impl Kernel,
        now: Instant,
    ) -> Changed {
        let mut before = std::mem::take(&mut self.destinations);
        for Endpoints { src, dst } in endpoints {
            let known = before
                .remove(&dst)
                .or_else(|| self.destinations.remove(&dst));
            let mut destination = known.unwrap_or(Destination {
                src,
                route: None,
                look: true,
                next_hop: NextHop::Resolving,
                mtu: None,
            });
            if destination.src != src {
                destination.src = src;
                destination.look = true;
            }
            self.destinations.insert(dst, destination);
        }
        self.work(kernel, now, false)
    }

    /// Takes in changes: best all that have come, at once.
    pub fn handle(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        kernel: &mut impl Kernel,
        now: Instant,
    ) -> Changed {
        for change in changes {
            match change {
                Change::Overrun => {
                    self.look_at_link = true;
                    self.bulk = Bulk {
                        routes: true,
                        addresses: true,
                        hops: true,
                    };
                }
                Change::Link { index } => self.look_at_link |= index == self.interface,
                Change::Addresses => self.bulk.addresses = true,
                Change::Routes => self.bulk.routes = true,
                Change::OwnRoutes => {}
                Change::Neighbour { index, ip } => {
                    if index == self.interface
                        && let Some(hop) = self.hops.get_mut(&ip)
                    {
                        hop.look_again();
                    }
                }
            }
        }
        self.work(kernel, now, false)
    }

    /// When [`handle`](Self::handle) wants to be called, be it without a change: what concerns every
    /// destination was put off until then.
    pub fn bulk_due(&self) -> Option<Instant> {
        let waits = self.bulk != Bulk::default();
        self.bulk_at
            .filter(|_| waits)
            .map(|at| at + self.bulk_period())
    }

    /// So that a tenth of the time goes into asking, at most.
    fn bulk_period(&self) -> Duration {
        let count = u32::try_from(self.destinations.len()).unwrap_or(u32::MAX);
        BULK_SHARE
            .saturating_mul(count)
            .clamp(FEW_PERIOD, BULK_PERIOD)
    }

    /// To be called every [`TICK`].
    pub fn tick(&mut self, kernel: &mut impl Kernel, now: Instant) -> Changed {
        self.advance_round(now);
        self.work(kernel, now, true)
    }

    /// The answer for a destination in use.
    pub fn get(&self, dst: IpAddr) -> Option<NextHop> {
        self.destinations.get(&dst).map(|d| d.next_hop)
    }

    /// Bytes of the largest outer IP packet to a destination in use, resolved or not, if its route has an
    /// MTU of its own.
    pub fn mtu(&self, dst: IpAddr) -> Option<u32> {
        self.destinations.get(&dst).and_then(|d| d.mtu)
    }

    /// Every destination in use and its answer.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, NextHop)> {
        self.destinations.iter().map(|(dst, d)| (*dst, d.next_hop))
    }

    /// The interface as last seen; `None` when it is gone, or was never looked at.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Asks for what is marked, then draws the conclusions.
    fn work(&mut self, kernel: &mut impl Kernel, now: Instant, tick: bool) -> Changed {
        let link_before = self.link.clone();
        self.query(kernel, now, tick);
        Changed {
            destinations: self.conclude(),
            link: self.link != link_before,
        }
    }

    /// Writes every answer anew and returns the destinations whose frames it changes.
    fn conclude(&mut self) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        let mut destinations = std::mem::take(&mut self.destinations);
        for (dst, destination) in &mut destinations {
            let next_hop = self.judge(*dst, destination);
            let mtu = destination.mtu(*dst);
            let before = (destination.next_hop.resolved(), destination.mtu);
            if (next_hop.resolved(), mtu) != before {
                changed.push(*dst);
            }
            (destination.next_hop, destination.mtu) = (next_hop, mtu);
        }
        self.destinations = destinations;
        changed
    }

    fn judge(&self, dst: IpAddr, destination: &Destination) -> NextHop {
        let Some(link) = &self.link else {
            return NextHop::Elsewhere(Elsewhere::InterfaceGone);
        };
        if !link.usable() {
            return NextHop::Elsewhere(Elsewhere::LinkDown);
        }
        let Some(src_mac) = link.mac.filter(|m| is_station(*m)) else {
            return NextHop::Elsewhere(Elsewhere::NoMac);
        };
        let src = destination.src;
        if !self.addresses.contains(&src) {
            return NextHop::Elsewhere(Elsewhere::NotOurs { src });
        }
        match destination.route {
            None => NextHop::Resolving,
            Some(RouteTo::Nowhere(why)) => NextHop::Elsewhere(why.into()),
            Some(RouteTo::Link { interface, .. }) if interface != self.interface => {
                NextHop::Elsewhere(Elsewhere::OtherInterface { index: interface })
            }
            Some(RouteTo::Link { .. }) => {
                let via = destination.via(dst, self.interface);
                let known = via.and_then(|via| Some((via, self.hops.get(&via)?.mac()?)));
                known.map_or(NextHop::Resolving, |(via, mac)| {
                    NextHop::Resolved(Resolved { via, mac, src_mac })
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
