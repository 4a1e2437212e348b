//! Tables derived from a capture, so that every frame of it is forwarded.
//!
//! - `forward`, `encap`: every source (MAC and addresses) becomes a local pod, its frames come in by
//!   that pod's port. `forward`: every destination MAC becomes a local pod, too. `encap`: the
//!   destination MAC is the gateway's, destination networks (/24, /64) are routes to one peer.
//! - `decap`: the outer sources are addresses of one peer, the networks of the inner sources its
//!   CIDRs, the inner destination MAC is our VTEP's, the inner destinations are local pods.
//!
//! Where a capture gives one MAC to several addresses, which no pod network does, the further ones
//! get MACs of their own and their frames are changed accordingly. Then the tables are filled up to
//! the sizes asked with pods, peers and routes of the frames' family that no frame uses.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_packet::addr::{from_ip, mapped, to_ip, unmap};
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::{L3, parse};
use ringway_ports::memory::ReplayFrame;
use ringway_tables::{
    Cidr, NodeInfo, Path, Peer, PeerId, PeerPaths, Port, PortId, PortKind, Snapshot,
};

use super::Scenario;
use super::capture::{VXLAN_PORT, underlay};
use crate::lab::Family;

const UDP_PORT: u16 = 8285;
/// First address given to pods that only fill the tables: 172.16/12.
const FILLER_PODS: u32 = 0xac10_0000;
/// The same of IPv6: fdac::/64.
const FILLER_PODS6: u128 = 0xfdac << 112;
/// First route that only fills the tables: /24s from 100.64/10 on, upwards, or /64s of fd64::/16.
const FILLER_ROUTES: u32 = 0x6440_0000;
const FILLER_ROUTES6: u128 = 0xfd64 << 112;
/// First underlay address of filler peers: 198.18/15.
const FILLER_PEERS: u32 = 0xc612_0000;

/// What the tables are for, and how large they are to be at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) scenario: Scenario,
    pub(crate) routes: usize,
    pub(crate) peers: usize,
    pub(crate) pods: usize,
    /// Underlay of a peer that the frames do not name (encap).
    pub(crate) underlay: Family,
}

/// Frames and the tables that forward them.
pub(crate) struct Plan {
    pub(crate) frames: Vec<ReplayFrame>,
    pub(crate) snapshot: Snapshot,
    pub(crate) vxlan_port: u16,
    pub(crate) udp_port: u16,
}

/// What one frame says about addresses.
struct Ends {
    src_mac: MacAddr,
    dst_mac: MacAddr,
    src: u128,
    dst: u128,
    /// Where the (inner) Ethernet header begins.
    at: usize,
}

impl Ends {
    fn of(frame: &[u8], at: usize) -> anyhow::Result<Ends> {
        let inner = &frame[at..];
        let parsed = parse(inner, inner.len())?;
        let l3 = usize::from(parsed.l3_off);
        let mac = |off: usize| MacAddr(inner[off..off + 6].try_into().expect("six bytes"));
        let v4 = |off: usize| {
            mapped(u32::from_be_bytes(
                inner[l3 + off..l3 + off + 4]
                    .try_into()
                    .expect("four bytes"),
            ))
        };
        let v6 = |off: usize| {
            u128::from_be_bytes(
                inner[l3 + off..l3 + off + 16]
                    .try_into()
                    .expect("sixteen bytes"),
            )
        };
        let (src, dst) = match parsed.l3 {
            L3::Ipv4 => (v4(12), v4(16)),
            L3::Ipv6 => (v6(8), v6(24)),
            _ => bail!("neither IPv4 nor IPv6"),
        };
        Ok(Ends {
            src_mac: mac(6),
            dst_mac: mac(0),
            src,
            dst,
            at,
        })
    }
}

/// Pods made so far.
#[derive(Default)]
struct Pods {
    by_address: HashMap<u128, u32>,
    by_mac: HashMap<MacAddr, u32>,
    ports: Vec<Port>,
}

impl Pods {
    /// The port of the pod with this address; made if need be, with this MAC if it is free.
    fn with_address(&mut self, address: u128, mac: Option<MacAddr>) -> u32 {
        if let Some(port) = self.by_address.get(&address) {
            return *port;
        }
        let v4 = unmap(address);
        // The pod with this MAC may still lack an address of this family.
        let open = mac
            .and_then(|mac| self.by_mac.get(&mac))
            .copied()
            .filter(|port| {
                let pod = &self.ports[*port as usize - 1];
                if v4.is_some() {
                    pod.ip4.is_none()
                } else {
                    pod.ip6.is_none()
                }
            });
        let port =
            open.unwrap_or_else(|| self.add(mac.filter(|mac| !self.by_mac.contains_key(mac))));
        let pod = &mut self.ports[port as usize - 1];
        match v4 {
            Some(v4) => pod.ip4 = Some(v4),
            None => pod.ip6 = Some(address),
        }
        self.by_address.insert(address, port);
        port
    }

