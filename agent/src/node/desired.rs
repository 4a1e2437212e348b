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

use ringway_packet::mac::MacAddr;

use super::{NEXT_HOP, NEXT_HOP_V6, NodeError};
use crate::before::Before;
use crate::config::{Config, gateway};
use crate::gso;
use crate::mac;
use crate::netlink::{Address, Lifetime, Link, LinkChange, NeighbourState, Netlink, Route};
use crate::sysctl::{self, SysctlError};

/// The node port as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Its name.
    pub name: String,
    mtu: u16,
    v4: bool,
    v6: bool,
    underlay: String,
    /// Addresses with their prefix length.
    addresses: Vec<(IpAddr, u8)>,
    /// The interface's index is filled in when they are set.
    routes: Vec<Route>,
    /// Permanent entries.
    neighbours: BTreeMap<IpAddr, MacAddr>,
    /// Packets to 127.0.0.1 come back by it translated: host ports are in use.
    route_localnet: bool,
}

impl Desired {
    /// That of the configuration, without pods.
    pub fn of(config: &Config, mtu: u16) -> Self {
        let mut desired = Self {
            name: config.node.interface.clone(),
            mtu,
            v4: config.pod_cidr(false).is_some(),
            v6: config.pod_cidr(true).is_some(),
            underlay: config.underlay.interface.clone(),
            ..Self::default()
        };
        for cidr in &config.node.pod_cidrs {
            let own = gateway(*cidr);
            desired.addresses.push((own, cidr.prefix_len()));
            // The kernel makes it with the address; it is set only where somebody took it away.
            desired.routes.push(Route {
                destination: cidr.network(),
                prefix_len: cidr.prefix_len(),
                gateway: None,
                onlink: false,
                source: Some(own),
                interface: 0,
            });
            let next_hop: IpAddr = if cidr.is_ipv6() {
                NEXT_HOP_V6.into()
            } else {
                NEXT_HOP.into()
            };
            desired.neighbours.insert(next_hop, mac::GATEWAY);
            let peers = config.peers.iter().flat_map(|p| &p.pod_cidrs);
            let remote = peers.filter(|c| c.is_ipv6() == cidr.is_ipv6());
            desired.routes.extend(remote.map(|c| Route {
                destination: c.network(),
                prefix_len: c.prefix_len(),
                gateway: Some(next_hop),
                onlink: true,
                source: Some(own),
                interface: 0,
            }));
        }
        // What Flannel nodes have as their own on the overlay (flannel.1) and take as their source.
        let network = config.pod_cidr(false).map(|c| (c.network(), 32));
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

    /// Kernel settings: forwarding, and what would get in its way. Of those of other interfaces `before` keeps
    /// what they were.
    pub(super) fn set_settings(&self, before: &mut Before) -> Result<Vec<String>, SysctlError> {
        let name = &self.name;
        let mut changed = Vec::new();
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
            if sysctl::get("ipv6/conf/all/forwarding")? != "1" {
                // A forwarding node ignores router advertisements unless told
                // otherwise (2): the underlay would lose its default route.
                let accept = format!("ipv6/conf/{}/accept_ra", self.underlay);
                if sysctl::get(&accept)? == "1" {
                    set(accept, "2")?;
                }
                set("ipv6/conf/all/forwarding".into(), "1")?;
            }
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
    ) -> Result<Vec<String>, NodeError> {
        let there = netlink.routes(index)?;
        let there: BTreeMap<(IpAddr, u8), Route> = there
            .into_iter()
            .map(|r| ((r.destination, r.prefix_len), r))
            .collect();
        let mut changed = Vec::new();
        for wanted in &self.routes {
            let sound = there
                .get(&(wanted.destination, wanted.prefix_len))
                .is_some_and(|r| match wanted.gateway {
                    Some(_) => r.gateway == wanted.gateway && r.source == wanted.source,
                    // IPv6 has no source in it.
                    None => r.gateway.is_none(),
                });
            if !sound {
                let route = Route {
                    interface: index,
                    ..*wanted
                };
                netlink.set_route(&route)?;
                changed.push(format!(
                    "route {}/{}",
                    wanted.destination, wanted.prefix_len
                ));
            }
        }
        Ok(changed)
    }

    /// Takes away addresses and routes of an earlier configuration.
    pub(super) fn sweep(&self, netlink: &mut Netlink, index: u32) -> Result<(), NodeError> {
        for old in netlink.addresses(index)? {
            if old.global && !self.addresses.contains(&(old.ip, old.prefix_len)) {
                tracing::info!("removing {}/{} from the node port", old.ip, old.prefix_len);
                netlink.remove_address(index, old.ip, old.prefix_len)?;
            }
        }
        for old in netlink.routes(index)? {
            let ours = old.gateway.is_some_and(super::is_next_hop);
            let wanted =
                |w: &Route| (w.destination, w.prefix_len) == (old.destination, old.prefix_len);
            if ours && !self.routes.iter().any(wanted) {
                tracing::info!("removing route {}/{}", old.destination, old.prefix_len);
                netlink.remove_route(&old)?;
            }
        }
        Ok(())
    }
}
