//! Rounds over memory in the place of TAPs and rings: from a peer to a pod, and back.

use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_packet::kit;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::Offload;
use ringway_ports::memory::{Memory, pair};
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_ports::tap::TapCounters;
use ringway_ports::{Batch, HEADROOM, Pool, Port, TransmitError};
use ringway_switch::{Counters, UdpPorts, Verdict};
use ringway_tables::{NodeInfo, Path, Peer, PeerPaths, Port as Entry, PortId, PortKind};

use super::*;
use crate::observe::{Entry as Way, Observed, Outer};
use crate::testing::MemoryRing;
use crate::{LocalPort, UnderlaySocket};

const VXLAN: Encap = Encap::Vxlan { vni: 1 };
const VTEP1: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 0]);
const VTEP2: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 2, 0]);
const POD_MAC: MacAddr = MacAddr([2, 0x52, 0x57, 0, 0, 3]);
const POD: PortId = PortId(2);

enum InMemory {}

impl Devices for InMemory {
    type Port = Memory;
    type Ring = MemoryRing;
}

impl LocalPort for Memory {
    fn counters(&self) -> TapCounters {
        TapCounters::default()
    }

    fn send(&mut self, _: &Offload, room: &mut [u8]) -> Result<(), TransmitError> {
        let len = room.len() as u32;
        Err(TransmitError::Refused { len })
    }
}

/// The outer header from one node to the other.
fn outer(from: u8, to: u8) -> OuterHeader {
    let address = |n| format!("192.168.77.{n}").parse().unwrap();
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0, from]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, to]),
        src: address(from),
        dst: address(to),
        encap: VXLAN,
        transport: TransportSpec::usual(VXLAN, UdpChecksum::Zero),
        ttl: 64,
        dont_fragment: true,
    };
    OuterHeader::new(&spec).unwrap()
}

/// node1 with pod 2, and node2 as its peer.
fn tables() -> Snapshot {
    let mut tables = Snapshot::new(NodeInfo {
        cidrs: ["10.77.1.0/24".parse().unwrap()].into(),
        gateway_mac: kit::GATEWAY_MAC,
        vtep_mac: VTEP1,
        vni: 1,
        ..NodeInfo::default()
    })
    .unwrap();
    let pod = Entry {
        kind: PortKind::Pod,
        mac: POD_MAC,
        ip4: Some(0x0a4d_0102),
        ip6: None,
        mtu: 1450,
        name: "pod".into(),
    };
    tables.add_port(POD, pod).unwrap();
    let far = "192.168.77.2".parse().unwrap();
    let peer = Peer {
        name: "node2".into(),
        addresses: [far].into(),
        cidrs: ["10.77.2.0/24".parse().unwrap()].into(),
    };
    let path = Path {
        peer: Default::default(),
        encap: VXLAN,
        src: "192.168.77.1".parse().unwrap(),
        dst: far,
        src_mac: VTEP1,
        dst_mac: VTEP2,
        mtu: 1450,
        outer: outer(1, 2),
    };
    let paths = PeerPaths {
        v4: Some(path),
        v6: None,
    };
    tables.add_peer(peer, paths).unwrap();
    tables
}

/// A socket whose source port the ring sends from.
fn socket() -> UnderlaySocket {
    let config = SocketConfig::new("127.0.0.1:0".parse().unwrap());
    UnderlaySocket {
        socket: UdpUnderlay::open(&config).unwrap(),
        encap: VXLAN,
        v6: false,
        unfinished: false,
    }
}

/// A frame from the peer's pod, on the wire.
fn from_peer(payload: &[u8]) -> Vec<u8> {
    let frame = kit::udp("10.77.2.2:1000", "10.77.1.2:53")
        .macs(VTEP2, VTEP1)
        .payload(payload)
        .frame();
    let mut bytes = vec![0; HEADROOM];
    bytes.extend(&frame);
    let fields = Fields {
        src_port: 50_000,
        tos: 0,
        id: 0,
    };
    let at = outer(2, 1).push(&mut bytes, HEADROOM, frame.len(), fields, None);
    bytes.split_off(at.unwrap())
}

