//! `ringway-perf compare`: Ringway and the kernel in turns, ratios, and whether they reach their
//! targets.
//!
//! Absolute figures of a shared machine drift by a third within minutes. So each figure is taken in
//! pairs, one right after the other, the order within a pair alternating, and what counts is the
//! median of the pairs' ratios with their spread. All topologies of a test stand at the same time;
//! what is not measured is idle.

mod measure;
mod report;
mod side;
mod xdp;

use crate::lab::{LabError, Mode};
use crate::table::{Progress, colour};
use crate::traffic::TrafficError;
use std::path::PathBuf;
use std::time::Duration;

pub use report::{Better, Figure};

/// What is compared and how long.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// One short pair of each
    #[arg(long)]
    pub quick: bool,
    /// Also write every figure to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
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
    /// Pods on a node in the tests `pods` and `idle`
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
    /// 64-byte UDP datagrams received each second, across nodes
    Udp,
    /// TCP round trips across nodes
    Rtt,
    /// TCP with many pods attached, against two
    Pods,
    /// CPU time of an agent whose pods are silent
    Idle,
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
    /// The result file.
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
    let mut progress = Progress::default();
    let mut figures = Vec::new();
    for &test in &args.tests {
        measure::measure(test, args, effort, &mut figures, &mut progress)?;
    }
    progress.clear();
    print!("{}", report::table(&figures).render(colour()));
    println!("  {}", report::footnote(effort));
    if let Some(file) = &args.json {
        std::fs::write(file, report::json(&figures, effort)).map_err(|source| {
            CompareError::Write {
                file: file.clone(),
                source,
            }
        })?;
    }
    Ok(!args.strict || figures.iter().all(|figure| figure.reached() != Some(false)))
}
