//! A node and its pods.

use super::agent::Agent;
use super::cni::Cni;
use super::config::{self, PeerKind, RingwayOptions};
use super::drops::Drops;
use super::error::{LabError, Result};
use super::machine::{Inside, Machine};
use super::netns::Netns;
use super::plan::{self, Family};
use super::{Lab, kernel};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a node's pod network is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeKind {
    /// A `ringway agent`.
    Ringway(RingwayOptions),
    /// Linux bridge and VXLAN devices, as Flannel's vxlan backend programs them. Between two pods
    /// of such a node only the bridge is at work.
    KernelVxlan,
}

impl NodeKind {
    fn peer_kind(&self) -> PeerKind {
        match self {
            NodeKind::Ringway(_) => PeerKind::Ringway,
            NodeKind::KernelVxlan => PeerKind::KernelVxlan,
        }
    }

    fn vtep_mac(&self, i: u8, family: Family) -> String {
        match self {
            NodeKind::Ringway(_) => plan::ringway_vtep_mac(i),
            NodeKind::KernelVxlan => plan::kernel_vtep_mac(i, family),
        }
    }
}

/// A pod: a network namespace with `eth0` on its node's pod network.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub ns: Netns,
    /// Its node's number.
    pub node: u8,
    host: u8,
}

impl Pod {
    /// Its address.
    pub fn ip(&self, family: Family) -> IpAddr {
        plan::pod(self.node, self.host, family)
    }

    /// The name the agent knows it by, unless told another: namespace and interface.
    pub fn name(&self) -> String {
        format!("{}/eth0", self.ns.name())
    }
}

/// One of the nodes.
pub struct Node {
    /// From 1 on.
    pub number: u8,
    /// Its namespace.
    pub ns: Netns,
    addresses: plan::Addresses,
    kind: NodeKind,
    // Before the machine: an agent is stopped before everything inside is killed.
    agent: Option<Agent>,
    machine: Option<Machine>,
    prefix: String,
    next_host: u8,
}

impl Node {
    /// Makes the node's pod network; the underlay stands already.
    pub(super) fn set_up(
        lab: &Lab,
        number: u8,
        ns: Netns,
        addresses: plan::Addresses,
        kind: NodeKind,
        peer: &NodeKind,
    ) -> Result<Node> {
        let other = 3 - number;
        let prefix = lab.prefix().to_owned();
        let mut agent = None;
        match &kind {
            NodeKind::KernelVxlan => {
                kernel::set_up(&ns, number, addresses)?;
                kernel::add_peer(&ns, other, addresses, |family| peer.vtep_mac(other, family))?;
            }
            NodeKind::Ringway(options) => {
                let folder = lab.folder().join(format!("n{number}"));
                let made =
                    Agent::new(&prefix, format!("node{number}"), ns.clone(), folder.clone())?;
                made.write_config(&config::render(
                    number,
                    other,
                    addresses,
                    peer.peer_kind(),
                    options,
                    &folder,
                ))?;
                agent.insert(made).launch()?;
            }
        }
        Ok(Node {
            number,
            ns,
            addresses,
            kind,
            agent,
            machine: None,
            prefix,
            next_host: 2,
        })
    }

    /// One with an agent whose pod networks and peers are others' to say; `sections` says whose.
    pub(super) fn told_by_others(lab: &Lab, number: u8, ns: Netns, sections: &str) -> Result<Node> {
        let folder = lab.folder().join(format!("n{number}"));
        let prefix = lab.prefix();
        let agent = Agent::new(prefix, format!("node{number}"), ns.clone(), folder.clone())?;
        agent.write_config(&config::render_told(number, sections, &folder))?;
        let kind = NodeKind::Ringway(RingwayOptions::default());
        let mut node = Node::new(lab, number, ns, kind);
        node.agent.insert(agent).launch()?;
        Ok(node)
    }

    /// A kernel node that knows no other yet.
    pub(super) fn kernel_alone(lab: &Lab, number: u8, ns: Netns) -> Result<Node> {
        kernel::set_up(&ns, number, plan::underlay)?;
        Ok(Node::new(lab, number, ns, NodeKind::KernelVxlan))
    }

    fn new(lab: &Lab, number: u8, ns: Netns, kind: NodeKind) -> Node {
        Node {
            number,
            ns,
            addresses: plan::underlay,
            kind,
            agent: None,
            machine: None,
            prefix: lab.prefix().to_owned(),
            next_host: 2,
        }
    }

    /// Its agent. An error on a kernel node.
    pub fn agent(&mut self) -> Result<&mut Agent> {
        let number = self.number;
        self.agent.as_mut().ok_or_else(|| LabError::Io {
            what: format!("the agent of node {number}"),
            source: std::io::Error::other("this node's pod network is the kernel's"),
        })
    }

    /// Whether an agent is at work here.
    pub fn is_ringway(&self) -> bool {
        self.agent.is_some()
    }

    /// Makes it a machine of its own, with room for a container runtime beside the agent, which has been
    /// stopped and starts in there from now on. One that was there before is powered off: agent, runtime and
    /// containers are killed, pods' namespaces are gone, and what stood in files stands there still.
    pub fn boot(&mut self) -> Result<Inside> {
        let machine = Machine::boot(&self.prefix, &self.ns)?;
        let inside = machine.inside().clone();
        let before = self.machine.replace(machine);
        let agent = self.agent()?;
        match before {
            Some(machine) => {
                agent.kill();
                machine.power_off();
            }
            None => drop(agent.stop()),
        }
        agent.move_inside(inside.clone());
        Ok(inside)
    }

