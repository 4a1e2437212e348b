//! `ringway-perf pipeline series`: the published series.
//!
//! Four scenarios, two families, three numbers of flows, tiny and realistic tables. The six of one
//! scenario and family stand at the same time and take short turns, in alternating order; a ratio
//! is the median of the ratios within a turn, so that a machine that drifts takes them along. Rates are
//! by the worker's CPU time: what other programs take of its core is not counted, what they take of
//! its caches is.

use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::capture::Traffic;
use super::compare::Figure;
use super::lane::{Fill, Work};
use super::{Scenario, check_seconds, compare, pin, run};
use crate::lab::Family;
use crate::table::{Cell, Mark, Progress, Table, colour};
use crate::traffic::{median, spread};

const FLOWS: [u32; 3] = [1, 1_000, 100_000];
/// Of what one flow reaches, what 100,000 must.
const MANY_FLOWS: f64 = 0.65;
/// Of what tiny tables reach, what realistic ones must.
const LARGE_TABLES: f64 = 0.75;
const BATCH: usize = 64;

/// To reach with IPv4 and tiny tables, in Mpps: for 1, 1,000 and 100,000 flows.
fn target(scenario: Scenario) -> [f64; 3] {
    match scenario {
        Scenario::Forward => [16.0, 14.0, 12.0],
        Scenario::Encap => [18.0, 18.0, 18.0],
        Scenario::Decap => [14.0, 14.0, 14.0],
        Scenario::DecapCoalesced => [10.0, 9.0, 8.0],
    }
}

/// Options of `ringway-perf pipeline series`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Turns of each of the 48
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    turns: u16,
    /// Seconds of a turn, after a tenth of that to warm up
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// CPU to pin the worker to
    #[arg(long)]
    core: Option<usize>,
    /// Result as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Also write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compare with the result of another series
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
}

/// What a series found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Series {
    kernel: String,
    cpu: String,
    turns: u16,
    /// Of a turn.
    seconds: f64,
    /// What a group had of its core, in the median; the least of the groups. Rates are by its own clock.
    least_share_of_core: f64,
    entries: Vec<Entry>,
}

/// One of the 48.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    scenario: Scenario,
    /// 4 or 6: pods and underlay.
    family: u8,
    flows: u32,
    tables: Tables,
    /// Packets by the worker's CPU time, median of the turns.
    mpps: f64,
    mpps_of_turns: Vec<f64>,
    /// Against one flow with the same tables, median of the ratios within a turn.
    of_one_flow: f64,
    /// Against tiny tables with the same flows.
    of_tiny: f64,
    /// Every target it has, and whether it reached it.
    targets: Vec<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tables {
    /// What the traffic needs.
    Tiny,
    /// 100,000 routes, 1,000 peers, 110 pods.
    Realistic,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Target {
    what: String,
    at_least: f64,
    is: f64,
    reached: bool,
}

impl Target {
    fn new(what: &str, is: f64, at_least: f64) -> Target {
        Target {
            what: what.into(),
            at_least,
            is,
            reached: is >= at_least,
        }
    }
}

impl Entry {
    fn name(&self) -> String {
        let tables = match self.tables {
            Tables::Tiny => "tiny",
            Tables::Realistic => "realistic",
        };
        let Entry {
            scenario,
            family,
            flows,
            ..
        } = self;
        format!("{scenario} IPv{family}, {flows} flows, {tables} tables")
    }
}

impl Series {
    pub(super) fn figures(&self) -> Vec<Figure> {
        self.entries
            .iter()
            .map(|entry| Figure {
                name: entry.name(),
                mpps: entry.mpps,
                spread: spread(&entry.mpps_of_turns),
            })
            .collect()
    }

    fn reached(&self) -> bool {
        let mut targets = self.entries.iter().flat_map(|entry| &entry.targets);
        targets.all(|target| target.reached)
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "Mpps",
            "flows",
            "tiny tables",
            "to reach",
            "of 1 flow",
            "realistic tables",
            "of 1 flow",
            "of tiny",
            "",
        ]);
        for pair in self.entries.chunks(2) {
            let [tiny, large] = pair else { continue };
            let missed: Vec<&str> = pair
                .iter()
                .flat_map(|entry| &entry.targets)
                .filter(|target| !target.reached)
                .map(|target| target.what.as_str())
                .collect();
            let mpps = tiny.targets.iter().find(|target| target.what == MPPS);
            let first = tiny.flows == FLOWS[0];
            let of_one = |entry: &Entry| match first {
                true => String::new(),
                false => format!("{:.2}", entry.of_one_flow),
            };
            table.row(vec![
                match first {
                    true => format!("{} IPv{}", tiny.scenario, tiny.family).into(),
                    false => "".into(),
                },
                tiny.flows.to_string().into(),
                format!("{:.2}", tiny.mpps).into(),
                mpps.map_or(String::new(), |target| format!("{}", target.at_least))
                    .into(),
                of_one(tiny).into(),
                format!("{:.2}", large.mpps).into(),
                of_one(large).into(),
                format!("{:.2}", large.of_tiny).into(),
                match missed.is_empty() {
                    true => Cell::new("reached", Mark::Good),
                    false => Cell::new(format!("MISSED: {}", missed.join(", ")), Mark::Bad),
                },
            ]);
        }
        table
    }
}

