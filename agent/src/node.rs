//! `ringway0`: the node's own port.
//!
//! A persistent TAP in the agent's namespace with the gateway's MAC and
//! addresses. By the on-link prefix the node finds its own pods (the switch
//! answers ARP and neighbour discovery for them); pods of other nodes are
//! routed to one next hop for all, whose permanent neighbour entry is the
//! gateway's MAC: a thousand remote pods need one entry, and a frame to that
//! MAC is routed by the switch.
//!
//! ```text
//! 10.77.1.0/24 dev ringway0            src 10.77.1.1     own pods, by ARP
//! 10.77.2.0/24 via 169.254.82.87 dev ringway0 onlink     a peer's pods
//! 169.254.82.87 lladdr 02:52:57:00:00:01 PERMANENT
//! ```
//!
//! The interface is left in place when the agent stops, and found again; what
//! is on it from an earlier configuration is taken away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringway_ports::tap::{self, TapError, TapOptions};

use crate::before::Before;
use crate::config::{Config, gateway};
use crate::gso;
use crate::mac;
use crate::netlink::{LinkChange, Netlink, NetlinkError, Route};
use crate::pod::interface::{Queues, TAP_OWNER_UID};
use crate::sysctl::{self, SysctlError};

/// Next hop of all IPv4 routes to peers' pods. Link-local, so nothing else can
/// mean it; only ringway0 has a neighbour entry for it.
pub const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 82, 87);
/// The same for IPv6: the link-local address that follows from the gateway's
/// MAC (modified EUI-64, RFC 4291 appendix A).
pub const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0052, 0x57ff, 0xfe00, 0x0001);

/// Whether it is one of the two above.
pub(crate) fn is_next_hop(ip: IpAddr) -> bool {
    ip == IpAddr::V4(NEXT_HOP) || ip == IpAddr::V6(NEXT_HOP_V6)
}

