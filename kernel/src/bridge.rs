//! The bridge of the pod network that was on this node before, and the pods that are still on it.
//!
//! Flannel's `cni0` has the gateway's address with the length of the pod network, and so the route to all of
//! it. The node port is to have both. The pods on the bridge keep their network until they are made anew:
//!
//! ```text
//! before                                  after
//! 10.77.1.1/24 on cni0                    10.77.1.1/32 on cni0, 10.77.1.1/24 on ringway0
//! 10.77.1.0/24 dev cni0                   10.77.1.0/24 dev ringway0, 10.77.1.7 dev cni0 for each such pod
//! ```
//!
//! They still take all of the network for their neighbours, so the bridge answers for the pods that are not on
//! it (`proxy_arp`, `proxy_ndp`), and so their packets come to the node's stack. The address stays on the
//! bridge because IPv6 answers for the gateway only on the interface that has it.
//!
//! Each step leads to the way of the next, so that the pods are reached at every moment, and each is one that
//! may be taken again.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ringway_packet::mac::MacAddr;
use ringway_packet::{arp, icmpv6};
use ringway_ports::raw::{RawError, RawSender};

use crate::netlink::{Link, LinkChange, Netlink, NetlinkError, Route};
use crate::network::Network;
use crate::reconcile::OWNER;
use crate::sysctl::{self, SysctlError};

/// The bridge that Flannel's plugin makes.
pub const USUAL: &str = "cni0";

/// Room for an announcement: Ethernet, IPv6, a neighbour advertisement with its option.
const ANNOUNCEMENT: usize = 128;

/// Settings by which it answers for addresses that it does not have.
const PROXY: [(&str, &str); 2] = [("ipv4", "proxy_arp"), ("ipv6", "proxy_ndp")];

