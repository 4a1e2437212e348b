//! What the node's stack knows of the pods, a permanent neighbour entry on the node port for each address, and
//! what it can tell of them.

use std::net::IpAddr;

use ringway_kernel::bridge;
use ringway_kernel::netlink::{Netlink, NetlinkError};
use ringway_kernel::pod::interface;
use ringway_kernel::rules::conntrack;
use ringway_packet::mac::MacAddr;
use ringway_switch::returns::Role;
use ringway_tables::{PortId, Target};

use super::Control;
use crate::state::PodRecord;
use ringway_worker::{Command, epoch};

/// Former MAC addresses that are remembered.
const FORMER: usize = 8192;

/// Tells the node's stack a pod's MAC address, or that it has it no longer. It could ask by ARP, but not by
/// neighbour discovery for packets it forwards: that takes a link-local address, which the node port does not
/// have. In the namespace of the calling thread.
pub(super) fn set_node_neighbours(interface: &str, record: &PodRecord, present: bool) {
    let tell = || {
        let index = interface::index(interface)?.ok_or_else(|| NetlinkError::NoLink {
            name: interface.to_owned(),
        })?;
        let mut netlink = Netlink::open()?;
        for ip in &record.ips {
            if present {
                netlink.set_neighbour(index, *ip, record.mac)?;
            } else {
                netlink.remove_neighbour(index, *ip)?;
            }
        }
        Ok::<(), NetlinkError>(())
    };
    if let Err(e) = tell() {
        tracing::warn!(
            interface,
            "the node's neighbour entry of a pod was not set: {e}"
        );
    }
}

impl Control {
    /// Takes away what the node's stack was told of pods that are no longer there.
    pub(super) fn correct_node(&mut self) {
        self.want_pods();
        let before = &mut self.state.before;
        self.node.port.sweep_neighbours(before, &mut self.ledger);
    }

    /// Remembers at which MAC address others know a pod that goes.
    pub(super) fn note_macs(&mut self, record: &PodRecord) {
        if self.former_macs.len() >= FORMER {
            // Those announce themselves once without need.
            self.former_macs.clear();
        }
        for ip in &record.ips {
            self.former_macs.insert(*ip, record.mac);
        }
    }

    /// Those of a new pod's addresses that others may know at another MAC address. Of what was released in an
    /// earlier agent's life the MAC address is not known.
    pub(super) fn other_mac_before(&self, record: &PodRecord) -> Vec<IpAddr> {
        let moved = |ip: &IpAddr| match self.former_macs.get(ip) {
            Some(mac) => *mac != record.mac,
            None => self.state.ipam.of(ip.is_ipv6()).released.contains(ip),
        };
        record.ips.iter().copied().filter(moved).collect()
    }

    /// Tells the node and its pods at which MAC address these addresses are now: until they have asked again,
    /// which takes them some 20 s, they would send to one that nobody has. One worker does it for all; pods of
    /// other nodes know the gateway's MAC address only.
    pub(super) fn announce(&self, port: PortId, ips: Vec<IpAddr>, mac: MacAddr) {
        if let Some(worker) = self.workers.first() {
            worker.send(Command::Announce { port, ips, mac });
        }
    }

    /// Tells pods that are still on the bridge of the network before that these addresses are a new pod's: there they
    /// may have been another's.
    pub(super) fn announce_on_bridge(&mut self, ips: &[IpAddr]) {
        if self.left.addresses().next().is_none() {
            return;
        }
        let Some((name, _)) = self.state.takeover.bridge() else {
            return;
        };
        if let Err(e) = bridge::announce(&mut self.netlink, name, ips) {
            tracing::warn!(
                bridge = name,
                "its pods may not reach a new one for half a minute: {e}"
            );
        }
    }

    /// Learns from the node's stack which flows of the pods it translates: an answer that comes before the
    /// client's next packet would reach the client untranslated, which would refuse it for good.
    pub(super) fn learn_returns(&self) {
        if self.pods.is_empty() {
            return;
        }
        let flows = match conntrack::translated() {
            Ok(flows) => flows,
            Err(e) => {
                // Without connection tracking nothing is translated.
                tracing::debug!("no connection tracking to learn from: {e}");
                return;
            }
        };
        let snapshot = self.publisher.current();
        let now = epoch().elapsed().as_nanos() as u64;
        let mut learnt = 0;
        for answer in flows {
            let ends = (snapshot.route(answer.dst), snapshot.route(answer.src));
            let (port, role) = match ends {
                (Some(Target::Port(client)), _) => (client, Role::Client),
                (Some(Target::Path(_)), Some(Target::Port(backend))) => (backend, Role::Backend),
                _ => continue,
            };
            if port != PortId::NODE {
                self.returns.known_to_node(port, role, answer, now);
                learnt += 1;
            }
        }
        if learnt > 0 {
            tracing::info!(learnt, "learnt the flows that the node translates for pods");
        }
    }
}
