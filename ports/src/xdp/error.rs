//! What can go wrong between a filter and a program at work.

use std::io;
use std::net::IpAddr;

use super::{Occupant, Refusal};

/// Why a filter makes no sense.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum FilterError {
    /// Not the address of one interface.
    #[error(
        "{address} is not a unicast address; the filter takes the node's own underlay addresses"
    )]
    NotUnicast {
        /// As given.
        address: IpAddr,
    },
    /// UDP has no port 0.
    #[error("cannot receive on UDP port 0")]
    PortZero,
    /// A prefix length that the family does not have, or one of zero, which would take all traffic away
    /// from the node.
    #[error("CIDR {address}/{prefix}: the prefix length must be 1 to {limit}")]
    Prefix {
        /// Address of the CIDR.
        address: IpAddr,
        /// As given.
        prefix: u8,
        /// The most its family allows.
        limit: u8,
    },
    /// All traffic to that address, also of the node's own connections, would go to the sockets.
    #[error(
        "CIDR {network}/{prefix} covers the underlay address {address}: all traffic of the node would be taken from it"
    )]
    CoversAddress {
        /// Network of the CIDR.
        network: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// The address in it.
        address: IpAddr,
    },
    /// More than are compared in a reasonable time for every frame.
    #[error("{given} {what}: at most {limit} fit the XDP program")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        given: usize,
        /// The most.
        limit: usize,
    },
}

/// Why a map or program could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The filter makes no sense.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A privilege is missing.
    #[error(
        "{call} is not permitted: the agent needs CAP_BPF and CAP_NET_ADMIN (CAP_SYS_ADMIN to see and replace programs of others); before Linux 5.11 also a higher RLIMIT_MEMLOCK"
    )]
    Privilege {
        /// The command of bpf(2).
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has no bpf(2), or not this command of it.
    #[error("this kernel lacks {call}; XDP with links needs Linux 5.9")]
    Unsupported {
        /// The command of bpf(2).
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The verifier refused the program: a mistake in Ringway, or a kernel older than we know.
    #[error("the kernel's verifier refuses the XDP program: {source}; its log ends with: {log}")]
    Verifier {
        /// What the kernel said.
        source: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// A queue the map has no slot for.
    #[error("queue {queue} is out of range: the map of sockets has {queues} slots")]
    Queue {
        /// As given.
        queue: u32,
        /// Slots of the map.
        queues: u32,
    },
    /// A map without slots.
    #[error("a map of sockets needs at least one queue")]
    NoQueues,
    /// Only an AF_XDP socket can be put into the map.
    #[error("the descriptor for queue {queue} is not an AF_XDP socket: {source}")]
    NotXdpSocket {
        /// The slot.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Any other call that failed.
    #[error("{call} failed: {source}")]
    Call {
        /// The command of bpf(2).
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BpfError {
    /// The error of a command of bpf(2).
    pub(super) fn call(call: &'static str, source: io::Error) -> BpfError {
        match source.raw_os_error() {
            Some(libc::EPERM) => BpfError::Privilege { call, source },
            Some(libc::ENOSYS) => BpfError::Unsupported { call, source },
            _ => BpfError::Call { call, source },
        }
    }
}

/// Why a program could not be attached, replaced or adopted.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface in this network namespace.
    #[error("interface {interface} cannot be found: {source}")]
    NoSuchInterface {
        /// As given.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else's program is there, or one that cannot be told to be ours and does not go.
    #[error(
        "interface {interface} has a foreign XDP program, which stays: {occupant}; remove it, or use another interface or kind of underlay"
    )]
    Foreign {
        /// As given.
        interface: String,
        /// What is there.
        occupant: Occupant,
    },
    /// A program of ours is there and was not to be taken over, or would not go.
    #[error(
        "interface {interface} has an XDP program of Ringway: {occupant}; stop the other agent, or take over what it left"
    )]
    Ours {
        /// As given.
        interface: String,
        /// What is there.
        occupant: Occupant,
    },
    /// The mode wanted was refused.
    #[error("interface {interface}: {refusal}")]
    Refused {
        /// As given.
        interface: String,
        /// Why.
        refusal: Refusal,
    },
    /// Both modes were refused.
    #[error("interface {interface}: {native}; and {generic}")]
    BothRefused {
        /// As given.
        interface: String,
        /// Why native was.
        native: Refusal,
        /// Why generic was.
        generic: Refusal,
    },
    /// The interface or the link has gone: the program is no longer attached.
    #[error(
        "the XDP program is no longer attached to interface {interface}: the interface was deleted, or another agent has taken over"
    )]
    Gone {
        /// Its name, or its index if that is not known.
        interface: String,
    },
    /// A descriptor to adopt that is not the link of a program at an interface of this network namespace.
    #[error(
        "the descriptor is not the link of an XDP program at an interface of this network namespace"
    )]
    NotALink,
    /// bpf(2) failed before or beside that.
    #[error(transparent)]
    Bpf(BpfError),
}

impl AttachError {
    /// Whether it may be otherwise in a moment.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            AttachError::Refused { refusal, .. } => matches!(refusal, Refusal::Busy { .. }),
            AttachError::BothRefused {
                native, generic, ..
            } => matches!(native, Refusal::Busy { .. }) || matches!(generic, Refusal::Busy { .. }),
            _ => false,
        }
    }
}
