//! What a trace predicts is what a worker does: verdict, bytes, offload metadata, outer packets. No root.
//!
//! ```text
//!   random tables, random frame ─┬▶ Tracer ────────────────────────────▶ predicted ─┐
//!                                └▶ worker's visit, memory for TAPs and rings ▶ sent ┴▶ equal
//! ```
//!
//! Frames come from pods, the node and peers, whole and as superframes, good and damaged; peers are reached in VXLAN
//! and UDP. `RINGWAY_AGREEMENT` says how many; 20,000, and with `RINGWAY_LONG` a million.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_encap::{Carries, Encap};
use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::Offload;
use ringway_packet::parse::parse;
use ringway_packet::{checksum, kit};
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_ports::tap::TapCounters;
use ringway_ports::{Batch, Frame, HEADROOM, Pool, Port, TransmitError};
use ringway_switch::{Counters, DropReason, Options, Out, Pipeline, Returns, UdpPorts, Verdict};
use ringway_tables::{NodeInfo, Path, Peer, PeerPaths, Port as Entry, PortId, PortKind, Snapshot};
use ringway_worker::testing::MemoryRing;
use ringway_worker::trace::{Basis, Given, Traced, Tracer};
use ringway_worker::{
    Devices, Entry as Way, LocalPort, Observed, Observer, Outer, QueueId, Queues, Round,
    UnderlaySocket,
};

/// Frames on the same tables.
const ON_TABLES: u64 = 1000;
/// Nanoseconds between two frames: an ICMP error is allowed for each.
const STEP: u64 = 20_000_000;
const VNI: u32 = 1;
const VTEP: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 0]);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

enum InMemory {}

impl Devices for InMemory {
    type Port = Desk;
    type Ring = MemoryRing;
}

/// A port that brings what was put in, and keeps what it is given.
#[derive(Default)]
struct Desk {
    id: u32,
    incoming: VecDeque<(Vec<u8>, Offload, u16)>,
    sent: Vec<(Vec<u8>, Offload, u16)>,
}

impl Port for Desk {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        let count = budget.min(self.incoming.len());
        for (bytes, offload, packets) in self.incoming.drain(..count) {
            let buf = pool.alloc().unwrap();
            pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(&bytes);
            let frame = Frame {
                offload,
                packets,
                port: self.id,
                ..Frame::whole(buf.id(), bytes.len() as u32)
            };
            batch.push(frame, buf).unwrap();
        }
        Ok(count)
    }

    fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &Batch,
        frame: &Frame,
    ) -> Result<(), TransmitError> {
        let pieces = pool.pieces(frame, batch.tail(frame));
        let bytes: Vec<&[u8]> = pieces.map(Option::unwrap).collect();
        self.sent
            .push((bytes.concat(), frame.offload, frame.packets));
        Ok(())
    }

    fn flush(&mut self, _: &Pool) -> Result<(), TransmitError> {
        Ok(())
    }
}

impl LocalPort for Desk {
    fn counters(&self) -> TapCounters {
        TapCounters::default()
    }

    fn send(&mut self, _: &Offload, _: &mut [u8]) -> Result<(), TransmitError> {
        unreachable!("no port has a limit")
    }
}

/// What an observer sees: verdicts on what came in, and the payload of each outer packet.
#[derive(Default)]
struct Log {
    verdicts: Vec<Verdict>,
    outer: Vec<Vec<u8>>,
    /// Those of them that a socket sends.
    by_socket: usize,
}

impl Observer for Log {
    fn verdict(&mut self, frame: &Observed<'_>) {
        if frame.entry != Way::Switch {
            self.verdicts.push(frame.verdict);
        }
    }

    fn outer(&mut self, outer: &Outer<'_>) {
        let bytes = outer.pieces.concat();
        if !outer.whole {
            self.by_socket += 1;
            return self.outer.push(bytes);
        }
        let popped = pop_outer(&bytes, bytes.len()).unwrap();
        assert_eq!(
            (popped.tos, popped.src_port),
            (outer.tunnel.tos, outer.src_port)
        );
        let payload = &bytes[popped.payload_off..][..popped.payload_len];
        self.outer.push(payload.to_vec());
    }
}

