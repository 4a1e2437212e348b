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
//! is on it from an earlier configuration is taken away. [`NodePort`] keeps it as
//! it shall be, each kind of thing on it in a file of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::mac;
use crate::netlink::{Netlink, NetlinkError};
use crate::pod::interface::TAP_OWNER_UID;
use crate::pod::lanes::{self, Queues};
use ringway_ports::tap::{self, TapError, TapOptions};
use ringway_tables::Cidr;

use crate::rules;

mod addresses;
mod link;
mod neighbours;
mod overrides;
mod port;
mod routes;
mod settings;

pub use crate::network::Network;
pub use port::{NodePort, Presence};

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
    pub peers: BTreeSet<Cidr>,
}

impl Spec {
    /// The main own network of a family: the first that has a gateway.
    fn first(&self, v6: bool) -> Option<(Cidr, IpAddr)> {
        let mut of_family = self
            .own
            .iter()
            .filter(|network| network.cidr.is_ipv6() == v6);
        of_family.find_map(|network| Some((network.cidr, network.gateway?)))
    }
}

/// Next hop of all IPv4 routes to peers' pods. Link-local, so nothing else can
/// mean it; only ringway0 has a neighbour entry for it.
pub const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 82, 87);
/// The same for IPv6: the link-local address that follows from the gateway's
/// MAC (modified EUI-64, RFC 4291 appendix A).
pub const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0052, 0x57ff, 0xfe00, 0x0001);

/// The one of a family.
fn next_hop(v6: bool) -> IpAddr {
    match v6 {
        true => NEXT_HOP_V6.into(),
        false => NEXT_HOP.into(),
    }
}

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
    /// Something on it is not as it should be.
    #[error("node port: {0}")]
    Wrong(String),
}

/// Takes away a node port of an earlier configuration, under another name: with the same addresses and routes
/// it would go on in place of this one. It is known by its MAC address; one that an agent has open stays.
fn remove_renamed(netlink: &mut Netlink, spec: &Spec) -> Result<(), NodeError> {
    for link in netlink.links()? {
        // Another agent says that it is its own.
        let foreign = link
            .alias
            .as_ref()
            .is_some_and(|alias| *alias != spec.alias);
        if link.mac != Some(mac::GATEWAY) || foreign || link.name == spec.name {
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

/// Opens the queues of the TAP, making it if there is none. One made with
/// another queue mode keeps it: the kernel allows no other.
fn open(netlink: &mut Netlink, name: &str, workers: usize) -> Result<Queues, NodeError> {
    let existing = match netlink.link(name) {
        Ok(_) => true,
        Err(NetlinkError::NoLink { .. }) => false,
        Err(e) => return Err(e.into()),
    };
    // One that was made before there were lanes may have one queue.
    let mut multi_queue = true;
    let first = if existing {
        match tap::open_first(name, multi_queue) {
            Err(TapError::QueueMode { .. }) => {
                multi_queue = !multi_queue;
                tap::open_first(name, multi_queue)
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
    let mut queues = Queues::single(first);
    if multi_queue {
        lanes::open_others(&mut queues, name, workers)?;
    }
    Ok(queues)
}

#[cfg(test)]
mod tests;
