//! Messages as a socket gets them, opened and coalesced: what comes out, and every count.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::addr::from_ip;
use ringway_packet::kit::{self, Build};
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::{Gso, Offload};
use ringway_ports::pool::HEADROOM;
use ringway_switch::trace::Off;
use ringway_switch::{Counters, Ports, Verdict};
use ringway_tables::{NodeInfo, Path, Peer, PeerPaths, Port, PortId, PortKind, Snapshot as Tables};

use super::*;

const VXLAN: Encap = Encap::Vxlan { vni: 1 };
const VTEP1: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 0]);
const VTEP2: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 2, 0]);
const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 1, 0];
const FAR: [&str; 2] = ["10.77.2.2:1000", "[fd77:2::2]:1000"];
const NEAR: [&str; 2] = ["10.77.1.2:53", "[fd77:1::2]:53"];
/// Its pod has an MTU of 1,400.
const NARROW: [&str; 2] = ["10.77.1.3:53", "[fd77:1::3]:53"];

/// node1 with pods 2 and 3, and node2 as the peer.
fn tables(encap: Encap) -> Tables {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let cidrs = |node| [format!("10.77.{node}.0/24"), format!("fd77:{node}::/64")];
    let cidrs = |node: u8| cidrs(node).map(|cidr| cidr.parse().unwrap()).into();
    let mut tables = Tables::new(NodeInfo {
        cidrs: cidrs(1),
        gateway_mac: kit::GATEWAY_MAC,
        vtep_mac: VTEP1,
        vtep_mac6: VTEP1,
        vni: 1,
        ..NodeInfo::default()
    })
    .unwrap();
    for (n, mtu) in [(0, 1450), (2, 1450), (3, 1400)] {
        let pod = n > 0;
        let port = Port {
            kind: if pod { PortKind::Pod } else { PortKind::Node },
            mac: MacAddr([2, 0x52, 0x57, 0, 0, n + 1]),
            ip4: pod.then(|| 0x0a4d_0100 + u32::from(n)),
            ip6: pod.then(|| from_ip(ip(&format!("fd77:1::{n}")))),
            mtu,
            name: format!("{n}").into(),
        };
        tables.add_port(PortId(n.into()), port).unwrap();
    }
    let (src, dst) = (ip("192.168.77.1"), ip("192.168.77.2"));
    let spec = OuterSpec {
        src_mac: VTEP1,
        dst_mac: VTEP2,
        src,
        dst,
        encap,
        transport: TransportSpec::usual(encap, UdpChecksum::Zero),
        ttl: 64,
        dont_fragment: true,
    };
    let path = Path {
        peer: PeerId(0),
        encap,
        src,
        dst,
        src_mac: VTEP1,
        dst_mac: VTEP2,
        mtu: 1450,
        outer: OuterHeader::new(&spec).unwrap(),
    };
    let peer = Peer {
        name: "node2".into(),
        addresses: [dst].into(),
        cidrs: cidrs(2),
    };
    let paths = PeerPaths {
        v4: Some(path.clone()),
        v6: Some(path),
    };
    tables.add_peer(peer, paths).unwrap();
    tables
}

/// A frame as a port gets it, and from which port's number it is.
#[derive(Clone, Debug, PartialEq)]
struct Out {
    bytes: Vec<u8>,
    offload: Offload,
    packets: u16,
}

struct Stage {
    encap: Encap,
    uso: bool,
    unfinished: bool,
    counters: Arc<Counters>,
}

impl Stage {
    fn new(encap: Encap) -> Stage {
        Stage {
            encap,
            uso: true,
            unfinished: true,
            counters: Arc::default(),
        }
    }

