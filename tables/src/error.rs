//! Why a change to the tables is refused. Nothing is changed then.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_packet::mac::MacAddr;

use crate::{Cidr, PeerId, PortId};

/// A refused change. Where two sides contradict each other both are named.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum TableError {
    /// The port number is taken.
    #[error("port {id} of {new} is already {holder}")]
    PortTaken {
        /// Port number.
        id: PortId,
        /// Port to be added.
        new: Arc<str>,
        /// Port that has the number.
        holder: Arc<str>,
    },
    /// Port 0 is the node's, all others are pods'.
    #[error("port {id} of {new} is of the wrong kind: 0 is the node's port, all others are pods'")]
    PortKind {
        /// Port number.
        id: PortId,
        /// Port to be added.
        new: Arc<str>,
    },
    /// Not the MAC of one interface.
    #[error("MAC {mac} of {new} is not a unicast address")]
    InvalidMac {
        /// MAC given.
        mac: MacAddr,
        /// Whose it would be.
        new: Arc<str>,
    },
    /// Somebody else has the MAC.
    #[error("MAC {mac} of {new} already belongs to {holder}")]
    DuplicateMac {
        /// MAC given.
        mac: MacAddr,
        /// Whose it would be.
        new: Arc<str>,
        /// Whose it is.
        holder: String,
    },
    /// Unspecified, multicast, or of the other family in disguise.
    #[error("address {address} of {new} is not a unicast address of its family")]
    InvalidAddress {
        /// Address given.
        address: IpAddr,
        /// Whose it would be.
        new: Arc<str>,
    },
    /// Somebody else has the address, or it lies in somebody else's network.
    #[error("address {address} of {new} already belongs to {holder}")]
    DuplicateAddress {
        /// Address given.
        address: IpAddr,
        /// Whose it would be.
        new: Arc<str>,
        /// Whose it is.
        holder: String,
    },
    /// Two networks, or a network and an underlay address, share addresses.
    #[error("{what} of {new} overlaps {other} of {holder}")]
    Overlap {
        /// Network or address given.
        what: Cidr,
        /// Whose it would be.
        new: Arc<str>,
        /// What is there already.
        other: Cidr,
        /// Whose that is.
        holder: String,
    },
    /// Two peers of one name.
    #[error("peer {name} is already there as peer {id}")]
    DuplicatePeer {
        /// Name of both.
        name: Arc<str>,
        /// The one there.
        id: PeerId,
    },
    /// No such peer.
    #[error("there is no peer {id}")]
    NoPeer {
        /// Number given.
        id: PeerId,
    },
    /// No room for another peer.
    #[error("there is no room for peer {name}: {limit} peers at most")]
    TooManyPeers {
        /// The peer.
        name: Arc<str>,
        /// The most there can be.
        limit: u32,
    },
    /// No room for another port.
    #[error("there is no room for another pod: {pods} at most")]
    TooManyPorts {
        /// The most there can be.
        pods: u32,
    },
    /// A network of a family without a path.
    #[error("peer {name} has the network {cidr} but no path for that family")]
    NoPath {
        /// The peer.
        name: Arc<str>,
        /// Its network.
        cidr: Cidr,
    },
    /// A gateway outside of the node's networks.
    #[error("gateway {gateway} lies in none of the pod networks of {node}")]
    GatewayOutside {
        /// Gateway given.
        gateway: IpAddr,
        /// The node.
        node: Arc<str>,
    },
}
