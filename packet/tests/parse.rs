//! The parse on literal frames: what it finds, field by field, and every way each can lie.

use ringway_packet::parse::{Addresses, Fragment, L3, Layer, ParseError, Parsed, parse, parse_ip};
use ringway_packet::{ethertype, kit, proto};

const UDP4: &str = "02 52 57 00 00 01  0a 58 0a 4d 01 02  08 00
    45 b8 00 1e 12 34 40 00 3f 11 11 46  0a 4d 01 02  0a 4d 02 02
    03 e8 00 35 00 0a 00 00  68 69
    00 00 00 00";

const TCP4_OPTIONS: &str = "02 52 57 00 00 01  0a 58 0a 4d 01 02  08 00
    46 00 00 32 00 00 00 00 40 06 ce 24  0a 4d 01 02  0a 4d 02 02  94 04 00 00
    03 e8 00 50 00 00 00 01 00 00 00 02 60 18 04 00 00 00 00 00  02 04 05 b4
    68 69";

const TAGGED_UDP6: &str = "33 33 00 00 00 fb  0a 58 00 00 00 02  88 a8 00 64 81 00 a0 2a 86 dd
    6b 81 23 45 00 09 11 ff
    fe 80 00 00 00 00 00 00 00 00 00 00 00 00 00 02
    ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 fb
    14 e9 14 e9 00 09 00 00  78";

const EXTENDED_SCTP6: &str = "02 52 57 00 00 01  0a 58 00 00 00 02  86 dd
    60 00 00 00 00 44 00 40
    fd 77 00 01 00 00 00 00 00 00 00 00 00 00 00 02
    fd 77 00 02 00 00 00 00 00 00 00 00 00 00 00 02
    2b 00 05 02 00 00 01 00
    3c 00 00 00 00 00 00 00
    33 01 01 0c 00 00 00 00 00 00 00 00 00 00 00 00
    2c 04 00 00 00 00 00 01 00 00 00 02 00 00 00 03 00 00 00 04 00 00 00 05";

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn ok(frame: &[u8]) -> Parsed {
    parse(frame, frame.len()).unwrap()
}

fn err(frame: &[u8]) -> ParseError {
    parse(frame, frame.len()).unwrap_err()
}

#[test]
fn untagged_udp_over_ipv4_with_padding() {
    let expected = Parsed {
        l3: L3::Ipv4,
        ethertype: ethertype::IPV4,
        vlan_tags: 0,
        l3_off: 14,
        l4_off: 34,
        payload_off: 42,
        ip_len: 30,
        proto: proto::UDP,
        fragment: Fragment::None,
        ip_options: false,
        dont_fragment: true,
        ttl: 63,
        tos: 0xb8,
        src_port: 1000,
        dst_port: 53,
        addresses: Addresses::v4(0x0a4d_0102, 0x0a4d_0202),
    };
    let frame = bytes(UDP4);
    assert_eq!(ok(&frame), expected);
    assert_eq!(expected.ip_end(), 44);
    let bare = Parsed {
        l3_off: 0,
        l4_off: 20,
        payload_off: 28,
        ..expected
    };
    assert_eq!(parse_ip(&frame[14..], frame.len() - 14), Ok(bare));
}

#[test]
fn tcp_over_ipv4_with_options_of_both() {
    let expected = Parsed {
        l3: L3::Ipv4,
        ethertype: ethertype::IPV4,
        vlan_tags: 0,
        l3_off: 14,
        l4_off: 38,
        payload_off: 62,
        ip_len: 50,
        proto: proto::TCP,
        fragment: Fragment::None,
        ip_options: true,
        dont_fragment: false,
        ttl: 64,
        tos: 0,
        src_port: 1000,
        dst_port: 80,
        addresses: Addresses::v4(0x0a4d_0102, 0x0a4d_0202),
    };
    assert_eq!(ok(&bytes(TCP4_OPTIONS)), expected);
}

