//! The worker's part of a live trace: the steps of the next frames that match go into a ring, which somebody else
//! reads.
//!
//! ```text
//!   steps of a frame ▶ its verdict: selected? filter? any left? ▶ ring ▶ reader (another thread)
//! ```
//!
//! How many frames are wanted is one number for all workers, so that a trace ends by itself. The ring has room for
//! that many; nothing is allocated and nothing waits. Of frames that coalesced it is the superframe that is seen.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use ringway_packet::bpf::Program;
use ringway_packet::offload::Offload;
use ringway_switch::trace::Step;
use ringway_switch::{Contents, Verdict};
use ringway_tables::PeerId;
use rtrb::{Consumer, Producer, RingBuffer};

use super::capture::{Selection, View};
use super::saved::Saved;
use super::{Entry, Observed, Observer, Outer};

/// Most frames of one live trace.
pub const MOST_FRAMES: u32 = 1000;
/// Most steps of a frame; none has as many.
pub const MOST_STEPS: usize = 20;
/// First bytes that are kept of a frame.
pub const HEAD: usize = 128;

/// What a live trace wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where frames come in or go out.
    pub selection: Arc<Selection>,
    /// Which; none: all.
    pub filter: Option<Arc<Program>>,
    /// How many are left to be seen by any worker.
    pub left: Arc<AtomicU32>,
}

/// A frame that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Where it came in.
    pub entry: Entry,
    /// What became of it.
    pub verdict: Verdict,
    /// Whom it was sent to.
    pub to: Option<PeerId>,
    /// What its bytes are.
    pub contents: Contents,
    /// How long it was as it came in.
    pub len: u32,
    /// Checksum and segmentation that are still to be done.
    pub offload: Offload,
    /// Packets that it stands for.
    pub packets: u16,
    steps: [Option<Step>; MOST_STEPS],
    head: [u8; HEAD],
    head_len: u8,
}

impl Seen {
    /// What the pipeline found out about it.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().flatten()
    }

    /// Its first bytes, as they came in.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }
}

/// What the ring has.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "places of a ring are of one size"
)]
pub enum Item {
    /// A frame.
    Frame(Seen),
    /// The first outer packet that was made of the frame before: its source port.
    Outer(u16),
}

/// The end of the ring that is read.
pub struct StepReader(Consumer<Item>);

impl StepReader {
    /// The next item, if there is one.
    pub fn take(&mut self) -> Option<Item> {
        self.0.pop().ok()
    }

    /// Whether the worker has let go of its end: nothing more will come.
    pub fn is_over(&self) -> bool {
        self.0.is_abandoned() && self.0.is_empty()
    }
}

/// The observer of one worker for one live trace.
pub struct Steps {
    wanted: Wanted,
    ring: Producer<Item>,
    steps: [Option<Step>; MOST_STEPS],
    count: usize,
    saved: Saved<HEAD>,
    /// The frame that had its verdict last was wanted, and nothing of it has been sent yet.
    expecting: bool,
}

impl Steps {
    /// One for at most `frames` frames, and the end to read it by.
    pub fn new(wanted: Wanted, frames: u32) -> (Steps, StepReader) {
        let frames = frames.min(MOST_FRAMES) as usize;
        let (ring, reader) = RingBuffer::new(2 * frames.max(1));
        let steps = Steps {
            wanted,
            ring,
            steps: [None; MOST_STEPS],
            count: 0,
            saved: Saved::default(),
            expecting: false,
        };
        (steps, StepReader(reader))
    }

    fn wants(&self, seen: &Observed<'_>) -> bool {
        let selection = &*self.wanted.selection;
        let dropped = matches!(seen.verdict, Verdict::Drop(_));
        let [Some((_, comes)), goes] = selection.ends(seen) else {
            return false;
        };
        let goes = goes.is_some_and(|(_, selected)| selected);
        let filter = self.wanted.filter.as_deref();
        selection.wants(comes || goes, dropped)
            && filter.is_none_or(|filter| filter.run(&View::arrived(seen, self.saved.both())) > 0)
    }

    /// Whether this frame is one of those that are left.
    fn take_one(&self) -> bool {
        let left = &self.wanted.left;
        let taken = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        taken.is_ok()
    }
}

impl Observer for Steps {
    fn arrived(&mut self, head: &[u8], len: usize) {
        self.saved.keep(head, len);
        self.count = 0;
        self.expecting = false;
    }

    fn step(&mut self, step: &Step) {
        if let Some(place) = self.steps.get_mut(self.count) {
            *place = Some(*step);
            self.count += 1;
        }
    }

    fn verdict(&mut self, seen: &Observed<'_>) {
        self.expecting = false;
        if self.wanted.left.load(Relaxed) == 0 || !self.wants(seen) || !self.take_one() {
            return;
        }
        let mut steps = [None; MOST_STEPS];
        steps[..self.count].copy_from_slice(&self.steps[..self.count]);
        let frame = Seen {
            entry: seen.entry,
            verdict: seen.verdict,
            to: seen.to,
            contents: seen.contents,
            len: self.saved.len as u32,
            offload: seen.frame.offload,
            packets: seen.frame.packets,
            steps,
            head: self.saved.head,
            head_len: self.saved.head_len as u8,
        };
        self.expecting = self.ring.push(Item::Frame(frame)).is_ok();
    }

    fn outer(&mut self, outer: &Outer<'_>) {
        if std::mem::take(&mut self.expecting) {
            // Two places for each frame: there is room.
            let _ = self.ring.push(Item::Outer(outer.src_port));
        }
    }
}