    fn with_mac(&mut self, mac: MacAddr) -> u32 {
        self.by_mac
            .get(&mac)
            .copied()
            .unwrap_or_else(|| self.add(Some(mac)))
    }

    fn add(&mut self, mac: Option<MacAddr>) -> u32 {
        let number = self.ports.len() as u32 + 1;
        let mac = mac.unwrap_or_else(|| {
            let [a, b, c, d] = number.to_be_bytes();
            MacAddr([0x0a, 0x59, a, b, c, d])
        });
        self.by_mac.insert(mac, number);
        let name: Arc<str> = format!("pod{number}").into();
        self.ports.push(Port {
            kind: PortKind::Pod,
            mac,
            ip4: None,
            ip6: None,
            mtu: 1500,
            name,
        });
        number
    }

    fn mac(&self, port: u32) -> MacAddr {
        self.ports[port as usize - 1].mac
    }
}

impl Plan {
    pub(crate) fn of(args: &Tables, mut frames: Vec<Vec<u8>>) -> anyhow::Result<Plan> {
        let mut pods = Pods::default();
        let mut node = NodeInfo {
            name: "perf".into(),
            gateway_mac: MacAddr([2, 0x52, 0x57, 0, 0, 1]),
            vtep_mac: MacAddr([0x0a, 0x58, 0, 0, 0, 1]),
            vtep_mac6: MacAddr([0x0a, 0x58, 0, 0, 0, 1]),
            vni: 1,
            ..NodeInfo::default()
        };
        let mut remote: BTreeSet<u128> = BTreeSet::new();
        let mut peer_addresses: BTreeSet<u128> = BTreeSet::new();
        let (mut vxlan_port, mut udp_port, mut encap) =
            (VXLAN_PORT, UDP_PORT, Encap::Vxlan { vni: 1 });
        let mut ports = Vec::with_capacity(frames.len());
        let mut v6 = false;
        let mut common_mac = None;
        for (i, frame) in frames.iter_mut().enumerate() {
            let number = i + 1;
            let mut at = 0;
            if args.scenario.is_decap() {
                let outer = pop_outer(frame, frame.len())
                    .with_context(|| format!("frame {number}: outer headers"))?;
                peer_addresses.insert(outer.src);
                let payload = &frame[outer.payload_off..];
                if outer.dst_port == UDP_PORT {
                    bail!("frame {number}: decap of UDP encapsulation is not measured, only VXLAN");
                }
                vxlan_port = outer.dst_port;
                node.vni = ringway_encap::vxlan::read(payload)
                    .with_context(|| format!("frame {number}"))?;
                encap = Encap::Vxlan { vni: node.vni };
                at = outer.payload_off + ringway_encap::vxlan::HEADER_LEN;
            }
            let ends = Ends::of(frame, at).with_context(|| format!("frame {number}"))?;
            v6 |= unmap(ends.src).is_none();
            let port = match args.scenario {
                Scenario::Decap | Scenario::DecapCoalesced => {
                    remote.insert(network(ends.src));
                    pods.with_address(ends.dst, None);
                    0
                }
                Scenario::Forward | Scenario::Encap => {
                    let port = pods.with_address(ends.src, Some(ends.src_mac));
                    let mac = pods.mac(port);
                    frame[ends.at + 6..ends.at + 12].copy_from_slice(&mac.0);
                    port
                }
            };
            match args.scenario {
                Scenario::Forward => {
                    ensure!(
                        !ends.dst_mac.is_multicast(),
                        "frame {number}: forward needs unicast frames"
                    );
                    pods.with_mac(ends.dst_mac);
                }
                Scenario::Encap | Scenario::Decap | Scenario::DecapCoalesced => {
                    // One gateway, one VTEP: that of the first frame.
                    let mac = *common_mac.get_or_insert(ends.dst_mac);
                    frame[ends.at..ends.at + 6].copy_from_slice(&mac.0);
                    if args.scenario == Scenario::Encap {
                        remote.insert(network(ends.dst));
                    }
                }
            }
            ports.push(port);
        }
        match (args.scenario, common_mac) {
            (Scenario::Encap, Some(mac)) => node.gateway_mac = mac,
            (Scenario::Decap | Scenario::DecapCoalesced, Some(mac)) => {
                (node.vtep_mac, node.vtep_mac6) = (mac, mac)
            }
            _ => {}
        }
        if peer_addresses.is_empty() {
            peer_addresses.insert(from_ip(underlay(args.underlay).1));
        }
        while pods.ports.len() < args.pods {
            let number = pods.ports.len() as u32;
            let port = pods.with_address(mapped(FILLER_PODS + number), None);
            let address = FILLER_PODS6 + u128::from(number);
            pods.by_address.insert(address, port);
            pods.ports[port as usize - 1].ip6 = Some(address);
        }
        udp_port = if udp_port == vxlan_port { 0 } else { udp_port };
        let snapshot = tables(
            args,
            node,
            &pods,
            (&remote, v6),
            &peer_addresses,
            encap,
            vxlan_port,
        )?;
        let frames = frames
            .into_iter()
            .zip(ports)
            .map(|(bytes, port)| ReplayFrame::plain(bytes, port))
            .collect();
        Ok(Plan {
            frames,
            snapshot,
            vxlan_port,
            udp_port,
        })
    }
}

