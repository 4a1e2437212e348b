//! The worker's part of a capture: what is to be seen goes into a ring of bytes, which somebody else reads.
//!
//! ```text
//!   frame ▶ selected? ▶ filter ▶ record: header, snapped bytes ▶ ring ▶ reader (another thread)
//! ```
//!
//! A frame is seen where it comes in, as it came, and where it goes out, as it goes: whoever captures at two ports
//! has it twice. What comes in is seen at its verdict, so that the record says what became of it; the first bytes
//! were put aside before anything was rewritten. A loss after the verdict (a full queue) is not seen here.
//!
//! The ring is bounded. Where it is full the record is lost, never a packet: the loss is counted, and the next
//! record says how many were lost before it. Nothing is allocated, nothing waits.

mod record;
mod selection;
mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use ringway_encap::outer::Fields;
use ringway_packet::bpf::{Bytes as _, Program};
use ringway_packet::checksum;
use ringway_packet::offload::Checksum;
use ringway_ports::Frame;
use ringway_switch::{Contents, Verdict};
use ringway_tables::PeerId;
use rtrb::{Consumer, Producer, RingBuffer};

use super::saved::Saved;
use super::{Observed, Observer, Outer};
pub use record::{End, Kind, Place, Record, RecordReader, Way};
pub use selection::Selection;
pub(super) use view::View;

/// First bytes of a frame that are put aside when it comes in: more than is ever rewritten (Ethernet, two tags, IPv4
/// without options; of IPv6 the hop limit).
const HEAD: usize = 64;
/// Room for outer headers, see [`ringway_encap::outer::OuterHeader::push`].
const OUTER_ROOM: usize = 96;

/// What a capture wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where.
    pub selection: Arc<Selection>,
    /// Which; none: all.
    pub filter: Option<Arc<Program>>,
    /// Bytes of each, at most.
    pub snap_len: u32,
}

/// How a capture stands on one worker; only that worker writes it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records that were wanted.
    pub matched: AtomicU64,
    /// Those for which there was no room.
    pub lost: AtomicU64,
}

/// The observer of one worker for one capture.
pub struct Capture {
    wanted: Wanted,
    ring: Producer<u8>,
    tally: Arc<Tally>,
    /// Lost since the last record that was not.
    lost: u32,
    saved: Saved<HEAD>,
}

impl Capture {
    /// One with a ring of so many bytes, and the end to read it by.
    pub fn new(wanted: Wanted, ring_bytes: usize, tally: Arc<Tally>) -> (Capture, RecordReader) {
        let (ring, reader): (Producer<u8>, Consumer<u8>) = RingBuffer::new(ring_bytes);
        let capture = Capture {
            wanted,
            ring,
            tally,
            lost: 0,
            saved: Saved::default(),
        };
        (capture, RecordReader::new(reader))
    }

    /// Enters a record if the filter wants it.
    fn enter(&mut self, mut record: Record, view: &View<'_>) {
        let wanted = match &self.wanted.filter {
            Some(filter) => filter.run(view).min(self.wanted.snap_len),
            None => self.wanted.snap_len,
        };
        if wanted == 0 {
            return;
        }
        let len = view.len();
        let captured = len.min(wanted as usize);
        record.original_len = len as u32;
        record.lost = self.lost;
        record.time = unix_now();
        self.tally
            .matched
            .store(self.tally.matched.load(Relaxed) + 1, Relaxed);
        match record::write(&mut self.ring, &record, view, captured) {
            true => self.lost = 0,
            false => {
                self.lost = self.lost.saturating_add(1);
                let lost = &self.tally.lost;
                lost.store(lost.load(Relaxed) + 1, Relaxed);
            }
        }
    }
}

impl Observer for Capture {
    fn arrived(&mut self, head: &[u8], len: usize) {
        self.saved.keep(head, len);
    }

