//! What a capture has of frames: as they came, as they go, and where they are dropped. No root.

mod node;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ringway_encap::Encap;
use ringway_packet::bpf::{Instruction, Program};
use ringway_packet::kit;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_switch::DropReason;
use ringway_tables::{PeerId, PortId};
use ringway_worker::observe::capture::{
    Capture, End, Kind, Place, Record, RecordReader, Selection, Tally, Wanted, Way,
};
use ringway_worker::{Command, Entry, ObserverId, Polling, UnderlaySocket};

use node::*;

const RING: usize = 1 << 20;

fn begin(
    node: &Node,
    selection: Selection,
    filter: Option<Program>,
    (snap_len, ring): (u32, usize),
) -> (RecordReader, Arc<Tally>) {
    let wanted = Wanted {
        selection: Arc::new(selection),
        filter: filter.map(Arc::new),
        snap_len,
    };
    let tally = Arc::new(Tally::default());
    let (capture, reader) = Capture::new(wanted, ring, tally.clone());
    node.workers[0].send(Command::Observe(ObserverId(1), Box::new(capture)));
    (reader, tally)
}

fn everywhere() -> Selection {
    let mut selection = Selection::default();
    selection.all_ports = true;
    selection.all_peers = true;
    selection.outer = true;
    selection.drops = true;
    selection
}

fn next(reader: &mut RecordReader) -> (Record, Vec<u8>) {
    let mut found = None;
    eventually("a record", || {
        found = reader
            .read()
            .map(|(record, bytes)| (record, bytes.to_vec()));
        found.is_some()
    });
    found.unwrap()
}

/// A routed frame of pod 2 to pod 3: its MACs and TTL are rewritten.
fn routed(v6: bool) -> kit::Build {
    let (src, dst) = match v6 {
        false => ("10.77.1.2:1000", "10.77.1.3:53"),
        true => ("[fd77:1::2]:1000", "[fd77:1::3]:53"),
    };
    kit::udp(src, dst)
        .macs(pod(2).mac, kit::GATEWAY_MAC)
        .payload_len(300)
}

fn with_vnet(frame: &[u8]) -> Vec<u8> {
    [&[0; VNET_HDR_LEN][..], frame].concat()
}

#[test]
fn a_frame_is_seen_as_it_came_and_as_it_goes() {
    for v6 in [false, true] {
        let (node, a, _b) = Node::with_two_pods();
        let (mut reader, tally) = begin(&node, everywhere(), None, (u32::MAX, RING));
        let sent = routed(v6).frame();
        a.send(&with_vnet(&sent)).unwrap();
        let (came, bytes) = next(&mut reader);
        assert_eq!(bytes, sent, "as it came");
        assert_eq!((came.place, came.way), (Place::Port(PortId(2)), Way::In));
        assert_eq!(came.end, End::Delivered(PortId(3)));
        assert_eq!(
            (came.original_len, came.packets, came.lost),
            (sent.len() as u32, 1, 0)
        );
        let (goes, bytes) = next(&mut reader);
        let rewritten = routed(v6)
            .macs(kit::GATEWAY_MAC, pod(3).mac)
            .ttl(63)
            .frame();
        assert_eq!(bytes, rewritten, "as it goes");
        assert_eq!((goes.place, goes.way), (Place::Port(PortId(3)), Way::Out));
        assert_eq!(goes.from, Some(Entry::Port(PortId(2))));
        assert!(goes.time >= came.time && came.time > 1_700_000_000_000_000_000);
        // With a priority tag, which is taken off.
        let tagged = [&sent[..12], &[0x81, 0, 0x60, 0], &sent[12..]].concat();
        a.send(&with_vnet(&tagged)).unwrap();
        assert_eq!(next(&mut reader).1, tagged);
        assert_eq!(next(&mut reader).1, rewritten);
        assert_eq!(
            (tally.matched.load(Relaxed), tally.lost.load(Relaxed)),
            (4, 0)
        );
        assert!(reader.read().is_none() && !reader.is_over());
        node.workers[0].send(Command::Unobserve(ObserverId(1)));
        eventually("the worker lets go", || reader.is_over());
        node.stop();
    }
}

#[test]
fn selection_filter_and_snap_length() {
    let (node, a, _b) = Node::with_two_pods();
    // Only what is dropped, wherever.
    let mut selection = Selection::default();
    selection.drops = true;
    let (mut reader, _) = begin(&node, selection, None, (60, RING));
    a.send(&with_vnet(&routed(false).frame())).unwrap();
    let spoofed = frame(3, 2, 1000, 2);
    a.send(&spoofed).unwrap();
    let (dropped, bytes) = next(&mut reader);
    assert_eq!(dropped.end, End::Dropped(DropReason::SpoofedMac));
    assert_eq!(bytes, spoofed[VNET_HDR_LEN..][..60]);
    assert_eq!(dropped.original_len as usize, spoofed.len() - VNET_HDR_LEN);
    assert!(reader.read().is_none());
    // At one port, one way, by a filter: byte 20 from the end of the frame, far behind what was put aside.
    let selection = Selection::default();
    selection.set_port(PortId(3), true);
    let length = (routed(false).frame().len() - 20) as u32;
    let load = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let filter = [
        load(0x30, length),
        Instruction {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: 0xaa,
        },
        load(0x06, u32::MAX),
        load(0x06, 0),
    ];
    let filter = Program::new(&filter).unwrap();
    let (mut reader, tally) = begin(&node, selection, Some(filter), (u32::MAX, RING));
    for value in [0u8, 0xaa, 1] {
        let mut sent = routed(false).frame();
        sent[length as usize] = value;
        // The checksum of UDP over IPv4 may be left out.
        sent[40..42].fill(0);
        a.send(&with_vnet(&sent)).unwrap();
    }
    let (taken, bytes) = next(&mut reader);
    assert_eq!((taken.place, taken.way), (Place::Port(PortId(3)), Way::Out));
    assert_eq!(bytes[length as usize], 0xaa);
    assert!(reader.read().is_none());
    assert_eq!(tally.matched.load(Relaxed), 1);
    node.stop();
}

