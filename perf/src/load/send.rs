//! The generator's loop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::{Frames, LoadError, Outlet, Pace, Step, clock};

/// Times that the end is said, and the pause between them: one of them gets through where packets are lost.
const ENDS: u32 = 5;
const END_PAUSE: Duration = Duration::from_millis(4);
/// Shorter pauses are spun through, ns: a sleep costs about as much.
const SPIN: u64 = 10_000;

/// How much, how fast.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Packets per second; 0: as many as go.
    pub rate: u64,
    /// Packets of a burst; 0: what suits the rate.
    pub burst: usize,
    /// Ends after so many packets.
    pub count: Option<u64>,
    /// Ends after so long.
    pub time: Option<Duration>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sent {
    /// Packets made and given to the device, the refused ones among them.
    pub packets: u64,
    /// Of those, the device had no room for.
    pub refused: u64,
    /// Seconds from the first to the end.
    pub seconds: f64,
    /// Seconds by which the schedule was moved back, because this thread came too late.
    pub slipped: f64,
}

impl Sent {
    /// Packets per second.
    pub fn rate(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.packets as f64 / self.seconds,
            false => 0.0,
        }
    }
}

/// Sends until the plan is done or `stop` is set, then says how many there were. `so_far` is kept up to
/// date.
///
/// # Errors
/// See [`Outlet::burst`].
pub fn send(
    outlet: &mut Outlet,
    frames: &Frames,
    plan: &Plan,
    stop: &AtomicBool,
    so_far: &AtomicU64,
) -> Result<Sent, LoadError> {
    // A sleep of 40 µs may else be one of 90; without it bursts are only less even.
    let _ = nix::sys::prctl::set_timerslack(1);
    let limit = plan.count.unwrap_or(u64::MAX);
    let time = plan.time.map_or(u64::MAX, |time| time.as_nanos() as u64);
    let begin = clock::now();
    let until = begin.saturating_add(time);
    let mut pace = Pace::new(plan.rate, plan.burst, begin);
    let (mut seq, mut refused) = (0, 0);
    let mut now = begin;
    while seq < limit && now < until && !stop.load(Ordering::Relaxed) {
        match pace.next(now) {
            Step::Wait(due) => wait(now, due.min(until)),
            Step::Send(count) => {
                let count = (count as u64).min(limit - seq) as usize;
                refused += outlet.burst(count, |out| {
                    let len = frames.data(out, seq, clock::now());
                    seq += 1;
                    len
                })?;
                so_far.store(seq, Ordering::Relaxed);
            }
        }
        now = clock::now();
    }
    let sent = Sent {
        packets: seq,
        refused,
        seconds: (now - begin) as f64 / 1e9,
        slipped: pace.slipped() as f64 / 1e9,
    };
    for _ in 0..ENDS {
        std::thread::sleep(END_PAUSE);
        outlet.burst(1, |out| frames.end(out, seq, clock::now()))?;
    }
    outlet.finish();
    Ok(sent)
}

fn wait(now: u64, due: u64) {
    match due.saturating_sub(now) {
        short if short < SPIN => {
            while clock::now() < due {
                std::hint::spin_loop();
            }
        }
        long => std::thread::sleep(Duration::from_nanos(long.min(100_000_000))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_taken() {
        let sent = Sent {
            packets: 500,
            seconds: 0.25,
            ..Sent::default()
        };
        assert!((sent.rate() - 2000.0).abs() < 1e-9);
        assert!(Sent::default().rate().abs() < 1e-9);
    }
}
