//! What the node's kernel does for pods beyond the switch: masquerade towards the world outside, ports of
//! the node that lead to pods, and the way through a firewall that forwards nothing by default.
//!
//! Pods are masqueraded towards the world outside, and everybody else towards pods of other nodes: those nodes
//! take from here only what our pod networks send. A pod of this node sees who asks.
//!
//! ```text
//! Desired ─ render ─▶ text ─ `nft -f -`, one transaction ─▶ table inet ringway
//!    ▲                                                           │ listed as the kernel has it
//!    └── host ports of pods                      watch: does it still look like that? if not, the ledger is
//!                                                asked, and it is set once more
//! ```
//!
//! Everything of ours is one table, replaced as a whole: there is no moment without rules, and connections
//! that are known to the kernel keep their translation. It is written by the `nft` program: its language is
//! what an operator reads with `nft list table inet ringway`, and what netfilter's own netlink protocol
//! would save, some milliseconds for pods with host ports only, is not worth speaking it here.
//!
//! Where the rules cannot be had the agent runs without; it says so once in the log and in its status, and
//! refuses pods that ask for a host port.

pub mod conntrack;
mod desired;
mod error;
mod forward;
mod listeners;
mod look;
mod nft;
mod ports;
mod render;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::reconcile::Condition;
use ringway_tables::Cidr;

pub use desired::{Desired, TABLE};
pub use error::RulesError;
pub use listeners::find as listener;
pub use nft::printed;
pub use ports::{HostPort, HostPorts, Mapping, PortError, Protocol};
pub use render::render;
use watch::{Changed, Watch};

/// How long a start waits for the first look at foreign chains.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// What the kernel has of our table.
#[derive(Debug, PartialEq)]
enum Table {
    /// None is wanted.
    None,
    /// As it is listed, looked at after it was set.
    Listed(String),
    /// Set, and not looked at since.
    Set,
    /// It cannot be had.
    Failed(String),
}

/// The node's rules.
#[derive(Debug)]
pub struct Rules {
    desired: Desired,
    ports: HostPorts,
    accept_forward: bool,
    /// Looks at foreign chains, if it has not ended.
    forwarding: Option<JoinHandle<forward::Opened>>,
    /// Chains that were opened before.
    opened: BTreeSet<String>,
    table: Table,
    /// Counts what we set: a listing of before says nothing.
    revision: u64,
    /// Lists our table, if it has not ended, and as of which revision.
    listing: Option<(u64, JoinHandle<Option<String>>)>,
    /// What of somebody else's firewall may stop pods' packets, with the command that helps.
    conditions: Vec<Condition>,
    watch: Option<Watch>,
    /// What somebody has changed since the last look.
    changed: Changed,
    /// When our table and others' chains were looked at last.
    listed: Instant,
    looked: Instant,
    /// What the last look at others' chains took.
    cost: Duration,
}

impl Rules {
    /// None is set before [`restore`](Self::restore). With `accept_forward` others' firewalls are opened.
    pub fn new(desired: Desired, accept_forward: bool) -> Self {
        Self {
            desired,
            ports: HostPorts::default(),
            accept_forward,
            forwarding: None,
            opened: BTreeSet::new(),
            table: Table::None,
            revision: 0,
            listing: None,
            conditions: Vec::new(),
            // Before the first rule, so that no change is missed.
            watch: Watch::open()
                .inspect_err(|e| {
                    tracing::warn!(
                        "cannot watch the firewall for changes, checking once a minute: {e}"
                    );
                })
                .ok(),
            changed: Changed::default(),
            listed: Instant::now(),
            looked: Instant::now(),
            cost: Duration::ZERO,
        }
    }

    /// Sets what the configuration asks for and the host ports of the pods that were found again, at once, so
    /// that those have theirs all the time. UDP is led to no address in the pod networks any more but to those
    /// of `live` pods. Never fails: see [`describe`](Self::describe).
    pub fn restore(&mut self, pods: Vec<(String, Vec<HostPort>)>, live: &[IpAddr]) {
        for (owner, ports) in pods {
            if let Err(e) = self.ports.claim(&owner, ports) {
                tracing::error!(pod = owner, "has lost its host ports: {e}");
            }
        }
        self.desired.ports = self.ports.all();
        match self.apply() {
            Ok(()) => self.forget_udp(self.desired.ports.clone()),
            Err(e) => tracing::error!(
                "pods are not masqueraded and have no host ports: {e}. Install nftables and start the agent \
                 again, or set egress.masquerade = false if something else does it"
            ),
        }
        let gateways = self.desired.own.iter().filter_map(|own| own.gateway);
        let live: Vec<IpAddr> = gateways.chain(live.iter().copied()).collect();
        let networks: Vec<Cidr> = self.desired.own.iter().map(|own| own.cidr).collect();
        match conntrack::forget_udp_to_gone(&networks, &live) {
            Ok(()) => {}
            // Without connection tracking nothing is translated.
            Err(e) if !self.set() => tracing::debug!("no connection tracking: {e}"),
            Err(e) => tracing::warn!(
                "clients that send UDP to pods that are gone may not reach their successors: {e}"
            ),
        }
        self.forward(BTreeSet::new());
        // Mostly it takes some milliseconds, and the first pods should meet an open firewall.
        self.await_forward(FIRST_LOOK);
    }

