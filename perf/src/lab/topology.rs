//! Two nodes on a wire, as every measurement and test has them.
//!
//! ```text
//!   pod 10.77.1.2  pod 10.77.1.3                    pod 10.77.2.2
//!        │eth0          │eth0                            │eth0
//!   ┌────┴──────────────┴────────┐                ┌──────┴─────────────────────┐
//!   │ node 1: Ringway or kernel  │                │ node 2: Ringway or kernel  │
//!   │ gateway 10.77.1.1          │                │ gateway 10.77.2.1          │
//!   └─────────────┬──────────────┘                └─────────────┬──────────────┘
//!    192.168.77.1 │ eth0 ══════ veth, mode full|cloud|bare ═════│ 192.168.77.2
//!      fd00:77::1                                                 fd00:77::2
//! ```
//!
//! [`Wire::Routed`] has a router in place of the veth: see [`Router`].

use super::error::Result;
use super::netns::Netns;
use super::node::{Node, NodeKind, Pod};
use super::router::Router;
use super::underlay::{self, Mode, Wire};
use super::{Lab, RingwayOptions};
use std::time::Duration;

/// Two joined nodes. Dropping it takes everything down.
pub struct Topology {
    // Before the lab: an agent is stopped before its namespace goes.
    /// Node 1.
    pub n1: Node,
    /// Node 2.
    pub n2: Node,
    /// What is between them on a [`Wire::Routed`].
    pub router: Option<Router>,
    /// What it stands in.
    pub lab: Lab,
}

impl Topology {
    /// Builds two nodes of the given kinds on a veth pair and waits until both work.
    pub fn build(mode: Mode, kind1: NodeKind, kind2: NodeKind) -> Result<Topology> {
        Topology::on(Wire::Veth(mode), kind1, kind2)
    }

    /// Builds two nodes of the given kinds on any wire and waits until both work.
    pub fn on(wire: Wire<'_>, kind1: NodeKind, kind2: NodeKind) -> Result<Topology> {
        let lab = Lab::open()?;
        let ns1 = Netns::create(&lab.name("n1"))?;
        let ns2 = Netns::create(&lab.name("n2"))?;
        let router = underlay::join(&lab, &ns1, &ns2, wire)?;
        let addresses = wire.addresses();
        let mut n1 = Node::set_up(&lab, 1, ns1, addresses, kind1.clone(), &kind2)?;
        let mut n2 = Node::set_up(&lab, 2, ns2, addresses, kind2, &kind1)?;
        for node in [&mut n1, &mut n2] {
            if node.is_ringway() {
                node.agent()?.wait_ready()?;
            }
        }
        Ok(Topology {
            n1,
            n2,
            router,
            lab,
        })
    }

    /// Two Ringway nodes with the same options.
    pub fn ringway(mode: Mode, options: &RingwayOptions) -> Result<Topology> {
        let kind = || NodeKind::Ringway(options.clone());
        Topology::build(mode, kind(), kind())
    }

    /// Two kernel nodes.
    pub fn kernel(mode: Mode) -> Result<Topology> {
        Topology::build(mode, NodeKind::KernelVxlan, NodeKind::KernelVxlan)
    }

    /// Another wire between the nodes, for one that was deleted.
    pub fn wire(&self, mode: Mode) -> Result<()> {
        underlay::join(&self.lab, &self.n1.ns, &self.n2.ns, Wire::Veth(mode)).map(drop)
    }

    /// The usual three pods: two on node 1, one on node 2.
    pub fn add_three_pods(&mut self) -> Result<[Pod; 3]> {
        Ok([self.n1.add_pod()?, self.n1.add_pod()?, self.n2.add_pod()?])
    }

    /// The usual three pods, attached as a container runtime does it, and how long each took.
    pub fn add_three_pods_by_cni(&mut self) -> Result<([Pod; 3], [Duration; 3])> {
        let pods = [self.n1.new_pod()?, self.n1.new_pod()?, self.n2.new_pod()?];
        let times = [
            self.n1.attach_by_cni(&pods[0])?,
            self.n1.attach_by_cni(&pods[1])?,
            self.n2.attach_by_cni(&pods[2])?,
        ];
        Ok((pods, times))
    }

    /// Rewrites a Ringway node's configuration; its agent reads it at the next start.
    pub fn configure(&mut self, number: u8, options: RingwayOptions) -> Result<()> {
        let (node, peer) = match number {
            1 => (&mut self.n1, self.n2.kind().clone()),
            _ => (&mut self.n2, self.n1.kind().clone()),
        };
        node.configure(options, &self.lab, &peer)
    }
}
