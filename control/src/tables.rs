//! From the desired state to the tables: a plan becomes changes of one snapshot.
//!
//! The tables are published once, so only the end of the plan is ever seen, and the order of its steps matters
//! only where the tables would refuse a moment in between.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_cluster::{EncapKind, Node, Peer, Plan, Route, State, Step, Via, gateway};
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_kernel::mac;
use ringway_kernel::next_hop::Endpoints;
use ringway_packet::mac::MacAddr;
use ringway_tables::{
    NodeInfo, Path, PeerId, PeerPaths, Port, PortId, PortKind, RouteChange, Snapshot,
};

use crate::underlay::Underlay;
use ringway_config::{Checksum, Config};

/// Default TTL of outer packets (`IPDEFTTL`, linux/ip.h).
const OUTER_TTL: u8 = 64;

/// What paths are made of beside the desired state.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a Config,
    pub(super) underlay: &'a Underlay,
    /// What is known of the ways to outer addresses.
    pub(super) known: &'a dyn Fn(IpAddr) -> Known,
}

/// What is known of the way to an outer address.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    /// Bytes of the largest outer packet, where the way has a limit of its own.
    pub(super) mtu: Option<u32>,
    /// MAC addresses of the next hop and of our interface towards it.
    pub(super) next_hop: Option<(MacAddr, MacAddr)>,
}

impl Surroundings<'_> {
    /// Brings a plan into the tables. All of it, or on an error a snapshot that is not to be published.
    pub(super) fn apply(
        &self,
        tables: &mut Snapshot,
        plan: &Plan,
        state: &State,
    ) -> anyhow::Result<()> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for step in plan.steps() {
            match step {
                // What comes from a peer to this node: the node's own networks are not taken from peers.
                Step::SetRoute(route) if route.via == Via::Node => {
                    before.push(RouteChange {
                        prefix: route.prefix,
                        peer: None,
                    });
                }
                Step::RemoveRoute(prefix) => after.push(RouteChange {
                    prefix: *prefix,
                    peer: None,
                }),
                _ => {}
            }
        }
        tables.change_routes(&before)?;
        let nodes = |step: &Step| {
            matches!(
                step,
                Step::SetNode(_) | Step::SetPeer(_) | Step::RemovePeer(_)
            )
        };
        if plan.steps().iter().any(nodes) {
            self.set_node(tables, state)?;
        }
        let mut routes = Vec::new();
        let mut gone = Vec::new();
        let is_route = |step: &Step| matches!(step, Step::SetRoute(_) | Step::RemoveRoute(_));
        let first_route = plan.steps().iter().position(is_route);
        for (at, step) in plan.steps().iter().enumerate() {
            match step {
                // What comes behind the routes loses a path that they have needed until then.
                Step::SetPeer(peer) if first_route.is_none_or(|first| at < first) => {
                    self.set_peer(tables, peer)?;
                }
                Step::SetPeer(_) | Step::RemovePeer(_) => gone.push(step),
                Step::SetRoute(Route {
                    prefix,
                    via: Via::Peer(name),
                    ..
                }) => {
                    let peer = tables.peer_named(name);
                    anyhow::ensure!(
                        peer.is_some(),
                        "{prefix} leads to peer {name}, which is not there"
                    );
                    routes.push(RouteChange {
                        prefix: *prefix,
                        peer,
                    });
                }
                _ => {}
            }
        }
        routes.append(&mut after);
        tables.change_routes(&routes)?;
        for step in gone {
            match step {
                Step::SetPeer(peer) => self.set_peer(tables, peer)?,
                Step::RemovePeer(name) => {
                    tables.peer_named(name).map(|id| tables.remove_peer(id));
                }
                _ => {}
            }
        }
        if plan
            .steps()
            .iter()
            .any(|step| matches!(step, Step::SetNode(_)))
        {
            // Our own MAC addresses are in every path.
            self.set_peers(tables, state)?;
        }
        Ok(())
    }

    /// The node and its port, and with them what the pods' MTU is.
    pub(super) fn set_node(&self, tables: &mut Snapshot, state: &State) -> anyhow::Result<()> {
        let info = node_info(self.config, self.underlay, &state.node);
        let port = node_port(self.config, self.underlay, state);
        let same_port = tables.port(PortId::NODE) == Some(&port);
        if !same_port {
            tables.remove_port(PortId::NODE);
        }
        if tables.node != info {
            tables.set_node(info)?;
        }
        if !same_port {
            tables.add_port(PortId::NODE, port)?;
        }
        Ok(())
    }

    /// Every peer once more, at other outer addresses of ours.
    pub(super) fn set_peers(&self, tables: &mut Snapshot, state: &State) -> anyhow::Result<()> {
        for peer in state.peers.values() {
            self.set_peer(tables, peer)?;
        }
        Ok(())
    }

    fn set_peer(&self, tables: &mut Snapshot, peer: &Peer) -> anyhow::Result<()> {
        let own = [tables.node.vtep_mac, tables.node.vtep_mac6];
        let paths = PeerPaths {
            v4: self.path(peer, false, own[0])?,
            v6: self.path(peer, true, own[1])?,
        };
        let known = tables.peer_named(&peer.name);
        let there = known.and_then(|id| tables.peer(id));
        let entry = ringway_tables::Peer {
            name: peer.name.clone(),
            addresses: peer.addresses.clone(),
            cidrs: there.map_or_else(|| [].into(), |peer| peer.cidrs.clone()),
        };
        match known {
            Some(id) => tables.replace_peer(id, entry, paths)?,
            None => {
                tables.add_peer(entry, paths)?;
            }
        }
        Ok(())
    }
}

