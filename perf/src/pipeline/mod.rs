//! `ringway-perf pipeline`: the pipeline alone, from memory to memory.
//!
//! ```text
//!   frames ─▶ Replay port ─copy─▶ fresh buffer of the pool ─▶ pipeline ─▶ (outer header) ─▶ Null port
//! ```
//!
//! No system call in the loop; all the rest is what a worker does: the same pool, pipeline, tables
//! and counters, and the same entries of the pipeline. It is what OVS-DPDK does between `eth_pcap` with `infinite_rx` and `net_null`, so
//! the two can be compared on one capture.
//!
//! Below it: `series`, the published figures with their targets; `scaling`, two cores; `compare`, two results.

mod bare;
mod capture;
mod compare;
mod lane;
pub(crate) mod plan;
mod report;
mod run;
mod scaling;
mod series;

use std::path::PathBuf;

use anyhow::Context;

use crate::lab::Family;
pub use capture::{Size, Traffic};
pub use lane::{Fill, Lane, Work};

/// What is measured.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Pod to pod on one node, by MAC.
    Forward,
    /// Pod to a peer: by IP route, TTL decremented, VXLAN and outer headers written.
    Encap,
    /// From a peer to a pod: outer headers and VXLAN checked and taken off, routed, delivered; each frame
    /// with a verdict of its own.
    Decap,
    /// The same, and runs of a flow become superframes first. Counted in packets on the wire.
    #[serde(rename = "decap-coalesced")]
    DecapCoalesced,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 4] = [
        Scenario::Forward,
        Scenario::Encap,
        Scenario::Decap,
        Scenario::DecapCoalesced,
    ];

    /// Whether frames come from a peer, in outer headers.
    pub const fn is_decap(self) -> bool {
        matches!(self, Scenario::Decap | Scenario::DecapCoalesced)
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scenario::Forward => "forward",
            Scenario::Encap => "encap",
            Scenario::Decap => "decap",
            Scenario::DecapCoalesced => "decap-coalesced",
        })
    }
}

/// Options of `ringway-perf pipeline`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    more: Option<More>,
    /// What to measure
    #[arg(long, value_enum, required = true)]
    scenario: Option<Scenario>,
    /// Capture to replay endlessly (pcap, Ethernet) instead of making frames; for decap it carries the outer headers
    #[arg(long, value_name = "FILE", conflicts_with_all = ["flows", "size", "family"])]
    pcap: Option<PathBuf>,
    /// Flows of the frames that are made
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: u32,
    /// Bytes of each made frame on the wire, frame check sequence included (64 is 60 in memory), or `imix`
    #[arg(long, default_value = "64", value_name = "BYTES|imix")]
    size: Size,
    /// IP family of the made frames: 4 or 6
    #[arg(long, default_value = "4", value_name = "4|6", value_parser = capture::family)]
    family: Family,
    /// Family of the outer headers (default: that of the pods)
    #[arg(long, value_name = "4|6", value_parser = capture::family)]
    underlay: Option<Family>,
    /// Seconds to measure, after a tenth of that to warm up
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// CPU to pin the worker to; further workers take the CPUs after it
    #[arg(long)]
    core: Option<usize>,
    /// Workers, each with frames, pool and counters of its own, all with the same tables; several are pinned,
    /// from CPU 0 on unless --core says another
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Frames per batch, 1 to 64
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=64))]
    batch: u16,
    /// Fill the routing tables up to this many routes
    #[arg(long, default_value_t = 0)]
    routes: usize,
    /// Fill up to this many peers
    #[arg(long, default_value_t = 0)]
    peers: usize,
    /// Fill up to this many local pods
    #[arg(long, default_value_t = 0)]
    pods: usize,
    /// Result as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Compare with the result of another run, as --json printed it
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    against: Option<PathBuf>,
}

/// More than one run.
#[derive(Clone, Debug, clap::Subcommand)]
enum More {
    /// The published series: every scenario, family, number of flows and table size, with what is to be reached
    Series(series::Args),
    /// Two workers on two cores, beside two copies of a bare loop
    Scaling(scaling::Args),
    /// Two results side by side, as --json printed them
    Compare {
        /// The earlier one
        before: PathBuf,
        /// The later one
        after: PathBuf,
    },
}

