//! Towards a peer: how a frame is cut is planned once, whatever carries it.
//!
//! | frame | fits the path | above its MTU (IPv4 without DF) |
//! |---|---|---|
//! | one packet | whole, as it lies | fragments |
//! | superframe | segments | each segment in fragments |
//!
//! A [`Carrier`], a datagram [socket](socket) or a [ring], then takes the whole frame, or part by part new
//! headers and where the payload lies. What was not sent comes back as a [`Loss`].

mod cut;
mod ring;
mod socket;

use ringway_packet::offload::Gso;
use ringway_ports::socket::MAX_DATAGRAMS_PER_MESSAGE;
use ringway_ports::{BufId, Frame, Pool};
use ringway_switch::{Counters, DropReason, Tunnel};
use ringway_tables::{Path, Snapshot};

pub(crate) use cut::Cut;
pub(crate) use ring::RingCarrier;
pub(crate) use socket::SocketCarrier;

/// A frame that the pipeline sent to a path.
pub(crate) struct Outgoing<'a> {
    pub(crate) path: &'a Path,
    pub(crate) tunnel: &'a Tunnel,
    pub(crate) frame: &'a Frame,
    /// Above the MTU: cut it by IPv4.
    pub(crate) fragment: bool,
}

impl<'a> Outgoing<'a> {
    /// A frame for the path that the tunnel names, if that is still there.
    #[inline]
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        tunnel: &'a Tunnel,
        frame: &'a Frame,
        fragment: bool,
    ) -> Result<Outgoing<'a>, Loss> {
        let path = snapshot.path(tunnel.path);
        Ok(Outgoing {
            path: path.ok_or_else(|| Loss::of(frame, DropReason::NoPath))?,
            tunnel,
            frame,
            fragment,
        })
    }

    /// A superframe each of whose segments has to be fragmented.
    pub(crate) fn is_fragmented_superframe(&self) -> bool {
        self.fragment && self.frame.offload.gso != Gso::None
    }
}

/// What became of a frame that was not sent whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Loss {
    pub(crate) reason: DropReason,
    /// Packets of it that were not sent.
    pub(crate) packets: u32,
}

impl Loss {
    /// All of a frame.
    pub(crate) fn of(frame: &Frame, reason: DropReason) -> Loss {
        let packets = u32::from(frame.packets);
        Loss { reason, packets }
    }
}

/// What takes packets to a peer.
pub(crate) trait Carrier {
    /// The buffers that frames lie in, and where copied bytes are counted.
    fn memory(&mut self) -> (&mut Pool, &Counters);