#[test]
fn tcp_without_payload_is_bare_whatever_padding_follows() {
    for (src, dst) in [
        ("10.77.1.2:1000", "10.77.1.3:80"),
        ("[fd77::2]:1000", "[fd77::3]:80"),
    ] {
        let bare = kit::tcp(src, dst).tcp_options(&[1, 1, 1, 1]);
        for (frame, is_bare) in [
            (bare.clone().frame(), true),
            (bare.clone().padding(6).frame(), true),
            (bare.payload(b"x").frame(), false),
            (kit::udp(src, dst).frame(), false),
        ] {
            assert_eq!(
                ok(&frame).is_bare_tcp(),
                is_bare,
                "{src}, {} bytes",
                frame.len()
            );
        }
    }
    let cut = kit::tcp("10.77.1.2:1000", "10.77.1.3:80").payload(&[7; 64]);
    assert!(
        cut.fragments(60)
            .iter()
            .all(|frame| !ok(frame).is_bare_tcp())
    );
}

#[test]
fn twice_tagged_udp_over_ipv6() {
    let expected = Parsed {
        l3: L3::Ipv6,
        ethertype: ethertype::IPV6,
        vlan_tags: 2,
        l3_off: 22,
        l4_off: 62,
        payload_off: 70,
        ip_len: 49,
        proto: proto::UDP,
        fragment: Fragment::None,
        ip_options: false,
        dont_fragment: true,
        ttl: 255,
        tos: 0xb8,
        src_port: 5353,
        dst_port: 5353,
        addresses: Addresses::v6(0xfe80 << 112 | 2, 0xff02 << 112 | 0xfb),
    };
    let frame = bytes(TAGGED_UDP6);
    assert_eq!(ok(&frame), expected);
    let bare = Parsed {
        vlan_tags: 0,
        l3_off: 0,
        l4_off: 40,
        payload_off: 48,
        ..expected
    };
    assert_eq!(parse_ip(&frame[22..], frame.len() - 22), Ok(bare));
}

#[test]
fn sctp_behind_five_extension_headers() {
    // Hop-by-hop, routing, destination options, authentication, atomic fragment, SCTP.
    let mut frame = bytes(EXTENDED_SCTP6);
    frame.extend_from_slice(&bytes("84 00 00 00 00 00 00 09  0b 59 0b 5a 00 00 00 00"));
    frame[19] = (frame.len() - 54) as u8;
    let error = ParseError::Truncated {
        layer: Layer::Sctp,
        need: 12,
        have: 8,
    };
    assert_eq!(err(&frame), error);
    frame.extend_from_slice(&[1, 2, 3, 4]);
    frame[19] += 4;
    let expected = Parsed {
        l3: L3::Ipv6,
        ethertype: ethertype::IPV6,
        vlan_tags: 0,
        l3_off: 14,
        l4_off: 118,
        payload_off: 130,
        ip_len: 116,
        proto: proto::SCTP,
        fragment: Fragment::None,
        ip_options: true,
        dont_fragment: true,
        ttl: 64,
        tos: 0,
        src_port: 2905,
        dst_port: 2906,
        addresses: Addresses::v6(0xfd77_0001 << 96 | 2, 0xfd77_0002 << 96 | 2),
    };
    assert_eq!(ok(&frame), expected);
}

#[test]
fn what_is_not_ip() {
    let mut frame = bytes("01 80 c2 00 00 00  0a 58 0a 4d 01 02  88 cc  02 07");
    let other = ok(&frame);
    assert_eq!(
        (other.l3, other.ethertype, other.l3_off),
        (L3::Other, 0x88cc, 14)
    );
    assert_eq!(
        (other.l4_off, other.payload_off, other.ip_len, other.proto),
        (14, 14, 0, 0)
    );
    // IEEE 802.3 with a length, spanning tree.
    frame[12..14].copy_from_slice(&[0, 2]);
    assert_eq!((ok(&frame).l3, ok(&frame).ethertype), (L3::Other, 2));

    let arp = kit::arp_request("10.77.1.2", "10.77.1.1");
    assert_eq!(
        (ok(&arp).l3, ok(&arp).l3_off, ok(&arp).ip_len),
        (L3::Arp, 14, 0)
    );
    assert_eq!(ok(&kit::tag(&arp, 5)).l3_off, 18);
    for at in 14..20 {
        let mut bent = arp.clone();
        bent[at] ^= 0x10;
        assert!(
            matches!(err(&bent), ParseError::ArpFormat { .. }),
            "byte {at}"
        );
        assert_eq!(err(&bent).layer(), Layer::Arp);
    }
}

