//! Which subnets there are: `SubnetLen`, `SubnetMin` and `SubnetMax` of the net-conf, and what Flannel takes where
//! they are absent (its `CheckNetworkConfig`).

use std::net::IpAddr;

use ringway_cluster::flannel::NetConf;
use ringway_packet::addr::{from_ip, to_ip};
use ringway_tables::Cidr;

use super::Subnets;

/// The subnets of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The network they are in.
    pub network: Cidr,
    /// Prefix length of each.
    pub len: u8,
    /// First address of the first, IPv4 mapped.
    pub(super) min: u128,
    /// First address of the last, IPv4 mapped.
    pub(super) max: u128,
}

/// The subnets that a node gets one of each of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    /// IPv4.
    pub v4: Pool,
    /// IPv6, if it is enabled.
    pub v6: Option<Pool>,
}

/// A net-conf that no node can have a subnet of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Flannel's keys begin with an IPv4 subnet.
    #[error(
        "the net-conf has no IPv4 network, and Flannel's layout in etcd has no key for a node without one: \
         give it a Network"
    )]
    NoIpv4,
    /// Too few or too many bits.
    #[error("net-conf: {key} is {len} in {network}; wanted {from} to {to}")]
    Length {
        /// Which.
        key: &'static str,
        /// What it is.
        len: u8,
        /// The network.
        network: Cidr,
        /// Least that makes four subnets.
        from: u8,
        /// Most that leaves two addresses.
        to: u8,
    },
    /// The network has no room.
    #[error("net-conf: {network} has no room for four subnets of four addresses")]
    Small {
        /// The network.
        network: Cidr,
    },
    /// A first or last subnet that is none.
    #[error("net-conf: {key} is {address}; wanted the first address of a /{len} in {network}")]
    Bound {
        /// Which.
        key: &'static str,
        /// What it is.
        address: IpAddr,
        /// Prefix length of subnets.
        len: u8,
        /// The network.
        network: Cidr,
    },
    /// The last is before the first.
    #[error("net-conf: subnets begin at {min} and end at {max}: there is none")]
    Empty {
        /// First address of the first.
        min: IpAddr,
        /// First address of the last.
        max: IpAddr,
    },
}

impl Pools {
    /// Reads them.
    ///
    /// # Errors
    /// As Flannel's, which does not start then.
    pub fn of(conf: &NetConf) -> Result<Self, PoolError> {
        let network = conf.network.ok_or(PoolError::NoIpv4)?;
        let (len, min, max) = (conf.subnet_len, conf.subnet_min, conf.subnet_max);
        let v4 = Pool::new(network, len, min, max)?;
        let v6 = conf.ipv6_network.map(|network| {
            let (min, max) = (conf.ipv6_subnet_min, conf.ipv6_subnet_max);
            Pool::new(network, conf.ipv6_subnet_len, min, max)
        });
        Ok(Self {
            v4,
            v6: v6.transpose()?,
        })
    }

    /// Whether these are subnets of the pools.
    pub fn have(&self, subnets: &Subnets) -> bool {
        let v6 = match (&self.v6, subnets.v6) {
            (Some(pool), Some(cidr)) => pool.has(cidr),
            (None, None) => true,
            _ => false,
        };
        v6 && self.v4.has(subnets.v4)
    }
}

