//! The same frames by a socket and by a ring: the same packets come out, and what does not is counted alike.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_packet::addr::from_ip;
use ringway_packet::kit::{self, Build};
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::Offload;
use ringway_ports::HEADROOM;
use ringway_ports::socket::{SocketConfig, TxReport, UdpUnderlay};
use ringway_tables::{NodeInfo, PathId, Peer, PeerPaths, Target};

use super::*;
use crate::buffers::Buffers;
use crate::identification::Identifications;
use crate::observe::{Observed, Observer, On, Outer};
use crate::testing::MemoryRing;

const ENCAPS: [Encap; 2] = [Encap::Vxlan { vni: 1 }, Encap::Udp];
const MTU: u16 = 1450;
const ENDS: [[&str; 2]; 2] = [
    ["10.77.1.2:1000", "10.77.2.2:53"],
    ["[fd77:1::2]:1000", "[fd77:2::2]:53"],
];

/// This node, and a peer on the loopback interface.
struct Wire {
    tables: Snapshot,
    tunnel: Tunnel,
    far: UdpSocket,
    buffers: Buffers,
    counters: Counters,
}

impl Wire {
    fn new(encap: Encap) -> Wire {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let port = far.local_addr().unwrap().port();
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let usual = TransportSpec::usual(encap, UdpChecksum::Full);
        let TransportSpec::Udp { checksum, .. } = usual;
        let spec = OuterSpec {
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            src: here,
            dst: here,
            encap,
            transport: TransportSpec::Udp {
                dst_port: port,
                checksum,
            },
            ttl: 64,
            dont_fragment: true,
        };
        let path = Path {
            peer: Default::default(),
            encap,
            src: here,
            dst: here,
            src_mac: MacAddr([2, 0, 0, 0, 0, 3]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 4]),
            mtu: MTU,
            outer: OuterHeader::new(&spec).unwrap(),
        };
        let mut tables = Snapshot::new(NodeInfo {
            cidrs: ["10.77.1.0/24".parse().unwrap()].into(),
            ..NodeInfo::default()
        })
        .unwrap();
        let peer = Peer {
            name: "far".into(),
            addresses: [here].into(),
            cidrs: ["10.77.2.0/24".parse().unwrap()].into(),
        };
        let paths = PeerPaths {
            v4: Some(path),
            v6: None,
        };
        tables.add_peer(peer, paths).unwrap();
        let route = tables.route(from_ip("10.77.2.2".parse().unwrap()));
        let Some(Target::Path(path)) = route else {
            panic!("{route:?}");
        };
        Wire {
            tables,
            tunnel: Tunnel {
                path,
                hash: 7,
                tos: 0,
            },
            far,
            buffers: Buffers::new(1522),
            counters: Counters::default(),
        }
    }

    /// Puts a frame into the batch.
    fn frame(&mut self, bytes: &[u8], offload: Offload, packets: u16) -> Frame {
        let Buffers { pool, batch, .. } = &mut self.buffers;
        let buf = pool.alloc().unwrap();
        pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        let frame = Frame {
            offload,
            packets,
            ..Frame::whole(buf.id(), bytes.len() as u32)
        };
        batch.push(frame, buf).unwrap();
        batch.frames.pop().unwrap()
    }

    /// By a socket: what the other end gets, and what was lost.
    fn by_socket(&mut self, frame: &Frame, fragment: bool) -> (Vec<Vec<u8>>, Option<Loss>, Seen) {
        let config = SocketConfig::new("127.0.0.1:0".parse().unwrap());
        let mut socket = UdpUnderlay::open(&config).unwrap();
        let (mut report, mut seen) = (TxReport::new(), Seen::default());
        let out = Outgoing::new(&self.tables, &self.tunnel, frame, fragment);
        let mut carrier = SocketCarrier {
            socket: &mut socket,
            pool: &mut self.buffers.pool,
            report: &mut report,
            counters: &self.counters,
            watch: &mut On(&mut seen),
        };
        let loss = send(&mut carrier, &out.unwrap_or_else(|_| panic!())).err();
        carrier.settle();
        assert_eq!(report.drops.total(), 0, "{report:?}");
        self.buffers.recycle();
        let mut got = Vec::new();
        let mut buf = vec![0; 70_000];
        for _ in 0..report.datagrams {
            let len = self.far.recv(&mut buf).unwrap();
            got.push(buf[..len].to_vec());
        }
        (got, loss, seen)
    }

    /// By a ring that has room for so many: what it was given, outer headers taken off.
    fn by_ring(
        &mut self,
        frame: &Frame,
        fragment: bool,
        room: usize,
    ) -> (Vec<Vec<u8>>, Option<Loss>, Seen) {
        let mut ring = MemoryRing {
            room: Some(room),
            ..MemoryRing::default()
        };
        let mut seen = Seen::default();
        let mut ids = Identifications::new(0, 1);
        let out = Outgoing::new(&self.tables, &self.tunnel, frame, fragment);
        let mut carrier = RingCarrier {
            ring: &mut ring,
            buffers: &mut self.buffers,
            counters: &self.counters,
            ids: &mut ids,
            src_port: 50_000,
            may_lend: true,
            watch: &mut On(&mut seen),
        };
        let loss = send(&mut carrier, &out.unwrap_or_else(|_| panic!())).err();
        self.buffers.recycle();
        let got = ring.sent.iter().map(|bytes| {
            let outer = pop_outer(bytes, bytes.len()).unwrap();
            bytes[outer.payload_off..][..outer.payload_len].to_vec()
        });
        (got.collect(), loss, seen)
    }
}

