//! What was seen, as values.

use std::net::IpAddr;
use std::time::Duration;

use ringway_control::view::{Drops, LastDrop, PeerRow, Pod, Status};
use ringway_trace::answer::Trace;

/// Everything the checks judge by.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What the agent said, or why it said nothing.
    pub agent: Asking,
    /// The machine.
    pub machine: Machine,
    /// Inside of pods.
    pub pods: Vec<PodInside>,
    /// One way through the network that was asked about.
    pub pair: Option<Pair>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

impl Observed {
    /// What the agent said, if it answered.
    pub fn asked(&self) -> Option<&Asked> {
        match &self.agent {
            Asking::Answered(asked) => Some(asked),
            Asking::Absent(_) => None,
        }
    }
}

/// What became of asking the agent.
#[derive(Clone, Debug)]
pub enum Asking {
    /// It answered.
    Answered(Box<Asked>),
    /// It did not.
    Absent(Absent),
}

impl Default for Asking {
    fn default() -> Self {
        Asking::Absent(Absent::default())
    }
}

/// Why there is no agent.
#[derive(Clone, Debug, Default)]
pub struct Absent {
    /// What became of the connection, and what helps.
    pub why: String,
    /// What is wrong with the configuration file, or with what it names.
    pub config: Option<String>,
    /// The file.
    pub file: String,
}

/// What the agent said.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /v1/status`
    pub status: Status,
    /// `GET /v1/drops`
    pub before: Drops,
    /// The same later.
    pub drops: Drops,
    /// How much later.
    pub between: Duration,
    /// `GET /v1/drops/last`
    pub last: Vec<LastDrop>,
    /// `GET /v1/tables/peers`
    pub peers: Vec<PeerRow>,
    /// The same later.
    pub peers_later: Vec<PeerRow>,
    /// `GET /v1/pods`
    pub pods: Vec<Pod>,
}

/// The machine, as seen from the network namespace of the node.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// UDP ports of the tunnels, by the agent or else the configuration.
    pub ports: Vec<u16>,
    /// Others that have one of them.
    pub others: Vec<Other>,
    /// Rules that drop packets of the tunnels.
    pub blocked: Vec<Blocked>,
    /// How each peer's address is reached.
    pub ways: Vec<Way>,
    /// Name of the underlay's interface.
    pub underlay: Option<String>,
    /// What is wrong with that interface: down, no carrier, gone.
    pub underlay_fault: Option<String>,
    /// Directory of the state file, and bytes free there.
    pub state_dir: Option<(String, Result<u64, String>)>,
    /// Why `/dev/net/tun` cannot be opened.
    pub no_tun: Option<String>,
    /// Network configurations that container runtimes take before ours, by name.
    pub cni_before_ours: Vec<String>,
    /// Folder they are in.
    pub cni_dir: String,
    /// Seconds since 1970.
    pub clock_s: u64,
}

/// Somebody else at a port of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// UDP port.
    pub port: u16,
    /// Who.
    pub who: String,
    /// What ends it.
    pub command: String,
}

/// A rule that drops packets of the tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// UDP port.
    pub port: u16,
    /// Where: family, table, chain.
    pub place: String,
    /// The rule.
    pub rule: String,
    /// What takes it out.
    pub command: String,
    /// Nothing says that it applies to all packets of the port: it has other conditions as well.
    pub partly: bool,
}

/// How an address of a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Name of the peer.
    pub peer: String,
    /// Its address.
    pub address: IpAddr,
    /// By which interface, or why not.
    pub by: Result<String, String>,
}

/// A pod from inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInside {
    /// Name of the pod.
    pub pod: String,
    /// Why its namespace could not be entered.
    pub closed: Option<String>,
    /// Its interface is there.
    pub interface: bool,
    /// And up.
    pub up: bool,
    /// Addresses of the interface.
    pub addresses: Vec<IpAddr>,
    /// Families that have a default route by it.
    pub default_v4: bool,
    /// The same of IPv6.
    pub default_v6: bool,
    /// Packets that its stack refused for a wrong checksum, while it was looked at.
    pub wrong_checksums: u64,
}

/// One way through the network.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Name of the pod it begins at.
    pub from: String,
    /// Where it ends.
    pub to: IpAddr,
    /// The last of what a trace says, or why there is none.
    pub trace: Result<Trace, String>,
}