/// Why the node port could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The TAP.
    #[error("node port: {0}")]
    Tap(#[from] TapError),
    /// There is another interface of this name.
    #[error(
        "node port: there is an interface {name} already, and it is not a TAP. \
         Remove it (ip link del {name}), or set node.interface to another name"
    )]
    NotTap {
        /// Its name.
        name: String,
    },
    /// Somebody else reads it.
    #[error(
        "node port: {name} is in use by another process. \
         Is a second agent running here with another state directory?"
    )]
    Busy {
        /// Its name.
        name: String,
    },
    /// rtnetlink.
    #[error("node port: {0}")]
    Netlink(#[from] NetlinkError),
    /// A kernel setting.
    #[error("node port: {0}")]
    Sysctl(#[from] SysctlError),
}

/// Makes or finds the node port and sets everything on it.
pub fn setup(
    netlink: &mut Netlink,
    config: &Config,
    mtu: u16,
    queues: usize,
    before: &mut Before,
) -> Result<Queues, NodeError> {
    let name = &config.node.interface;
    let queues = open(netlink, name, queues)?;
    let link = netlink.link(name)?;
    kernel_settings(config, before)?;
    let gso = gso::limits(mtu);
    netlink.change_link(
        link.index,
        &LinkChange {
            mac: Some(mac::GATEWAY).filter(|m| link.mac != Some(*m)),
            mtu: Some(mtu.into()),
            gso_max_size: Some(gso.size),
            gso_max_segs: Some(gso.segments),
            ..LinkChange::default()
        },
    )?;
    addresses(netlink, config, link.index)?;
    netlink.change_link(
        link.index,
        &LinkChange {
            up: Some(true),
            ..LinkChange::default()
        },
    )?;
    routes(netlink, config, link.index)?;
    Ok(queues)
}

/// Opens the queues of the TAP, making it if there is none. One made for
/// another number of workers keeps its queue mode: the kernel allows no other.
fn open(netlink: &mut Netlink, name: &str, wanted: usize) -> Result<Queues, NodeError> {
    let existing = match netlink.link(name) {
        Ok(_) => true,
        Err(NetlinkError::NoLink { .. }) => false,
        Err(e) => return Err(e.into()),
    };
    let mut multi_queue = wanted > 1;
    let first = if existing {
        match tap::open_queue(name, multi_queue) {
            Err(TapError::QueueMode { .. }) => {
                multi_queue = !multi_queue;
                tap::open_queue(name, multi_queue)
            }
            other => other,
        }
    } else {
        tap::create_persistent(
            name,
            &TapOptions {
                multi_queue,
                owner_uid: Some(TAP_OWNER_UID),
            },
        )
    };
    let name_of = || name.to_owned();
    let first = first.map_err(|e| match e {
        TapError::NotTap { .. } => NodeError::NotTap { name: name_of() },
        TapError::Busy { .. } => NodeError::Busy { name: name_of() },
        e => e.into(),
    })?;
    let mut queues = Queues {
        fds: vec![Arc::new(first.fd)],
        uso: first.offloads.uso,
    };
    if multi_queue {
        for _ in 1..wanted {
            queues.fds.push(Arc::new(tap::open_queue(name, true)?.fd));
        }
    }
    Ok(queues)
}

/// Forwarding, and what would get in its way.
fn kernel_settings(config: &Config, before: &mut Before) -> Result<(), NodeError> {
    let name = &config.node.interface;
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
    if config.pod_cidr(false).is_some() {
        set("ipv4/ip_forward".into(), "1")?;
        // The effective value is the larger of all and the interface's own: 2
        // (loose) is the largest, so it holds whatever `all` says. Replies that
        // a DNAT brought here come with sources the strict mode may not expect.
        set(format!("ipv4/conf/{name}/rp_filter"), "2")?;
        // Effective if either is set, so both have to be off: pods behind one
        // interface would be told to talk to each other directly. Other
        // interfaces keep their own value, which is on by default.
        set(format!("ipv4/conf/{name}/send_redirects"), "0")?;
        set("ipv4/conf/all/send_redirects".into(), "0")?;
        // The switch sends ICMP errors from the gateway's address, which is the
        // node's own; a packet from an own address is a martian otherwise, and
        // the node would never learn a path's MTU. Nobody else can send from it:
        // the switch knows where every other source belongs.
        set(format!("ipv4/conf/{name}/accept_local"), "1")?;
    }
    // Without link-local address the node sends no router or listener messages,
    // and no redirects, by this interface.
    let v6 = |key: &str| format!("ipv6/conf/{name}/{key}");
    if config.pod_cidr(true).is_some() {
        set(v6("disable_ipv6"), "0")?;
        set(v6("addr_gen_mode"), "1")?;
        set(v6("accept_ra"), "0")?;
        set(v6("accept_dad"), "0")?;
        if sysctl::get("ipv6/conf/all/forwarding")? != "1" {
            // A forwarding node ignores router advertisements unless told
            // otherwise (2): the underlay would lose its default route.
            let accept = format!("ipv6/conf/{}/accept_ra", config.underlay.interface);
            if sysctl::get(&accept)? == "1" {
                set(accept, "2")?;
            }
            set("ipv6/conf/all/forwarding".into(), "1")?;
        }
    } else {
        sysctl::set_if_present(&v6("disable_ipv6"), "1")?;
    }
    if !changed.is_empty() {
        tracing::info!("kernel settings changed: {}", changed.join(", "));
    }
    Ok(())
}

/// Gateways, and the IPv4 network address: what Flannel nodes have as their own
/// on the overlay (flannel.1) and take as their source.
fn addresses(netlink: &mut Netlink, config: &Config, index: u32) -> Result<(), NodeError> {
    let mut wanted = Vec::new();
    for cidr in &config.node.pod_cidrs {
        wanted.push((gateway(*cidr), cidr.prefix_len()));
    }
    wanted.extend(config.pod_cidr(false).map(|c| (c.network(), 32)));
    for old in netlink.addresses(index)? {
        if old.global && !wanted.contains(&(old.ip, old.prefix_len)) {
            tracing::info!("removing {}/{} from the node port", old.ip, old.prefix_len);
            netlink.remove_address(index, old.ip, old.prefix_len)?;
        }
    }
    for (ip, len) in wanted {
        netlink.add_address(index, ip, len)?;
    }
    Ok(())
}

/// Routes to the pods of peers.
fn routes(netlink: &mut Netlink, config: &Config, index: u32) -> Result<(), NodeError> {
    for v6 in [false, true] {
        let Some(own) = config.pod_cidr(v6) else {
            continue;
        };
        let next_hop: IpAddr = if v6 {
            NEXT_HOP_V6.into()
        } else {
            NEXT_HOP.into()
        };
        netlink.set_neighbour(index, next_hop, mac::GATEWAY)?;
        let cidrs = config.peers.iter().flat_map(|p| &p.pod_cidrs);
        let wanted: Vec<Route> = cidrs
            .filter(|c| c.is_ipv6() == v6)
            .map(|c| Route {
                destination: c.network(),
                prefix_len: c.prefix_len(),
                gateway: Some(next_hop),
                onlink: true,
                source: Some(gateway(own)),
                interface: index,
            })
            .collect();
        for old in netlink.routes(index)? {
            let same =
                |w: &Route| (w.destination, w.prefix_len) == (old.destination, old.prefix_len);
            if old.gateway == Some(next_hop) && !wanted.iter().any(same) {
                tracing::info!("removing route {}/{}", old.destination, old.prefix_len);
                netlink.remove_route(&old)?;
            }
        }
        for route in &wanted {
            netlink.set_route(route)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