/// The /24 or /64 an address is in.
fn network(address: u128) -> u128 {
    match unmap(address) {
        Some(v4) => mapped(v4 & !0xff),
        None => address & !u128::from(u64::MAX),
    }
}

fn cidr(network: u128) -> anyhow::Result<Cidr> {
    let text = match to_ip(network) {
        IpAddr::V4(v4) => format!("{v4}/24"),
        IpAddr::V6(v6) => format!("{v6}/64"),
    };
    Ok(text.parse()?)
}

fn tables(
    args: &Tables,
    node: NodeInfo,
    pods: &Pods,
    // With whether routes that only fill are IPv6.
    (remote, v6): (&BTreeSet<u128>, bool),
    peer_addresses: &BTreeSet<u128>,
    encap: Encap,
    dst_port: u16,
) -> anyhow::Result<Snapshot> {
    let vtep = node.vtep_mac;
    let mut snapshot = Snapshot::new(node)?;
    for (i, pod) in pods.ports.iter().enumerate() {
        snapshot.add_port(PortId(i as u32 + 1), pod.clone())?;
    }
    let path = |to: IpAddr| way(to, encap, dst_port, vtep);
    let paths = |to: IpAddr| -> anyhow::Result<PeerPaths> {
        Ok(PeerPaths {
            v4: Some(path(to)?),
            v6: Some(path(to)?),
        })
    };
    let networks = remote
        .iter()
        .map(|n| cidr(*n))
        .collect::<Result<Vec<_>, _>>()?;
    let peer_address = to_ip(*peer_addresses.first().context("no underlay address")?);
    let routes = networks.len();
    let peer = Peer {
        name: "peer".into(),
        addresses: peer_addresses.iter().map(|a| to_ip(*a)).collect(),
        cidrs: networks.into(),
    };
    snapshot.add_peer(peer, paths(peer_address)?)?;
    // Fillers: peers with an equal share of the routes asked for, at least one each.
    let fillers = args
        .peers
        .saturating_sub(1)
        .max(usize::from(args.routes > routes));
    let wanted = args.routes.saturating_sub(routes).max(fillers);
    let (mut next, step) = match v6 {
        false => (mapped(FILLER_ROUTES), 1 << 8),
        true => (FILLER_ROUTES6, 1 << 64),
    };
    for i in 0..fillers {
        let share = wanted / fillers + usize::from(i < wanted % fillers);
        let mut cidrs = Vec::with_capacity(share);
        while cidrs.len() < share {
            if !remote.contains(&next) {
                cidrs.push(cidr(next)?);
            }
            next += step;
        }
        let address = IpAddr::V4(Ipv4Addr::from(FILLER_PEERS + i as u32));
        let peer = Peer {
            name: format!("filler{i}").into(),
            addresses: Arc::from([address]),
            cidrs: cidrs.into(),
        };
        snapshot.add_peer(peer, paths(address)?)?;
    }
    Ok(snapshot)
}

fn way(to: IpAddr, encap: Encap, dst_port: u16, vtep: MacAddr) -> anyhow::Result<Path> {
    let src = underlay(match to {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    })
    .0;
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x99, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0x99, 2]),
        src,
        dst: to,
        encap,
        transport: TransportSpec::Udp {
            dst_port,
            checksum: if to.is_ipv4() {
                UdpChecksum::Zero
            } else {
                UdpChecksum::Full
            },
        },
        ttl: 64,
        dont_fragment: true,
    };
    Ok(Path {
        peer: PeerId(0),
        encap,
        src,
        dst: to,
        src_mac: vtep,
        dst_mac: MacAddr([0x0a, 0x58, 0, 0, 0, 2]),
        mtu: 9000,
        outer: OuterHeader::new(&spec)?,
    })
}
