//! A port wrapper that loses, doubles, swaps, damages, cuts and delays received frames, as wires do.
//!
//! Every decision comes from one seeded generator, so a failing test fails again with the same seed and
//! the same traffic. Faults apply to what is received; wrap both ends of a pair for both directions.
//! Transmission can be made to fail as a full queue does.

use std::collections::VecDeque;
use std::io;

use crate::frame::{Batch, Frame};
use crate::pool::{Buf, Pool};
use crate::port::{Port, TransmitError};

/// How often each fault strikes, in parts per million of frames.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Rates {
    /// The frame is lost.
    pub drop: u32,
    /// The frame comes twice.
    pub duplicate: u32,
    /// The frame changes places with the next one of the same receive call.
    pub reorder: u32,
    /// One bit of the frame is flipped. Offload metadata stays as it is.
    pub corrupt: u32,
    /// The frame is cut to a random length, down to 0 bytes.
    pub truncate: u32,
    /// The frame comes [`delay_calls`](Self::delay_calls) receive calls later.
    pub delay: u32,
    /// For how many receive calls a delayed frame is held.
    pub delay_calls: u32,
    /// A transmitted frame is refused with [`TransmitError::Full`].
    pub transmit_full: u32,
}

/// How often each fault struck.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct FaultCounters {
    /// Frames received from the port inside.
    pub received: u64,
    /// Frames lost.
    pub dropped: u64,
    /// Frames doubled (for want of a free buffer some are not, and not counted).
    pub duplicated: u64,
    /// Pairs of frames swapped.
    pub reordered: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames cut.
    pub truncated: u64,
    /// Frames held back.
    pub delayed: u64,
    /// Frames refused on transmit.
    pub refused: u64,
}

/// A port `P` with faults.
#[derive(Debug)]
pub struct Fault<P> {
    inner: P,
    rates: Rates,
    state: u64,
    counters: FaultCounters,
    calls: u64,
    scratch: Batch,
    /// Frames held back and the call at which they are due. They keep their buffers.
    held: VecDeque<(u64, Frame, Buf)>,
}

/// Frames held back at once: more would drain the pool.
const MAX_HELD: usize = 32;
const MILLION: u64 = 1_000_000;

impl<P: Port> Fault<P> {
    /// Wraps `inner`.
    pub fn new(inner: P, rates: Rates, seed: u64) -> Fault<P> {
        Fault {
            inner,
            rates,
            state: seed,
            counters: FaultCounters::default(),
            calls: 0,
            scratch: Batch::new(),
            held: VecDeque::with_capacity(MAX_HELD),
        }
    }

    /// What struck so far.
    pub fn counters(&self) -> FaultCounters {
        self.counters
    }

    /// Changes the rates from now on.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// The port inside.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The port inside.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn strikes(&mut self, per_million: u32) -> bool {
        // Drawn even at rate 0, so that changing one rate leaves the others' decisions alone.
        self.random() % MILLION < u64::from(per_million)
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.random() % u64::from(limit.max(1))) as u32
    }

    /// Applies the faults of one frame; `None` if it does not come now.
    fn distort(&mut self, pool: &mut Pool, mut frame: Frame, buf: Buf) -> Option<(Frame, Buf)> {
        let [drop, corrupt, truncate, delay] = [
            self.rates.drop,
            self.rates.corrupt,
            self.rates.truncate,
            self.rates.delay,
        ]
        .map(|rate| self.strikes(rate));
        let (bit, cut) = (self.below(frame.linear * 8), self.below(frame.linear));
        if drop {
            self.counters.dropped += 1;
            pool.free(buf);
            return None;
        }
        if corrupt && frame.linear > 0 {
            self.counters.corrupted += 1;
            pool.bytes_mut(frame.buf)[(frame.start + bit / 8) as usize] ^= 1 << (bit % 8);
        }
        if truncate {
            self.counters.truncated += 1;
            frame.len -= frame.linear - cut;
            frame.linear = cut;
        }
        if delay && self.held.len() < MAX_HELD {
            self.counters.delayed += 1;
            self.held
                .push_back((self.calls + u64::from(self.rates.delay_calls), frame, buf));
            return None;
        }
        Some((frame, buf))
    }

    fn deliver(&mut self, pool: &mut Pool, batch: &mut Batch, (frame, buf): (Frame, Buf)) -> usize {
        if let Err(buf) = batch.push(frame, buf) {
            self.counters.dropped += 1;
            pool.free(buf);
            return 0;
        }
        if !self.strikes(self.rates.duplicate) {
            return 1;
        }
        let Some(buf) = pool.alloc() else { return 1 };
        let (id, start) = (buf.id(), frame.start as usize);
        if !pool.copy(frame.buf, start, id, start, frame.linear as usize) {
            pool.free(buf);
            return 1;
        }
        if let Err(buf) = batch.push(Frame { buf: id, ..frame }, buf) {
            pool.free(buf);
            return 1;
        }
        self.counters.duplicated += 1;
        2
    }
}

