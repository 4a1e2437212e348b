//! Stage 7. Rewrite: MACs, TTL, and a checksum that a tunnel has no field for. Gives the verdict.

use ringway_encap::ecn;
use ringway_packet::checksum;
use ringway_packet::flow::flow_hash;
use ringway_packet::offload::{Checksum, Gso, complete_checksum};
use ringway_packet::parse::{L3, Parsed};
use ringway_tables::{PortId, Snapshot};

use crate::bytes::{be16, mac};
use crate::decide::Decision;
use crate::frame::{Frame, Origin};
use crate::inner_sum::InnerSum;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::trace::Step;
use crate::verdict::{Stage, Tunnel, Verdict};

/// Carries a decision out on the frame's headers.
#[inline(always)]
pub(crate) fn rewrite(
    snapshot: &Snapshot,
    frame: &mut Frame<'_, '_>,
    decision: Decision<'_>,
) -> Stage<Verdict> {
    let node = &snapshot.node;
    let (id, path, fragment) = match decision {
        Decision::Switch(port) => return Ok(Verdict::Deliver(port)),
        Decision::Node => {
            match frame.origin {
                Origin::Port(..) => {
                    frame.packet.head_mut()[..6].copy_from_slice(&node.gateway_mac.0)
                }
                Origin::Peer(_) | Origin::PeerNode => {
                    set_macs(frame.packet, node.gateway_mac.0, node.vtep_mac.0);
                }
            }
            return Ok(Verdict::Deliver(PortId::NODE));
        }
        Decision::Pod(port, to) => {
            hop(frame);
            set_macs(frame.packet, to.mac.0, node.gateway_mac.0);
            return Ok(Verdict::Deliver(port));
        }
        Decision::Peer { id, path, fragment } => (id, path, fragment),
    };
    hop(frame);
    let Frame { packet, parsed, .. } = frame;
    set_macs(packet, path.dst_mac.0, path.src_mac.0);
    // Segments get their checksums when they are cut; a single packet gets its own here.
    if packet.offload.gso == Gso::None {
        let mut known = Checksum::Complete;
        if let Checksum::Partial { start, offset } = packet.offload.checksum {
            // Of what comes out only a sum over the right pseudo-header is known to be right.
            if path.outer.needs_sum() && begun_right(packet.head(), parsed, start, offset) {
                known = Checksum::Verified;
            }
            complete_checksum(packet.head_mut(), start, offset)
                .map_err(|_| DropReason::BadOffload)?;
        }
        packet.offload.checksum = known;
    }
    let tunnel = Tunnel {
        path: id,
        hash: flow_hash(parsed),
        tos: ecn::encapsulate(parsed.tos),
    };
    Ok(if fragment {
        Verdict::Fragment(tunnel)
    } else {
        Verdict::Tunnel(tunnel)
    })
}

/// What a frame's headers say now.
pub(crate) fn written(frame: &Frame<'_, '_>) -> Step {
    let (head, l3) = (frame.head(), usize::from(frame.parsed.l3_off));
    let ttl = match frame.parsed.l3 {
        L3::Ipv4 => head[l3 + 8],
        _ => head[l3 + 7],
    };
    Step::Rewritten(mac(head, 0), mac(head, 6), ttl)
}

/// Whether a checksum to be completed is that of the L4 header, begins with the sum of the pseudo-header, and
/// covers the IP packet and no padding.
fn begun_right(head: &[u8], parsed: &Parsed, start: u16, offset: u16) -> bool {
    let at = usize::from(start) + usize::from(offset);
    let field = head.get(at..at + 2).map(|_| be16(head, at));
    let sum = InnerSum::of(parsed, 0).map(|inner| checksum::fold(inner.pseudo));
    start == parsed.l4_off && field.is_some() && field == sum && parsed.ip_end() == head.len()
}

/// One routing hop: the TTL is decremented. A packet from the node's stack has had its hop there.
#[inline(always)]
fn hop(frame: &mut Frame<'_, '_>) {
    if frame.origin.is_node() {
        return;
    }
    let l3 = usize::from(frame.parsed.l3_off);
    // As much of the header as is touched of either.
    let ip = &mut frame.packet.head_mut()[l3..l3 + 12];
    if frame.parsed.l3 == L3::Ipv4 {
        ip[8] -= 1;
        // RFC 1624: TTL is the high octet of its word, so the checksum grows by 0x0100.
        let (sum, carry) = be16(ip, 10).overflowing_add(0x0100);
        ip[10..].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    } else {
        ip[7] -= 1;
    }
}

#[inline(always)]
fn set_macs(packet: &mut Packet<'_>, to: [u8; 6], from: [u8; 6]) {
    let macs = &mut packet.head_mut()[..12];
    macs[..6].copy_from_slice(&to);
    macs[6..].copy_from_slice(&from);
}
