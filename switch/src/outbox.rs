//! Frames the switch makes itself: ARP and ND answers, ICMP errors.

use ringway_tables::PortId;

use crate::verdict::Tunnel;

/// Largest frame the switch makes: Ethernet and an ICMPv6 error of 1,280 bytes (RFC 4443 2.4c).
pub const MAX_FRAME: usize = 14 + 1280;
/// Frames that fit; the worker empties the outbox after every frame it handles.
const SLOTS: usize = 8;

/// Where a frame of the switch's own goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// To a local port.
    Port(PortId),
    /// To a peer.
    Tunnel(Tunnel),
}

struct Slot {
    out: Out,
    len: usize,
    bytes: [u8; MAX_FRAME],
}

/// A small queue of frames the switch made.
pub struct Outbox {
    slots: Box<[Slot]>,
    used: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        let slot = || Slot {
            out: Out::Port(PortId(0)),
            len: 0,
            bytes: [0; MAX_FRAME],
        };
        Outbox {
            slots: (0..SLOTS).map(|_| slot()).collect(),
            used: 0,
        }
    }
}

impl Outbox {
    /// Nothing to send?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Has `build` write a frame and return its length; `false` when there is no room or `build`
    /// gave up.
    pub fn put(
        &mut self,
        out: Out,
        build: impl FnOnce(&mut [u8; MAX_FRAME]) -> Option<usize>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(self.used) else {
            return false;
        };
        let Some(len) = build(&mut slot.bytes) else {
            return false;
        };
        slot.out = out;
        slot.len = len.min(MAX_FRAME);
        self.used += 1;
        true
    }

    /// The frames, in the order they were made.
    pub fn frames(&self) -> impl Iterator<Item = (Out, &[u8])> {
        self.slots[..self.used]
            .iter()
            .map(|s| (s.out, &s.bytes[..s.len]))
    }

    /// Forgets the frames.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}
