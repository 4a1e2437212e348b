//! ICMP errors and neighbour discovery: literal bytes, what is quoted, and when nothing is sent.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice, icmpv4 as their4, icmpv6 as their6,
};
use ringway_packet::icmpv6::{Neighbour, NeighbourError};
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::{L3, parse, parse_ip};
use ringway_packet::{icmpv4, icmpv6, kit, proto};

const GATEWAY4: u32 = 0x0a4d_0101;
const POD4: u32 = 0x0a4d_0102;
const GATEWAY6: u128 = 0xfd77_0001 << 96 | 1;
const POD6: u128 = 0xfd77_0001 << 96 | 2;

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn time_exceeded_is_these_bytes() {
    let original = kit::udp("10.77.1.2:1000", "10.77.2.2:53")
        .ttl(1)
        .payload(b"hi")
        .packet();
    let mut out = [0xee; 100];
    let n = icmpv4::write_error(
        &mut out,
        icmpv4::Error::TimeExceeded,
        GATEWAY4,
        POD4,
        &original,
    );
    // Outer header, ICMP header, quote.
    let expected = bytes(
        "45 c0 00 3a 00 00 40 00 40 01 23 67 0a 4d 01 01 0a 4d 01 02
         0b 00 0c b9 00 00 00 00
         45 00 00 1e 00 00 00 00 01 11 a2 32 0a 4d 01 02 0a 4d 02 02
         03 e8 00 35 00 0a 7b b6 68 69",
    );
    assert_eq!(original, expected[28..]);
    assert_eq!((n, &out[..58]), (Some(58), &expected[..]));
    assert_eq!(out[58..], [0xee; 42]);
}

#[test]
fn every_ipv4_error_as_another_parser_sees_it() {
    let original = kit::tcp("10.77.1.2:1000", "10.77.2.2:80")
        .options(&[1; 8])
        .payload_len(1400)
        .packet();
    for (error, expected) in [
        (
            icmpv4::Error::TimeExceeded,
            Icmpv4Type::TimeExceeded(their4::TimeExceededCode::TtlExceededInTransit),
        ),
        (
            icmpv4::Error::FragmentationNeeded(1390),
            Icmpv4Type::DestinationUnreachable(
                their4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1390 },
            ),
        ),
        (
            icmpv4::Error::HostUnreachable,
            Icmpv4Type::DestinationUnreachable(their4::DestUnreachableHeader::Host),
        ),
    ] {
        let mut out = [0xee; 1500];
        let n = icmpv4::write_error(&mut out, error, GATEWAY4, POD4, &original).unwrap();
        assert_eq!((n, out[n]), (576, 0xee));
        assert!(kit::l4_is_right(&out[..n]));
        assert_eq!(out[28..n], original[..548]);
        let sliced = SlicedPacket::from_ip(&out[..n]).unwrap();
        let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
            panic!()
        };
        assert_eq!(icmp.icmp_type(), expected);
        let p = parse_ip(&out[..n], n).unwrap();
        assert_eq!(
            (p.ttl, p.tos, p.dont_fragment, p.ip_len),
            (64, 0xc0, true, 576)
        );
        assert!(
            !icmpv4::may_send_error(&p, &out[..n]),
            "no error about an error"
        );
    }
}

#[test]
fn every_ipv6_error_as_another_parser_sees_it() {
    let original = kit::tcp("[fd77:1::2]:1000", "[fd77:2::2]:80")
        .payload_len(2000)
        .packet();
    for (error, expected) in [
        (
            icmpv6::Error::TimeExceeded,
            Icmpv6Type::TimeExceeded(their6::TimeExceededCode::HopLimitExceeded),
        ),
        (
            icmpv6::Error::PacketTooBig(1390),
            Icmpv6Type::PacketTooBig { mtu: 1390 },
        ),
        (
            icmpv6::Error::AddressUnreachable,
            Icmpv6Type::DestinationUnreachable(their6::DestUnreachableCode::Address),
        ),
    ] {
        let mut out = [0xee; 1500];
        let n = icmpv6::write_error(&mut out, error, GATEWAY6, POD6, &original).unwrap();
        assert_eq!((n, out[n]), (1280, 0xee));
        assert!(kit::l4_is_right(&out[..n]));
        assert_eq!(out[48..n], original[..1232]);
        let sliced = SlicedPacket::from_ip(&out[..n]).unwrap();
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else {
            panic!()
        };
        assert_eq!(icmp.icmp_type(), expected);
        let p = parse_ip(&out[..n], n).unwrap();
        assert_eq!((p.ttl, p.tos, p.ip_len), (64, 0, 1280));
        assert!(
            !icmpv6::may_send_error(&p, &out[..n]),
            "no error about an error"
        );
    }
}

