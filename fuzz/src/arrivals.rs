//! Any messages of peers, in one batch: opening, coalescing and delivery as one. What is coalesced is, cut
//! again, what each frame would have become by itself, flow by flow in the same order; so is every count.
//!
//! Input: variant of the tables, flags (1: repair checksums, 2: no port takes UDP superframes, 4: a veth
//! brings them, 8: as whole outer frames), then messages: sender and encapsulation, outer TOS octet, the
//! number of its datagrams, each an inner frame with its length in front.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::addr::from_ip;
use ringway_packet::checksum;
use ringway_packet::flow::FlowKey;
use ringway_packet::gso::Segmenter;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::{Checksum, Gso, Offload, complete_checksum};
use ringway_packet::parse::{L3, parse};
use ringway_packet::proto;
use ringway_switch::trace::Off;
use ringway_switch::{
    Arrivals, Counters, DropReason, Message, OUTER_HEADROOM, Options, OuterFrame, Pipeline,
    UdpPorts, Verdict,
};
use ringway_tables::Snapshot;

use crate::input::Input;
use crate::{repair, world};

/// Messages of one input, and datagrams of a message.
const MAX_MESSAGES: usize = 16;
const MAX_DATAGRAMS: u8 = 8;

thread_local! {
    static TABLES: OnceCell<Vec<Snapshot>> = const { OnceCell::new() };
    // Large ones, made once.
    static SCRATCH: RefCell<(Arrivals<usize>, [Arc<Counters>; 2])> = RefCell::default();
}

/// Packets on the wire of each flow: port and bytes.
type Delivered = BTreeMap<(u128, u128, u16, u16, u8), Vec<(u32, Vec<u8>)>>;

/// A message, and whose it is.
struct Sent {
    node: u8,
    encap: Encap,
    tos: u8,
    segment: usize,
    bytes: Vec<u8>,
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let variant = usize::from(input.u8() % world::VARIANTS);
    let flags = input.u8();
    let mut messages = Vec::new();
    while messages.len() < MAX_MESSAGES && !input.is_empty() {
        messages.push(message(&mut input, flags & 1 != 0));
    }
    TABLES.with(|tables| {
        let tables = tables.get_or_init(|| (0..world::VARIANTS).map(world::snapshot).collect());
        SCRATCH.with_borrow_mut(|(arrivals, counters)| {
            let before = counters.each_ref().map(|counters| counts(counters));
            let [together, alone] = [(0, true), (1, false)].map(|(i, coalesce)| {
                let options = Options {
                    unfinished: flags & 4 != 0,
                    udp_superframes: flags & 2 == 0,
                    coalesce,
                };
                let mut pipeline = Pipeline::new(counters[i].clone(), UdpPorts::default());
                let frames = flags & 8 != 0;
                batch(
                    &tables[variant],
                    &mut pipeline,
                    arrivals,
                    options,
                    &messages,
                    frames,
                )
            });
            let after = counters.each_ref().map(|counters| counts(counters));
            let moved = |i: usize| {
                let both = after[i].iter().zip(&before[i]);
                both.map(|(after, before)| after - before)
                    .collect::<Vec<_>>()
            };
            assert_eq!(moved(0), moved(1), "in packets on the wire");
            assert_eq!(together, alone);
        });
    });
}

/// Received, delivered, and dropped for each reason: of packets, for those who drop superframes drop one.
fn counts(counters: &Counters) -> Vec<u64> {
    assert_eq!(counters.balance(), (0, 0), "received = sum of verdicts");
    let totals = [&counters.received, &counters.delivered, &counters.dropped];
    totals.iter().map(|pair| pair.packets.get()).collect()
}

fn message(input: &mut Input<'_>, repaired: bool) -> Sent {
    let (side, tos, count) = (input.u8(), input.u8(), input.u8() % MAX_DATAGRAMS + 1);
    let encap = match side & 1 {
        0 => Encap::Vxlan { vni: world::VNI },
        _ => Encap::Udp,
    };
    let mut bytes = Vec::new();
    let mut segment = 0;
    for i in 0..count {
        let mut frame = input.frame().to_vec();
        if repaired {
            repair::checksums(&mut frame);
        }
        let at = bytes.len();
        bytes.resize(at + encap.header_len(), 0);
        encap.write_header(&mut bytes[at..]);
        bytes.extend(frame.get(encap.carries().left_behind()..).unwrap_or(&[]));
        if i == 0 {
            segment = bytes.len();
        }
    }
    Sent {
        node: 2 + (side >> 1) % 3,
        encap,
        tos,
        segment,
        bytes,
    }
}