/// Tables, and what to aim at.
struct World {
    tables: Snapshot,
    pods: Vec<(PortId, Entry)>,
    /// Per peer: the way from it.
    from: Vec<(OuterHeader, Encap, u8)>,
    unfinished: bool,
}

fn loopback(host: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, host])
}

fn outer(from: u8, to: u8, encap: Encap, full: bool) -> OuterHeader {
    let checksum = if full {
        UdpChecksum::Full
    } else {
        UdpChecksum::Zero
    };
    OuterHeader::new(&OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0, from]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, to]),
        src: loopback(from),
        dst: loopback(to),
        encap,
        transport: TransportSpec::usual(encap, checksum),
        ttl: 64,
        dont_fragment: true,
    })
    .unwrap()
}

fn vtep(node: u8) -> MacAddr {
    MacAddr([0x0a, 0x58, 10, 77, node, 0])
}

impl World {
    /// node1 with up to five pods; node2 and node3, each with an encapsulation of its own.
    fn new(random: &mut Random) -> World {
        let cidrs = |node: u8| {
            [
                format!("10.77.{node}.0/24").parse().unwrap(),
                format!("fd77:{node}::/64").parse().unwrap(),
            ]
        };
        let mut tables = Snapshot::new(NodeInfo {
            name: "node1".into(),
            cidrs: cidrs(1).into(),
            addresses: [loopback(1)].into(),
            gateway_mac: kit::GATEWAY_MAC,
            vtep_mac: VTEP,
            vtep_mac6: VTEP,
            gateway4: Some(0x0a4d_0101),
            gateway6: Some(ip6(1, 1)),
            gateway_link_local: Some(0xfe80 << 112 | 1),
            vni: VNI,
        })
        .unwrap();
        let mut pods = Vec::new();
        let node = Entry {
            kind: PortKind::Node,
            mac: kit::GATEWAY_MAC,
            ip4: None,
            ip6: None,
            mtu: 1450,
            name: "node".into(),
        };
        tables.add_port(PortId::NODE, node).unwrap();
        for n in 2..3 + random.below(5) as u8 {
            let families = random.below(6);
            let pod = Entry {
                kind: PortKind::Pod,
                mac: MacAddr([2, 0x52, 0x57, 0, 0, n]),
                ip4: (families != 0).then_some(0x0a4d_0100 + u32::from(n)),
                ip6: (families != 1).then_some(ip6(1, n)),
                mtu: random.of(&[1280, 1450, 9000]),
                name: format!("pod{n}").into(),
            };
            tables.add_port(PortId(n.into()), pod.clone()).unwrap();
            pods.push((PortId(n.into()), pod));
        }
        let encaps = [Encap::Vxlan { vni: VNI }, Encap::Udp];
        let mut from = Vec::new();
        for node in [2u8, 3] {
            let (encap, full) = (random.of(&encaps), random.one_in(2));
            let path = |mtu| Path {
                peer: Default::default(),
                encap,
                src: loopback(1),
                dst: loopback(node),
                src_mac: VTEP,
                dst_mac: vtep(node),
                mtu,
                outer: outer(1, node, encap, full),
            };
            let paths = PeerPaths {
                v4: Some(path(random.of(&[68, 576, 1400, 1450]))),
                v6: Some(path(random.of(&[1280, 1400, 1430]))),
            };
            let peer = Peer {
                name: format!("node{node}").into(),
                addresses: [loopback(node)].into(),
                cidrs: cidrs(node).into(),
            };
            tables.add_peer(peer, paths).unwrap();
            let used = if random.one_in(8) {
                random.of(&encaps)
            } else {
                encap
            };
            from.push((outer(node, 1, used, random.one_in(2)), used, node));
        }
        if random.one_in(2) {
            tables.accepted = encaps.into();
        }
        World {
            tables,
            pods,
            from,
            unfinished: random.one_in(3),
        }
    }