#[test]
fn a_third_tag_is_too_much() {
    let frame = kit::udp("10.0.0.1:1", "10.0.0.2:2")
        .vlan(1)
        .vlan(2)
        .vlan(3)
        .frame();
    assert_eq!(err(&frame), ParseError::VlanTags { limit: 2 });
    assert_eq!(err(&frame).layer(), Layer::Ethernet);
}

#[test]
fn icmp_ids_are_no_ports() {
    for frame in [
        kit::ping("10.0.0.1", "10.0.0.2"),
        kit::ping("fd77::1", "fd77::2"),
    ] {
        let parsed = ok(&frame.payload(b"x").frame());
        assert_eq!((parsed.src_port, parsed.dst_port), (0, 0));
        assert_eq!(parsed.payload_off, parsed.l4_off + 8);
    }
    // Each family's ICMP under the other is an unknown protocol.
    for (src, dst, proto) in [
        ("10.0.0.1", "10.0.0.2", proto::ICMPV6),
        ("fd77::1", "fd77::2", proto::ICMPV4),
    ] {
        let parsed = ok(&kit::raw(src, dst, proto).payload(&[8]).frame());
        assert_eq!((parsed.proto, parsed.payload_off), (proto, parsed.l4_off));
    }
}

#[test]
fn unknown_protocols_end_the_parse() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd77::1", "fd77::2")] {
        for proto in [proto::IGMP, proto::ESP, proto::NO_NEXT_HEADER, 47, 255] {
            let parsed = ok(&kit::raw(src, dst, proto).frame());
            assert_eq!((parsed.proto, parsed.payload_off), (proto, parsed.l4_off));
            assert_eq!((parsed.src_port, parsed.ip_options), (0, false));
        }
    }
    // AH is an extension header of IPv6 only.
    let parsed = ok(&kit::raw("10.0.0.1", "10.0.0.2", proto::AUTHENTICATION)
        .payload(&[6; 24])
        .frame());
    assert_eq!(
        (parsed.proto, parsed.payload_off),
        (proto::AUTHENTICATION, 34)
    );
}

#[test]
fn fragments_by_flag_and_offset() {
    let mut frame = kit::udp("10.0.0.1:1", "10.0.0.2:2").payload_len(16).frame();
    for (field, fragment, ports, payload) in [
        (0x0000_u16, Fragment::None, (1, 2), 42),
        (0x8000, Fragment::None, (1, 2), 42),
        (0x4000, Fragment::None, (1, 2), 42),
        (0x2000, Fragment::First, (1, 2), 42),
        (0x2001, Fragment::Later, (0, 0), 34),
        (0x0001, Fragment::Later, (0, 0), 34),
        (0x1fff, Fragment::Later, (0, 0), 34),
    ] {
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        kit::fix_ipv4(&mut frame, 14);
        let p = ok(&frame);
        assert_eq!(
            (p.fragment, (p.src_port, p.dst_port), p.payload_off),
            (fragment, ports, payload)
        );
        assert_eq!(
            (p.dont_fragment, p.is_fragment()),
            (field & 0x4000 != 0, field & 0x3fff != 0)
        );
    }
}

