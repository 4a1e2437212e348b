//! Any message of a socket, split: every byte is in exactly one datagram, in order; nothing that the
//! first inner packet says it has is taken for the next datagram; and a superframe that can be told as
//! one carries, cut again, what it carried.
//!
//! Input: flags (1: UDP encapsulation, 2: repair checksums), the size that the socket named (2), the
//! message.

use ringway_encap::Encap;
use ringway_encap::split::split;
use ringway_packet::checksum;
use ringway_packet::offload::{Checksum, Gso};
use ringway_packet::parse::{L3, Parsed};
use ringway_packet::superframe::describe;

use crate::input::Input;
use crate::{repair, world};

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, segment) = (input.u8(), input.u16());
    let mut message = input.rest().to_vec();
    let encap = if flags & 1 == 0 {
        Encap::Vxlan { vni: world::VNI }
    } else {
        Encap::Udp
    };
    let shim = encap.header_len();
    if flags & 2 != 0 && shim > 0 && message.len() > shim {
        repair::checksums(&mut message[shim..]);
    }
    let size = usize::from(segment);
    let split = split(encap, &message, size);
    let superframe = split.is_superframe();
    let ranges: Vec<_> = split.collect();
    let mut at = 0;
    for range in &ranges {
        assert_eq!(range.start, at, "{ranges:?} of {}", message.len());
        at = range.end;
        let last = range.end == message.len();
        assert!(range.len() == size || last, "{ranges:?} by {size}");
    }
    assert_eq!(at, message.len());
    assert!(ranges.len() == 1 || ranges[0].len() == size);
    assert!(!superframe || ranges.len() == 1);

    // By the parser, which knows nothing of splitting: what the packet says it is lies in one range.
    let inner = message.get(shim..).unwrap_or(&[]);
    let Ok(parsed) = encap.carries().parse(inner, inner.len()) else {
        return;
    };
    if matches!(parsed.l3, L3::Ipv4 | L3::Ipv6) {
        assert!(shim + parsed.ip_end() <= ranges[0].end, "{ranges:?}");
    } else {
        assert_eq!(ranges.len(), 1, "{parsed:?}");
    }
    if superframe && parsed.ip_end() == inner.len() {
        cut_again(&message[shim..], &parsed, segment);
    }
}

fn cut_again(frame: &[u8], parsed: &Parsed, segment: u16) {
    let mut described = frame.to_vec();
    let Ok((offload, segments)) = describe(&mut described, parsed, Checksum::Complete, segment)
    else {
        assert_eq!(described, frame, "refused, and changed");
        return;
    };
    assert_ne!(offload.gso, Gso::None);
    assert!(
        repair::l4_is_right(frame, parsed),
        "only what was verified gets new checksums"
    );
    let header_len = usize::from(parsed.payload_off);
    let mut joined = Vec::new();
    for i in 0..segments.count() {
        let payload = &described[header_len..][segments.payload(i)];
        let mut one = vec![0; header_len];
        segments.write_header(i, checksum::sum(payload), &mut one);
        one.extend_from_slice(payload);
        assert!(payload.len() <= usize::from(segment));
        joined.extend_from_slice(payload);
    }
    assert_eq!(joined, frame[header_len..]);
}
