//! Inner packets that arrive as superframes: of the kernel's VXLAN device over a link that passes
//! superpackets whole.
//!
//! | inner | arrives as | goes on as |
//! |---|---|---|
//! | UDP | one message with `UDP_GRO`, the size of the inner segments | a superframe of that size; cut here where a TAP takes none |
//! | TCP | one message without a size | above the destination's MTU: a superframe of what fits it; the sender's size is not known |

use ringway_packet::gso::Segmenter;
use ringway_packet::offload::{Checksum, Gso, Offload};
use ringway_packet::parse::{L3, Parsed};
use ringway_packet::superframe::describe;
use ringway_packet::{checksum, gso};
use ringway_ports::{Batch, Frame, Pool, Slice};
use ringway_switch::DropReason;
use ringway_tables::{PortId, Snapshot, Target};

use super::{Inner, MAX_INNER, NONE, Opener, PROTO_TCP, PROTO_UDP};

/// Most superframes of one receive that are to be cut: one of each message.
pub(super) const MAX_CUT: usize = 64;

/// L4 payload of each segment of a frame that may be a superframe, `None` if it is an ordinary one.
/// `segment`: what the socket said of a message that is one datagram.
///
/// # Errors
/// Its message has more bytes than it.
#[cold]
pub(super) fn segment_size(
    snapshot: &Snapshot,
    head: &[u8],
    parsed: &Parsed,
    segment: Option<u16>,
) -> Result<Option<u16>, DropReason> {
    if segment.is_some() && parsed.ip_end() != head.len() {
        match parsed.l3 {
            L3::Ipv4 => return Err(DropReason::MalformedIpv4),
            L3::Ipv6 => return Err(DropReason::MalformedIpv6),
            L3::Arp | L3::Other => {}
        }
    }
    let headers = u32::from(parsed.payload_off - parsed.l3_off);
    Ok(match (parsed.proto, segment) {
        (PROTO_UDP, Some(size)) if parsed.ip_len > headers + u32::from(size) => Some(size),
        (PROTO_TCP, _) => {
            let mtu = u32::from(mtu_towards(snapshot, parsed));
            let fits = mtu.saturating_sub(headers) as u16;
            (parsed.ip_len > mtu).then_some(fits)
        }
        _ => None,
    })
}

/// Of the port that the packet goes to.
fn mtu_towards(snapshot: &Snapshot, parsed: &Parsed) -> u16 {
    let target = parsed.addresses().and_then(|(_, to)| snapshot.route(to));
    let port = match target {
        Some(Target::Port(port)) => port,
        _ => PortId::NODE,
    };
    let port = snapshot.port(port);
    port.map_or(snapshot.least_mtu(), |port| port.mtu)
}

impl Opener {
    /// Adds a superframe with segments of `size`. `Ok(false)`: it is none, to be taken as it is.
    ///
    /// # Errors
    /// Why it is to be refused.
    #[cold]
    pub(super) fn add_superframe(
        &mut self,
        pool: &mut Pool,
        mut inner: Inner,
        size: u16,
        uso: bool,
    ) -> Result<bool, DropReason> {
        let Inner { frame, parsed, .. } = &mut inner;
        // What lies behind the IP packet would become payload.
        let end = parsed.ip_end();
        (frame.linear, frame.len) = (end as u32, end as u32);
        let start = frame.start as usize;
        let head = &mut pool.bytes_mut(frame.buf)[start..start + end];
        let (offload, segments) = match describe(head, parsed, frame.offload.checksum, size) {
            Ok(described) => described,
            Err(_) if parsed.proto == PROTO_TCP => return Ok(false),
            Err(_) => return Err(DropReason::BadOffload),
        };
        // Under no name it joins no group, but ends that of its flow: nothing overtakes it.
        self.coalescer.offer(NONE, head, parsed, end, &[], true);
        if offload.gso == Gso::Udp && !uso {
            return self.add_segments(inner, segments).map(|()| true);
        }
        frame.offload = offload;
        // At most 1,024.
        frame.packets = segments.count() as u16;
        self.inners.push(inner);
        Ok(true)
    }

    /// Each segment a frame of its own, which lies where its payload is. Its headers are written when it is
    /// [taken](Opener::take).
    fn add_segments(&mut self, whole: Inner, segments: Segmenter) -> Result<(), DropReason> {
        let (at, count) = (self.cut.len(), segments.count());
        if at == MAX_CUT || self.inners.len() + count > MAX_INNER {
            return Err(DropReason::NoBuffer);
        }
        for i in 0..count {
            let payload = segments.payload(i);
            let mut one = whole;
            one.frame.start += payload.start as u32;
            one.frame.len = (segments.header_len() + payload.len()) as u32;
            one.frame.linear = one.frame.len;
            one.frame.offload = Offload {
                checksum: Checksum::Verified,
                ..Offload::default()
            };
            one.parsed.ip_len = one.frame.len - u32::from(one.parsed.l3_off);
            one.cut = (at << 16 | i) as u32;
            self.inners.push(one);
        }
        self.cut.push(segments);
        Ok(())
    }

    /// Writes the headers of a segment: of the first where they are, of others to a place of their own, for
    /// before their payload lies that of another.
    #[cold]
    pub(super) fn write_headers(
        &mut self,
        cut: u32,
        frame: &mut Frame,
        parsed: &Parsed,
        pool: &mut Pool,
        batch: &mut Batch,
    ) {
        let Some(segments) = self.cut.get(cut as usize >> 16) else {
            return;
        };
        let i = (cut & 0xffff) as usize;
        let headers = u32::from(parsed.payload_off);
        let payload = Slice {
            buf: frame.buf,
            off: frame.start + headers,
            len: frame.linear.saturating_sub(headers),
        };
        let bytes = pool.slice(payload.buf, payload.off, payload.len);
        let sum = checksum::sum(bytes.unwrap_or(&[]));
        if i > 0
            && let Some(tail) = batch.push_tail(&[payload])
            && let Some((buf, at)) = self.heads.place(pool, &mut self.received, headers as usize)
        {
            (frame.buf, frame.start) = (buf, at as u32);
            (frame.tail, frame.linear) = (tail, headers);
        }
        let start = frame.start as usize;
        let room = &mut pool.bytes_mut(frame.buf)[start..start + headers as usize];
        segments.write_header(i, sum, room);
    }
}

const _: () = assert!(gso::MAX_UDP_SEGMENTS <= 0xffff && MAX_CUT < 0xffff);
