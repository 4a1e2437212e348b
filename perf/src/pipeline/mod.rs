//! `ringway-perf pipeline`: the pipeline alone, on one core, from memory to memory.
//!
//! ```text
//!   pcap ─▶ Replay port ─copy─▶ fresh buffer of the pool ─▶ pipeline ─▶ (outer header) ─▶ Null port
//! ```
//!
//! No system call in the loop; all the rest is what a worker does: the same pool, pipeline, tables
//! and counters. It is what OVS-DPDK does between `eth_pcap` with `infinite_rx` and `net_null`, so
//! the two can be compared on one capture.

pub(crate) mod plan;
mod report;
mod run;

use std::path::PathBuf;

use anyhow::Context;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Pod to pod on one node, by MAC.
    Forward,
    /// Pod to a peer: by IP route, TTL decremented, VXLAN and outer headers written.
    Encap,
    /// From a peer to a pod: outer headers and VXLAN checked and taken off, routed, delivered.
    Decap,
}

/// Options of `ringway-perf pipeline`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to measure.
    #[arg(long, value_enum)]
    scenario: Scenario,
    /// Capture to replay endlessly (pcap, Ethernet); for decap it carries the outer headers
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,
    /// Seconds to measure, after a tenth of that to warm up
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// CPU to pin the worker to
    #[arg(long)]
    core: Option<usize>,
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
}

/// Runs the measurement and prints the result.
///
/// # Errors
/// The capture cannot be read, does not suit the scenario, or the core is not there.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let frames = plan::read(&args.pcap)?;
    let tables = plan::Tables {
        scenario: args.scenario,
        routes: args.routes,
        peers: args.peers,
        pods: args.pods,
    };
    let plan = plan::Plan::of(&tables, frames)
        .with_context(|| format!("cannot set up tables from {}", args.pcap.display()))?;
    if let Some(core) = args.core {
        pin(core).with_context(|| format!("--core {core}"))?;
    }
    let outcome = run::run(plan, args)?;
    report::print(args, &outcome)
}

/// Keeps the calling thread on one CPU.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core)
        .with_context(|| format!("CPU {core}: no such number"))?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        .with_context(|| format!("CPU {core}: cannot run there"))
}
