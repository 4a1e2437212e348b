//! Which bytes of a received message are one datagram each.
//!
//! With `UDP_GRO` a socket gets messages of several datagrams and the size of each. Over a link that
//! passes superpackets (veth, between two namespaces or two virtual machines of one host) the same
//! size means something else: the message is one datagram whose *inner* packet is a superpacket, and
//! the size is that of the inner segments (`udp_cmsg_recv`, `linux/udp.h`, reads the one `gso_size`
//! that a packet has).
//!
//! ```text
//!   size 200   | VXLAN, inner packet of 178 | VXLAN, inner packet of 178 | VXLAN, 100 |   three datagrams
//!   size 200   | VXLAN, inner packet of 478 .......................................... |  one superframe
//! ```
//!
//! The first inner packet's own length tells them apart. A message is cut only where that packet ends
//! within the first datagram; so nothing inside an inner payload is ever taken for an outer header.

use std::ops::Range;

use ringway_packet::bytes::be16;
use ringway_packet::{ethertype, proto};

use crate::outer::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN};
use crate::{Carries, Encap};

const TAG: usize = 4;
/// As many as the parser steps over.
const MAX_TAGS: usize = ringway_packet::parse::MAX_VLAN_TAGS as usize;

/// The datagrams of a message, in order: ranges of its bytes, which together are all of them. A
/// message without bytes is one datagram.
#[derive(Clone, Debug)]
pub struct Split {
    at: usize,
    len: usize,
    step: usize,
    superframe: bool,
    done: bool,
}

/// Splits a message of UDP payload as a socket got it. `segment`: what `UDP_GRO` said, or the
/// message's length if it said nothing.
#[inline]
pub fn split(encap: Encap, message: &[u8], segment: usize) -> Split {
    let several = segment > 0 && segment < message.len();
    let superframe = several && end_of_first(encap, message).is_none_or(|end| end > segment);
    Split {
        at: 0,
        len: message.len(),
        step: if several && !superframe {
            segment
        } else {
            message.len()
        },
        superframe,
        done: false,
    }
}

impl Split {
    /// Whether the message is one datagram that carries several segments.
    #[inline]
    pub fn is_superframe(&self) -> bool {
        self.superframe
    }
}

impl Iterator for Split {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        if self.done {
            return None;
        }
        let from = self.at;
        self.at = self.len.min(from.saturating_add(self.step));
        self.done = self.at >= self.len;
        Some(from..self.at)
    }
}