    /// An address of this family: of a pod here, of a peer's pods, of nobody, of the world outside.
    fn address(&self, random: &mut Random, v6: bool) -> IpAddr {
        let (node, host) = match random.below(20) {
            0..9 => match random.of(&self.pods.iter().collect::<Vec<_>>()).1 {
                Entry { ip6: Some(ip), .. } if v6 => return IpAddr::from(ip.to_be_bytes()),
                Entry { ip4: Some(ip), .. } if !v6 => return IpAddr::from(ip.to_be_bytes()),
                _ => (2, 2),
            },
            9..15 => (2 + random.below(2) as u8, 2 + random.below(4) as u8),
            15 => (1, random.below(2) as u8),
            16 => (9, 9),
            17 => (1, 99),
            18 if v6 => return IpAddr::from((0xfe80u128 << 112 | 7).to_be_bytes()),
            18 => return IpAddr::from([127, 0, 0, 9]),
            _ if v6 => return "2001:db8::7".parse().unwrap(),
            _ => return IpAddr::from([192, 0, 2, 7]),
        };
        match v6 {
            true => IpAddr::from(ip6(node, host).to_be_bytes()),
            false => IpAddr::from([10, 77, node, host]),
        }
    }

    /// A packet from an address to another, most of them good.
    fn packet(
        &self,
        random: &mut Random,
        (src, dst): (IpAddr, IpAddr),
        (from, to): (MacAddr, MacAddr),
        most: usize,
    ) -> (Vec<u8>, Offload) {
        // Few, so that answers meet requests.
        let (mut src_port, mut dst_port) = (1000 + random.below(2) as u16, random.of(&[53, 80]));
        if random.one_in(2) {
            std::mem::swap(&mut src_port, &mut dst_port);
        }
        let (src, dst) = ((src, src_port), (dst, dst_port));
        let (mut build, superframes) = match random.below(8) {
            0..3 => (kit::tcp(src, dst).seq(random.next() as u32), true),
            3..6 => (kit::udp(src, dst), true),
            6 => (kit::ping(src, dst), false),
            _ => (kit::raw(src, dst, random.of(&[2, 47, 132])), false),
        };
        build = build
            .macs(from, to)
            .ttl(match random.below(20) {
                0 => random.of(&[0, 1]),
                1 => 2,
                _ => 64,
            })
            .tos(random.of(&[0, 0, 1, 2, 3, 0xb8]))
            .id(random.next() as u16);
        if random.one_in(2) {
            build = build.dont_fragment();
        }
        let len = match random.below(10) {
            0..5 => random.below(200) as usize,
            5..9 => random.below(most.min(1600) as u64) as usize,
            _ => random.below(most as u64) as usize,
        };
        let mut payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        if let Some(first) = payload.first_mut() {
            *first = random.next() as u8;
        }
        build = build.payload(&payload);
        if superframes && random.one_in(3) {
            let segment = random.of(&[None, Some(100), Some(536), Some(1200), Some(1398)]);
            return build.offloaded(segment);
        }
        if random.one_in(30) {
            build = build.bad_checksum();
        }
        (build.frame(), Offload::default())
    }

    /// A frame by a port.
    fn port_frame(&self, random: &mut Random) -> (PortId, Vec<u8>, Offload, u16) {
        let (port, pod) = random.of(&self.pods.iter().collect::<Vec<_>>());
        let v6 = match (pod.ip4, pod.ip6) {
            (None, _) => true,
            (_, None) => false,
            _ => random.one_in(2),
        };
        let (port, mac, own) = if random.one_in(5) {
            // Under the address of a pod, as what the node's stack has translated.
            (PortId::NODE, kit::GATEWAY_MAC, self.address(random, v6))
        } else {
            let own = match (v6, pod.ip4, pod.ip6) {
                (false, Some(ip), _) => IpAddr::from(ip.to_be_bytes()),
                (true, _, Some(ip)) => IpAddr::from(ip.to_be_bytes()),
                _ => self.address(random, v6),
            };
            (*port, pod.mac, own)
        };
        let src = if random.one_in(20) {
            self.address(random, v6)
        } else {
            own
        };
        let mac = if random.one_in(40) { VTEP } else { mac };
        let dst = self.address(random, v6);
        let neighbour = self.tables.neighbours.get(from_ip(dst));
        let to = match random.below(10) {
            0..6 => kit::GATEWAY_MAC,
            6..9 => neighbour.unwrap_or(kit::GATEWAY_MAC),
            _ => MacAddr([2, 0, 0, 0, 0, 0x99]),
        };
        let (mut bytes, mut offload) = match random.below(30) {
            0 if !v6 => (
                kit::arp_request(&src.to_string(), &dst.to_string()),
                Offload::default(),
            ),
            0 => (
                kit::solicitation(&src.to_string(), &dst.to_string()),
                Offload::default(),
            ),
            _ => self.packet(random, (src, dst), (mac, to), 40_000),
        };
        if bytes.len() == 42
            || bytes.get(12..14) == Some(&[0x86, 0xdd]) && offload == Offload::default()
        {
            // The kit knows only one MAC for each address.
            bytes[6..12].copy_from_slice(&mac.0);
            if bytes[12..14] == [8, 6] {
                bytes[22..28].copy_from_slice(&mac.0);
            }
        }
        if random.one_in(40) {
            bytes = kit::tag(&bytes, random.of(&[0, 0, 7]));
            offload = Offload::default();
        }
        self.damage(random, &mut bytes);
        let packets = parse(&bytes, bytes.len()).map_or(1, |parsed| {
            let payload = parsed.ip_end().saturating_sub(parsed.payload_off.into());
            offload.segments(payload) as u16
        });
        (port, bytes, offload, packets)
    }

