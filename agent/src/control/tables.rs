//! From the configuration to the first tables.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_kernel::mac;
use ringway_kernel::next_hop::Endpoints;
use ringway_kernel::node;
use ringway_packet::mac::MacAddr;
use ringway_tables::{NodeInfo, Path, Peer, PeerId, PeerPaths, Port, PortId, PortKind, Snapshot};

use crate::config::{self, Checksum, Config, gateway};
use crate::underlay::Underlay;

/// Default TTL of outer packets (`IPDEFTTL`, linux/ip.h).
const OUTER_TTL: u8 = 64;

/// The tables of a node with its peers and no pods.
pub(super) fn first(config: &Config, underlay: &Underlay) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot::new(node_info(config, underlay))?;
    snapshot.add_port(PortId::NODE, node_port(config, underlay))?;
    for peer in &config.peers {
        let paths = PeerPaths {
            v4: path(config, underlay, peer, false)?,
            v6: path(config, underlay, peer, true)?,
        };
        let entry = Peer {
            name: peer.name.as_str().into(),
            addresses: peer.addresses.as_slice().into(),
            cidrs: peer.pod_cidrs.as_slice().into(),
        };
        snapshot.add_peer(entry, paths)?;
    }
    Ok(snapshot)
}

fn node_info(config: &Config, underlay: &Underlay) -> NodeInfo {
    let (gateway4, gateway6) = gateways(config);
    NodeInfo {
        name: config.node.name.as_str().into(),
        cidrs: config.node.pod_cidrs.as_slice().into(),
        addresses: underlay.addresses().into(),
        gateway_mac: mac::GATEWAY,
        vtep_mac: config.node.vtep_mac,
        vtep_mac6: config.node.vtep_mac_v6,
        gateway4,
        gateway6,
        gateway_link_local: gateway6.map(|_| node::NEXT_HOP_V6.into()),
        vni: config.underlay.vni,
    }
}

fn node_port(config: &Config, underlay: &Underlay) -> Port {
    let (ip4, ip6) = gateways(config);
    Port {
        kind: PortKind::Node,
        mac: mac::GATEWAY,
        ip4,
        ip6,
        mtu: underlay.pod_mtu(config),
        name: Arc::from(config.node.interface.as_str()),
    }
}

fn gateways(config: &Config) -> (Option<u32>, Option<u128>) {
    let v4 = config.pod_cidr(false).map(gateway);
    let v6 = config.pod_cidr(true).map(gateway);
    (v4.and_then(as_v4), v6.and_then(as_v6))
}

/// The address as a number, if it is IPv4.
pub(super) fn as_v4(ip: IpAddr) -> Option<u32> {
    match ip {
        IpAddr::V4(a) => Some(a.into()),
        IpAddr::V6(_) => None,
    }
}

/// The address as a number, if it is IPv6.
pub(super) fn as_v6(ip: IpAddr) -> Option<u128> {
    match ip {
        IpAddr::V6(a) => Some(a.into()),
        IpAddr::V4(_) => None,
    }
}

/// The path for a peer's pods of a family; none when it has no such pods.
fn path(
    config: &Config,
    underlay: &Underlay,
    peer: &config::Peer,
    pods_v6: bool,
) -> anyhow::Result<Option<Path>> {
    if !peer.pod_cidrs.iter().any(|c| c.is_ipv6() == pods_v6) {
        return Ok(None);
    }
    let Some(Endpoints { src, dst }) = underlay.way(peer, pods_v6) else {
        return Ok(None);
    };
    let outer_v6 = dst.is_ipv6();
    let encap = config.encap(peer.encap);
    let dst_port = config.port(peer.encap);
    let dont_fragment = config.underlay.dont_fragment;
    let zero = !outer_v6 && config.underlay.udp_checksum != Checksum::On && dont_fragment;
    let outer = OuterHeader::new(&OuterSpec {
        // Sockets leave Ethernet to the kernel; a port that carries whole
        // frames fills these in when it knows its next hop.
        src_mac: MacAddr::default(),
        dst_mac: MacAddr::default(),
        src,
        dst,
        encap,
        transport: TransportSpec::Udp {
            dst_port,
            checksum: if zero {
                UdpChecksum::Zero
            } else {
                UdpChecksum::Full
            },
        },
        ttl: OUTER_TTL,
        dont_fragment,
    })?;
    let (src_mac, dst_mac) = if pods_v6 {
        (config.node.vtep_mac_v6, peer.vtep_mac_v6)
    } else {
        (config.node.vtep_mac, peer.vtep_mac)
    };
    Ok(Some(Path {
        peer: PeerId::default(),
        encap,
        src,
        dst,
        src_mac,
        dst_mac,
        mtu: Underlay::inner_mtu(config, underlay.mtu, peer.encap, outer_v6),
        outer,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::addr::{from_ip, mapped};
    use ringway_tables::{PathId, Target};

    const TEXT: &str = include_str!("../../ringway.toml");

    fn snapshot(extra: &str) -> Snapshot {
        let text = TEXT.replace("encap = \"vxlan\"", &format!("encap = \"vxlan\"\n{extra}"));
        let config = Config::parse(std::path::Path::new("t"), &text).unwrap();
        let underlay = Underlay {
            interface: "eth0".into(),
            mtu: 1500,
            v4: Some("192.168.77.1".parse().unwrap()),
            v6: Some("fd00:77::1".parse().unwrap()),
            choices: Vec::new(),
            veth: false,
        };
        first(&config, &underlay).unwrap()
    }

    fn target(s: &Snapshot, ip: &str) -> Option<Target> {
        s.route(from_ip(ip.parse().unwrap()))
    }

    #[test]
    fn every_route_of_the_sample() {
        let s = snapshot("");
        assert_eq!(target(&s, "10.77.1.1"), Some(Target::Port(PortId::NODE)));
        assert_eq!(target(&s, "10.77.1.0"), Some(Target::Port(PortId::NODE)));
        assert_eq!(target(&s, "fd77:1::1"), Some(Target::Port(PortId::NODE)));
        assert_eq!(target(&s, "10.77.1.2"), Some(Target::Unreachable));
        assert_eq!(target(&s, "10.77.2.9"), Some(Target::Path(PathId(0))));
        assert_eq!(target(&s, "fd77:2::9"), Some(Target::Path(PathId(1))));
        assert_eq!(target(&s, "8.8.8.8"), None);
        let peer = s.sources.get(mapped(0xc0a8_4d02));
        assert_eq!(peer, Some(PeerId(0)));
    }

    #[test]
    fn paths_have_their_own_mtu_addresses_and_macs() {
        let s = snapshot("");
        let v4 = s.path(PathId(0)).unwrap();
        let v6 = s.path(PathId(1)).unwrap();
        assert_eq!((v4.mtu, v6.mtu), (1450, 1430));
        assert!(v4.dst.is_ipv4() && v6.dst.is_ipv6());
        assert_eq!(v4.src_mac.to_string(), "0a:58:0a:4d:01:00");
        assert_eq!(v4.dst_mac.to_string(), "0a:58:0a:4d:02:00");
        for path in [v4, v6] {
            let TransportSpec::Udp { dst_port, .. } = path.outer.transport();
            assert_eq!(dst_port, 8472);
        }
        assert_eq!(s.port(PortId::NODE).unwrap().mtu, 1430);
    }

    #[test]
    fn one_underlay_family_can_carry_both() {
        let s = snapshot("family = \"ipv4\"");
        // `examine` leaves v6 out then; here both are given, so only the choice counts.
        assert!(s.path(PathId(0)).unwrap().dst.is_ipv4());
    }
}
