//! Any batch of frames through coalescing: no frame is lost, and segmentation of every group gives
//! back the frames that went into it, byte for byte.
//!
//! Input: flags (1: repair checksums), then frames with two bytes of length each.

use ringway_packet::checksum;
use ringway_packet::gro::{Coalescer, Offer};
use ringway_packet::gso::Segmenter;
use ringway_packet::parse::{L3, Parsed, parse};

use crate::input::Input;
use crate::repair;

/// Frames of a batch.
const MAX_FRAMES: usize = 96;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let mut frames = Vec::new();
    while !input.is_empty() && frames.len() < MAX_FRAMES {
        let mut frame = input.frame().to_vec();
        if flags & 1 != 0 {
            repair::checksums(&mut frame);
        }
        if let Ok(p) = parse(&frame, frame.len()) {
            frames.push((frame, p));
        }
    }
    batch(&frames);
}

/// Coalesces the frames and cuts every group again.
pub fn batch(frames: &[(Vec<u8>, Parsed)]) {
    let mut coalescer = Coalescer::new();
    coalescer.begin();
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); frames.len()];
    for (id, (frame, p)) in frames.iter().enumerate() {
        let payload = frame
            .get(usize::from(p.payload_off)..p.ip_end())
            .unwrap_or(&[]);
        match coalescer.offer(id as u32, frame, p, frame.len(), payload, false) {
            Offer::Alone => {}
            Offer::First => groups[id].push(id),
            Offer::Joined { leader } => {
                let members = &mut groups[leader as usize];
                assert_eq!(
                    members.first(),
                    Some(&(leader as usize)),
                    "the leader opened the group"
                );
                members.push(id);
            }
        }
    }
    for members in groups.iter().filter(|m| !m.is_empty()) {
        restore(&coalescer, frames, members);
    }
}

fn restore(coalescer: &Coalescer, frames: &[(Vec<u8>, Parsed)], members: &[usize]) {
    let (first, p) = &frames[members[0]];
    let group = coalescer.group(members[0] as u32).expect("it was opened");
    assert_eq!(usize::from(group.count), members.len());
    let header_len = usize::from(p.payload_off);
    let mut joined = first[..header_len].to_vec();
    let offload = coalescer.finish(members[0] as u32, &mut joined);
    assert!(
        repair::l4_is_right(first, p),
        "only verified frames are grouped"
    );
    if members.len() == 1 {
        assert_eq!(joined, first[..header_len], "a group of one is left alone");
        return;
    }
    for &id in members {
        let (frame, p) = &frames[id];
        joined.extend_from_slice(&frame[usize::from(p.payload_off)..p.ip_end()]);
    }
    assert_eq!(joined.len() - header_len, group.payload_len as usize);
    let whole = parse(&joined, joined.len()).expect("a superframe parses");
    let segmenter =
        Segmenter::new(&joined, &whole, &offload, joined.len()).expect("and can be cut");
    assert_eq!(segmenter.count(), members.len());
    for (i, &id) in members.iter().enumerate() {
        let piece = &joined[header_len..][segmenter.payload(i)];
        let mut segment = vec![0; header_len];
        segmenter.write_header(i, checksum::sum(piece), &mut segment);
        segment.extend_from_slice(piece);
        let (frame, p) = &frames[id];
        let mut original = frame[..p.ip_end()].to_vec();
        if i > 0 && p.l3 == L3::Ipv4 && p.dont_fragment {
            // Ids that stood still are numbered; with DF they mean nothing (RFC 6864 section 4.1).
            forget_id(&mut original, p);
            forget_id(&mut segment, p);
        }
        forget_zero(&mut original, p);
        forget_zero(&mut segment, p);
        assert_eq!(segment, original, "member {i} of {members:?}");
    }
}

fn forget_id(frame: &mut [u8], p: &Parsed) {
    let l3 = usize::from(p.l3_off);
    frame[l3 + 4..l3 + 6].fill(0);
    frame[l3 + 10..l3 + 12].fill(0);
}

/// One's complement has two zeros; a checksum may be written as either.
fn forget_zero(frame: &mut [u8], p: &Parsed) {
    let l4 = usize::from(p.l4_off);
    let mut fields = vec![l4 + if p.proto == 6 { 16 } else { 6 }];
    if p.l3 == L3::Ipv4 {
        fields.push(usize::from(p.l3_off) + 10);
    }
    for at in fields {
        if frame[at..at + 2] == [0xff, 0xff] {
            frame[at..at + 2].fill(0);
        }
    }
}