impl<P: Port> Port for Fault<P> {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        self.calls += 1;
        let mut added = 0;
        let calls = self.calls;
        while !batch.is_full()
            && let Some((_, frame, buf)) = self.held.pop_front_if(|(due, ..)| *due <= calls)
        {
            added += self.deliver(pool, batch, (frame, buf));
        }
        let mut scratch = std::mem::replace(&mut self.scratch, Batch::stand_in());
        let result = self.inner.receive(pool, &mut scratch, budget);
        self.counters.received += scratch.frames.len() as u64;
        // Frames of the ports this is for are linear and own one buffer each, so they can move singly.
        let mut waiting: Option<(Frame, Buf)> = None;
        for i in 0..scratch.frames.len() {
            let frame = scratch.frames[i];
            let Some(buf) = scratch.take(&frame) else {
                continue;
            };
            let Some(frame) = self.distort(pool, frame, buf) else {
                continue;
            };
            if let Some(earlier) = waiting.take() {
                added += self.deliver(pool, batch, frame) + self.deliver(pool, batch, earlier);
                self.counters.reordered += 1;
            } else if self.strikes(self.rates.reorder) {
                waiting = Some(frame);
            } else {
                added += self.deliver(pool, batch, frame);
            }
        }
        if let Some(frame) = waiting {
            added += self.deliver(pool, batch, frame);
        }
        scratch.recycle(pool);
        self.scratch = scratch;
        result.map(|_| added)
    }

    fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &Batch,
        frame: &Frame,
    ) -> Result<(), TransmitError> {
        if self.strikes(self.rates.transmit_full) {
            self.counters.refused += 1;
            return Err(TransmitError::Full);
        }
        self.inner.transmit(pool, batch, frame)
    }

    fn flush(&mut self, pool: &Pool) -> Result<(), TransmitError> {
        self.inner.flush(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BUF_SIZE;
    use crate::memory::{Replay, ReplayFrame};

    fn frames() -> Vec<ReplayFrame> {
        (0..250u8)
            .map(|i| ReplayFrame::plain(vec![i; 60], 7))
            .collect()
    }

    /// First byte and length of each frame of `calls` receive calls.
    fn run(rates: Rates, seed: u64, calls: usize) -> (Vec<(u8, u32)>, FaultCounters) {
        let mut pool = Pool::heap(256, 512);
        let mut port = Fault::new(Replay::new(frames()), rates, seed);
        let mut seen = Vec::new();
        for _ in 0..calls {
            let mut batch = Batch::new();
            let added = port.receive(&mut pool, &mut batch, 20).unwrap();
            assert_eq!(added, batch.frames.len());
            seen.extend(
                batch
                    .frames
                    .iter()
                    .map(|f| (pool.bytes(f.buf)[f.start as usize], f.len)),
            );
            batch.recycle(&mut pool);
            assert_eq!(
                pool.available() + port.held.len(),
                pool.total(),
                "no buffer is lost"
            );
        }
        (seen, port.counters())
    }

    #[test]
    fn without_rates_nothing_changes() {
        let (seen, counters) = run(Rates::default(), 1, 10);
        let expected: Vec<_> = (0..200u8).map(|i| (i, 60)).collect();
        assert_eq!(seen, expected);
        assert_eq!(
            counters,
            FaultCounters {
                received: 200,
                ..FaultCounters::default()
            }
        );
    }

    #[test]
    fn the_seed_decides_everything() {
        let rates = Rates {
            drop: 100_000,
            duplicate: 100_000,
            reorder: 100_000,
            corrupt: 100_000,
            truncate: 100_000,
            delay: 100_000,
            delay_calls: 2,
            transmit_full: 0,
        };
        assert_eq!(run(rates, 42, 50), run(rates, 42, 50));
        assert_ne!(run(rates, 42, 50).0, run(rates, 43, 50).0);
        let (seen, c) = run(rates, 42, 50);
        for (name, count) in [
            ("dropped", c.dropped),
            ("duplicated", c.duplicated),
            ("reordered", c.reordered),
            ("corrupted", c.corrupted),
            ("truncated", c.truncated),
            ("delayed", c.delayed),
        ] {
            assert!((40..200).contains(&count), "{name}: {count} of 1000");
        }
        let missing = c.received + c.duplicated - c.dropped - seen.len() as u64;
        assert!(
            missing <= MAX_HELD as u64,
            "{missing} frames neither came nor were counted"
        );
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let always = 1_000_000;
        assert_eq!(
            run(
                Rates {
                    drop: always,
                    ..Rates::default()
                },
                1,
                2
            )
            .0,
            []
        );
        let (doubled, _) = run(
            Rates {
                duplicate: always,
                ..Rates::default()
            },
            1,
            1,
        );
        assert_eq!(doubled[..4], [(0, 60), (0, 60), (1, 60), (1, 60)]);
        let (swapped, _) = run(
            Rates {
                reorder: always,
                ..Rates::default()
            },
            1,
            1,
        );
        assert_eq!(swapped[..4], [(1, 60), (0, 60), (3, 60), (2, 60)]);
        let (cut, _) = run(
            Rates {
                truncate: always,
                ..Rates::default()
            },
            1,
            1,
        );
        assert!(cut.iter().all(|(_, len)| *len < 60));
        let (late, _) = run(
            Rates {
                delay: always,
                delay_calls: 1,
                ..Rates::default()
            },
            1,
            2,
        );
        assert_eq!(late.len(), 20, "the first call's frames came in the second");
    }

    #[test]
    fn transmission_can_be_refused() {
        let mut pool = Pool::heap(4, BUF_SIZE);
        let mut port = Fault::new(
            Replay::new(frames()),
            Rates {
                transmit_full: 1_000_000,
                ..Rates::default()
            },
            1,
        );
        let mut batch = Batch::new();
        port.receive(&mut pool, &mut batch, 1).unwrap();
        let frame = batch.frames[0];
        assert_eq!(
            port.transmit(&mut pool, &batch, &frame),
            Err(TransmitError::Full)
        );
        assert_eq!(port.counters().refused, 1);
    }
}
