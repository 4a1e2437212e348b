//! What arrives from the underlay: whose it is, and what is inside.

use ringway_encap::outer::{Outer, PopError, pop_outer, verify_checksum};
use ringway_encap::{Encap, ecn, entropy, udp, vxlan};
use ringway_packet::checksum;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::{L3, Parsed};
use ringway_tables::{PeerId, Snapshot};

use crate::bytes::be16;
use crate::pipeline::Ports;
use crate::{DropReason, Packet, Tunnel};

/// Length of an untagged Ethernet header.
const ETHERNET: usize = 14;

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

/// Opens a whole outer frame: `packet` is left with what the tunnel carries. Gives the peer, the
/// encapsulation and the outer TOS octet.
#[inline]
pub(crate) fn open_frame(
    snapshot: &Snapshot,
    ports: Ports,
    packet: &mut Packet<'_>,
) -> Result<(PeerId, Encap, u8), (Option<PeerId>, DropReason)> {
    let outer: Outer = pop_outer(packet.head(), packet.len).map_err(|e| (None, pop_reason(&e)))?;
    let encap = if outer.dst_port == ports.vxlan {
        Encap::Vxlan {
            vni: snapshot.node.vni,
        }
    } else if outer.dst_port == ports.udp {
        Encap::Udp
    } else {
        return Err((None, DropReason::NotOurPort));
    };
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
    match encap {
        Encap::Vxlan { .. } => packet.pull(vxlan::HEADER_LEN),
        Encap::Udp => put_ethernet(snapshot, packet).map_err(|r| (Some(peer), r))?,
    }
    Ok((peer, encap, outer.tos))
}

/// Puts the whole outer frame of a tunnel in front of `packet`: the last step before a port that
/// carries frames (memory, AF_XDP). Sockets do this in the kernel.
///
/// # Errors
/// The path is gone, or the packet does not fit an IP length field or its headroom.
#[inline]
pub fn encapsulate(
    snapshot: &Snapshot,
    tunnel: &Tunnel,
    packet: &mut Packet<'_>,
) -> Result<(), DropReason> {
    let path = snapshot.path(tunnel.path).ok_or(DropReason::NoPath)?;
    if path.encap == Encap::Udp {
        packet.pull(ETHERNET);
    }
    let sum = path.outer.needs_sum().then(|| checksum::sum(packet.head()));
    let port = entropy::source_port(tunnel.hash);
    let start = path
        .outer
        .push(packet.buf, packet.start, packet.len, port, tunnel.tos, sum)
        .map_err(|_| DropReason::NoBuffer)?;
    packet.push(packet.start - start);
    Ok(())
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
