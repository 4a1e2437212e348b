//! The outer headers of a whole frame: whose encapsulation its port tells, and its checksum.

use ringway_encap::outer::{Outer, PopError, pop_outer, verify_checksum};
use ringway_encap::{Encap, udp, vxlan};
use ringway_packet::addr::unmap;
use ringway_packet::{checksum, proto};
use ringway_tables::Snapshot;

use crate::inner_sum::InnerSum;
use crate::reason::DropReason;

const UDP_HEADER: usize = 8;

/// UDP ports by which an outer packet's encapsulation is told.
#[derive(Clone, Copy, Debug)]
pub struct UdpPorts {
    /// VXLAN; 8472 on Linux and with Flannel, 4789 by RFC 7348.
    pub vxlan: u16,
    /// Flannel's udp backend; 8285.
    pub udp: u16,
}

impl Default for UdpPorts {
    fn default() -> Self {
        UdpPorts {
            vxlan: vxlan::LINUX_PORT,
            udp: udp::DEFAULT_PORT,
        }
    }
}

/// Takes the outer headers of a frame apart; its checksum is still to be verified.
#[inline(always)]
pub(super) fn headers(
    snapshot: &Snapshot,
    ports: UdpPorts,
    frame: &[u8],
) -> Result<(Outer, Encap), DropReason> {
    let outer = pop_outer(frame, frame.len()).map_err(|e| reason_of(&e))?;
    let encap = if outer.dst_port == ports.vxlan {
        Encap::Vxlan {
            vni: snapshot.node.vni,
        }
    } else if outer.dst_port == ports.udp {
        Encap::Udp
    } else {
        return Err(DropReason::NotOurPort);
    };
    Ok((outer, encap))
}

/// Verifies the outer UDP checksum of a datagram with this `payload`.
///
/// `unfinished`: the underlay is one whose other end leaves checksums to a NIC that is not there (veth). Then
/// two more are right. An outer field that is the bare sum of the pseudo-header is itself unfinished. And
/// where the inner checksum is (`inner`), the outer one was made for the finished packet.
///
/// # Errors
/// [`DropReason::OuterChecksum`].
#[inline(always)]
pub(super) fn verify(
    outer: Outer,
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
    verify_checksum(&outer, sum).map_err(|e| reason_of(&e))
}

/// Whether the checksum field holds the sum of the pseudo-header and no more: what a stack leaves
/// there for a NIC to finish.
#[inline(never)]
fn is_bare_pseudo_sum(outer: Outer) -> bool {
    let len = outer.payload_len + UDP_HEADER;
    let pseudo = match (unmap(outer.src), unmap(outer.dst)) {
        (Some(src), Some(dst)) => checksum::pseudo_v4(src, dst, proto::UDP, len),
        _ => checksum::pseudo_v6(outer.src, outer.dst, proto::UDP, len),
    };
    checksum::fold(pseudo) == outer.checksum
}

#[cold]
fn reason_of(error: &PopError) -> DropReason {
    match error {
        PopError::UdpChecksum | PopError::ZeroChecksumIpv6 => DropReason::OuterChecksum,
        _ => DropReason::MalformedOuter,
    }
}
