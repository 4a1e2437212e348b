//! What the program is to let the sockets have, and what of that makes sense.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::FilterError;

/// The most addresses of one filter.
pub const MAX_ADDRESSES: usize = 64;
/// The most UDP ports of one filter.
pub const MAX_PORTS: usize = 16;
/// The most CIDRs of one filter. All are compared one after the other, some nanoseconds each, for every
/// frame of the interface.
pub const MAX_CIDRS: usize = 64;

/// Which frames go to the sockets of their queues; all others pass.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Filter {
    /// Addresses of the node on the underlay. Without any, no UDP is redirected.
    pub addresses: Vec<IpAddr>,
    /// UDP ports at each of them.
    pub ports: Vec<u16>,
    /// Address and prefix length of networks whose frames are redirected whatever they carry: fragments,
    /// options and all. Bits behind the prefix are ignored.
    pub cidrs: Vec<(IpAddr, u8)>,
}

impl Filter {
    /// Sorted and without repetitions, IPv4-mapped addresses as IPv4, CIDRs cut to their prefix.
    ///
    /// # Errors
    /// What is wrong with it; see [`FilterError`].
    pub fn checked(&self) -> Result<Filter, FilterError> {
        let mut addresses: Vec<IpAddr> = self.addresses.iter().map(IpAddr::to_canonical).collect();
        let mut ports = self.ports.clone();
        let mut cidrs = Vec::with_capacity(self.cidrs.len());
        if let Some(address) = addresses.iter().find(|a| !is_unicast(a)) {
            return Err(FilterError::NotUnicast { address: *address });
        }
        if ports.contains(&0) {
            return Err(FilterError::PortZero);
        }
        for (address, prefix) in &self.cidrs {
            let limit = if address.is_ipv4() { 32 } else { 128 };
            // A default route as CIDR would take everything from the node, its own connections too.
            if !(1..=limit).contains(prefix) {
                return Err(FilterError::Prefix {
                    address: *address,
                    prefix: *prefix,
                    limit,
                });
            }
            let network = masked(*address, *prefix);
            if let Some(inside) = addresses.iter().find(|a| masked(**a, *prefix) == network) {
                return Err(FilterError::CoversAddress {
                    network,
                    prefix: *prefix,
                    address: *inside,
                });
            }
            cidrs.push((network, *prefix));
        }
        addresses.sort_unstable();
        addresses.dedup();
        ports.sort_unstable();
        ports.dedup();
        cidrs.sort_unstable();
        cidrs.dedup();
        limited("addresses", addresses.len(), MAX_ADDRESSES)?;
        limited("UDP ports", ports.len(), MAX_PORTS)?;
        limited("CIDRs", cidrs.len(), MAX_CIDRS)?;
        Ok(Filter {
            addresses,
            ports,
            cidrs,
        })
    }

    /// The part of one family; no addresses where there are no ports, and the other way round.
    pub(super) fn family(&self, v4: bool) -> Filter {
        let mut part = self.clone();
        part.addresses.retain(|address| address.is_ipv4() == v4);
        part.cidrs.retain(|(network, _)| network.is_ipv4() == v4);
        if part.addresses.is_empty() || part.ports.is_empty() {
            part.addresses.clear();
            part.ports.clear();
        }
        part
    }

    /// Whether nothing is redirected.
    pub fn is_empty(&self) -> bool {
        self.cidrs.is_empty() && (self.addresses.is_empty() || self.ports.is_empty())
    }
}

fn limited(what: &'static str, given: usize, limit: usize) -> Result<(), FilterError> {
    if given > limit {
        return Err(FilterError::TooMany { what, given, limit });
    }
    Ok(())
}

fn is_unicast(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// The network of `address`: bits behind the prefix zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(addresses: &[&str], cidrs: &[(&str, u8)]) -> Filter {
        Filter {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ports: vec![4789],
            cidrs: cidrs
                .iter()
                .map(|(a, n)| (a.parse().unwrap(), *n))
                .collect(),
        }
    }

    #[test]
    fn is_put_in_order() {
        let mut given = filter(
            &["fd00::1", "10.0.0.2", "::ffff:10.0.0.2", "10.0.0.1"],
            &[("fd01::ff", 64), ("10.244.1.7", 24), ("10.244.1.0", 24)],
        );
        given.ports = vec![6081, 4789, 6081];
        let mut wanted = filter(
            &["10.0.0.1", "10.0.0.2", "fd00::1"],
            &[("10.244.1.0", 24), ("fd01::", 64)],
        );
        wanted.ports = vec![4789, 6081];
        assert_eq!(given.checked().unwrap(), wanted);
    }

    #[test]
    fn nonsense_is_refused_with_the_value() {
        let refusal = |filter: Filter| filter.checked().unwrap_err().to_string();
        for address in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            let text = refusal(filter(&[address], &[]));
            assert!(text.contains(address), "{text}");
        }
        for (cidr, shown) in [
            (("0.0.0.0", 0), "0.0.0.0/0"),
            (("10.0.0.0", 33), "10.0.0.0/33"),
            (("::", 0), "::/0"),
            (("fd00::", 129), "fd00::/129"),
        ] {
            let text = refusal(filter(&[], &[cidr]));
            assert!(text.contains(shown), "{text}");
        }
        let text = refusal(filter(&["10.0.0.1"], &[("10.0.0.9", 24)]));
        assert!(
            text.contains("10.0.0.0/24") && text.contains("10.0.0.1"),
            "{text}"
        );
        let mut zero = filter(&[], &[]);
        zero.ports = vec![0];
        assert_eq!(zero.checked(), Err(FilterError::PortZero));
        let mut many = filter(&[], &[]);
        many.ports = (1..=17).collect();
        assert_eq!(
            many.checked(),
            Err(FilterError::TooMany {
                what: "UDP ports",
                given: 17,
                limit: 16
            })
        );
    }
}
