//! Why the control plane does not do what it is asked. Nothing has changed then.

use std::io;
use std::net::IpAddr;

use ringway_tables::{Cidr, TableError};
use ringway_worker::limits::LimitError;

use crate::captures::NoPoint;
use crate::request_values::ValueError;

use ringway_kernel::netns::NetnsError;
use ringway_kernel::pod::interface::InterfaceError;
use ringway_kernel::rules::{PortError, RulesError};

/// What a route of a pod should look like.
const ROUTE: &str = "write a network such as 10.96.0.0/12 and a next hop of its family";
/// What to do about an attachment that is not as it was made.
const AGAIN: &str = "DEL and ADD the pod again";
/// What to do about a state that cannot be written.
pub(super) const UNSAVED: &str = "make room on, or make writable, the file system of node.state_dir; it is \
                                  tried again once a second";

/// A request that is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ControlError {
    #[error(transparent)]
    Asked(#[from] ValueError),
    #[error("pod {pod} is attached already, in {netns} as {ifname}")]
    Attached {
        pod: String,
        netns: String,
        ifname: String,
    },
    #[error("{ifname} is attached already, as pod {pod}")]
    AttachedByAdd { pod: String, ifname: String },
    #[error("{node} has no pod network yet: {why}")]
    NoNetwork {
        node: String,
        why: String,
        remedy: String,
    },
    #[error("pod {pod} has no address")]
    NoAddress { pod: String },
    #[error("mtu {mtu} is above {limit}, which is what the underlay leaves")]
    Mtu { mtu: u16, limit: u16 },
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("address {ip} of {pod} already belongs to pod {holder}")]
    AddressTaken {
        ip: IpAddr,
        pod: String,
        holder: String,
    },
    #[error("address {ip} already belongs to pod {holder}, which {why}")]
    AddressKept {
        ip: IpAddr,
        holder: String,
        why: &'static str,
    },
    #[error(
        "the namespace has {other} of this network already, as pod {pod}: a second interface, {ifname}, \
         would be of the same subnet, and answers would leave by the wrong one"
    )]
    SecondInterface {
        other: String,
        pod: String,
        ifname: String,
    },
    #[error("{0}")]
    Table(#[from] TableError),
    #[error("{0}")]
    Interface(#[from] InterfaceError),
    #[error("{}", rules(.0))]
    Rules(#[from] RulesError),
    #[error("{ip} is outside this node's pod networks ({networks})")]
    Outside { ip: IpAddr, networks: String },
    #[error("{ip} is {what} of {cidr}")]
    Reserved {
        ip: IpAddr,
        what: &'static str,
        cidr: Cidr,
    },
    #[error("no address is left: {holders} pods have all {size} of {networks} ({some}, …)")]
    Full {
        holders: usize,
        size: u64,
        networks: String,
        some: String,
    },
    #[error("there is no {ifname} of container {container_id}")]
    Unknown {
        ifname: String,
        container_id: String,
    },
    #[error("{0}")]
    Gone(NetnsError),
    #[error("{0}")]
    Broken(String),
    #[error("the IPAM plugin gave {given}, the pod network is {cidr}")]
    IpamNetwork { given: String, cidr: Cidr },
    #[error("the IPAM plugin gave the gateway {given:?}, which is no IP address")]
    IpamNoGateway { given: String },
    #[error("the IPAM plugin gave the gateway {given:?}, the node's is {own}")]
    IpamGateway { given: String, own: String },
    #[error("route: {0}")]
    RouteNetwork(ringway_tables::CidrError),
    #[error("route {dst}: {why}")]
    Route { dst: String, why: &'static str },
    #[error("the node's network is not as it should be: {why}")]
    Node { why: String },
    #[error("{what}")]
    Unsaved { what: String },
    #[error(transparent)]
    NoPoint(#[from] NoPoint),
    #[error("{most} captures and live traces are running, more are not allowed")]
    Captures { most: usize },
    #[error("no pod is attached now: {why}")]
    NotNow { why: String },
    #[error("pods of this node would lose their network ({count}): {some}")]
    PodsHere { count: usize, some: String },
}

/// Host ports are one thing of two that the rules are about.
fn rules(error: &RulesError) -> String {
    match error {
        RulesError::Port(_) => error.to_string(),
        RulesError::Nft(_) => format!("host ports cannot be set: {error}"),
    }
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Invalid,
    /// It contradicts what is.
    Taken,
    /// There is no such attachment.
    Unknown,
    /// There is no such namespace.
    NoNetns,
    /// No address is left.
    Full,
    /// It may be served later.
    Later,
    /// Something on this machine failed.
    Failed,
}

impl ControlError {
    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Asked(_)
            | Self::NoAddress { .. }
            | Self::Mtu { .. }
            | Self::Limit(_)
            | Self::Outside { .. }
            | Self::Reserved { .. }
            | Self::IpamNetwork { .. }
            | Self::IpamNoGateway { .. }
            | Self::IpamGateway { .. }
            | Self::RouteNetwork(_)
            | Self::Route { .. } => Kind::Invalid,
            Self::Attached { .. }
            | Self::AttachedByAdd { .. }
            | Self::AddressTaken { .. }
            | Self::AddressKept { .. }
            | Self::PodsHere { .. }
            | Self::Captures { .. }
            | Self::SecondInterface { .. }
            | Self::Table(_)
            | Self::Broken(_) => Kind::Taken,
            Self::Interface(error) => of_interface(error),
            Self::Rules(RulesError::Port(PortError::Taken { .. } | PortError::Listener { .. })) => {
                Kind::Taken
            }
            Self::Rules(RulesError::Port(_)) => Kind::Invalid,
            Self::Rules(RulesError::Nft(_)) | Self::Node { .. } => Kind::Failed,
            Self::Full { .. } => Kind::Full,
            Self::Unknown { .. } | Self::NoPoint(_) => Kind::Unknown,
            Self::Gone(_) => Kind::NoNetns,
            Self::Unsaved { .. } | Self::NoNetwork { .. } | Self::NotNow { .. } => Kind::Later,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let text = match self {
            Self::Asked(error) => error.remedy(),
            Self::Attached { .. } => "detach it first, or give another name",
            Self::AttachedByAdd { .. } => {
                "DEL comes before a second ADD for the same container and interface"
            }
            Self::NoNetwork { remedy, .. } => return remedy.clone(),
            Self::NoAddress { .. } => "give one",
            Self::Mtu { .. } => "leave mtu out, or raise the underlay's",
            Self::Limit(_) => "see the message",
            Self::AddressTaken { holder, .. } | Self::AddressKept { holder, .. } => {
                return format!("choose another, or detach {holder}");
            }
            Self::PodsHere { .. } => {
                "drain the node: kubectl drain NODE --ignore-daemonsets --delete-emptydir-data; then, if only pods \
                 are left that may lose it: ringway give-back --yes"
            }
            Self::SecondInterface { .. } => {
                "attach the second interface to another network, or leave it out"
            }
            Self::Table(TableError::TooManyPorts { .. }) => {
                "detach a pod, or attach this one to another node"
            }
            Self::Table(_) => "choose another, or detach who has it",
            Self::Interface(error) => match of_interface(error) {
                Kind::Taken => {
                    "detach the pod that has it, delete the interface, or use another ifname"
                }
                Kind::NoNetns => "create the namespace first; `ip netns` lists those with a name",
                Kind::Invalid => {
                    "give a name that `ip netns` lists, or a path such as /proc/<pid>/ns/net"
                }
                _ => "see the agent's log; nothing was left behind",
            },
            Self::Rules(RulesError::Port(PortError::Taken { .. })) => {
                "use another host port, or remove that pod"
            }
            Self::Rules(RulesError::Port(PortError::Listener { .. })) => {
                "use another host port, or end that process (`ss -lnp` lists them all)"
            }
            Self::Rules(RulesError::Port(_)) => {
                "write hostPort and containerPort from 1 to 65535, protocol tcp, udp or sctp, and an \
                 address of the node as hostIP, or none"
            }
            Self::Rules(RulesError::Nft(_)) => {
                "install nftables and see that the kernel has nf_tables with NAT; `ringway status` says more"
            }
            Self::Outside { .. } => "choose an address inside",
            Self::Reserved { .. } => "choose another address inside",
            Self::Full { .. } => {
                "`ringway pods` lists who has them; remove pods, widen ipam.ranges, or give the node a \
                 larger pod network"
            }
            Self::Unknown { .. } => "DEL and ADD it again",
            Self::Gone(_) | Self::Broken(_) => AGAIN,
            Self::IpamNetwork { .. } => "give the IPAM plugin the node's pod network as its subnet",
            Self::IpamNoGateway { .. } => "look at the IPAM plugin's configuration",
            Self::IpamGateway { .. } => {
                "set the IPAM plugin's gateway to the node's, or leave it out"
            }
            Self::RouteNetwork(_) | Self::Route { .. } => ROUTE,
            Self::Node { .. } => {
                "see `ringway status`; what can be set is tried again once a second"
            }
            Self::NoPoint(error) => error.remedy(),
            Self::Captures { .. } => "end one: each runs as long as the command that began it",
            Self::NotNow { .. } => "see `ringway status`; what can be is tried again by itself",
            Self::Unsaved { .. } => UNSAVED,
        };
        text.to_owned()
    }
}

fn of_interface(error: &InterfaceError) -> Kind {
    match error {
        InterfaceError::NameTaken { .. } => Kind::Taken,
        InterfaceError::Netns(NetnsError::Open { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Kind::NoNetns
        }
        InterfaceError::Netns(
            NetnsError::NotNetns { .. } | NetnsError::Own { .. } | NetnsError::Name { .. },
        ) => Kind::Invalid,
        _ => Kind::Failed,
    }
}
