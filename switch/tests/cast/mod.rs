//! The cast: one node with two pods, a peer with one, and a stranger.
//!
//! ```text
//!   alice 10.77.1.2 fd77:1::2 ─┐                        ┌─ carol 10.77.2.2 fd77:2::2
//!                        port 1│                        │
//!   bob   10.77.1.3 fd77:1::3 ─┤ node1 ═══ underlay ═══ node2
//!                        port 2│ 192.168.77.1           192.168.77.2
//!   node's stack        port 0 ┘ fd00:77::1             fd00:77::2
//! ```
#![allow(dead_code, unreachable_pub, clippy::wrong_self_convention)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::mac::MacAddr;
use ringway_switch::trace::{Off, Recorder, Sink};
use ringway_switch::{
    Arrivals, Counters, DropReason, IgnoreReason, Message, Options, Out, OuterFrame, Packet,
    Pipeline, UdpPorts, Verdict,
};
use ringway_tables::{NodeInfo, Path, Peer, PeerId, PeerPaths, Port, PortId, PortKind, Snapshot};

pub const GATEWAY: [u8; 6] = [2, 0x52, 0x57, 0, 0, 1];
pub const VTEP1: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 0];
pub const VTEP2: [u8; 6] = [0x0a, 0x58, 10, 77, 2, 0];
pub const ALICE: PortId = PortId(1);
pub const BOB: PortId = PortId(2);
pub const NODE: PortId = PortId(0);
pub const VNI: u32 = 1;
/// Room in front of every frame.
pub const ROOM: usize = 128;

pub fn pod_mac(last: u8) -> [u8; 6] {
    [0x0a, 0x58, 10, 77, 1, last]
}

pub fn alice4() -> [u8; 4] {
    [10, 77, 1, 2]
}
pub fn bob4() -> [u8; 4] {
    [10, 77, 1, 3]
}
pub fn carol4() -> [u8; 4] {
    [10, 77, 2, 2]
}
pub fn v6(node: u16, host: u16) -> [u8; 16] {
    Ipv6Addr::new(0xfd77, node, 0, 0, 0, 0, 0, host).octets()
}

/// A path to node2 over the given underlay family.
pub fn path(encap: Encap, v6: bool, mtu: u16) -> Path {
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        ("fd00:77::1".parse().unwrap(), "fd00:77::2".parse().unwrap())
    } else {
        (
            Ipv4Addr::new(192, 168, 77, 1).into(),
            Ipv4Addr::new(192, 168, 77, 2).into(),
        )
    };
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x77, 1]),
        dst_mac: MacAddr([2, 0, 0, 0, 0x77, 2]),
        src,
        dst,
        encap,
        transport: TransportSpec::usual(
            encap,
            if v6 {
                UdpChecksum::Full
            } else {
                UdpChecksum::Zero
            },
        ),
        ttl: 64,
        dont_fragment: true,
    };
    Path {
        peer: PeerId(0),
        encap,
        src,
        dst,
        src_mac: MacAddr(VTEP1),
        dst_mac: MacAddr(VTEP2),
        mtu,
        outer: OuterHeader::new(&spec).unwrap(),
    }
}

pub fn snapshot(encap: Encap) -> Snapshot {
    let mut s = Snapshot::new(NodeInfo {
        name: "node1".into(),
        cidrs: Arc::from([
            "10.77.1.0/24".parse().unwrap(),
            "fd77:1::/64".parse().unwrap(),
        ]),
        addresses: Arc::from([
            "192.168.77.1".parse().unwrap(),
            "fd00:77::1".parse().unwrap(),
        ]),
        gateway_mac: MacAddr(GATEWAY),
        vtep_mac: MacAddr(VTEP1),
        vtep_mac6: MacAddr(VTEP1),
        gateway4: Some(u32::from(Ipv4Addr::new(10, 77, 1, 1))),
        gateway6: Some(u128::from_be_bytes(v6(1, 1))),
        gateway_link_local: None,
        vni: VNI,
    })
    .unwrap();
    s.add_port(
        NODE,
        Port {
            kind: PortKind::Node,
            mac: MacAddr(GATEWAY),
            ip4: None,
            ip6: None,
            mtu: 1450,
            name: "node".into(),
        },
    )
    .unwrap();
    for (port, name, last) in [(ALICE, "alice", 2), (BOB, "bob", 3)] {
        s.add_port(
            port,
            Port {
                kind: PortKind::Pod,
                mac: MacAddr(pod_mac(last)),
                ip4: Some(u32::from(Ipv4Addr::new(10, 77, 1, last))),
                ip6: Some(u128::from_be_bytes(v6(1, u16::from(last)))),
                mtu: 1450,
                name: name.into(),
            },
        )
        .unwrap();
    }
    s.add_peer(
        Peer {
            name: "node2".into(),
            addresses: Arc::from([
                "192.168.77.2".parse().unwrap(),
                "fd00:77::2".parse().unwrap(),
            ]),
            cidrs: Arc::from([
                "10.77.2.0/24".parse().unwrap(),
                "fd77:2::/64".parse().unwrap(),
            ]),
        },
        PeerPaths {
            v4: Some(path(encap, false, 1450)),
            v6: Some(path(encap, true, 1430)),
        },
    )
    .unwrap();
    s
}

