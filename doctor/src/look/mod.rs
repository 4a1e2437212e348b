//! Looks: at the machine from the network namespace of the node, and into pods. Nothing is changed.
//!
//! Each is bounded: a program that hangs, and a thousand pods, must not keep an operator waiting.

mod firewall;
mod inside;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use ringway_config::Config;
use ringway_control::view::{PeerRow, Status};
use ringway_kernel::netlink::{Netlink, OverlayKind, RouteTo};
use ringway_kernel::rules::{HostPort, Protocol, listener as find_listener};

use crate::{Machine, Other, Way};

pub use inside::{Inside, inside};

/// Addresses of peers whose way is looked up.
const WAYS: usize = 2_000;

/// What is known before the machine is looked at.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    /// By the agent.
    pub status: Option<&'a Status>,
    /// By the agent.
    pub peers: &'a [PeerRow],
    /// The configuration file, where it can be read.
    pub config: Option<&'a Config>,
}

/// Looks at the machine; what cannot be seen goes into `unseen`.
pub fn machine(known: Known<'_>, unseen: &mut Vec<String>) -> Machine {
    let mut machine = Machine {
        ports: ports(known),
        clock_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        ..Machine::default()
    };
    let own = known.status.map(|status| status.pid);
    match Netlink::open() {
        Ok(mut netlink) => {
            underlay(known, &mut netlink, &mut machine);
            ways(known.peers, &mut netlink, &mut machine, unseen);
            overlays(&mut netlink, &mut machine, unseen);
        }
        Err(e) => unseen.push(format!("links and routes: {e}")),
    }
    for port in machine.ports.clone() {
        machine.others.extend(listener(port, own));
    }
    match firewall::blocked(&machine.ports) {
        Ok(blocked) => machine.blocked = blocked,
        Err(why) => unseen.push(format!("the firewall: {why}")),
    }
    if let Some(config) = known.config {
        let dir = &config.node.state_dir;
        machine.state_dir = Some((dir.display().to_string(), free(dir)));
    }
    machine.no_tun = std::fs::File::open("/dev/net/tun")
        .err()
        .map(|e| e.to_string());
    machine
}

/// UDP ports of the tunnels.
fn ports(known: Known<'_>) -> Vec<u16> {
    let mut ports: Vec<u16> = match (known.status, known.config) {
        (Some(status), _) => {
            let sockets = status.underlay.sockets.iter();
            sockets
                .filter_map(|socket| socket.local.rsplit(':').next()?.parse().ok())
                .collect()
        }
        (None, Some(config)) => {
            let (vxlan, udp) = (config.underlay.vxlan_port, config.underlay.udp_port);
            let encaps = config.peers.iter().map(|peer| peer.encap);
            let used = encaps.chain([config.underlay.encap]);
            used.map(|encap| match encap {
                ringway_config::EncapKind::Vxlan => vxlan,
                ringway_config::EncapKind::Udp => udp,
            })
            .collect()
        }
        (None, None) => Vec::new(),
    };
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn underlay(known: Known<'_>, netlink: &mut Netlink, machine: &mut Machine) {
    let name = match (known.status, known.config) {
        (Some(status), _) => status.underlay.interface.clone(),
        (None, Some(config)) if config.underlay.interface != ringway_config::AUTO => {
            config.underlay.interface.clone()
        }
        _ => return,
    };
    machine.underlay_fault = match netlink.link(&name) {
        Err(e) => Some(format!("is not there ({e})")),
        Ok(link) if !link.up => Some("is down".into()),
        Ok(link) if !link.carrier => Some("has no carrier".into()),
        Ok(_) => None,
    };
    machine.underlay = Some(name);
}

fn ways(peers: &[PeerRow], netlink: &mut Netlink, machine: &mut Machine, unseen: &mut Vec<String>) {
    let links = netlink.links().unwrap_or_default();
    let names: BTreeMap<u32, String> = links.into_iter().map(|l| (l.index, l.name)).collect();
    let all = peers.iter().flat_map(|peer| {
        let addresses = peer.addresses.iter();
        addresses.map(|address| (peer.name.clone(), *address))
    });
    for (peer, address) in all.take(WAYS) {
        let by = match netlink.route_to(address, None) {
            Ok(RouteTo::Link { interface, .. }) => Ok(names
                .get(&interface)
                .cloned()
                .unwrap_or_else(|| format!("interface {interface}"))),
            Ok(RouteTo::Nowhere(why)) => Err(why.to_string()),
            Err(e) => {
                unseen.push(format!("the route to {address}: {e}"));
                return;
            }
        };
        machine.ways.push(Way { peer, address, by });
    }
}

/// VXLAN devices of the kernel at a port of ours: it has a socket there that no process owns.
fn overlays(netlink: &mut Netlink, machine: &mut Machine, unseen: &mut Vec<String>) {
    let overlays = match netlink.overlays() {
        Ok(overlays) => overlays,
        Err(e) => return unseen.push(format!("overlays of the kernel: {e}")),
    };
    for overlay in overlays {
        let OverlayKind::Vxlan { vni, port, .. } = overlay.kind else {
            continue;
        };
        if machine.ports.contains(&port) {
            machine.others.push(Other {
                port,
                who: format!(
                    "the VXLAN device {} (VNI {vni}) of the kernel: another overlay, such as Flannel or Cilium",
                    overlay.name
                ),
                command: format!("ip link delete {}    # after whoever made it", overlay.name),
            });
        }
    }
}

/// A process other than the agent that receives at a UDP port.
fn listener(port: u16, agent: Option<u32>) -> Option<Other> {
    let asked = [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
    ]
    .map(|pod_ip| HostPort {
        host_ip: None,
        host_port: port,
        protocol: Protocol::Udp,
        pod_ip,
        pod_port: port,
    });
    let listener = find_listener(&asked)?;
    let pid: Option<u32> = listener
        .who
        .rsplit_once("(pid ")
        .and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok());
    // The kernel's own are its overlays, which are listed by what they are.
    let pid = pid.filter(|pid| Some(*pid) != agent)?;
    Some(Other {
        port,
        who: listener.who,
        command: format!("kill {pid}    # or stop the service it belongs to"),
    })
}

/// Bytes an unprivileged writer finds free, or why nothing can be written.
fn free(dir: &Path) -> Result<u64, String> {
    let stat = statvfs(dir).map_err(|e| e.to_string())?;
    if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
        return Err("its file system is read-only".into());
    }
    if stat.files() > 0 && stat.files_available() == 0 {
        return Err("its file system has no inode left".into());
    }
    Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}