/// Why a bridge could not be treated so.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// rtnetlink.
    #[error("{0}")]
    Netlink(#[from] NetlinkError),
    /// A setting of it.
    #[error("{0}")]
    Sysctl(#[from] SysctlError),
    /// The socket to send by.
    #[error("{0}")]
    Raw(#[from] RawError),
    /// An announcement.
    #[error("announcing an address on it: {0}")]
    Announce(io::Error),
}

/// A bridge that has one of the gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Names of the interfaces that are part of it.
    pub ports: Vec<String>,
}

/// Finds it by what it is: it has the gateway of one of `networks`, and is not `own`, the node port. One that was
/// found before (`known`) is found without, too: somebody may have taken the address away, and its pods are there.
///
/// # Errors
/// The kernel cannot be asked.
pub fn find(
    netlink: &mut Netlink,
    own: &str,
    networks: &[Network],
    known: Option<&str>,
) -> Result<Option<Bridge>, BridgeError> {
    let links = netlink.links()?;
    let masters: BTreeSet<u32> = links.iter().filter_map(|link| link.master).collect();
    let may_be = |link: &&Link| link.name == USUAL || masters.contains(&link.index);
    for link in links.iter().filter(may_be).filter(|link| link.name != own) {
        let addresses = netlink.addresses(link.index)?;
        let gateway = |ip: IpAddr| networks.iter().any(|network| network.gateway == Some(ip));
        if known == Some(&*link.name) || addresses.iter().any(|address| gateway(address.ip)) {
            let part = |port: &&Link| port.master == Some(link.index);
            return Ok(Some(Bridge {
                index: link.index,
                name: link.name.clone(),
                ports: links.iter().filter(part).map(|p| p.name.clone()).collect(),
            }));
        }
    }
    Ok(None)
}

/// Has the bridge be the way to these pods and to nothing else. Whether anything was done.
///
/// # Errors
/// The kernel refuses a step; those before it are taken.
pub fn narrow(
    netlink: &mut Netlink,
    bridge: &Bridge,
    networks: &[Network],
    pods: &[IpAddr],
) -> Result<bool, BridgeError> {
    let (name, index) = (&bridge.name, bridge.index);
    let mut done = false;
    for (family, key) in PROXY {
        done |= sysctl::set_if_present(&format!("{family}/conf/{name}/{key}"), "1")?;
        // Else it waits up to 0.8 s, for somebody who knows better.
        done |= sysctl::set_if_present(&format!("{family}/neigh/{name}/proxy_delay"), "0")?;
    }
    let addresses = netlink.addresses(index)?;
    let gateways: Vec<IpAddr> = networks.iter().filter_map(|n| n.gateway).collect();
    let wide = |ip: IpAddr| {
        let mut of_it = addresses.iter().filter(move |address| address.ip == ip);
        of_it.find(|address| address.prefix_len != host_len(ip))
    };
    if gateways.iter().any(|ip| wide(*ip).is_some()) {
        pin(netlink, index)?;
    }
    for ip in gateways.iter().copied() {
        let missing = !addresses.iter().any(|address| address.ip == ip);
        let has_pods = || pods.iter().any(|pod| pod.is_ipv6() == ip.is_ipv6());
        if missing && has_pods() || ip.is_ipv4() && wide(ip).is_some() {
            netlink.add_address(index, ip, host_len(ip))?;
            done |= missing;
        }
    }
    done |= routes(netlink, index, pods)?;
    for ip in gateways {
        let Some(address) = wide(ip) else { continue };
        netlink.remove_address(index, ip, address.prefix_len)?;
        // IPv6 has an address once, with one length.
        if ip.is_ipv6() {
            netlink.add_address(index, ip, host_len(ip))?;
        }
        done = true;
    }
    Ok(done)
}

/// Tells the pods on the bridge that these addresses are at its own MAC address from now on: they may know those of
/// pods that had them before, and would send there until they have asked again, half a minute later.
///
/// # Errors
/// There is no such bridge, or it takes no frame.
pub fn announce(netlink: &mut Netlink, name: &str, ips: &[IpAddr]) -> Result<(), BridgeError> {
    let link = netlink.link(name)?;
    let Some(mac) = link.mac else { return Ok(()) };
    let sender = RawSender::open(link.index)?;
    let mut room = [0; ANNOUNCEMENT];
    for ip in ips {
        let len = match ip {
            IpAddr::V4(ip) => arp::write_announcement(&mut room, mac, (*ip).into()),
            // To all, unasked.
            IpAddr::V6(ip) => {
                let (to, asker) = (MacAddr::default(), 0);
                icmpv6::write_advertisement(&mut room, mac, (*ip).into(), to, asker, false)
            }
        };
        if let Some(frame) = len.and_then(|len| room.get(..len)) {
            sender.send(&[frame]).map_err(BridgeError::Announce)?;
        }
    }
    Ok(())
}

/// Has the bridge be what it was before [`narrow`]: whoever made it takes it for its own only then. False if
/// there is none of this name. The node port is gone by then.
///
/// # Errors
/// The kernel refuses a step.
pub fn widen(netlink: &mut Netlink, name: &str, networks: &[Network]) -> Result<bool, BridgeError> {
    let index = match netlink.link(name) {
        Ok(link) => link.index,
        Err(NetlinkError::NoLink { .. }) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let addresses = netlink.addresses(index)?;
    for network in networks {
        let Some(ip) = network.gateway else { continue };
        let (one, all) = (host_len(ip), network.cidr.prefix_len());
        if one == all || !addresses.iter().any(|a| (a.ip, a.prefix_len) == (ip, one)) {
            continue;
        }
        // IPv6 has an address once, with one length.
        if ip.is_ipv6() {
            netlink.remove_address(index, ip, one)?;
            netlink.add_address(index, ip, all)?;
        } else {
            netlink.add_address(index, ip, all)?;
            netlink.remove_address(index, ip, one)?;
        }
    }
    routes(netlink, index, &[])?;
    for ip in netlink.proxies(index)? {
        netlink.remove_proxy(index, ip)?;
    }
    for (family, key) in PROXY {
        sysctl::set_if_present(&format!("{family}/conf/{name}/{key}"), "0")?;
        if let Ok(usual) = sysctl::get(&format!("{family}/neigh/default/proxy_delay")) {
            sysctl::set_if_present(&format!("{family}/neigh/{name}/proxy_delay"), &usual)?;
        }
    }
    Ok(true)
}

/// Has the bridge keep its MAC address when a pod goes. One that nobody has set is the least of its ports', and
/// the pods that stay would send to one that is gone.
fn pin(netlink: &mut Netlink, index: u32) -> Result<(), NetlinkError> {
    let mac = netlink.link_at(index)?.and_then(|link| link.mac);
    let change = LinkChange {
        mac,
        ..LinkChange::default()
    };
    netlink.change_link(index, &change)
}

/// A route for each pod, and none of ours to another.
fn routes(netlink: &mut Netlink, index: u32, pods: &[IpAddr]) -> Result<bool, BridgeError> {
    let to = |ip: IpAddr| Route {
        destination: ip,
        prefix_len: host_len(ip),
        gateway: None,
        onlink: false,
        source: None,
        interface: index,
        protocol: OWNER,
    };
    let there = netlink.routes(index)?;
    let ours =
        |route: &&Route| route.protocol == OWNER && route.prefix_len == host_len(route.destination);
    let mut done = false;
    for pod in pods {
        if !there.iter().any(|r| ours(&r) && r.destination == *pod) {
            netlink.set_route(&to(*pod))?;
            done = true;
        }
    }
    for route in there.iter().filter(ours) {
        if !pods.contains(&route.destination) {
            netlink.remove_route(route)?;
            done = true;
        }
    }
    Ok(done)
}

/// Has the bridge answer neighbour discovery for these addresses, and for no other; ARP it answers for all.
///
/// # Errors
/// The kernel refuses.
pub fn answer_for(
    netlink: &mut Netlink,
    bridge: &Bridge,
    pods: &BTreeSet<IpAddr>,
) -> Result<(), BridgeError> {
    let there = netlink.proxies(bridge.index)?;
    for ip in pods
        .iter()
        .filter(|ip| ip.is_ipv6() && !there.contains(*ip))
    {
        netlink.set_proxy(bridge.index, *ip)?;
    }
    for ip in there.iter().filter(|ip| !pods.contains(*ip)) {
        netlink.remove_proxy(bridge.index, *ip)?;
    }
    Ok(())
}

/// Prefix length of a single address.
fn host_len(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}

#[cfg(test)]
mod tests;
