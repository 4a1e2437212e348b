//! Flannel's devices between nodes, found by what they are.

use std::fmt;
use std::time::Instant;

use ringway_kernel::netlink::{Netlink, NetlinkError, Overlay, OverlayKind};
use ringway_kernel::reconcile::Condition;

use super::Record;
use ringway_config::{Config, EncapKind};

/// What Flannel's udp backend calls its device. A TUN has nothing else to know it by.
const TUN: &str = "flannel0";

/// A device that carries the same overlay as this node does or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former(Overlay);

impl fmt::Display for Former {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0.name;
        match self.0.kind {
            OverlayKind::Vxlan { vni, port, .. } => {
                write!(f, "{name} (vxlan, VNI {vni}, port {port})")
            }
            OverlayKind::Tun => write!(f, "{name} (udp)"),
        }
    }
}

/// Those there are in the calling thread's namespace: VXLAN devices with our VNI and at our port, and
/// the udp backend's TUN.
///
/// # Errors
/// Interfaces cannot be listed.
pub fn former(config: &Config, netlink: &mut Netlink) -> Result<Vec<Former>, NetlinkError> {
    let mut all = netlink.overlays()?;
    let own = &config.underlay;
    all.retain(|overlay| match overlay.kind {
        OverlayKind::Vxlan { vni, port, .. } => vni == own.vni && port == own.vxlan_port,
        OverlayKind::Tun => overlay.name == TUN,
    });
    Ok(all.into_iter().map(Former).collect())
}

/// A VXLAN device of Flannel's that carries another network than this node's configuration has. To start beside it
/// would be to have two overlays.
///
/// # Errors
/// Interfaces cannot be listed.
pub fn foreign(config: &Config, netlink: &mut Netlink) -> Result<Option<Former>, NetlinkError> {
    let own = &config.underlay;
    let is_flannels = |name: &str| {
        ["flannel.", "flannel-v6."]
            .iter()
            .any(|p| name.starts_with(p))
    };
    let other = |overlay: &Overlay| match overlay.kind {
        OverlayKind::Vxlan { vni, port, .. } => {
            is_flannels(&overlay.name) && (vni, port) != (own.vni, own.vxlan_port)
        }
        OverlayKind::Tun => false,
    };
    Ok(netlink.overlays()?.into_iter().find(other).map(Former))
}

/// Notes their MAC addresses; true if any is new.
pub(crate) fn note(record: &mut Record, all: &[Former]) -> bool {
    let mut new = false;
    for Former(overlay) in all {
        if let OverlayKind::Vxlan { v6, .. } = overlay.kind
            && let Some(mac) = overlay.mac
        {
            new |= record.note(v6, mac);
        }
    }
    new
}

/// Removes them.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn remove(all: &[Former], netlink: &mut Netlink) -> Result<(), NetlinkError> {
    for one in all {
        if netlink.delete_link(&one.0.name)? {
            tracing::info!(
                "take-over: removed Flannel's {one}; its MAC address is this node's now"
            );
        }
    }
    Ok(())
}

/// One that is there beside a running agent.
pub(super) fn second(config: &Config, all: &[Former], since: Instant) -> Option<Condition> {
    let found: Vec<String> = all.iter().map(ToString::to_string).collect();
    let mine = match config.underlay.encap {
        EncapKind::Vxlan => format!("at port {}", config.underlay.vxlan_port),
        EncapKind::Udp => format!("at port {}", config.underlay.udp_port),
    };
    (!found.is_empty()).then(|| Condition {
        what: "the overlay of this node".into(),
        wanted: format!("Ringway's alone, {mine}"),
        found: found.join(", "),
        why: "Flannel, or something like it, runs on this node again: keep it off by nodeAffinity of its \
              DaemonSet (deploy/beside-flannel), or give the node back: ringway give-back. The device goes when \
              the agent is started again with node.takeover"
            .into(),
        since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_kernel::testing::{in_netns, ip};
    use std::path::Path;

    const TEXT: &str = include_str!("../../../config/ringway.toml");

    #[test]
    fn only_the_same_overlay_is_flannels_and_its_macs_are_kept() {
        in_netns(|| {
            let config = Config::parse(Path::new("t"), TEXT).unwrap();
            let mut netlink = Netlink::open().unwrap();
            assert_eq!(former(&config, &mut netlink).unwrap(), []);
            for line in [
                "link add flannel.1 address 12:c6:65:89:b4:e3 type vxlan id 1 local 192.0.2.1 dstport 8472",
                "link add flannel-v6.1 address 12:c6:65:89:b4:e6 type vxlan id 1 local 2001:db8::1 dstport 8472",
                "link add other type vxlan id 2 local 192.0.2.1 dstport 8472",
                "link add calico type vxlan id 1 local 192.0.2.1 dstport 4789",
                "tuntap add dev flannel0 mode tun",
                "tuntap add dev vpn0 mode tun",
            ] {
                ip(line);
            }
            let all = former(&config, &mut netlink).unwrap();
            let mut names: Vec<String> = all.iter().map(ToString::to_string).collect();
            names.sort();
            let vxlan = |name| format!("{name} (vxlan, VNI 1, port 8472)");
            let expected = [
                vxlan("flannel-v6.1"),
                vxlan("flannel.1"),
                "flannel0 (udp)".into(),
            ];
            assert_eq!(names, expected);
            let mut record = Record::default();
            assert!(note(&mut record, &all));
            assert!(!note(&mut record, &all));
            let mac = |v6| record.mac(v6).unwrap().to_string();
            assert_eq!(
                [mac(false), mac(true)],
                ["12:c6:65:89:b4:e3", "12:c6:65:89:b4:e6"]
            );
            let condition = second(&config, &all, Instant::now()).unwrap();
            assert!(condition.found.contains("flannel.1"), "{condition}");
            remove(&all, &mut netlink).unwrap();
            assert_eq!(former(&config, &mut netlink).unwrap(), []);
            assert_eq!(second(&config, &[], Instant::now()), None);
            assert_eq!(foreign(&config, &mut netlink).unwrap(), None);
            ip("link add flannel.7 type vxlan id 7 local 192.0.2.1 dstport 8472");
            let other = foreign(&config, &mut netlink).unwrap().unwrap();
            assert_eq!(other.to_string(), "flannel.7 (vxlan, VNI 7, port 8472)");
            for stays in ["other", "calico", "vpn0"] {
                netlink.link(stays).unwrap();
            }
        });
    }
}
