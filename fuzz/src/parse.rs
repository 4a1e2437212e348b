//! Any bytes through the parser and every header's view.
//!
//! Input: flags (1: repair checksums), bytes of the frame that lie elsewhere (2), the frame.

use ringway_packet::flow::{FlowKey, flow_hash};
use ringway_packet::offload::{Offload, VNET_HDR_LEN};
use ringway_packet::parse::{Fragment, L3, Parsed, parse, parse_ip};
use ringway_packet::{arp, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp};

use crate::input::Input;
use crate::repair;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, elsewhere) = (input.u8(), usize::from(input.u16()));
    let mut frame = input.rest().to_vec();
    if flags & 1 != 0 {
        repair::checksums(&mut frame);
    }
    let len = frame.len() + if flags & 2 != 0 { elsewhere } else { 0 };
    frames(&frame, len);
    views(&frame);
    sums(&frame, elsewhere);
    if let Some((header, frame)) = frame.split_first_chunk::<VNET_HDR_LEN>() {
        metadata(header, frame.len());
    }
}

fn frames(frame: &[u8], len: usize) {
    let Ok(p) = parse(frame, len) else {
        return;
    };
    assert!(p.l3_off <= p.l4_off && p.l4_off <= p.payload_off, "{p:?}");
    assert!(usize::from(p.payload_off) <= frame.len(), "{p:?}");
    flow_hash(&p);
    let key = FlowKey::of(&p);
    if !matches!(p.l3, L3::Ipv4 | L3::Ipv6) {
        assert_eq!(key, None);
        return;
    }
    assert!(p.ip_end() <= len, "{p:?} in {len} bytes");
    assert!(usize::from(p.payload_off) <= p.ip_end(), "{p:?}");
    let key = key.expect("an IP packet is of a flow");
    assert_eq!(key.reversed().reversed(), key);

    // Padding behind the packet changes nothing.
    let padded = [frame, &[0xaa; 9]].concat();
    if len == frame.len() {
        assert_eq!(parse(&padded, padded.len()), Ok(p));
    }
    // Nor does the length of what lies elsewhere, beyond the packet's own.
    assert_eq!(parse(frame, len + 1), Ok(p));
    // The bare packet is the same packet.
    let l3 = usize::from(p.l3_off);
    let bare = parse_ip(&frame[l3..], len - l3).expect("the frame was good");
    let back = |off: u16| off + p.l3_off;
    let moved = Parsed {
        l3_off: p.l3_off,
        l4_off: back(bare.l4_off),
        payload_off: back(bare.payload_off),
        vlan_tags: p.vlan_tags,
        ..bare
    };
    assert_eq!(moved, p);
    // Fragments of a packet are of one hash, whatever ports they show.
    if p.fragment != Fragment::None {
        let blind = Parsed {
            src_port: 1,
            dst_port: 2,
            ..p
        };
        assert_eq!(flow_hash(&p), flow_hash(&blind));
    }
}

/// Each view reads its own part of any bytes.
fn views(bytes: &[u8]) {
    let _ = ethernet::View::new(bytes).map(|v| v.repr());
    let _ = ethernet::Tag::parse(bytes);
    let _ = arp::View::new(bytes).map(|v| v.repr());
    if let Ok(v) = ipv4::View::new(bytes) {
        assert!(
            v.header_len() >= ipv4::MIN_LEN && v.header_len() + v.payload().len() <= bytes.len()
        );
        let _ = (
            v.repr(),
            v.options(),
            v.fragment_offset(),
            v.more_fragments(),
        );
    }
    if let Ok(v) = ipv6::View::new(bytes) {
        let _ = (v.repr(), v.payload());
    }
    if let Ok(v) = tcp::View::new(bytes) {
        assert_eq!(v.header_len() + v.payload().len(), bytes.len());
        let _ = (v.repr(), v.options());
    }
    if let Ok(v) = udp::View::new(bytes) {
        let _ = (v.repr(), v.payload());
    }
    if let Ok(v) = sctp::View::new(bytes) {
        let _ = (v.repr(), v.payload());
    }
    if let Ok(v) = icmpv4::View::new(bytes) {
        let _ = (v.repr(), v.body(), v.verify());
    }
    if let Ok(v) = icmpv6::View::new(bytes) {
        let _ = (v.repr(), v.body(), v.verify(1, 2));
    }
    if let Ok(found) = icmpv6::Neighbour::parse(bytes) {
        let mut out = [0; 128];
        let _ = found.emit(&mut out, 1, 2);
    }
}

/// The sum does not depend on where a packet is cut, and agrees with the slow one.
fn sums(bytes: &[u8], cut: usize) {
    let cut = cut.min(bytes.len());
    let mut pieces = checksum::Summer::default();
    pieces.add(&bytes[..cut]);
    pieces.add(&bytes[cut..]);
    let fast = checksum::fold(checksum::sum(bytes));
    let same = |a: u16, b: u16| a % 0xffff == b % 0xffff;
    assert!(same(fast, checksum::fold(pieces.sum())));
    let mut slow = 0u64;
    for pair in bytes.chunks(2) {
        slow += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    assert!(same(fast, (slow % 0xffff) as u16));
}

/// What is understood of a virtio-net header is written as it was read.
fn metadata(header: &[u8; VNET_HDR_LEN], len: usize) {
    let Ok(offload) = Offload::read(header, len) else {
        return;
    };
    let mut written = [0; VNET_HDR_LEN];
    offload.write(54, &mut written);
    assert_eq!(Offload::read(&written, len), Ok(offload));
}