/// A switch under test.
pub struct Stage {
    pub snapshot: Snapshot,
    pub pipeline: Pipeline,
    pub counters: Arc<Counters>,
    pub arrivals: Arrivals<usize>,
    /// Of the link that outer frames and datagrams come by.
    pub options: Options,
    pub now: u64,
}

/// What one frame led to.
pub struct Outcome {
    pub verdict: Verdict,
    /// The frame as the pipeline left it.
    pub frame: Vec<u8>,
    /// Frames of the switch's own.
    pub originated: Vec<(Out, Vec<u8>)>,
    /// Every counter that moved.
    pub delta: BTreeMap<String, u64>,
}

impl Outcome {
    /// States every counter that moved; any other that did fails the test.
    #[track_caller]
    pub fn moved(&self, expected: &[(&str, u64)]) -> &Self {
        let expected: BTreeMap<String, u64> =
            expected.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        assert_eq!(self.delta, expected);
        self
    }
}

impl Stage {
    pub fn new(encap: Encap) -> Stage {
        let counters = Arc::new(Counters::default());
        let pipeline = Pipeline::new(counters.clone(), UdpPorts::default());
        Stage {
            snapshot: snapshot(encap),
            pipeline,
            counters,
            arrivals: Arrivals::new(),
            options: Options {
                unfinished: false,
                udp_superframes: true,
                coalesce: true,
            },
            now: 1_000_000_000,
        }
    }

    pub fn vxlan() -> Stage {
        Stage::new(Encap::Vxlan { vni: VNI })
    }

    pub fn from_port(&mut self, port: PortId, frame: &[u8]) -> Outcome {
        self.run(frame, |s, p| {
            s.pipeline.from_port(&s.snapshot, port, p, s.now, &mut Off)
        })
    }

    /// A whole outer frame, of a port that carries such.
    pub fn from_frame(&mut self, frame: &[u8]) -> Outcome {
        let before = read(&self.counters);
        let mut buffers = vec![[&[0; ROOM][..], frame].concat()];
        let outer = OuterFrame {
            buf: 0,
            start: ROOM as u32,
            len: frame.len() as u32,
        };
        self.pipeline.from_frames(
            &self.snapshot,
            &mut self.arrivals,
            &mut buffers,
            self.options,
            [outer],
        );
        self.only_arrival(&mut buffers, before, &mut Off)
    }

    /// What was recorded of an outer frame.
    pub fn record_frame(&mut self, frame: &[u8]) -> Recorder {
        let mut buffers = vec![[&[0; ROOM][..], frame].concat()];
        let outer = OuterFrame {
            buf: 0,
            start: ROOM as u32,
            len: frame.len() as u32,
        };
        let mut recorder = Recorder::default();
        let (tables, before) = (&self.snapshot, read(&self.counters));
        let arrivals = &mut self.arrivals;
        self.pipeline
            .from_frames(tables, arrivals, &mut buffers, self.options, [outer]);
        self.only_arrival(&mut buffers, before, &mut recorder);
        recorder
    }

    /// The payload of a datagram from `source`, of a socket that carries `encap`.
    pub fn from_datagram(
        &mut self,
        source: &str,
        encap: Encap,
        tos: u8,
        payload: &[u8],
    ) -> Outcome {
        let before = read(&self.counters);
        let mut buffers = vec![[&[0; ROOM][..], payload].concat()];
        let message = Message {
            buf: 0,
            start: ROOM as u32,
            len: payload.len() as u32,
            segment: payload.len() as u32,
            source: ringway_packet::addr::from_ip(source.parse().unwrap()),
            tos,
            encap,
            congested: false,
        };
        self.pipeline.from_datagrams(
            &self.snapshot,
            &mut self.arrivals,
            &mut buffers,
            self.options,
            [message],
        );
        self.only_arrival(&mut buffers, before, &mut Off)
    }

