//! The kit's own frames, taken apart by an independent parser: what every other test stands on.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use ringway_packet::offload::{Checksum, Gso, complete_checksum};
use ringway_packet::parse::{Fragment, parse};
use ringway_packet::{arp, icmpv6, kit, proto};

fn all_kinds() -> Vec<(&'static str, kit::Build)> {
    let (a4, b4) = ("10.77.1.2:1000", "10.77.2.2:80");
    let (a6, b6) = ("[fd77:1::2]:1000", "[fd77:2::2]:80");
    vec![
        ("udp4", kit::udp(a4, b4).payload(b"odd")),
        ("udp6", kit::udp(a6, b6).payload(b"odd")),
        (
            "tcp4",
            kit::tcp(a4, b4).tcp_options(&[1, 1, 1]).payload_len(101),
        ),
        (
            "tcp6",
            kit::tcp(a6, b6)
                .flags(kit::SYN)
                .tcp_options(&[2, 4, 5, 0xa0]),
        ),
        ("ping4", kit::ping("10.77.1.2", "10.77.2.2").payload_len(56)),
        ("ping6", kit::ping("fd77:1::2", "fd77:2::2").payload_len(57)),
        (
            "options4",
            kit::udp(a4, b4)
                .options(&[0x94, 4, 0, 0, 1])
                .payload(b"router alert"),
        ),
        (
            "extensions6",
            kit::udp(a6, b6)
                .extension(proto::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
                .extension(
                    proto::DESTINATION_OPTIONS,
                    &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                )
                .payload(b"x"),
        ),
    ]
}

#[test]
fn lengths_and_checksums_are_right() {
    for (name, build) in all_kinds() {
        let packet = build.packet();
        assert!(kit::l4_is_right(&packet), "{name}");
        assert!(
            !kit::l4_is_right(&build.clone().bad_checksum().packet()),
            "{name} spoiled"
        );
        let frame = build.clone().vlan(7).padding(5).frame();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            sliced
                .vlan_ids()
                .iter()
                .map(|id| id.value())
                .collect::<Vec<_>>(),
            [7]
        );
        let Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_)) = sliced.net else {
            panic!("{name}")
        };
        match sliced.transport.unwrap() {
            TransportSlice::Udp(udp) => assert_eq!(udp.destination_port(), 80),
            TransportSlice::Tcp(tcp) => assert_eq!(tcp.source_port(), 1000),
            TransportSlice::Icmpv4(icmp) => {
                let expected = icmp.icmp_type().calc_checksum(icmp.payload());
                assert_eq!(icmp.checksum(), expected);
            }
            TransportSlice::Icmpv6(icmp) => assert!(icmp.is_checksum_valid(
                "fd77:1::2".parse::<std::net::Ipv6Addr>().unwrap().octets(),
                "fd77:2::2".parse::<std::net::Ipv6Addr>().unwrap().octets()
            )),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn offloaded_frames_complete_to_the_whole_ones() {
    for (name, build) in all_kinds() {
        let (mut frame, offload) = build.offloaded(None);
        assert_eq!(offload.gso, Gso::None);
        let Checksum::Partial { start, offset } = offload.checksum else {
            panic!("{name}")
        };
        assert_ne!(frame, build.frame(), "{name}");
        complete_checksum(&mut frame, start, offset).unwrap();
        assert_eq!(frame, build.frame(), "{name}");
    }
    let (frame, offload) = kit::tcp("10.77.1.2:1", "10.77.1.3:2")
        .payload_len(30_000)
        .offloaded(Some(1400));
    assert_eq!(
        (offload.gso, offload.gso_size, offload.segments(30_000)),
        (Gso::Tcp4, 1400, 22)
    );
    assert_eq!(parse(&frame, frame.len()).unwrap().ip_len, 30_040);
}

#[test]
fn fragments_are_the_whole_in_pieces() {
    for (name, build) in all_kinds() {
        let build = build.id(77).payload_len(3001);
        let whole = build.packet();
        let mut body = Vec::new();
        let frames = build.fragments(1280);
        for (i, frame) in frames.iter().enumerate() {
            let p = parse(frame, frame.len()).unwrap_or_else(|e| panic!("{name} {i}: {e}"));
            assert!(p.ip_len <= 1280);
            let expected = if i == 0 {
                Fragment::First
            } else {
                Fragment::Later
            };
            assert_eq!(p.fragment, expected, "{name} {i}");
            body.extend_from_slice(&frame[usize::from(p.l4_off)..]);
        }
        assert!(frames.len() >= 3);
        assert_eq!(body, whole[whole.len() - body.len()..], "{name}");
        assert_eq!(body.len(), 3001 + whole_header(&build), "{name}");
    }
}

fn whole_header(build: &kit::Build) -> usize {
    let frame = build.clone().payload(&[]).frame();
    let p = parse(&frame, frame.len()).unwrap();
    frame.len() - usize::from(p.l4_off)
}

#[test]
fn neighbour_frames() {
    let request = kit::arp_request("10.77.1.2", "10.77.1.1");
    let repr = arp::View::new(&request[14..]).unwrap().repr();
    assert_eq!(
        (repr.operation, repr.sender_ip, repr.target_ip),
        (1, 0x0a4d_0102, 0x0a4d_0101)
    );
    assert_eq!(request[..6], [0xff; 6]);

    let ask = kit::solicitation("fd77:1::2", "fd77:1::3");
    let p = parse(&ask, ask.len()).unwrap();
    assert_eq!((p.proto, p.ttl), (proto::ICMPV6, 255));
    assert!(kit::l4_is_right(&ask[14..]));
    assert_eq!(ask[..6], [0x33, 0x33, 0xff, 0, 0, 3]);
    let nd = icmpv6::Neighbour::parse(&ask[usize::from(p.l4_off)..]).unwrap();
    assert_eq!(nd.target, 0xfd77_0001 << 96 | 3);
    assert_eq!(
        nd.link_layer,
        Some(kit::pod_mac("fd77:1::2".parse().unwrap()))
    );

    let probe = kit::solicitation("::", "fd77:1::3");
    let nd = icmpv6::Neighbour::parse(&probe[54..]).unwrap();
    assert_eq!(
        (nd.link_layer, probe[22..38].iter().all(|b| *b == 0)),
        (None, true)
    );

    let answer = kit::advertisement("fd77:1::3", "fd77:1::2");
    assert!(kit::l4_is_right(&answer[14..]));
    let nd = icmpv6::Neighbour::parse(&answer[54..]).unwrap();
    assert!(nd.advertisement && nd.solicited && nd.overrides && !nd.router);
}
