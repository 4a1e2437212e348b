use super::*;

#[rustfmt::skip]
const WITH_OPTION: [u8; 29] = [
    0x46, 0xb8, 0x00, 0x1b,  0x12, 0x34, 0x40, 0x00,  0x3f, 0x11, 0x7c, 0x44,
    0x0a, 0x4d, 0x01, 0x02,  0x0a, 0x4d, 0x02, 0x02,  0x94, 0x04, 0x00, 0x00,
    b'a', b'b', b'c',  0xee, 0xee,
];

#[rustfmt::skip]
const WITHOUT: [u8; 20] = [
    0x45, 0xb8, 0x00, 0x17,  0x12, 0x34, 0x40, 0x00,  0x3f, 0x11, 0x11, 0x4d,
    0x0a, 0x4d, 0x01, 0x02,  0x0a, 0x4d, 0x02, 0x02,
];

#[test]
fn packet_comes_back() {
    let view = View::new(&WITH_OPTION).unwrap();
    assert_eq!(
        (view.header_len(), view.options()),
        (24, &[0x94, 4, 0, 0][..])
    );
    assert_eq!(view.payload(), b"abc");
    assert_eq!((view.more_fragments(), view.fragment_offset()), (false, 0));
    let repr = view.repr();
    let expected = Repr {
        src: 0x0a4d_0102,
        dst: 0x0a4d_0202,
        proto: 17,
        tos: 0xb8,
        ttl: 63,
        id: 0x1234,
        dont_fragment: true,
        payload_len: 3,
    };
    assert_eq!(repr, expected);
    let mut header = [0xee; MIN_LEN];
    repr.emit(&mut header);
    assert_eq!(header, WITHOUT);
}

#[test]
fn fragment_fields() {
    let mut bytes = WITH_OPTION;
    put16(&mut bytes, field::FLAGS_FRAGMENT, MORE_FRAGMENTS | 0x1fff);
    fill_checksum(&mut bytes[..24]);
    let view = View::new(&bytes).unwrap();
    assert_eq!(
        (view.more_fragments(), view.fragment_offset()),
        (true, 65_528)
    );
    assert!(!view.repr().dont_fragment);
}

#[test]
fn packets_that_lie_are_refused() {
    for have in 0..27 {
        let error = View::new(&WITH_OPTION[..have]).unwrap_err();
        let expected = match have {
            0..20 => Ipv4Error::Truncated { need: 20, have },
            20..24 => Ipv4Error::Truncated { need: 24, have },
            _ => Ipv4Error::TotalLength {
                stated: 27,
                min: 24,
                max: have,
            },
        };
        assert_eq!(error, expected);
    }
    let bent = |at: usize, value: u8| {
        let mut bytes = WITH_OPTION;
        bytes[at] = value;
        fill_checksum(&mut bytes[..24]);
        View::new(&bytes).unwrap_err()
    };
    assert_eq!(bent(0, 0x56), Ipv4Error::Version { version: 5 });
    assert_eq!(bent(0, 0x44), Ipv4Error::HeaderLength { bytes: 16 });
    assert_eq!(bent(0, 0x4f), Ipv4Error::Truncated { need: 60, have: 29 });
    assert_eq!(
        bent(3, 23),
        Ipv4Error::TotalLength {
            stated: 23,
            min: 24,
            max: 29
        }
    );
    assert_eq!(
        bent(3, 30),
        Ipv4Error::TotalLength {
            stated: 30,
            min: 24,
            max: 29
        }
    );
    let mut bytes = WITH_OPTION;
    bytes[23] = 1;
    assert_eq!(
        View::new(&bytes).unwrap_err(),
        Ipv4Error::Checksum { found: 0x7c44 }
    );
}

#[test]
fn no_header_no_checksum() {
    for len in 0..MIN_LEN {
        let mut bytes = vec![0xaa; len];
        fill_checksum(&mut bytes);
        assert_eq!(bytes, vec![0xaa; len]);
    }
}
