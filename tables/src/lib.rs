//! What the switch knows: MACs, routes, neighbours, peers and paths, as immutable snapshots.
//!
//! ```text
//! Snapshot ─┬─ macs        MAC          → port      ShardMap
//!           ├─ routes4/6   prefix       → target    Lpm: a ShardMap per prefix length
//!           ├─ neighbours  IP           → MAC       ShardMap; what ARP and ND are answered from
//!           ├─ sources     outer source → peer      ShardMap; who may send to us
//!           └─ ports, peers, paths      by number   Chunked
//! ```
//!
//! Every table is persistent: cloning a [`Snapshot`] takes a dozen reference counts, changing one
//! entry of the clone copies a pointer array and one shard of at most 8 KB, and all the rest stays
//! shared with the snapshot that the workers are reading meanwhile. A [`Publisher`] swaps the root
//! in; a [`Reader`] sees the change at its next batch and never waits.
//!
//! Addresses are `u32` and `u128` in host order; an address of any family is a `u128` with IPv4
//! mapped (`::ffff:a.b.c.d`). The crate is pure: no I/O, no clock, no unsafe code.
#![forbid(unsafe_code)]

mod chunked;
mod cidr;
mod claims;
mod entries;
mod error;
mod ids;
mod lpm;
mod publish;
mod shard_map;
mod snapshot;

pub use chunked::Chunked;
pub use cidr::{Cidr, CidrError};
pub use entries::{NodeInfo, Path, Peer, PeerPaths, Port, PortKind};
pub use error::TableError;
pub use ids::{PathId, PeerId, PortId, Target};
pub use lpm::{Address, Lpm};
pub use publish::{Publisher, Reader};
pub use shard_map::{Key, ShardMap};
pub use snapshot::{MacTable, RouteChange, Snapshot};

/// Peers there can be. Whoever has something for each peer, as the counters do, makes room for so many.
pub const MAX_PEERS: u32 = 8192;
/// Ports there can be, the node's included.
pub const MAX_PORTS: u32 = 4096;
