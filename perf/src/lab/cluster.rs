//! Any number of nodes on one switch, and a host beside them, for an API server.
//!
//! ```text
//!   node 1        node 2        node 3 …            host
//!     │eth0         │eth0         │eth0               │eth0
//!  ═══╪═════════════╪═════════════╪═══════════════════╪═══  a bridge
//!   192.168.77.1   .2            .3                  .200
//!   fd00:77::1     ::2           ::3
//! ```

use super::Lab;
use super::error::Result;
use super::netns::Netns;
use super::node::Node;
use super::plan::{self, Family};
use super::underlay::{INTERFACE, veth};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The host's number on the wire.
const HOST: u8 = 200;

/// Nodes on a switch. Dropping it takes everything down.
pub struct Cluster {
    // Before the lab: agents are stopped before their namespaces go.
    nodes: BTreeMap<u8, Node>,
    host: Netns,
    switch: Netns,
    /// What it stands in.
    pub lab: Lab,
}

impl Cluster {
    /// A switch and the host.
    pub fn new() -> Result<Cluster> {
        let lab = Lab::open()?;
        let switch = Netns::create(&lab.name("s"))?;
        switch.ip_batch("link add br0 type bridge\nlink set br0 up\n")?;
        let host = Netns::create(&lab.name("h"))?;
        let cluster = Cluster {
            nodes: BTreeMap::new(),
            host,
            switch,
            lab,
        };
        cluster.plug_in(&cluster.host, HOST)?;
        Ok(cluster)
    }

    /// The host beside the nodes.
    pub fn host(&self) -> &Netns {
        &self.host
    }

    /// Its address.
    pub fn host_ip(&self) -> IpAddr {
        plan::underlay(HOST, Family::V4)
    }

    /// A node with an agent that is told these sections of a configuration beside its own; waits until it answers.
    pub fn add_ringway(&mut self, number: u8, sections: &str) -> Result<&mut Node> {
        let ns = self.namespace(number)?;
        let mut node = Node::told_by_others(&self.lab, number, ns, sections)?;
        node.agent()?.wait_ready()?;
        Ok(self.nodes.entry(number).insert_entry(node).into_mut())
    }

    /// A node whose pod network is the kernel's and which knows no other yet.
    pub fn add_kernel(&mut self, number: u8) -> Result<&mut Node> {
        let ns = self.namespace(number)?;
        let node = Node::kernel_alone(&self.lab, number, ns)?;
        Ok(self.nodes.entry(number).insert_entry(node).into_mut())
    }

    /// A node that was added.
    pub fn node(&mut self, number: u8) -> Option<&mut Node> {
        self.nodes.get_mut(&number)
    }

    /// Takes a node away, with all that is on it but its pods' namespaces.
    pub fn remove(&mut self, number: u8) -> Result<()> {
        let Some(node) = self.nodes.remove(&number) else {
            return Ok(());
        };
        let ns = node.ns.clone();
        drop(node);
        ns.delete()
    }

    fn namespace(&self, number: u8) -> Result<Netns> {
        let ns = Netns::create(&self.lab.name(&format!("n{number}")))?;
        self.plug_in(&ns, number)?;
        // Every Kubernetes node forwards.
        ns.sysctl("ipv4.ip_forward", "1")?;
        ns.sysctl("ipv6.conf.all.forwarding", "1")?;
        Ok(ns)
    }

    fn plug_in(&self, ns: &Netns, number: u8) -> Result<()> {
        let port = format!("p{number}");
        veth(&self.switch, &port, ns, "")?;
        self.switch.ip(&format!("link set {port} master br0 up"))?;
        // Also the link-local address, or the first second is silent.
        ns.sysctl(&format!("ipv6.conf.{INTERFACE}.accept_dad"), "0")?;
        ns.ip_batch(&format!(
            "addr add {}/24 dev {INTERFACE}\naddr add {}/64 dev {INTERFACE} nodad\nlink set {INTERFACE} up\n",
            plan::underlay(number, Family::V4),
            plan::underlay(number, Family::V6),
        ))
    }
}
