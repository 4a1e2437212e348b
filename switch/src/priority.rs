//! Priority tags: a tag with VLAN 0 names no VLAN, only a priority (IEEE 802.1Q-2018 section 6.9), so its
//! frame is an untagged one.
//!
//! As a Linux bridge does it: from pod to pod the frame is switched with its tags, and whoever receives it
//! takes them off; routed, it goes on without them.

use ringway_packet::bytes::be16;
use ringway_packet::offload::Checksum;
use ringway_packet::parse::Parsed;

use crate::{DropReason, Packet};

const MACS: usize = 12;
const TAG: usize = 4;
/// VLAN identifier in the tag control information.
const VID: u16 = 0x0fff;

/// Lets a tagged frame pass for an untagged one if its tags are priority tags.
///
/// # Errors
/// [`DropReason::VlanTagged`]: one of them names a VLAN.
#[cold]
pub(crate) fn accept(head: &[u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    for tag in 0..usize::from(parsed.vlan_tags) {
        if be16(head, MACS + tag * TAG + 2) & VID != 0 {
            return Err(DropReason::VlanTagged);
        }
    }
    parsed.vlan_tags = 0;
    Ok(())
}

/// Takes the tags off a frame if they are priority tags; `parsed` is then that of the untagged frame.
///
/// # Errors
/// [`DropReason::VlanTagged`]: one of them names a VLAN. [`DropReason::BadOffload`]: a checksum to be
/// completed begins before the packet. The frame is then as it was.
#[cold]
pub fn untag(packet: &mut Packet<'_>, parsed: &mut Parsed) -> Result<(), DropReason> {
    let cut = usize::from(parsed.vlan_tags) * TAG;
    accept(packet.head(), parsed)?;
    if let Checksum::Partial { start, .. } = &mut packet.offload.checksum {
        let moved = start.checked_sub(cut as u16);
        *start = moved.ok_or(DropReason::BadOffload)?;
    }
    packet.head_mut().copy_within(..MACS, cut);
    packet.pull(cut);
    parsed.l3_off -= cut as u16;
    parsed.l4_off -= cut as u16;
    parsed.payload_off -= cut as u16;
    Ok(())
}
