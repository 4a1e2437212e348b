//! What the node port shall be: computed from the configuration and the pods, compared with what the kernel
//! has, and set where that differs.
//!
//! ```text
//! Desired ─ settings ─ link ─ addresses ─ up ─ routes ─ neighbours ─▶ kernel; what had to be set, in words
//! ```
//!
//! The same at the start, over a restart, and whenever somebody may have changed something. What others add to
//! the interface is left alone; what an earlier configuration of ours left is swept away at the start.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::before::Before;
use crate::gso;
use crate::mac;
use crate::netlink::{Address, Lifetime, Link, LinkChange, NeighbourState, Netlink, Route};
use crate::sysctl::{self, SysctlError};
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

use super::{NEXT_HOP, NEXT_HOP_V6, NodeError, Spec};

/// The node port as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Its name.
    pub name: String,
    mtu: u16,
    v4: bool,
    v6: bool,
    underlay: String,
    /// Which agent's it is.
    alias: String,
    /// Addresses with their prefix length.
    addresses: Vec<(IpAddr, u8)>,
    /// Permanent entries.
    neighbours: BTreeMap<IpAddr, MacAddr>,
    /// Packets to 127.0.0.1 come back by it translated: host ports are in use.
    route_localnet: bool,
}

impl Desired {
    /// That of a node without pods. Routes are taken from `spec` when they are looked at: they may be a
    /// hundred thousand.
    pub fn of(spec: &Spec) -> Self {
        let mut desired = Self {
            name: spec.name.clone(),
            mtu: spec.mtu,
            v4: spec.first(false).is_some(),
            v6: spec.first(true).is_some(),
            underlay: spec.underlay.clone(),
            alias: spec.alias.clone(),
            ..Self::default()
        };
        for super::Network { cidr, gateway } in &spec.own {
            desired.addresses.push((*gateway, cidr.prefix_len()));
            desired
                .neighbours
                .insert(next_hop(cidr.is_ipv6()), mac::GATEWAY);
        }
        // What Flannel nodes have as their own on the overlay (flannel.1) and take as their source.
        let network = spec.first(false).map(|own| (own.cidr.network(), 32));
        desired.addresses.extend(network);
        desired
    }

    /// With the pods' addresses, and whether host ports are in use.
    pub fn with(
        mut self,
        pods: impl IntoIterator<Item = (IpAddr, MacAddr)>,
        route_localnet: bool,
    ) -> Self {
        self.neighbours.extend(pods);
        self.route_localnet = route_localnet;
        self
    }

    /// Whether another agent says that an interface is its own.
    pub(super) fn is_foreign(&self, link: &Link) -> bool {
        link.alias
            .as_ref()
            .is_some_and(|alias| *alias != self.alias)
    }

    /// Kernel settings: forwarding, and what would get in its way. Of those of other interfaces `before` keeps
    /// what they were.
    pub(super) fn set_settings(&self, before: &mut Before) -> Result<Vec<String>, SysctlError> {
        let name = &self.name;
        let mut changed = Vec::new();
        let keeps_accept = before.keeps(&format!("ipv6/conf/{}/accept_ra", self.underlay));
        // Those of our own interface go with it.
        let own = format!("/{name}/");
        let mut set = |key: String, value: &str| -> Result<(), SysctlError> {
            let set = if key.contains(&own) {
                sysctl::set(&key, value)
            } else {
                before.set(&key, value)
            };
            if set? {
                changed.push(format!("{key}={value}"));
            }
            Ok(())
        };
        let v4 = |key: &str| format!("ipv4/conf/{name}/{key}");
        if self.v4 {
            set("ipv4/ip_forward".into(), "1")?;
            // Dragged along by the one above, and off by itself if somebody turns it off here.
            set(v4("forwarding"), "1")?;
            // The effective value is the larger of all and the interface's own: 2
            // (loose) is the largest, so it holds whatever `all` says. Replies that
            // a DNAT brought here come with sources the strict mode may not expect.
            set(v4("rp_filter"), "2")?;
            // Effective if either is set, so both have to be off: pods behind one
            // interface would be told to talk to each other directly. Other
            // interfaces keep their own value, which is on by default.
            set(v4("send_redirects"), "0")?;
            set("ipv4/conf/all/send_redirects".into(), "0")?;
            // The switch sends ICMP errors from the gateway's address, which is the
            // node's own; a packet from an own address is a martian otherwise, and
            // the node would never learn a path's MTU. Nobody else can send from it:
            // the switch knows where every other source belongs.
            set(v4("accept_local"), "1")?;
            if self.route_localnet {
                // A process of the node may use 127.0.0.1 for a host port; answers to that come by here.
                set(v4("route_localnet"), "1")?;
            }
        }
        // Without link-local address the node sends no router or listener messages,
        // and no redirects, by this interface.
        let v6 = |key: &str| format!("ipv6/conf/{name}/{key}");
        if self.v6 {
            set(v6("disable_ipv6"), "0")?;
            set(v6("addr_gen_mode"), "1")?;
            set(v6("accept_ra"), "0")?;
            set(v6("accept_dad"), "0")?;
            // A forwarding node ignores router advertisements unless told
            // otherwise (2): the underlay would lose its default route.
            let accept = format!("ipv6/conf/{}/accept_ra", self.underlay);
            let ours = keeps_accept || sysctl::get("ipv6/conf/all/forwarding")? != "1";
            if ours && sysctl::get(&accept)? == "1" {
                set(accept, "2")?;
            }
            set("ipv6/conf/all/forwarding".into(), "1")?;
            set(v6("forwarding"), "1")?;
        } else {
            sysctl::set_if_present(&v6("disable_ipv6"), "1")?;
        }
        Ok(changed)
    }

