//! Towards a peer: the whole outer frame in front of what the tunnel carries.

use ringway_encap::Encap;
use ringway_encap::outer::Fields;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::Parsed;
use ringway_packet::{checksum, proto};
use ringway_tables::Path;

use crate::bytes::be16;
use crate::inner_sum::InnerSum;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::verdict::Tunnel;

/// Puts the whole outer frame of a tunnel by `path` in front of `packet`: the last step before a port that
/// carries frames (memory, AF_XDP). Sockets do this in the kernel. `src_port` is the flow's; `id` is 0
/// unless the path's packets [may be fragmented](ringway_encap::outer::OuterHeader::may_fragment).
///
/// # Errors
/// The packet does not fit an IP length field or its headroom.
#[inline(always)]
pub fn encapsulate(
    path: &Path,
    tunnel: &Tunnel,
    packet: &mut Packet<'_>,
    src_port: u16,
    id: u16,
) -> Result<(), DropReason> {
    packet.pull(path.encap.carries().left_behind());
    let verified = packet.offload.checksum == Checksum::Verified;
    let sum = path
        .outer
        .needs_sum()
        .then(|| carried_sum(packet.head(), packet.len, verified, path.encap));
    let tos = tunnel.tos;
    let fields = Fields { src_port, tos, id };
    let start = path
        .outer
        .push(packet.buf, packet.start, packet.len, fields, sum)
        .map_err(|_| DropReason::NoBuffer)?;
    packet.push(packet.start - start);
    Ok(())
}

/// The sum over what the tunnel carries, `len` bytes that begin with `head`. Where the inner checksum was just
/// computed (`verified`), the headers say it all.
#[inline(never)]
fn carried_sum(head: &[u8], len: usize, verified: bool, encap: Encap) -> checksum::Sum {
    if verified
        && let Ok(parsed) = encap.carries().parse(head, len)
        && let Some(inner) = InnerSum::of(&parsed, 0)
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
