//! Any frames, from any side, on several tables: each gets exactly one verdict; what is forwarded
//! is what came in, from whom it says it is; what is tunnelled comes out of the tunnel as it went in.
//!
//! Input: variant of the tables, then frames: side (port, outer frame, or a datagram of a peer's),
//! flags (1: repair checksums, 2: part of the payload lies elsewhere, 4: offload metadata; the two
//! highest bits: outer ECN), the length elsewhere (2) and a virtio-net header (10) if flagged, the
//! frame with its length in front.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::{TransportSpec, pop_outer, verify_checksum};
use ringway_packet::addr::{from_ip, unmap};
use ringway_packet::checksum;
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_packet::parse::{L3, Parsed, parse};
use ringway_switch::trace::{Off, Recorder, Sink};
use ringway_switch::{
    Arrivals, Counters, Message, OUTER_HEADROOM, Options, Out, OuterFrame, Packet, Pipeline,
    Tunnel, UdpPorts, Verdict, encapsulate,
};
use ringway_tables::{Cidr, PeerId, PortId, PortKind, Snapshot};

use crate::input::Input;
use crate::{fragment, repair, world};

/// Frames of one input.
const MAX_FRAMES: usize = 8;
/// Nanoseconds between two frames.
const STEP: u64 = 1_000_000;

thread_local! {
    static TABLES: OnceCell<Vec<Snapshot>> = const { OnceCell::new() };
    // 3,000 ports and peers of counters are too many to make for every input.
    static COUNTERS: [Arc<Counters>; 2] = Default::default();
    static ARRIVALS: RefCell<Arrivals<usize>> = RefCell::default();
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let variant = usize::from(input.u8() % world::VARIANTS);
    TABLES.with(|tables| {
        let tables = tables.get_or_init(|| (0..world::VARIANTS).map(world::snapshot).collect());
        let [counters, again] = COUNTERS.with(Clone::clone);
        let mut plain = Pipeline::new(counters, UdpPorts::default());
        let mut traced = Pipeline::new(again, UdpPorts::default());
        for i in 1..=MAX_FRAMES {
            if input.is_empty() {
                break;
            }
            frame(
                &tables[variant],
                &mut plain,
                &mut traced,
                &mut input,
                i as u64 * STEP,
            );
        }
    });
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Port(PortId),
    /// In its outer headers.
    Frame,
    /// Behind a tunnel header, from this node, with the outer TOS octet.
    Datagram(u8, Encap, u8),
}

fn entry(side: u8, tos: u8) -> Entry {
    match side % 10 {
        side @ 0..4 => Entry::Port(PortId(side.into())),
        4 | 5 => Entry::Frame,
        6 => Entry::Datagram(2, Encap::Vxlan { vni: world::VNI }, tos),
        7 => Entry::Datagram(2, Encap::Udp, tos),
        8 => Entry::Datagram(3, Encap::Vxlan { vni: world::VNI }, tos),
        _ => Entry::Datagram(3, Encap::Udp, tos),
    }
}

/// A frame in a buffer of its own.
#[derive(Clone)]
struct Given {
    buf: Vec<u8>,
    start: usize,
    linear: usize,
    len: usize,
    offload: Offload,
}

impl Given {
    fn packet(&mut self) -> Packet<'_> {
        Packet {
            buf: &mut self.buf,
            start: self.start,
            linear: self.linear,
            len: self.len,
            packets: 1,
            offload: self.offload,
        }
    }
}

