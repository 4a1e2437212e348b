//! Opening: from a datagram to an admitted inner frame.
//!
//! ```text
//!  whose outer source ▶ tunnel header ▶ parse ▶ checksums ▶ priority tags off ▶ admit ▶ congestion mark
//! ```
//!
//! Each is done here, once. Whatever is coalesced later has passed all of it: a frame that is refused cannot
//! hide behind a leader that is not, and a congestion mark is in the header that the coalescer compares.
//!
//! A veth delivers checksums that the kernel at its other end left to a NIC that is not there: a field that is
//! the bare sum of the pseudo-header. On a veth, and only there or where configured
//! (`underlay.unfinished_checksums`), such a field counts as unfinished: inner, outer, or an outer one that was
//! made for the finished inner.

use ringway_encap::outer::Outer;
use ringway_encap::{Carries, Encap, udp, vxlan};
use ringway_packet::buffers::Buffers;
use ringway_packet::offload::{Checksum, Offload};
use ringway_packet::parse::Parsed;
use ringway_packet::{checksum, proto};
use ringway_tables::{PeerId, Snapshot};

use super::congestion;
use super::inner::{Fate, Inner, NONE, Place};
use super::message::OuterFrame;
use super::outer;
use crate::admit;
use crate::bytes::be16;
use crate::inner_sum::InnerSum;
use crate::packet::Packet;
use crate::priority;
use crate::reason::{DropReason, reason_of};

/// One datagram: its payload, and what its outer headers said.
pub(super) struct Datagram<'o, I> {
    pub(super) buf: I,
    /// Of the tunnel header.
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) source: u128,
    pub(super) tos: u8,
    pub(super) encap: Encap,
    /// If their checksum is still to be verified.
    pub(super) outer: Option<&'o Outer>,
}

/// Why a datagram is dropped, and what is known of it.
pub(super) struct Refusal {
    pub(super) fate: Fate,
    pub(super) peer: Option<PeerId>,
    pub(super) parsed: Option<Parsed>,
}

impl Refusal {
    #[cold]
    fn unopened(peer: Option<PeerId>, reason: DropReason) -> Refusal {
        Refusal {
            fate: Fate::Unopened(reason),
            peer,
            parsed: None,
        }
    }

    #[cold]
    pub(super) fn opened(peer: PeerId, parsed: Option<Parsed>, reason: DropReason) -> Refusal {
        Refusal {
            fate: Fate::Refused(reason),
            peer: Some(peer),
            parsed,
        }
    }
}

impl<I: Copy> Datagram<'_, I> {
    /// As it lies, for the record.
    #[cold]
    pub(super) fn refused(&self, refusal: Refusal) -> Inner<I> {
        Inner {
            buf: self.buf,
            start: self.start,
            linear: self.len,
            len: self.len,
            packets: 1,
            offload: Offload::default(),
            parsed: refusal.parsed,
            peer: refusal.peer,
            fate: refusal.fate,
            carries: Carries::Frames,
            place: Place::Alone,
            next: NONE,
            last: NONE,
        }
    }
}

/// Opens a datagram. `unfinished`: see [`Options`](super::message::Options).
///
/// # Errors
/// It is dropped.
#[inline(always)]
pub(super) fn open<B: Buffers>(
    snapshot: &Snapshot,
    buffers: &mut B,
    datagram: &Datagram<'_, B::Id>,
    unfinished: bool,
) -> Result<Inner<B::Id>, Refusal> {
    let (start, len) = (datagram.start as usize, datagram.len as usize);
    let bytes = buffers.bytes_mut(datagram.buf);
    let payload = bytes.get(start..start + len).unwrap_or(&[]);
    let peer = snapshot.sources.get(datagram.source);
    let peer = peer.ok_or_else(|| Refusal::unopened(None, DropReason::UnknownPeer))?;
    let encap = datagram.encap;
    tunnel_header(snapshot, encap, payload).map_err(|r| Refusal::unopened(Some(peer), r))?;
    let header = encap.header_len();
    let mut packet = Packet::linear(bytes, start + header, len - header);
    let parsed = encap.carries().parse(packet.head(), packet.len);
    let partial = match parsed {
        Ok(parsed) if unfinished => unfinished_checksum(packet.head(), &parsed),
        _ => None,
    };
    if let Some(outer) = datagram.outer {
        let inner = match parsed {
            Ok(parsed) if partial.is_some() => InnerSum::of(&parsed, header),
            _ => None,
        };
        let payload = &packet.buf[start..start + len];
        outer::verify(outer, payload, unfinished, inner)
            .map_err(|r| Refusal::unopened(Some(peer), r))?;
    }
    let mut parsed = parsed.map_err(|e| Refusal::opened(peer, None, reason_of(&e)))?;
    if let Some(partial) = partial {
        packet.offload.checksum = partial;
    }
    if parsed.vlan_tags > 0 {
        priority::untag(&mut packet, &mut parsed)
            .map_err(|r| Refusal::opened(peer, Some(parsed), r))?;
    }
    let origin = admit::peer(snapshot, peer, encap, packet.head(), &parsed)
        .map_err(|r| Refusal::opened(peer, Some(parsed), r))?;
    congestion::carry(datagram.tos, &mut packet, &mut parsed)
        .map_err(|r| Refusal::opened(peer, Some(parsed), r))?;
    Ok(Inner {
        buf: datagram.buf,
        start: packet.start as u32,
        linear: packet.linear as u32,
        len: packet.len as u32,
        packets: 1,
        offload: packet.offload,
        parsed: Some(parsed),
        peer: Some(peer),
        fate: Fate::Admitted(origin),
        carries: encap.carries(),
        place: Place::Alone,
        next: NONE,
        last: NONE,
    })
}

/// Checks the tunnel header at the start of a datagram's payload.
#[inline]
fn tunnel_header(snapshot: &Snapshot, encap: Encap, payload: &[u8]) -> Result<(), DropReason> {
    match encap {
        Encap::Vxlan { .. } => match vxlan::read(payload) {
            Ok(vni) if vni == snapshot.node.vni => Ok(()),
            Ok(_) => Err(DropReason::UnknownVni),
            Err(_) => Err(DropReason::MalformedVxlan),
        },
        Encap::Udp => match payload.first().map(|&first| udp::protocol(first)) {
            Some(Ok(_)) => Ok(()),
            _ => Err(DropReason::MalformedUdpEncap),
        },
    }
}

/// The checksum of a frame as one to be finished, if it is the sum of the pseudo-header and no more: what a
/// kernel leaves there for the NIC (one packet in 65,536 has it by chance, and finishing its checksum changes
/// nothing then). Only a veth delivers such a packet.
fn unfinished_checksum(head: &[u8], parsed: &Parsed) -> Option<Checksum> {
    let offset = match parsed.proto {
        proto::TCP => 16,
        proto::UDP => 6,
        _ => return None,
    };
    let at = usize::from(parsed.l4_off + offset);
    let field = be16(head.get(at..at + 2)?, 0);
    let pseudo = InnerSum::of(parsed, 0)?.pseudo;
    (field == checksum::fold(pseudo)).then_some(Checksum::Partial {
        start: parsed.l4_off,
        offset,
    })
}

/// An outer frame that is no datagram of a tunnel's.
#[cold]
pub(super) fn no_datagram<I: Copy>(frame: &OuterFrame<I>, reason: DropReason) -> Inner<I> {
    let datagram = Datagram {
        buf: frame.buf,
        start: frame.start,
        len: frame.len,
        source: 0,
        tos: 0,
        encap: Encap::Udp,
        outer: None,
    };
    datagram.refused(Refusal::unopened(None, reason))
}
