//! Opening: from a datagram to an admitted inner frame.
//!
//! ```text
//!  whose outer source (arrivals/mod.rs) ▶ tunnel header ▶ parse ▶ checksums ▶ priority tags off ▶ admit ▶ congestion mark
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
use crate::frame::Origin;
use crate::inner_sum::InnerSum;
use crate::packet::Packet;
use crate::priority;
use crate::reason::{DropReason, reason_of};

/// One datagram: its payload, and what its outer headers said.
#[derive(Clone, Copy)]
pub(super) struct Datagram<I> {
    pub(super) buf: I,
    /// Of the tunnel header.
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) source: u128,
    pub(super) tos: u8,
    /// It stood too long here.
    pub(super) congested: bool,
    pub(super) encap: Encap,
    /// If their checksum is still to be verified.
    pub(super) outer: Option<Outer>,
}

impl<I: Copy> Datagram<I> {
    /// As it lies, before anything is known of it but who sent it.
    #[inline(always)]
    pub(super) fn unopened(&self, peer: Option<PeerId>, reason: DropReason) -> Inner<I> {
        Inner {
            buf: self.buf,
            start: self.start,
            linear: self.len,
            len: self.len,
            packets: 1,
            offload: Offload::default(),
            parsed: None,
            peer,
            fate: Fate::Unopened(reason),
            // Neither, yet.
            carries: Carries::Packets,
            place: Place::Alone,
            next: NONE,
            last: NONE,
        }
    }
}

/// Opens a datagram with these bytes: `inner`, which is [as it lies](Datagram::unopened), becomes the frame in
/// it. In place: a frame's record is as long as its headers. `unfinished`: see
/// [`Options`](super::message::Options).
///
/// # Errors
/// What becomes of it, as it is dropped. What is known of it stands in `inner`.
#[inline(always)]
pub(super) fn open<I: Copy>(
    snapshot: &Snapshot,
    payload: &mut [u8],
    datagram: Datagram<I>,
    unfinished: bool,
    inner: &mut Inner<I>,
) -> Result<(), Fate> {
    let peer = inner.peer.ok_or(Fate::Unopened(DropReason::UnknownPeer))?;
    let encap = datagram.encap;
    tunnel_header(snapshot, encap, payload).map_err(Fate::Unopened)?;
    let header = encap.header_len();
    let head = &payload[header..];
    let parsed = inner.parsed.insert(Parsed::default());
    inner.carries = encap.carries();
    let result = inner.carries.parse_into(head, head.len(), parsed);
    let partial = match result {
        Ok(()) if unfinished => unfinished_checksum(head, parsed),
        _ => None,
    };
    if let Some(outer) = datagram.outer {
        let sum = match partial {
            Some(_) => InnerSum::of(parsed, header),
            None => None,
        };
        if let Err(reason) = outer::verify(outer, payload, unfinished, sum) {
            inner.parsed = None;
            return Err(Fate::Unopened(reason));
        }
    }
    if let Err(error) = result {
        inner.parsed = None;
        return Err(Fate::Refused(reason_of(&error)));
    }
    if let Some(partial) = partial {
        inner.offload.checksum = partial;
    }
    let head = &mut payload[header..];
    let tunnel = Tunnel {
        peer,
        encap,
        tos: datagram.tos,
        congested: datagram.congested,
    };
    let (tags, origin) = match parsed.vlan_tags {
        0 => (0, untagged(snapshot, tunnel, head, parsed)?),
        _ => {
            let checksum = &mut inner.offload.checksum;
            tagged(snapshot, tunnel, head, parsed, checksum)?
        }
    };
    let len = head.len() - tags;
    inner.start = datagram.start + (header + tags) as u32;
    inner.linear = len as u32;
    inner.len = len as u32;
    inner.fate = Fate::Admitted(origin);
    Ok(())
}

/// What a frame came by.
#[derive(Clone, Copy)]
struct Tunnel {
    peer: PeerId,
    encap: Encap,
    /// Outer TOS octet.
    tos: u8,
    congested: bool,
}

/// Admits a frame, and carries a congestion mark over.
#[inline(always)]
fn untagged(
    snapshot: &Snapshot,
    tunnel: Tunnel,
    head: &mut [u8],
    parsed: &mut Parsed,
) -> Result<Origin, Fate> {
    let origin = admit::peer(snapshot, tunnel.peer, tunnel.encap, head, parsed);
    let origin = origin.map_err(Fate::Refused)?;
    congestion::carry(tunnel.tos, head, parsed).map_err(Fate::Refused)?;
    if tunnel.congested {
        congestion::tell(head, parsed).map_err(Fate::Refused)?;
    }
    Ok(origin)
}

/// The same for a frame with VLAN tags: without them, if they name no VLAN. Gives their bytes, too.
#[cold]
#[inline(never)]
fn tagged(
    snapshot: &Snapshot,
    tunnel: Tunnel,
    head: &mut [u8],
    parsed: &mut Parsed,
    checksum: &mut Checksum,
) -> Result<(usize, Origin), Fate> {
    let len = head.len();
    let mut packet = Packet::linear(head, 0, len);
    packet.offload.checksum = *checksum;
    priority::untag(&mut packet, parsed).map_err(Fate::Refused)?;
    *checksum = packet.offload.checksum;
    let tags = packet.start;
    let origin = untagged(snapshot, tunnel, packet.head_mut(), parsed)?;
    Ok((tags, origin))
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
        congested: false,
        encap: Encap::Udp,
        outer: None,
    };
    Inner {
        carries: Carries::Frames,
        ..datagram.unopened(None, reason)
    }
}
