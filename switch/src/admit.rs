//! Stage 2. Admission: is the sender who it says it is?

use ringway_encap::{Carries, Encap};
use ringway_packet::addr::{mapped, unmap};
use ringway_packet::offload::{Checksum, Offload};
use ringway_packet::parse::{L3, Parsed};
use ringway_packet::proto;
use ringway_tables::{PeerId, Port, Snapshot, Target};

use crate::bytes::{be32, is_link_local, is_multicast6, mac};
use crate::frame::Origin;
use crate::reason::{DropReason, IgnoreReason};
use crate::trace::Step;
use crate::verdict::Stage;

/// A frame from a pod: from the pod's own MAC and address. Admitted besides: `::` to
/// groups (duplicate-address probes, first MLD reports), link-local, and `0.0.0.0` in ARP probes.
#[inline]
pub(crate) fn pod(port: &Port, head: &[u8], parsed: &Parsed) -> Stage<()> {
    if mac(head, 6) != port.mac {
        return Err(DropReason::SpoofedMac.into());
    }
    match parsed.l3 {
        L3::Ipv4 => {
            let source = parsed.src4();
            if port.ip4 == Some(source) {
                return Ok(());
            }
            if source == 0 && parsed.proto == 17 && parsed.dst_port == 67 {
                return Err(IgnoreReason::Dhcp.into());
            }
            // A pod without an IPv4 address still reports its group memberships.
            if source == 0 && parsed.proto == 2 {
                return Err(IgnoreReason::Igmp.into());
            }
            Err(DropReason::SpoofedIpv4.into())
        }
        L3::Ipv6 => {
            let source = parsed.src6();
            // Unspecified only while a pod looks for an address (RFC 4291 section 2.5.2): a packet to
            // somebody would be from nobody.
            let searching = source == 0 && is_multicast6(parsed.dst6());
            if port.ip6 == Some(source) || searching || is_link_local(source) {
                return Ok(());
            }
            Err(DropReason::SpoofedIpv6.into())
        }
        L3::Arp => {
            // RFC 826: sender hardware address at 8, sender protocol address at 14.
            let l3 = usize::from(parsed.l3_off);
            if mac(head, l3 + 8) != port.mac {
                return Err(DropReason::SpoofedMac.into());
            }
            let sender = be32(head, l3 + 14);
            if sender == 0 || port.ip4 == Some(sender) {
                return Ok(());
            }
            Err(DropReason::SpoofedIpv4.into())
        }
        L3::Other => Err(DropReason::UnknownEthertype.into()),
    }
}

/// Who a frame says it is from, as [`pod`] looks at it.
pub(crate) fn sender(head: &[u8], parsed: &Parsed) -> Step {
    let arp = || be32(head, usize::from(parsed.l3_off) + 14);
    let address = match parsed.l3 {
        L3::Arp => Some(mapped(arp())),
        _ => parsed.addresses().map(|(from, _)| from),
    };
    Step::Sender(mac(head, 6), address)
}

/// To which VTEP a peer has sent a frame, as [`peer`] looks at it.
pub(crate) fn vtep(snapshot: &Snapshot, head: &[u8], parsed: &Parsed) -> Step {
    let own = match parsed.l3 {
        L3::Ipv6 => snapshot.node.vtep_mac6,
        _ => snapshot.node.vtep_mac,
    };
    Step::Vtep(mac(head, 0), own)
}

/// Offload metadata, which whoever has a raw socket in a pod chooses freely. A checksum to be done
/// will be written after everything else has been checked, so it may replace nothing but the
/// checksum of the L4 header, or what lies behind that (a packet of a tunnel inside the pod).
#[inline]
pub(crate) fn offload(offload: &Offload, parsed: &Parsed) -> Stage<()> {
    let Checksum::Partial { start, offset } = offload.checksum else {
        return Ok(());
    };
    let field = match parsed.proto {
        proto::TCP => 16,
        proto::UDP => 6,
        _ => 2,
    };
    if start >= parsed.payload_off || start == parsed.l4_off && offset == field {
        Ok(())
    } else {
        Err(DropReason::BadOffload.into())
    }
}

/// A frame out of a tunnel: to our VTEP's MAC (VXLAN), from an address in the CIDRs of the peer
/// that the outer source named, by the encapsulation set for it or another that the node
/// receives by, or from the peer's own address.
#[inline]
pub(crate) fn peer(
    snapshot: &Snapshot,
    peer: PeerId,
    encap: Encap,
    head: &[u8],
    parsed: &Parsed,
) -> Result<Origin, DropReason> {
    // Each family in its own table: an IPv4-mapped source is nobody's.
    let (back, vtep) = match parsed.l3 {
        L3::Ipv4 => (
            snapshot.routes4.lookup(parsed.src4()),
            snapshot.node.vtep_mac,
        ),
        L3::Ipv6 => (
            snapshot.routes6.lookup(parsed.src6()),
            snapshot.node.vtep_mac6,
        ),
        L3::Arp | L3::Other => return Err(DropReason::NotForwardedInner),
    };
    if encap.carries() == Carries::Frames && mac(head, 0) != vtep {
        return Err(match head[0] & 1 {
            1 => DropReason::NotForwardedInner,
            _ => DropReason::VtepMac,
        });
    }
    if let Some(Target::Path(id)) = back
        && let Some(path) = snapshot.path(id)
        && path.peer == peer
    {
        if path.encap != encap && !snapshot.accepted.contains(&encap) {
            return Err(DropReason::EncapMismatch);
        }
        return Ok(Origin::Peer(id));
    }
    if is_node(snapshot, peer, parsed) {
        return Ok(Origin::PeerNode);
    }
    Err(DropReason::ForeignInnerSource)
}

/// Whether the inner source is an underlay address of the peer. What a node answers to a pod that came to it
/// outside the tunnel, under the pod's own address, has that source and takes the route to the pod.
#[cold]
fn is_node(snapshot: &Snapshot, peer: PeerId, parsed: &Parsed) -> bool {
    let Some((source, _)) = parsed.addresses() else {
        return false;
    };
    // An IPv4-mapped source in an IPv6 packet is nobody's.
    let honest = parsed.l3 == L3::Ipv4 || unmap(source).is_none();
    honest && snapshot.sources.get(source) == Some(peer)
}
