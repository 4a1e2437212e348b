//! `ringway-perf compare`: Ringway and the kernel in turns, ratios, and whether they reach their
//! targets.
//!
//! Absolute figures of a shared machine drift by a third within minutes. So each figure is taken in
//! pairs, one right after the other, the order within a pair alternating, and what counts is the
//! median of the pairs' ratios with their spread. All topologies of a test stand at the same time;
//! what is not measured is idle.

mod latency;
mod loaded;
mod machine;
mod measure;
mod memory;
mod neighbour;
mod plot;
mod publish;
mod report;
mod side;
mod xdp;

use crate::lab::{LabError, Mode};
use crate::table::{Progress, colour};
use crate::traffic::TrafficError;
use std::path::PathBuf;
use std::time::Duration;

pub use machine::Machine;
pub use report::{Better, Figure, Plot};

/// What is compared and how long.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// One short pair of each
    #[arg(long)]
    pub quick: bool,
    /// Also write every figure to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write figures.json and the plots ratios.svg and latency.svg into this folder
    #[arg(long, value_name = "DIR")]
    pub publish: Option<PathBuf>,
    /// Also replace the table between the two marks in this Markdown file
    #[arg(long, value_name = "FILE")]
    pub readme: Option<PathBuf>,
    /// Pairs of each measurement (default 5, with --quick 1)
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Seconds of each measurement (default 4, with --quick 2)
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Underlay modes for what goes across nodes: full, cloud, bare
    #[arg(long, value_delimiter = ',', default_value = "cloud")]
    pub modes: Vec<Mode>,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = Test::KERNEL)]
    pub tests: Vec<Test>,
    /// Pods on a node in the tests `pods`, `idle` and `memory`
    #[arg(long, default_value_t = 110, value_parser = clap::value_parser!(u8).range(3..=250))]
    pub pods: u8,
    /// Fail if a target is missed
    #[arg(long)]
    pub strict: bool,
}

/// A group of figures.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Test {
    /// TCP between pods of one node, against the kernel bridge
    Same,
    /// TCP across nodes, against kernel VXLAN, with the agents' CPU time
    Across,
    /// 64-byte UDP datagrams received each second, on a node and across
    Udp,
    /// TCP round trips on a node and across
    Rtt,
    /// TCP with many pods attached, against two
    Pods,
    /// CPU time of an agent whose pods are silent
    Idle,
    /// Small requests of the same and of other pods while 4 and 200 TCP streams run
    Loaded,
    /// TCP while another pod floods 64-byte datagrams, against the same alone
    Flood,
    /// Memory of an agent with many pods, 1,000 peers and 100,000 routes
    Memory,
    /// Round trips of single packets through an idle agent
    Wake,
    /// AF_XDP rings against UDP sockets, both Ringway's, across nodes; only when asked for
    Xdp,
}

impl Test {
    /// Those against the kernel, and alone.
    pub const KERNEL: [Test; 6] = [
        Test::Same,
        Test::Across,
        Test::Udp,
        Test::Rtt,
        Test::Pods,
        Test::Idle,
    ];

    /// How long it takes, roughly: each measurement, what starting and ending it takes, and the nodes.
    fn planned(self, args: &Args, effort: Effort) -> Duration {
        let Effort { pairs, time } = effort;
        let (pairs, modes) = (pairs as u32, args.modes.len() as u32);
        let one = time + Duration::from_millis(400);
        let nodes = Duration::from_secs(2);
        let pods = Duration::from_millis(60) * u32::from(args.pods);
        match self {
            Test::Same => nodes + 4 * pairs * one,
            Test::Across => modes * (nodes + 4 * pairs * one),
            Test::Udp | Test::Rtt => modes * nodes + (modes + 1) * 2 * pairs * one,
            Test::Pods => nodes + pods + 4 * pairs * one,
            Test::Idle => 2 * (nodes + Duration::from_secs(5) + pairs * 2 * time) + pods,
            Test::Loaded => nodes + loaded::RUNS * pairs * (time + loaded::EXTRA),
            Test::Flood => nodes + 4 * pairs * one,
            Test::Memory => 2 * (nodes + pods + one + Duration::from_secs(5)),
            Test::Wake => nodes + 2 * pairs * one,
            Test::Xdp => modes * (2 * nodes + 12 * pairs * one),
        }
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Test::Same => "same",
            Test::Across => "across",
            Test::Udp => "udp",
            Test::Rtt => "rtt",
            Test::Pods => "pods",
            Test::Idle => "idle",
            Test::Loaded => "loaded",
            Test::Flood => "flood",
            Test::Memory => "memory",
            Test::Wake => "wake",
            Test::Xdp => "xdp",
        })
    }
}

