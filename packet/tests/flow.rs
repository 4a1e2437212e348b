//! Flow keys by value, and that the flow hash spreads flows.

use std::collections::HashSet;

use ringway_packet::addr::mapped;
use ringway_packet::flow::{FlowKey, flow_hash};
use ringway_packet::parse::{parse, parse_ip};
use ringway_packet::{kit, proto};

fn hash(frame: &[u8]) -> u32 {
    flow_hash(&parse(frame, frame.len()).unwrap())
}

fn key(frame: &[u8]) -> Option<FlowKey> {
    FlowKey::of(&parse(frame, frame.len()).unwrap())
}

#[test]
fn keys_by_value() {
    let expected = FlowKey {
        src: mapped(0x0a4d_0102),
        dst: mapped(0x0a4d_0202),
        src_port: 1000,
        dst_port: 80,
        proto: proto::TCP,
    };
    let build = kit::tcp("10.77.1.2:1000", "10.77.2.2:80");
    assert_eq!(key(&build.frame()), Some(expected));
    assert_eq!(key(&build.clone().vlan(3).frame()), Some(expected));
    let answer = kit::tcp("10.77.2.2:80", "10.77.1.2:1000").frame();
    assert_eq!(key(&answer), Some(expected.reversed()));
    assert_eq!(expected.reversed().reversed(), expected);

    let six = kit::udp("[fd77:1::2]:5", "[fd77:2::2]:6").frame();
    let expected = FlowKey {
        src: 0xfd77_0001 << 96 | 2,
        dst: 0xfd77_0002 << 96 | 2,
        src_port: 5,
        dst_port: 6,
        proto: proto::UDP,
    };
    assert_eq!(key(&six), Some(expected));
    assert_eq!(
        key(&kit::ping("10.0.0.1", "10.0.0.2").frame())
            .unwrap()
            .src_port,
        0
    );
    assert_eq!(key(&kit::arp_request("10.0.0.1", "10.0.0.2")), None);
    assert_eq!(hash(&kit::arp_request("10.0.0.1", "10.0.0.2")), 0);
}

#[test]
fn one_flow_has_one_hash_wherever_its_header_lies() {
    for (a, b) in [
        ("10.77.1.2:1000", "10.77.2.2:80"),
        ("[fd77::1]:1000", "[fd77::2]:80"),
    ] {
        let build = kit::udp(a, b);
        let expected = hash(&build.frame());
        for other in [
            build.clone().vlan(9),
            build.clone().ttl(3).tos(7),
            build.clone().payload(b"x"),
        ] {
            assert_eq!(hash(&other.frame()), expected);
        }
        let bare = build.packet();
        assert_eq!(flow_hash(&parse_ip(&bare, bare.len()).unwrap()), expected);
    }
}

#[test]
fn the_hash_is_the_same_on_every_machine() {
    // Computed apart from this code, with integers of any size.
    let four = hash(&kit::udp("10.77.1.2:1000", "10.77.2.2:80").frame());
    let six = hash(&kit::udp("[fd77:1::2]:1000", "[fd77:2::2]:80").frame());
    assert_eq!((four, six), (0xe189a1d6, 0x5ac8ad6e));
}

#[test]
fn all_fragments_of_a_packet_agree() {
    for build in [
        kit::udp("10.77.1.2:1000", "10.77.2.2:80").options(&[1; 4]),
        kit::udp("[fd77::1]:1000", "[fd77::2]:80"),
        kit::udp("[fd77::1]:1000", "[fd77::2]:80").extension(proto::ROUTING, &[0; 6]),
    ] {
        let fragments = build.payload_len(4000).fragments(1280);
        assert!(fragments.len() > 3);
        let hashes: HashSet<_> = fragments.iter().map(|f| hash(f)).collect();
        assert_eq!(hashes.len(), 1);
        let keys: HashSet<_> = fragments.iter().map(|f| key(f).unwrap()).collect();
        assert_eq!((keys.len(), keys.iter().next().unwrap().src_port), (1, 0));
    }
    // Also where the later ones do not know the protocol.
    let piece = |offset: u8, more: u8| {
        kit::udp("[fd77::1]:1", "[fd77::2]:2")
            .extension(proto::FRAGMENT, &[0, offset << 3 | more, 0, 0, 0, 9])
            .extension(proto::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0])
            .frame()
    };
    assert_eq!(hash(&piece(0, 1)), hash(&piece(3, 0)));
}