    /// Opens messages, each with the size that the socket named, and delivers what comes out.
    fn open(&self, messages: &[(Vec<u8>, usize)]) -> Vec<Out> {
        let tables = tables(self.encap);
        let mut pipeline = Pipeline::new(self.counters.clone(), Ports::default());
        let mut pool = Pool::heap(64, 70_000);
        let mut batch = Batch::new();
        let mut opener = Opener::new();
        for (bytes, segment) in messages {
            let buf = pool.alloc().unwrap();
            pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
            opener.received.datagrams.push(Datagrams {
                buf: buf.id(),
                start: HEADROOM as u32,
                len: bytes.len() as u32,
                segment: *segment as u32,
                source: from_ip("192.168.77.2".parse().unwrap()),
                source_port: 50_000,
                tos: 0,
            });
            opener.received.buffers.push(buf);
        }
        let kind = Kind {
            encap: self.encap,
            uso: self.uso,
            unfinished: self.unfinished,
        };
        opener.open(&tables, &pipeline, &mut pool, kind);
        let mut out = Vec::new();
        // All are taken before the first goes on: none may be written over by the next.
        let opened: Vec<_> = (0..opener.len())
            .filter_map(|i| opener.take(i, &tables, &mut pool, &mut batch))
            .collect();
        for opened in opened {
            let mut packet = packet_of(&mut pool, &opened.frame);
            let (peer, encap) = (opened.peer, opened.encap);
            let verdict = pipeline.from_peer(
                &tables,
                peer,
                encap,
                opened.tos,
                &mut packet,
                opened.parsed,
                0,
                &mut Off,
            );
            let frame = frame_of(&packet, &opened.frame);
            pipeline.outbox().clear();
            if matches!(verdict, Verdict::Deliver(_)) {
                let slice = |buf, off, len| pool.slice(buf, off, len).unwrap().to_vec();
                let mut bytes = slice(frame.buf, frame.start, frame.linear);
                for tail in batch.tail(&frame) {
                    bytes.extend(slice(tail.buf, tail.off, tail.len));
                }
                out.push(Out {
                    bytes,
                    offload: frame.offload,
                    packets: frame.packets,
                });
            }
        }
        assert_eq!(self.counters.balance(), (0, 0));
        out
    }