/// Why a comparison could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A topology.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A node does not use what it was told to use: the figure would be another's.
    #[error("node {node} was to use io = \"{wanted}\" and uses {got}")]
    Io {
        /// Its number.
        node: u8,
        /// What it was told.
        wanted: crate::lab::Io,
        /// What it says.
        got: String,
    },
    /// A measurement.
    #[error("{what}: {source}")]
    Traffic {
        /// Which one.
        what: String,
        /// What went wrong.
        source: TrafficError,
    },
    /// The file for the table has no place for it.
    #[error(
        "{} has no line `{mark}`: put the two marks `{}` and `{}` where the table is to be",
        file.display(), publish::BEGIN, publish::END
    )]
    NoMark {
        /// The file.
        file: PathBuf,
        /// What is missing.
        mark: &'static str,
    },
    /// A result file.
    #[error("write {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) pairs: usize,
    pub(crate) time: Duration,
}

/// Measures and prints; `true` if every target is reached or none was asked for.
pub fn run(args: &Args) -> Result<bool, CompareError> {
    let (pairs, seconds) = if args.quick { (1, 2) } else { (5, 4) };
    let effort = Effort {
        pairs: args.pairs.unwrap_or(pairs).max(1),
        time: Duration::from_secs(args.seconds.unwrap_or(seconds).max(1)),
    };
    let machine = Machine::here();
    let mut progress = Progress::default();
    progress.plan(
        args.tests
            .iter()
            .map(|test| test.planned(args, effort))
            .collect(),
    );
    let mut figures = Vec::new();
    for &test in &args.tests {
        measure::measure(test, args, effort, &mut figures, &mut progress)?;
        progress.part_is_over();
    }
    progress.clear();
    print!("{}", report::table(&figures).render(colour()));
    println!("  {}", report::footnote(effort, &machine));
    let json = report::json(&figures, effort, &machine);
    if let Some(file) = &args.json {
        publish::write(file, &json)?;
    }
    if let Some(folder) = &args.publish {
        publish::publish(folder, &json, &figures)?;
    }
    if let Some(file) = &args.readme {
        publish::into_readme(file, &figures, &report::footnote(effort, &machine))?;
    }
    Ok(!args.strict || figures.iter().all(|figure| figure.reached() != Some(false)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Parser, ValueEnum};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn planned(line: &str) -> Duration {
        let args = Cli::parse_from(line.split(' ')).args;
        let effort = Effort {
            pairs: args.pairs.unwrap(),
            time: Duration::from_secs(args.seconds.unwrap()),
        };
        let times = args.tests.iter().map(|test| test.planned(&args, effort));
        times.sum()
    }

    #[test]
    fn the_plan_grows_with_what_is_asked_for() {
        let one = planned("x --tests udp --pairs 1 --seconds 2 --modes cloud");
        assert_eq!(one, Duration::from_millis(2_000 + 2 * 2 * 2_400));
        assert!(planned("x --tests udp --pairs 5 --seconds 2 --modes cloud") > 4 * one);
        assert!(planned("x --tests udp --pairs 1 --seconds 2 --modes cloud,bare") > one);
    }

    #[test]
    fn make_perf_is_planned_to_take_less_than_fifteen_minutes() {
        let makefile = concat!(env!("CARGO_MANIFEST_DIR"), "/../Makefile");
        let makefile = std::fs::read_to_string(makefile).unwrap();
        let line = makefile
            .lines()
            .find_map(|line| {
                line.trim()
                    .strip_prefix("@scripts/perf.sh compare --publish")
            })
            .expect("the line of `make perf`");
        let time = planned(&format!("x --publish{line}"));
        assert!(time < Duration::from_secs(15 * 60), "{time:?}");
    }

    #[test]
    fn a_test_is_called_what_the_command_line_calls_it() {
        for test in Test::value_variants() {
            let name = test.to_possible_value().unwrap();
            assert_eq!(test.to_string(), name.get_name());
        }
    }
}
