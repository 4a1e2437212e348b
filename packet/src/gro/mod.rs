//! Coalescing of a receive batch (GRO): runs of TCP segments or UDP datagrams of one flow become
//! superframes. Frames are named by the caller's id; only headers are looked at and rewritten.
//!
//! ```text
//!   offer(0) First    ┐ group 0: open in the flow table
//!   offer(1) Joined 0 │
//!   offer(2) Alone      another protocol: no business of group 0
//!   offer(3) Joined 0 ┘ shorter than the others, or PSH: closes the group
//!   offer(4) First      same flow: a new group
//! ```
//!
//! What joins is what segmentation restores ([`crate::gso`]): the two are each other's inverse, byte
//! for byte. A frame that cannot join its flow's open group closes it, so nothing of a flow is ever
//! overtaken; so does an IP fragment, for all flows between its addresses. The rules are those of
//! Linux (`tcp_gro_receive`, `udp_gro_receive`, `inet_gro_receive`, `ipv6_gro_receive`), and stricter
//! in that of TCP's flags only ACK and PSH are allowed; see `candidate` for the list.
//!
//! Segmentation numbers IPv4 ids upward. Senders that leave the id of packets with DF as it is (often
//! 0) are coalesced all the same: such an id means nothing (RFC 6864 section 4.1).
//!
//! The flow table has 16 places, found by hash; full, it closes the group opened first. Two flows of
//! equal hash hinder each other, never more. After [`Coalescer::new`] nothing is allocated.

mod candidate;

use candidate::Candidate;

use crate::bytes::{be32, be128, put16};
use crate::checksum;
use crate::flow::flow_hash;
use crate::offload::{Checksum, Gso, Offload};
use crate::parse::Parsed;
use crate::proto;

/// Most frames of a group: what the kernel accepts of UDP (`UDP_MAX_SEGMENTS` before Linux 6.10), and
/// with MTUs above 1,064 more than 64 KB hold.
pub const MAX_SEGMENTS: u16 = 64;
/// Longest IP packet of a group, headers included.
pub const MAX_IP_LEN: usize = 65_535;
/// Ids below this can be grouped.
pub const MAX_IDS: u32 = 4096;
/// Groups open at a time.
pub const FLOWS: usize = 16;
/// Longest headers: Ethernet, IPv6, TCP with all options, and some more.
const MAX_HEADER: usize = 128;

/// What became of a frame.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Offer {
    /// To be delivered by itself, in its place.
    Alone,
    /// Opens a group, which others may join: deliver the group in this frame's place.
    First,
    /// Its payload belongs behind what the group has so far.
    Joined {
        /// Id of the frame that opened the group.
        leader: u32,
    },
}

/// A group.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Frames.
    pub count: u16,
    /// L4 payload of all of them, bytes.
    pub payload_len: u32,
    /// L4 payload of each but the last, which may have less.
    pub gso_size: u16,
}

/// Coalesces the frames of one batch.
pub struct Coalescer {
    hashes: [u32; FLOWS],
    /// Bit per place in use.
    live: u32,
    flows: [Flow; FLOWS],
    /// Groups opened in this batch.
    opened: u32,
    /// By leader's id.
    groups: Vec<Stored>,
    batch: u32,
}

/// An open group, as far as joining needs it.
#[derive(Copy, Clone)]
struct Flow {
    leader: u32,
    opened: u32,
    next_seq: u32,
    id: u16,
    ids: Ids,
    shape: Shape,
    /// The leader's, Ethernet to L4.
    header: [u8; MAX_HEADER],
}

/// How IPv4 ids go on in a group.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Ids {
    /// One frame so far.
    Open,
    Same,
    Increasing,
}

/// Where headers are, and which.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
struct Shape {
    l3: u16,
    l4: u16,
    header_len: u16,
    v4: bool,
    tcp: bool,
}

#[derive(Copy, Clone, Default)]
struct Stored {
    /// Valid if equal to the coalescer's.
    batch: u32,
    payload_len: u32,
    count: u16,
    gso_size: u16,
    shape: Shape,
    push: bool,
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new()
    }
}

impl Coalescer {
    /// An empty one; about 100 KB.
    pub fn new() -> Self {
        let flow = Flow {
            leader: 0,
            opened: 0,
            next_seq: 0,
            id: 0,
            ids: Ids::Open,
            shape: Shape::default(),
            header: [0; MAX_HEADER],
        };
        Coalescer {
            hashes: [0; FLOWS],
            live: 0,
            flows: [flow; FLOWS],
            opened: 0,
            groups: vec![Stored::default(); MAX_IDS as usize],
            batch: 1,
        }
    }

