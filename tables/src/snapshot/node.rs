//! What the node itself puts into the tables.

use ringway_packet::addr::{mapped, to_ip};
use ringway_packet::mac::MacAddr;

use super::{Snapshot, outer_addresses, own_address_inside};
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
        self.check_addresses(None, &node.addresses, &node.name)?;
        self.check_prefixes(None, &node.cidrs, &node.name, &label)?;
        own_address_inside(&node.addresses, &node.cidrs, &node.name, &label)?;
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
        for addr in outer_addresses(&node.addresses) {
            self.outer.insert(Claim::address(addr, Owner::Node));
        }
        for cidr in node.cidrs.iter() {
            // One of a single address may have its pod already.
            let pod = || matches!(self.host_route(cidr.first()), Some(Target::Port(_)));
            if !(node.is_cidr(cidr.first()) && cidr.first() == cidr.last() && pod()) {
                self.set_cidr(*cidr, Target::Unreachable);
            }
        }
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
        for addr in outer_addresses(&node.addresses) {
            self.outer.remove(&Claim::address(addr, Owner::Node));
        }
        for addr in node.gateway_addresses().chain(node.gateway_link_local) {
            self.remove_host_route(addr);
            self.neighbours.remove(addr);
        }
        for cidr in node.cidrs.iter() {
            if self.exact(*cidr) == Some(Target::Unreachable) {
                self.remove_route(cidr.first(), cidr.prefix_len(), cidr.is_ipv6());
            }
        }
    }
}
