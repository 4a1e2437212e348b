//! How a frame is cut into parts: new headers, and a range of its payload each.

use std::ops::Range;

use ringway_packet::checksum;
use ringway_packet::gso::Segmenter;
use ringway_packet::ipv4::Fragmenter;
use ringway_packet::parse::{self, Parsed};
use ringway_ports::Frame;
use ringway_switch::{DropReason, InnerSum};

const ETHERNET: usize = 14;

/// The parts of a frame; each is a packet of its own.
pub(crate) enum Cut {
    /// Of a superframe.
    Segments {
        /// Cuts it.
        segmenter: Segmenter,
        /// Its headers.
        parsed: Parsed,
    },
    /// IPv4 fragments of a packet.
    Fragments {
        /// Cuts it.
        fragmenter: Fragmenter,
        /// The packet's, and each fragment's.
        ethernet: [u8; ETHERNET],
    },
}

impl Cut {
    /// `head`: the bytes at hand of `frame`, which is a superframe.
    pub(crate) fn segments(head: &[u8], frame: &Frame) -> Result<Cut, DropReason> {
        let len = frame.len as usize;
        let parsed = parse::parse(head, len).map_err(|_| DropReason::Unsegmentable)?;
        let segmenter = Segmenter::new(head, &parsed, &frame.offload, len)
            .map_err(|_| DropReason::Unsegmentable)?;
        Ok(Cut::Segments { segmenter, parsed })
    }

    /// `packet`: an IPv4 packet behind an untagged Ethernet header; `mtu`: bytes of an IP packet.
    pub(crate) fn fragments(packet: &[u8], mtu: usize) -> Result<Cut, DropReason> {
        let (ethernet, packet) = packet
            .split_first_chunk()
            .ok_or(DropReason::Unsegmentable)?;
        let fragmenter = Fragmenter::new(packet, mtu).map_err(|_| DropReason::Unsegmentable)?;
        Ok(Cut::Fragments {
            fragmenter,
            ethernet: *ethernet,
        })
    }

    /// Parts; at least 1.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        match self {
            Cut::Segments { segmenter, .. } => segmenter.count(),
            Cut::Fragments { fragmenter, .. } => fragmenter.count(),
        }
    }

    /// Bytes of all headers of part `i`, Ethernet included; no part has more than the first.
    #[inline]
    pub(crate) fn header_len(&self, i: usize) -> usize {
        match self {
            Cut::Segments { segmenter, .. } => segmenter.header_len(),
            Cut::Fragments { fragmenter, .. } => ETHERNET + fragmenter.header_len(i),
        }
    }

    /// Where the payload of part `i` lies, from the frame's first byte on.
    #[inline]
    pub(crate) fn payload(&self, i: usize) -> Range<usize> {
        let (base, range) = match self {
            Cut::Segments { segmenter, .. } => (segmenter.header_len(), segmenter.payload(i)),
            Cut::Fragments { fragmenter, .. } => (ETHERNET, fragmenter.payload(i)),
        };
        base + range.start..base + range.end
    }

    /// Writes the headers of part `i`, whose payload is `payload`, to the first bytes of `out`.
    #[inline]
    pub(crate) fn write_header(&self, i: usize, payload: &[u8], out: &mut [u8]) {
        match self {
            Cut::Segments { segmenter, .. } => {
                segmenter.write_header(i, checksum::sum(payload), out);
            }
            Cut::Fragments {
                fragmenter,
                ethernet,
            } => {
                let (front, rest) = out.split_at_mut(ETHERNET);
                front.copy_from_slice(ethernet);
                fragmenter.write_header(i, rest);
            }
        }
    }

    /// Of a part with all its headers: where its own checksum is, if that is known to be right.
    #[inline]
    pub(crate) fn inner_sum(&self, packet: &[u8]) -> Option<InnerSum> {
        let Cut::Segments { parsed, .. } = self else {
            return None;
        };
        let ip_len = packet.len() as u32 - u32::from(parsed.l3_off);
        InnerSum::of(&Parsed { ip_len, ..*parsed }, 0)
    }
}
