//! What a queue holds, as a visit saw it: whether somebody is likely to wait for an answer to it.

use ringway_packet::parse::Parsed;

/// Most packets of a sparse visit, and most bytes of one of them.
const SPARSE: usize = 2;
const SPARSE_BYTES: u32 = 4096;
/// Most bytes of a small packet.
const SMALL_BYTES: u32 = 512;

/// What a visit to a queue brought. Sparse as in `fq_codel` (RFC 8290, section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// A packet or two, all there was; somebody may wait for them.
    Sparse,
    /// The same, but only acknowledgements: nobody waits for those as for an answer, and the receiver of
    /// a bulk flow has nothing else to say.
    Acks,
    /// More, in small packets that are not acknowledgements: they cost a lot of time and carry next to
    /// nothing.
    SmallPackets,
    /// More.
    Bulk,
}

impl Activity {
    /// The same, if it was not all there was.
    #[inline]
    pub(super) fn and_more(self) -> Activity {
        match self {
            Activity::Sparse | Activity::SmallPackets => Activity::SmallPackets,
            Activity::Acks | Activity::Bulk => Activity::Bulk,
        }
    }

    /// What `count` packets are; of each its bytes and, if it could be parsed, its headers. Of more than a few
    /// the first two speak for the others.
    #[inline]
    pub(super) fn of(
        count: usize,
        packets: impl Iterator<Item = (u32, Option<Parsed>)>,
    ) -> Activity {
        let more = count > SPARSE;
        let most = if more { SMALL_BYTES } else { SPARSE_BYTES };
        let mut acks = true;
        for (len, parsed) in packets.take(SPARSE) {
            if len > most {
                return Activity::Bulk;
            }
            acks &= parsed.is_some_and(|parsed| parsed.is_bare_tcp());
        }
        match (more, acks) {
            (false, true) => Activity::Acks,
            (false, false) => Activity::Sparse,
            (true, true) => Activity::Bulk,
            (true, false) => Activity::SmallPackets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::{kit, parse};

    #[test]
    fn what_a_visit_brought_is_told_from_its_packets() {
        let (src, dst) = ("10.77.1.2:1000", "10.77.1.3:80");
        let ack = kit::tcp(src, dst).frame();
        let request = kit::tcp(src, dst).payload(b"x").frame();
        let bulk = kit::tcp(src, dst).payload_len(5000).frame();
        let query = kit::udp(src, dst).payload(b"x").frame();
        let of = |frames: &[&Vec<u8>]| {
            let packets = frames.iter().map(|frame| {
                let parsed = parse::parse(frame, frame.len()).unwrap();
                (frame.len() as u32, Some(parsed))
            });
            Activity::of(frames.len(), packets)
        };
        assert_eq!(of(&[&ack]), Activity::Acks);
        assert_eq!(of(&[&ack, &ack]), Activity::Acks);
        assert_eq!(of(&[&ack, &request]), Activity::Sparse);
        assert_eq!(of(&[&query]), Activity::Sparse);
        assert_eq!(of(&[&ack, &bulk]), Activity::Bulk);
        assert_eq!(of(&[&ack, &ack, &ack]), Activity::Bulk);
        assert_eq!(of(&[&bulk, &query, &query]), Activity::Bulk);
        assert_eq!(of(&[&query, &query, &query]), Activity::SmallPackets);
        assert_eq!(of(&[&ack, &query, &query]), Activity::SmallPackets);
        let segment = kit::tcp(src, dst).payload_len(1400).frame();
        assert_eq!(of(&[&segment, &segment, &segment]), Activity::Bulk);
        assert_eq!(of(&[&query]).and_more(), Activity::SmallPackets);
        assert_eq!(of(&[&ack]).and_more(), Activity::Bulk);
        // ARP and what cannot be parsed: somebody may wait for an answer.
        assert_eq!(Activity::of(1, [(42, None)].into_iter()), Activity::Sparse);
    }
}
