//! Slices in turns.

use std::time::{Duration, Instant};

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};

use super::generator::Generator;
use super::loops::{Loops, VISIT, Who};
use super::stage::{End, Stage};
use super::{Args, Direction, frames};
use crate::table::Progress;

/// Ours over bare, packets per second.
pub(super) const TARGET: f64 = 0.9;
/// Slices in a row without a frame.
const IDLE_LIMIT: u32 = 20;
/// How long a visit waits for a full ring.
const PATIENCE: Duration = Duration::from_millis(2);

/// One slice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    /// Packets per second by the clock on the wall.
    pub(super) pps: f64,
    /// Nanoseconds of the measuring thread's CPU time per packet.
    pub(super) cpu_ns: f64,
}

/// All slices of one direction and size.
pub(super) struct Measured {
    pub(super) direction: Direction,
    pub(super) size: usize,
    /// By [`Who`], turn by turn.
    pub(super) slices: [Vec<Slice>; Who::COUNT],
    /// Frames per second that the generator sent, if there was one.
    pub(super) offered: Option<f64>,
    /// Frames the kernel dropped at the device for want of room.
    pub(super) overrun: u64,
}

impl Measured {
    /// The ratios of one loop's to another's, turn by turn.
    pub(super) fn ratios(&self, who: Who, to: Who, of: fn(&Slice) -> f64) -> Vec<f64> {
        let slices = &self.slices[who as usize];
        slices
            .iter()
            .zip(&self.slices[to as usize])
            .map(|(a, b)| of(a) / of(b))
            .collect()
    }

    /// Whether the ratio of ours to the bare rings reaches its target.
    pub(super) fn reached(&self) -> bool {
        crate::traffic::median(&self.ratios(Who::Ringway, Who::Rings, |s| s.pps)) >= TARGET
    }
}

pub(super) fn measure(
    args: &Args,
    stage: &mut Stage,
    direction: Direction,
    size: usize,
    progress: &mut Progress,
) -> anyhow::Result<Measured> {
    let mut loops = Loops::new(&mut stage.device, direction, args.flows, size)?;
    let generator = match (direction, stage.other.take()) {
        (Direction::Receive, Some(other)) => {
            let mac = stage.device.mac;
            let ends = (frames::THEIRS, frames::OURS);
            let frames = frames::on_the_wire(args.flows, size, ends, mac)?;
            Some(Generator::start(
                other,
                frames,
                args.rate,
                args.generator_core,
            )?)
        }
        (_, other) => {
            stage.other = other;
            None
        }
    };
    let (begin, sent) = (
        Instant::now(),
        generator.as_ref().map_or(0, Generator::sent),
    );
    let overrun = stage.device.overruns();
    let time = Duration::from_secs_f64(args.seconds);
    let mut measured = Measured {
        direction,
        size,
        slices: Default::default(),
        offered: None,
        overrun: 0,
    };
    let clock = clock_cost();
    for turn in 0..=args.pairs {
        progress.step(&format!(
            "{direction}, {size} B, turn {turn} of {} ",
            args.pairs
        ));
        let mut order = Who::all().to_vec();
        if turn % 2 == 1 {
            order.reverse();
        }
        for who in order {
            loops.begin(&mut stage.device, who)?;
            let end = &mut stage.device;
            let slice = match direction {
                Direction::Receive => receive(&mut loops, end, time, clock, generator.as_ref())?,
                Direction::Transmit => transmit(&mut loops, end, time)?,
            };
            // The first turn warms up.
            if turn > 0 {
                measured.slices[who as usize].push(slice);
            }
        }
    }
    loops.finish(&mut stage.device)?;
    measured.overrun = stage.device.overruns() - overrun;
    if let Some(generator) = generator {
        let sent = generator.sent() - sent;
        measured.offered = Some(sent as f64 / begin.elapsed().as_secs_f64());
        stage.other = Some(generator.stop()?);
    }
    loops.check(&mut stage.device)?;
    Ok(measured)
}

/// Visits to a ring that holds a full one; CPU time is that of the visits. On a busy machine the generator,
/// or the kernel's thread that carries its frames over the wire, may get no CPU for a whole slice: it is
/// taken again.
fn receive(
    loops: &mut Loops,
    end: &mut End,
    time: Duration,
    clock: f64,
    generator: Option<&Generator>,
) -> anyhow::Result<Slice> {
    let mut idle = 0;
    loop {
        let sent = generator.map_or(0, Generator::sent);
        // What came meanwhile is nobody's.
        for _ in 0..16 {
            loops.visit(end)?;
        }
        let begin = Instant::now();
        let (mut packets, mut cpu) = (0, 0.0);
        while begin.elapsed() < time {
            let waited = Instant::now();
            while end.waiting() < VISIT && waited.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
            let before = cpu_time()?;
            packets += loops.visit(end)?;
            cpu += cpu_time()? - before - clock;
        }
        if packets > 0 {
            return Ok(Slice {
                pps: packets as f64 / begin.elapsed().as_secs_f64(),
                cpu_ns: cpu / packets as f64,
            });
        }
        idle += 1;
        let sent = generator.map_or(0, Generator::sent) - sent;
        let account = end.account();
        anyhow::ensure!(
            idle < IDLE_LIMIT,
            "receive: no frame reached the ring of {} in {:?}, {sent} were sent; {account}",
            end.name,
            begin.elapsed()
        );
    }
}

fn transmit(loops: &mut Loops, end: &mut End, time: Duration) -> anyhow::Result<Slice> {
    let (begin, before) = (Instant::now(), cpu_time()?);
    let mut packets = 0;
    loop {
        for _ in 0..16 {
            packets += loops.visit(end)?;
        }
        let elapsed = begin.elapsed();
        if elapsed >= time {
            let cpu = cpu_time()? - before;
            anyhow::ensure!(
                packets > 0,
                "transmit: {} does not send: is its link up?",
                end.name
            );
            return Ok(Slice {
                pps: packets as f64 / elapsed.as_secs_f64(),
                cpu_ns: cpu / packets as f64,
            });
        }
    }
}

/// Nanoseconds of CPU time of this thread.
fn cpu_time() -> anyhow::Result<f64> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("thread's CPU clock")?;
    Ok(now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64)
}

/// What reading that clock adds between two readings.
fn clock_cost() -> f64 {
    let mut costs: Vec<f64> = (0..1000)
        .filter_map(|_| {
            let before = cpu_time().ok()?;
            Some(cpu_time().ok()? - before)
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(pps: [f64; 2]) -> Vec<Slice> {
        let slice = |pps| Slice {
            pps,
            cpu_ns: 1e9 / pps,
        };
        pps.map(slice).to_vec()
    }

    #[test]
    fn ratios_are_of_slices_of_one_turn() {
        let mut measured = Measured {
            direction: Direction::Receive,
            size: 64,
            slices: Default::default(),
            offered: None,
            overrun: 0,
        };
        measured.slices[Who::Rings as usize] = slices([4.0, 8.0]);
        measured.slices[Who::Xsk as usize] = slices([3.0, 4.0]);
        measured.slices[Who::Ringway as usize] = slices([2.0, 8.0]);
        measured.slices[Who::XskRs as usize] = slices([6.0, 2.0]);
        let ratios = |who, to| measured.ratios(who, to, |s| s.pps);
        assert_eq!(ratios(Who::Ringway, Who::Rings), [0.5, 1.0]);
        assert_eq!(ratios(Who::Xsk, Who::XskRs), [0.5, 2.0]);
        assert!(!measured.reached(), "a median of 0.75");
    }
}
