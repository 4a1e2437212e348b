//! Inner packets that arrive as superframes: of the kernel's VXLAN device over a link that passes
//! superpackets whole.
//!
//! | inner | arrives as | goes on as |
//! |---|---|---|
//! | UDP | one message with `UDP_GRO`, the size of the inner segments | a superframe of that size; cut here where a port takes none |
//! | TCP | one message without a size | above the destination's MTU: a superframe of what fits it; the sender's size is not known |

use ringway_packet::buffers::Buffers;
use ringway_packet::gso::Segmenter;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::{L3, Parsed};
use ringway_packet::proto;
use ringway_packet::superframe;
use ringway_tables::{PortId, Snapshot, Target};

use super::inner::Inner;
use crate::lookup;
use crate::reason::DropReason;
use crate::trace::Off;

/// Describes a frame that may be a superframe as one. `segment`: what the socket said of a message that is
/// one datagram. `None`: it is an ordinary frame, to be taken as it is.
///
/// # Errors
/// Why it is to be refused: its message has more bytes than it, or it cannot be cut.
#[cold]
pub(super) fn describe<B: Buffers>(
    snapshot: &Snapshot,
    buffers: &mut B,
    inner: &mut Inner<B::Id>,
    segment: Option<u16>,
) -> Result<Option<Segmenter>, DropReason> {
    let Some(parsed) = &inner.parsed else {
        return Ok(None);
    };
    let end = parsed.ip_end();
    if segment.is_some() && end != inner.linear as usize {
        match parsed.l3 {
            L3::Ipv4 => return Err(DropReason::MalformedIpv4),
            L3::Ipv6 => return Err(DropReason::MalformedIpv6),
            L3::Arp | L3::Other => {}
        }
    }
    let Some(size) = segment_size(snapshot, parsed, segment) else {
        return Ok(None);
    };
    // What lies behind the IP packet would become payload.
    let start = inner.start as usize;
    let head = &mut buffers.bytes_mut(inner.buf)[start..start + end];
    match superframe::describe(head, parsed, inner.offload.checksum, size) {
        Ok((offload, segments)) => {
            (inner.linear, inner.len) = (end as u32, end as u32);
            inner.offload = offload;
            Ok(Some(segments))
        }
        Err(_) if parsed.proto == proto::TCP => Ok(None),
        Err(_) => Err(DropReason::BadOffload),
    }
}

/// L4 payload of each segment of a frame that may be a superframe, `None` if it is an ordinary one.
fn segment_size(snapshot: &Snapshot, parsed: &Parsed, segment: Option<u16>) -> Option<u16> {
    let headers = u32::from(parsed.payload_off - parsed.l3_off);
    match (parsed.proto, segment) {
        (proto::UDP, Some(size)) if parsed.ip_len > headers + u32::from(size) => Some(size),
        (proto::TCP, _) => {
            let mtu = u32::from(mtu_towards(snapshot, parsed));
            let fits = mtu.saturating_sub(headers) as u16;
            (parsed.ip_len > mtu).then_some(fits)
        }
        _ => None,
    }
}

/// Of the port that the packet goes to.
fn mtu_towards(snapshot: &Snapshot, parsed: &Parsed) -> u16 {
    let port = match lookup::by_address(snapshot, parsed, &mut Off) {
        Some(Target::Port(port)) => port,
        _ => PortId::NODE,
    };
    let port = snapshot.port(port);
    port.map_or(snapshot.least_mtu(), |port| port.mtu)
}

/// Segment `i`, which lies where its payload is. Its headers come before that when its turn comes: there the
/// end of the segment before has been delivered.
pub(super) fn segment<I: Copy>(whole: &Inner<I>, segments: &Segmenter, i: usize) -> Inner<I> {
    let payload = segments.payload(i);
    let mut one = *whole;
    one.start += payload.start as u32;
    one.len = (segments.header_len() + payload.len()) as u32;
    one.linear = one.len;
    one.offload = ringway_packet::offload::Offload {
        checksum: Checksum::Verified,
        ..Default::default()
    };
    if let Some(parsed) = &mut one.parsed {
        parsed.ip_len = one.len - u32::from(parsed.l3_off);
    }
    one
}
