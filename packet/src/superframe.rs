//! Superframes that arrive without their metadata: a tunnel's message has no field for it, but a link
//! that passes superpackets (veth) delivers them as they were sent.

use crate::bytes::{be32, be128, put16};
use crate::checksum;
use crate::gso::{GsoError, Segmenter};
use crate::offload::{Checksum, Gso, Offload};
use crate::parse::{Fragment, L3, Parsed};
use crate::{proto, tcp};

/// Finds the metadata of a superframe with segments of `gso_size` payload bytes, and brings its
/// checksum into the state that a superframe has: the pseudo-header's sum, to be completed for each
/// segment. `head`: the whole frame, Ethernet (or, bare, IP) to the end of the IP packet, no padding;
/// `p`: its parse; `found`: what is known of its checksum. One that is complete is verified, for
/// segments get fresh ones.
///
/// # Errors
/// It cannot be segmented ([`GsoError`]), the frame is then as it was.
pub fn describe(
    head: &mut [u8],
    p: &Parsed,
    found: Checksum,
    gso_size: u16,
) -> Result<(Offload, Segmenter), GsoError> {
    let (gso, offset) = match (p.l3, p.proto) {
        (L3::Ipv4, proto::TCP) => (Gso::Tcp4, 16),
        (L3::Ipv6, proto::TCP) => (Gso::Tcp6, 16),
        (_, proto::UDP) => (Gso::Udp, 6),
        (l3, proto) => {
            let gso = Gso::None;
            return Err(GsoError::Kind { gso, l3, proto });
        }
    };
    if p.fragment != Fragment::None {
        return Err(GsoError::Fragment { found: p.fragment });
    }
    let checksum = Checksum::Partial {
        start: p.l4_off,
        offset,
    };
    let l4 = usize::from(p.l4_off);
    let at = l4 + usize::from(offset);
    let pseudo = pseudo_header(head, p);
    let right = match found {
        Checksum::Partial { .. } => found == checksum,
        Checksum::Verified => true,
        // A UDP checksum of 0 is none.
        Checksum::Complete => pseudo.is_some_and(|pseudo| {
            head.get(at..at + 2).is_some_and(|field| *field != [0, 0])
                && checksum::fold(pseudo + checksum::sum(&head[l4..])) == 0xffff
        }),
    };
    let (true, Some(pseudo)) = (right, pseudo) else {
        let start = p.l4_off;
        return Err(GsoError::Checksum {
            found,
            start,
            offset,
        });
    };
    let congested = p.proto == proto::TCP
        && head
            .get(l4 + 13)
            .is_some_and(|flags| flags & tcp::flag::CWR != 0);
    let offload = Offload {
        checksum,
        gso,
        gso_size,
        ecn: congested,
    };
    let segmenter = Segmenter::new(head, p, &offload, head.len())?;
    put16(head, at, checksum::fold(pseudo));
    Ok((offload, segmenter))
}

/// `None` where the addresses do not lie in `head`.
fn pseudo_header(head: &[u8], p: &Parsed) -> Option<checksum::Sum> {
    let ip = head.get(usize::from(p.l3_off)..)?;
    let len = p.ip_end().checked_sub(usize::from(p.l4_off))?;
    match p.l3 {
        L3::Ipv4 if ip.len() >= 20 => {
            let (src, dst) = (be32(ip, 12), be32(ip, 16));
            Some(checksum::pseudo_v4(src, dst, p.proto, len))
        }
        L3::Ipv6 if ip.len() >= 40 => {
            let (src, dst) = (be128(ip, 8), be128(ip, 24));
            Some(checksum::pseudo_v6(src, dst, p.proto, len))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{self, Build};
    use crate::parse::parse;

    fn builds() -> Vec<Build> {
        let payload: Vec<u8> = (0..2500u16).map(|i| (i * 7) as u8).collect();
        let tcp = |a, b| kit::tcp(a, b).flags(kit::ACK | kit::PSH).payload(&payload);
        let udp = |a, b| kit::udp(a, b).payload(&payload);
        let (a4, b4) = ("10.77.2.2:1", "10.77.1.2:2");
        let (a6, b6) = ("[fd77:2::2]:1", "[fd77:1::2]:2");
        vec![tcp(a4, b4), tcp(a6, b6), udp(a4, b4), udp(a6, b6)]
    }

    #[test]
    fn it_is_what_the_sender_had() {
        for build in builds() {
            let (wanted, offload) = build.offloaded(Some(1000));
            for mut found in [build.frame(), wanted.clone()] {
                let parsed = parse(&found, found.len()).unwrap();
                let known = if found == wanted {
                    offload.checksum
                } else {
                    Checksum::Complete
                };
                let (described, segmenter) = describe(&mut found, &parsed, known, 1000).unwrap();
                assert_eq!((described, segmenter.count()), (offload, 3), "{build:?}");
                assert_eq!(found, wanted, "the checksum is partial");
            }
        }
    }

    #[test]
    fn the_first_segment_keeps_the_congestion_mark() {
        let build = kit::tcp("10.77.2.2:1", "10.77.1.2:2").flags(kit::ACK | kit::CWR);
        let mut frame = build.payload_len(2500).frame();
        let parsed = parse(&frame, frame.len()).unwrap();
        let (offload, _) = describe(&mut frame, &parsed, Checksum::Complete, 1000).unwrap();
        assert!(offload.ecn);
    }

    #[test]
    fn what_cannot_be_cut_is_left_as_it_is() {
        let (a, b) = ("10.77.2.2:1", "10.77.1.2:2");
        let without = |mut frame: Vec<u8>| {
            frame[40..42].fill(0);
            frame
        };
        let udp = || kit::udp(a, b).payload_len(2500);
        let tcp = || kit::tcp(a, b).payload_len(2500);
        let bad = [
            ("a wrong checksum", udp().bad_checksum().frame()),
            ("no checksum", without(udp().frame())),
            ("wrong, TCP", tcp().bad_checksum().frame()),
            ("SYN", tcp().flags(kit::SYN).frame()),
            ("a fragment", udp().fragments(1500).swap_remove(0)),
            ("neither", kit::sctp(a, b).payload_len(2500).frame()),
        ];
        for (what, mut frame) in bad {
            let (before, parsed) = (frame.clone(), parse(&frame, frame.len()).unwrap());
            let error = describe(&mut frame, &parsed, Checksum::Complete, 1000);
            assert!(error.is_err(), "{what}");
            assert_eq!(frame, before, "{what}");
        }
        let mut frame = udp().frame();
        let parsed = parse(&frame, frame.len()).unwrap();
        let elsewhere = Checksum::Partial {
            start: 34,
            offset: 16,
        };
        assert!(describe(&mut frame, &parsed, elsewhere, 1000).is_err());
        assert!(
            describe(&mut frame, &parsed, Checksum::Complete, 10).is_err(),
            "250 segments"
        );
    }
}
