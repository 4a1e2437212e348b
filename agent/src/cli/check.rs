//! `ringway config check`: the file, and what this machine has of what it names.

use std::net::IpAddr;

use ringway_kernel::netlink::{Netlink, NetlinkError, RouteTo};

use super::{Failure, output, show};
use crate::config::{Config, ConfigError, Problem};
use crate::processors;
use crate::underlay::Underlay;

/// Warnings that are printed; a route that is missing concerns a thousand peers alike.
const PRINTED: usize = 8;

/// Fails with what would keep the agent from starting; warns of what would keep packets from peers.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let mut netlink = Netlink::open().map_err(anyhow::Error::from)?;
    let underlay = Underlay::examine(config, &mut netlink)?;
    processors::check(config)?;
    let warnings = peers(config, &underlay, &mut netlink).map_err(anyhow::Error::from)?;
    for (key, problem) in warnings.iter().take(PRINTED) {
        let warning = ConfigError::at(&config.file, key, problem.clone());
        output::complain(&format!("ringway: warning: {warning}"));
    }
    let verdict = match warnings.len() {
        0 => "correct".to_owned(),
        1 => "usable, with a warning".to_owned(),
        n if n > PRINTED => format!("usable, with {n} warnings ({PRINTED} of them above)"),
        n => format!("usable, with {n} warnings"),
    };
    output::print(&show::sentence(&format!(
        "{}: {verdict}. {} peers; underlay {} with {}; pods have an MTU of {} bytes",
        config.file.display(),
        config.peers.len(),
        underlay.interface,
        show::join(underlay.addresses()),
        underlay.pod_mtu(config)
    )))
}

/// Peers to which packets would go by another interface, or not at all.
fn peers(
    config: &Config,
    underlay: &Underlay,
    netlink: &mut Netlink,
) -> Result<Vec<(String, Problem)>, NetlinkError> {
    let own = netlink.link(&underlay.interface)?.index;
    let mut found = Vec::new();
    for (i, peer) in config.peers.iter().enumerate() {
        let ways = [false, true].map(|v6| underlay.way(peer, v6));
        let mut looked_at: Vec<IpAddr> = Vec::new();
        for way in ways.into_iter().flatten() {
            if looked_at.contains(&way.dst) {
                continue;
            }
            looked_at.push(way.dst);
            let interface = underlay.interface.clone();
            let problem = match netlink.route_to(way.dst, Some(way.src))? {
                RouteTo::Link { interface: by, .. } if by == own => continue,
                RouteTo::Link { interface: by, .. } => Problem::OtherInterface {
                    value: way.dst,
                    by: netlink.link_at(by)?.map_or("another".into(), |l| l.name),
                    interface,
                },
                RouteTo::Nowhere(why) => Problem::NoRoute {
                    value: way.dst,
                    from: way.src,
                    why: why.to_string(),
                },
            };
            let j = peer.addresses.iter().position(|a| *a == way.dst);
            let key = format!("peers[{i}].addresses[{}]", j.unwrap_or(0));
            found.push((key, problem));
        }
    }
    Ok(found)
}
