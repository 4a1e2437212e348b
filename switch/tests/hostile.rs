//! Pods that lie in ways a good frame does not show: by offload metadata, by fragments, by padding,
//! by addresses that are nobody's.

mod cast;

use cast::*;
use ringway_packet::offload::{Checksum, Offload};
use ringway_switch::trace::Off;
use ringway_switch::{DropReason, IgnoreReason, Out, Verdict};

const A: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 2];
const B: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 3];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// From alice, the checksum still to be done at `start + offset`.
fn partial(frame: &[u8], start: u16, offset: u16) -> Outcome {
    Stage::vxlan().run(frame, |s, p| {
        p.offload = Offload {
            checksum: Checksum::Partial { start, offset },
            ..Offload::default()
        };
        s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
    })
}

/// Whoever finishes a checksum writes two bytes after everything has been checked; they may be no
/// others than those of the checksum.
#[test]
fn a_checksum_to_be_done_overwrites_nothing_that_was_checked() {
    for frame in [
        udp4((A, GATEWAY), (alice4(), carol4()), 64, 64),
        udp4((A, B), (alice4(), bob4()), 64, 64),
        udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 64, 64),
        udp6((A, B), (v6(1, 2), v6(1, 3)), 64, 64),
    ] {
        let l4 = if frame[12] == 8 { 34 } else { 54 };
        for at in 0..l4 + 8 {
            for start in [0, 14, l4, at / 2, at].into_iter().filter(|s| *s <= at) {
                let o = partial(&frame, start, at - start);
                let own = (start, at) == (l4, l4 + 6);
                if own {
                    assert!(
                        !matches!(o.verdict, Verdict::Drop(_)),
                        "{start}+{}: {:?}",
                        at - start,
                        o.verdict
                    );
                } else {
                    assert_eq!(
                        o.verdict,
                        Verdict::Drop(DropReason::BadOffload),
                        "{start}+{} of {frame:02x?}",
                        at - start
                    );
                    o.moved(&[
                        ("received", 1),
                        ("alice rx", 1),
                        ("dropped", 1),
                        ("drop bad_offload", 1),
                        ("alice drops", 1),
                    ]);
                }
            }
        }
        // A tunnel inside the pod: the checksum of a packet in the payload.
        let inner = partial(&frame, l4 + 8 + 20, 16);
        assert!(
            !matches!(inner.verdict, Verdict::Drop(_)),
            "{:?}",
            inner.verdict
        );
    }
}

/// The bytes of a later fragment are payload, whatever the first header was.
#[test]
fn a_later_fragment_is_no_neighbour_message() {
    for first in 133..=137 {
        for (dst_mac, dst) in [(B, v6(1, 3)), (GATEWAY, v6(2, 2))] {
            let mut frame = fragment6((A, dst_mac), (v6(1, 2), dst), 64, 181 << 3, &[first; 64]);
            let o = Stage::vxlan().from_port(ALICE, &frame);
            assert!(
                matches!(o.verdict, Verdict::Deliver(BOB) | Verdict::Tunnel(_)),
                "payload of {first}: {:?}",
                o.verdict
            );
            // A first fragment has the header: such a message may not come in fragments (RFC 6980).
            frame[56..58].copy_from_slice(&[0, 1]);
            frame[21] = 255;
            let verdict = Stage::vxlan().from_port(ALICE, &frame).verdict;
            assert_eq!(
                verdict,
                Verdict::Drop(DropReason::MalformedIcmp),
                "type {first}"
            );
        }
    }
}

