//! What a worker tells its ports of a pod whose addresses have moved to another MAC address.

use std::net::IpAddr;

use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_tables::PortId;

use super::devices::Devices;
use super::visit::Round;

impl<D: Devices> Round<'_, D> {
    /// Tells all local ports but the pod's own that its addresses are at `mac` from now on.
    pub(super) fn announce(&mut self, pod: PortId, ips: &[IpAddr], mac: MacAddr) {
        for (number, port) in self.snapshot.ports.iter().filter(|(n, _)| *n != pod.0) {
            for ip in ips {
                let of_family = match ip {
                    IpAddr::V4(_) => port.ip4.is_some(),
                    IpAddr::V6(_) => port.ip6.is_some(),
                };
                if of_family {
                    self.pipeline.announce(PortId(number), from_ip(*ip), mac);
                }
            }
            // The outbox has room for one port's.
            self.send_originated();
        }
    }
}
