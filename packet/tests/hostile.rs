//! Every prefix of every kind of packet, and every value of every header byte: no panic, no offset
//! outside the packet, and a truncated packet is refused exactly where it has to be.

use ringway_packet::flow::{FlowKey, flow_hash};
use ringway_packet::parse::{L3, Parsed, parse, parse_ip};
use ringway_packet::{arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, kit, proto, sctp, tcp, udp};

const A4: &str = "10.77.1.2:1000";
const B4: &str = "10.77.2.2:80";
const A6: &str = "[fd77:1::2]:1000";
const B6: &str = "[fd77:2::2]:80";

/// Every kind of packet the parse tells apart, each with payload and padding.
fn kinds() -> Vec<(String, Vec<u8>)> {
    let padn = [1, 4, 0, 0, 0, 0];
    let mut builds = Vec::new();
    for (family, a, b) in [("4", A4, B4), ("6", A6, B6)] {
        builds.push((format!("udp{family}"), kit::udp(a, b)));
        builds.push((format!("tcp{family}"), kit::tcp(a, b)));
        builds.push((
            format!("tcp{family} options"),
            kit::tcp(a, b).tcp_options(&[1; 40]),
        ));
        builds.push((format!("sctp{family}"), kit::sctp(a, b)));
        builds.push((format!("ping{family}"), kit::ping(a, b)));
        builds.push((format!("esp{family}"), kit::raw(a, b, proto::ESP)));
    }
    builds.push(("options4".into(), kit::udp(A4, B4).options(&[1; 40])));
    for kind in [
        proto::HOP_BY_HOP,
        proto::ROUTING,
        proto::DESTINATION_OPTIONS,
    ] {
        builds.push((
            format!("extension {kind}"),
            kit::tcp(A6, B6).extension(kind, &padn),
        ));
    }
    builds.push((
        "all extensions".into(),
        kit::udp(A6, B6)
            .extension(proto::HOP_BY_HOP, &padn)
            .extension(proto::ROUTING, &padn)
            .extension(proto::DESTINATION_OPTIONS, &padn)
            .extension(proto::AUTHENTICATION, &[0; 22])
            .extension(proto::FRAGMENT, &[0; 6]),
    ));
    let mut frames = Vec::new();
    for (name, build) in builds {
        let build = build.payload_len(24);
        frames.push((name.clone(), build.clone().padding(7).frame()));
        frames.push((
            format!("{name}, tagged"),
            build.clone().vlan(1).vlan(2).padding(7).frame(),
        ));
        for (i, fragment) in build
            .payload_len(200)
            .fragments(160)
            .into_iter()
            .enumerate()
        {
            frames.push((format!("{name}, fragment {i}"), fragment));
        }
    }
    frames.push(("arp".into(), kit::arp_request("10.77.1.2", "10.77.1.1")));
    frames.push((
        "solicitation".into(),
        kit::solicitation("fd77:1::2", "fd77:1::3"),
    ));
    frames.push((
        "advertisement".into(),
        kit::advertisement("fd77:1::3", "fd77:1::2"),
    ));
    frames
}

/// Bytes without which nothing of this frame can be understood.
fn headers_end(p: &Parsed) -> usize {
    match p.l3 {
        L3::Arp => usize::from(p.l3_off) + arp::LEN,
        _ => usize::from(p.payload_off),
    }
}

