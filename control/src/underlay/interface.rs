//! Which interface is the underlay's, where the configuration leaves that to the machine.
//!
//! The address in `NODE_IP`, which a pod of the node has by the downward API (`status.hostIP`), is the one by
//! which the cluster knows the node; its interface leads to the others. Else it is that of the default route,
//! as Flannel does. Where the default route leads out by another interface than the one between the nodes, and
//! nobody says `NODE_IP`, the interface has to be named.

use std::net::IpAddr;

use ringway_config::{AUTO, Config, ConfigError, NODE_IP, Problem};
use ringway_kernel::netlink::{Netlink, NetlinkError, RouteTo};

use super::source::OUTSIDE;

/// The name of the underlay interface. That it exists is known only where the machine decided.
///
/// # Errors
/// The machine does not know one, or does not answer.
pub fn interface(config: &Config, netlink: &mut Netlink) -> Result<String, ConfigError> {
    let name = &config.underlay.interface;
    if name != AUTO {
        return Ok(name.clone());
    }
    let problem = match automatic(std::env::var(NODE_IP).ok().as_deref(), netlink) {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(why)) => Problem::NoInterface { why },
        Err(e) => Problem::Examine {
            interface: name.clone(),
            why: e.to_string(),
        },
    };
    Err(ConfigError::at(&config.file, "underlay.interface", problem))
}

/// The interface, or why there is none.
fn automatic(
    node_ip: Option<&str>,
    netlink: &mut Netlink,
) -> Result<Result<String, String>, NetlinkError> {
    let mut lacking = String::new();
    if let Some(text) = node_ip {
        if let Ok(ip) = text.parse::<IpAddr>()
            && let Some(name) = with_address(ip, netlink)?
        {
            return Ok(Ok(name));
        }
        lacking = format!("no interface has the address {text} of {NODE_IP}, and ");
    }
    for outside in OUTSIDE {
        let Ok(outside) = outside.parse() else {
            continue;
        };
        if let RouteTo::Link { interface, .. } = netlink.route_to(outside, None)?
            && let Some(link) = netlink.link_at(interface)?
        {
            return Ok(Ok(link.name));
        }
    }
    Ok(Err(format!("{lacking}there is no default route")))
}

fn with_address(ip: IpAddr, netlink: &mut Netlink) -> Result<Option<String>, NetlinkError> {
    for link in netlink.links()? {
        if netlink.addresses(link.index)?.iter().any(|a| a.ip == ip) {
            return Ok(Some(link.name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_kernel::testing::{in_netns, ip};
    use ringway_ports::tap::{self, TapOptions};

    #[test]
    fn the_nodes_address_decides_and_else_the_default_route() {
        in_netns(|| {
            let _nics = ["eth0", "eth1"].map(|name| {
                let nic = tap::create_persistent(name, &TapOptions::default()).unwrap();
                ip(&format!("link set {name} up"));
                nic
            });
            let mut netlink = Netlink::open().unwrap();
            let mut ask = |node_ip| automatic(node_ip, &mut netlink).unwrap();
            let none = ask(None).unwrap_err();
            assert_eq!(none, "there is no default route");
            ip("addr add 10.0.2.15/24 dev eth0");
            ip("addr add 192.168.77.1/24 dev eth1");
            ip("addr add fd00:77::1/64 dev eth1 nodad");
            ip("-6 route add default via fd00:77::9 dev eth1");
            assert_eq!(ask(None).unwrap(), "eth1", "by IPv6, where IPv4 has none");
            ip("route add default via 10.0.2.2 dev eth0");
            assert_eq!(ask(None).unwrap(), "eth0");
            assert_eq!(ask(Some("192.168.77.1")).unwrap(), "eth1");
            assert_eq!(ask(Some("fd00:77::1")).unwrap(), "eth1");
            // One that a load balancer outside has for the node.
            assert_eq!(ask(Some("203.0.113.9")).unwrap(), "eth0");
            ip("route del default");
            ip("-6 route del default");
            let none = ask(Some("203.0.113.9")).unwrap_err();
            assert!(none.contains("203.0.113.9 of NODE_IP"), "{none}");
            assert!(ask(Some("no address")).is_err());
        });
    }
}