    /// MAC address, MTU and limits of superframes.
    pub(super) fn set_link(
        &self,
        netlink: &mut Netlink,
        link: &Link,
    ) -> Result<Vec<String>, NodeError> {
        let gso = gso::limits(self.mtu);
        let mtu = u32::from(self.mtu);
        let change = LinkChange {
            mac: Some(mac::GATEWAY).filter(|m| link.mac != Some(*m)),
            mtu: Some(mtu).filter(|n| link.mtu != *n),
            gso_max_size: Some(gso.size).filter(|n| link.gso_max_size != Some(*n)),
            gso_max_segs: Some(gso.segments).filter(|n| link.gso_max_segs != Some(*n)),
            arp: Some(true).filter(|_| link.no_arp),
            alias: Some(self.alias.as_str()).filter(|a| link.alias.as_deref() != Some(*a)),
            // A bridge, a bond or a VRF takes its packets away.
            master: Some(0).filter(|_| link.master.is_some()),
            // A TAP has one while somebody has it open.
            carrier: Some(true).filter(|_| link.up && !link.carrier),
            ..LinkChange::default()
        };
        let mut changed = Vec::new();
        // Of no use on a TAP, and 256 of them on one of several queues (`pod::queue`).
        let default_qdisc = netlink.has_default_qdisc(link.index)?;
        if default_qdisc {
            netlink.set_noqueue(link.index)?;
        }
        changed.extend(change.mac.map(|m| format!("MAC address {m}")));
        changed.extend(change.mtu.map(|n| format!("MTU {n}")));
        changed.extend(change.gso_max_size.map(|n| format!("gso_max_size {n}")));
        changed.extend(change.gso_max_segs.map(|n| format!("gso_max_segs {n}")));
        changed.extend(change.arp.map(|_| "ARP on".to_owned()));
        changed.extend(change.alias.map(|a| format!("alias {a}")));
        changed.extend(
            change
                .master
                .map(|_| "part of no other interface".to_owned()),
        );
        changed.extend(change.carrier.map(|_| "carrier".to_owned()));
        if !changed.is_empty() {
            netlink.change_link(link.index, &change)?;
        }
        changed.extend(default_qdisc.then(|| "no queueing discipline".to_owned()));
        Ok(changed)
    }

    /// Gateways, and the IPv4 network address.
    pub(super) fn set_addresses(
        &self,
        netlink: &mut Netlink,
        index: u32,
    ) -> Result<Vec<String>, NodeError> {
        let there = netlink.addresses(index)?;
        let mut changed = Vec::new();
        // The kernel makes it from the MAC address where `addr_gen_mode` was lost: then it is the node's own.
        for own in there.iter().filter(|a| super::is_next_hop(a.ip)) {
            netlink.remove_address(index, own.ip, own.prefix_len)?;
            changed.push(format!("no address {}", own.ip));
        }
        for (ip, len) in &self.addresses {
            let sound = |a: &Address| {
                let good = !a.deprecated && !a.tentative && !a.duplicate;
                (a.ip, a.prefix_len) == (*ip, *len) && good && a.lifetime != Lifetime::Dynamic
            };
            if there.iter().any(sound) {
                continue;
            }
            // One that a duplicate check has condemned stays so until it goes.
            if there.iter().any(|a| a.ip == *ip && a.duplicate) {
                netlink.remove_address(index, *ip, *len)?;
            }
            netlink.add_address(index, *ip, *len)?;
            changed.push(format!("address {ip}/{len}"));
        }
        Ok(changed)
    }

