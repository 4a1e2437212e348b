//! What can be wrong with a configuration, and what to do about it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ringway_log::Format;

/// A mistake in the configuration, with its place.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1, when it is known.
    pub line: Option<usize>,
    /// Key path such as `peers[1].pod_cidrs[0]`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub problem: Box<Problem>,
}

/// What is wrong: each variant carries the value seen and its limit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Problem {
    #[error("cannot be read: {why}")]
    Read { kind: io::ErrorKind, why: String },
    #[error("{message}{}", quoted(.text))]
    Syntax { message: String, text: String },
    #[error("{value} is not in quotes")]
    Unquoted { value: String, write: String },
    #[error("{found} is not how this section begins")]
    Brackets { found: String, write: String },
    #[error("an equals sign is missing")]
    NoEquals { write: String },
    #[error("{value} is neither true nor false")]
    NotFlag { value: String },
    #[error("this has to be a list")]
    NotList { write: String },
    #[error("{value} is not a whole number")]
    NotWhole { value: String, min: i128, max: i128 },
    #[error("{why}")]
    BadCidr { why: String },
    #[error("{value} is no network for pods: the prefix may be /{min} to /{max}{}", gateway_room(*.max))]
    CidrSize { value: String, min: u8, max: u8 },
    #[error("{value} is no unicast network")]
    CidrKind { value: String },
    #[error("there are {found} networks of one family, at most one is possible")]
    TwoOfFamily { found: usize },
    #[error("{value} still has pods: {pods}")]
    CidrInUse { value: String, pods: String },
    #[error("{why}")]
    Refused { why: String },
    #[error("no pod network given")]
    NoCidr,
    #[error("{by} decides this")]
    Decided { key: String, by: &'static str },
    #[error("only one of [kubernetes] and [etcd] can decide what this node is")]
    TwoDeciders,
    #[error("no server given")]
    NoEndpoint,
    #[error("{missing} is missing")]
    Alone { missing: String },
    #[error("{value:?} is neither empty, nor an address and a port, nor auto and a port")]
    BadListen { value: String },
    #[error("{value:?} is no format of a log")]
    BadFormat { value: String },
    #[error("{why}")]
    BadLevel { why: String },
    #[error("{value:?} is not the address of a server")]
    BadUrl { value: String, scheme: &'static str },
    #[error("{file} cannot be read: {why}")]
    Unreadable { file: String, why: String },
    #[error("nobody says what FLANNEL_NETWORK is")]
    SubnetEnv,
    #[error("{value} is {owner}'s already")]
    Overlap { value: String, owner: String },
    #[error("{value}, which is {owner}'s, lies in {around}, which is {other}'s")]
    Nested {
        value: Box<str>,
        owner: Box<str>,
        around: Box<str>,
        other: Box<str>,
    },
    #[error("{value} is outside node.cluster_cidrs ({cluster})")]
    OutsideCluster { value: String, cluster: String },
    #[error("{}", range(.value, .why))]
    BadRange { value: String, why: String },
    #[error("{value} is outside the node's pod networks ({networks})")]
    RangeOutside { value: String, networks: String },
    #[error("no address of {network} is left for a pod")]
    NothingLeft { network: String },
    #[error("{value:?} is not an IP address")]
    BadAddress { value: String },
    #[error("{value} cannot be the address of a node")]
    AddressKind { value: IpAddr },
    #[error("{value} lies in the pod network {cidr} of {owner}")]
    AddressInCidr {
        value: IpAddr,
        cidr: String,
        owner: String,
    },
    #[error("{value} is already an address of {owner}")]
    DuplicateAddress { value: IpAddr, owner: String },
    #[error("the name {value:?} is already used by {owner}")]
    DuplicateName { value: String, owner: String },
    #[error("{value:?} is not a name: {why}")]
    BadName { value: String, why: &'static str },
    #[error("{value:?} is not an interface name: {why}")]
    BadInterface { value: String, why: &'static str },
    #[error("{value:?} is both the node port and the underlay")]
    SameInterface { value: String },
    #[error("{value:?} is not an absolute path")]
    NotAbsolute { value: String },
    #[error("the path has {len} bytes, a unix socket's may have {max}")]
    SocketPath { len: usize, max: usize },
    #[error("{value:?} is not a MAC address")]
    BadMac { value: String },
    #[error("{value} cannot be the MAC address of a node")]
    MacKind { value: String },
    #[error("{value} is out of range: {min} to {max}")]
    Range { value: i128, min: i128, max: i128 },
    #[error("vxlan and udp cannot share UDP port {port}")]
    SamePort { port: u16 },
    #[error("off is possible on IPv4 only, and the underlay family is ipv6")]
    ChecksumOff,
    #[error(
        "off is not possible where outer packets may be fragmented (underlay.dont_fragment = false): \
         fragments of different packets would be put together unnoticed"
    )]
    ChecksumFragments,
    #[error("{value} leaves {inner} bytes for {family} pods of {peer}, which need {min}")]
    PeerMtu {
        value: u32,
        peer: String,
        inner: u16,
        family: &'static str,
        min: u16,
        least: u16,
    },
    #[error("{found} processors for {count} workers")]
    CpuCount { found: usize, count: usize },
    #[error("processor {cpu} is given twice")]
    DuplicateCpu { cpu: usize },
    #[error("no address given")]
    NoAddress,
    #[error("{peer} has {family} pods ({cidr}), this node has none")]
    PodFamily {
        peer: String,
        family: &'static str,
        cidr: String,
    },
    #[error("{peer} and this node have no underlay address of the same usable family: {detail}")]
    UnderlayFamily { peer: String, detail: String },
    #[error("lo leads to no other node")]
    Loopback,
    #[error("processor {cpu} is not one of those this process may run on ({allowed})")]
    NoProcessor { cpu: usize, allowed: String },
    #[error("{value} is reached by {by}, not by {interface}")]
    OtherInterface {
        value: IpAddr,
        by: String,
        interface: String,
    },
    #[error("{value} cannot be reached from {from}: {why}")]
    NoRoute {
        value: IpAddr,
        from: IpAddr,
        why: String,
    },
    #[error("no interface leads to the other nodes by itself: {why}")]
    NoInterface { why: String },
    #[error("there is no interface {value:?} in this namespace; there are {found}")]
    InterfaceMissing { value: String, found: String },
    #[error("interface {value} is down")]
    InterfaceDown { value: String },
    #[error("interface {value} has no {family} address")]
    InterfaceNoAddress { value: String, family: &'static str },
    #[error("interface {interface} does not have the address {value}; it has {found}")]
    AddressNotThere {
        value: IpAddr,
        interface: String,
        found: String,
    },
    #[error(
        "interface {interface} has an MTU of {mtu}, which leaves {inner} for pods; {family} needs {min}"
    )]
    MtuTooSmall {
        interface: String,
        mtu: u32,
        inner: u32,
        family: &'static str,
        min: u32,
    },
    #[error("interface {interface} could not be examined: {why}")]
    Examine { interface: String, why: String },
}