impl Pool {
    fn new(
        network: Cidr,
        len: Option<u8>,
        min: Option<IpAddr>,
        max: Option<IpAddr>,
    ) -> Result<Self, PoolError> {
        let v6 = network.is_ipv6();
        let (bits, usual, keys) = match v6 {
            false => (32, 24, ["SubnetLen", "SubnetMin", "SubnetMax"]),
            true => (128, 64, ["IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"]),
        };
        let least = network.prefix_len() + 2;
        let most = bits - 2;
        let len = match len.filter(|len| *len > 0) {
            Some(len) if len < least || len > most => {
                return Err(PoolError::Length {
                    key: keys[0],
                    len,
                    network,
                    from: least,
                    to: most,
                });
            }
            Some(len) => len,
            None if least > most => return Err(PoolError::Small { network }),
            None => usual.max(least),
        };
        let size = 1u128 << (bits - len);
        let bound = |key, address: Option<IpAddr>, default: u128| match address
            .filter(|a| !a.is_unspecified())
        {
            None => Ok(default),
            Some(a) if network.contains(from_ip(a)) && from_ip(a).is_multiple_of(size) => {
                Ok(from_ip(a))
            }
            Some(address) => Err(PoolError::Bound {
                key,
                address,
                len,
                network,
            }),
        };
        // Not the first: its first address is that of the whole network.
        let min = bound(keys[1], min, network.first() + size)?;
        let max = bound(keys[2], max, network.last() - (size - 1))?;
        if min > max {
            let (min, max) = (to_ip(min), to_ip(max));
            return Err(PoolError::Empty { min, max });
        }
        Ok(Self {
            network,
            len,
            min,
            max,
        })
    }

    fn has(&self, cidr: Cidr) -> bool {
        cidr.is_ipv6() == self.network.is_ipv6()
            && cidr.prefix_len() == self.len
            && (self.min..=self.max).contains(&cidr.first())
    }

    /// Addresses in each.
    pub(super) fn size(&self) -> u128 {
        let bits = if self.network.is_ipv6() { 128 } else { 32 };
        1 << (bits - self.len)
    }

    /// First addresses of the first and the last.
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        (to_ip(self.min), to_ip(self.max))
    }

    /// How many there are.
    pub fn count(&self) -> u128 {
        (self.max - self.min) / self.size() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(text: &str) -> Result<Pools, PoolError> {
        Pools::of(&NetConf::parse(text).unwrap())
    }

    #[test]
    fn as_flannel_cuts_its_network() {
        for (text, len, first, last, count) in [
            (
                r#"{"Network":"10.5.0.0/16"}"#,
                24,
                "10.5.1.0",
                "10.5.255.0",
                255,
            ),
            (
                r#"{"Network":"10.5.0.0/24"}"#,
                26,
                "10.5.0.64",
                "10.5.0.192",
                3,
            ),
            // The example of Flannel's documentation.
            (
                r#"{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}"#,
                20,
                "10.10.0.0",
                "10.99.0.0",
                1425,
            ),
        ] {
            let pool = pools(text).unwrap().v4;
            let (min, max) = pool.bounds();
            assert_eq!(
                (
                    pool.len,
                    min.to_string().as_str(),
                    max.to_string().as_str(),
                    pool.count()
                ),
                (len, first, last, count)
            );
        }
        let both =
            pools(r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}"#)
                .unwrap();
        let v6 = both.v6.unwrap();
        assert_eq!((v6.len, v6.count()), (64, 65535));
        assert_eq!(v6.bounds().0.to_string(), "fc00:0:0:1::");
    }

    #[test]
    fn what_flannel_refuses_is_refused() {
        for (text, wanted) in [
            (
                r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}"#,
                "no IPv4 network",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":17}"#,
                "SubnetLen is 17 in 10.5.0.0/16; wanted 18 to 30",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":31}"#,
                "SubnetLen is 31",
            ),
            (r#"{"Network":"10.5.0.0/29"}"#, "no room"),
            (r#"{"Network":"10.5.0.0/32"}"#, "no room"),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}"#,
                "SubnetMin is 10.6.0.0",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.7.1"}"#,
                "SubnetMax is 10.5.7.1",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}"#,
                "there is none",
            ),
            (
                r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/127"}"#,
                "fc00::/127 has no room",
            ),
        ] {
            let error = pools(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_subnet_of_another_length_or_place_is_not_of_the_pools() {
        let pools = pools(r#"{"Network":"10.5.0.0/16"}"#).unwrap();
        for (text, has) in [
            ("10.5.1.0-24", true),
            ("10.5.255.0-24", true),
            ("10.5.0.0-24", false),
            ("10.5.2.0-25", false),
            ("10.6.1.0-24", false),
            ("10.5.1.0-24&fc00::-64", false),
        ] {
            assert_eq!(pools.have(&text.parse().unwrap()), has, "{text}");
        }
    }
}
