//! What a visit to a queue found: whether somebody is likely to wait for an answer to it.

use ringway_packet::parse::Parsed;

/// Most packets of a visit that found little, and most bytes of one of them.
const LITTLE: usize = 2;
const LITTLE_BYTES: u32 = 4096;
/// Most bytes of a small packet.
const SMALL_BYTES: u32 = 512;

/// What a visit to a queue found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// A packet or two, all there was; somebody may wait for them.
    Little,
    /// The same, but only acknowledgements: nobody waits for those as for an answer, and the receiver of
    /// a bulk flow has nothing else to say.
    Acks,
    /// More, in small packets that are not acknowledgements: they cost a lot of time and carry next to
    /// nothing.
    Small,
    /// More.
    Much,
}

impl Found {
    /// The same, if it was not all there was.
    #[inline]
    pub(super) fn and_more(self) -> Found {
        match self {
            Found::Little | Found::Small => Found::Small,
            Found::Acks | Found::Much => Found::Much,
        }
    }
}

/// What `count` packets are; of each its bytes and, if it could be parsed, its headers. Of more than a few
/// the first two speak for the others.
#[inline]
pub(super) fn found(count: usize, packets: impl Iterator<Item = (u32, Option<Parsed>)>) -> Found {
    let more = count > LITTLE;
    let most = if more { SMALL_BYTES } else { LITTLE_BYTES };
    let mut acks = true;
    for (len, parsed) in packets.take(LITTLE) {
        if len > most {
            return Found::Much;
        }
        acks &= parsed.is_some_and(|parsed| parsed.is_bare_tcp());
    }
    match (more, acks) {
        (false, true) => Found::Acks,
        (false, false) => Found::Little,
        (true, true) => Found::Much,
        (true, false) => Found::Small,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::{kit, parse};

    #[test]
    fn what_a_visit_found_is_told_from_its_packets() {
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
            found(frames.len(), packets)
        };
        assert_eq!(of(&[&ack]), Found::Acks);
        assert_eq!(of(&[&ack, &ack]), Found::Acks);
        assert_eq!(of(&[&ack, &request]), Found::Little);
        assert_eq!(of(&[&query]), Found::Little);
        assert_eq!(of(&[&ack, &bulk]), Found::Much);
        assert_eq!(of(&[&ack, &ack, &ack]), Found::Much);
        assert_eq!(of(&[&bulk, &query, &query]), Found::Much);
        assert_eq!(of(&[&query, &query, &query]), Found::Small);
        assert_eq!(of(&[&ack, &query, &query]), Found::Small);
        let segment = kit::tcp(src, dst).payload_len(1400).frame();
        assert_eq!(of(&[&segment, &segment, &segment]), Found::Much);
        assert_eq!(of(&[&query]).and_more(), Found::Small);
        assert_eq!(of(&[&ack]).and_more(), Found::Much);
        // ARP and what cannot be parsed: somebody may wait for an answer.
        assert_eq!(found(1, [(42, None)].into_iter()), Found::Little);
    }
}
