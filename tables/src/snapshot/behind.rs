//! Pods of this node that are not at a port of ours: another plugin's, from before Ringway came. The node's own
//! stack has the way to them, so the switch gives it what is for them.

use std::sync::Arc;

use super::Snapshot;
use crate::{PortId, Target};

impl Snapshot {
    /// Has exactly these addresses (IPv4 mapped) lead to the node's stack. One outside the node's networks, and
    /// one that a port or a gateway has, is left out. Whether anything is different now.
    pub fn set_behind(&mut self, addresses: &[u128]) -> bool {
        let mut wanted = addresses.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let before = self.behind.clone();
        let inside = |addr: u128| self.node.cidrs.iter().any(|cidr| cidr.contains(addr));
        let free = |addr: u128| match self.host_route(addr) {
            None => true,
            // By an earlier call.
            Some(target) => target == Target::Port(PortId::NODE) && before.contains(&addr),
        };
        wanted.retain(|&addr| inside(addr) && free(addr) && !self.is_gateway(addr));
        for &addr in before.iter().filter(|addr| !wanted.contains(addr)) {
            let ours = self.host_route(addr) == Some(Target::Port(PortId::NODE));
            if ours && !self.is_gateway(addr) {
                self.remove_host_route(addr);
                self.neighbours.remove(addr);
            }
        }
        for &addr in &wanted {
            self.set_host_route(addr, Target::Port(PortId::NODE));
            self.neighbours.insert(addr, self.node.gateway_mac);
        }
        let different = *before != *wanted;
        if different {
            self.behind = Arc::from(wanted);
        }
        different
    }

    /// Those addresses, IPv4 mapped, in order.
    pub fn behind(&self) -> &[u128] {
        &self.behind
    }

    fn is_gateway(&self, addr: u128) -> bool {
        let node = &self.node;
        let mut own = node.gateway_addresses().chain(node.gateway_link_local);
        own.any(|gateway| gateway == addr)
    }
}
