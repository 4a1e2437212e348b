//! Values that a request names by text: each becomes what it means, or an error that quotes it.

use std::net::IpAddr;
use std::path::PathBuf;

use ringway_cni::api::Attachment;
use ringway_packet::mac::MacAddr;

use ringway_config::names::interface_name;
use ringway_kernel::mac;
use ringway_kernel::netns::{self, NetnsError};

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No path of a network namespace.
    #[error("{why}")]
    Netns {
        /// The value and what is wrong with it.
        why: String,
    },
    /// No interface name.
    #[error("{value:?} is not an interface name: {why}")]
    Interface {
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No container id.
    #[error("{value:?} is not a container id")]
    Container {
        /// What was given.
        value: String,
    },
    /// No IP address.
    #[error("{value:?} is not an IP address")]
    Address {
        /// What was given.
        value: String,
    },
    /// One is enough.
    #[error("{ip} is a second address of its family")]
    SecondAddress {
        /// The second.
        ip: IpAddr,
    },
    /// The gateway has it.
    #[error("{mac} is the gateway's MAC address")]
    GatewayMac {
        /// What was given.
        mac: MacAddr,
    },
    /// Not the MAC address of one station.
    #[error("{value:?} is not the MAC address of a station")]
    Mac {
        /// What was given.
        value: String,
    },
}

impl From<NetnsError> for ValueError {
    fn from(error: NetnsError) -> Self {
        let why = error.to_string();
        ValueError::Netns { why }
    }
}

impl ValueError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Netns { .. } => {
                "give a name that `ip netns` lists, or a path such as /proc/<pid>/ns/net"
            }
            Self::Interface { .. } => "use a name such as eth0",
            Self::Container { .. } => {
                "letters, digits and _ . - only, beginning with a letter or digit, at most 200"
            }
            Self::Address { .. } => "write an address such as 10.77.1.7 or 10.77.1.7/24",
            Self::SecondAddress { .. } => "ask for one IPv4 and one IPv6 address at most",
            Self::GatewayMac { .. } => "choose another, or leave mac out",
            Self::Mac { .. } => {
                "write six hexadecimal bytes such as 0a:58:0a:4d:01:02, or leave mac out"
            }
        }
    }
}

/// Path of the namespace, and the interface's name.
pub fn interface(netns: &str, ifname: &str) -> Result<(PathBuf, String), ValueError> {
    let path = netns::resolve(netns)?;
    interface_name(ifname).map_err(|why| {
        let value = ifname.to_owned();
        ValueError::Interface { value, why }
    })?;
    Ok((path, ifname.to_owned()))
}

/// The namespace's path; container and interface checked.
pub fn cni_interface(netns: &str, attachment: &Attachment) -> Result<PathBuf, ValueError> {
    let (path, _) = interface(netns, &attachment.ifname)?;
    let id = &attachment.container_id;
    // The specification's pattern: [a-zA-Z0-9][a-zA-Z0-9_.-]*
    let fits = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !fits || !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || id.len() > 200 {
        let value = id.clone();
        return Err(ValueError::Container { value });
    }
    Ok(path)
}

/// Addresses a runtime asks for, one of each family at most; a prefix length is allowed and ignored, as
/// the node's pod network has one.
pub fn ip_addresses(texts: &[String]) -> Result<Vec<IpAddr>, ValueError> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for text in texts {
        let (ip, _) = address_with_length(text)?;
        if ips.iter().any(|other| other.is_ipv6() == ip.is_ipv6()) {
            return Err(ValueError::SecondAddress { ip });
        }
        ips.push(ip);
    }
    Ok(ips)
}

/// `address` or `address/length`.
pub fn address_with_length(text: &str) -> Result<(IpAddr, Option<u8>), ValueError> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u8>())),
        None => (text, None),
    };
    match (address.parse::<IpAddr>(), len.transpose()) {
        (Ok(ip), Ok(len)) if len.unwrap_or(0) <= if ip.is_ipv6() { 128 } else { 32 } => {
            Ok((ip, len))
        }
        _ => {
            let value = text.to_owned();
            Err(ValueError::Address { value })
        }
    }
}

/// The MAC address of a pod.
pub fn mac_address(text: &str) -> Result<MacAddr, ValueError> {
    match text.parse::<MacAddr>() {
        Ok(mac) if mac == mac::GATEWAY => Err(ValueError::GatewayMac { mac }),
        Ok(mac) if mac::is_station(mac) => Ok(mac),
        _ => {
            let value = text.to_owned();
            Err(ValueError::Mac { value })
        }
    }
}
