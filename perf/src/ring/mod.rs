//! `ringway-perf ring`: what Ringway adds to an AF_XDP ring, either direction alone.
//!
//! ```text
//!   receive    generator ═ wire ═▶ ring ─▶ outer headers ─▶ pipeline ─▶ null port        ours
//!                                  ring ─▶ eight bytes looked at ─▶ ring                 bare
//!   transmit   replay port ─▶ pipeline ─▶ outer headers ─▶ ring ═ wire ═▶ dropped        ours
//!              frames written once ─▶ ring ═ wire ═▶ dropped                             bare
//! ```
//!
//! Ours is a worker's own round: it visits the ring or the port and flushes ([`ringway_worker::Round`]), with
//! memory in the place of TAPs.
//!
//! One device, one run, one queue: the loops take turns on it, in slices of a fraction of a second and in
//! alternating order, and what counts is the median of the ratios within a turn. The first three share one
//! socket.
//!
//! `bare rings` is a loop as in C: addresses go round from ring to ring, nobody owns a frame. `bare Xsk` is
//! the type Ringway uses, with its pool and ownership, and nothing else. The ratio is of packets per second
//! as the clock on the wall has them; beside it stands the CPU time of the measuring thread by its own
//! clock, which other load of the machine does not touch. In the receive loops that is the time of visits
//! to a ring that holds a full visit, waiting left out: what a core could do if the wire were faster.
//!
//! # xsk-rs
//!
//! With the feature `xsk-rs` of this crate a fourth loop does with that crate what `bare Xsk` does with ours
//! (`ports::xsk` has what came of it, and what the build needs). It maps a memory of its own and opens a socket
//! of its own, and the kernel gives a queue to one memory at a time. So for its slice our ring is closed and its
//! socket opened on the same queue, and the other way round after it: same device, queue, driver's thread,
//! generator, XDP program and mode, which a second queue would not give on a NIC, where the hash of a flow
//! chooses the queue. Our program stays attached, and its map names the socket whose turn it is. The kernel
//! lets go of a closed socket's queue some milliseconds later, which whoever opens waits for; until then
//! frames pass to the kernel, which drops them. None of that is in a slice. The order puts two slices of
//! xsk-rs beside each other, so that the queue changes hands once in a turn.
//!
//! Both have rings of the same size, as many frames in the fill ring, and visits and batches of the same
//! number of frames.
//!
//! # The other end
//!
//! Without `--device` a veth pair is made. Its other end is at work in the same machine: the generator has
//! a core of its own, but dropping what is transmitted is done in the transmitting thread's system call, in
//! ours as in the bare one.

mod frames;
mod generator;
mod loops;
mod measure;
mod report;
mod stage;
#[cfg(feature = "xsk-rs")]
mod xsk_rs;
#[cfg(not(feature = "xsk-rs"))]
#[path = "no_xsk_rs.rs"]
mod xsk_rs;

use anyhow::Context;

use crate::pipeline;
use crate::table::Progress;
use measure::Measured;
use stage::Stage;

/// Options of `ringway-perf ring`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which directions
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Direction::Receive, Direction::Transmit])]
    directions: Vec<Direction>,
    /// Bytes of the inner frame, Ethernet header included; outer headers add 50
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1400], value_parser = clap::value_parser!(u16).range(60..=3700))]
    sizes: Vec<u16>,
    /// Flows: different UDP source ports
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=4096))]
    flows: u16,
    /// Turns of each measurement
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Seconds of a slice; a turn has one of each loop
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Frames per second of the generator; 0: as many as it can
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// CPU of the measuring thread
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// CPU of the generator
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// An existing interface instead of a veth: its queue 0 is taken while this runs
    #[arg(long, value_name = "INTERFACE")]
    device: Option<String>,
    /// The interface at the other end of --device, which then generates and drops; without it frames must
    /// come from elsewhere
    #[arg(long, value_name = "INTERFACE", requires = "device")]
    other_end: Option<String>,
    /// Result as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Fail if a ratio is below its target
    #[arg(long)]
    strict: bool,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the ring to memory
    Receive,
    /// From memory to the ring
    Transmit,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::Receive => "receive",
            Direction::Transmit => "transmit",
        })
    }
}

/// Runs the measurement and prints the result; `false`: a target was missed, and that matters.
///
/// # Errors
/// The device, its rings or a core are not to be had, or frames were lost where none may be.
pub fn main(args: &Args) -> anyhow::Result<bool> {
    crate::lab::require_root()?;
    anyhow::ensure!(
        args.seconds > 0.0 && args.seconds <= 60.0,
        "--seconds {}: above 0, at most 60",
        args.seconds
    );
    let mut progress = Progress::default();
    progress.step("device and rings");
    let mut stage = Stage::build(args)?;
    pipeline::pin(args.core).context("--core")?;
    let mut all: Vec<Measured> = Vec::new();
    for &direction in &args.directions {
        for &size in &args.sizes {
            all.push(measure::measure(
                args,
                &mut stage,
                direction,
                usize::from(size),
                &mut progress,
            )?);
        }
    }
    progress.clear();
    report::print(args, &stage, &all)?;
    Ok(!args.strict || all.iter().all(Measured::reached))
}
