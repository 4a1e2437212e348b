//! `ringway-perf loss-search`: the highest rate that loses no more than so much, by bisection.
//!
//! What RFC 2544 section 26.1 calls throughput, with the loss that may be named instead of none, and what
//! section 26.2 calls latency, here at half of that rate. The device under test is a pod network:
//!
//! ```text
//!   --path across   generator ═ eth0 ▶ node 1 ══ underlay ══▶ node 2 ▶ eth0 ═ sink
//!   --path same     generator ═ eth0 ▶ node 1 ▶ eth0 ═ sink
//! ```
//! Generator and sink are threads in the pods' namespaces, on packet sockets at the pods' `eth0`, whoever
//! made it: they send and see what a pod sends and sees. They need processor time of the same machine that
//! the nodes run on; with few cores that is part of the result, on both sides of a comparison. A kernel
//! node forwards on the sender's own time, so its limit may be the sender's.

pub(crate) mod bisect;
mod report;
mod side;

use std::path::PathBuf;

use crate::lab::{Family, LabError, Mode};
use crate::load::{Io, LoadError, Mix};
use crate::table::{Progress, colour};
use bisect::Goal;
use side::{Side, What};

/// What is searched.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Between pods of one node, or of two
    #[arg(long, value_enum, default_value_t = Path::Across)]
    pub path: Path,
    /// Whose pod network
    #[arg(long, value_enum, default_value_t = Kind::Ringway)]
    pub kind: Kind,
    /// And whose beside it, in turns
    #[arg(long, value_enum)]
    pub against: Option<Kind>,
    /// Searches of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub pairs: u16,
    /// Percent of the packets that may be lost
    #[arg(long, default_value_t = 0.1)]
    pub loss: f64,
    /// Seconds of a trial
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Trials of a rate, odd; the majority counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=15))]
    pub repeats: u16,
    /// Percent between the rate that is carried and the one that is not
    #[arg(long, default_value_t = 5.0)]
    pub precision: f64,
    /// Bytes of a frame without its check sequence (60 to 9014), or `imix`: 7:4:1 of 64, 570 and 1400
    #[arg(long, default_value = "64")]
    pub size: Mix,
    /// Flows: different UDP source ports
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64_000))]
    pub flows: u32,
    /// IPv6 packets
    #[arg(long)]
    pub ipv6: bool,
    /// Underlay: full, cloud or bare
    #[arg(long, default_value = "cloud")]
    pub mode: Mode,
    /// How generator and sink reach the pods' interfaces
    #[arg(long, value_enum, default_value_t = Io::Packet)]
    pub io: Io,
    /// Also write all of it to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where packets go.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// From pod to pod of one node
    Same,
    /// From a pod of node 1 to a pod of node 2
    Across,
}

/// Whose pod network it is.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ringway
    Ringway,
    /// Linux bridge and VXLAN
    Kernel,
}

/// Why a search could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// An option out of its range.
    #[error("--{option} {value}: {range}")]
    Option {
        /// Which.
        option: &'static str,
        /// What was given.
        value: f64,
        /// What is possible.
        range: &'static str,
    },
    /// A topology.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A trial.
    #[error("{side}: {source}")]
    Load {
        /// Whose.
        side: String,
        /// What went wrong.
        source: Box<LoadError>,
    },
    /// Nothing arrives at all.
    #[error(
        "{side}: of {packets} packets none arrived; `ringway-perf lab` builds the same nodes to look at"
    )]
    Silent {
        /// Whose.
        side: String,
        /// Packets sent.
        packets: u64,
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

/// Searches and prints; `false` if a side carried nothing within the loss.
///
/// # Errors
/// See [`SearchError`].
pub fn run(args: &Args) -> Result<bool, SearchError> {
    check(args)?;
    let mut progress = Progress::default();
    let what = What {
        path: args.path,
        mode: args.mode,
        family: if args.ipv6 { Family::V6 } else { Family::V4 },
        mix: args.size.clone(),
        flows: args.flows,
        io: args.io,
        seconds: args.seconds,
        goal: Goal {
            loss: args.loss / 100.0,
            repeats: usize::from(args.repeats | 1),
            precision: args.precision / 100.0,
            steps: 20,
        },
    };
    let mut sides = Vec::new();
    for kind in [Some(args.kind), args.against].into_iter().flatten() {
        progress.step(&format!("nodes of {}", side::name(kind, args.path)));
        sides.push(Side::build(kind, &what)?);
    }
    for pair in 0..usize::from(args.pairs) {
        // The order within a pair alternates.
        let order: Vec<usize> = match pair % 2 {
            0 => (0..sides.len()).collect(),
            _ => (0..sides.len()).rev().collect(),
        };
        for i in order {
            let said = format!("{} of {}", pair + 1, args.pairs);
            sides[i].search(&what, &said, &mut progress)?;
        }
    }
    progress.clear();
    print!("{}", report::table(&what, &sides).render(colour()));
    for line in report::footnotes(args, &what, &sides) {
        println!("  {line}");
    }
    if let Some(file) = &args.json {
        std::fs::write(file, report::json(args, &sides)).map_err(|source| SearchError::Write {
            file: file.clone(),
            source,
        })?;
    }
    Ok(sides
        .iter()
        .all(|side| side.searches.iter().all(|search| search.found.rate > 0.0)))
}

fn check(args: &Args) -> Result<(), SearchError> {
    let within = |option, value: f64, low, high, range| match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(SearchError::Option {
            option,
            value,
            range,
        }),
    };
    within("loss", args.loss, 0.0, 50.0, "0 to 50 percent")?;
    within("seconds", args.seconds, 0.05, 600.0, "0.05 to 600 seconds")?;
    within("precision", args.precision, 0.1, 50.0, "0.1 to 50 percent")
}