    /// Sets something else from now on; the host ports stay.
    ///
    /// # Errors
    /// The kernel's rules cannot be set; it is tried again.
    pub fn want(&mut self, desired: Desired, accept_forward: bool) -> Result<(), RulesError> {
        if std::mem::replace(&mut self.accept_forward, accept_forward) != accept_forward {
            if accept_forward {
                self.forward(BTreeSet::new());
            } else {
                self.conditions.clear();
                self.opened.clear();
                forward::close(&self.desired.interface)?;
            }
        }
        let ports = std::mem::take(&mut self.desired.ports);
        let desired = Desired { ports, ..desired };
        let before = std::mem::replace(&mut self.desired, desired);
        let same = Desired {
            ports: self.desired.ports.clone(),
            ..before
        };
        if self.desired == same {
            return Ok(());
        }
        self.apply()
    }

    /// What is wanted.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Whether any pod has one: answers to 127.0.0.1 come by the node port then.
    pub fn has_host_ports(&self) -> bool {
        !self.desired.ports.is_empty()
    }

    /// One line for `ringway status`.
    pub fn describe(&self) -> String {
        let mut what = Vec::new();
        if self.desired.masquerade {
            what.push("masquerade".to_owned());
        }
        if !self.desired.ports.is_empty() {
            what.push(format!("{} host ports", self.desired.ports.len()));
        }
        match (&self.table, what.is_empty()) {
            (Table::Failed(why), _) => format!("none: {why}"),
            (_, true) => "none wanted".into(),
            (_, false) => format!("table {TABLE}: {}", what.join(", ")),
        }
    }

    /// What of somebody else's firewall may stop pods' packets, each with the command that helps.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Gives a pod its host ports, in place of those it had.
    ///
    /// # Errors
    /// Another pod has one of them, or the kernel's rules cannot be set; nothing is changed then.
    pub fn set_host_ports(&mut self, owner: &str, ports: Vec<HostPort>) -> Result<(), RulesError> {
        let before = self.ports.of(owner);
        if ports == before {
            return Ok(());
        }
        self.ports.claim(owner, ports.clone())?;
        if let Err(e) = self.change() {
            self.ports.release(owner);
            // They were there a moment ago.
            let _ = self.ports.claim(owner, before);
            self.desired.ports = self.ports.all();
            return Err(e);
        }
        self.forget_udp(ports);
        Ok(())
    }

    /// Takes a pod's host ports away.
    pub fn drop_host_ports(&mut self, owner: &str) {
        let gone = self.ports.release(owner);
        if gone.is_empty() {
            return;
        }
        if let Err(e) = self.change() {
            tracing::error!(pod = owner, "its host ports are still there: {e}");
        }
        self.forget_udp(gone);
    }

    /// Sets other host ports. Of a table that has some only what differs is changed: to make it anew takes
    /// the kernel five times as long.
    fn change(&mut self) -> Result<(), RulesError> {
        let after = self.ports.all();
        let before = std::mem::replace(&mut self.desired.ports, after);
        if self.set() && !before.is_empty() && !self.desired.ports.is_empty() {
            let script = render::difference(&before, &self.desired.ports);
            // If somebody has taken something away, all of it is made anew.
            self.revision += 1;
            if nft::run(&script).is_ok() {
                self.table = Table::Set;
                // At once: what somebody changes before it is listed would be taken for ours.
                self.begin_listing();
                return Ok(());
            }
        }
        self.apply()
    }

    /// Whether the kernel has our table.
    fn set(&self) -> bool {
        matches!(self.table, Table::Listed(_) | Table::Set)
    }

    fn apply(&mut self) -> Result<(), RulesError> {
        self.revision += 1;
        let outcome = self.try_apply();
        self.table = match &outcome {
            Ok(Some(listed)) => Table::Listed(listed.clone()),
            Ok(None) => Table::None,
            Err(e) => Table::Failed(e.to_string()),
        };
        outcome.map(drop)
    }

    fn try_apply(&self) -> Result<Option<String>, RulesError> {
        if self.desired.is_empty() {
            // One of an earlier configuration.
            if nft::list(TABLE).is_some() {
                nft::run(&format!("delete table {TABLE}\n"))?;
            }
            return Ok(None);
        }
        nft::run(&render(&self.desired))?;
        let listed = nft::list(TABLE);
        listed
            .map(Some)
            .ok_or_else(|| RulesError::Nft("the table that was set is not listed".into()))
    }

    /// Has the kernel decide anew where UDP to these ports goes.
    fn forget_udp(&self, mut ports: Vec<HostPort>) {
        ports.retain(|port| port.protocol == Protocol::Udp);
        if let Err(e) = conntrack::forget_udp(&ports) {
            tracing::warn!("clients that sent UDP before may not reach its host ports: {e}");
        }
    }
}

/// Takes the rules for an interface of ours out of foreign forward chains.
///
/// # Errors
/// They cannot be listed or deleted.
pub fn close_forward(interface: &str) -> Result<Vec<String>, RulesError> {
    forward::close(interface)
}

/// Takes away all rules of ours. What was done, and what could not be; nothing is no error.
pub fn remove(interface: &str) -> (Vec<String>, Vec<String>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    if nft::list(TABLE).is_some() {
        match nft::run(&format!("delete table {TABLE}\n")) {
            Ok(()) => done.push(format!("nftables table {TABLE}")),
            Err(e) => failed.push(format!("nftables table {TABLE}: {e}")),
        }
    }
    match forward::close(interface) {
        Ok(closed) => done.extend(closed.into_iter().map(|chain| format!("rules in {chain}"))),
        Err(e) => failed.push(format!("rules in forward chains: {e}")),
    }
    (done, failed)
}

#[cfg(test)]
mod tests;
