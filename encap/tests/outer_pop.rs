//! Popping outer frames: what comes back, and every way to lie.

mod cast;

use cast::{CARRIED, SRC_PORT, TOS, VXLAN, all, fix_ipv4, frame, header};
use proptest::prelude::*;
use ringway_encap::Encap;
use ringway_encap::outer::{
    Layer, Outer, PopError, TransportSpec, UdpChecksum, pop_outer, verify_checksum,
};
use ringway_packet::addr::from_ip;
use ringway_packet::checksum;

fn pop(frame: &[u8]) -> Result<Outer, PopError> {
    pop_outer(frame, frame.len())
}

fn vxlan4() -> Vec<u8> {
    frame(
        &header(false, VXLAN, UdpChecksum::Zero),
        &CARRIED,
        SRC_PORT,
        TOS,
    )
}

fn vxlan6() -> Vec<u8> {
    frame(
        &header(true, VXLAN, UdpChecksum::Full),
        &CARRIED,
        SRC_PORT,
        TOS,
    )
}

fn set16(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn fields_of_a_good_frame() {
    for (v6, encap, udp_checksum) in all() {
        let spec = cast::spec(v6, encap, udp_checksum);
        let header = header(v6, encap, udp_checksum);
        let frame = frame(&header, &CARRIED, SRC_PORT, 0xb9);
        let outer = pop(&frame).unwrap();
        assert_eq!(
            (outer.src, outer.dst),
            (from_ip(spec.src), from_ip(spec.dst))
        );
        let TransportSpec::Udp { dst_port, .. } = spec.transport;
        assert_eq!((outer.src_port, outer.dst_port), (SRC_PORT, dst_port));
        assert_eq!(outer.tos, 0xb9);
        assert_eq!(outer.checksum == 0, udp_checksum == UdpChecksum::Zero);
        assert_eq!(outer.payload_off, header.len() - encap.header_len());
        assert_eq!(outer.payload_len, CARRIED.len() + encap.header_len());
    }
}

#[test]
fn every_truncation_is_refused() {
    for (v6, encap, udp_checksum) in all() {
        let whole = frame(&header(v6, encap, udp_checksum), &CARRIED, SRC_PORT, TOS);
        for len in 0..whole.len() {
            assert!(pop(&whole[..len]).is_err(), "{len} of {}", whole.len());
        }
        // Linear part cut short, the rest chained elsewhere: headers must be linear, no more.
        let headers = pop(&whole).unwrap().payload_off;
        for linear in 0..whole.len() {
            let result = pop_outer(&whole[..linear], whole.len());
            if linear >= headers {
                assert_eq!(result, pop(&whole), "{linear}");
            } else {
                let at = |end| linear < end;
                let layer = match () {
                    () if at(14) => Layer::Ethernet,
                    () if v6 && at(54) => Layer::Ipv6,
                    () if !v6 && at(34) => Layer::Ipv4,
                    () => Layer::Udp,
                };
                let truncated = matches!(
                    result,
                    Err(PopError::Truncated { layer: l, have, .. }) if l == layer && have == linear
                );
                assert!(truncated, "{linear}: {result:?}");
            }
        }
        // A length below the linear part counts.
        assert_eq!(pop_outer(&whole, 20).is_err(), pop(&whole[..20]).is_err());
    }
}

#[test]
fn every_ipv4_total_length() {
    let good = vxlan4();
    let present = good.len() - 14;
    for stated in 0..=u16::MAX {
        let mut bad = good.clone();
        set16(&mut bad, 16, stated);
        fix_ipv4(&mut bad);
        let stated = usize::from(stated);
        let expected = if stated < 28 || stated > present {
            Err(PopError::IpLength {
                stated,
                min: 28,
                max: present,
            })
        } else if stated < present {
            // Long enough for IP, too short for what UDP states.
            Err(PopError::UdpLength {
                stated: present - 20,
                max: stated - 20,
            })
        } else {
            pop(&good)
        };
        assert_eq!(pop(&bad), expected);
    }
}

#[test]
fn every_ipv6_payload_length() {
    let good = vxlan6();
    let present = good.len() - 54;
    for stated in 0..=u16::MAX {
        let mut bad = good.clone();
        set16(&mut bad, 18, stated);
        let stated = usize::from(stated);
        let expected = if stated < 8 || stated > present {
            Err(PopError::IpLength {
                stated,
                min: 8,
                max: present,
            })
        } else if stated < present {
            Err(PopError::UdpLength {
                stated: present,
                max: stated,
            })
        } else {
            pop(&good)
        };
        assert_eq!(pop(&bad), expected);
    }
}

#[test]
fn every_udp_length() {
    for (good, at) in [(vxlan4(), 34), (vxlan6(), 54)] {
        let max = good.len() - at;
        for stated in 0..=u16::MAX {
            let mut bad = good.clone();
            set16(&mut bad, at + 4, stated);
            let stated = usize::from(stated);
            match pop(&bad) {
                Ok(outer) => {
                    assert!((8..=max).contains(&stated));
                    assert_eq!(outer.payload_len, stated - 8);
                }
                Err(error) => {
                    assert!(!(8..=max).contains(&stated));
                    assert_eq!(error, PopError::UdpLength { stated, max });
                }
            }
        }
    }
}

#[test]
fn padding_after_the_packet_is_cut_off() {
    for good in [vxlan4(), vxlan6()] {
        let mut padded = good.clone();
        padded.extend_from_slice(&[0xaa; 30]);
        assert_eq!(pop(&padded), pop(&good));
    }
}

#[test]
fn ipv4_header_length_options_and_version() {
    for ihl in 0..5u8 {
        let mut bad = vxlan4();
        bad[14] = 0x40 | ihl;
        let bytes = usize::from(ihl) * 4;
        assert_eq!(pop(&bad), Err(PopError::Ipv4HeaderLength { bytes }));
    }
    for ihl in 6..=15u8 {
        let options = usize::from(ihl - 5) * 4;
        let mut frame = vxlan4();
        frame.splice(34..34, vec![1; options]);
        frame[14] = 0x40 | ihl;
        let total = (frame.len() - 14) as u16;
        set16(&mut frame, 16, total);
        fix_ipv4(&mut frame);
        assert_eq!(pop(&frame).unwrap().payload_off, 42 + options);
        for linear in 34..34 + options {
            let error = pop_outer(&frame[..linear], frame.len()).unwrap_err();
            let (layer, need) = (Layer::Ipv4, 34 + options);
            assert_eq!(
                error,
                PopError::Truncated {
                    layer,
                    need,
                    have: linear
                }
            );
        }
    }
    let mut bad = vxlan4();
    bad[14] = 0x65;
    assert_eq!(
        pop(&bad),
        Err(PopError::Version {
            version: 6,
            expected: 4
        })
    );
    let mut bad = vxlan6();
    bad[14] = 0x45;
    assert_eq!(
        pop(&bad),
        Err(PopError::Version {
            version: 4,
            expected: 6
        })
    );
}

#[test]
fn every_flipped_bit_of_the_ipv4_header_is_noticed() {
    let good = vxlan4();
    for bit in 0..160 {
        let mut bad = good.clone();
        bad[14 + bit / 8] ^= 0x80 >> (bit % 8);
        assert!(pop(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn fragments_are_refused() {
    for (flags, fragment) in [
        (0x0000, false),
        (0x4000, false),
        (0x8000, false), // reserved bit: ignored
        (0x2000, true),
        (0x0001, true),
        (0x1fff, true),
        (0x6000, true),
    ] {
        let mut frame = vxlan4();
        set16(&mut frame, 20, flags);
        fix_ipv4(&mut frame);
        assert_eq!(
            pop(&frame) == Err(PopError::Fragment),
            fragment,
            "{flags:#06x}"
        );
        assert_eq!(pop(&frame).is_ok(), !fragment, "{flags:#06x}");
    }
    let mut frame = vxlan6();
    frame[20] = 44;
    assert_eq!(pop(&frame), Err(PopError::Fragment));
}

#[test]
fn only_udp_in_ip_passes() {
    for proto in (0..=255u8).filter(|&p| p != 17) {
        let mut frame = vxlan4();
        frame[23] = proto;
        fix_ipv4(&mut frame);
        assert_eq!(pop(&frame), Err(PopError::Protocol { proto }));
        let mut frame = vxlan6();
        frame[20] = proto;
        let expected = if proto == 44 {
            PopError::Fragment
        } else {
            PopError::Protocol { proto }
        };
        assert_eq!(pop(&frame), Err(expected));
    }
    for ethertype in [0x0000, 0x0806, 0x0801, 0x86dc, 0xffff] {
        let mut frame = vxlan4();
        set16(&mut frame, 12, ethertype);
        assert_eq!(pop(&frame), Err(PopError::EtherType { ethertype }));
    }
}

#[test]
fn up_to_two_vlan_tags() {
    const TAGS: [u8; 12] = [0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x81, 0x00, 0, 7];
    for good in [vxlan4(), vxlan6()] {
        let plain = pop(&good).unwrap();
        for count in 0..=3 {
            let mut tagged = good.clone();
            tagged.splice(12..12, TAGS[..count * 4].iter().copied());
            let result = pop(&tagged);
            if count == 3 {
                assert_eq!(result, Err(PopError::VlanTags));
                continue;
            }
            let payload_off = plain.payload_off + count * 4;
            assert_eq!(
                result,
                Ok(Outer {
                    payload_off,
                    ..plain
                })
            );
            for len in 0..tagged.len() {
                assert!(pop(&tagged[..len]).is_err());
            }
        }
    }
}

#[test]
fn zero_udp_checksum_passes_over_ipv4_only() {
    let mut frame = vxlan6();
    frame[60..62].fill(0);
    assert_eq!(pop(&frame), Err(PopError::ZeroChecksumIpv6));
    let outer = pop(&vxlan4()).unwrap();
    assert_eq!(outer.checksum, 0);
    assert_eq!(verify_checksum(&outer, checksum::sum(b"anything")), Ok(()));
}

#[test]
fn ipv4_in_ipv6_clothes_is_refused() {
    for at in [22, 38] {
        let mut frame = vxlan6();
        frame[at..at + 16].copy_from_slice(&from_ip("10.0.0.1".parse().unwrap()).to_be_bytes());
        assert_eq!(pop(&frame), Err(PopError::MappedAddress));
    }
}

#[test]
fn verification_notices_every_flipped_bit() {
    for (v6, encap, udp_checksum) in all() {
        if udp_checksum == UdpChecksum::Zero {
            continue;
        }
        let good = frame(&header(v6, encap, udp_checksum), &CARRIED, SRC_PORT, TOS);
        let verify = |frame: &[u8]| {
            let outer = pop(frame)?;
            let payload = &frame[outer.payload_off..][..outer.payload_len];
            verify_checksum(&outer, checksum::sum(payload))
        };
        assert_eq!(verify(&good), Ok(()));
        let addresses = if v6 { 22 } else { 26 };
        for bit in addresses * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 0x80 >> (bit % 8);
            if !v6 {
                fix_ipv4(&mut bad);
            }
            assert!(verify(&bad).is_err(), "v6 {v6} {encap} bit {bit}");
        }
    }
}

fn any_kind() -> impl Strategy<Value = (bool, Encap, UdpChecksum)> {
    (
        any::<bool>(),
        prop_oneof![
            Just(Encap::Udp),
            (0..1u32 << 24).prop_map(|vni| Encap::Vxlan { vni })
        ],
    )
        .prop_flat_map(|(v6, encap)| {
            let full = if v6 {
                Just(true).boxed()
            } else {
                any::<bool>().boxed()
            };
            full.prop_map(move |full| {
                (
                    v6,
                    encap,
                    if full {
                        UdpChecksum::Full
                    } else {
                        UdpChecksum::Zero
                    },
                )
            })
        })
}

proptest! {
    #[test]
    fn popping_undoes_pushing(
        (v6, encap, udp_checksum) in any_kind(),
        carried in proptest::collection::vec(any::<u8>(), 0..2000),
        src_port: u16,
        tos: u8,
    ) {
        let frame = frame(&header(v6, encap, udp_checksum), &carried, src_port, tos);
        let outer = pop(&frame).unwrap();
        prop_assert_eq!(outer.src_port, src_port);
        prop_assert_eq!(outer.tos, tos);
        let payload = &frame[outer.payload_off..][..outer.payload_len];
        prop_assert_eq!(verify_checksum(&outer, checksum::sum(payload)), Ok(()));
        if let Encap::Vxlan { vni } = encap {
            prop_assert_eq!(ringway_encap::vxlan::read(payload), Ok(vni));
        }
        prop_assert_eq!(&payload[encap.header_len()..], &carried[..]);
    }

    #[test]
    fn hostile_bytes_never_panic(
        (v6, encap, udp_checksum) in any_kind(),
        noise in proptest::collection::vec((0usize..90, any::<u8>()), 0..8),
        cut in 0usize..120,
        len in 0usize..200,
        fix: bool,
    ) {
        let mut bytes = frame(&header(v6, encap, udp_checksum), &CARRIED, SRC_PORT, TOS);
        for (at, value) in noise {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if fix && !v6 && bytes.len() >= 14 + usize::from(bytes[14] & 0xf) * 4 && bytes[14] & 0xf > 4 {
            fix_ipv4(&mut bytes);
        }
        bytes.truncate(cut);
        if let Ok(outer) = pop_outer(&bytes, len) {
            prop_assert!(outer.payload_off <= bytes.len());
            prop_assert!(outer.payload_off + outer.payload_len <= len);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), len: usize) {
        let _ = pop_outer(&bytes, len);
        let _ = ringway_encap::vxlan::read(&bytes);
    }
}
