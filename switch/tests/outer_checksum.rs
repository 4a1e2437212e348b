//! The outer UDP checksum: short cuts that give what the long way gives, and what passes for right.

mod cast;

use cast::*;
use ringway_encap::Encap;
use ringway_encap::outer::{OuterHeader, OuterSpec, TransportSpec, UdpChecksum, pop_outer};
use ringway_packet::checksum;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::{Checksum, complete_checksum};
use ringway_packet::parse::{self, Parsed};
use ringway_switch::{DropReason, InnerSum, Packet, Tunnel, Verdict, encapsulate};
use ringway_tables::{PathId, Snapshot};

const VXLAN: Encap = Encap::Vxlan { vni: VNI };
/// Length of the VXLAN header.
const SHIM: usize = 8;

/// Tables in which everything leaves by a path whose outer checksum is computed.
fn tables(encap: Encap) -> (Snapshot, Tunnel) {
    let mut snapshot = snapshot(encap);
    assert!(snapshot.replace_path(PathId(0), path(encap, true, 1430)));
    let tunnel = Tunnel {
        path: PathId(0),
        hash: 0x1234_5678,
        tos: 0,
    };
    (snapshot, tunnel)
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for payload in [0, 1, 2, 31, 1400] {
        frames.push(udp4((VTEP1, VTEP2), (alice4(), carol4()), 64, payload));
        frames.push(udp6((VTEP1, VTEP2), (v6(1, 2), v6(2, 2)), 64, payload));
    }
    // Without a checksum of its own, and with padding of odd length behind it.
    let mut bare = udp4((VTEP1, VTEP2), (alice4(), carol4()), 64, 32);
    bare[40..42].fill(0);
    frames.push(bare);
    let mut padded = udp4((VTEP1, VTEP2), (alice4(), carol4()), 64, 5);
    padded.extend([0xaa, 0xbb, 0xcc]);
    frames.push(padded);
    frames
}

fn encapsulated(encap: Encap, frame: &[u8], checksum: Checksum) -> Vec<u8> {
    let (snapshot, tunnel) = tables(encap);
    tunnelled(&snapshot, tunnel, frame, checksum)
}

/// The outer frame around `frame`.
fn tunnelled(snapshot: &Snapshot, tunnel: Tunnel, frame: &[u8], checksum: Checksum) -> Vec<u8> {
    let mut buf = [&[0; ROOM][..], frame].concat();
    let mut packet = Packet::linear(&mut buf, ROOM, frame.len());
    packet.offload.checksum = checksum;
    let path = snapshot.path(tunnel.path).unwrap();
    encapsulate(path, &tunnel, &mut packet, 50_000, 0).unwrap();
    packet.head().to_vec()
}

#[test]
fn the_short_sum_is_the_long_one() {
    for encap in [VXLAN, Encap::Udp] {
        for frame in frames() {
            assert_eq!(
                encapsulated(encap, &frame, Checksum::Verified),
                encapsulated(encap, &frame, Checksum::Complete),
                "{encap:?}, {} bytes",
                frame.len()
            );
        }
    }
}

/// What node2 sends to node1 over IPv6, the outer checksum computed.
fn sent(frame: &[u8]) -> Vec<u8> {
    let mut snapshot = snapshot(VXLAN);
    let mut back = path(VXLAN, true, 1430);
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x77, 2]),
        dst_mac: MacAddr([2, 0, 0, 0, 0x77, 1]),
        src: back.dst,
        dst: back.src,
        encap: VXLAN,
        transport: TransportSpec::usual(VXLAN, UdpChecksum::Full),
        ttl: 64,
        dont_fragment: true,
    };
    back.outer = OuterHeader::new(&spec).unwrap();
    assert!(snapshot.replace_path(PathId(0), back));
    let tunnel = Tunnel {
        path: PathId(0),
        hash: 0,
        tos: 0,
    };
    tunnelled(&snapshot, tunnel, frame, Checksum::Complete)
}

/// Ethernet, IPv6 and UDP.
const OUTER: usize = 62;
const CHECKSUM: usize = 60;

fn inner() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for payload in [0, 1, 2, 31, 1400] {
        frames.push(udp4((VTEP2, VTEP1), (carol4(), alice4()), 64, payload));
        frames.push(udp6((VTEP2, VTEP1), (v6(2, 2), v6(1, 2)), 64, payload));
    }
    let mut padded = udp4((VTEP2, VTEP1), (carol4(), alice4()), 64, 5);
    padded.extend([0xaa, 0xbb, 0xcc]);
    frames.push(padded);
    frames
}

/// The verdict on a frame that comes by a veth, or by a NIC.
fn verdict(frame: &[u8], veth: bool) -> Verdict {
    let mut stage = Stage::vxlan();
    stage.options.unfinished = veth;
    stage.from_frame(frame).verdict
}

const DELIVERED: Verdict = Verdict::Deliver(ALICE);
const REFUSED: Verdict = Verdict::Drop(DropReason::OuterChecksum);

/// The inner frame with the sum of its pseudo-header where its checksum should be.
fn unfinished(frame: &[u8], parsed: &Parsed) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let sum = InnerSum::of(parsed, 0).unwrap().pseudo;
    let at = usize::from(parsed.l4_off) + 6;
    frame[at..at + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    frame
}

#[test]
fn a_complete_checksum_is_held_to_every_byte() {
    for frame in inner() {
        let good = sent(&frame);
        for veth in [false, true] {
            assert_eq!(verdict(&good, veth), DELIVERED);
        }
        for at in OUTER..good.len().min(OUTER + 80) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // Another VNI is refused before.
            let expected = match at - OUTER {
                4..=6 => Verdict::Drop(DropReason::UnknownVni),
                _ => REFUSED,
            };
            for veth in [false, true] {
                assert_eq!(verdict(&bad, veth), expected, "byte {at}");
            }
        }
    }
}

#[test]
fn an_unfinished_outer_checksum_passes_on_a_veth_only() {
    let mut frame = sent(&inner()[0]);
    let outer = pop_outer(&frame, frame.len()).unwrap();
    let udp_len = outer.payload_len + 8;
    let bare = checksum::fold(checksum::pseudo_v6(outer.src, outer.dst, 17, udp_len));
    frame[CHECKSUM..OUTER].copy_from_slice(&bare.to_be_bytes());
    assert_eq!(verdict(&frame, true), DELIVERED);
    assert_eq!(verdict(&frame, false), REFUSED);
}

#[test]
fn an_outer_checksum_made_for_the_finished_packet_fits_the_unfinished_one() {
    for frame in inner() {
        let parsed = parse::parse(&frame, frame.len()).unwrap();
        // What the kernel's tunnel sends over a veth: the outer checksum as if the inner were done.
        let mut finished = unfinished(&frame, &parsed);
        complete_checksum(&mut finished[..parsed.ip_end()], parsed.l4_off, 6).unwrap();
        let mut outer = sent(&finished);
        outer[OUTER + SHIM..].copy_from_slice(&unfinished(&frame, &parsed));
        assert_eq!(verdict(&outer, true), DELIVERED);
        assert_eq!(verdict(&outer, false), REFUSED);
        // The headers are still held to it.
        outer[OUTER + 3] ^= 1;
        assert_eq!(verdict(&outer, true), REFUSED);
    }
}
