//! A congestion mark into the inner header: that of the outer one (RFC 6040 section 4.2), or our own.

use ringway_encap::ecn;
use ringway_packet::checksum;
use ringway_packet::parse::{L3, Parsed};

use crate::bytes::be16;
use crate::reason::DropReason;

/// Carries the mark of the outer TOS octet over.
///
/// # Errors
/// [`DropReason::EcnNotCapable`]: the inner packet does not know ECN, and must be dropped.
#[inline(always)]
pub(super) fn carry(tos: u8, head: &mut [u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    if tos & ecn::MASK == 0 || tos & ecn::MASK == parsed.tos & ecn::MASK {
        return Ok(());
    }
    let marked = ecn::decapsulate(tos, parsed.tos).map_err(|_| DropReason::EcnNotCapable)?;
    if marked != parsed.tos & ecn::MASK {
        parsed.tos = parsed.tos & !ecn::MASK | marked;
        mark(marked, head, parsed.l3, parsed.l3_off.into());
    }
    Ok(())
}

/// Tells a packet's flow that what comes to this node stands too long here (RFC 8289 section 3).
///
/// # Errors
/// [`DropReason::Aqm`]: it does not know ECN, and learns it by a loss.
#[cold]
#[inline(never)]
pub(super) fn tell(head: &mut [u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    match parsed.tos & ecn::MASK {
        ecn::NOT_ECT => Err(DropReason::Aqm),
        _ => carry(ecn::CE, head, parsed),
    }
}

/// Writes the mark into the header at `l3`, of this `kind`.
#[cold]
fn mark(marked: u8, head: &mut [u8], kind: L3, l3: usize) {
    let word = be16(head, l3);
    match kind {
        L3::Ipv4 => {
            let new = word & !3 | u16::from(marked);
            let sum = checksum::update16(be16(head, l3 + 10), word, new);
            head[l3..l3 + 2].copy_from_slice(&new.to_be_bytes());
            head[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        L3::Ipv6 => {
            let new = word & !(3 << 4) | u16::from(marked) << 4;
            head[l3..l3 + 2].copy_from_slice(&new.to_be_bytes());
        }
        L3::Arp | L3::Other => {}
    }
}