#[test]
fn quotes_end_with_the_packet_and_with_the_room() {
    let mut padded = kit::udp("10.77.1.2:1", "10.77.2.2:2")
        .payload(b"abcd")
        .packet();
    padded.resize(60, 0xdd);
    let mut out = [0; 1500];
    let error = icmpv4::Error::HostUnreachable;
    assert_eq!(
        icmpv4::write_error(&mut out, error, 1, 2, &padded),
        Some(28 + 32)
    );
    // Header and 8 bytes at least.
    assert_eq!(
        icmpv4::write_error(&mut out[..56], error, 1, 2, &padded),
        Some(56)
    );
    assert_eq!(
        icmpv4::write_error(&mut out[..55], error, 1, 2, &padded),
        None
    );
    assert_eq!(
        icmpv4::write_error(&mut out[..27], error, 1, 2, &padded),
        None
    );
    assert_eq!(
        icmpv4::write_error(&mut out, error, 1, 2, &padded[..19]),
        None
    );
    let six = kit::udp("[fd77::1]:1", "[fd77::2]:2")
        .payload(b"abcd")
        .padding(9)
        .packet();
    assert_eq!(icmpv4::write_error(&mut out, error, 1, 2, &six), None);

    let error = icmpv6::Error::AddressUnreachable;
    assert_eq!(
        icmpv6::write_error(&mut out, error, 1, 2, &six),
        Some(48 + 52)
    );
    assert_eq!(
        icmpv6::write_error(&mut out[..96], error, 1, 2, &six),
        Some(96)
    );
    assert_eq!(icmpv6::write_error(&mut out[..95], error, 1, 2, &six), None);
    assert_eq!(icmpv6::write_error(&mut out, error, 1, 2, &six[..39]), None);
    assert_eq!(icmpv6::write_error(&mut out, error, 1, 2, &padded), None);
}

fn may4(frame: &[u8]) -> bool {
    let p = parse(frame, frame.len()).unwrap();
    assert_eq!(p.l3, L3::Ipv4);
    assert!(!icmpv6::may_send_error(&p, frame), "the other family");
    icmpv4::may_send_error(&p, frame)
}

fn may6(frame: &[u8]) -> bool {
    let p = parse(frame, frame.len()).unwrap();
    assert_eq!(p.l3, L3::Ipv6);
    assert!(!icmpv4::may_send_error(&p, frame), "the other family");
    icmpv6::may_send_error(&p, frame)
}

#[test]
fn ipv4_errors_are_sent_about_these_only() {
    let (a, b) = ("10.77.1.2", "10.77.2.2");
    assert!(may4(&kit::udp("10.77.1.2:1", "10.77.2.2:2").frame()));
    assert!(may4(&kit::raw(a, b, 47).frame()));
    // By type: queries, not errors, not what is unknown (RFC 1122 section 3.2.2).
    for kind in 0..=255 {
        let may = matches!(kind, 0 | 8 | 13..=18);
        assert_eq!(
            may4(&kit::icmp(a, b, kind, 0, [0; 4]).frame()),
            may,
            "type {kind}"
        );
    }
    // By fragment.
    let fragments = kit::ping(a, b).payload_len(3000).fragments(1500);
    assert_eq!(
        fragments.iter().map(|f| may4(f)).collect::<Vec<_>>(),
        [true, false, false]
    );
    // By address.
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        assert!(!may4(&kit::raw(address, b, 47).frame()), "from {address}");
        assert!(!may4(&kit::raw(a, address, 47).frame()), "to {address}");
    }
    for address in ["1.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255"] {
        assert!(may4(&kit::raw(address, address, 47).frame()), "{address}");
    }
    // By MAC.
    let unicast = kit::GATEWAY_MAC;
    for group in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
        assert!(!may4(&kit::raw(a, b, 47).macs(unicast, group).frame()));
        assert!(!may4(&kit::raw(a, b, 47).macs(group, unicast).frame()));
    }
    // A bare packet has no MAC, and its first byte, 0x45, is not taken for one.
    let bare = kit::raw(a, b, 47).packet();
    assert!(icmpv4::may_send_error(
        &parse_ip(&bare, bare.len()).unwrap(),
        &bare
    ));
}

#[test]
fn ipv6_errors_are_sent_about_these_only() {
    let (a, b) = ("fd77:1::2", "fd77:2::2");
    assert!(may6(&kit::udp("[fd77:1::2]:1", "[fd77:2::2]:2").frame()));
    for kind in 0..=255 {
        let may = kind >= 128 && kind != 137;
        assert_eq!(
            may6(&kit::icmp(a, b, kind, 0, [0; 4]).frame()),
            may,
            "type {kind}"
        );
        // Behind extension headers too.
        let behind = kit::icmp(a, b, kind, 0, [0; 4])
            .extension(proto::ROUTING, &[0; 6])
            .frame();
        assert_eq!(may6(&behind), may, "type {kind}");
    }
    let fragments = kit::ping(a, b).payload_len(3000).fragments(1500);
    assert_eq!(
        fragments.iter().map(|f| may6(f)).collect::<Vec<_>>(),
        [true, false, false]
    );
    for address in ["::", "::1", "ff02::1", "ffff::"] {
        assert!(!may6(&kit::raw(address, b, 47).frame()), "from {address}");
        assert!(!may6(&kit::raw(a, address, 47).frame()), "to {address}");
    }
    assert!(may6(&kit::raw("fe80::1", "::2", 47).frame()));
    let unicast = kit::GATEWAY_MAC;
    for group in [MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
        assert!(!may6(&kit::raw(a, b, 47).macs(unicast, group).frame()));
        assert!(!may6(&kit::raw(a, b, 47).macs(group, unicast).frame()));
    }
}