fn frame(
    tables: &Snapshot,
    plain: &mut Pipeline,
    traced: &mut Pipeline,
    input: &mut Input<'_>,
    now: u64,
) {
    let (side, flags) = (input.u8(), input.u8());
    let entry = entry(side, flags >> 6);
    let elsewhere = if flags & 2 != 0 {
        usize::from(input.u16())
    } else {
        0
    };
    let header = if flags & 4 != 0 {
        input.bytes()
    } else {
        [0; 10]
    };
    let mut bytes = input.frame().to_vec();
    if flags & 1 != 0 {
        repair::checksums(&mut bytes);
    }
    let len = bytes.len() + elsewhere;
    let Ok(offload) = Offload::read(&header, len) else {
        return;
    };
    let given = Given {
        buf: [&[0; OUTER_HEADROOM][..], &bytes].concat(),
        start: OUTER_HEADROOM,
        linear: bytes.len(),
        len,
        offload,
    };

    // The same frame with and without a recording sink has the same fate.
    let (mut first, mut second) = (given.clone(), given);
    let mut recorder = Recorder::default();
    let verdict = enter(plain, tables, entry, &mut first, now, &mut Off);
    let again = enter(traced, tables, entry, &mut second, now, &mut recorder);
    assert_eq!(verdict, again, "{:?}", recorder.0);
    let mut first = first.packet();
    assert_eq!(first.head(), second.packet().head());
    let own: Vec<(Out, Vec<u8>)> = plain
        .outbox()
        .frames()
        .map(|(o, f)| (o, f.to_vec()))
        .collect();
    assert!(
        own.iter()
            .map(|(o, f)| (*o, &f[..]))
            .eq(traced.outbox().frames())
    );
    plain.outbox().clear();
    traced.outbox().clear();

    assert_eq!(
        plain.counters().balance(),
        (0, 0),
        "received = sum of verdicts"
    );
    for (out, frame) in &own {
        originated(tables, *out, frame);
    }
    let whole = elsewhere == 0 && offload.gso == Gso::None;
    // A tunnel has no way to say that a checksum is still to be done.
    let completed = matches!(offload.checksum, Checksum::Partial { .. });
    match verdict {
        Verdict::Deliver(port) => {
            assert!(tables.port(port).is_some(), "{port:?}");
            let after = forwarded(tables, entry, &bytes, &first, whole, false);
            let of_peer = matches!(entry, Entry::Datagram(..) | Entry::Frame);
            let (src, _) = after.addresses().expect("only IP goes on");
            if of_peer && tables.sources.get(src).is_some() {
                assert_eq!(
                    port,
                    PortId::NODE,
                    "a peer's node speaks to the node's stack"
                );
            }
        }
        Verdict::Tunnel(tunnel) => {
            let after = forwarded(tables, entry, &bytes, &first, whole, completed);
            let mtu = tables.path(tunnel.path).expect("a path").mtu;
            if offload.gso == Gso::None {
                assert!(after.ip_len <= u32::from(mtu), "{} for {mtu}", after.ip_len);
            }
            if whole {
                tunnelled(tables, &tunnel, &mut first);
            }
        }
        Verdict::Fragment(tunnel) => {
            let after = forwarded(tables, entry, &bytes, &first, whole, completed);
            assert!(after.l3 == L3::Ipv4 && !after.dont_fragment);
            let mtu = tables.path(tunnel.path).expect("a path").mtu;
            if whole {
                fragment::check(
                    &first.head()[usize::from(after.l3_off)..after.ip_end()],
                    mtu.into(),
                );
            }
        }
        Verdict::Answered => assert!(!own.is_empty(), "answered with nothing"),
        Verdict::Ignore(_) => assert!(own.is_empty(), "ignored, and answered"),
        Verdict::Drop(_) => {}
    }
}

/// By the entry that a worker would use. What it leaves of the frame is in `given`.
fn enter<S: Sink>(
    pipeline: &mut Pipeline,
    tables: &Snapshot,
    entry: Entry,
    given: &mut Given,
    now: u64,
    sink: &mut S,
) -> Verdict {
    if let Entry::Port(port) = entry {
        let mut packet = given.packet();
        let verdict = pipeline.from_port(tables, port, &mut packet, now, sink);
        let (start, linear, len) = (packet.start, packet.linear, packet.len);
        let offload = packet.offload;
        (given.start, given.linear, given.len) = (start, linear, len);
        given.offload = offload;
        return verdict;
    }
    let options = Options {
        unfinished: false,
        udp_superframes: true,
        coalesce: true,
    };
    // Nothing of them lies elsewhere.
    let (mut start, mut len) = (given.start, given.linear);
    let mut buffers = vec![std::mem::take(&mut given.buf)];
    ARRIVALS.with_borrow_mut(|arrivals| {
        if let Entry::Datagram(node, encap, tos) = entry {
            start -= encap.header_len();
            len += encap.header_len();
            encap.write_header(&mut buffers[0][start..]);
            let message = Message {
                buf: 0,
                start: start as u32,
                len: len as u32,
                segment: len as u32,
                source: from_ip(world::outer4(node)),
                tos,
                encap,
                congested: false,
            };
            pipeline.from_datagrams(tables, arrivals, &mut buffers, options, [message]);
        } else {
            let frame = OuterFrame {
                buf: 0,
                start: start as u32,
                len: len as u32,
            };
            pipeline.from_frames(tables, arrivals, &mut buffers, options, [frame]);
        }
        let arrival = pipeline.next(tables, arrivals, &mut buffers, now, sink);
        let arrival = arrival.expect("a verdict on one datagram");
        assert!(arrivals.tail().is_empty());
        *given = Given {
            // Before what it covers is put back.
            buf: buffers[0].clone(),
            start: arrival.start as usize,
            linear: arrival.linear as usize,
            len: arrival.len as usize,
            offload: arrival.offload,
        };
        let more = pipeline.next(tables, arrivals, &mut buffers, now, sink);
        assert!(more.is_none(), "two verdicts");
        arrival.verdict
    })
}