/// Flows of one kind fall into `buckets` about evenly: by chi-squared, which for random values is
/// `buckets` − 1 with deviation √(2·buckets); six deviations are allowed.
fn is_even(name: &str, hashes: &[u32]) {
    for (buckets, bucket) in [(64, 26), (256, 24)] {
        for (part, shift) in [("high", bucket), ("low", 0)] {
            let mut counts = vec![0f64; buckets];
            for hash in hashes {
                counts[(hash >> shift) as usize % buckets] += 1.0;
            }
            let expected = hashes.len() as f64 / buckets as f64;
            let chi: f64 = counts
                .iter()
                .map(|n| (n - expected).powi(2) / expected)
                .sum();
            let limit = buckets as f64 + 6.0 * (2.0 * buckets as f64).sqrt();
            assert!(
                chi < limit,
                "{name}: {part} {buckets} buckets, chi-squared {chi:.0} > {limit:.0}"
            );
        }
    }
    let distinct: HashSet<_> = hashes.iter().collect();
    assert!(
        distinct.len() + 20 > hashes.len(),
        "{name}: {} distinct",
        distinct.len()
    );
}

#[test]
fn flows_that_differ_little_spread() {
    type Ends = fn(u32) -> (String, String);
    let kinds: [(&str, Ends); 6] = [
        ("v4 source ports", |i| {
            (format!("10.77.1.2:{}", 1024 + i), "10.77.2.2:80".into())
        }),
        ("v4 destination ports", |i| {
            ("10.77.1.2:80".into(), format!("10.77.2.2:{}", 1024 + i))
        }),
        ("v4 hosts", |i| {
            (
                format!("10.77.{}.{}:1", i >> 8 & 255, i & 255),
                "10.78.0.1:80".into(),
            )
        }),
        ("v4 pairs", |i| {
            (
                format!("10.77.1.{}:1", i & 127),
                format!("10.77.2.{}:80", i >> 7),
            )
        }),
        ("v6 source ports", |i| {
            (format!("[fd77:1::2]:{}", 1024 + i), "[fd77:2::2]:80".into())
        }),
        ("v6 hosts", |i| {
            (
                format!("[fd77:1::{i:x}]:1"),
                format!("[fd77:2::{:x}]:80", i & 7),
            )
        }),
    ];
    for (name, ends) in kinds {
        let hashes: Vec<u32> = (0..16_384)
            .map(|i| {
                let (src, dst) = ends(i);
                hash(&kit::udp(&src[..], &dst[..]).frame())
            })
            .collect();
        is_even(name, &hashes);
    }
}

#[test]
fn every_bit_of_the_key_counts() {
    for (base, last) in [
        (kit::udp("10.77.1.2:1000", "10.77.2.2:80").frame(), 38),
        (kit::udp("[fd77:1::2]:1000", "[fd77:2::2]:80").frame(), 58),
    ] {
        let first = last - if last == 38 { 12 } else { 36 };
        let p = parse(&base, base.len()).unwrap();
        let mut seen = HashSet::from([flow_hash(&p)]);
        let mut flipped = 0;
        for bit in first * 8..last * 8 {
            let mut frame = base.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            if last == 38 {
                kit::fix_ipv4(&mut frame, 14);
            }
            let hash = hash(&frame);
            flipped += (hash ^ flow_hash(&p)).count_ones();
            assert!(seen.insert(hash), "bit {bit}");
        }
        let mean = f64::from(flipped) / ((last - first) * 8) as f64;
        assert!(
            (12.0..20.0).contains(&mean),
            "a flipped bit flips {mean:.1} of 32"
        );
    }
}