#[test]
fn ipv6_fragments_by_flag_and_offset() {
    for (field, fragment, proto) in [
        (0x0000_u16, Fragment::None, proto::UDP),
        // Reserved bits change nothing.
        (0x0006, Fragment::None, proto::UDP),
        (0x0001, Fragment::First, proto::UDP),
        (0x0008, Fragment::Later, proto::DESTINATION_OPTIONS),
        (0xfff9, Fragment::Later, proto::DESTINATION_OPTIONS),
    ] {
        let [a, b] = field.to_be_bytes();
        let frame = kit::udp("[fd77::1]:1", "[fd77::2]:2")
            .extension(proto::FRAGMENT, &[a, b, 0, 0, 0, 7])
            .extension(proto::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0])
            .payload_len(16)
            .frame();
        let p = ok(&frame);
        assert_eq!(
            (p.fragment, p.proto, p.ip_options),
            (fragment, proto, true),
            "{field:04x}"
        );
        if fragment == Fragment::Later {
            assert_eq!((p.l4_off, p.payload_off, p.src_port), (62, 62, 0));
        } else {
            assert_eq!((p.l4_off, p.payload_off, p.src_port), (70, 78, 1));
        }
    }
}

#[test]
fn tiny_first_fragments_are_refused() {
    let cases = [
        (kit::tcp("10.0.0.1:1", "10.0.0.2:2"), Layer::Tcp, 20),
        (kit::sctp("10.0.0.1:1", "10.0.0.2:2"), Layer::Sctp, 12),
        (kit::tcp("[fd77::1]:1", "[fd77::2]:2"), Layer::Tcp, 20),
    ];
    for (build, layer, need) in cases {
        let front = build.packet().len() - need as usize;
        let extra = if front == 40 { 8 } else { 0 };
        let frames = build.payload_len(40).fragments(front + extra + 8);
        assert_eq!(
            err(&frames[0]),
            ParseError::Truncated {
                layer,
                need,
                have: 8
            }
        );
        assert_eq!(ok(&frames[1]).fragment, Fragment::Later);
    }
    // A first fragment's UDP length covers the datagram, not the fragment; below 8 it lies.
    let mut first = kit::udp("10.0.0.1:1", "10.0.0.2:2")
        .payload_len(3000)
        .fragments(1500)
        .remove(0);
    assert_eq!(
        (ok(&first).fragment, ok(&first).ip_len),
        (Fragment::First, 1500)
    );
    first[38..40].copy_from_slice(&[0, 7]);
    assert_eq!(
        err(&first),
        ParseError::UdpLength {
            stated: 7,
            max: 1480
        }
    );
}

#[test]
fn ipv4_header_fields_that_lie() {
    let good = bytes(UDP4);
    let bent = |at: usize, value: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + value.len()].copy_from_slice(value);
        if frame[14] & 0xf >= 5 {
            let end = 14 + usize::from(frame[14] & 0xf) * 4;
            if end <= frame.len() {
                kit::fix_ipv4(&mut frame, 14);
            }
        }
        err(&frame)
    };
    assert_eq!(bent(14, &[0x65]), ParseError::Ipv4Version { version: 6 });
    for ihl in 0..5 {
        assert_eq!(
            bent(14, &[0x40 | ihl]),
            ParseError::Ipv4HeaderLength {
                bytes: u16::from(ihl) * 4
            }
        );
    }
    assert_eq!(
        bent(14, &[0x4f]),
        ParseError::Truncated {
            layer: Layer::Ipv4,
            need: 60,
            have: 34
        }
    );
    assert_eq!(
        bent(14, &[0x48]),
        ParseError::Ipv4TotalLength {
            stated: 30,
            min: 32,
            max: 34
        }
    );
    for stated in [0_u16, 19, 35, 0xffff] {
        let error = ParseError::Ipv4TotalLength {
            stated,
            min: 20,
            max: 34,
        };
        assert_eq!(bent(16, &stated.to_be_bytes()), error);
        assert_eq!(error.layer(), Layer::Ipv4);
    }
    assert_eq!(
        bent(16, &[0, 20]),
        ParseError::Truncated {
            layer: Layer::Udp,
            need: 8,
            have: 0
        }
    );
    assert_eq!(
        bent(16, &[0, 27]),
        ParseError::Truncated {
            layer: Layer::Udp,
            need: 8,
            have: 7
        }
    );
    assert_eq!(
        bent(16, &[0, 29]),
        ParseError::UdpLength { stated: 10, max: 9 }
    );
    for stated in [0_u16, 7, 11, 0xffff] {
        let error = ParseError::UdpLength { stated, max: 10 };
        assert_eq!(bent(38, &stated.to_be_bytes()), error);
        assert_eq!(error.layer(), Layer::Udp);
    }
}

