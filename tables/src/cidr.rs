//! A network in CIDR notation, either family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ringway_packet::addr::{from_ip, to_ip, unmap};

use crate::lpm::Address;

/// A network such as `10.77.1.0/24` or `fd77:1::/64`. Host bits are zero.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct Cidr {
    /// Network address, IPv4 mapped.
    network: u128,
    /// Prefix length in the address's own family.
    len: u8,
    v6: bool,
}

/// Why something is not a [`Cidr`].
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum CidrError {
    /// No slash.
    #[error("{text:?} is not a network: a prefix length is missing, for example {example}")]
    NoLength {
        /// Text given.
        text: String,
        /// What it could look like.
        example: String,
    },
    /// The part before the slash is not an address.
    #[error("{text:?} is not a network: {address:?} is not an IPv4 or IPv6 address")]
    Address {
        /// Text given.
        text: String,
        /// The part that is wrong.
        address: String,
    },
    /// The part after the slash is not a number.
    #[error("{text:?} is not a network: {len:?} is not a prefix length")]
    Length {
        /// Text given.
        text: String,
        /// The part that is wrong.
        len: String,
    },
    /// Prefix length too large for the family.
    #[error("{address}/{len} is not a network: prefix length is at most {max}")]
    TooLong {
        /// Address given.
        address: IpAddr,
        /// Prefix length given.
        len: u8,
        /// Limit of the family.
        max: u8,
    },
    /// Bits below the prefix are set.
    #[error("{address}/{len} has host bits set; the network is {meant}")]
    HostBits {
        /// Address given.
        address: IpAddr,
        /// Prefix length given.
        len: u8,
        /// What was meant.
        meant: Cidr,
    },
    /// `::ffff:a.b.c.d`.
    #[error("{address} is an IPv4 address in IPv6 notation; write it as {meant}")]
    Mapped {
        /// Address given.
        address: IpAddr,
        /// The IPv4 address.
        meant: IpAddr,
    },
}

impl Cidr {
    /// A network from its address and prefix length; host bits are refused.
    pub fn new(address: IpAddr, len: u8) -> Result<Cidr, CidrError> {
        let cidr = Cidr::containing(address, len)?;
        if cidr.network() != address {
            return Err(CidrError::HostBits {
                address,
                len,
                meant: cidr,
            });
        }
        Ok(cidr)
    }

    /// The network of this length that an address lies in: host bits are cut off.
    pub fn containing(address: IpAddr, len: u8) -> Result<Cidr, CidrError> {
        let v6 = address.is_ipv6();
        let bits = from_ip(address);
        if v6 && unmap(bits).is_some() {
            return Err(CidrError::Mapped {
                address,
                meant: to_ip(bits),
            });
        }
        let max = if v6 { 128 } else { 32 };
        if len > max {
            return Err(CidrError::TooLong { address, len, max });
        }
        let mask = u128::mask(len + (128 - max));
        Ok(Cidr {
            network: bits & mask,
            len,
            v6,
        })
    }

    /// `0.0.0.0/0` or `::/0`.
    pub fn default_route(v6: bool) -> Cidr {
        Cidr {
            network: if v6 { 0 } else { 0xffff << 32 },
            len: 0,
            v6,
        }
    }

    /// Network address.
    pub fn network(self) -> IpAddr {
        // The network ::/96 and the like cannot be mistaken for IPv4: mapped ones are refused.
        to_ip(self.network)
    }

    /// Prefix length in its family: 0..=32 or 0..=128.
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// Whether it is an IPv6 network.
    pub fn is_ipv6(self) -> bool {
        self.v6
    }

    /// First address, IPv4 mapped.
    pub fn first(self) -> u128 {
        self.network
    }

    /// Last address, IPv4 mapped.
    pub fn last(self) -> u128 {
        let host = if self.v6 { self.len } else { self.len + 96 };
        self.network | !u128::mask(host)
    }

    /// Whether an address (IPv4 mapped) lies in the network.
    #[inline]
    pub fn contains(self, addr: u128) -> bool {
        self.v6 == unmap(addr).is_none() && addr >= self.first() && addr <= self.last()
    }

    /// Whether two networks share an address.
    pub fn overlaps(self, other: Cidr) -> bool {
        self.v6 == other.v6 && self.first() <= other.last() && other.first() <= self.last()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let Some((address, len)) = text.split_once('/') else {
            let example = match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => format!("{text}/24"),
                Ok(IpAddr::V6(_)) => format!("{text}/64"),
                Err(_) => "10.77.1.0/24".into(),
            };
            return Err(CidrError::NoLength {
                text: text.into(),
                example,
            });
        };
        let Ok(ip) = address.parse::<IpAddr>() else {
            return Err(CidrError::Address {
                text: text.into(),
                address: address.into(),
            });
        };
        // u8::from_str takes a leading plus sign.
        match len.parse::<u8>() {
            Ok(parsed) if len.bytes().all(|b| b.is_ascii_digit()) => Cidr::new(ip, parsed),
            _ => Err(CidrError::Length {
                text: text.into(),
                len: len.into(),
            }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
