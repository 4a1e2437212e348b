//! `ringway-perf`: the demo and the measurements. Each subcommand lives in a module of the library.

use clap::{Parser, Subcommand};
use ringway_perf::{compare, demo, hold, lab, load, pipeline, ring, search, soak, traffic, vm};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "ringway-perf",
    version,
    about = "Ringway measured: demo and comparisons with the kernel"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Two nodes and three pods on this machine, real traffic, a table of results
    Demo(demo::Args),
    /// Throughput and latency beside the kernel bridge and kernel VXLAN
    Compare(compare::Args),
    /// Full-rate traffic for minutes: memory must not grow, no buffer may get lost
    Soak(soak::Args),
    /// Two nodes and three pods to experiment with, until Ctrl-C
    Lab(hold::Args),
    /// The pipeline alone on one core, from a capture in memory to nowhere
    Pipeline(pipeline::Args),
    /// Either half of the path between an AF_XDP ring and memory, beside bare ring loops
    Ring(ring::Args),
    /// Send stamped UDP packets: rate, sizes, flows
    Generate(load::GenerateArgs),
    /// Count them at the other end: lost, duplicated, reordered, latency
    Sink(load::SinkArgs),
    /// The highest rate at a small loss, and latency at half of it; beside the kernel in turns
    LossSearch(search::Args),
    /// Remove what runs that were killed have left behind
    Clean,
    /// The other process of a pod (started by the demo)
    #[command(hide = true)]
    AnswerOnce {
        /// 4 or 6
        family: u8,
    },
    /// Boots a virtual machine and shows what is found in it (started by `make zerocopy`)
    #[command(hide = true)]
    Vm(vm::HostArgs),
    /// What is done in there (started by its init)
    #[command(hide = true)]
    VmGuest(vm::GuestArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false`: it ran to its end, and not everything was as it should be.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Demo(args) => Ok(demo::run(&args)?),
        Command::Compare(args) => Ok(compare::run(&args)?),
        Command::Soak(args) => Ok(soak::run(&args)?),
        Command::Lab(args) => Ok(hold::run(&args)?),
        Command::Pipeline(args) => pipeline::main(&args),
        Command::Ring(args) => ring::main(&args),
        Command::Generate(args) => Ok(load::generate(&args)?),
        Command::Sink(args) => Ok(load::sink(&args)?),
        Command::LossSearch(args) => Ok(search::run(&args)?),
        Command::Clean => {
            lab::require_root()?;
            for leftover in lab::remove_leftovers() {
                println!("removed {leftover}");
            }
            Ok(true)
        }
        Command::AnswerOnce { family } => {
            let family = if family == 6 {
                lab::Family::V6
            } else {
                lab::Family::V4
            };
            traffic::answer_once(family)?;
            Ok(true)
        }
        Command::Vm(args) => Ok(vm::host(&args)?),
        Command::VmGuest(args) => Ok(vm::guest(&args)),
    }
}