/// What the node receives by.
pub(super) fn accepted(config: &Config, kinds: impl Iterator<Item = EncapKind>) -> Arc<[Encap]> {
    kinds.map(|kind| config.encap(kind)).collect()
}

fn node_info(config: &Config, underlay: &Underlay, node: &Node) -> NodeInfo {
    let (gateway4, gateway6) = gateways(node);
    NodeInfo {
        name: node.name.clone(),
        cidrs: node.cidrs.clone(),
        addresses: underlay.addresses().into(),
        gateway_mac: mac::GATEWAY,
        vtep_mac: node.vtep_mac,
        vtep_mac6: node.vtep_mac_v6,
        gateway4,
        gateway6,
        gateway_link_local: gateway6.map(|_| ringway_kernel::node::NEXT_HOP_V6.into()),
        vni: config.underlay.vni,
    }
}

fn node_port(config: &Config, underlay: &Underlay, state: &State) -> Port {
    let (ip4, ip6) = gateways(&state.node);
    Port {
        kind: PortKind::Node,
        mac: mac::GATEWAY,
        ip4,
        ip6,
        mtu: underlay.pod_mtu(config, state),
        name: Arc::from(config.node.interface.as_str()),
    }
}

fn gateways(node: &Node) -> (Option<u32>, Option<u128>) {
    let v4 = node.main_cidr(false).map(gateway);
    let v6 = node.main_cidr(true).map(gateway);
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

impl Surroundings<'_> {
    /// The path for a peer's pods of a family, with our inner MAC `src_mac`; none when it has no such pods, or
    /// no outer address that can be reached.
    fn path(&self, peer: &Peer, pods_v6: bool, src_mac: MacAddr) -> anyhow::Result<Option<Path>> {
        let Surroundings {
            config, underlay, ..
        } = *self;
        let Some(spec) = peer.path(pods_v6) else {
            return Ok(None);
        };
        let Some(Endpoints { src, dst }) = underlay.way_to(&peer.addresses, pods_v6) else {
            return Ok(None);
        };
        let outer_v6 = dst.is_ipv6();
        let encap = config.encap(spec.encap);
        let dst_port = config.port(spec.encap);
        let dont_fragment = config.underlay.dont_fragment;
        let zero = !outer_v6 && config.underlay.udp_checksum != Checksum::On && dont_fragment;
        let mut outer = OuterHeader::new(&OuterSpec {
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
        let known = (self.known)(dst);
        if let Some((to, from)) = known.next_hop {
            outer.set_next_hop(to, from);
        }
        let limits = known.mtu.into_iter().chain(spec.mtu);
        let mtu = limits.fold(underlay.mtu, u32::min);
        Ok(Some(Path {
            peer: PeerId::default(),
            encap,
            src,
            dst,
            src_mac,
            dst_mac: spec.vtep_mac,
            mtu: Underlay::inner_mtu(config, mtu, spec.encap, outer_v6),
            outer,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::addr::{from_ip, mapped};
    use ringway_tables::{PathId, Target};

    const TEXT: &str = include_str!("../../config/ringway.toml");

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
        let (cluster, plan) = config.cluster().unwrap();
        let mut tables = Snapshot::default();
        let around = Surroundings {
            config: &config,
            underlay: &underlay,
            known: &|_| Known::default(),
        };
        around.apply(&mut tables, &plan, cluster.state()).unwrap();
        tables
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
