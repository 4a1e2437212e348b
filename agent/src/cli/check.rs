//! `ringway config check`: the file, and what this machine has of what it names.

use std::net::IpAddr;
use std::path::Path;

use ringway_cluster::Cluster;
use ringway_kernel::netlink::{Netlink, NetlinkError, RouteTo};

use super::client::Client;
use super::{Failure, output, show};
use ringway_config::{Config, ConfigError, Problem};
use ringway_control::processors;
use ringway_control::underlay::Underlay;
use ringway_control::view::Status;
use ringway_control::view::units;

/// Warnings that are printed; a route that is missing concerns a thousand peers alike.
const PRINTED: usize = 8;

/// What would keep the agent from starting with a configuration.
pub(super) fn obstacle(config: &Config) -> Option<Failure> {
    let netlink = Netlink::open().map_err(anyhow::Error::from);
    let examined = netlink.map_err(Failure::from);
    examined
        .and_then(|mut netlink| examine(config, &mut netlink))
        .err()
}

/// Fails with that; the underlay, and what all of the cluster is.
fn examine(config: &Config, netlink: &mut Netlink) -> Result<(Underlay, Cluster), Failure> {
    let (cluster, _) = config.cluster()?;
    let underlay = Underlay::examine(config, cluster.state(), netlink)?;
    processors::check(config)?;
    readable(config)?;
    Ok((underlay, cluster))
}

/// Fails with what would keep the agent from starting; warns of what would keep packets from peers, or take them
/// to another than was meant.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let mut netlink = Netlink::open().map_err(anyhow::Error::from)?;
    let (underlay, cluster) = examine(config, &mut netlink)?;
    let mut warnings = ringway_config::nested(config);
    warnings.extend(peers(config, &underlay, &mut netlink).map_err(anyhow::Error::from)?);
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
        units::join(underlay.addresses()),
        underlay.pod_mtu(config, cluster.state())
    )))
}

/// Of the files that sources need; the agent itself waits for them.
fn readable(config: &Config) -> Result<(), ConfigError> {
    for (key, file) in ringway_config::files(config) {
        if let Err(e) = std::fs::File::open(&file) {
            let (file, why) = (file.display().to_string(), e.to_string());
            let problem = Problem::Unreadable { file, why };
            return Err(ConfigError::at(&config.file, key, problem));
        }
    }
    Ok(())
}

/// Fails where the agent does not run with the file as it is now.
pub(super) fn running(client: &Client, file: &Path) -> Result<(), Failure> {
    let status: Status = client.get("/v1/status")?;
    let mut lines = vec![format!(
        "the agent on {} reads {}",
        status.node, status.config.file
    )];
    if Path::new(&status.config.file) != file {
        lines.push(format!("that is not {}", file.display()));
    }
    lines.extend(
        status
            .config
            .error
            .map(|e| format!("it is not in force: {e}")),
    );
    let waiting = status.config.needs_restart.iter();
    lines.extend(waiting.map(|what| format!("waits for a restart of the agent: {what}")));
    if lines.len() == 1 {
        return output::print(&show::sentence("running: all of the file is in force"));
    }
    Err(anyhow::anyhow!(
        "what runs is not what the file says\n  {}\n  to do: correct the file, or start the agent again",
        lines.join("\n  ")
    )
    .into())
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
        let ways = [false, true].map(|v6| underlay.way_to(&peer.addresses, v6));
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
