//! What the node itself puts into the tables.

use ringway_packet::addr::{from_ip, mapped, to_ip};
use ringway_packet::mac::MacAddr;

use super::Snapshot;
use crate::claims::{Claim, Owner};
use crate::{NodeInfo, PortId, TableError, Target};

impl Snapshot {
    /// Replaces what is known about the node; ports and peers stay.
    pub fn set_node(&mut self, node: NodeInfo) -> Result<(), TableError> {
        let mut next = self.clone();
        next.clear_node();
        next.check_node(&node)?;
        next.apply_node(node);
        *self = next;
        Ok(())
    }

    /// Whose a MAC is, if it is one of the node's.
    pub(super) fn node_mac_label(&self, mac: MacAddr) -> Option<String> {
        let node = &self.node;
        if mac == node.gateway_mac {
            Some(format!("the gateway of node {}", node.name))
        } else if mac == node.vtep_mac || mac == node.vtep_mac6 {
            Some(format!("the VTEP of node {}", node.name))
        } else {
            None
        }
    }

    fn check_node(&self, node: &NodeInfo) -> Result<(), TableError> {
        let label = format!("node {}", node.name);
        self.check_claims(&node_claims(node), &node.name, &label)?;
        let gateways = node.gateway4.map(mapped).into_iter().chain(node.gateway6);
        for gateway in gateways {
            if !node.cidrs.iter().any(|cidr| cidr.contains(gateway)) {
                let gateway = to_ip(gateway);
                return Err(TableError::GatewayOutside {
                    gateway,
                    node: node.name.clone(),
                });
            }
        }
        for addr in node.gateway_addresses() {
            if let Some(Target::Port(id)) = self.host_route(addr)
                && id != PortId::NODE
            {
                let (address, new) = (to_ip(addr), node.name.clone());
                let holder = self.port_label(id);
                return Err(TableError::DuplicateAddress {
                    address,
                    new,
                    holder,
                });
            }
        }
        for mac in [node.gateway_mac, node.vtep_mac, node.vtep_mac6] {
            let new = node.name.clone();
            if mac.is_multicast() {
                return Err(TableError::InvalidMac { mac, new });
            }
            if let Some(id) = self.mac(mac).filter(|&id| id != PortId::NODE) {
                return Err(TableError::DuplicateMac {
                    mac,
                    new,
                    holder: self.port_label(id),
                });
            }
        }
        Ok(())
    }

    fn apply_node(&mut self, node: NodeInfo) {
        for claim in node_claims(&node) {
            self.claims.insert(claim);
        }
        for cidr in node.cidrs.iter() {
            self.set_route(
                cidr.first(),
                cidr.prefix_len(),
                cidr.is_ipv6(),
                Target::Unreachable,
            );
        }
        // After the CIDRs: one of full length is nothing but its network address.
        for addr in node.gateway_addresses() {
            self.set_host_route(addr, Target::Port(PortId::NODE));
            self.neighbours.insert(addr, node.gateway_mac);
        }
        if let Some(addr) = node.gateway_link_local {
            self.set_host_route(addr, Target::Port(PortId::NODE));
            self.neighbours.insert(addr, node.gateway_mac);
        }
        self.node = node;
        if let Some(port) = self.port(PortId::NODE).cloned() {
            for addr in port.addresses() {
                self.set_host_route(addr, Target::Port(PortId::NODE));
                self.neighbours.insert(addr, port.mac);
            }
        }
    }

    fn clear_node(&mut self) {
        let node = std::mem::take(&mut self.node);
        for claim in node_claims(&node) {
            self.claims.remove(&claim);
        }
        for addr in node.gateway_addresses().chain(node.gateway_link_local) {
            self.remove_host_route(addr);
            self.neighbours.remove(addr);
        }
        for cidr in node.cidrs.iter() {
            self.remove_route(cidr.first(), cidr.prefix_len(), cidr.is_ipv6());
        }
    }
}

fn node_claims(node: &NodeInfo) -> Vec<Claim> {
    let cidrs = node
        .cidrs
        .iter()
        .map(|&cidr| Claim::cidr(cidr, Owner::NodeCidr));
    let mut addresses: Vec<u128> = node.addresses.iter().map(|&ip| from_ip(ip)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let addresses = addresses
        .into_iter()
        .map(|addr| Claim::address(addr, Owner::NodeAddress));
    cidrs.chain(addresses).collect()
}