#[test]
fn every_flipped_bit_of_an_ipv4_header_is_noticed() {
    for text in [UDP4, TCP4_OPTIONS] {
        let mut frame = bytes(text);
        let end = usize::from(ok(&frame).l4_off);
        for bit in 14 * 8..end * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&frame, frame.len()).is_err(), "bit {bit}");
            assert!(
                parse_ip(&frame[14..], frame.len() - 14).is_err(),
                "bit {bit}"
            );
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
    let mut frame = bytes(UDP4);
    frame[24] = 0xab;
    assert_eq!(
        err(&frame),
        ParseError::Ipv4Checksum {
            found: 0xab46,
            expected: 0x1146
        }
    );
    assert_eq!(err(&frame).layer(), Layer::Ipv4Checksum);
}

#[test]
fn both_zeroes_are_a_right_ipv4_checksum() {
    let mut frame = kit::udp("10.0.0.1:1", "10.0.0.2:2").frame();
    // Choose the identification so that the checksum comes out as 0.
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    frame[18..20].copy_from_slice(&sum.to_be_bytes());
    for zero in [[0, 0], [0xff, 0xff]] {
        frame[24..26].copy_from_slice(&zero);
        assert!(parse(&frame, frame.len()).is_ok());
        assert!(parse(&kit::tag(&frame, 1), frame.len() + 4).is_ok());
    }
}

#[test]
fn tcp_header_lengths_that_lie() {
    for build in [
        kit::tcp("10.0.0.1:1", "10.0.0.2:2"),
        kit::tcp("[fd77::1]:1", "[fd77::2]:2"),
    ] {
        let mut frame = build.payload_len(8).padding(40).frame();
        let at = usize::from(ok(&frame).l4_off);
        for words in 0..16_u16 {
            frame[at + 12] = (words << 4) as u8;
            match words {
                0..5 => assert_eq!(err(&frame), ParseError::TcpDataOffset { bytes: words * 4 }),
                5..=7 => assert_eq!(
                    usize::from(ok(&frame).payload_off),
                    at + usize::from(words) * 4
                ),
                // The padding is there, but not of the packet.
                _ => {
                    let layer = Layer::Tcp;
                    assert_eq!(
                        err(&frame),
                        ParseError::Truncated {
                            layer,
                            need: words * 4,
                            have: 28
                        }
                    );
                }
            }
        }
        assert_eq!(ParseError::TcpDataOffset { bytes: 0 }.layer(), Layer::Tcp);
    }
}

#[test]
fn ipv6_fields_that_lie() {
    let good = bytes(TAGGED_UDP6);
    let bent = |at: usize, value: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + value.len()].copy_from_slice(value);
        err(&frame)
    };
    assert_eq!(bent(22, &[0x40]), ParseError::Ipv6Version { version: 4 });
    for stated in [10_u16, 0xffff] {
        let error = ParseError::Ipv6PayloadLength { stated, max: 9 };
        assert_eq!(bent(26, &stated.to_be_bytes()), error);
        assert_eq!(error.layer(), Layer::Ipv6);
    }
    // Length 0 is a jumbogram's (RFC 2675), which is not carried.
    assert_eq!(
        bent(26, &[0, 0]),
        ParseError::Truncated {
            layer: Layer::Udp,
            need: 8,
            have: 0
        }
    );
    assert_eq!(
        bent(26, &[0, 8]),
        ParseError::UdpLength { stated: 9, max: 8 }
    );
    assert_eq!(
        bent(66, &[0, 0]),
        ParseError::UdpLength { stated: 0, max: 9 }
    );
    let mut frame = good.clone();
    frame[28] = proto::ICMPV6;
    assert_eq!(ok(&frame).payload_off, 70);
    frame[27] = 7;
    assert_eq!(
        err(&frame),
        ParseError::Truncated {
            layer: Layer::Icmp,
            need: 8,
            have: 7
        }
    );
}

