//! The last frames of each reason that were dropped: their first bytes, and where they came in.
//!
//! ```text
//!   verdict: drop ▶ a millisecond since the last of this reason? ▶ place free? ▶ kept, the oldest goes
//! ```
//!
//! Each worker keeps its own. A flood costs a comparison a frame, since of each reason one a millisecond is kept.
//! Each reason has a place of its own behind a lock that the worker tries and never waits for: while somebody
//! reads the place, a frame is not kept, and the next one is. A drop is decided before anything is rewritten, so
//! the bytes are those that came; only a priority tag may be off already, or a congestion mark on.
//!
//! What is lost after its verdict, or before it was read, has no frame here: it is counted only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ringway_ports::{Frame, Pool, Slice};
use ringway_switch::{Contents, DropReason};

use crate::observe::Entry;

/// Frames of each reason.
pub const KEPT: usize = 4;
/// Bytes of each frame: outer headers, inner headers, and what tells one application from another.
pub const HEAD: usize = 128;
/// Between two of a reason, in nanoseconds.
const PERIOD: u64 = 1_000_000;

/// A frame that was dropped.
#[derive(Clone, Debug)]
pub struct DroppedFrame {
    /// When, in nanoseconds since [`epoch`](crate::epoch).
    pub time: u64,
    /// Where it came in.
    pub entry: Entry,
    /// What that was called at the time.
    pub name: Option<Arc<str>>,
    /// What its bytes are.
    pub contents: Contents,
    /// How long it was.
    pub len: u32,
    /// Packets on the wire that it stands for.
    pub packets: u16,
    head: [u8; HEAD],
    head_len: u8,
}

impl DroppedFrame {
    /// Its first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }
}

/// The last frames that a worker has dropped, for anybody to read.
#[derive(Debug)]
pub struct LastDropped(Vec<Mutex<VecDeque<DroppedFrame>>>);

impl Default for LastDropped {
    fn default() -> Self {
        let place = || Mutex::new(VecDeque::with_capacity(KEPT));
        LastDropped((0..DropReason::COUNT).map(|_| place()).collect())
    }
}

impl LastDropped {
    /// Those of a reason, the latest last.
    pub fn of(&self, reason: DropReason) -> Vec<DroppedFrame> {
        let place = self.0[reason.index()].lock();
        let place = place.unwrap_or_else(PoisonError::into_inner);
        place.iter().cloned().collect()
    }

    /// When the last of a reason was kept.
    pub fn last(&self, reason: DropReason) -> Option<u64> {
        let place = self.0[reason.index()].lock();
        let place = place.unwrap_or_else(PoisonError::into_inner);
        place.back().map(|frame| frame.time)
    }
}

/// Where a dropped frame came in and lies.
pub(crate) struct Dropped<'a> {
    pub(crate) entry: Entry,
    pub(crate) name: Option<&'a Arc<str>>,
    pub(crate) contents: Contents,
    pub(crate) frame: &'a Frame,
    pub(crate) pool: &'a Pool,
    pub(crate) tail: &'a [Slice],
}

/// A worker's side.
pub(crate) struct DropKeeper {
    /// From when on one of each reason is kept.
    due: [u64; DropReason::COUNT],
    kept: Arc<LastDropped>,
}

impl DropKeeper {
    pub(crate) fn new() -> DropKeeper {
        DropKeeper {
            due: [0; DropReason::COUNT],
            kept: Arc::default(),
        }
    }

    /// What it keeps.
    pub(crate) fn kept(&self) -> &Arc<LastDropped> {
        &self.kept
    }

    /// Whether a frame dropped for this reason is to be kept.
    pub(crate) fn is_due(&self, reason: DropReason, now: u64) -> bool {
        now >= self.due[reason.index()]
    }