#[test]
fn every_prefix_of_the_linear_bytes() {
    for (name, frame) in kinds() {
        let whole = parse(&frame, frame.len()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for n in 0..=frame.len() {
            let got = parse(&frame[..n], frame.len());
            if n >= headers_end(&whole) {
                assert_eq!(got, Ok(whole), "{name}, {n} linear");
            } else {
                let error = got.expect_err(&format!("{name}, {n} linear"));
                assert!(
                    error.to_string().contains("bytes, "),
                    "{name}, {n} linear: {error}"
                );
            }
        }
    }
}

#[test]
fn every_prefix_of_the_frame() {
    for (name, frame) in kinds() {
        let whole = parse(&frame, frame.len()).unwrap();
        let end = headers_end(&whole).max(whole.ip_end());
        for n in 0..=frame.len() {
            // Bytes behind the length given are not looked at.
            for head in [&frame[..n], &frame[..]] {
                let got = parse(head, n);
                assert_eq!(got.is_ok(), n >= end, "{name}, {n} bytes: {got:?}");
                assert!(got.is_err() || got == Ok(whole), "{name}, {n} bytes");
            }
        }
    }
}

#[test]
fn every_prefix_of_the_bare_packet() {
    for (name, frame) in kinds()
        .into_iter()
        .filter(|(name, _)| !name.contains("arp"))
    {
        let framed = parse(&frame, frame.len()).unwrap();
        let packet = &frame[usize::from(framed.l3_off)..];
        let whole = parse_ip(packet, packet.len()).unwrap();
        assert_eq!(
            (whole.ip_len, whole.proto),
            (framed.ip_len, framed.proto),
            "{name}"
        );
        for n in 0..=packet.len() {
            assert_eq!(
                parse_ip(&packet[..n], n).is_ok(),
                n >= whole.ip_end(),
                "{name}, {n} bytes"
            );
            let linear = parse_ip(&packet[..n], packet.len());
            assert_eq!(
                linear.is_ok(),
                n >= usize::from(whole.payload_off),
                "{name}, {n} linear"
            );
        }
    }
}

#[test]
fn every_value_of_every_header_byte() {
    let mut accepted = 0;
    for (name, good) in kinds() {
        let whole = parse(&good, good.len()).unwrap();
        let l3 = usize::from(whole.l3_off);
        for at in 12..(headers_end(&whole) + 8).min(good.len()) {
            for value in 0..=255 {
                let mut frame = good.clone();
                frame[at] = value;
                let end = l3 + usize::from(frame[l3] & 0xf) * 4;
                if whole.l3 == L3::Ipv4 && frame[l3] & 0xf >= 5 && end <= frame.len() {
                    kit::fix_ipv4(&mut frame, l3);
                }
                for head in [&frame[..], &frame[..headers_end(&whole)]] {
                    accepted += usize::from(survives(head, frame.len()));
                }
            }
        }
        assert!(survives(&good, good.len()), "{name}");
    }
    // Most values of most bytes are fine: the sweep reaches what is behind the parse.
    assert!(accepted > 100_000, "{accepted}");
}

#[test]
fn every_pair_of_lying_lengths() {
    for (name, good) in kinds() {
        let whole = parse(&good, good.len()).unwrap();
        let (l3, l4) = (usize::from(whole.l3_off), usize::from(whole.l4_off));
        let length_at = match whole.l3 {
            L3::Ipv4 => l3 + 2,
            L3::Ipv6 => l3 + 4,
            _ => continue,
        };
        for stated in (0..=good.len() as u16 + 2).chain([0x7fff, 0x8000, 0xfffe, 0xffff]) {
            for inner in [
                0, 1, 4, 5, 7, 8, 9, 15, 16, 31, 32, 0x50, 0x7f, 0x80, 0xf0, 0xff,
            ] {
                let mut frame = good.clone();
                frame[length_at..length_at + 2].copy_from_slice(&stated.to_be_bytes());
                for at in [l4 + 1, l4 + 5, l4 + 12, l3 + 41, l3 + 49] {
                    if at < frame.len() {
                        frame[at] = inner;
                    }
                }
                if whole.l3 == L3::Ipv4 {
                    kit::fix_ipv4(&mut frame, l3);
                }
                survives(&frame, frame.len());
                let beyond = l3 + usize::from(stated) + if whole.l3 == L3::Ipv6 { 40 } else { 0 };
                if beyond > frame.len() {
                    assert!(
                        parse(&frame, frame.len()).is_err(),
                        "{name} {stated} {inner}"
                    );
                }
            }
        }
    }
}

/// Runs everything that takes a parsed frame, and every view, over these bytes. Whether it parsed.
fn survives(head: &[u8], len: usize) -> bool {
    let mut out = [0; 1500];
    let _ = ethernet::View::new(head).map(|view| view.repr());
    for at in [0, 14, 18, 22, 34, 54] {
        let Some(bytes) = head.get(at..) else {
            continue;
        };
        let _ = ethernet::Tag::parse(bytes);
        let _ = arp::View::new(bytes).map(|view| view.repr());
        let _ = ipv4::View::new(bytes).map(|v| (v.repr(), v.options().len(), v.payload().len()));
        let _ = ipv6::View::new(bytes).map(|v| (v.repr(), v.payload().len()));
        let _ = tcp::View::new(bytes).map(|v| (v.repr(), v.options().len(), v.payload().len()));
        let _ = udp::View::new(bytes).map(|v| (v.repr(), v.payload().len()));
        let _ = sctp::View::new(bytes).map(|v| (v.repr(), v.payload().len()));
        let _ = icmpv4::View::new(bytes).map(|v| (v.repr(), v.body().len(), v.verify()));
        let _ = icmpv6::View::new(bytes).map(|v| (v.repr(), v.body().len(), v.verify(1, 2)));
        let _ = icmpv6::Neighbour::parse(bytes);
        for room in [0, 27, 28, 47, 48, 60, 100, 1500] {
            let error = icmpv4::Error::FragmentationNeeded(1400);
            let written = icmpv4::write_error(&mut out[..room], error, 1, 2, bytes);
            assert!(written.is_none_or(|n| n <= room.min(576)));
            let error = icmpv6::Error::PacketTooBig(1400);
            let written = icmpv6::write_error(&mut out[..room], error, 1, 2, bytes);
            assert!(written.is_none_or(|n| n <= room.min(1280)));
        }
    }
    let Ok(p) = parse(head, len) else {
        return false;
    };
    assert!(p.l3_off <= p.l4_off && p.l4_off <= p.payload_off);
    assert!(usize::from(p.payload_off) <= head.len() && p.ip_end() <= len);
    let is_ip = matches!(p.l3, L3::Ipv4 | L3::Ipv6);
    assert_eq!(FlowKey::of(&p).is_some(), is_ip);
    assert!(is_ip || flow_hash(&p) == 0);
    // Each with the other family's packet too: a caller's mistake may not panic.
    icmpv4::may_send_error(&p, head);
    icmpv6::may_send_error(&p, head);
    true
}

#[test]
fn functions_that_are_given_another_frame_than_was_parsed() {
    for (_, frame) in kinds() {
        let p = parse(&frame, frame.len()).unwrap();
        for n in 0..frame.len() {
            let head = &frame[..n];
            let _ = (FlowKey::of(&p), flow_hash(&p));
            let _ = (
                icmpv4::may_send_error(&p, head),
                icmpv6::may_send_error(&p, head),
            );
        }
    }
}