    /// Starts a new batch; groups of the last one are gone.
    pub fn begin(&mut self) {
        self.live = 0;
        self.opened = 0;
        self.batch = self.batch.wrapping_add(1);
        if self.batch == 0 {
            self.groups.fill(Stored::default());
            self.batch = 1;
        }
    }

    /// Offers a frame, in order of arrival. `id`: the caller's name for it, used once per batch; from
    /// [`MAX_IDS`] on, frames stay alone. `head`: linear bytes from Ethernet (or, bare, from IP) to at
    /// least the end of the L4 header; `p`: their parse; `len`: the whole frame; `payload`: of L4,
    /// without padding; `verified`: its L4 checksum is known to be right.
    ///
    /// UDP is for callers who can deliver UDP superframes.
    // Left to the compiler it is a call or not, by what else is in the crate: 38 instructions a packet.
    #[inline(always)]
    pub fn offer(
        &mut self,
        id: u32,
        head: &[u8],
        p: &Parsed,
        len: usize,
        payload: &[u8],
        verified: bool,
    ) -> Offer {
        if p.is_fragment() {
            self.close_between(head, p);
            return Offer::Alone;
        }
        if p.proto != proto::TCP && p.proto != proto::UDP {
            return Offer::Alone;
        }
        let hash = flow_hash(p);
        let place = self.find(hash);
        let candidate = if id < MAX_IDS {
            Candidate::of(head, p, len, payload)
        } else {
            None
        };
        let Some(c) = candidate else {
            self.close(place);
            return Offer::Alone;
        };
        if let Some(place) = place {
            if self.fits(place, &c) {
                if !verified && !c.checksum_is_right(payload) {
                    self.close(Some(place));
                    return Offer::Alone;
                }
                return self.join(place, &c);
            }
            self.close(Some(place));
        }
        // PSH ends a group, so one that begins with it would be a group of one.
        if c.push || c.too_small() || !verified && !c.checksum_is_right(payload) {
            return Offer::Alone;
        }
        self.open(id, hash, &c);
        Offer::First
    }

    /// The group opened by `leader` in this batch, as it is by now.
    pub fn group(&self, leader: u32) -> Option<Group> {
        let g = self.stored(leader)?;
        Some(Group {
            count: g.count,
            payload_len: g.payload_len,
            gso_size: g.gso_size,
        })
    }

    /// Makes `head`, the leader's own bytes, the headers of the whole group: lengths, IPv4 checksum,
    /// PSH, and in place of the L4 checksum the pseudo-header's sum. Returns the superframe's offload
    /// metadata. A group of one is left as it is; its checksum has been verified. Of an id that opened
    /// no group nothing is known.
    pub fn finish(&self, leader: u32, head: &mut [u8]) -> Offload {
        let Some(g) = self.stored(leader) else {
            return Offload::default();
        };
        let verified = Offload {
            checksum: Checksum::Verified,
            ..Offload::default()
        };
        let (l3, l4) = (usize::from(g.shape.l3), usize::from(g.shape.l4));
        let Some(head) = head.get_mut(..usize::from(g.shape.header_len)) else {
            return verified;
        };
        if g.count < 2 {
            return verified;
        }
        let l4_len = head.len() - l4 + g.payload_len as usize;
        let (ip, transport) = head[l3..].split_at_mut(l4 - l3);
        // Both lengths are at most 65,535: `fits` sees to it.
        let pseudo = if g.shape.v4 {
            put16(ip, 2, (ip.len() + l4_len) as u16);
            put16(ip, 10, 0);
            let sum = checksum::finish(checksum::sum(ip));
            put16(ip, 10, sum);
            checksum::pseudo_v4(be32(ip, 12), be32(ip, 16), g.proto(), l4_len)
        } else {
            put16(ip, 4, l4_len as u16);
            checksum::pseudo_v6(be128(ip, 8), be128(ip, 24), g.proto(), l4_len)
        };
        let (gso, offset) = match (g.shape.tcp, g.shape.v4) {
            (true, true) => (Gso::Tcp4, 16),
            (true, false) => (Gso::Tcp6, 16),
            (false, _) => (Gso::Udp, 6),
        };
        if !g.shape.tcp {
            put16(transport, 4, l4_len as u16);
        } else if g.push {
            transport[13] |= candidate::PSH;
        }
        put16(transport, usize::from(offset), checksum::fold(pseudo));
        let checksum = Checksum::Partial {
            start: g.shape.l4,
            offset,
        };
        Offload {
            checksum,
            gso,
            gso_size: g.gso_size,
            ecn: false,
        }
    }