    fn only_arrival(
        &mut self,
        buffers: &mut Vec<Vec<u8>>,
        before: BTreeMap<String, u64>,
        sink: &mut impl Sink,
    ) -> Outcome {
        let Stage {
            pipeline,
            arrivals,
            snapshot,
            now,
            ..
        } = self;
        let mut next = |buffers: &mut _| pipeline.next(snapshot, arrivals, buffers, *now, sink);
        let arrival = next(buffers).expect("a verdict");
        let at = arrival.start as usize;
        let frame = buffers[0][at..at + arrival.linear as usize].to_vec();
        assert!(next(buffers).is_none(), "one verdict");
        assert!(self.arrivals.tail().is_empty());
        self.outcome(arrival.verdict, frame, before)
    }

    /// Runs any entry of the pipeline on a frame and notes everything that came of it.
    pub fn run(
        &mut self,
        frame: &[u8],
        entry: impl FnOnce(&mut Stage, &mut Packet<'_>) -> Verdict,
    ) -> Outcome {
        let before = read(&self.counters);
        let mut buf = vec![0; ROOM + frame.len()];
        buf[ROOM..].copy_from_slice(frame);
        let mut packet = Packet::linear(&mut buf, ROOM, frame.len());
        let verdict = entry(self, &mut packet);
        let frame = packet.head().to_vec();
        self.outcome(verdict, frame, before)
    }

    /// Everything that came of a frame.
    fn outcome(
        &mut self,
        verdict: Verdict,
        frame: Vec<u8>,
        before: BTreeMap<String, u64>,
    ) -> Outcome {
        let originated = self
            .pipeline
            .outbox()
            .frames()
            .map(|(out, f)| (out, f.to_vec()))
            .collect();
        self.pipeline.outbox().clear();
        assert_eq!(
            self.counters.balance(),
            (0, 0),
            "received = sum of verdicts"
        );
        let after = read(&self.counters);
        let delta = after
            .into_iter()
            .map(|(name, n)| {
                let old = before.get(&name).copied().unwrap_or(0);
                (name, n - old)
            })
            .filter(|(_, n)| *n > 0)
            .collect();
        Outcome {
            verdict,
            frame,
            originated,
            delta,
        }
    }

    pub fn record(&mut self, port: PortId, frame: &[u8]) -> Recorder {
        let mut recorder = Recorder::default();
        self.run(frame, |s, p| {
            s.pipeline
                .from_port(&s.snapshot, port, p, s.now, &mut recorder)
        });
        recorder
    }
}

/// Every counter by name; bytes are left out, they follow from the frames.
fn read(c: &Counters) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (name, pair) in [
        ("received", &c.received),
        ("delivered", &c.delivered),
        ("tunnelled", &c.tunnelled),
        ("answered", &c.answered),
        ("ignored", &c.ignored),
        ("dropped", &c.dropped),
        ("originated", &c.originated),
        ("returned", &c.returned),
    ] {
        all.insert(name.to_string(), pair.frames.get());
        // Packets are named only where they differ from frames.
        if pair.packets.get() != pair.frames.get() {
            all.insert(format!("{name} packets"), pair.packets.get());
        }
    }
    for r in DropReason::ALL {
        all.insert(format!("drop {r}"), c.drops[r.index()].get());
        all.insert(format!("lost {r}"), c.lost[r.index()].get());
    }
    for r in IgnoreReason::ALL {
        all.insert(format!("ignore {r}"), c.ignores[r.index()].get());
    }
    all.insert("icmp suppressed".into(), c.icmp_suppressed.get());
    all.insert("copied".into(), c.copied_bytes.get());
    let sides = [
        ("node", c.port(NODE)),
        ("alice", c.port(ALICE)),
        ("bob", c.port(BOB)),
        ("node2", c.peer(PeerId(0))),
    ];
    for (name, side) in sides {
        all.insert(format!("{name} rx"), side.rx.count.frames.get());
        all.insert(format!("{name} tx"), side.tx.count.frames.get());
        all.insert(
            format!("{name} drops"),
            side.drops.iter().map(|d| d.get()).sum(),
        );
    }
    all
}

/// Ethernet, IPv4, UDP with `payload` bytes.
pub fn udp4(
    macs: ([u8; 6], [u8; 6]),
    ends: ([u8; 4], [u8; 4]),
    ttl: u8,
    payload: usize,
) -> Vec<u8> {
    udp4_ports(macs, ends, ttl, (4000, 5000), payload)
}