/// Where frames came in, their verdicts, and how many outer packets were made.
#[derive(Default)]
struct Log(Vec<(Way, Verdict)>, usize);

impl Observer for Log {
    fn verdict(&mut self, frame: &Observed<'_>) {
        self.0.push((frame.entry, frame.verdict));
    }

    fn outer(&mut self, outer: &Outer<'_>) {
        assert!(outer.whole && outer.pieces.len() == 1);
        self.1 += 1;
    }
}

#[test]
fn a_ring_and_a_port_are_served_by_the_same_visits_as_on_a_node() {
    let tables = tables();
    let counters = Arc::new(Counters::default());
    let mut pipeline = Pipeline::new(counters.clone(), UdpPorts::default());
    let mut queues = Queues::<InMemory>::new(vec![socket()], (0, 1), 1500);
    let (port, mut pod) = pair(16, POD.0, 0);
    queues.add_port(POD, port);
    let wire = MemoryRing {
        incoming: [b"one".as_slice(), b"two"].map(from_peer).into(),
        ..MemoryRing::default()
    };
    queues.add_ring(false, |_| Ok::<_, ()>(wire)).unwrap();
    let mut log = Log::default();
    let mut visit = |queues: &mut Queues<InMemory>, queue| {
        let mut round = Round {
            snapshot: &tables,
            pipeline: &mut pipeline,
            queues,
            observer: Some(&mut log),
            now: 0,
        };
        let outcome = round.visit(queue, Batch::MAX_FRAMES);
        queues.flush();
        outcome
    };
    // From the peer to the pod.
    let outcome = visit(&mut queues, QueueId::Ring(0));
    assert!(matches!(outcome, Outcome::Served { more: false, .. }));
    assert_eq!(visit(&mut queues, QueueId::Ring(0)), Outcome::Empty);
    assert_eq!(pod.waiting(), 2);
    // From the pod to the peer.
    let frame = kit::udp("10.77.1.2:53", "10.77.2.2:1000").macs(POD_MAC, kit::GATEWAY_MAC);
    let (mut pool, mut batch) = (Pool::heap(16, 4096), Batch::new());
    pod.receive(&mut pool, &mut batch, 16).unwrap();
    batch.recycle(&mut pool);
    let buf = pool.alloc().unwrap();
    let bytes = frame.payload(b"answer").frame();
    pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(&bytes);
    let answer = ringway_ports::Frame::whole(buf.id(), bytes.len() as u32);
    pod.transmit(&mut pool, &batch, &answer).unwrap();
    pool.free(buf);
    let outcome = visit(&mut queues, QueueId::Tap(POD));
    assert!(matches!(outcome, Outcome::Served { more: false, .. }));
    let (pool, ring) = queues.ring(0);
    // The ring has given everything back, so have the ports.
    let census = pool.census();
    assert_eq!((census.held, census.in_rings), (0, 0));
    let sent = std::mem::take(&mut ring.unwrap().sent);
    assert_eq!(sent.len(), 1);
    let outer = pop_outer(&sent[0], sent[0].len()).unwrap();
    assert!(sent[0].ends_with(b"answer") && outer.dst_port == 8472);
    assert_eq!(counters.copied_bytes.get(), 0, "it went from where it lay");
    // All of it observed.
    let peer = Way::Peer(Default::default());
    assert_eq!(log.0.len(), 3);
    assert_eq!(log.0[..2], [(peer, Verdict::Deliver(POD)); 2]);
    assert!(matches!(log.0[2], (Way::Port(POD), Verdict::Tunnel(_))));
    assert_eq!(log.1, 1);
    assert_eq!(counters.balance(), (0, 0));
    assert_eq!(
        (
            counters.delivered.frames.get(),
            counters.tunnelled.frames.get()
        ),
        (2, 1)
    );
}