const MPPS: &str = "Mpps";

/// Runs the series; `false`: a target was missed, and that matters.
///
/// # Errors
/// A core is not there, a packet was dropped, or something was allocated for one.
pub(super) fn main(args: &Args) -> anyhow::Result<bool> {
    check_seconds(args.seconds)?;
    let before = args.against.as_deref().map(compare::read).transpose()?;
    if let Some(core) = args.core {
        pin(core).context("--core")?;
    }
    let mut progress = Progress::default();
    let mut entries = Vec::new();
    let mut least: f64 = 1.0;
    for scenario in Scenario::ALL {
        for family in Family::BOTH {
            let (six, share) = group(args, scenario, family, &mut progress)?;
            entries.extend(six);
            least = least.min(share);
        }
    }
    progress.clear();
    let series = Series {
        kernel: first_line("/proc/sys/kernel/osrelease"),
        cpu: cpu(),
        turns: args.turns,
        seconds: args.seconds,
        least_share_of_core: least,
        entries,
    };
    let text = format!("{}\n", serde_json::to_string_pretty(&series)?);
    if let Some(file) = &args.out {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        print!("{text}");
        return Ok(!args.strict || series.reached());
    }
    print!("{}", series.table().render(colour()));
    println!(
        "  64-byte UDP (IPv6: 66), one core, VXLAN over the pods' family; medians of {} turns of {} s by the worker's CPU time, ratios within turns; {}, Linux {}; no allocation, no drop",
        args.turns, args.seconds, series.cpu, series.kernel
    );
    println!(
        "  realistic tables: {} routes, {} peers, {} pods; to reach: {LARGE_TABLES} of tiny ones, {MANY_FLOWS} of one flow at {} flows",
        Fill::REALISTIC.routes,
        Fill::REALISTIC.peers,
        Fill::REALISTIC.pods,
        FLOWS[2]
    );
    super::warn_of_company(least);
    if let Some(before) = before {
        compare::print(&before, &series.figures())?;
    }
    Ok(!args.strict || series.reached())
}

/// The six of a scenario and family, and what they had of the core.
fn group(
    args: &Args,
    scenario: Scenario,
    family: Family,
    progress: &mut Progress,
) -> anyhow::Result<(Vec<Entry>, f64)> {
    progress.step(&format!("{scenario} {family}: frames and tables"));
    let mut lanes = Vec::new();
    let mut kinds = Vec::new();
    for flows in FLOWS {
        for (tables, fill) in [
            (Tables::Tiny, Fill::TINY),
            (Tables::Realistic, Fill::REALISTIC),
        ] {
            let work = Work::of(&Traffic::small(scenario, family, flows), fill)?;
            lanes.push(work.lane(BATCH)?);
            kinds.push((flows, tables));
        }
    }
    let mut mpps = vec![Vec::new(); lanes.len()];
    let mut share = Vec::new();
    for turn in 0..usize::from(args.turns) {
        progress.step(&format!(
            "{scenario} {family}, turn {} of {}",
            turn + 1,
            args.turns
        ));
        for i in 0..lanes.len() {
            let i = if turn % 2 == 0 {
                i
            } else {
                lanes.len() - 1 - i
            };
            let measured = run::clean(&mut lanes[i], args.seconds)
                .with_context(|| format!("{scenario} {family}, {} flows", kinds[i].0))?;
            mpps[i].push(measured.mpps_of_core());
            share.push(measured.share());
        }
    }
    Ok((entries(scenario, family, &kinds, &mpps), median(&share)))
}

