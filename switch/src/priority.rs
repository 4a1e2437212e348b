//! Priority tags: a tag with VLAN 0 names no VLAN, only a priority (IEEE 802.1Q-2018 section 6.9), so its
//! frame is an untagged one.
//!
//! As a Linux bridge does it: from pod to pod the frame is switched with its tags, and whoever receives it
//! takes them off; routed, it goes on without them.

use ringway_packet::bytes::be16;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::Parsed;

use crate::packet::Packet;
use crate::reason::DropReason;

const MACS: usize = 12;
const TAG: usize = 4;
/// VLAN identifier in the tag control information.
const VID: u16 = 0x0fff;

/// Lets a tagged frame pass for an untagged one if its tags are priority tags.
///
/// # Errors
/// [`DropReason::VlanTagged`]: one of them names a VLAN.
#[inline(always)]
pub(crate) fn accept(head: &[u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    check(head, parsed.vlan_tags)?;
    parsed.vlan_tags = 0;
    Ok(())
}

/// Takes the tags off a frame if they are priority tags; `parsed` is then that of the untagged frame.
///
/// # Errors
/// [`DropReason::VlanTagged`]: one of them names a VLAN. [`DropReason::BadOffload`]: a checksum to be
/// completed begins before the packet. The frame is then as it was.
#[inline(always)]
pub(crate) fn untag(packet: &mut Packet<'_>, parsed: &mut Parsed) -> Result<(), DropReason> {
    let tags = parsed.vlan_tags;
    let checksum = packet.offload.checksum;
    packet.offload.checksum = strip(packet.head_mut(), tags, checksum)?;
    let cut = usize::from(tags) * TAG;
    packet.pull(cut);
    parsed.vlan_tags = 0;
    parsed.l3_off -= cut as u16;
    parsed.l4_off -= cut as u16;
    parsed.payload_off -= cut as u16;
    Ok(())
}

#[cold]
fn check(head: &[u8], tags: u8) -> Result<(), DropReason> {
    let names = |tag: usize| be16(head, MACS + tag * TAG + 2) & VID != 0;
    match (0..usize::from(tags)).any(names) {
        true => Err(DropReason::VlanTagged),
        false => Ok(()),
    }
}

/// Moves the MACs over the tags; gives the checksum as it is counted from there.
#[cold]
fn strip(head: &mut [u8], tags: u8, mut checksum: Checksum) -> Result<Checksum, DropReason> {
    check(head, tags)?;
    let cut = usize::from(tags) * TAG;
    if let Checksum::Partial { start, .. } = &mut checksum {
        *start = start
            .checked_sub(cut as u16)
            .ok_or(DropReason::BadOffload)?;
    }
    head.copy_within(..MACS, cut);
    Ok(checksum)
}
