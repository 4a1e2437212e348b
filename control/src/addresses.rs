//! Which addresses a pod gets: those it asks for, and of each family it asks nothing of, the next.

use std::collections::HashSet;
use std::net::IpAddr;

use ringway_kernel::pod::interface::PodAddress;
use ringway_packet::addr::from_ip;

use super::{Control, ControlError};
use ringway_cluster::{Node, has_gateway};
use ringway_config::ipam::AddressPool;

impl Control {
    /// Addresses for a pod: `asked`, and one of each further family of the node. Second, those that were
    /// chosen here.
    pub(super) fn choose(
        &self,
        asked: Vec<IpAddr>,
    ) -> Result<(Vec<IpAddr>, Vec<IpAddr>), ControlError> {
        let (mut ips, mut chosen) = (asked, Vec::new());
        // Recorded pods that are not served have theirs, too.
        let records = self.state.pods.values();
        let taken: HashSet<IpAddr> = records
            .flat_map(|record| record.ips.iter().copied())
            // So have those that are still on the bridge of the network before.
            .chain(self.left.addresses())
            .collect();
        for pool in &self.pools {
            let v6 = pool.is_ipv6();
            if ips.iter().any(|ip| ip.is_ipv6() == v6) {
                continue;
            }
            let order = self.state.ipam.of(v6);
            let ip = order
                .next(pool, |ip| taken.contains(&ip))
                .ok_or_else(|| self.full(pool))?;
            ips.push(ip);
            chosen.push(ip);
        }
        ips.sort_by_key(IpAddr::is_ipv6);
        Ok((ips, chosen))
    }

    /// No address is left: how many there are and who has them.
    fn full(&self, pool: &AddressPool) -> ControlError {
        let family = |ip: &IpAddr| ip.is_ipv6() == pool.is_ipv6();
        let held = |(name, record): (&String, &crate::state::PodRecord)| {
            let ip = record.ips.iter().find(|ip| family(ip))?;
            Some(format!("{ip} {name}"))
        };
        let holders: Vec<String> = self.state.pods.iter().filter_map(held).collect();
        let some = holders[..holders.len().min(3)].join(", ");
        ControlError::Full {
            holders: holders.len(),
            size: pool.size(),
            networks: pool.networks(),
            some,
        }
    }
}

/// The addresses with prefix length and gateway; refused outside the node's
/// pod networks, and for addresses no pod can have.
pub(super) fn pod_addresses(node: &Node, ips: &[IpAddr]) -> Result<Vec<PodAddress>, ControlError> {
    let mut addresses = Vec::new();
    for ip in ips {
        let inside = node.cidr_of(*ip).zip(node.gateway_of(*ip));
        let Some((cidr, gateway)) = inside else {
            let known: Vec<String> = node.cidrs.iter().map(ToString::to_string).collect();
            let networks = known.join(", ");
            return Err(ControlError::Outside { ip: *ip, networks });
        };
        let roomy = has_gateway(cidr);
        let what = if *ip == gateway {
            Some("the gateway's address")
        } else if roomy && *ip == cidr.network() {
            Some("the address of the network itself")
        } else if roomy && ip.is_ipv4() && from_ip(*ip) == cidr.last() {
            Some("the broadcast address")
        } else {
            None
        };
        if let Some(what) = what {
            let ip = *ip;
            return Err(ControlError::Reserved { ip, what, cidr });
        }
        addresses.push(PodAddress {
            ip: *ip,
            prefix_len: cidr.prefix_len(),
            gateway,
        });
    }
    Ok(addresses)
}