/// Takes a batch through the pipeline.
fn batch(
    tables: &Snapshot,
    pipeline: &mut Pipeline,
    arrivals: &mut Arrivals<usize>,
    options: Options,
    messages: &[Sent],
    frames: bool,
) -> Delivered {
    let mut buffers = Vec::new();
    if frames {
        for sent in messages {
            buffers.push([&[0; OUTER_HEADROOM][..], &outer_frame(sent)].concat());
        }
        let lengths: Vec<u32> = buffers
            .iter()
            .map(|b| (b.len() - OUTER_HEADROOM) as u32)
            .collect();
        let frames = lengths.iter().enumerate().map(|(buf, &len)| OuterFrame {
            buf,
            start: OUTER_HEADROOM as u32,
            len,
        });
        pipeline.from_frames(tables, arrivals, &mut buffers, options, frames);
    } else {
        for sent in messages {
            buffers.push([&[0; OUTER_HEADROOM][..], &sent.bytes].concat());
        }
        let messages = messages.iter().enumerate().map(|(buf, sent)| Message {
            buf,
            start: OUTER_HEADROOM as u32,
            len: sent.bytes.len() as u32,
            segment: sent.segment as u32,
            source: from_ip(world::outer4(sent.node)),
            tos: sent.tos,
            encap: sent.encap,
            congested: false,
        });
        pipeline.from_datagrams(tables, arrivals, &mut buffers, options, messages);
    }
    let mut delivered = Delivered::new();
    let mut now = 0;
    while let Some(arrival) = pipeline.next(tables, arrivals, &mut buffers, now, &mut Off) {
        now += 1_000_000;
        pipeline.outbox().clear();
        let port = match arrival.verdict {
            Verdict::Deliver(port) => port,
            Verdict::Drop(reason) => {
                assert_ne!(reason, DropReason::NoBuffer, "there was room");
                continue;
            }
            other => panic!("{other:?} of what a peer sent"),
        };
        let slice = |buf: usize, off: u32, len: u32| &buffers[buf][off as usize..][..len as usize];
        let mut frame = slice(arrival.buf, arrival.start, arrival.linear).to_vec();
        for run in arrivals.tail() {
            frame.extend(slice(run.buf, run.off, run.len));
        }
        assert_eq!(frame.len(), arrival.len as usize);
        let packets = on_the_wire(frame, &arrival.offload);
        assert_eq!(packets.len(), arrival.packets as usize);
        for packet in packets {
            let parsed = parse(&packet, packet.len()).expect("what goes on is well-formed");
            let (src, _) = parsed.addresses().expect("only IP goes on");
            assert!(tables.sources.get(src).is_some() || is_of_peer(tables, &parsed));
            let key = FlowKey::of(&parsed).expect("only IP goes on");
            let key = (key.src, key.dst, key.src_port, key.dst_port, key.proto);
            delivered
                .entry(key)
                .or_default()
                .push((port.0, comparable(packet)));
        }
    }
    delivered
}

fn is_of_peer(tables: &Snapshot, parsed: &ringway_packet::parse::Parsed) -> bool {
    let back = match parsed.l3 {
        L3::Ipv4 => tables.routes4.lookup(parsed.src4()),
        _ => tables.routes6.lookup(parsed.src6()),
    };
    matches!(back, Some(ringway_tables::Target::Path(_)))
}

/// The packets that a frame stands for, their checksums finished.
fn on_the_wire(mut frame: Vec<u8>, offload: &Offload) -> Vec<Vec<u8>> {
    if offload.gso == Gso::None {
        if let Checksum::Partial { start, offset } = offload.checksum {
            let parsed = parse(&frame, frame.len()).expect("well-formed");
            let end = parsed.ip_end();
            complete_checksum(&mut frame[..end], start, offset).expect("it lies in the packet");
        }
        return vec![frame];
    }
    let parsed = parse(&frame, frame.len()).expect("well-formed");
    let cut = Segmenter::new(&frame, &parsed, offload, frame.len()).expect("it can be cut");
    let segment = |i: usize| {
        let payload = &frame[cut.header_len()..][cut.payload(i)];
        let mut one = vec![0; cut.header_len()];
        cut.write_header(i, checksum::sum(payload), &mut one);
        one.extend_from_slice(payload);
        one
    };
    (0..cut.count()).map(segment).collect()
}

/// Without what coalescing may change: padding; identification of IPv4 with DF, which means nothing (RFC
/// 6864 section 4.1); and how a right checksum is written.
fn comparable(mut packet: Vec<u8>) -> Vec<u8> {
    let parsed = parse(&packet, packet.len()).expect("well-formed");
    packet.truncate(parsed.ip_end());
    if repair::l4_is_right(&packet, &parsed) {
        let field = match parsed.proto {
            proto::TCP => 16,
            proto::UDP => 6,
            _ => 0,
        };
        let at = usize::from(parsed.l4_off) + field;
        if field > 0 && !parsed.is_fragment() {
            packet[at..at + 2].fill(0);
        }
    }
    let l3 = usize::from(parsed.l3_off);
    if parsed.l3 == L3::Ipv4 {
        if parsed.dont_fragment && !parsed.is_fragment() {
            packet[l3 + 4..l3 + 6].fill(0);
        }
        packet[l3 + 10..l3 + 12].fill(0);
    }
    packet
}

/// A message as one frame of the wire.
fn outer_frame(sent: &Sent) -> Vec<u8> {
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x77, sent.node]),
        dst_mac: MacAddr([2, 0, 0, 0, 0x77, 1]),
        src: world::outer4(sent.node),
        dst: world::outer4(1),
        encap: sent.encap,
        transport: TransportSpec::usual(sent.encap, UdpChecksum::Full),
        ttl: 64,
        dont_fragment: true,
    };
    let header = OuterHeader::new(&spec).expect("an outer header");
    let header_len = sent.encap.header_len();
    let carried = &sent.bytes[header_len..];
    let mut buf = [&[0; OUTER_HEADROOM][..], carried].concat();
    let fields = Fields {
        src_port: 50_000,
        tos: sent.tos,
        id: 0,
    };
    let sum = Some(checksum::sum(carried));
    match header.push(&mut buf, OUTER_HEADROOM, carried.len(), fields, sum) {
        Ok(start) => buf.split_off(start),
        // Too long for an outer packet.
        Err(_) => Vec::new(),
    }
}
