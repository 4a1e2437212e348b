//! Rows of tables, and what probes say of a peer: `GET /v1/tables/…`

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Traffic;

/// A row of `GET /v1/tables/mac`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MacRow {
    /// MAC address.
    pub mac: String,
    /// Port number.
    pub port: u32,
    /// Name of the port.
    pub name: String,
}

/// A row of `GET /v1/tables/routes`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteRow {
    /// Destination.
    pub prefix: String,
    /// `port 3`, `path 0` or `unreachable`.
    pub target: String,
    /// Name of the pod or peer.
    pub name: String,
}

/// A row of `GET /v1/tables/peers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerRow {
    /// Number in the tables.
    pub peer: u32,
    /// Name.
    pub name: String,
    /// Outer addresses.
    pub addresses: Vec<IpAddr>,
    /// Pod networks.
    pub pod_cidrs: Vec<String>,
    /// Received from it.
    pub from_peer: Traffic,
    /// Sent to it.
    pub to_peer: Traffic,
    /// What probes of the path to it say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<PeerHealth>,
}

/// Whether a peer is reached; the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers no probes, and never has: a Flannel node, or an agent without them.
    Mute,
    /// It answers.
    Reached,
    /// It answers, but large packets to it vanish.
    BlackHole,
    /// What is sent there is lost, though its own packets come.
    NotHeard,
    /// It answers no more, and nothing comes from it.
    Silent,
}

/// What probes of the path to a peer say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHealth {
    /// Whether it is reached.
    pub state: PeerState,
    /// For how many seconds.
    pub since_s: u64,
    /// The outer address that was asked.
    pub address: IpAddr,
    /// Round trip, smoothed, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Probes sent.
    pub probes: u64,
    /// Of those, not answered within a second.
    pub lost: u64,
    /// Largest IP packet of a pod that has been seen to pass, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_mtu: Option<u16>,
}

/// A row of `GET /v1/tables/neighbours`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// Address.
    pub ip: IpAddr,
    /// What the switch answers.
    pub mac: String,
}

/// A row of `GET /v1/tables/paths`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PathRow {
    /// Number in the tables.
    pub path: u32,
    /// Name of the peer.
    pub peer: String,
    /// `IPv4` or `IPv6`: pods it carries.
    pub carries: String,
    /// Encapsulation.
    pub encap: String,
    /// Our outer address.
    pub src: IpAddr,
    /// The peer's outer address.
    pub dst: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Inner destination MAC.
    pub dst_mac: String,
}