/// The main network of a node needs more room than any other.
fn gateway_room(max: u8) -> &'static str {
    match max {
        30 | 126 => ", for a gateway and a pod",
        _ => "",
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": `{text}`")
    }
}

/// What is wrong with a range; the reason may name it already.
fn range(value: &str, why: &str) -> String {
    if why.contains(value) {
        why.to_owned()
    } else {
        format!("{value:?} is not a range of addresses: {why}")
    }
}

impl Problem {
    /// Whether it may be over soon without anybody's doing: a machine that starts has its interfaces and
    /// addresses one after the other.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoInterface { .. }
                | Self::InterfaceMissing { .. }
                | Self::InterfaceDown { .. }
                | Self::InterfaceNoAddress { .. }
                | Self::AddressNotThere { .. }
                | Self::UnderlayFamily { .. }
        )
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Read { kind, .. } => match kind {
                io::ErrorKind::PermissionDenied => "run the command as root".into(),
                io::ErrorKind::InvalidData => "save the file as UTF-8 text".into(),
                _ => "create the file, or name another with --config".into(),
            },
            Self::Unquoted { write, .. }
            | Self::Brackets { write, .. }
            | Self::NoEquals { write }
            | Self::NotList { write } => format!("write {write}"),
            Self::NotFlag { .. } => "write true or false, without quotes".into(),
            Self::NotWhole { min, max, .. } => {
                format!("use a value from {min} to {max}, without quotes")
            }
            Self::Syntax { .. } => "correct the line; `ringway config keys` lists every key".into(),
            Self::BadCidr { .. } => "write a network such as 10.77.1.0/24 or fd77:1::/64".into(),
            Self::CidrSize { .. } => "use a larger network".into(),
            Self::CidrKind { .. } => "use a private network such as 10.77.1.0/24".into(),
            Self::TwoOfFamily { .. } => "keep one IPv4 and one IPv6 entry".into(),
            Self::CidrInUse { .. } => {
                "keep it where it was, with its gateway, until they are gone; new pods get addresses of \
                 another by ipam.ranges"
                    .into()
            }
            Self::Refused { .. } => "see the message; what was in force stays so".into(),
            Self::NoCidr => "give one IPv4 network, one IPv6 network, or one of each".into(),
            Self::Decided { key, by } => format!("leave out {key}: {by} gives it"),
            Self::TwoDeciders => "remove one of the two sections".into(),
            Self::NoEndpoint => "write endpoints = [\"https://192.168.77.1:2379\"]".into(),
            Self::Alone { missing } => format!("set {missing}, too, or leave out both"),
            Self::BadListen { .. } => {
                "write 127.0.0.1:9472, [::1]:9472, or auto:9472 for the address in $NODE_IP".into()
            }
            Self::BadFormat { .. } => format!("write {}", Format::NAMES.join(", ")),
            Self::BadLevel { .. } => {
                "write error, warn, info, debug or trace, or a level for a part of the program: \
                 info,ringway_control=debug"
                    .into()
            }
            Self::BadUrl { scheme, .. } => {
                let scheme = if *scheme == "http" { "https://" } else { scheme };
                format!("write {scheme}192.168.77.1:6443, or another host and port, without a user")
            }
            Self::Unreadable { .. } => "name a file that is there, and run the command as root".into(),
            Self::SubnetEnv => {
                "write node.cluster_cidrs = [\"10.244.0.0/16\"]: Network of Flannel's net-conf.json".into()
            }
            Self::Overlap { .. } => {
                "give every node pod networks of its own; a longer prefix inside another's is possible".into()
            }
            Self::Nested { owner, other, .. } => format!(
                "nothing if {owner} has borrowed these addresses, for the longer prefix decides; else give {owner} \
                 and {other} networks apart"
            ),
            Self::OutsideCluster { .. } => {
                "take a network from the cluster's, or widen node.cluster_cidrs".into()
            }
            Self::BadRange { .. } => {
                "write an address, 10.77.1.10-10.77.1.99, or a network such as 10.77.1.64/26".into()
            }
            Self::RangeOutside { .. } => "take addresses inside one of them".into(),
            Self::NothingLeft { .. } => "exclude less, or add a range".into(),
            Self::BadAddress { .. } => {
                "write an address without a prefix length, such as 192.168.77.1".into()
            }
            Self::AddressKind { .. } => "give a unicast address the other nodes can reach".into(),
            Self::AddressInCidr { .. } => {
                "outer addresses belong to the underlay: choose another pod network or address"
                    .into()
            }
            Self::DuplicateAddress { .. } | Self::DuplicateName { .. } => {
                "remove one of the two".into()
            }
            Self::BadName { .. } => "use letters, digits, '-', '.' and '_'".into(),
            Self::BadInterface { .. } => "use the name as `ip link` shows it".into(),
            Self::SameInterface { .. } => "name the NIC in underlay.interface".into(),
            Self::NotAbsolute { .. } => "begin the path with /".into(),
            Self::SocketPath { .. } => "choose a shorter path".into(),
            Self::BadMac { .. } => "write six hexadecimal bytes, such as 0e:00:00:00:00:02".into(),
            Self::MacKind { .. } => "use a unicast address that is not all zero".into(),
            Self::Range { min, max, .. } => format!("use a value from {min} to {max}"),
            Self::SamePort { .. } => {
                "set underlay.vxlan_port or underlay.udp_port to another port".into()
            }
            Self::ChecksumOff | Self::ChecksumFragments => "use udp_checksum = \"auto\"".into(),
            Self::PeerMtu { family, least, .. } => {
                format!("set it to {least} at least, or give this peer no {family} pod network")
            }
            Self::CpuCount { .. } => "list one processor for each worker, or none".into(),
            Self::DuplicateCpu { .. } => "give every worker a processor of its own".into(),
            Self::NoAddress => "give the address the peer receives tunnel packets on".into(),
            Self::PodFamily { family, .. } => {
                format!("add an {family} network to node.pod_cidrs, or remove the peer's")
            }
            Self::UnderlayFamily { .. } => {
                "give both nodes an address of one family, and check underlay.family".into()
            }
            Self::Loopback => {
                "name the interface that leads to the other nodes in underlay.interface".into()
            }
            Self::NoProcessor { .. } => {
                "list some of those, none at all, or allow more (taskset, CPUAffinity= of the unit)"
                    .into()
            }
            Self::OtherInterface { value, by, .. } => format!(
                "set underlay.interface to {by}, or correct the route: ip route get {value}"
            ),
            Self::NoRoute { value, .. } => {
                format!("correct the address, or add a route: ip route get {value}")
            }
            Self::NoInterface { .. } | Self::InterfaceMissing { .. } => {
                "name the interface that leads to the other nodes in underlay.interface".into()
            }
            Self::InterfaceDown { value } => format!("ip link set {value} up"),
            Self::InterfaceNoAddress { value, .. } => {
                format!("give {value} an address, or change underlay.family")
            }
            Self::AddressNotThere { interface, .. } => {
                format!("remove underlay.addresses, or add the address to {interface}")
            }
            Self::MtuTooSmall { interface, .. } => format!("raise the MTU of {interface}"),
            Self::Examine { .. } => "see the error; the command needs no privilege".into(),
        }
    }
}

impl ConfigError {
    /// The file cannot be read.
    pub fn unreadable(file: &std::path::Path, error: &io::Error) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            problem: Box::new(Problem::Read {
                kind: error.kind(),
                why: error.to_string(),
            }),
        }
    }

    /// A mistake found after the file was read; its line is looked up again.
    pub fn at(file: &std::path::Path, key: &str, problem: Problem) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Self {
            file: file.to_owned(),
            line: super::locate::line_of(&text, key),
            key: key.to_owned(),
            problem: Box::new(problem),
        }
    }
}

impl ConfigError {
    /// File, line and key.
    pub fn place(&self) -> String {
        let mut place = self.file.display().to_string();
        if let Some(line) = self.line {
            place.push_str(&format!(":{line}"));
        }
        if !self.key.is_empty() {
            place.push_str(&format!(": {}", self.key));
        }
        place
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place())?;
        write!(f, ": {}\n  to do: {}", self.problem, self.problem.remedy())
    }
}

impl std::error::Error for ConfigError {}
