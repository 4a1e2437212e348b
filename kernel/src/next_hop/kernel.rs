//! What the next hops ask the kernel.

use std::net::IpAddr;

use crate::netlink::{Link, Neighbour, Netlink, NetlinkError, RouteTo};

/// Both ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Our outer address.
    pub src: IpAddr,
    /// Its outer address.
    pub dst: IpAddr,
}

/// The kernel's side, so that a test can play it.
pub trait Kernel {
    /// The link with this index.
    fn find_link(&mut self, index: u32) -> Result<Option<Link>, NetlinkError>;
    /// Its addresses.
    fn find_addresses(&mut self, index: u32) -> Result<Vec<IpAddr>, NetlinkError>;
    /// Where packets between these go.
    fn find_route(&mut self, endpoints: Endpoints) -> Result<RouteTo, NetlinkError>;
    /// The neighbour entry of an address on a link.
    fn find_neighbour(&mut self, index: u32, ip: IpAddr)
    -> Result<Option<Neighbour>, NetlinkError>;
    /// Has the address resolved or validated; returns at once.
    fn probe(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError>;
}

impl Kernel for Netlink {
    fn find_link(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        self.link_at(index)
    }

    fn find_addresses(&mut self, index: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        Ok(self.addresses(index)?.iter().map(|a| a.ip).collect())
    }

    fn find_route(&mut self, endpoints: Endpoints) -> Result<RouteTo, NetlinkError> {
        self.route_to(endpoints.dst, Some(endpoints.src))
    }

    fn find_neighbour(
        &mut self,
        index: u32,
        ip: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        self.neighbour(index, ip)
    }

    fn probe(&mut self, index: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        self.probe_neighbour(index, ip)
    }
}
