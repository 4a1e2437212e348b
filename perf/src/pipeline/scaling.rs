//! `ringway-perf pipeline scaling`: what a second core gains.
//!
//! Two workers on two cores share caches, memory and, on some machines, the very execution units;
//! how much of twice is left is the machine's. So their gain over one is held against that of two
//! copies of a bare loop ([`super::bare`]) that does the same to packets. One turn is one and two
//! workers, one and two bare loops; the result is the median of the turns' ratios. Rates are by the
//! threads' CPU time, so that a third program on these cores counts as little as it can.

use super::bare::Bare;
use super::capture::Traffic;
use super::lane::{Fill, Work};
use super::run::{Loop, Turn, no_allocation, together};
use super::{Scenario, check_seconds};
use crate::lab::Family;
use crate::table::{Cell, Mark, Progress, Table, colour};
use crate::traffic::{median, spread};

/// Of the bare loop's gain, what Ringway's must be.
const TARGET: f64 = 0.95;
const FLOWS: u32 = 1000;
const BATCH: usize = 64;

/// Options of `ringway-perf pipeline scaling`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The CPUs; a turn with one worker takes them in turns
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    cores: Vec<usize>,
    /// Turns
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    turns: u16,
    /// Seconds of each of the four in a turn
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Result as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Fail if the target is missed
    #[arg(long)]
    strict: bool,
}

/// Mpps of one and of two, turn by turn.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
struct Side {
    one: Vec<f64>,
    two: Vec<f64>,
}

impl Side {
    fn gains(&self) -> Vec<f64> {
        self.two
            .iter()
            .zip(&self.one)
            .map(|(two, one)| two / one)
            .collect()
    }
}

/// Ringway's gain over the bare loop's, turn by turn.
fn ratios(ringway: &Side, bare: &Side) -> Vec<f64> {
    let pairs = ringway.gains().into_iter().zip(bare.gains());
    pairs.map(|(ringway, bare)| ringway / bare).collect()
}

/// Runs and prints; `false`: the target was missed, and that matters.
///
/// # Errors
/// There are no two cores, or the pipeline drops or allocates.
pub(super) fn main(args: &Args) -> anyhow::Result<bool> {
    check_seconds(args.seconds)?;
    anyhow::ensure!(
        args.cores.len() == 2 && args.cores[0] != args.cores[1],
        "--cores {:?}: two different ones",
        args.cores
    );
    let traffic = Traffic::small(Scenario::Encap, Family::V4, FLOWS);
    let work = Work::of(&traffic, Fill::TINY)?;
    let frames = traffic.frames()?;
    let (mut ringway, mut bare) = (Side::default(), Side::default());
    let mut shares = Vec::new();
    let mut progress = Progress::default();
    for turn in 0..usize::from(args.turns) {
        progress.step(&format!("two cores, turn {} of {}", turn + 1, args.turns));
        let both: Vec<_> = args.cores.iter().map(|&core| Some(core)).collect();
        let alone = &both[turn % 2..][..1];
        let ours = |cores: &[Option<usize>]| measure(|| work.lane(BATCH), cores, args.seconds);
        let theirs = |cores: &[Option<usize>]| measure(|| Bare::new(&frames), cores, args.seconds);
        // One after two in every other turn, so that what a turn drifts cancels.
        for cores in if turn % 2 == 0 {
            [alone, &both]
        } else {
            [&both, alone]
        } {
            let ((a, a_share), (b, b_share)) = (ours(cores)?, theirs(cores)?);
            shares.extend([a_share, b_share]);
            let (a_side, b_side) = match cores.len() {
                1 => (&mut ringway.one, &mut bare.one),
                _ => (&mut ringway.two, &mut bare.two),
            };
            a_side.push(a);
            b_side.push(b);
        }
    }
    progress.clear();
    let ratios = ratios(&ringway, &bare);
    let (result, (low, high)) = (median(&ratios), spread(&ratios));
    let reached = result >= TARGET;
    if args.json {
        let report = serde_json::json!({
            "cores": args.cores, "turns": args.turns, "seconds": args.seconds, "ringway": ringway, "bare": bare,
            "share_of_core": median(&shares), "gain_ringway": median(&ringway.gains()), "gain_bare": median(&bare.gains()),
            "ratio_of_gains": result, "spread": [low, high], "target": TARGET, "reached": reached,
        });
        println!("{report:#}");
        return Ok(!args.strict || reached);
    }
    let mut table = Table::new(&["encap IPv4, Mpps", "one core", "two cores", "gain"]);
    for (name, side) in [("ringway", &ringway), ("bare loop", &bare)] {
        table.row(vec![
            name.into(),
            format!("{:.2}", median(&side.one)).into(),
            format!("{:.2}", median(&side.two)).into(),
            format!("{:.2}", median(&side.gains())).into(),
        ]);
    }
    let (word, mark) = match reached {
        true => ("reached", Mark::Good),
        false => ("MISSED", Mark::Bad),
    };
    table.row(vec![
        "ratio of the gains".into(),
        Cell::new(format!("{low:.2}–{high:.2}"), Mark::Dim),
        format!("≥ {TARGET}").into(),
        format!("{result:.2}").into(),
        Cell::new(word, mark),
    ]);
    print!("{}", table.render(colour()));
    println!(
        "  {FLOWS} flows; medians of {} turns of 4 × {} s on CPUs {:?}; by the threads' CPU time, ratios within turns",
        args.turns, args.seconds, args.cores
    );
    super::warn_of_company(median(&shares));
    Ok(!args.strict || reached)
}

/// Mpps of all cores together, and the least that a thread had of its own.
fn measure<L: Loop>(
    make: impl Fn() -> anyhow::Result<L> + Sync,
    cores: &[Option<usize>],
    seconds: f64,
) -> anyhow::Result<(f64, f64)> {
    let (turns, allocations) = together(make, cores, seconds / 10.0, seconds)?;
    no_allocation(allocations, turns.iter().map(|turn| turn.packets).sum())?;
    for turn in &turns {
        anyhow::ensure!(
            turn.drops.is_empty(),
            "packets were dropped: {:?}",
            turn.drops
        );
    }
    let share = turns.iter().map(Turn::share).fold(1.0, f64::min);
    Ok((turns.iter().map(Turn::mpps_of_core).sum(), share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_compared_turn_by_turn() {
        let ringway = Side {
            one: vec![10.0, 5.0],
            two: vec![19.0, 9.0],
        };
        let bare = Side {
            one: vec![20.0, 10.0],
            two: vec![40.0, 15.0],
        };
        assert_eq!(ringway.gains(), [1.9, 1.8]);
        let ratios = ratios(&ringway, &bare);
        assert!((ratios[0] - 0.95).abs() < 1e-9 && (ratios[1] - 1.2).abs() < 1e-9);
    }
}