    /// Up, if it is not.
    pub(super) fn set_up(
        &self,
        netlink: &mut Netlink,
        link: &Link,
    ) -> Result<Vec<String>, NodeError> {
        if link.up {
            return Ok(Vec::new());
        }
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        netlink.change_link(link.index, &up)?;
        Ok(vec!["up".into()])
    }

    /// Permanent neighbour entries: the next hops of the routes, and the pods.
    pub(super) fn set_neighbours(
        &self,
        netlink: &mut Netlink,
        index: u32,
    ) -> Result<Vec<String>, NodeError> {
        let there = netlink.neighbours(index)?;
        let there: BTreeMap<IpAddr, _> = there.into_iter().map(|n| (n.ip, n)).collect();
        let mut changed = Vec::new();
        for (ip, mac) in &self.neighbours {
            let sound = there
                .get(ip)
                .is_some_and(|n| n.state == NeighbourState::Permanent && n.mac == Some(*mac));
            if !sound {
                netlink.set_neighbour(index, *ip, *mac)?;
                changed.push(format!("neighbour {ip} at {mac}"));
            }
        }
        Ok(changed)
    }

    /// Routes to own and to peers' pods.
    pub(super) fn set_routes(
        &self,
        netlink: &mut Netlink,
        index: u32,
        spec: &Spec,
    ) -> Result<Vec<String>, NodeError> {
        let wanted = Routes::of(spec);
        let mut sound = vec![false; wanted.cidrs.len()];
        netlink.each_route(index, |there| {
            if let Some(at) = wanted.find(&there) {
                let wanted = wanted.route(at, index);
                sound[at] |= there.gateway == wanted.gateway
                    // IPv6 has none in the one the kernel makes.
                    && (there.source == wanted.source || wanted.gateway.is_none());
            }
        })?;
        let mut changed = Vec::new();
        let missing = sound.iter().enumerate().filter(|(_, sound)| !**sound);
        for (at, _) in missing {
            netlink.set_route(&wanted.route(at, index))?;
            changed.push(format!("route {}", wanted.cidrs[at]));
        }
        Ok(changed)
    }

    /// Takes away addresses and routes of an earlier configuration.
    pub(super) fn sweep(
        &self,
        netlink: &mut Netlink,
        index: u32,
        spec: &Spec,
    ) -> Result<(), NodeError> {
        for old in netlink.addresses(index)? {
            if old.global && !self.addresses.contains(&(old.ip, old.prefix_len)) {
                tracing::info!("removing {}/{} from the node port", old.ip, old.prefix_len);
                netlink.remove_address(index, old.ip, old.prefix_len)?;
            }
        }
        let wanted = Routes::of(spec);
        let mut stale = Vec::new();
        netlink.each_route(index, |old| {
            let ours = old.gateway.is_some_and(super::is_next_hop);
            if ours && wanted.find(&old).is_none() {
                stale.push(old);
            }
        })?;
        for old in stale {
            tracing::info!("removing route {}/{}", old.destination, old.prefix_len);
            netlink.remove_route(&old)?;
        }
        Ok(())
    }
}

/// The routes there shall be, by destination: own pod networks, and peers' of the same families.
struct Routes<'a> {
    spec: &'a Spec,
    cidrs: Vec<&'a Cidr>,
}

impl<'a> Routes<'a> {
    fn of(spec: &'a Spec) -> Self {
        let own = spec.own.iter().map(|own| &own.cidr);
        let mut cidrs: Vec<&Cidr> = own
            .chain(&spec.peers)
            .filter(|c| spec.first(c.is_ipv6()).is_some())
            .collect();
        cidrs.sort_by_key(|c| destination(c));
        Self { spec, cidrs }
    }

    /// Which has the same destination.
    fn find(&self, other: &Route) -> Option<usize> {
        let other = (other.destination, other.prefix_len);
        let found = self.cidrs.binary_search_by_key(&other, |c| destination(c));
        found.ok()
    }

    fn route(&self, at: usize, interface: u32) -> Route {
        let cidr = *self.cidrs[at];
        // The kernel makes that to the own pods with the address; it is set where somebody took it away.
        let remote = !self.spec.own.iter().any(|own| own.cidr == cidr);
        Route {
            destination: cidr.network(),
            prefix_len: cidr.prefix_len(),
            gateway: remote.then(|| next_hop(cidr.is_ipv6())),
            onlink: remote,
            source: self.spec.first(cidr.is_ipv6()).map(|own| own.gateway),
            interface,
        }
    }
}

fn destination(cidr: &Cidr) -> (IpAddr, u8) {
    (cidr.network(), cidr.prefix_len())
}

/// Next hop of all routes to peers' pods of a family.
fn next_hop(v6: bool) -> IpAddr {
    match v6 {
        true => NEXT_HOP_V6.into(),
        false => NEXT_HOP.into(),
    }
}