#[test]
fn what_does_not_fit_is_lost_by_the_capture_only_and_counted() {
    let (node, a, b) = Node::with_two_pods();
    let selection = Selection::default();
    selection.set_port(PortId(2), true);
    // Room for three: 48 and 342 bytes each.
    let (mut reader, tally) = begin(&node, selection, None, (u32::MAX, 1200));
    let frames = 50;
    let mut arrived = 0;
    let mut room = [0; 2000];
    for _ in 0..frames {
        a.send(&with_vnet(&routed(false).frame())).unwrap();
        eventually("it arrives", || b.recv(&mut room).is_ok());
        arrived += 1;
    }
    assert_eq!(arrived, frames);
    eventually("all were wanted", || tally.matched.load(Relaxed) == frames);
    assert_eq!(tally.lost.load(Relaxed), frames - 3);
    for _ in 0..3 {
        assert_eq!(next(&mut reader).0.lost, 0);
    }
    // The next one says how many were lost.
    a.send(&with_vnet(&routed(false).frame())).unwrap();
    assert_eq!(u64::from(next(&mut reader).0.lost), frames - 3);
    node.stop();
}

#[test]
fn to_a_peer_and_from_it_inner_and_outer() {
    for encap in [VXLAN, Encap::Udp] {
        let config = SocketConfig::new("127.0.0.1:0".parse().unwrap());
        let socket = UdpUnderlay::open(&config).unwrap();
        let address = address_of(&socket);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to_peer = peer.local_addr().unwrap();
        let socket = UnderlaySocket {
            socket,
            encap,
            v6: false,
            unfinished: false,
        };
        let mut node = Node::with_sockets(Polling::Interrupt, vec![vec![socket]]);
        node.publish_peer(encap, [address.ip(); 2], to_peer.port());
        let (one, a) = queue();
        node.attach(2, &one, 0, None);
        let (mut reader, _) = begin(&node, everywhere(), None, (u32::MAX, RING));
        node.workers[0].send(Command::Listen);
        let sent = kit::udp("10.77.1.2:1000", "10.77.2.3:53")
            .macs(pod(2).mac, kit::GATEWAY_MAC)
            .payload_len(100)
            .frame();
        a.send(&with_vnet(&sent)).unwrap();
        let mut room = [0; 2000];
        let len = peer.recv(&mut room).unwrap();
        let (came, bytes) = next(&mut reader);
        assert_eq!((came.end, bytes), (End::Sent(PeerId(0)), sent), "{encap}");
        let (inner, _) = next(&mut reader);
        assert_eq!(
            (inner.place, inner.way),
            (Place::Peer(PeerId(0)), Way::Out),
            "{encap}"
        );
        let (outer, bytes) = next(&mut reader);
        assert_eq!(
            (outer.place, outer.kind),
            (Place::Outer, Kind::Datagram),
            "{encap}"
        );
        // Ethernet, IPv4 and UDP in front of what the peer has received.
        assert_eq!(bytes[42..], room[..len], "{encap}");
        let parsed = ringway_packet::parse::parse(&bytes, bytes.len()).unwrap();
        assert_eq!(
            (parsed.dst_port, parsed.l4_off),
            (to_peer.port(), 34),
            "{encap}"
        );
        assert_eq!(
            usize::from(parsed.payload_off) + len,
            bytes.len(),
            "{encap}"
        );
        // From the peer: to a pod; with an address that is not the peer's; and what is no tunnel packet at all.
        let from_peer = |src: &str| {
            let build = kit::udp(src, "10.77.1.2:1000").macs(pod(1).mac, pod(1).mac);
            let frame = build.payload_len(100).frame();
            let mut message = vec![0; encap.header_len()];
            encap.write_header(&mut message);
            message.extend(match encap {
                Encap::Vxlan { .. } => &frame[..],
                Encap::Udp => &frame[14..],
            });
            (frame, message)
        };
        let (frame, message) = from_peer("10.77.9.9:53");
        peer.send_to(&message, address).unwrap();
        let (dropped, bytes) = next(&mut reader);
        assert!(
            matches!(dropped.end, End::Dropped(_)),
            "{encap}: {dropped:?}"
        );
        assert_eq!(dropped.place, Place::Peer(PeerId(0)), "{encap}");
        match encap {
            Encap::Vxlan { .. } => assert_eq!((dropped.kind, &bytes), (Kind::Frame, &frame)),
            Encap::Udp => {
                assert_eq!(dropped.kind, Kind::Packet);
                assert_eq!((&bytes[..12], &bytes[12..]), (&[0; 12][..], &frame[12..]));
            }
        }
        if encap == VXLAN {
            peer.send_to(b"no tunnel", address).unwrap();
            let (dropped, bytes) = next(&mut reader);
            assert_eq!(dropped.kind, Kind::Unopened, "{dropped:?}");
            assert_eq!(&bytes[12..], b"\x88\xb5no tunnel");
        }
        node.stop();
    }
}
