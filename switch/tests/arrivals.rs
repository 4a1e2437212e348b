//! Messages as a socket gets them, opened, coalesced and brought to their verdicts: what comes out, and every
//! count.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::addr::from_ip;
use ringway_packet::kit::{self, Build};
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::{Gso, Offload};
use ringway_packet::parse::parse;
use ringway_switch::trace::Off;
use ringway_switch::{
    Arrivals, Counters, DropReason, Message, OUTER_HEADROOM, Options, Pipeline, UdpPorts, Verdict,
};
use ringway_tables::{
    NodeInfo, Path, Peer, PeerId, PeerPaths, Port, PortId, PortKind, Snapshot as Tables,
};

const VXLAN: Encap = Encap::Vxlan { vni: 1 };
const VTEP1: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 1, 0]);
const VTEP2: MacAddr = MacAddr([0x0a, 0x58, 10, 77, 2, 0]);
const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 1, 0];
const FAR: [&str; 2] = ["10.77.2.2:1000", "[fd77:2::2]:1000"];
const NEAR: [&str; 2] = ["10.77.1.2:53", "[fd77:1::2]:53"];
/// Its pod has an MTU of 1,400.
const NARROW: [&str; 2] = ["10.77.1.3:53", "[fd77:1::3]:53"];

/// node1 with pods 2 and 3, and as peers node2 and node3.
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
    tables.add_peer(peer, paths.clone()).unwrap();
    let other = Peer {
        name: "node3".into(),
        addresses: [ip("192.168.77.3")].into(),
        cidrs: cidrs(3),
    };
    tables.add_peer(other, paths).unwrap();
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
    options: Options,
    counters: Arc<Counters>,
}

impl Stage {
    fn new(encap: Encap) -> Stage {
        Stage {
            encap,
            options: Options {
                unfinished: true,
                udp_superframes: true,
                coalesce: true,
            },
            counters: Arc::default(),
        }
    }

    /// Opens messages, each with the size that the socket named, and delivers what comes out.
    fn open(&self, messages: &[(Vec<u8>, usize)]) -> Vec<Out> {
        let mut buffers = Vec::new();
        let mut described = Vec::new();
        for (bytes, segment) in messages {
            described.push(self.described(buffers.len(), bytes, *segment));
            buffers.push([&[0; OUTER_HEADROOM][..], bytes].concat());
        }
        self.arrive(&mut buffers, described)
    }

    /// From node2.
    fn described(&self, buf: usize, bytes: &[u8], segment: usize) -> Message<usize> {
        Message {
            buf,
            start: OUTER_HEADROOM as u32,
            len: bytes.len() as u32,
            segment: segment as u32,
            source: from_ip("192.168.77.2".parse().unwrap()),
            tos: 0,
            encap: self.encap,
            congested: false,
        }
    }

    /// Each of these a message of its own.
    fn open_each(&self, frames: &[Vec<u8>]) -> Vec<Out> {
        let messages = frames.iter().map(|frame| self.message(frame));
        let messages: Vec<_> = messages.map(|m| (m.clone(), m.len())).collect();
        self.open(&messages)
    }