    /// Sends the frame as it lies.
    fn whole(&mut self, out: &Outgoing<'_>) -> Result<(), DropReason>;

    /// Makes room for so many parts, and so many bytes of their headers, if there is none.
    fn reserve(&mut self, out: &Outgoing<'_>, parts: usize, header_bytes: usize);

    /// Sends part `i` of a frame, which lies in one buffer.
    fn part(
        &mut self,
        out: &Outgoing<'_>,
        frame: &Frame,
        cut: &Cut,
        i: usize,
    ) -> Result<(), DropReason>;

    /// From here on, buffers of the parts given so far may change.
    fn settle(&mut self);
}

/// Sends a frame by `carrier`.
#[inline]
pub(crate) fn send<C: Carrier>(carrier: &mut C, out: &Outgoing<'_>) -> Result<(), Loss> {
    let frame = out.frame;
    if frame.tail.count > 0 {
        // Only what a peer sent has a tail, and what a peer sent is never tunnelled on.
        return Err(Loss::of(frame, DropReason::Unsegmentable));
    }
    if frame.offload.gso == Gso::None && !out.fragment {
        let sent = carrier.whole(out);
        return sent.map_err(|reason| Loss::of(frame, reason));
    }
    match out.frame.offload.gso {
        Gso::None => fragments(carrier, out, frame).map_err(|reason| Loss::of(frame, reason)),
        _ if out.fragment => fragmented_segments(carrier, out),
        _ => segments(carrier, out),
    }
}

fn segments<C: Carrier>(carrier: &mut C, out: &Outgoing<'_>) -> Result<(), Loss> {
    let frame = out.frame;
    let cut = Cut::segments(head(carrier, frame), frame);
    let cut = cut.map_err(|reason| Loss::of(frame, reason))?;
    parts(carrier, out, frame, &cut).map_err(|(sent, reason)| Loss {
        reason,
        packets: (cut.count() - sent) as u32,
    })
}

fn fragments<C: Carrier>(
    carrier: &mut C,
    out: &Outgoing<'_>,
    frame: &Frame,
) -> Result<(), DropReason> {
    let cut = Cut::fragments(head(carrier, frame), usize::from(out.path.mtu))?;
    parts(carrier, out, frame, &cut).map_err(|(_, reason)| reason)
}

/// Segments that are themselves above the MTU: each is put together in a buffer of its own and fragmented
/// from there.
#[cold]
fn fragmented_segments<C: Carrier>(carrier: &mut C, out: &Outgoing<'_>) -> Result<(), Loss> {
    let frame = out.frame;
    let all = |reason| Loss::of(frame, reason);
    let cut = Cut::segments(head(carrier, frame), frame).map_err(all)?;
    let scratch = carrier.memory().0.alloc();
    let scratch = scratch.ok_or(all(DropReason::NoBuffer))?;
    let mut outcome = Ok(());
    for i in 0..cut.count() {
        let sent = put_together(carrier, frame, &cut, i, scratch.id())
            .and_then(|segment| fragments(carrier, out, &segment));
        // The buffer is used again for the next segment.
        carrier.settle();
        if let Err(reason) = sent {
            let packets = (cut.count() - i) as u32;
            outcome = Err(Loss { reason, packets });
            break;
        }
    }
    carrier.memory().0.free(scratch);
    outcome
}

/// Segment `i` as a packet of its own in `scratch`.
fn put_together<C: Carrier>(
    carrier: &mut C,
    frame: &Frame,
    cut: &Cut,
    i: usize,
    scratch: BufId,
) -> Result<Frame, DropReason> {
    let (pool, counters) = carrier.memory();
    let (payload, headers) = (cut.payload(i), cut.header_len(i));
    let (start, len) = (frame.start as usize, payload.len());
    let body = start + headers;
    if !pool.copy(frame.buf, start + payload.start, scratch, body, len) {
        return Err(DropReason::Unsegmentable);
    }
    counters.copied_bytes.add(len as u64);
    let bytes = &mut pool.bytes_mut(scratch)[start..body + len];
    let (header, payload) = bytes.split_at_mut(headers);
    cut.write_header(i, payload, header);
    let len = (headers + len) as u32;
    Ok(Frame {
        buf: scratch,
        linear: len,
        len,
        ..*frame
    })
}

/// Sends all parts; if not, how many were sent, and why no more.
fn parts<C: Carrier>(
    carrier: &mut C,
    out: &Outgoing<'_>,
    frame: &Frame,
    cut: &Cut,
) -> Result<(), (usize, DropReason)> {
    let count = cut.count();
    // As many at a time as make one message; a superframe of tiny segments has more.
    for first in (0..count).step_by(MAX_DATAGRAMS_PER_MESSAGE) {
        let end = count.min(first + MAX_DATAGRAMS_PER_MESSAGE);
        // The first header is the longest.
        carrier.reserve(out, end - first, (end - first) * cut.header_len(0));
        for i in first..end {
            let sent = carrier.part(out, frame, cut, i);
            sent.map_err(|reason| (i, reason))?;
        }
    }
    Ok(())
}

fn head<'a, C: Carrier>(carrier: &'a mut C, frame: &Frame) -> &'a [u8] {
    let (pool, _) = carrier.memory();
    pool.slice(frame.buf, frame.start, frame.linear)
        .unwrap_or(&[])
}

#[cfg(test)]
mod tests;