/// Medians, ratios and targets of a group, in which tiny and realistic tables alternate.
fn entries(
    scenario: Scenario,
    family: Family,
    kinds: &[(u32, Tables)],
    mpps: &[Vec<f64>],
) -> Vec<Entry> {
    let ratio =
        |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>());
    let entry = |i: usize| {
        let (flows, tables) = kinds[i];
        let of_one_flow = ratio(&mpps[i], &mpps[i % 2]);
        let of_tiny = ratio(&mpps[i], &mpps[i - i % 2]);
        let here = median(&mpps[i]);
        let mut targets = Vec::new();
        if tables == Tables::Tiny && family == Family::V4 {
            targets.push(Target::new(MPPS, here, target(scenario)[i / 2]));
        }
        if flows == FLOWS[2] {
            targets.push(Target::new("many flows", of_one_flow, MANY_FLOWS));
        }
        if tables == Tables::Realistic {
            targets.push(Target::new("realistic tables", of_tiny, LARGE_TABLES));
        }
        Entry {
            scenario,
            family: if family == Family::V4 { 4 } else { 6 },
            flows,
            tables,
            mpps: here,
            mpps_of_turns: mpps[i].clone(),
            of_one_flow,
            of_tiny,
            targets,
        }
    };
    (0..kinds.len()).map(entry).collect()
}

pub(super) fn first_line(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or("?").to_owned()
}

pub(super) fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    model.map_or("unknown CPU".into(), |model| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn six(mpps: [f64; 6], family: Family) -> Series {
        let kinds: Vec<_> = FLOWS
            .into_iter()
            .flat_map(|flows| [(flows, Tables::Tiny), (flows, Tables::Realistic)])
            .collect();
        // The machine is half as fast in the second turn, and all with it.
        let turns: Vec<_> = mpps.iter().map(|m| vec![*m, m / 2.0, *m]).collect();
        Series {
            kernel: "6".into(),
            cpu: "x".into(),
            turns: 3,
            seconds: 1.0,
            least_share_of_core: 1.0,
            entries: entries(Scenario::Forward, family, &kinds, &turns),
        }
    }

    fn missed(series: &Series) -> Vec<(u32, Tables, &str)> {
        let of = |entry: &'_ Entry| (entry.flows, entry.tables);
        series
            .entries
            .iter()
            .flat_map(|entry| entry.targets.iter().map(move |target| (of(entry), target)))
            .filter(|(_, target)| !target.reached)
            .map(|((flows, tables), target)| (flows, tables, target.what.as_str()))
            .collect()
    }

    #[test]
    fn each_target_is_held_against_its_own_figure() {
        let good = six([20.0, 16.0, 18.0, 15.0, 13.0, 10.4], Family::V4);
        assert_eq!(missed(&good), []);
        assert!(good.reached());
        let slow = six([15.9, 15.9, 15.9, 15.9, 15.9, 15.9], Family::V4);
        assert_eq!(missed(&slow), [(1, Tables::Tiny, MPPS)]);
        let large = six([20.0, 14.9, 18.0, 18.0, 18.0, 18.0], Family::V4);
        assert_eq!(missed(&large), [(1, Tables::Realistic, "realistic tables")]);
        let many = six([20.0, 20.0, 18.0, 18.0, 12.9, 12.9], Family::V4);
        assert_eq!(
            missed(&many),
            [
                (100_000, Tables::Tiny, "many flows"),
                (100_000, Tables::Realistic, "many flows")
            ]
        );
        assert!(!many.reached());
        assert!(many.table().render(false).contains("MISSED: many flows"));
    }

    #[test]
    fn ipv6_has_ratios_to_reach_and_no_rate() {
        let slow = six([2.0, 2.0, 2.0, 2.0, 2.0, 1.4], Family::V6);
        assert_eq!(
            missed(&slow),
            [(100_000, Tables::Realistic, "realistic tables")]
        );
    }

    #[test]
    fn a_series_is_read_back_for_comparison() {
        let series = six([20.0, 16.0, 18.0, 15.0, 13.0, 10.4], Family::V4);
        let text = serde_json::to_string(&series).unwrap();
        let read: Series = serde_json::from_str(&text).unwrap();
        let figures = read.figures();
        assert_eq!(figures, series.figures());
        assert_eq!(
            figures[5].name,
            "forward IPv4, 100000 flows, realistic tables"
        );
        assert_eq!(figures[5].spread, (5.2, 10.4));
    }
}