    fn arrive(&self, buffers: &mut Vec<Vec<u8>>, messages: Vec<Message<usize>>) -> Vec<Out> {
        let tables = tables(self.encap);
        let mut pipeline = Pipeline::new(self.counters.clone(), UdpPorts::default());
        let mut arrivals = Arrivals::new();
        pipeline.from_datagrams(&tables, &mut arrivals, buffers, self.options, messages);
        let mut out = Vec::new();
        while let Some(arrival) = pipeline.next(&tables, &mut arrivals, buffers, 0, &mut Off) {
            pipeline.outbox().clear();
            if matches!(arrival.verdict, Verdict::Deliver(_)) {
                let slice =
                    |buf: usize, off, len| buffers[buf][off as usize..][..len as usize].to_vec();
                let mut bytes = slice(arrival.buf, arrival.start, arrival.linear);
                for run in arrivals.tail() {
                    bytes.extend(slice(run.buf, run.off, run.len));
                }
                assert_eq!(bytes.len(), arrival.len as usize);
                out.push(Out {
                    bytes,
                    offload: arrival.offload,
                    packets: arrival.packets as u16,
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
        let mut header = vec![0; self.encap.header_len()];
        self.encap.write_header(&mut header);
        let carried = &frame[self.encap.carries().left_behind()..];
        [&header[..], carried].concat()
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
            let mut stage = Stage::new(encap);
            stage.options.udp_superframes = false;
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

/// Segments of one flow, each of 100 bytes.
fn run(v6: bool, count: u32) -> Vec<Vec<u8>> {
    let segment = |i: u32| tcp(v6, NEAR, 0).seq(1 + 100 * i).id(i as u16);
    let payload = pattern(100 * count as usize);
    let pieces = payload.chunks(100).zip(0..);
    pieces.map(|(p, i)| segment(i).payload(p).frame()).collect()
}

/// In the buffers of the frames that joined, nothing is copied.
#[test]
fn a_run_becomes_one_superframe() {
    for encap in [VXLAN, Encap::Udp] {
        for v6 in BOTH {
            let stage = Stage::new(encap);
            let whole = tcp(v6, NEAR, 300).seq(1).id(0).offloaded(Some(100));
            let expected = Out {
                bytes: delivered(whole.0, 2),
                offload: whole.1,
                packets: 3,
            };
            assert_eq!(stage.open_each(&run(v6, 3)), [expected], "{encap} {v6}");
            assert_eq!(stage.counted(), (3, 3, vec![]));
            assert_eq!(stage.counters.delivered.frames.get(), 1);
        }
    }
}

/// Its receiver finds that out: nothing may make its checksum right.
#[test]
fn what_has_a_wrong_checksum_joins_nothing_and_arrives_as_it_was_sent() {
    for v6 in BOTH {
        for wrong in 0..3 {
            let mut frames = run(v6, 3);
            *frames[wrong].last_mut().unwrap() ^= 1;
            let stage = Stage::new(VXLAN);
            let mut bytes: Vec<Vec<u8>> = Vec::new();
            for out in stage.open_each(&frames) {
                let right = out.bytes != delivered(frames[wrong].clone(), 2);
                assert!(right || out.packets == 1, "{v6} {wrong}");
                bytes.push(out.bytes);
            }
            assert!(
                bytes.contains(&delivered(frames[wrong].clone(), 2)),
                "{v6} {wrong}"
            );
            assert_eq!(stage.counted(), (3, 3, vec![]));
        }
    }
}

#[test]
fn without_coalescing_each_frame_has_a_verdict_of_its_own() {
    for v6 in BOTH {
        let mut stage = Stage::new(VXLAN);
        stage.options.coalesce = false;
        let out = stage.open_each(&run(v6, 3));
        let expected: Vec<_> = run(v6, 3).into_iter().map(|f| delivered(f, 2)).collect();
        let bytes: Vec<_> = out.iter().map(|out| out.bytes.clone()).collect();
        assert_eq!(bytes, expected);
        assert!(
            out.iter()
                .all(|out| out.packets == 1 && out.offload == Offload::default())
        );
        assert_eq!(stage.counters.delivered.frames.get(), 3);
    }
}

/// node3 sends, under the address of a pod of node2, what would go on where node2's run ends.
#[test]
fn what_is_refused_does_not_hide_behind_what_is_not() {
    for v6 in BOTH {
        let stage = Stage::new(VXLAN);
        let frames: Vec<_> = run(v6, 3).iter().map(|f| stage.message(f)).collect();
        let mut buffers = Vec::new();
        let mut messages = Vec::new();
        for (i, bytes) in frames.iter().enumerate() {
            let mut message = stage.described(i, bytes, bytes.len());
            if i == 1 {
                message.source = from_ip("192.168.77.3".parse().unwrap());
            }
            messages.push(message);
            buffers.push([&[0; OUTER_HEADROOM][..], bytes].concat());
        }
        let out = stage.arrive(&mut buffers, messages);
        let packets: Vec<_> = out.iter().map(|out| out.packets).collect();
        assert_eq!(
            packets,
            [1, 1],
            "the third does not go on where the first ends"
        );
        assert_eq!(stage.counted(), (3, 2, vec![("foreign_inner_source", 1)]));
        assert_eq!(stage.counters.peer(PeerId(1)).rx.count.frames.get(), 1);
    }
}

/// Some of a run were marked by the underlay.
#[test]
fn a_congestion_mark_is_carried_before_anything_joins() {
    for v6 in BOTH {
        let stage = Stage::new(VXLAN);
        let frames: Vec<_> = (0..4)
            .map(|i| {
                let build = tcp(v6, NEAR, 100).tos(2).seq(1 + 100 * i).id(i as u16);
                stage.message(&build.frame())
            })
            .collect();
        let mut buffers = Vec::new();
        let mut messages = Vec::new();
        for (i, bytes) in frames.iter().enumerate() {
            let mut message = stage.described(i, bytes, bytes.len());
            message.tos = if i < 2 { 2 } else { 3 };
            messages.push(message);
            buffers.push([&[0; OUTER_HEADROOM][..], bytes].concat());
        }
        let out = stage.arrive(&mut buffers, messages);
        let seen: Vec<_> = out
            .iter()
            .map(|out| {
                let parsed = parse(&out.bytes, out.bytes.len()).unwrap();
                (out.packets, parsed.tos & 3)
            })
            .collect();
        assert_eq!(seen, [(2, 2), (2, 3)]);
        assert_eq!(stage.counted(), (4, 4, vec![]));
    }
}

/// Of what came as one message its first packet is marked, or dropped if it does not know ECN.
#[test]
fn what_stood_too_long_is_told_to_the_first_packets_flow() {
    for v6 in BOTH {
        for (ecn, told) in [(2, Some(3)), (1, Some(3)), (3, Some(3)), (0, None)] {
            let stage = Stage::new(VXLAN);
            let frame = |i: u32| {
                let build = tcp(v6, NEAR, 100).tos(ecn).seq(1 + 100 * i).id(i as u16);
                stage.message(&build.frame())
            };
            let message: Vec<u8> = (0..4).flat_map(frame).collect();
            let mut described = stage.described(0, &message, message.len() / 4);
            described.congested = true;
            let mut buffers = vec![[&[0; OUTER_HEADROOM][..], &message].concat()];
            let out = stage.arrive(&mut buffers, vec![described]);
            let marks = out.iter().flat_map(|out| {
                let parsed = parse(&out.bytes, out.bytes.len()).unwrap();
                vec![parsed.tos & 3; out.packets.into()]
            });
            let first = told.into_iter();
            let expected: Vec<u8> = first.chain([ecn; 3]).collect();
            assert_eq!(marks.collect::<Vec<_>>(), expected);
            let dropped = match told {
                Some(_) => vec![],
                None => vec![("aqm", 1)],
            };
            assert_eq!(stage.counted(), (4, expected.len() as u64, dropped));
        }
    }
}

/// A bare packet has no room for an Ethernet header but the end of the datagram before.
#[test]
fn what_an_ethernet_header_covers_is_put_back() {
    for v6 in BOTH {
        let stage = Stage::new(Encap::Udp);
        let datagrams = [4, 5].map(|host| {
            let ports = [format!("10.77.2.{host}:9"), format!("[fd77:2::{host}]:9")];
            let build = kit::udp(&*ports[usize::from(v6)], NEAR[usize::from(v6)]);
            build.macs(VTEP2, VTEP1).payload(&pattern(60)).frame()
        });
        let bytes: Vec<u8> = datagrams.iter().flat_map(|f| stage.message(f)).collect();
        let len = bytes.len() / 2;
        let message = stage.described(0, &bytes, len);
        let mut buffers = vec![[&[7; OUTER_HEADROOM][..], &bytes].concat()];
        let tables = tables(Encap::Udp);
        let mut pipeline = Pipeline::new(stage.counters.clone(), UdpPorts::default());
        let mut arrivals = Arrivals::new();
        pipeline.from_datagrams(
            &tables,
            &mut arrivals,
            &mut buffers,
            stage.options,
            [message],
        );
        for (i, datagram) in datagrams.iter().enumerate() {
            let arrival = pipeline.next(&tables, &mut arrivals, &mut buffers, 0, &mut Off);
            let at = arrival.unwrap().start as usize;
            assert_eq!(at, OUTER_HEADROOM + i * len - 14);
            assert_eq!(buffers[0][at..][..len + 14], delivered(datagram.clone(), 2));
            // Of the one before, only the header has changed.
            if i == 1 {
                let before = OUTER_HEADROOM + len - 14;
                assert_ne!(buffers[0][before..][..14], bytes[len - 14..len], "covered");
            }
        }
        assert!(
            pipeline
                .next(&tables, &mut arrivals, &mut buffers, 0, &mut Off)
                .is_none()
        );
        assert_eq!(buffers[0][OUTER_HEADROOM - 14..OUTER_HEADROOM], [7; 14]);
        let first = &buffers[0][OUTER_HEADROOM..][..len];
        assert_eq!(first[len - 60..], bytes[len - 60..len], "payload is whole");
    }
}