/// Fixed header, fragment header, ICMPv6.
fn fragment6(
    (src_mac, dst_mac): ([u8; 6], [u8; 6]),
    (src, dst): ([u8; 16], [u8; 16]),
    hops: u8,
    offset: u16,
    body: &[u8],
) -> Vec<u8> {
    let mut f = [&dst_mac[..], &src_mac, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    f.extend_from_slice(&(8 + body.len() as u16).to_be_bytes());
    f.extend_from_slice(&[44, hops]);
    f.extend_from_slice(&src);
    f.extend_from_slice(&dst);
    f.extend_from_slice(&[58, 0]);
    f.extend_from_slice(&offset.to_be_bytes());
    f.extend_from_slice(&[0, 0, 0, 7]);
    f.extend_from_slice(body);
    f
}

#[test]
fn a_solicitation_ends_where_its_packet_does() {
    let good = solicitation(A, v6(1, 2), v6(1, 1));
    let verdict = Stage::vxlan().from_port(ALICE, &good).verdict;
    assert_eq!(verdict, Verdict::Answered);
    // The target would lie in the padding.
    for stated in 8..24u16 {
        let mut short = good.clone();
        short[18..20].copy_from_slice(&stated.to_be_bytes());
        let o = Stage::vxlan().from_port(ALICE, &short);
        assert_eq!(
            o.verdict,
            Verdict::Drop(DropReason::MalformedIcmp),
            "{stated} bytes"
        );
        assert!(o.originated.is_empty());
    }
}

/// RFC 4291 section 2.5.2: `::` may be a source only of one that has no address yet.
#[test]
fn the_unspecified_address_speaks_to_groups_only() {
    for (dst_mac, dst) in [
        (B, v6(1, 3)),
        (GATEWAY, v6(1, 3)),
        (GATEWAY, v6(2, 2)),
        (GATEWAY, v6(1, 1)),
        (B, LINK_LOCAL),
    ] {
        let o = Stage::vxlan().from_port(ALICE, &udp6((A, dst_mac), ([0; 16], dst), 64, 8));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::SpoofedIpv6));
        o.moved(&[
            ("received", 1),
            ("alice rx", 1),
            ("dropped", 1),
            ("drop spoofed_ipv6", 1),
            ("alice drops", 1),
        ]);
    }
    let probe = Stage::vxlan().from_port(ALICE, &solicitation(A, [0; 16], v6(1, 2)));
    assert_eq!(
        probe.verdict,
        Verdict::Ignore(IgnoreReason::DuplicateAddressProbe)
    );
}

/// RFC 4291 section 2.5.6: a router does not forward what has a link-local source.
#[test]
fn link_local_sources_stay_on_the_link() {
    let to = |mac, dst| udp6((A, mac), (LINK_LOCAL, dst), 64, 8);
    for dst in [v6(2, 2), v6(1, 3), v6(9, 9)] {
        let o = Stage::vxlan().from_port(ALICE, &to(GATEWAY, dst));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::MartianDestination));
        assert!(o.originated.is_empty());
    }
    // The gateway itself is on the link, and so is whoever has a MAC there.
    for (mac, dst, port) in [(GATEWAY, v6(1, 1), NODE), (B, v6(1, 3), BOB)] {
        let verdict = Stage::vxlan().from_port(ALICE, &to(mac, dst)).verdict;
        assert_eq!(verdict, Verdict::Deliver(port));
    }
    // Linux asks for a neighbour it knows from its link-local address.
    let ask = icmp6(
        (A, GATEWAY),
        (LINK_LOCAL, v6(1, 1)),
        255,
        135,
        &[&[0; 4][..], &v6(1, 1)].concat(),
    );
    let o = Stage::vxlan().from_port(ALICE, &ask);
    assert_eq!(o.verdict, Verdict::Answered);
    assert_eq!(o.originated[0].0, Out::Port(ALICE));
}

/// RFC 1122 section 3.2.2: no error about what was sent to a broadcast address.
#[test]
fn no_error_about_a_directed_broadcast() {
    for to in [[10, 77, 1, 255], [10, 77, 1, 254]] {
        let o = Stage::vxlan().from_frame(&in_vxlan(&udp4((VTEP2, VTEP1), (carol4(), to), 63, 8)));
        assert_eq!(o.verdict, Verdict::Drop(DropReason::NoSuchPod));
        assert_eq!(o.originated.is_empty(), to[3] == 255, "{to:?}");
    }
}

/// An IPv4-mapped address is for the inside of a machine; on the wire it would pass for the IPv4 address
/// of the peer's pod.
#[test]
fn a_mapped_inner_source_is_nobodys() {
    let mut mapped = [0; 16];
    mapped[10..12].fill(0xff);
    mapped[12..].copy_from_slice(&carol4());
    let inner = |source| udp6((VTEP2, VTEP1), (source, v6(1, 2)), 63, 32);
    let o = Stage::vxlan().from_frame(&in_vxlan(&inner(v6(2, 2))));
    assert_eq!(o.verdict, Verdict::Deliver(ALICE));
    let o = Stage::vxlan().from_frame(&in_vxlan(&inner(mapped)));
    assert_eq!(o.verdict, Verdict::Drop(DropReason::ForeignInnerSource));
}