    /// An outer frame of a peer.
    fn peer_message(&self, random: &mut Random) -> Vec<u8> {
        let v6 = random.one_in(2);
        let (header, encap, node) = &self.from[random.below(2) as usize];
        let host = 2 + random.below(3) as u8;
        let src = match (random.below(20), v6) {
            (0, _) => self.address(random, v6),
            (_, true) => IpAddr::from(ip6(*node, host).to_be_bytes()),
            (_, false) => IpAddr::from([10, 77, *node, host]),
        };
        let dst = self.address(random, v6);
        let to = if random.one_in(30) { vtep(9) } else { VTEP };
        let (mut frame, _) = self.packet(random, (src, dst), (vtep(*node), to), 3000);
        self.damage(random, &mut frame);
        let carried = match encap.carries() {
            Carries::Frames => &frame[..],
            Carries::Packets => frame.get(14..).unwrap_or(&[]),
        };
        let mut bytes = vec![0; HEADROOM];
        bytes.extend_from_slice(carried);
        let fields = Fields {
            src_port: 50_000,
            tos: random.of(&[0, 0, 0, 1, 2, 3]),
            id: 0,
        };
        let sum = header.needs_sum().then(|| checksum::sum(carried));
        let at = header.push(&mut bytes, HEADROOM, carried.len(), fields, sum);
        let mut bytes = bytes.split_off(at.unwrap());
        self.damage(random, &mut bytes);
        bytes
    }

    /// Some frames have a few bytes changed, or end early.
    fn damage(&self, random: &mut Random, bytes: &mut Vec<u8>) {
        if !random.one_in(12) || bytes.is_empty() {
            return;
        }
        if random.one_in(3) {
            bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
        }
        for _ in 0..random.below(3) {
            // Headers, most of the time.
            let end = bytes.len().min(random.of(&[60, 60, 120, 4000]));
            let at = random.below(end as u64) as usize;
            bytes[at] = random.next() as u8;
        }
    }
}

fn ip6(node: u8, host: u8) -> u128 {
    0xfd77 << 112 | u128::from(node) << 96 | u128::from(host)
}

fn socket(encap: Encap) -> UnderlaySocket {
    let config = SocketConfig::new("127.0.0.1:0".parse().unwrap());
    UnderlaySocket {
        socket: UdpUnderlay::open(&config).unwrap(),
        encap,
        v6: false,
        unfinished: false,
    }
}

/// A worker on tables of its own.
struct Node {
    world: World,
    queues: Queues<InMemory>,
    counters: Arc<Counters>,
    pipeline: Pipeline,
    returns: Arc<Returns>,
    lost: u64,
}