#[test]
fn advertisement_to_a_pod_is_these_bytes() {
    let mut out = [0xee; 90];
    let asker = kit::pod_mac("fd77:1::2".parse::<IpAddr>().unwrap());
    let written =
        icmpv6::write_advertisement(&mut out, kit::GATEWAY_MAC, GATEWAY6, asker, POD6, true);
    let expected = bytes(
        "0a 58 00 00 00 02  02 52 57 00 00 01  86 dd
         60 00 00 00 00 20 3a ff
         fd 77 00 01 00 00 00 00 00 00 00 00 00 00 00 01
         fd 77 00 01 00 00 00 00 00 00 00 00 00 00 00 02
         88 00 43 e1 e0 00 00 00
         fd 77 00 01 00 00 00 00 00 00 00 00 00 00 00 01
         02 01 02 52 57 00 00 01",
    );
    assert_eq!(written, Some(86));
    assert_eq!(out[..86], expected);
    assert_eq!(out[86..], [0xee; 4]);
    assert!(kit::l4_is_right(&out[14..86]));
    assert_eq!(
        icmpv6::write_advertisement(
            &mut out[..85],
            kit::GATEWAY_MAC,
            GATEWAY6,
            asker,
            POD6,
            true
        ),
        None
    );
}

#[test]
fn a_duplicate_address_probe_is_answered_to_all() {
    let mut out = [0; 86];
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    icmpv6::write_advertisement(&mut out, mac, POD6, kit::GATEWAY_MAC, 0, false).unwrap();
    assert_eq!(out[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert!(kit::l4_is_right(&out[14..]));
    let p = parse(&out, out.len()).unwrap();
    let key = ringway_packet::flow::FlowKey::of(&p).unwrap();
    assert_eq!((key.src, key.dst, p.ttl), (POD6, 0xff02 << 112 | 1, 255));
    let expected = Neighbour {
        advertisement: true,
        router: false,
        solicited: false,
        overrides: true,
        target: POD6,
        link_layer: Some(mac),
    };
    assert_eq!(Neighbour::parse(&out[54..]), Ok(expected));
}

#[test]
fn neighbour_messages_come_back() {
    for advertisement in [false, true] {
        for link_layer in [None, Some(kit::GATEWAY_MAC)] {
            for flags in 0..8 {
                let flag = |bit: u8| advertisement && flags & bit != 0;
                let message = Neighbour {
                    advertisement,
                    router: flag(1),
                    solicited: flag(2),
                    overrides: flag(4),
                    target: POD6,
                    link_layer,
                };
                let mut out = [0; Neighbour::MAX_LEN];
                let n = message.emit(&mut out, POD6, GATEWAY6).unwrap();
                assert_eq!(
                    (n, message.len()),
                    (if link_layer.is_some() { 32 } else { 24 }, n)
                );
                assert_eq!(Neighbour::parse(&out[..n]), Ok(message));
                assert!(icmpv6::View::new(&out[..n]).unwrap().verify(POD6, GATEWAY6));
                assert_eq!(message.emit(&mut out[..n - 1], POD6, GATEWAY6), None);
            }
        }
    }
}

#[test]
fn neighbour_messages_that_lie() {
    let good = kit::solicitation("fd77:1::2", "fd77:1::3")[54..].to_vec();
    for n in 0..24 {
        let error = NeighbourError::Truncated { need: 24, have: n };
        assert_eq!(Neighbour::parse(&good[..n]), Err(error));
    }
    assert!(Neighbour::parse(&good[..24]).unwrap().link_layer.is_none());
    for n in 25..32 {
        let error = NeighbourError::Truncated { need: 32, have: n };
        assert_eq!(Neighbour::parse(&good[..n]), Err(error));
    }
    let with = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        Neighbour::parse(&message)
    };
    assert_eq!(
        with(0, 133),
        Err(NeighbourError::Type { kind: 133, code: 0 })
    );
    assert_eq!(with(1, 1), Err(NeighbourError::Type { kind: 135, code: 1 }));
    assert_eq!(with(25, 0), Err(NeighbourError::OptionLength { kind: 1 }));
    assert_eq!(
        with(25, 2),
        Err(NeighbourError::Truncated { need: 40, have: 32 })
    );
    // The other message's option, and an unknown one, are skipped.
    assert_eq!(with(24, 2).unwrap().link_layer, None);
    let mut nonce = good.clone();
    nonce.splice(24..24, [14, 1, 1, 2, 3, 4, 5, 6]);
    assert_eq!(Neighbour::parse(&nonce), Neighbour::parse(&good));
    // Flags mean nothing in a solicitation.
    assert_eq!(with(4, 0xe0), Neighbour::parse(&good));
}
