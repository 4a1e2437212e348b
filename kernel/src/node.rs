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
//! is on it from an earlier configuration is taken away. What it shall be is in
//! `desired`, and set again when somebody changes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::before::Before;
use crate::mac;
use crate::netlink::{Link, LinkChange, Netlink, NetlinkError};
use crate::pod::interface::{Queues, TAP_OWNER_UID};
use crate::sysctl::SysctlError;
use ringway_ports::tap::{self, TapError, TapOptions};
use ringway_tables::Cidr;

use crate::rules;

mod desired;

pub use desired::Desired;

/// A pod network of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its addresses.
    pub cidr: Cidr,
    /// The one that the node has in it.
    pub gateway: IpAddr,
}

/// What the node port is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the interface.
    pub name: String,
    /// Which agent's it is: [`alias`](crate::pod::interface::alias).
    pub alias: String,
    /// Name of the interface to other nodes.
    pub underlay: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// Of the families of these pods are routed; the first of a family has the source of its routes.
    pub own: Vec<Network>,
    /// Pod networks of peers.
    pub peers: Vec<Cidr>,
}

impl Spec {
    /// The first own network of a family.
    fn first(&self, v6: bool) -> Option<Network> {
        let of_family = |network: &&Network| network.cidr.is_ipv6() == v6;
        self.own.iter().find(of_family).copied()
    }
}

/// Next hop of all IPv4 routes to peers' pods. Link-local, so nothing else can
/// mean it; only ringway0 has a neighbour entry for it.
pub const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 82, 87);
/// The same for IPv6: the link-local address that follows from the gateway's
/// MAC (modified EUI-64, RFC 4291 appendix A).
pub const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0052, 0x57ff, 0xfe00, 0x0001);

/// Whether it is one of the two above.
pub fn is_next_hop(ip: IpAddr) -> bool {
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
    spec: &Spec,
    queues: usize,
    before: &mut Before,
) -> Result<Queues, NodeError> {
    let desired = Desired::of(spec);
    remove_renamed(netlink, &desired)?;
    let queues = open(netlink, &desired.name, queues)?;
    let link = netlink.link(&desired.name)?;
    desired.sweep(netlink, link.index, spec)?;
    let mut changed = Vec::new();
    for part in PARTS {
        changed.extend(part(&desired, spec, netlink, &link, before)?);
    }
    if !changed.is_empty() {
        let (n, some) = (changed.len(), changed[..changed.len().min(20)].join(", "));
        tracing::info!(interface = desired.name, n, "set: {some}");
    }
    Ok(queues)
}

/// Takes away a node port of an earlier configuration, under another name: with the same addresses and routes
/// it would go on in place of this one. It is known by its MAC address; one that an agent has open stays.
fn remove_renamed(netlink: &mut Netlink, desired: &Desired) -> Result<(), NodeError> {
    for link in netlink.links()? {
        let ours = link.mac == Some(mac::GATEWAY) && !desired.is_foreign(&link);
        if !ours || link.name == desired.name {
            continue;
        }
        match tap::delete(&link.name) {
            Ok(()) => {
                tracing::info!(
                    "removed {}, the node port before node.interface was changed",
                    link.name
                );
                if let Err(e) = rules::close_forward(&link.name) {
                    tracing::warn!("rules for {} may be left in forward chains: {e}", link.name);
                }
            }
            Err(e) => tracing::warn!(
                "{} has the node port's MAC address and stays: {e}; its routes may go before ours",
                link.name
            ),
        }
    }
    Ok(())
}

/// What a look at the node port came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What had to be set again.
    pub mended: Vec<String>,
    /// What cannot be set.
    pub failed: Vec<String>,
}

/// What may be many, and is looked at only when there is a reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// Permanent neighbour entries.
    pub neighbours: bool,
    /// Routes; the kernel lists those of others, too.
    pub routes: bool,
}

/// Sets what is not as it should be on the interface with this index. One part that fails keeps no other from
/// being set.
pub fn mend(
    netlink: &mut Netlink,
    desired: &Desired,
    spec: &Spec,
    index: u32,
    before: &mut Before,
    many: Many,
) -> Look {
    let mut look = Look::default();
    let link = match name_back(netlink, desired, index, &mut look) {
        Ok(link) => link,
        Err(e) => {
            look.failed.push(e.to_string());
            return look;
        }
    };
    let wanted = [true, true, true, true, many.neighbours, many.routes];
    for (part, _) in PARTS.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
        match part(desired, spec, netlink, &link, before) {
            Ok(mended) => look.mended.extend(mended),
            Err(e) => look.failed.push(e.to_string()),
        }
    }
    look
}

/// The link, which somebody may have given another name.
fn name_back(
    netlink: &mut Netlink,
    desired: &Desired,
    index: u32,
    look: &mut Look,
) -> Result<Link, NodeError> {
    let name = &desired.name;
    let gone = || NetlinkError::NoLink { name: name.clone() };
    let link = netlink.link_at(index)?.ok_or_else(gone)?;
    if link.name == *name {
        return Ok(link);
    }
    let change = |up: Option<bool>, name| LinkChange {
        up,
        name,
        ..LinkChange::default()
    };
    // Before Linux 6.2 an interface that is up keeps its name.
    if netlink
        .change_link(index, &change(None, Some(name)))
        .is_err()
    {
        netlink.change_link(index, &change(Some(false), None))?;
        netlink.change_link(index, &change(None, Some(name)))?;
    }
    look.mended.push(format!("name {name}, was {}", link.name));
    netlink.link_at(index)?.ok_or_else(|| gone().into())
}

/// Sets one part of what is desired; what had to be set.
type Part = fn(&Desired, &Spec, &mut Netlink, &Link, &mut Before) -> Result<Vec<String>, NodeError>;

/// In the order in which they can be set: IPv6 needs an MTU of 1,280 and, for its addresses, its settings;
/// routes need the interface up and addresses on it. The last two are [`Many`].
const PARTS: [Part; 6] = [
    |desired, _, netlink, link, _| desired.set_link(netlink, link),
    |desired, _, _, _, before| Ok(desired.set_settings(before)?),
    |desired, _, netlink, link, _| desired.set_addresses(netlink, link.index),
    |desired, _, netlink, link, _| desired.set_up(netlink, link),
    |desired, _, netlink, link, _| desired.set_neighbours(netlink, link.index),
    |desired, spec, netlink, link, _| desired.set_routes(netlink, link.index, spec),
];
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

#[cfg(test)]
mod tests;