impl Node {
    fn new(world: World) -> Node {
        let counters = Arc::new(Counters::default());
        let returns = Arc::new(Returns::new(16, [3, 5]));
        let pipeline = Pipeline::new(counters.clone(), UdpPorts::default());
        let sockets = [Encap::Vxlan { vni: VNI }, Encap::Udp].map(socket);
        let mut queues = Queues::new(sockets.into(), (0, 1), 1514);
        let pods = world.pods.iter().map(|(port, _)| *port);
        for port in pods.chain([PortId::NODE]) {
            let desk = Desk {
                id: port.0,
                ..Desk::default()
            };
            queues.add_port(port, desk);
        }
        queues
            .add_ring(world.unfinished, |_| Ok::<_, ()>(MemoryRing::default()))
            .unwrap();
        Node {
            world,
            queues,
            counters,
            pipeline: pipeline.sharing(returns.clone()),
            returns,
            lost: 0,
        }
    }

    fn predict(&self, tracer: &mut Tracer, given: &Given<'_>, now: u64) -> Vec<Traced> {
        let basis = Basis {
            tables: &self.world.tables,
            returns: &self.returns,
            ports: UdpPorts::default(),
            options: Options {
                unfinished: self.world.unfinished,
                udp_superframes: true,
                coalesce: true,
            },
            now,
        };
        tracer.run(&basis, given).unwrap()
    }

    fn visit(&mut self, queue: QueueId, now: u64) -> Log {
        let mut log = Log::default();
        let mut round = Round {
            snapshot: &self.world.tables,
            pipeline: &mut self.pipeline,
            queues: &mut self.queues,
            observer: Some(&mut log),
            now,
        };
        round.visit(queue, Batch::MAX_FRAMES);
        self.queues.flush();
        log
    }

    /// What the worker has done is what was predicted.
    fn compare(&mut self, predicted: &[Traced], log: &Log, context: &dyn Fn() -> String) {
        let verdicts: Vec<Verdict> = predicted.iter().map(|traced| traced.verdict).collect();
        assert_eq!(log.verdicts, verdicts, "{}", context());
        // To ports, in order: the frame, then what the switch made because of it.
        let mut sent: Vec<(PortId, Vec<u8>, Offload, u16)> = Vec::new();
        let (mut outer, mut lost): (Vec<&[u8]>, u64) = (Vec::new(), 0);
        for traced in predicted {
            if let Verdict::Deliver(port) = traced.verdict {
                let Traced {
                    frame,
                    offload,
                    packets,
                    ..
                } = traced;
                sent.push((port, frame.clone(), *offload, *packets));
            }
            for made in &traced.made {
                if let Out::Port(port) = made.out {
                    sent.push((port, made.frame.clone(), Offload::default(), 1));
                }
            }
            let made = traced.made.iter().filter_map(|made| made.sent.as_ref());
            for tunnelled in traced.sent.iter().chain(made) {
                outer.extend(tunnelled.datagrams.iter().map(|datagram| &datagram[..]));
                lost += tunnelled.lost.map_or(0, |(_, packets)| u64::from(packets));
            }
        }
        let ports = self.world.pods.iter().map(|(port, _)| *port);
        let ports: Vec<PortId> = ports.chain([PortId::NODE]).collect();
        for port in ports {
            let desk = self.queues.port(port).unwrap();
            let got = std::mem::take(&mut desk.sent);
            let wanted = sent.iter().filter(|(to, ..)| *to == port);
            let wanted = wanted.map(|(_, frame, offload, packets)| (frame, offload, packets));
            let got_refs = got
                .iter()
                .map(|(frame, offload, packets)| (frame, offload, packets));
            assert!(got_refs.eq(wanted), "{port:?}: {got:02x?}\n{}", context());
        }
        assert!(
            log.outer.iter().map(|bytes| &bytes[..]).eq(outer),
            "{:02x?}\n{}",
            log.outer,
            context()
        );
        // What a ring got is what was seen of it, but for what a socket sends.
        let (_, ring) = self.queues.ring(0);
        let on_ring = std::mem::take(&mut ring.unwrap().sent);
        assert_eq!(
            on_ring.len() + log.by_socket,
            log.outer.len(),
            "{}",
            context()
        );
        if log.by_socket == 0 {
            for (frame, seen) in on_ring.iter().zip(&log.outer) {
                let popped = pop_outer(frame, frame.len()).unwrap();
                let payload = &frame[popped.payload_off..][..popped.payload_len];
                assert_eq!((popped.src, payload), (from_ip(loopback(1)), &seen[..]));
            }
        }
        let reasons = [DropReason::Unsegmentable, DropReason::NoPath];
        let total: u64 = reasons
            .iter()
            .map(|reason| self.counters.lost[reason.index()].get())
            .sum();
        assert_eq!(total - self.lost, lost, "{}", context());
        self.lost = total;
    }
}