/// A frame that goes on is well-formed, unspoofed, and carries what it carried. `completed`: its L4
/// checksum was to be done, and has been.
fn forwarded(
    tables: &Snapshot,
    entry: Entry,
    before: &[u8],
    packet: &Packet<'_>,
    whole: bool,
    completed: bool,
) -> Parsed {
    let head = packet.head();
    let after = parse(head, packet.len).expect("what goes on is well-formed");
    let (src, _) = after.addresses().expect("only IP goes on");
    let v4 = after.l3 == L3::Ipv4;
    let vlans =
        (0..usize::from(after.vlan_tags)).map(|tag| head[15 + 4 * tag] | head[14 + 4 * tag] & 15);
    assert!(vlans.sum::<u8>() == 0, "a VLAN");
    match entry {
        Entry::Port(id) => {
            assert!(
                after.vlan_tags == 0 || before[..6] != tables.node.gateway_mac.0,
                "routed with tags"
            );
            let port = tables.port(id).expect("its port is known");
            if port.kind == PortKind::Pod {
                assert_eq!(before[6..12], port.mac.0, "source MAC");
                let own = if v4 {
                    unmap(src) == port.ip4
                } else {
                    Some(src) == port.ip6
                };
                assert!(own || !v4 && src >> 118 == 0xfe80 >> 6, "source {src:#x}");
            }
            if whole {
                let p = parse(before, before.len()).expect("it is good after");
                let same = repair::l4_is_right(before, &p) == repair::l4_is_right(head, &after);
                assert!(same || completed, "L4 checksum");
                assert_eq!(p.ip_len, after.ip_len);
                assert!(after.ttl == p.ttl || after.ttl + 1 == p.ttl);
            }
        }
        Entry::Datagram(..) | Entry::Frame => {
            assert_eq!(after.vlan_tags, 0);
            let peers = (0..2).filter_map(|i| tables.peer(PeerId(i)));
            let claims = peers.filter(|peer| {
                let pod = |cidr: &Cidr| cidr.is_ipv6() != v4 && cidr.contains(src);
                let node = |ip: &IpAddr| ip.is_ipv4() == v4 && from_ip(*ip) == src;
                peer.cidrs.iter().any(pod) || peer.addresses.iter().any(node)
            });
            assert_eq!(claims.count(), 1, "source {src:#x} is a peer's own");
        }
    }
    after
}

/// Push then pop is the identity.
fn tunnelled(tables: &Snapshot, tunnel: &Tunnel, packet: &mut Packet<'_>) {
    let path = tables.path(tunnel.path).expect("a path");
    let mut header = vec![0; path.encap.header_len()];
    path.encap.write_header(&mut header);
    let inner = &packet.head()[path.encap.carries().left_behind()..];
    let carried = [&header[..], inner].concat();
    encapsulate(path, tunnel, packet, 50_000, 0).expect("there is headroom");
    let outer = pop_outer(packet.head(), packet.len).expect("an outer frame");
    let payload = &packet.head()[outer.payload_off..][..outer.payload_len];
    assert_eq!(payload, carried);
    assert_eq!(
        (outer.src, outer.dst),
        (from_ip(path.src), from_ip(path.dst))
    );
    let TransportSpec::Udp { dst_port, .. } = path.outer.transport();
    assert_eq!((outer.dst_port, outer.tos), (dst_port, tunnel.tos));
    assert_eq!(outer.src_port, 50_000);
    verify_checksum(&outer, checksum::sum(payload)).expect("its checksum");
}

/// What the switch makes itself is well-formed and goes somewhere.
fn originated(tables: &Snapshot, out: Out, frame: &[u8]) {
    let p = parse(frame, frame.len()).expect("a good frame");
    assert!(repair::l4_is_right(frame, &p), "checksum of {frame:02x?}");
    match out {
        Out::Port(port) => assert!(tables.port(port).is_some()),
        Out::Tunnel(tunnel) => {
            let mut buf = [&[0; OUTER_HEADROOM][..], frame].concat();
            let mut packet = Packet::linear(&mut buf, OUTER_HEADROOM, frame.len());
            assert!(p.ip_len <= u32::from(tables.path(tunnel.path).expect("a path").mtu));
            tunnelled(tables, &tunnel, &mut packet);
        }
    }
}
