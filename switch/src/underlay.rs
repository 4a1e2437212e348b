//! What arrives from the underlay: whose it is, and what is inside.

use ringway_encap::outer::{Fields, Outer, PopError, pop_outer, verify_checksum};
use ringway_encap::{Carries, Encap, ecn, udp, vxlan};
use ringway_packet::addr::unmap;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::{Fragment, L3, Parsed};
use ringway_packet::{checksum, proto};
use ringway_tables::{PeerId, Snapshot};

use crate::bytes::be16;
use crate::pipeline::Ports;
use crate::{DropReason, Packet, Tunnel};

/// Length of an untagged Ethernet header.
const ETHERNET: usize = 14;
const UDP_HEADER: usize = 8;

/// The peer an outer source address belongs to.
#[inline]
pub(crate) fn peer(snapshot: &Snapshot, source: u128) -> Result<PeerId, DropReason> {
    snapshot.sources.get(source).ok_or(DropReason::UnknownPeer)
}

/// Checks the tunnel header at the start of a datagram's payload.
#[inline]
pub(crate) fn tunnel_header(
    snapshot: &Snapshot,
    encap: Encap,
    payload: &[u8],
) -> Result<(), DropReason> {
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

/// Which encapsulation the UDP port of an outer frame tells.
#[inline]
fn encap_of(snapshot: &Snapshot, ports: Ports, outer: &Outer) -> Result<Encap, DropReason> {
    if outer.dst_port == ports.vxlan {
        Ok(Encap::Vxlan {
            vni: snapshot.node.vni,
        })
    } else if outer.dst_port == ports.udp {
        Ok(Encap::Udp)
    } else {
        Err(DropReason::NotOurPort)
    }
}

/// Takes the outer headers of a frame apart; its UDP checksum is still to be verified, by
/// [`outer_checksum`].
#[inline]
pub(crate) fn outer_headers(
    snapshot: &Snapshot,
    ports: Ports,
    frame: &[u8],
) -> Result<(Outer, Encap), DropReason> {
    let outer = pop_outer(frame, frame.len()).map_err(|e| pop_reason(&e))?;
    let encap = encap_of(snapshot, ports, &outer)?;
    Ok((outer, encap))
}

/// Verifies the outer UDP checksum of a datagram with this `payload`.
///
/// `unfinished`: the underlay is one whose other end leaves checksums to a NIC that is not there
/// (veth). Then two more are right. An outer field that is the bare sum of the pseudo-header is
/// itself unfinished. And where the inner checksum is (`inner` says where its L4 header begins in
/// the payload, and the sum of its pseudo-header), the outer one was made for the finished packet,
/// whose L4 part sums up to the complement of its pseudo-header.
///
/// # Errors
/// [`DropReason::OuterChecksum`].
#[inline]
pub fn outer_checksum(
    outer: &Outer,
    payload: &[u8],
    unfinished: bool,
    inner: Option<InnerSum>,
) -> Result<(), DropReason> {
    if outer.checksum == 0 || unfinished && is_bare_pseudo_sum(outer) {
        return Ok(());
    }
    let sum = match inner {
        Some(inner) => inner.finished(payload).ok_or(DropReason::MalformedOuter)?,
        None => checksum::sum(payload),
    };
    verify_checksum(outer, sum).map_err(|e| pop_reason(&e))
}

/// Where in a datagram's payload the inner L4 part lies, whose checksum is right or will be.
#[derive(Clone, Copy, Debug)]
pub struct InnerSum {
    /// Offset of the L4 header; even.
    pub l4: usize,
    /// End of the IP packet.
    pub end: usize,
    /// Sum of the pseudo-header.
    pub pseudo: checksum::Sum,
}

impl InnerSum {
    /// The sum over the payload once the inner checksum is finished, from the bytes around the L4
    /// part alone. `None` if they do not lie in the payload.
    #[inline]
    pub fn finished(&self, payload: &[u8]) -> Option<checksum::Sum> {
        let around = payload.get(..self.l4)?;
        let padding = payload.get(self.end..)?;
        let l4 = checksum::Sum::of16(!checksum::fold(self.pseudo));
        let padding = match self.end % 2 {
            0 => checksum::sum(padding),
            _ => checksum::sum(padding).swapped(),
        };
        Some(checksum::sum(around) + l4 + padding)
    }

    /// For a packet parsed as `parsed` out of the bytes `head`, which begin `shim` bytes into the
    /// payload. `None` if it has no checksum over a pseudo-header, or is a fragment.
    #[inline]
    pub fn of(head: &[u8], parsed: &Parsed, shim: usize) -> Option<InnerSum> {
        let (l3, l4) = (usize::from(parsed.l3_off), usize::from(parsed.l4_off));
        if parsed.fragment != Fragment::None || !matches!(parsed.proto, proto::TCP | proto::UDP) {
            return None;
        }
        let end = l3 + parsed.ip_len as usize;
        let addresses = match parsed.l3 {
            L3::Ipv4 => head.get(l3 + 12..l3 + 20)?,
            // A routing header would put another destination into the pseudo-header.
            L3::Ipv6 if l4 == l3 + 40 => head.get(l3 + 8..l3 + 40)?,
            _ => return None,
        };
        let len = end.checked_sub(l4)?;
        let pseudo = checksum::sum(addresses) + checksum::pseudo_v4(0, 0, parsed.proto, len);
        Some(InnerSum {
            l4: shim + l4,
            end: shim + end,
            pseudo,
        })
    }
}

/// Whether the checksum field holds the sum of the pseudo-header and no more: what a stack leaves
/// there for a NIC to finish.
fn is_bare_pseudo_sum(outer: &Outer) -> bool {
    let len = outer.payload_len + UDP_HEADER;
    let pseudo = match (unmap(outer.src), unmap(outer.dst)) {
        (Some(src), Some(dst)) => checksum::pseudo_v4(src, dst, proto::UDP, len),
        _ => checksum::pseudo_v6(outer.src, outer.dst, proto::UDP, len),
    };
    checksum::fold(pseudo) == outer.checksum
}

/// Opens a whole outer frame: `packet` is left with what the tunnel carries. Gives the peer, the
/// encapsulation and the outer TOS octet.
#[inline]
pub(crate) fn open_frame(
    snapshot: &Snapshot,
    ports: Ports,
    packet: &mut Packet<'_>,
) -> Result<(PeerId, Encap, u8), (Option<PeerId>, DropReason)> {
    let outer: Outer = pop_outer(packet.head(), packet.len).map_err(|e| (None, pop_reason(&e)))?;
    let encap = encap_of(snapshot, ports, &outer).map_err(|r| (None, r))?;
    let peer = peer(snapshot, outer.src).map_err(|r| (None, r))?;
    // Zero means none was sent; otherwise it counts, unless the port vouches for it.
    if outer.checksum != 0 && packet.offload.checksum != Checksum::Verified {
        let payload = packet
            .head()
            .get(outer.payload_off..outer.payload_off + outer.payload_len);
        let sum = checksum::sum(payload.ok_or((None, DropReason::MalformedOuter))?);
        verify_checksum(&outer, sum).map_err(|e| (None, pop_reason(&e)))?;
    }
    packet.offload = Default::default();
    // Padding behind the payload is not part of it.
    packet.len = outer.payload_off + outer.payload_len;
    packet.linear = packet.linear.min(packet.len);
    packet.pull(outer.payload_off);
    tunnel_header(snapshot, encap, packet.head()).map_err(|r| (Some(peer), r))?;
    packet.pull(encap.header_len());
    if encap.carries() == Carries::Packets {
        put_ethernet(snapshot, packet).map_err(|r| (Some(peer), r))?;
    }
    Ok((peer, encap, outer.tos))
}

/// Puts the whole outer frame of a tunnel in front of `packet`: the last step before a port that
/// carries frames (memory, AF_XDP). Sockets do this in the kernel. `src_port` is the flow's; `id` is 0
/// unless the path's packets [may be fragmented](ringway_encap::outer::OuterHeader::may_fragment).
///
/// # Errors
/// The path is gone, or the packet does not fit an IP length field or its headroom.
#[inline]
pub fn encapsulate(
    snapshot: &Snapshot,
    tunnel: &Tunnel,
    packet: &mut Packet<'_>,
    src_port: u16,
    id: u16,
) -> Result<(), DropReason> {
    let path = snapshot.path(tunnel.path).ok_or(DropReason::NoPath)?;
    packet.pull(path.encap.carries().left_behind());
    let sum = path
        .outer
        .needs_sum()
        .then(|| carried_sum(packet, path.encap));
    let tos = tunnel.tos;
    let fields = Fields { src_port, tos, id };
    let start = path
        .outer
        .push(packet.buf, packet.start, packet.len, fields, sum)
        .map_err(|_| DropReason::NoBuffer)?;
    packet.push(packet.start - start);
    Ok(())
}

/// The sum over what the tunnel carries. Where the inner checksum was just computed, the headers
/// say it all.
fn carried_sum(packet: &Packet<'_>, encap: Encap) -> checksum::Sum {
    let head = packet.head();
    if packet.offload.checksum == Checksum::Verified
        && let Ok(parsed) = encap.carries().parse(head, packet.len)
        && let Some(inner) = InnerSum::of(head, &parsed, 0)
        && !is_udp_without_checksum(head, &parsed)
        && let Some(sum) = inner.finished(head)
    {
        return sum;
    }
    checksum::sum(head)
}

fn is_udp_without_checksum(head: &[u8], parsed: &Parsed) -> bool {
    parsed.proto == proto::UDP && be16(head, usize::from(parsed.l4_off) + 6) == 0
}

#[cold]
fn pop_reason(error: &PopError) -> DropReason {
    match error {
        PopError::UdpChecksum | PopError::ZeroChecksumIpv6 => DropReason::OuterChecksum,
        _ => DropReason::MalformedOuter,
    }
}

/// Gives a bare IP packet, as UDP encapsulation carries it, the Ethernet header of a frame to this
/// node's VTEP. Takes 14 bytes of headroom.
#[inline]
pub fn put_ethernet(snapshot: &Snapshot, packet: &mut Packet<'_>) -> Result<(), DropReason> {
    let ethertype = packet
        .head()
        .first()
        .and_then(|&first| udp::protocol(first).ok())
        .ok_or(DropReason::MalformedUdpEncap)?;
    if packet.start < ETHERNET {
        return Err(DropReason::NoBuffer);
    }
    packet.push(ETHERNET);
    let head = packet.head_mut();
    head[..6].copy_from_slice(&snapshot.node.vtep_mac.0);
    head[6..12].copy_from_slice(&snapshot.node.vtep_mac.0);
    head[12..14].copy_from_slice(&ethertype.to_be_bytes());
    Ok(())
}

/// Carries a congestion mark of the outer header into the inner one (RFC 6040 section 4.2). Doing
/// it twice is the same as once.
///
/// # Errors
/// The mark cannot be carried: the packet must be dropped.
#[inline]
pub fn congestion(tos: u8, packet: &mut Packet<'_>, parsed: &mut Parsed) -> Result<(), DropReason> {
    if tos & 3 == 0 || tos & 3 == parsed.tos & 3 {
        return Ok(());
    }
    let marked =
        ecn::decapsulate(tos & 3, parsed.tos & 3).map_err(|_| DropReason::EcnNotCapable)?;
    if marked == parsed.tos & 3 {
        return Ok(());
    }
    parsed.tos = parsed.tos & !3 | marked;
    let l3 = usize::from(parsed.l3_off);
    let head = packet.head_mut();
    let word = be16(head, l3);
    match parsed.l3 {
        L3::Ipv4 => {
            let new = word & !3 | u16::from(marked);
            let sum = ringway_packet::checksum::update16(be16(head, l3 + 10), word, new);
            head[l3..l3 + 2].copy_from_slice(&new.to_be_bytes());
            head[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        L3::Ipv6 => {
            let new = word & !(3 << 4) | u16::from(marked) << 4;
            head[l3..l3 + 2].copy_from_slice(&new.to_be_bytes());
        }
        _ => {}
    }
    Ok(())
}
