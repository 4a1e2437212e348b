//! Any frame with any offload metadata through segmentation: what is cut is whole, good packets that
//! carry the payload once and in order.
//!
//! Input: flags (1: repair the IPv4 header, 2: put the checksum where it belongs), a virtio-net
//! header (10), the frame.

use ringway_packet::checksum;
use ringway_packet::gso::Segmenter;
use ringway_packet::offload::{Checksum, Offload, complete_checksum};
use ringway_packet::parse::{Parsed, parse};
use ringway_packet::proto;

use crate::input::Input;
use crate::repair;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let header = input.bytes();
    let mut frame = input.rest().to_vec();
    if flags & 1 != 0 {
        repair::checksums(&mut frame);
    }
    let Ok(mut offload) = Offload::read(&header, frame.len()) else {
        return;
    };
    if let Checksum::Partial { start, offset } = offload.checksum {
        let mut completed = frame.clone();
        complete_checksum(&mut completed, start, offset).expect("the range was checked");
    }
    let Ok(p) = parse(&frame, frame.len()) else {
        return;
    };
    if flags & 2 != 0 {
        let offset = if p.proto == proto::TCP { 16 } else { 6 };
        offload.checksum = Checksum::Partial {
            start: p.l4_off,
            offset,
        };
    }
    segment(&frame, &p, &offload);
}

fn segment(frame: &[u8], p: &Parsed, offload: &Offload) {
    let Ok(segmenter) = Segmenter::new(frame, p, offload, frame.len()) else {
        return;
    };
    let header_len = segmenter.header_len();
    let payload = &frame[header_len..p.ip_end()];
    assert_eq!(segmenter.count(), offload.segments(payload.len()));
    let mut at = 0;
    for i in 0..segmenter.count() {
        let range = segmenter.payload(i);
        assert_eq!(
            range.start, at,
            "segment {i} begins where the last one ended"
        );
        at = range.end;
        let last = i + 1 == segmenter.count();
        assert!(
            range.len() == usize::from(offload.gso_size)
                || last && range.len() <= usize::from(offload.gso_size)
        );
        let piece = &payload[range];
        let mut segment = vec![0xee; header_len];
        segmenter.write_header(i, checksum::sum(piece), &mut segment);
        segment.extend_from_slice(piece);
        let q = parse(&segment, segment.len()).expect("a segment is a good frame");
        assert_eq!(q.ip_end(), segment.len(), "its lengths are right");
        assert_eq!(
            (q.payload_off, q.proto, q.ttl, q.tos),
            (p.payload_off, p.proto, p.ttl, p.tos)
        );
        assert_eq!((q.src_port, q.dst_port), (p.src_port, p.dst_port));
        assert!(repair::l4_is_right(&segment, &q), "its checksum is right");
    }
    assert_eq!(at, payload.len(), "the whole payload is carried");
}
