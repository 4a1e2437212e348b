//! The wire between two nodes: a veth pair in one of three modes, a router, or a NIC for each.

use super::Lab;
use super::command::ip;
use super::error::Result;
use super::netns::Netns;
use super::plan::{self, Family};
use super::router::Router;
use std::fmt;
use std::str::FromStr;

/// The node's underlay interface.
pub const INTERFACE: &str = "eth0";

/// What the underlay's interfaces do by themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Mode {
    /// 64 KB superpackets pass whole. No real NIC does that.
    Full,
    /// Checksum offload, no tunnel and no UDP segmentation, GRO on receive: most cloud NICs.
    Cloud,
    /// No offload at all.
    Bare,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Full, Mode::Cloud, Mode::Bare];

    /// What `ethtool -K` is told.
    fn features(self) -> &'static str {
        match self {
            Mode::Full => "",
            Mode::Cloud => {
                "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off tx-udp-segmentation off gro on"
            }
            Mode::Bare => {
                "tso off gso off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off \
                 tx-udp-segmentation off tx off"
            }
        }
    }
}

/// What a macvlan of node 1 stands on.
pub const LOWER: &str = "wire0";

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Full => "full",
            Mode::Cloud => "cloud",
            Mode::Bare => "bare",
        })
    }
}

impl FromStr for Mode {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Mode, String> {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.to_string() == s)
            .ok_or_else(|| format!("`{s}` is not an underlay mode: full, cloud or bare"))
    }
}

/// What joins the two nodes.
#[derive(Clone, Copy, Debug)]
pub enum Wire<'a> {
    /// A veth pair, made for them.
    Veth(Mode),
    /// The same with as many queues each way at either end.
    Queues(Mode, u8),
    /// The same, where node 1's interface is a macvlan on its end ([`LOWER`]): no native XDP there, and
    /// a queue below it that can be made slow.
    Macvlan(Mode),
    /// A router, with a veth pair to each node: see [`Router`].
    Routed(Mode),
    /// Two interfaces of this machine that are joined already. They move into the nodes, and back
    /// when the nodes go.
    Nics(&'a str, &'a str),
}

impl Wire<'_> {
    /// The nodes' addresses on it.
    pub(super) fn addresses(self) -> plan::Addresses {
        match self {
            Wire::Routed(_) => plan::routed,
            _ => plan::underlay,
        }
    }
}

/// Joins node 1 and node 2. MTU 1500. The router is what a [`Wire::Routed`] has between them.
pub(super) fn join(lab: &Lab, n1: &Netns, n2: &Netns, wire: Wire<'_>) -> Result<Option<Router>> {
    let mut router = None;
    match wire {
        Wire::Veth(_) => veth(n1, INTERFACE, n2, "")?,
        Wire::Queues(_, n) => veth(
            n1,
            INTERFACE,
            n2,
            &format!("numrxqueues {n} numtxqueues {n}"),
        )?,
        Wire::Macvlan(_) => {
            // Or its lower end answers ARP for the macvlan's address, too, with a MAC of its own: what
            // comes to that passes the macvlan by, and which answer counts is a matter of chance.
            n1.sysctl("ipv4.conf.all.arp_ignore", "1")?;
            veth(n1, LOWER, n2, "")?;
            n1.ip(&format!("link set {LOWER} up"))?;
            n1.ip(&format!(
                "link add link {LOWER} name {INTERFACE} type macvlan mode bridge"
            ))?;
        }
        Wire::Routed(mode) => {
            let ns = Netns::create(&lab.name("r"))?;
            router = Some(Router::between(ns, [n1, n2], mode)?);
        }
        Wire::Nics(nic1, nic2) => {
            for (nic, ns) in [(nic1, n1), (nic2, n2)] {
                // Renamed on the way: an `eth0` may be in either place.
                ip(&format!(
                    "link set {nic} netns {} name {INTERFACE}",
                    ns.name()
                ))?;
            }
        }
    }
    for (i, ns) in [(1, n1), (2, n2)] {
        // Also the link-local address, or the first second is silent.
        ns.sysctl(&format!("ipv6.conf.{INTERFACE}.accept_dad"), "0")?;
        ns.ip_batch(&format!(
            "addr add {}/24 dev {INTERFACE}\naddr add {}/64 dev {INTERFACE} nodad\nlink set {INTERFACE} up\n",
            wire.addresses()(i, Family::V4),
            wire.addresses()(i, Family::V6),
        ))?;
        match wire {
            Wire::Macvlan(mode) if i == 1 => set_mode(ns, LOWER, mode)?,
            Wire::Veth(mode) | Wire::Queues(mode, _) | Wire::Macvlan(mode) | Wire::Routed(mode) => {
                set_mode(ns, INTERFACE, mode)?;
            }
            Wire::Nics(..) => {}
        }
        // Every Kubernetes node forwards.
        ns.sysctl("ipv4.ip_forward", "1")?;
        ns.sysctl("ipv6.conf.all.forwarding", "1")?;
    }
    if router.is_some() {
        Router::route(1, n1, 1)?;
        Router::route(2, n2, 1)?;
    }
    Ok(router)
}

/// A pair: `name` in one namespace, [`INTERFACE`] in the other.
pub(super) fn veth(ns: &Netns, name: &str, other: &Netns, queues: &str) -> Result<()> {
    let peer = other.name();
    let pair = format!("{name} {queues} type veth peer name {INTERFACE} {queues} netns {peer}");
    ns.ip(&format!("link add {pair}")).map(drop)
}

pub(super) fn set_mode(ns: &Netns, interface: &str, mode: Mode) -> Result<()> {
    if mode.features().is_empty() {
        return Ok(());
    }
    ns.command("ethtool", &format!("-K {interface} {}", mode.features()))
        .map(drop)
}