    /// Keeps one, unless somebody reads those of this reason at this moment.
    pub(crate) fn keep(&mut self, reason: DropReason, now: u64, dropped: &Dropped<'_>) {
        let Ok(mut place) = self.kept.0[reason.index()].try_lock() else {
            return;
        };
        self.due[reason.index()] = now + PERIOD;
        let Dropped { frame, pool, .. } = *dropped;
        let mut kept = DroppedFrame {
            time: now,
            entry: dropped.entry,
            name: dropped.name.cloned(),
            contents: dropped.contents,
            len: frame.len,
            packets: frame.packets,
            head: [0; HEAD],
            head_len: 0,
        };
        let mut len = 0;
        for piece in pool.pieces(frame, dropped.tail).flatten() {
            let take = piece.len().min(HEAD - len);
            kept.head[len..len + take].copy_from_slice(&piece[..take]);
            len += take;
        }
        kept.head_len = len as u8;
        if place.len() == KEPT {
            place.pop_front();
        }
        place.push_back(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_ports::HEADROOM;
    use ringway_tables::PortId;

    const REASON: DropReason = DropReason::SpoofedMac;

    struct Case {
        pool: Pool,
        frame: Frame,
    }

    /// A frame of bytes that count up.
    fn frame(len: usize) -> Case {
        let mut pool = Pool::heap(1, 4096);
        let buf = pool.alloc().unwrap();
        let bytes = &mut pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + len];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = i as u8;
        }
        let frame = Frame {
            port: 2,
            ..Frame::whole(buf.id(), len as u32)
        };
        Case { pool, frame }
    }

    fn keep(keeper: &mut DropKeeper, case: &Case, now: u64, tail: &[Slice]) {
        let dropped = Dropped {
            entry: Entry::Port(PortId(2)),
            name: Some(&"web".into()),
            contents: Contents::Frame,
            frame: &case.frame,
            pool: &case.pool,
            tail,
        };
        if keeper.is_due(REASON, now) {
            keeper.keep(REASON, now, &dropped);
        }
    }

    fn times(keeper: &DropKeeper) -> Vec<u64> {
        let kept = keeper.kept().of(REASON);
        kept.iter().map(|frame| frame.time).collect()
    }

    #[test]
    fn the_last_are_kept_one_a_millisecond() {
        let (mut keeper, case) = (DropKeeper::new(), frame(60));
        assert_eq!(keeper.kept().last(REASON), None);
        // A flood: one each microsecond, for ten milliseconds.
        for now in 0..10_000 {
            keep(&mut keeper, &case, now * 1000, &[]);
        }
        assert_eq!(times(&keeper), [6, 7, 8, 9].map(|ms| ms * PERIOD));
        assert_eq!(keeper.kept().last(REASON), Some(9 * PERIOD));
        assert_eq!(keeper.kept().of(DropReason::NoRoute).len(), 0);
        let kept = &keeper.kept().of(REASON)[0];
        assert_eq!(kept.head(), (0..60).collect::<Vec<u8>>());
        assert_eq!(kept.name.as_deref(), Some("web"));
        assert_eq!((kept.len, kept.packets), (60, 1));
    }

    #[test]
    fn a_frame_in_pieces_is_kept_up_to_its_first_bytes() {
        let mut case = frame(1000);
        case.frame.linear = 50;
        let slice = |off: usize, len| Slice {
            buf: case.frame.buf,
            off: (HEADROOM + off) as u32,
            len,
        };
        let (mut keeper, tail) = (DropKeeper::new(), [slice(200, 70), slice(0, 500)]);
        keep(&mut keeper, &case, 0, &tail);
        let kept = &keeper.kept().of(REASON)[0];
        let wanted: Vec<u8> = (0..50).chain(200..=255).chain(0..14).chain(0..8).collect();
        assert_eq!(kept.head(), wanted);
        assert_eq!((kept.head().len(), kept.len), (HEAD, 1000));
    }

    #[test]
    fn while_somebody_reads_a_frame_is_not_kept_and_nothing_waits() {
        let (mut keeper, case) = (DropKeeper::new(), frame(60));
        let kept = keeper.kept().clone();
        let reading = kept.0[REASON.index()].lock().unwrap();
        // It would wait for ever.
        keep(&mut keeper, &case, 5, &[]);
        drop(reading);
        assert_eq!(times(&keeper), []);
        // The next one, however soon.
        keep(&mut keeper, &case, 6, &[]);
        assert_eq!(times(&keeper), [6]);
    }
}