    fn verdict(&mut self, seen: &Observed<'_>) {
        let selection = &*self.wanted.selection;
        let dropped = matches!(seen.verdict, Verdict::Drop(_));
        let end = End::of(seen);
        let [comes, goes] = selection.ends(seen);
        let comes = comes.filter(|(_, selected)| selection.wants(*selected, dropped));
        let goes = goes.filter(|(_, selected)| *selected && !selection.only_dropped);
        if let Some((place, _)) = comes {
            let record = record_of(seen, place, Way::In, end);
            let saved = self.saved;
            self.enter(record, &View::arrived(seen, saved.both()));
        }
        if let Some((place, _)) = goes {
            let record = record_of(seen, place, Way::Out, end);
            self.enter(record, &View::leaving(seen));
        }
    }

    fn outer(&mut self, outer: &Outer<'_>) {
        let peer = outer.path.peer;
        let selection = &self.wanted.selection;
        if !selection.outer || selection.only_dropped || !selection.has_peer(peer) {
            return;
        }
        let record = Record {
            place: Place::Outer,
            end: End::Sent(peer),
            kind: match outer.whole {
                true => Kind::Frame,
                false => Kind::Datagram,
            },
            ..Record::default()
        };
        if outer.whole {
            return self.enter(record, &View::of(&[], outer.pieces));
        }
        let mut room = [0; OUTER_ROOM];
        match outer_headers(outer, &mut room) {
            Some(headers) => self.enter(record, &View::of(headers, outer.pieces)),
            // Cannot be: it was cut to what the path takes.
            None => self.enter(record, &View::of(&[], outer.pieces)),
        }
    }
}

/// Outer Ethernet, IP and UDP headers of a datagram's payload, as the kernel makes them.
fn outer_headers<'a>(outer: &Outer<'_>, room: &'a mut [u8; OUTER_ROOM]) -> Option<&'a [u8]> {
    let path = outer.path;
    let tunnel = path.encap.header_len();
    let len: usize = outer.pieces.iter().map(|piece| piece.len()).sum();
    let sum = path.outer.needs_sum().then(|| {
        let mut carried = Vec::with_capacity(len);
        outer
            .pieces
            .iter()
            .for_each(|piece| carried.extend_from_slice(piece));
        checksum::sum(carried.get(tunnel..).unwrap_or(&[]))
    });
    let fields = Fields {
        src_port: outer.src_port,
        tos: outer.tunnel.tos,
        id: 0,
    };
    let carried = len.checked_sub(tunnel)?;
    let pushed = path.outer.push(room, OUTER_ROOM, carried, fields, sum);
    // The tunnel's own header is in the pieces.
    room.get(pushed.ok()?..OUTER_ROOM - tunnel)
}

fn record_of(seen: &Observed<'_>, place: Place, way: Way, end: End) -> Record {
    let Frame {
        packets, offload, ..
    } = *seen.frame;
    Record {
        place,
        way,
        from: Some(seen.entry),
        end,
        kind: match seen.contents {
            Contents::Frame => Kind::Frame,
            Contents::Packet => Kind::Packet,
            Contents::Datagram => Kind::Unopened,
        },
        packets,
        segment: offload.gso_size,
        unfinished: matches!(offload.checksum, Checksum::Partial { .. }),
        ..Record::default()
    }
}

/// Nanoseconds since 1970: what a record's time is.
pub fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos() as u64)
}

impl End {
    fn of(seen: &Observed<'_>) -> End {
        match seen.verdict {
            Verdict::Deliver(port) => End::Delivered(port),
            Verdict::Tunnel(_) => End::Sent(seen.to.unwrap_or(PeerId(u32::MAX))),
            Verdict::Fragment(_) => End::Fragmented(seen.to.unwrap_or(PeerId(u32::MAX))),
            Verdict::Answered => End::Answered,
            Verdict::Ignore(reason) => End::Ignored(reason),
            Verdict::Drop(reason) => End::Dropped(reason),
        }
    }
}
