//! The outer UDP checksum: short cuts that give what the long way gives, and what passes for right.

mod cast;

use cast::*;
use ringway_encap::Encap;
use ringway_encap::outer::pop_outer;
use ringway_packet::checksum;
use ringway_packet::offload::{Checksum, complete_checksum};
use ringway_packet::parse::{self, Parsed};
use ringway_switch::{DropReason, InnerSum, Packet, Tunnel, encapsulate, outer_checksum};
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
    let mut buf = vec![0; ROOM];
    buf.extend_from_slice(frame);
    let mut packet = Packet::linear(&mut buf, ROOM, frame.len());
    packet.offload.checksum = checksum;
    encapsulate(&snapshot, &tunnel, &mut packet, 50_000, 0).unwrap();
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

/// The inner frame with the sum of its pseudo-header where its checksum should be.
fn unfinished(frame: &[u8], parsed: &Parsed) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let sum = InnerSum::of(&frame, parsed, 0).unwrap().pseudo;
    let at = usize::from(parsed.l4_off) + 6;
    frame[at..at + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    frame
}

#[test]
fn a_complete_checksum_is_held_to_every_byte() {
    for frame in frames() {
        let outer_frame = encapsulated(VXLAN, &frame, Checksum::Complete);
        let outer = pop_outer(&outer_frame, outer_frame.len()).unwrap();
        let payload = &outer_frame[outer.payload_off..];
        assert_eq!(outer_checksum(&outer, payload, false, None), Ok(()));
        for at in 0..payload.len().min(80) {
            let mut bad = payload.to_vec();
            bad[at] ^= 0x10;
            for veth in [false, true] {
                assert_eq!(
                    outer_checksum(&outer, &bad, veth, None),
                    Err(DropReason::OuterChecksum),
                    "byte {at}"
                );
            }
        }
    }
}

#[test]
fn an_unfinished_outer_checksum_passes_on_a_veth_only() {
    let frame = &frames()[0];
    let mut outer_frame = encapsulated(VXLAN, frame, Checksum::Complete);
    let mut outer = pop_outer(&outer_frame, outer_frame.len()).unwrap();
    let udp_len = outer.payload_len + 8;
    outer.checksum = checksum::fold(checksum::pseudo_v6(outer.src, outer.dst, 17, udp_len));
    let payload = outer_frame.split_off(outer.payload_off);
    assert_eq!(outer_checksum(&outer, &payload, true, None), Ok(()));
    assert_eq!(
        outer_checksum(&outer, &payload, false, None),
        Err(DropReason::OuterChecksum)
    );
}

#[test]
fn an_outer_checksum_made_for_the_finished_packet_fits_the_unfinished_one() {
    for frame in frames() {
        let parsed = parse::parse(&frame, frame.len()).unwrap();
        // What the kernel's tunnel sends over a veth: the outer checksum as if the inner were done.
        let mut finished = unfinished(&frame, &parsed);
        let end = usize::from(parsed.l3_off) + parsed.ip_len as usize;
        complete_checksum(&mut finished[..end], parsed.l4_off, 6).unwrap();
        let outer_frame = encapsulated(VXLAN, &finished, Checksum::Complete);
        let outer = pop_outer(&outer_frame, outer_frame.len()).unwrap();
        let mut payload = outer_frame[outer.payload_off..].to_vec();
        payload[SHIM..].copy_from_slice(&unfinished(&frame, &parsed));
        let inner = InnerSum::of(&payload[SHIM..], &parsed, SHIM);
        assert!(inner.is_some());
        assert_eq!(outer_checksum(&outer, &payload, true, inner), Ok(()));
        assert_eq!(
            outer_checksum(&outer, &payload, true, None),
            Err(DropReason::OuterChecksum)
        );
        // The headers are still held to it.
        payload[SHIM + 3] ^= 1;
        assert_eq!(
            outer_checksum(&outer, &payload, true, inner),
            Err(DropReason::OuterChecksum)
        );
    }
}