/// Runs what was asked for and prints the result; `false`: a target was missed.
///
/// # Errors
/// The capture cannot be read, does not suit the scenario, or a core is not there.
pub fn main(args: &Args) -> anyhow::Result<bool> {
    match &args.more {
        Some(More::Series(args)) => return series::main(args),
        Some(More::Scaling(args)) => return scaling::main(args),
        Some(More::Compare { before, after }) => {
            compare::print(&compare::read(before)?, &compare::read(after)?)?;
            return Ok(true);
        }
        None => {}
    }
    let before = args.against.as_deref().map(compare::read).transpose()?;
    let run = one(args)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&run)?),
        false => {
            run.print();
            let shares = run.workers.iter().map(|worker| worker.share_of_core);
            warn_of_company(shares.fold(1.0, f64::min));
        }
    }
    if let Some(before) = before {
        compare::print(&before, &[compare::Figure::from(&run)])?;
    }
    run::no_allocation(run.allocations, run.packets)?;
    Ok(true)
}

/// One run, as the options say.
fn one(args: &Args) -> anyhow::Result<report::Run> {
    let scenario = args
        .scenario
        .context("--scenario: forward, encap or decap")?;
    check_seconds(args.seconds)?;
    let fill = Fill {
        routes: args.routes,
        peers: args.peers,
        pods: args.pods,
    };
    let underlay = args.underlay.unwrap_or(args.family);
    let work = match &args.pcap {
        Some(file) => {
            let tables = plan::Tables {
                scenario,
                routes: args.routes,
                peers: args.peers,
                pods: args.pods,
                underlay,
            };
            let plan = plan::Plan::of(&tables, capture::read(file)?)
                .with_context(|| format!("cannot set up tables from {}", file.display()))?;
            Work::new(plan, scenario)
        }
        None => {
            let traffic = Traffic {
                scenario,
                family: args.family,
                underlay,
                flows: args.flows,
                size: args.size,
            };
            Work::of(&traffic, fill)?
        }
    };
    let made = args.pcap.is_none();
    let number = |family| if family == Family::V4 { 4 } else { 6 };
    let mut run = report::Run {
        scenario,
        pcap: args.pcap.clone(),
        family: made.then(|| number(args.family)),
        underlay: made.then(|| number(underlay)),
        flows: made.then_some(args.flows),
        size: made.then(|| args.size.to_string()),
        frames_in_capture: work.frames(),
        batch: args.batch,
        fill,
        packets: 0,
        drops: 0,
        drops_by_reason: std::collections::BTreeMap::new(),
        seconds: 0.0,
        mpps: 0.0,
        ns_per_packet: 0.0,
        cycles_per_packet: None,
        allocations: 0,
        workers: Vec::new(),
    };
    let workers = usize::from(args.workers);
    let cores: Vec<Option<usize>> = match (args.core, workers) {
        (None, 1) => vec![None],
        (first, n) => (0..n).map(|i| Some(first.unwrap_or(0) + i)).collect(),
    };
    let (turns, allocations) = run::together(
        || work.lane(usize::from(args.batch)),
        &cores,
        args.seconds / 10.0,
        args.seconds,
    )?;
    run.measured(&cores, &turns, allocations);
    Ok(run)
}

fn check_seconds(seconds: f64) -> anyhow::Result<()> {
    anyhow::ensure!(
        seconds > 0.0 && seconds <= 3600.0,
        "--seconds {seconds}: above 0, at most 3600"
    );
    Ok(())
}

/// Says so when other programs were at work on the same cores.
fn warn_of_company(share: f64) {
    if share < 0.95 {
        println!(
            "  other programs took {:.0} % of the cores meanwhile, and of the caches: figures are too low, ratios uncertain; repeat when the machine is quiet",
            (1.0 - share) * 100.0
        );
    }
}

/// Keeps the calling thread on one CPU.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core)
        .with_context(|| format!("CPU {core}: no such number"))?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).with_context(|| {
        format!("CPU {core}: cannot run there; choose others by --core, or fewer --workers")
    })
}