    /// Packets received, delivered, and dropped by reason.
    fn counted(&self) -> (u64, u64, Vec<(&'static str, u64)>) {
        let c = &self.counters;
        let drops = DropReason::ALL.iter();
        let drops = drops.map(|r| (r.name(), c.drops[r.index()].get()));
        (
            c.received.packets.get(),
            c.delivered.packets.get(),
            drops.filter(|(_, n)| *n > 0).collect(),
        )
    }

    fn message(&self, frame: &[u8]) -> Vec<u8> {
        match self.encap {
            Encap::Udp => frame[14..].to_vec(),
            _ => [&HEADER, frame].concat(),
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn udp(v6: bool, len: usize) -> Build {
    let v6 = usize::from(v6);
    let build = kit::udp(FAR[v6], NEAR[v6]).macs(VTEP2, VTEP1);
    build.payload(&pattern(len))
}

fn tcp(v6: bool, to: [&str; 2], len: usize) -> Build {
    let v6 = usize::from(v6);
    let build = kit::tcp(FAR[v6], to[v6]).macs(VTEP2, VTEP1);
    build.payload(&pattern(len))
}

/// A frame as the pod gets it: a hop later, its MACs set.
fn delivered(mut frame: Vec<u8>, host: u8) -> Vec<u8> {
    frame[..6].copy_from_slice(&[2, 0x52, 0x57, 0, 0, host + 1]);
    frame[6..12].copy_from_slice(&kit::GATEWAY_MAC.0);
    if frame[12] == 8 {
        frame[22] -= 1;
        kit::fix_ipv4(&mut frame, 14);
    } else {
        frame[21] -= 1;
    }
    frame
}

const BOTH: [bool; 2] = [false, true];

#[test]
fn an_inner_udp_superpacket_stays_one() {
    for encap in [VXLAN, Encap::Udp] {
        for v6 in BOTH {
            // With its checksum unfinished, as a veth brings it, and finished.
            let (sent, offload) = udp(v6, 450).offloaded(Some(200));
            for frame in [sent.clone(), udp(v6, 450).frame()] {
                let stage = Stage::new(encap);
                let out = stage.open(&[(stage.message(&frame), 200)]);
                let expected = Out {
                    bytes: delivered(sent.clone(), 2),
                    offload,
                    packets: 3,
                };
                assert_eq!(out, [expected], "{encap} {v6}");
                assert_eq!(stage.counted(), (3, 3, vec![]));
            }
        }
    }
}

/// What an inner payload holds at the place of a second datagram is no datagram.
#[test]
fn no_frame_out_of_a_payload() {
    for v6 in BOTH {
        for encap in [VXLAN, Encap::Udp] {
            let stage = Stage::new(encap);
            let from = ["10.77.2.99:7", "[fd77:2::99]:7"][usize::from(v6)];
            let forged = kit::udp(from, NEAR[usize::from(v6)]).macs(VTEP2, VTEP1);
            let forged = stage.message(&forged.payload(b"forged").frame());
            let headers = stage.message(&udp(v6, 0).frame()).len();
            let mut payload = vec![b'A'; 200 - headers];
            payload.extend(&forged);
            payload.resize(400 - headers, 0);
            payload.extend([b'B'; 100]);
            let (sent, offload) = udp(v6, 0).payload(&payload).offloaded(Some(200));
            let out = stage.open(&[(stage.message(&sent), 200)]);
            assert_eq!(out.len(), 1, "{encap} {v6}: one superframe");
            assert_eq!(out[0].offload, offload);
            let size = payload.len().div_ceil(200) as u64;
            assert_eq!(stage.counted(), (size, size, vec![]));
        }
    }
}

#[test]
fn a_length_that_is_not_the_message_s_is_one_drop() {
    for (v6, reason) in [(false, "malformed_ipv4"), (true, "malformed_ipv6")] {
        let whole = udp(v6, 450).frame();
        let longer = [&whole[..], &[0; 100]].concat();
        let shorter = whole[..whole.len() - 1].to_vec();
        for frame in [longer, shorter] {
            let stage = Stage::new(VXLAN);
            assert_eq!(stage.open(&[(stage.message(&frame), 200)]), []);
            assert_eq!(stage.counted(), (1, 0, vec![(reason, 1)]));
        }
        let stage = Stage::new(VXLAN);
        let bad = udp(v6, 450).bad_checksum().frame();
        assert_eq!(stage.open(&[(stage.message(&bad), 200)]), []);
        assert_eq!(stage.counted(), (1, 0, vec![("bad_offload", 1)]));
    }
    // Whose size cannot be told is not cut, and refused for what it is.
    let stage = Stage::new(VXLAN);
    let arp = kit::arp_request("10.77.2.2", "10.77.1.2");
    let message = [&HEADER[..], &arp, &[0; 500]].concat();
    assert_eq!(stage.open(&[(message, 200)]), []);
    assert_eq!(stage.counted(), (1, 0, vec![("not_forwarded_inner", 1)]));
}

/// An observer, a queue or a batch that is carried out later may still have the frame before.
#[test]
fn no_frame_is_written_over_by_the_one_behind_it() {
    for encap in [VXLAN, Encap::Udp] {
        for v6 in BOTH {
            // Short ones, long ones, and a run of one flow between others.
            for len in [20, 300, 1300] {
                let stage = Stage::new(encap);
                let frames = [2, 3, 4, 4, 4, 5].map(|host| {
                    let ports = [format!("10.77.2.{host}:9"), format!("[fd77:2::{host}]:9")];
                    let build = kit::udp(&*ports[usize::from(v6)], NEAR[usize::from(v6)]);
                    let build = build.macs(VTEP2, VTEP1).dont_fragment();
                    build.payload(&pattern(len)).frame()
                });
                let message: Vec<u8> = frames.iter().flat_map(|f| stage.message(f)).collect();
                let size = message.len() / frames.len();
                let out = stage.open(&[(message, size)]);
                let packets: Vec<_> = out.iter().map(|out| out.packets).collect();
                assert_eq!(packets, [1, 1, 3, 1], "{encap} {v6} {len}");
                for (out, sent) in out.iter().zip([0, 1, 2, 5]) {
                    let mut expected = delivered(frames[sent].clone(), 2);
                    let headers = expected.len() - len;
                    assert!(out.bytes[headers..] == pattern(len).repeat(out.packets.into()));
                    if out.packets == 1 {
                        assert!(out.bytes == expected, "{encap} {v6} {len}");
                    } else {
                        expected.truncate(12);
                        assert!(out.bytes.starts_with(&expected), "{encap} {v6} {len}");
                    }
                }
                assert_eq!(stage.counted(), (6, 6, vec![]));
            }
        }
    }
}

#[test]
fn datagrams_of_one_size_are_opened_each_for_itself() {
    for v6 in BOTH {
        let stage = Stage::new(VXLAN);
        let frames = [(4, 100), (5, 100), (6, 9)].map(|(host, len)| {
            let ports = [format!("10.77.2.{host}:9"), format!("[fd77:2::{host}]:9")];
            let build = kit::udp(&*ports[usize::from(v6)], NEAR[usize::from(v6)]);
            build.macs(VTEP2, VTEP1).payload(&pattern(len)).frame()
        });
        let message: Vec<u8> = frames.iter().flat_map(|f| stage.message(f)).collect();
        let size = frames[0].len() + 8;
        // The second says that it is longer than it is: the others are not harmed.
        let mut liar = message.clone();
        let at = size + 8 + if v6 { 18 } else { 16 };
        liar[at..at + 2].copy_from_slice(&400u16.to_be_bytes());
        if !v6 {
            kit::fix_ipv4(&mut liar, size + 22);
        }
        let out = stage.open(&[(message, size)]);
        let bytes: Vec<Vec<u8>> = out.into_iter().map(|out| out.bytes).collect();
        assert_eq!(bytes, frames.clone().map(|frame| delivered(frame, 2)));
        assert_eq!(stage.counted(), (3, 3, vec![]));
        let stage = Stage::new(VXLAN);
        let reason = if v6 {
            "malformed_ipv6"
        } else {
            "malformed_ipv4"
        };
        assert_eq!(stage.open(&[(liar, size)]).len(), 2);
        assert_eq!(stage.counted(), (3, 2, vec![(reason, 1)]));
    }
}

#[test]
fn tcp_above_the_mtu_gets_a_size_that_fits() {
    for encap in [VXLAN, Encap::Udp] {
        for (v6, kind, headers) in [(false, Gso::Tcp4, 40), (true, Gso::Tcp6, 60)] {
            for (to, host, mtu) in [(NEAR, 2, 1450), (NARROW, 3, 1400)] {
                let fits = mtu - headers;
                let build = tcp(v6, to, 4000);
                let (sent, offload) = build.offloaded(Some(fits));
                assert_eq!(offload.gso, kind);
                for frame in [sent.clone(), build.frame()] {
                    let stage = Stage::new(encap);
                    let message = stage.message(&frame);
                    let len = message.len();
                    let out = stage.open(&[(message, len)]);
                    let expected = Out {
                        bytes: delivered(sent.clone(), host),
                        offload,
                        packets: 3,
                    };
                    assert_eq!(out, [expected]);
                    assert_eq!(stage.counted(), (3, 3, vec![]));
                }
            }
        }
    }
}

#[test]
fn tcp_that_fits_or_cannot_be_cut_goes_on_as_it_is() {
    for v6 in BOTH {
        let headers = if v6 { 60 } else { 40 };
        // As large as the pod's MTU, above that of its neighbour.
        let fits = tcp(v6, NEAR, 1450 - headers).frame();
        let wrong = tcp(v6, NEAR, 4000).bad_checksum().frame();
        for frame in [fits, wrong] {
            let stage = Stage::new(VXLAN);
            let message = stage.message(&frame);
            let len = message.len();
            let out = stage.open(&[(message, len)]);
            assert_eq!((out.len(), out[0].packets), (1, 1));
            assert_eq!(out[0].offload.gso, Gso::None);
            assert_eq!(out[0].bytes, delivered(frame, 2));
            assert_eq!(stage.counted(), (1, 1, vec![]));
        }
    }
}

/// Where a TAP takes no UDP superframes.
#[test]
fn without_such_offload_a_udp_superpacket_is_cut() {
    for encap in [VXLAN, Encap::Udp] {
        for v6 in BOTH {
            let stage = Stage {
                uso: false,
                ..Stage::new(encap)
            };
            let (sent, _) = udp(v6, 450).id(7).offloaded(Some(200));
            let next = udp(v6, 33).id(99).frame();
            let len = stage.message(&next).len();
            let out = stage.open(&[(stage.message(&sent), 200), (stage.message(&next), len)]);
            let payload = pattern(450);
            let pieces = payload.chunks(200).zip(7u16..);
            let mut expected: Vec<Vec<u8>> = pieces
                .map(|(piece, id)| delivered(udp(v6, 0).id(id).payload(piece).frame(), 2))
                .collect();
            expected.push(delivered(next, 2));
            let bytes: Vec<Vec<u8>> = out.iter().map(|out| out.bytes.clone()).collect();
            assert_eq!(bytes, expected, "{encap} {v6}");
            assert!(out.iter().all(|out| out.offload.gso == Gso::None));
            assert_eq!(stage.counted(), (4, 4, vec![]));
        }
    }
}

#[test]
fn nothing_of_its_flow_overtakes_a_superframe() {
    for v6 in BOTH {
        let stage = Stage::new(VXLAN);
        let small = |len| udp(v6, len).frame();
        let (large, _) = udp(v6, 450).offloaded(Some(200));
        let messages = [(small(20), 0), (large, 200), (small(20), 0)].map(|(frame, size)| {
            let message = stage.message(&frame);
            let len = message.len();
            (message, if size == 0 { len } else { size })
        });
        let packets: Vec<u16> = stage.open(&messages).iter().map(|o| o.packets).collect();
        assert_eq!(packets, [1, 3, 1]);
        assert_eq!(stage.counted(), (5, 5, vec![]));
    }
}

#[test]
fn a_priority_tag_hides_no_superpacket() {
    for v6 in BOTH {
        let stage = Stage::new(VXLAN);
        let (sent, offload) = udp(v6, 450).offloaded(Some(200));
        let tagged = udp(v6, 450).vlan(0).offloaded(Some(200)).0;
        let out = stage.open(&[(stage.message(&tagged), 200)]);
        let expected = Out {
            bytes: delivered(sent, 2),
            offload,
            packets: 3,
        };
        assert_eq!(out, [expected]);
        assert_eq!(stage.counted(), (3, 3, vec![]));
        let stage = Stage::new(VXLAN);
        let vlan = udp(v6, 450).vlan(7).offloaded(Some(200)).0;
        assert_eq!(stage.open(&[(stage.message(&vlan), 200)]), []);
        assert_eq!(stage.counted(), (1, 0, vec![("vlan_tagged", 1)]));
    }
}