/// The outer packets that were made.
#[derive(Default)]
struct Seen(Vec<(bool, Vec<u8>)>);

impl Observer for Seen {
    fn verdict(&mut self, _: &Observed<'_>) {}

    fn outer(&mut self, outer: &Outer<'_>) {
        self.0.push((outer.whole, outer.pieces.concat()));
    }
}

/// What is sent, and the packets it has to become.
fn cases() -> Vec<(&'static str, Build, Option<u16>, bool)> {
    let mut all = Vec::new();
    for [src, dst] in ENDS {
        let tcp = kit::tcp(src, dst).seq(9);
        all.push(("a packet", kit::udp(src, dst).payload_len(100), None, false));
        let superframe = tcp.clone().payload_len(10_000);
        all.push(("TCP superframe", superframe, Some(1300), false));
        let superframe = kit::udp(src, dst).payload_len(4_500);
        all.push(("UDP superframe", superframe, Some(1000), false));
        // More than one message holds.
        let superframe = tcp.payload_len(20_000);
        all.push(("tiny segments", superframe, Some(100), false));
    }
    let [src, dst] = ENDS[0];
    let large = kit::udp(src, dst).payload_len(4_000);
    all.push(("fragments", large, None, true));
    let superframe = kit::udp(src, dst).payload_len(9_000);
    all.push(("fragments of segments", superframe, Some(3_000), true));
    all
}

/// A case's bytes with its offloads, and the packets it stands for.
fn made(build: &Build, size: Option<u16>) -> (Vec<u8>, Offload, u16) {
    let Some(size) = size else {
        return (build.frame(), Offload::default(), 1);
    };
    let (bytes, offload) = build.offloaded(Some(size));
    let parsed = ringway_packet::parse::parse(&bytes, bytes.len()).unwrap();
    let payload = bytes.len() - usize::from(parsed.payload_off);
    let packets = payload.div_ceil(size.into()) as u16;
    (bytes, offload, packets)
}

#[test]
fn socket_and_ring_send_the_same_packets() {
    for encap in ENCAPS {
        for (name, build, size, fragment) in cases() {
            let (bytes, offload, packets) = made(&build, size);
            let mut wire = Wire::new(encap);
            let frame = wire.frame(&bytes, offload, packets);
            let (by_socket, loss, seen_socket) = wire.by_socket(&frame, fragment);
            assert_eq!(loss, None, "{name}, {encap}");
            let frame = wire.frame(&bytes, offload, packets);
            let (by_ring, loss, seen_ring) = wire.by_ring(&frame, fragment, usize::MAX);
            assert_eq!(loss, None, "{name}, {encap}");
            assert!(by_socket == by_ring, "{name}, {encap}");
            assert!(by_socket.len() >= usize::from(packets), "{name}, {encap}");
            assert_eq!(
                by_socket.len() > packets.into(),
                fragment,
                "{name}, {encap}"
            );
            // An observer has seen each, as it was sent.
            let seen = |seen: Seen, whole| {
                assert!(seen.0.iter().all(|(is, _)| *is == whole), "{name}, {encap}");
                let bytes = seen.0.into_iter().map(|(_, bytes)| bytes);
                bytes.collect::<Vec<_>>()
            };
            assert!(seen(seen_socket, false) == by_socket, "{name}, {encap}");
            let frames = seen(seen_ring, true);
            assert_eq!(frames.len(), by_ring.len(), "{name}, {encap}");
            for (frame, payload) in frames.iter().zip(&by_ring) {
                assert!(frame.ends_with(payload), "{name}, {encap}");
            }
        }
    }
}

#[test]
fn what_was_sent_of_a_superframe_is_not_counted_as_lost() {
    let [src, dst] = ENDS[0];
    let build = kit::tcp(src, dst).payload_len(10_000);
    let (bytes, offload, packets) = made(&build, Some(1000));
    assert_eq!(packets, 10);
    let mut wire = Wire::new(ENCAPS[0]);
    // A ring that is full after four of ten.
    let frame = wire.frame(&bytes, offload, packets);
    let (sent, loss, _) = wire.by_ring(&frame, false, 4);
    let reason = DropReason::UnderlayFull;
    assert_eq!((sent.len(), loss), (4, Some(Loss { reason, packets: 6 })));
    // A frame that says more of its length than its buffer holds: both send what is there.
    let beyond = |wire: &mut Wire| {
        let frame = wire.frame(&bytes, offload, packets);
        let start = (wire.buffers.pool.bytes(frame.buf).len() - bytes.len() + 6_500) as u32;
        let Buffers { pool, .. } = &mut wire.buffers;
        let head = &bytes[..bytes.len() - 6_500];
        pool.bytes_mut(frame.buf)[start as usize..].copy_from_slice(head);
        Frame {
            start,
            linear: head.len() as u32,
            ..frame
        }
    };
    let frame = beyond(&mut wire);
    let (by_socket, lost_by_socket, _) = wire.by_socket(&frame, false);
    let frame = beyond(&mut wire);
    let (by_ring, lost_by_ring, _) = wire.by_ring(&frame, false, usize::MAX);
    assert!(by_socket == by_ring);
    assert_eq!(by_socket.len(), 3);
    for loss in [lost_by_socket, lost_by_ring] {
        assert_eq!(loss.map(|loss| loss.packets), Some(7));
    }
}

#[test]
fn of_fragmented_segments_those_before_the_loss_are_not_counted() {
    let [src, dst] = ENDS[0];
    let build = kit::udp(src, dst).payload_len(9_000);
    let (bytes, offload, packets) = made(&build, Some(3_000));
    let mut wire = Wire::new(ENCAPS[0]);
    let frame = wire.frame(&bytes, offload, packets);
    // Three fragments each: the second segment is not whole.
    let (sent, loss, _) = wire.by_ring(&frame, true, 4);
    let reason = DropReason::UnderlayFull;
    assert_eq!((sent.len(), loss), (4, Some(Loss { reason, packets: 2 })));
}

#[test]
fn a_path_that_is_gone_loses_all() {
    let [src, dst] = ENDS[0];
    let build = kit::tcp(src, dst).payload_len(10_000);
    let (bytes, offload, packets) = made(&build, Some(1000));
    let mut wire = Wire::new(ENCAPS[0]);
    let frame = wire.frame(&bytes, offload, packets);
    let tunnel = Tunnel {
        path: PathId(99),
        ..wire.tunnel
    };
    let out = Outgoing::new(&wire.tables, &tunnel, &frame, false);
    let reason = DropReason::NoPath;
    assert_eq!(
        out.err(),
        Some(Loss {
            reason,
            packets: 10
        })
    );
    wire.buffers.recycle();
}
