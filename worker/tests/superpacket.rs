//! A UDP superpacket of a peer that is cut into segments, to a pod with a bandwidth limit. No root.
//!
//! The headers of a segment are written over the end of the payload before it, and the buffer is used again when
//! the visit is over. Neither may show in what a pod gets later, or in what an observer sees.
//!
//! ```text
//!   peer ──UDP_SEGMENT on loopback──▶ worker ─┬▶ observer
//!                                             └▶ two segments at once, the others by the limit's queue ──▶ pod 3
//! ```

mod node;

use std::net::UdpSocket;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use ringway_encap::Encap;
use ringway_packet::kit;
use ringway_packet::kit::Build;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_switch::Verdict;
use ringway_tables::PortId;
use ringway_worker::{Command, Observed, Observer, ObserverId, Outer, Polling, UnderlaySocket};

use node::*;

const SEGMENT: usize = 1000;
/// Of a superpacket: four segments, and an odd one.
const PAYLOAD: usize = 4 * SEGMENT + 300;
/// As many segments as a pod's end holds unread.
const SUPERPACKETS: usize = 2;

/// Tells the bytes of every frame that goes to pod 3.
struct Teller(Sender<Vec<u8>>);

impl Observer for Teller {
    fn verdict(&mut self, frame: &Observed<'_>) {
        assert_eq!(frame.verdict, Verdict::Deliver(PortId(3)));
        let _ = self.0.send(frame.pieces().collect::<Vec<_>>().concat());
    }

    fn outer(&mut self, _: &Outer<'_>) {}
}

/// From a pod of the peer to pod 3.
fn from_peer(v6: bool) -> Build {
    match v6 {
        false => kit::udp("10.77.2.2:1000", "10.77.1.3:53"),
        true => kit::udp("[fd77:2::2]:1000", "[fd77:1::3]:53"),
    }
}

/// No byte is as the one 1 to 250 bytes before it, nor as the one at its place in another superpacket.
fn payload(number: usize) -> Vec<u8> {
    (0..PAYLOAD).map(|i| (i % 251 + 7 * number) as u8).collect()
}

/// What pod 3 is to get of a superpacket.
fn segments(number: usize, v6: bool) -> Vec<Vec<u8>> {
    let pieces = payload(number);
    let segment = |(piece, id): (&[u8], u16)| {
        let to = from_peer(v6).macs(kit::GATEWAY_MAC, pod(3).mac).ttl(63);
        to.id(id).payload(piece).frame()
    };
    pieces.chunks(SEGMENT).zip(7..).map(segment).collect()
}

fn cut_for_a_limited_pod(encap: Encap, v6: bool) {
    let config = SocketConfig::new("127.0.0.1:0".parse().unwrap());
    let socket = UdpUnderlay::open(&config).unwrap();
    let address = address_of(&socket);
    let socket = UnderlaySocket {
        socket,
        encap,
        v6: false,
        // The sender leaves the inner checksum to a NIC, as a kernel does.
        unfinished: true,
    };
    let mut node = Node::with_sockets(Polling::Interrupt, vec![vec![socket]]);
    node.publish_peer(encap, [address.ip(); 2], address.port());
    let (queue, pod_end) = queue();
    node.publish(3);
    node.workers[0].send(Command::AddTap {
        port: PortId(3),
        queue,
        lane: None,
        read: true,
        uso: false,
        // 100 KB/s, and 2 KB at once.
        limits: Some(ingress(800_000, 16_000)),
    });
    let (to, seen) = unbounded();
    node.workers[0].send(Command::Observe(ObserverId(1), Box::new(Teller(to))));
    node.workers[0].send(Command::Listen);

    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&peer, UdpGsoSegment, &(SEGMENT as i32)).unwrap();
    for number in 0..SUPERPACKETS {
        let sent = from_peer(v6).macs(MacAddr([2; 6]), MacAddr::default());
        let (frame, _) = sent
            .id(7)
            .payload(&payload(number))
            .offloaded(Some(SEGMENT as u16));
        let mut message = vec![0; encap.header_len()];
        encap.write_header(&mut message);
        message.extend(match encap {
            Encap::Vxlan { .. } => &frame[..],
            Encap::Udp => &frame[14..],
        });
        peer.send_to(&message, address).unwrap();
    }

    let expected: Vec<_> = (0..SUPERPACKETS).flat_map(|n| segments(n, v6)).collect();
    let mut delivered = Vec::new();
    let mut buf = vec![0; 70_000];
    eventually("all segments arrive", || {
        while let Ok(len) = pod_end.recv(&mut buf) {
            delivered.push(buf[VNET_HDR_LEN..len].to_vec());
        }
        delivered.len() >= expected.len()
    });
    let what = format!("{encap}, IPv6: {v6}");
    assert!(delivered == expected, "delivered, {what}");
    let observed: Vec<_> = (0..expected.len())
        .map(|_| seen.recv_timeout(Duration::from_secs(5)).unwrap())
        .collect();
    assert!(observed == expected, "observed, {what}");
    let count = expected.len() as u64;
    let counted = [
        "received",
        "received packets",
        "delivered",
        "delivered packets",
    ];
    let counted = counted.map(|name| (name.to_owned(), count));
    assert_eq!(node.counted(), counted, "{what}");
    // All but two waited as copies, and two at most found tokens again.
    let waited = node.sum(|c| &c.copied_bytes) as usize;
    let all: usize = expected.iter().map(Vec::len).sum();
    assert!(waited > all / 2, "{waited} of {all} bytes waited, {what}");
    node.stop();
}

#[test]
fn segments_of_a_superpacket_that_wait_for_a_pod_keep_their_bytes() {
    for encap in [VXLAN, Encap::Udp] {
        for v6 in [false, true] {
            cut_for_a_limited_pod(encap, v6);
        }
    }
}
