//! Ports of the node that lead to pods, and who has which.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ringway_cni::api::PortMapping;

/// Protocol of a host port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of the node that leads to a pod, in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Address of the node; `None`: all.
    pub host_ip: Option<IpAddr>,
    /// Port of the node.
    pub host_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// The pod.
    pub pod_ip: IpAddr,
    /// Its port.
    pub pod_port: u16,
}

/// Why a host port cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Somebody has it.
    #[error("host port {port}/{protocol} already leads to pod {owner}")]
    Taken {
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// Who has it.
        owner: String,
    },
    /// A value makes no sense.
    #[error("host port {port}: {what} {value:?} is not understood")]
    Value {
        /// The port.
        port: u16,
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The pod has no address of the family.
    #[error("host port {port}: the pod has no address of the family of {host_ip}")]
    Family {
        /// The port.
        port: u16,
        /// The address asked for.
        host_ip: IpAddr,
    },
}

impl HostPort {
    /// What a runtime's mapping means for a pod with these addresses: one for each family, or that of
    /// `hostIP`. An unspecified `hostIP` is all addresses of its family.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn of(mapping: &PortMapping, ips: &[IpAddr]) -> Result<Vec<Self>, PortError> {
        let port = mapping.host_port;
        let bad = |what, value: &dyn fmt::Display| PortError::Value {
            port,
            what,
            value: value.to_string(),
        };
        let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(bad("protocol", &mapping.protocol)),
        };
        for (what, value) in [
            ("hostPort", port),
            ("containerPort", mapping.container_port),
        ] {
            if value == 0 {
                return Err(bad(what, &value));
            }
        }
        let host_ip: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| bad("hostIP", &text))?),
        };
        let fits = |ip: &&IpAddr| host_ip.is_none_or(|host| host.is_ipv6() == ip.is_ipv6());
        let all: Vec<Self> = ips
            .iter()
            .filter(fits)
            .map(|ip| Self {
                host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: port,
                protocol,
                pod_ip: *ip,
                pod_port: mapping.container_port,
            })
            .collect();
        match (all.is_empty(), host_ip) {
            (true, Some(host_ip)) => Err(PortError::Family { port, host_ip }),
            _ => Ok(all),
        }
    }

    /// Whether a packet could be meant by both.
    fn collides(&self, other: &Self) -> bool {
        let either = |a: Option<IpAddr>, b: Option<IpAddr>| a.is_none() || b.is_none() || a == b;
        (self.host_port, self.protocol) == (other.host_port, other.protocol)
            && self.pod_ip.is_ipv6() == other.pod_ip.is_ipv6()
            && either(self.host_ip, other.host_ip)
    }
}

/// The host ports of all pods.
#[derive(Clone, Debug, Default)]
pub struct HostPorts {
    owners: BTreeMap<String, Vec<HostPort>>,
}

impl HostPorts {
    /// Notes that a pod has these, in place of those it had.
    ///
    /// # Errors
    /// Another pod has one, or it is asked for twice; nothing is noted then.
    pub fn claim(&mut self, owner: &str, ports: Vec<HostPort>) -> Result<(), PortError> {
        let others = self.owners.iter().filter(|(name, _)| *name != owner);
        let taken = |port: &HostPort, owner: &str| PortError::Taken {
            port: port.host_port,
            protocol: port.protocol,
            owner: owner.to_owned(),
        };
        for (name, theirs) in others {
            if let Some(port) = ports.iter().find(|p| theirs.iter().any(|t| t.collides(p))) {
                return Err(taken(port, name));
            }
        }
        for (i, port) in ports.iter().enumerate() {
            if ports[..i].iter().any(|earlier| earlier.collides(port)) {
                return Err(taken(port, owner));
            }
        }
        if ports.is_empty() {
            self.owners.remove(owner);
        } else {
            self.owners.insert(owner.to_owned(), ports);
        }
        Ok(())
    }

    /// A pod's.
    pub fn of(&self, owner: &str) -> Vec<HostPort> {
        self.owners.get(owner).cloned().unwrap_or_default()
    }

    /// A pod's, which it has no longer.
    pub fn release(&mut self, owner: &str) -> Vec<HostPort> {
        self.owners.remove(owner).unwrap_or_default()
    }

    /// All, sorted.
    pub fn all(&self) -> Vec<HostPort> {
        let mut all: Vec<HostPort> = self.owners.values().flatten().cloned().collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_port: u16, protocol: &str, host_ip: &str) -> PortMapping {
        PortMapping {
            host_port,
            container_port: 80,
            protocol: protocol.into(),
            host_ip: host_ip.into(),
        }
    }

    fn ips() -> [IpAddr; 2] {
        ["10.77.1.2", "fd77:1::2"].map(|ip| ip.parse().unwrap())
    }

    #[test]
    fn a_mapping_is_one_of_each_family() {
        let of = |host_ip: &str| {
            let all = HostPort::of(&mapping(8080, "TCP", host_ip), &ips()).unwrap();
            let what = |p: &HostPort| (p.pod_ip.to_string(), p.host_ip.map(|ip| ip.to_string()));
            all.iter().map(what).collect::<Vec<_>>()
        };
        let (v4, v6) = ("10.77.1.2".to_owned(), "fd77:1::2".to_owned());
        assert_eq!(of(""), [(v4.clone(), None), (v6.clone(), None)]);
        assert_eq!(of("0.0.0.0"), [(v4.clone(), None)]);
        assert_eq!(of("::"), [(v6, None)]);
        assert_eq!(of("192.0.2.1"), [(v4, Some("192.0.2.1".into()))]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (mapping, words) in [
            (mapping(8080, "icmp", ""), "protocol \"icmp\""),
            (mapping(8080, "tcp", "x"), "hostIP \"x\""),
            (mapping(0, "tcp", ""), "hostPort \"0\""),
        ] {
            let error = HostPort::of(&mapping, &ips()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = HostPort::of(&mapping(1, "tcp", "::1"), &ips()[..1]).unwrap_err();
        assert!(matches!(error, PortError::Family { .. }), "{error}");
    }

    #[test]
    fn one_port_leads_to_one_pod() {
        let ports = |port, protocol, host_ip| {
            HostPort::of(&mapping(port, protocol, host_ip), &ips()).unwrap()
        };
        let mut all = HostPorts::default();
        all.claim("a", ports(80, "tcp", "")).unwrap();
        let taken = all.claim("b", ports(80, "tcp", "192.0.2.1")).unwrap_err();
        assert_eq!(taken.to_string(), "host port 80/tcp already leads to pod a");
        all.claim("b", ports(80, "udp", "192.0.2.1")).unwrap();
        all.claim("c", ports(80, "udp", "192.0.2.2")).unwrap();
        all.claim("d", ports(80, "udp", "::")).unwrap();
        assert!(all.claim("e", ports(80, "udp", "0.0.0.0")).is_err());
        assert_eq!(all.all().len(), 5);
        // Again for the same pod.
        all.claim("a", ports(80, "tcp", "")).unwrap();
        assert_eq!(all.release("a").len(), 2);
        all.claim("e", ports(80, "tcp", "")).unwrap();
        let twice = [ports(90, "tcp", ""), ports(90, "tcp", "192.0.2.1")].concat();
        assert!(all.claim("f", twice).is_err());
    }
}