    /// Changes the options and rewrites the configuration file; some of it waits for the next start.
    pub fn configure(&mut self, options: RingwayOptions, lab: &Lab, peer: &NodeKind) -> Result<()> {
        let folder = lab.folder().join(format!("n{}", self.number));
        let text = config::render(
            self.number,
            3 - self.number,
            self.addresses,
            peer.peer_kind(),
            &options,
            &folder,
        );
        self.kind = NodeKind::Ringway(options);
        self.agent()?.write_config(&text)
    }

    /// Puts an agent on a node whose pod network is the kernel's, to take it over; the agent is not started.
    /// `complete` gets the configuration that it would have from the beginning, and says what it has. Pods are
    /// attached by it from then on.
    pub fn put_agent(
        &mut self,
        options: RingwayOptions,
        lab: &Lab,
        peer: &NodeKind,
        complete: impl FnOnce(&Path, String) -> String,
    ) -> Result<&mut Agent> {
        let folder = lab.folder().join(format!("n{}", self.number));
        let name = format!("node{}", self.number);
        let agent = Agent::new(&self.prefix, name, self.ns.clone(), folder.clone())?;
        self.agent = Some(agent);
        self.configure(options, lab, peer)?;
        let agent = self.agent()?;
        let text = std::fs::read_to_string(agent.config())
            .map_err(LabError::io("read the configuration"))?;
        agent.write_config(&complete(&folder, text))?;
        Ok(agent)
    }

    /// Has Flannel back on a node that an agent has given back, with the MAC addresses of before.
    pub fn put_flannel(&mut self, peer: &NodeKind) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.stop();
        }
        self.kind = NodeKind::KernelVxlan;
        let other = 3 - self.number;
        kernel::devices(&self.ns, self.number, self.addresses)?;
        kernel::add_peer(&self.ns, other, self.addresses, |family| {
            peer.vtep_mac(other, family)
        })
    }

    /// What it was made of.
    pub fn kind(&self) -> &NodeKind {
        &self.kind
    }

    /// Its address on the underlay.
    pub fn ip(&self, family: Family) -> IpAddr {
        (self.addresses)(self.number, family)
    }

    /// Its gateway address on the pod network.
    pub fn gateway(&self, family: Family) -> IpAddr {
        plan::gateway(self.number, family)
    }

    /// Every address the node's own stack has.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let json = self.ns.ip("-j addr show")?;
        let links: serde_json::Value =
            serde_json::from_str(&json).map_err(|source| LabError::Json {
                command: "ip -j addr show".into(),
                source,
                output: json.chars().take(200).collect(),
            })?;
        let infos = links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link["addr_info"].as_array());
        Ok(infos
            .flatten()
            .filter_map(|info| info["local"].as_str()?.parse().ok())
            .collect())
    }

    /// A new namespace, attached.
    pub fn add_pod(&mut self) -> Result<Pod> {
        let pod = self.new_pod()?;
        self.attach(&pod)?;
        Ok(pod)
    }

    /// A new namespace with an address set aside, not attached.
    pub fn new_pod(&mut self) -> Result<Pod> {
        let host = self.next_host;
        self.next_host += 1;
        let ns = Netns::create(&format!("{}n{}p{host}", self.prefix, self.number))?;
        Ok(Pod {
            ns,
            node: self.number,
            host,
        })
    }

    /// Connects a pod's namespace to the pod network.
    pub fn attach(&mut self, pod: &Pod) -> Result<()> {
        let Some(agent) = &self.agent else {
            return kernel::attach(&self.ns, &pod.ns, self.number, pod.host);
        };
        let (netns, v4, v6) = (
            pod.ns.path().display().to_string(),
            pod.ip(Family::V4).to_string(),
            pod.ip(Family::V6).to_string(),
        );
        agent
            .cli(&[
                "attach", "--netns", &netns, "--ifname", "eth0", "--ip", &v4, "--ip", &v6,
            ])
            .map(drop)
    }

    /// Connects it as a container runtime does, by the CNI plugin; how long that took.
    pub fn attach_by_cni(&mut self, pod: &Pod) -> Result<Duration> {
        let ips = Family::BOTH.map(|family| pod.ip(family).to_string());
        let cni = Cni::ringway(self.agent()?, "1.0.0")?
            .with("runtimeConfig", serde_json::json!({ "ips": ips }));
        let begin = Instant::now();
        cni.add(pod.ns.name(), &pod.ns)??;
        Ok(begin.elapsed())
    }

    /// Takes it off again; the namespace stays.
    pub fn detach(&mut self, pod: &Pod) -> Result<()> {
        let Some(agent) = &self.agent else {
            return kernel::detach(&self.ns, pod.host);
        };
        let netns = pod.ns.path().display().to_string();
        agent
            .cli(&["detach", "--netns", &netns, "--ifname", "eth0"])
            .map(drop)
    }

    /// What its agent has dropped so far.
    pub fn drops(&mut self) -> Result<Drops> {
        Ok(Drops::from_json(&self.agent()?.json(&["drops"])?))
    }
}