pub fn udp4_ports(
    (src_mac, dst_mac): ([u8; 6], [u8; 6]),
    (src, dst): ([u8; 4], [u8; 4]),
    ttl: u8,
    (sport, dport): (u16, u16),
    payload: usize,
) -> Vec<u8> {
    let body: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    let mut out = Vec::new();
    PacketBuilder::ethernet2(src_mac, dst_mac)
        .ipv4(src, dst, ttl)
        .udp(sport, dport)
        .write(&mut out, &body)
        .unwrap();
    out
}

/// Ethernet, IPv6, UDP with `payload` bytes.
pub fn udp6(
    macs: ([u8; 6], [u8; 6]),
    ends: ([u8; 16], [u8; 16]),
    hops: u8,
    payload: usize,
) -> Vec<u8> {
    udp6_ports(macs, ends, hops, (4000, 5000), payload)
}

pub fn udp6_ports(
    (src_mac, dst_mac): ([u8; 6], [u8; 6]),
    (src, dst): ([u8; 16], [u8; 16]),
    hops: u8,
    (sport, dport): (u16, u16),
    payload: usize,
) -> Vec<u8> {
    let body: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    let mut out = Vec::new();
    PacketBuilder::ethernet2(src_mac, dst_mac)
        .ipv6(src, dst, hops)
        .udp(sport, dport)
        .write(&mut out, &body)
        .unwrap();
    out
}

/// Ethernet, IPv6, ICMPv6 of any type with a good checksum.
pub fn icmp6(
    (src_mac, dst_mac): ([u8; 6], [u8; 6]),
    (src, dst): ([u8; 16], [u8; 16]),
    hops: u8,
    kind: u8,
    body: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, rest) = body.split_at(4);
    PacketBuilder::ethernet2(src_mac, dst_mac)
        .ipv6(src, dst, hops)
        .icmpv6_raw(kind, 0, first.try_into().unwrap())
        .write(&mut out, rest)
        .unwrap();
    out
}

/// A neighbour solicitation for `target`.
pub fn solicitation(mac: [u8; 6], src: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let mut dst = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    dst[13..].copy_from_slice(&target[13..]);
    let mut body = vec![0; 4];
    body.extend_from_slice(&target);
    if src != [0; 16] {
        body.extend_from_slice(&[1, 1]);
        body.extend_from_slice(&mac);
    }
    icmp6(
        (mac, [0x33, 0x33, 0xff, dst[13], dst[14], dst[15]]),
        (src, dst),
        255,
        135,
        &body,
    )
}

/// An ARP packet.
pub fn arp(operation: u16, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut f = vec![0xff; 6];
    f.extend_from_slice(&mac);
    f.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4]);
    f.extend_from_slice(&operation.to_be_bytes());
    f.extend_from_slice(&mac);
    f.extend_from_slice(&sender);
    f.extend_from_slice(&[0; 6]);
    f.extend_from_slice(&target);
    f
}

/// The outer frame in which node2 sends `inner` over an IPv4 underlay by VXLAN.
pub fn in_vxlan(inner: &[u8]) -> Vec<u8> {
    in_outer([192, 168, 77, 2], 8472, VNI, inner)
}

pub fn in_outer(source: [u8; 4], port: u16, vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut body = vec![8, 0, 0, 0];
    body.extend_from_slice(&(vni << 8).to_be_bytes());
    body.extend_from_slice(inner);
    in_udp(source, port, &body)
}

/// The outer frame with any UDP payload.
pub fn in_udp(source: [u8; 4], port: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0x77, 2], [2, 0, 0, 0, 0x77, 1])
        .ipv4(source, [192, 168, 77, 1], 64)
        .udp(50000, port)
        .write(&mut out, body)
        .unwrap();
    out
}

/// A probe of node2, `len` bytes of IP packet, as it puts it into the tunnel: kind, token, what it says of its size.
pub fn probe(kind: u8, token: u64, says: u16, len: usize) -> Vec<u8> {
    let mut f = [&VTEP1[..], &VTEP2, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    f.extend_from_slice(&((len - 40) as u16).to_be_bytes());
    f.extend_from_slice(&[253, 1]);
    f.extend_from_slice(&[0; 16]);
    f.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
    f.extend_from_slice(b"rwprobe\x01");
    f.extend_from_slice(&[b'r', b'w', b'p', b'1', kind, 0]);
    f.extend_from_slice(&says.to_be_bytes());
    f.extend_from_slice(&token.to_be_bytes());
    f.extend_from_slice(&400_000_000u64.to_be_bytes());
    f.resize(14 + len, 0);
    f
}

/// What carol sends to alice, as node2 puts it into the tunnel.
pub fn carol_to_alice(payload: usize) -> Vec<u8> {
    udp4((VTEP2, VTEP1), (carol4(), alice4()), 63, payload)
}