    fn stored(&self, leader: u32) -> Option<&Stored> {
        self.groups
            .get(leader as usize)
            .filter(|g| g.batch == self.batch)
    }

    #[inline]
    fn find(&self, hash: u32) -> Option<usize> {
        let mut equal = 0;
        for (i, h) in self.hashes.iter().enumerate() {
            equal |= u32::from(*h == hash) << i;
        }
        equal &= self.live;
        (equal != 0).then(|| equal.trailing_zeros() as usize)
    }

    #[inline]
    fn close(&mut self, place: Option<usize>) {
        if let Some(place) = place {
            self.live &= !(1 << place);
        }
    }

    /// An IP fragment shows no ports, or not all of its packet does.
    #[cold]
    fn close_between(&mut self, head: &[u8], p: &Parsed) {
        let Some(addresses) = candidate::addresses(head, p) else {
            return;
        };
        for place in 0..FLOWS {
            if self.flows[place].addresses() == addresses {
                self.close(Some(place));
            }
        }
    }

    /// Whether a frame may join the group at `place`, its checksum aside.
    #[inline]
    fn fits(&self, place: usize, c: &Candidate<'_>) -> bool {
        let flow = &self.flows[place];
        let group = &self.groups[flow.leader as usize];
        let ip_len =
            c.header.len() - usize::from(c.shape.l3) + group.payload_len as usize + c.payload_len;
        flow.shape == c.shape
            && c.payload_len <= usize::from(group.gso_size)
            && ip_len <= MAX_IP_LEN
            && group.count < MAX_SEGMENTS
            && (!c.shape.tcp || c.seq == flow.next_seq)
            && (!c.shape.v4 || flow.ids_after(c, group.count).is_some())
            && candidate::same_headers(&c.shape, &flow.header, c.header)
    }

    #[inline]
    fn join(&mut self, place: usize, c: &Candidate<'_>) -> Offer {
        let flow = &mut self.flows[place];
        let group = &mut self.groups[flow.leader as usize];
        if c.shape.v4 && flow.ids == Ids::Open {
            flow.ids = flow.ids_after(c, group.count).unwrap_or(Ids::Open);
        }
        flow.next_seq = c.seq.wrapping_add(c.payload_len as u32);
        group.count += 1;
        group.payload_len += c.payload_len as u32;
        group.push = c.push;
        if c.push || c.payload_len < usize::from(group.gso_size) {
            self.live &= !(1 << place);
        }
        Offer::Joined {
            leader: flow.leader,
        }
    }

    #[inline]
    fn open(&mut self, id: u32, hash: u32, c: &Candidate<'_>) {
        let free = self.live.trailing_ones() as usize;
        let place = if free < FLOWS { free } else { self.oldest() };
        let flow = &mut self.flows[place];
        flow.leader = id;
        flow.opened = self.opened;
        flow.next_seq = c.seq.wrapping_add(c.payload_len as u32);
        flow.id = c.id;
        flow.ids = Ids::Open;
        flow.shape = c.shape;
        flow.header[..c.header.len()].copy_from_slice(c.header);
        self.hashes[place] = hash;
        self.live |= 1 << place;
        self.opened = self.opened.wrapping_add(1);
        self.groups[id as usize] = Stored {
            batch: self.batch,
            payload_len: c.payload_len as u32,
            count: 1,
            // A candidate is an IP packet of at most MAX_IP_LEN.
            gso_size: c.payload_len as u16,
            shape: c.shape,
            push: false,
        };
    }

    fn oldest(&self) -> usize {
        (0..FLOWS)
            .min_by_key(|place| self.flows[*place].opened)
            .unwrap_or(0)
    }
}

impl Flow {
    /// How the ids of a group go on if `c` joins its `count` frames; `None` if they do not.
    #[inline]
    fn ids_after(&self, c: &Candidate<'_>, count: u16) -> Option<Ids> {
        let increasing = c.id == self.id.wrapping_add(count);
        match self.ids {
            Ids::Open | Ids::Increasing if increasing => Some(Ids::Increasing),
            Ids::Open | Ids::Same if c.dont_fragment && c.id == self.id => Some(Ids::Same),
            _ => None,
        }
    }

    fn addresses(&self) -> &[u8] {
        candidate::address_bytes(&self.header[usize::from(self.shape.l3)..], self.shape.v4)
    }
}

impl Stored {
    fn proto(&self) -> u8 {
        if self.shape.tcp {
            proto::TCP
        } else {
            proto::UDP
        }
    }
}
