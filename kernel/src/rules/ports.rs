//! Ports of the node that lead to pods, and who has which.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

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

/// What is asked for: a port of the node that leads to a port of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// Port of the node.
    pub host_port: u16,
    /// Port of the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`, in any case.
    pub protocol: &'a str,
    /// Address of the node; empty: all.
    pub host_ip: &'a str,
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
    /// No packet to this address can be led to a pod.
    #[error("host port {port}: hostIP {host_ip} cannot lead to a pod: {why}")]
    Unreachable {
        /// The port.
        port: u16,
        /// The address asked for.
        host_ip: IpAddr,
        /// Why not.
        why: &'static str,
    },
    /// A process of the node would lose it.
    #[error(
        "host port {port}/{protocol}: {who} listens on it on this node, and would get nothing more"
    )]
    Listener {
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// Which process.
        who: String,
    },
}

impl HostPort {
    /// What a mapping means for a pod with these addresses: one for each family, or that of
    /// `hostIP`; none if the pod has no address of that family, as the reference plugin has it. An
    /// unspecified `hostIP` is all addresses of its family.
    ///
    /// # Errors
    /// See [`PortError`].
    pub fn of(mapping: Mapping<'_>, ips: &[IpAddr]) -> Result<Vec<Self>, PortError> {
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
        let host_ip: Option<IpAddr> = match mapping.host_ip {
            "" => None,
            text => Some(
                text.parse::<IpAddr>()
                    .map_err(|_| bad("hostIP", &text))?
                    .to_canonical(),
            ),
        };
        if let Some((host_ip, why)) = host_ip.and_then(|ip| Some((ip, unreachable(ip)?))) {
            return Err(PortError::Unreachable { port, host_ip, why });
        }
        let fits = |ip: &&IpAddr| host_ip.is_none_or(|host| host.is_ipv6() == ip.is_ipv6());
        let own = |ip: &IpAddr| Self {
            host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
            host_port: port,
            protocol,
            pod_ip: *ip,
            pod_port: mapping.container_port,
        };
        Ok(ips.iter().filter(fits).map(own).collect())
    }

    /// Whether a packet could be meant by both.
    fn collides(&self, other: &Self) -> bool {
        let either = |a: Option<IpAddr>, b: Option<IpAddr>| a.is_none() || b.is_none() || a == b;
        (self.host_port, self.protocol) == (other.host_port, other.protocol)
            && self.pod_ip.is_ipv6() == other.pod_ip.is_ipv6()
            && either(self.host_ip, other.host_ip)
    }
}

/// Why no packet to an address of the node can be led to a pod.
fn unreachable(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V6(v6) if v6.is_loopback() => {
            Some("Linux routes nothing from ::1 to another interface; 127.0.0.1 works")
        }
        ip if ip.is_multicast() => Some("it is a group's"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("it is everybody's"),
        _ => None,
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

    fn mapping<'a>(host_port: u16, protocol: &'a str, host_ip: &'a str) -> Mapping<'a> {
        Mapping {
            host_port,
            container_port: 80,
            protocol,
            host_ip,
        }
    }

    fn ips() -> [IpAddr; 2] {
        ["10.77.1.2", "fd77:1::2"].map(|ip| ip.parse().unwrap())
    }

    #[test]
    fn a_mapping_is_one_of_each_family() {
        let of = |host_ip: &str| {
            let all = HostPort::of(mapping(8080, "TCP", host_ip), &ips()).unwrap();
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
            let error = HostPort::of(mapping, &ips()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for host_ip in ["::1", "ff02::1", "224.0.0.1", "255.255.255.255"] {
            for some in [&ips()[..], &ips()[..1]] {
                let error = HostPort::of(mapping(1, "tcp", host_ip), some).unwrap_err();
                assert!(error.to_string().contains(host_ip), "{error}");
            }
        }
    }

    #[test]
    fn a_family_the_pod_has_not_asks_for_nothing() {
        for (host_ip, own) in [("fd00::1", 0), ("::", 0), ("192.0.2.1", 1), ("", 1)] {
            let some = HostPort::of(mapping(80, "tcp", host_ip), &ips()[..1]).unwrap();
            assert_eq!(some.len(), own, "{host_ip}");
        }
        let mapped = HostPort::of(mapping(80, "tcp", "::ffff:192.0.2.1"), &ips()).unwrap();
        assert_eq!(mapped[0].host_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(mapped.len(), 1);
    }

    #[test]
    fn one_port_leads_to_one_pod() {
        let ports = |port, protocol, host_ip| {
            HostPort::of(mapping(port, protocol, host_ip), &ips()).unwrap()
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
