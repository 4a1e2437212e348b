//! Adding and removing local ports.

use ringway_packet::addr::{to_ip, unmap};

use super::{Snapshot, is_unicast};
use crate::{MAX_PORTS, Port, PortId, PortKind, TableError, Target};

impl Snapshot {
    /// The lowest number free for a pod.
    ///
    /// # Errors
    /// There are as many as there can be.
    pub fn free_port(&self) -> Result<PortId, TableError> {
        let lowest = self.ports.lowest_free(1);
        match lowest < MAX_PORTS {
            true => Ok(PortId(lowest)),
            false => Err(TableError::TooManyPorts {
                pods: MAX_PORTS - 1,
            }),
        }
    }

    /// Adds a port under a free number. The node's own port has number 0 and may (should) have the
    /// gateway's MAC and addresses; a pod may not.
    pub fn add_port(&mut self, id: PortId, port: Port) -> Result<(), TableError> {
        self.check_port(id, &port)?;
        self.macs.insert(port.mac.to_key(), id);
        for addr in port.addresses() {
            self.set_host_route(addr, Target::Port(id));
            self.neighbours.insert(addr, port.mac);
        }
        self.least_mtu = match self.ports.is_empty() {
            true => port.mtu,
            false => self.least_mtu.min(port.mtu),
        };
        self.ports.set(id.0, port);
        Ok(())
    }

    /// Removes a port and returns it. Its addresses are unreachable from then on, if they lie in
    /// the node's CIDRs.
    pub fn remove_port(&mut self, id: PortId) -> Option<Port> {
        let port = self.ports.remove(id.0)?;
        if port.mtu == self.least_mtu {
            let mtus = self.ports.iter().map(|(_, port)| port.mtu);
            self.least_mtu = mtus.min().unwrap_or(0);
        }
        self.macs.remove(port.mac.to_key());
        for addr in port.addresses() {
            if self.node.gateway_addresses().any(|gateway| gateway == addr) {
                continue;
            }
            self.neighbours.remove(addr);
            // A CIDR of one address is nobody's now.
            if self.node.is_cidr(addr) {
                self.set_host_route(addr, Target::Unreachable);
            } else {
                self.remove_host_route(addr);
            }
        }
        Some(port)
    }

    fn check_port(&self, id: PortId, port: &Port) -> Result<(), TableError> {
        let new = &port.name;
        if let Some(holder) = self.port(id) {
            let holder = holder.name.clone();
            return Err(TableError::PortTaken {
                id,
                new: new.clone(),
                holder,
            });
        }
        if (port.kind == PortKind::Node) != (id == PortId::NODE) {
            return Err(TableError::PortKind {
                id,
                new: new.clone(),
            });
        }
        let mac = port.mac;
        if mac.is_multicast() || mac.to_key() == 0 {
            return Err(TableError::InvalidMac {
                mac,
                new: new.clone(),
            });
        }
        let holder = match self.mac(mac) {
            Some(other) => Some(self.port_label(other)),
            None if port.kind == PortKind::Pod => self.node_mac_label(mac),
            None => None,
        };
        if let Some(holder) = holder {
            return Err(TableError::DuplicateMac {
                mac,
                new: new.clone(),
                holder,
            });
        }
        // Written into the IPv6 field, a mapped address would pass for IPv4.
        if let Some(ip6) = port.ip6.filter(|&ip6| unmap(ip6).is_some()) {
            return Err(TableError::InvalidAddress {
                address: to_ip(ip6),
                new: new.clone(),
            });
        }
        for addr in port.addresses() {
            let address = to_ip(addr);
            if !is_unicast(addr) {
                return Err(TableError::InvalidAddress {
                    address,
                    new: new.clone(),
                });
            }
            // Of the networks around it the longest decides: the address may be borrowed from a peer's.
            let holder = match (self.route(addr), self.outer.owner(addr)) {
                (_, Some(owner)) => self.owner_label(owner),
                (Some(Target::Port(other)), _) if other != id => self.port_label(other),
                (Some(Target::Path(path)), _) => self.path_label(path),
                _ => continue,
            };
            return Err(TableError::DuplicateAddress {
                address,
                new: new.clone(),
                holder,
            });
        }
        Ok(())
    }
}