#[test]
fn extension_headers_are_bounded() {
    let padding = |units: usize| {
        let mut body = vec![0; units * 8 - 2];
        body[0] = 1;
        body[1] = (units * 8 - 4) as u8;
        body
    };
    let chain = |n: usize, units: usize| {
        let mut build = kit::udp("[fd77::1]:1", "[fd77::2]:2");
        for _ in 0..n {
            build = build.extension(proto::DESTINATION_OPTIONS, &padding(units));
        }
        build.frame()
    };
    assert_eq!(ok(&chain(8, 1)).l4_off, 54 + 64);
    assert_eq!(
        err(&chain(9, 1)),
        ParseError::Ipv6ExtensionCount { limit: 8 }
    );
    assert_eq!(ok(&chain(8, 4)).l4_off, 54 + 256);
    assert_eq!(ok(&chain(1, 32)).l4_off, 54 + 256);
    assert_eq!(
        err(&chain(7, 5)),
        ParseError::Ipv6ExtensionLength {
            bytes: 280,
            limit: 256
        }
    );
    assert_eq!(err(&chain(7, 5)).layer(), Layer::Ipv6Extensions);

    let late = kit::udp("[fd77::1]:1", "[fd77::2]:2")
        .extension(proto::DESTINATION_OPTIONS, &padding(1))
        .extension(proto::HOP_BY_HOP, &padding(1))
        .frame();
    assert_eq!(err(&late), ParseError::Ipv6HopByHop { index: 1 });

    let mut short = kit::udp("[fd77::1]:1", "[fd77::2]:2")
        .extension(proto::AUTHENTICATION, &[0; 10])
        .payload_len(40)
        .frame();
    assert_eq!(ok(&short).l4_off, 66);
    short[55] = 0;
    assert_eq!(err(&short), ParseError::AuthenticationLength { bytes: 8 });
    short[55] = 255;
    assert_eq!(
        err(&short),
        ParseError::Ipv6ExtensionLength {
            bytes: 1028,
            limit: 256
        }
    );
}

#[test]
fn an_extension_header_ends_within_the_packet() {
    let mut frame = kit::raw("fd77::1", "fd77::2", 0)
        .payload(&[17, 0, 5, 2, 0, 0, 1, 0])
        .padding(64)
        .frame();
    let layer = Layer::Ipv6Extensions;
    assert_eq!(
        err(&frame),
        ParseError::Truncated {
            layer: Layer::Udp,
            need: 8,
            have: 0
        }
    );
    frame[55] = 1;
    assert_eq!(
        err(&frame),
        ParseError::Truncated {
            layer,
            need: 16,
            have: 8
        }
    );
    frame[19] = 7;
    assert_eq!(
        err(&frame),
        ParseError::Truncated {
            layer,
            need: 8,
            have: 7
        }
    );
}

#[test]
fn bare_packets_by_version() {
    assert_eq!(
        parse_ip(&[], 0),
        Err(ParseError::Truncated {
            layer: Layer::Ipv4,
            need: 1,
            have: 0
        })
    );
    for version in (0..16).filter(|v| *v != 4 && *v != 6) {
        let packet = [version << 4; 60];
        let error = ParseError::IpVersion { version };
        assert_eq!(parse_ip(&packet, 60), Err(error));
        assert_eq!(error.layer(), Layer::Ipv4);
    }
}

#[test]
fn errors_are_small_and_say_what_was_seen() {
    assert!(size_of::<ParseError>() <= 12, "{}", size_of::<ParseError>());
    // One cache line.
    assert!(size_of::<Parsed>() <= 64, "{}", size_of::<Parsed>());
    let text = ParseError::Ipv4TotalLength {
        stated: 35,
        min: 20,
        max: 34,
    }
    .to_string();
    assert_eq!(text, "IPv4 total length 35, expected 20..=34");
    let text = ParseError::Truncated {
        layer: Layer::Tcp,
        need: 20,
        have: 8,
    }
    .to_string();
    assert_eq!(text, "Tcp header needs 20 bytes, 8 there");
}
