//! Answers to probes on their way to whoever asked, and the limits of all probes.

use ringway_tables::PeerId;

use crate::limiter::Limiter;

/// Answers that are kept for whoever asked until they are taken; more are dropped.
const KEPT: usize = 64;

/// An answer to a probe, of which nothing is believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who sent it.
    pub peer: PeerId,
    /// What it says it was asked with.
    pub token: u64,
    /// Bytes of the IP packet that it says it got.
    pub size: u16,
    /// Nanoseconds since what it says was the sending.
    pub round_trip_ns: u64,
}

/// What of probes a pipeline keeps.
pub(crate) struct Probes {
    /// Requests: of each peer, of all.
    pub(super) asked: (Limiter, Limiter),
    /// Answers of each peer: what others ask takes nothing of it.
    pub(super) answered: Limiter,
    answers: Vec<Answer>,
}

impl Default for Probes {
    fn default() -> Self {
        // A peer asks a few times a second where it doubts something.
        let of_each = || Limiter::new(ringway_tables::MAX_PEERS as usize, 10, 100_000_000);
        Self {
            asked: (of_each(), Limiter::new(1, 100, 10_000_000)),
            answered: of_each(),
            answers: Vec::with_capacity(KEPT),
        }
    }
}

impl Probes {
    pub(crate) fn take(&mut self, each: impl FnMut(Answer)) {
        self.answers.drain(..).for_each(each);
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.answers.len() == KEPT
    }

    pub(super) fn keep(&mut self, answer: Answer) {
        self.answers.push(answer);
    }
}