/// How often each thing has been.
#[derive(Default, Debug)]
struct Tally {
    delivered: u64,
    tunnelled: u64,
    fragmented: u64,
    answered: u64,
    dropped: u64,
    made: u64,
    returned: u64,
    superframes: u64,
    from_peers: u64,
    drops: std::collections::BTreeMap<&'static str, u64>,
}

impl Tally {
    fn note(&mut self, traced: &Traced, from_peer: bool) {
        match traced.verdict {
            Verdict::Deliver(_) => self.delivered += 1,
            Verdict::Tunnel(_) => self.tunnelled += 1,
            Verdict::Fragment(_) => self.fragmented += 1,
            Verdict::Answered => self.answered += 1,
            Verdict::Ignore(_) => {}
            Verdict::Drop(reason) => {
                self.dropped += 1;
                *self.drops.entry(reason.name()).or_default() += 1;
            }
        }
        let goes = matches!(
            traced.verdict,
            Verdict::Deliver(_) | Verdict::Tunnel(_) | Verdict::Fragment(_)
        );
        let is_returned = |step| matches!(step, &ringway_switch::trace::Step::Returned(_));
        self.made += traced.made.len() as u64;
        self.returned += u64::from(traced.steps.iter().any(is_returned));
        self.superframes += u64::from(goes && traced.packets > 1);
        self.from_peers += u64::from(goes && from_peer);
    }

    fn least(&self) -> u64 {
        let Tally {
            delivered,
            tunnelled,
            fragmented,
            answered,
            dropped,
            made,
            returned,
            superframes,
            from_peers,
            drops: _,
        } = self;
        let all = [
            delivered,
            tunnelled,
            fragmented,
            answered,
            dropped,
            made,
            returned,
            superframes,
            from_peers,
        ];
        all.into_iter().copied().min().unwrap_or(0)
    }
}

#[test]
fn a_worker_does_what_a_trace_predicts() {
    let given = std::env::var("RINGWAY_AGREEMENT").ok();
    let count = match (given, std::env::var_os("RINGWAY_LONG")) {
        (Some(count), _) => count.parse().expect("RINGWAY_AGREEMENT is a number"),
        (None, Some(_)) => 1_000_000,
        (None, None) => 20_000,
    };
    let mut random = Random(77);
    let mut tracer = Tracer::default();
    let mut tally = Tally::default();
    let mut node = Node::new(World::new(&mut random));
    for i in 0..count {
        if i % ON_TABLES == 0 {
            node = Node::new(World::new(&mut random));
        }
        let now = (i + 1) * STEP;
        let seed = random.0;
        let from_peer = random.one_in(3);
        let (predicted, log) = if from_peer {
            let bytes = node.world.peer_message(&mut random);
            let predicted = node.predict(&mut tracer, &Given::Outer(&bytes), now);
            let (_, ring) = node.queues.ring(0);
            ring.unwrap().incoming.push_back(bytes);
            (predicted, node.visit(QueueId::Ring(0), now))
        } else {
            let (port, bytes, offload, packets) = node.world.port_frame(&mut random);
            let given = Given::Port {
                port,
                frame: &bytes,
                offload,
                packets,
            };
            let predicted = node.predict(&mut tracer, &given, now);
            let desk = node.queues.port(port).unwrap();
            desk.incoming.push_back((bytes, offload, packets));
            (predicted, node.visit(QueueId::Tap(port), now))
        };
        for traced in &predicted {
            tally.note(traced, from_peer);
        }
        let context = || format!("frame {i}, random state {seed:#x}: {predicted:02x?}");
        node.compare(&predicted, &log, &context);
    }
    println!("{count} frames: {tally:?}");
    assert!(tally.least() >= count / 1000, "{tally:?}");
}