/// Where the first inner packet ends, counted from the start of the message, by its own header.
/// `None` if it is none whose length could be told: only IP packets come in runs.
fn end_of_first(encap: Encap, message: &[u8]) -> Option<usize> {
    let header = encap.header_len();
    let (at, kind) = match encap.carries() {
        Carries::Packets => {
            let kind = match message.get(header)? >> 4 {
                4 => ethertype::IPV4,
                6 => ethertype::IPV6,
                _ => return None,
            };
            (header, kind)
        }
        Carries::Frames => {
            let mut at = header + ETHERNET_LEN;
            let mut kind = be16(message.get(..at)?, at - 2);
            for _ in 0..MAX_TAGS {
                if matches!(kind, ethertype::VLAN | ethertype::QINQ) {
                    at += TAG;
                    kind = be16(message.get(..at)?, at - 2);
                }
            }
            (at, kind)
        }
    };
    let ip = message.get(at..)?;
    let length = match kind {
        ethertype::IPV4 => usize::from(be16(ip.get(..IPV4_LEN)?, 2)).max(IPV4_LEN),
        ethertype::IPV6 => {
            let header = ip.get(..IPV6_LEN)?;
            let payload = usize::from(be16(header, 4));
            // RFC 2675 section 3: then the length stands in an option, which a router need not read
            // to send the packet on.
            if payload == 0 && header[6] == proto::HOP_BY_HOP {
                return None;
            }
            IPV6_LEN + payload
        }
        _ => return None,
    };
    Some(at + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::kit;

    const VXLAN: Encap = Encap::Vxlan { vni: 1 };

    fn vxlan(frame: &[u8]) -> Vec<u8> {
        [&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat()
    }

    fn ranges(encap: Encap, message: &[u8], segment: usize) -> (bool, Vec<Range<usize>>) {
        let split = split(encap, message, segment);
        (split.is_superframe(), split.collect())
    }

    fn whole(len: usize) -> Vec<Range<usize>> {
        std::iter::once(0..len).collect()
    }

    fn udp(v6: bool, payload: usize) -> kit::Build {
        let (a, b) = match v6 {
            false => ("10.77.2.2:1000", "10.77.1.2:53"),
            true => ("[fd77:2::2]:1000", "[fd77:1::2]:53"),
        };
        kit::udp(a, b).payload_len(payload)
    }

    #[test]
    fn a_message_of_one_datagram_is_one_whatever_it_holds() {
        for message in [vec![], vec![0xff; 3], vxlan(&udp(false, 9).frame())] {
            for segment in [message.len(), message.len() + 1, 65_535] {
                let expected = (false, whole(message.len()));
                assert_eq!(ranges(VXLAN, &message, segment), expected);
            }
        }
        assert_eq!(ranges(VXLAN, &[1, 2], 0), (false, whole(2)));
    }

    #[test]
    fn datagrams_of_one_size_are_cut_and_the_last_may_be_shorter() {
        for v6 in [false, true] {
            let one = vxlan(&udp(v6, 100).frame());
            let last = vxlan(&udp(v6, 7).frame());
            let (n, message) = (one.len(), [&one[..], &one, &last].concat());
            let expected = vec![0..n, n..2 * n, 2 * n..message.len()];
            assert_eq!(ranges(VXLAN, &message, n), (false, expected));
            let one = udp(v6, 100).packet();
            let (n, message) = (one.len(), [&one[..], &one, &one].concat());
            let expected = vec![0..n, n..2 * n, 2 * n..3 * n];
            assert_eq!(ranges(Encap::Udp, &message, n), (false, expected));
        }
    }

    #[test]
    fn padding_behind_the_first_packet_does_not_matter() {
        let one = vxlan(&udp(false, 4).padding(14).frame());
        let (n, message) = (one.len(), [&one[..], &one].concat());
        assert_eq!(
            ranges(VXLAN, &message, n),
            (false, vec![0..n, n..2 * n]),
            "as of an Ethernet of at least 60 bytes"
        );
    }

    #[test]
    fn fragments_are_datagrams_like_others() {
        for v6 in [false, true] {
            let fragments = udp(v6, 3000).fragments(1000);
            let message: Vec<u8> = fragments.iter().flat_map(|f| vxlan(f)).collect();
            let n = fragments[0].len() + 8;
            let found = ranges(VXLAN, &message, n);
            assert_eq!((found.0, found.1.len()), (false, fragments.len()));
        }
    }

    #[test]
    fn an_inner_packet_longer_than_a_segment_is_one_superframe() {
        for v6 in [false, true] {
            for tags in 0..=2 {
                let mut build = udp(v6, 450);
                for tag in 0..tags {
                    build = build.vlan(tag);
                }
                let message = vxlan(&build.frame());
                let expected = (true, whole(message.len()));
                assert_eq!(ranges(VXLAN, &message, 200), expected);
                assert_eq!(ranges(VXLAN, &message, 1), expected, "tiny ones");
            }
            let message = udp(v6, 450).packet();
            assert_eq!(
                ranges(Encap::Udp, &message, 200),
                (true, whole(message.len()))
            );
        }
    }

    #[test]
    fn the_length_the_issue_names() {
        let message = vxlan(&udp(false, 450).frame());
        assert_eq!(
            (message.len(), &message[24..26]),
            (500, &478u16.to_be_bytes()[..])
        );
        assert_eq!(ranges(VXLAN, &message, 200), (true, whole(500)));
        // One byte less than the segment holds, and it is the first of three.
        let mut short = message;
        short[24..26].copy_from_slice(&178u16.to_be_bytes());
        assert_eq!(
            ranges(VXLAN, &short, 200),
            (false, vec![0..200, 200..400, 400..500])
        );
        short[24..26].copy_from_slice(&179u16.to_be_bytes());
        assert_eq!(ranges(VXLAN, &short, 200), (true, whole(500)));
    }

    #[test]
    fn what_has_no_length_of_its_own_is_never_cut() {
        let long = [0; 300];
        let arp = vxlan(&[&kit::arp_request("10.77.2.2", "10.77.1.2")[..], &long].concat());
        let mpls = [
            &vxlan(&udp(false, 9).frame())[..20],
            &[0x88, 0x47],
            &long[..],
        ]
        .concat();
        let hop_by_hop = udp(true, 300).extension(proto::HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]);
        let mut jumbo = vxlan(&hop_by_hop.frame());
        jumbo[26..28].fill(0);
        for (what, message) in [("ARP", arp), ("MPLS", mpls), ("jumbogram", jumbo)] {
            let expected = (true, whole(message.len()));
            assert_eq!(ranges(VXLAN, &message, 200), expected, "{what}");
        }
        assert_eq!(ranges(Encap::Udp, &long, 200), (true, whole(300)));
    }
}
