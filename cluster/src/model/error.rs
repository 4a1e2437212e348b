//! Why a change is refused. Nothing is changed then.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_tables::Cidr;

use super::{Source, Via};

/// A contradiction in what sources say; both sides are named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The same peer twice.
    #[error("peer {name} is given twice by {source_name}; remove one of the two")]
    PeerTwice {
        /// Its name.
        name: Arc<str>,
        /// Who says so.
        source_name: Source,
    },
    /// A peer that is this node.
    #[error("peer {name} has the name of this node; remove it, or name one of the two otherwise")]
    PeerIsNode {
        /// Its name.
        name: Arc<str>,
    },
    /// The first pod network of a family is too small.
    #[error(
        "{cidr} is the first of this node's pod networks of its family and has no room for a gateway and a pod: \
         put a larger one first"
    )]
    NoGateway {
        /// The network.
        cidr: Cidr,
    },
    /// The same prefix twice.
    #[error(
        "{prefix} is given twice by {source_name}, as {one}'s and {other}'s; remove one of the two"
    )]
    RouteTwice {
        /// The prefix.
        prefix: Cidr,
        /// Who says so.
        source_name: Source,
        /// One of them.
        one: Via,
        /// The other.
        other: Via,
    },
    /// A peer belongs to the source that was first.
    #[error(
        "peer {name} of {new} is known from {owner} already; only one source may describe a peer"
    )]
    PeerOfAnother {
        /// Its name.
        name: Arc<str>,
        /// Who says so now.
        new: Source,
        /// Who said so before.
        owner: Source,
    },
    /// A route without its peer.
    #[error("{prefix} leads to peer {peer}, which is not known; add the peer, or remove the route")]
    NoPeer {
        /// The prefix.
        prefix: Cidr,
        /// Name of the peer.
        peer: Arc<str>,
    },
    /// A route of a family for which its peer has no path.
    #[error("{prefix} leads to peer {peer}, which has no path for that family")]
    NoPath {
        /// The prefix.
        prefix: Cidr,
        /// Name of the peer.
        peer: Arc<str>,
    },
    /// One outer address, two peers.
    #[error(
        "{address} is an address of peer {one} and of peer {other}; remove it from one of the two"
    )]
    AddressTwice {
        /// The address.
        address: IpAddr,
        /// One of them.
        one: Arc<str>,
        /// The other.
        other: Arc<str>,
    },
    /// The tunnel would lead into itself.
    #[error(
        "{address} of peer {peer} lies in the pod network {prefix} of {via}: \
         outer addresses belong to the underlay, choose another network or address"
    )]
    AddressInPods {
        /// The address.
        address: IpAddr,
        /// The peer's name.
        peer: Arc<str>,
        /// The pod network.
        prefix: Cidr,
        /// Whose that is.
        via: Via,
    },
}
