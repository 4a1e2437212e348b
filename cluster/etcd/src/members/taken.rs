//! What is claimed already.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_packet::addr::{from_ip, to_ip};
use ringway_tables::Cidr;

/// Networks, which share no address with each other, and outer addresses; and whose they are.
#[derive(Default)]
pub(super) struct Taken {
    networks: BTreeMap<u128, (Cidr, Arc<str>)>,
    pub(super) addresses: BTreeMap<IpAddr, Arc<str>>,
}

impl Taken {
    /// Enters a network that overlaps no other.
    pub(super) fn network(&mut self, cidr: Cidr, whose: Arc<str>) {
        self.networks.insert(cidr.first(), (cidr, whose));
    }

    /// The network that an address is in.
    pub(super) fn around(&self, address: IpAddr) -> Option<&(Cidr, Arc<str>)> {
        let (_, before) = self.networks.range(..=from_ip(address)).next_back()?;
        before.0.contains(from_ip(address)).then_some(before)
    }

    /// A network that shares an address with this one.
    pub(super) fn overlapping(&self, cidr: Cidr) -> Option<&(Cidr, Arc<str>)> {
        let (_, before) = self.networks.range(..=cidr.last()).next_back()?;
        before.0.overlaps(cidr).then_some(before)
    }

    /// An outer address in a network.
    pub(super) fn inside(&self, cidr: Cidr) -> Option<IpAddr> {
        let span = cidr.network()..=to_ip(cidr.last());
        let first = self.addresses.range(span).next();
        first.map(|(address, _)| *address)
    }
}
